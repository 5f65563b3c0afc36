/* kafka_log.h - reads the checkpoint topic: the last record of a pair, quickly.
 *
 * Records of one pair, all in partition 0: checkpoints (key: the transactional id) and owners (key:
 * the transactional id and "#owner"), both with the headers busbar_instance and busbar_owner. It
 * is looked for backwards from the end, 1,000 offsets at first, then ever more. */
#ifndef BUSBAR_KAFKA_LOG_H
#define BUSBAR_KAFKA_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "connectors/kafka/kafka_client.h"

enum { KAFKA_INSTANCE_LEN = 16 };
#define KAFKA_INSTANCE_HEADER "busbar_instance" /* of this process: another one after a restart */
#define KAFKA_OWNER_HEADER "busbar_owner"       /* sink_pair.instance: the same after a restart */

struct kafka_log_query {
    const char *topic;
    struct str key;   /* a checkpoint's */
    struct str owner; /* an owner record's */
    /* Read as committed up to the owner record with this value, which this instance has committed
     * before: then all earlier transactions of this id are decided, and seen or left out. Other
     * sources' open transactions may stand before it and are waited for. Empty: read to the end. */
    struct str until;
    bool committed; /* without `until`: a checkpoint, up to the last stable offset; else whatever
                       was written, committed or not */
    int64_t floor;  /* with `until`: an offset that this owner record does not stand before */
};

struct kafka_log_answer {
    bool found_checkpoint;
    struct buf checkpoint; /* its value; the caller frees it */
    bool found_instance;
    char instance[KAFKA_INSTANCE_LEN + 1]; /* who wrote the last record of either kind */
    char owner[KAFKA_INSTANCE_LEN + 1];    /* "" where it does not say */
};

/* Which isolation.level the client given to kafka_log_read needs. */
const char *kafka_log_isolation(const struct kafka_log_query *query);

/* The end of the topic as `client` (a reader or a producer) may see it; 0 where there is none. */
enum sink_result kafka_log_high(struct kafka_client *client, const char *topic, int64_t *high,
                                struct err *err);

/* `reader` is an open consumer. DONE (also where nothing was found), RETRY or FATAL. A checkpoint
 * is looked for until found or the topic's beginning, where it is read as committed; else a record
 * of either kind is enough. */
enum sink_result kafka_log_read(struct kafka_client *reader, const struct kafka_log_query *query,
                                struct kafka_log_answer *answer, struct err *err);

#endif
