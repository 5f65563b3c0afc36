/* kafka_pair.h - one (source, sink) of Kafka: what kafka.c opens and kafka_publish.c writes
 * through. The pair's thread only. */
#ifndef BUSBAR_KAFKA_PAIR_H
#define BUSBAR_KAFKA_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/route.h"
#include "bridge/sink.h"
#include "connectors/kafka/kafka_client.h"
#include "connectors/kafka/kafka_headers.h"
#include "connectors/kafka/kafka_log.h"
#include "connectors/kafka/kafka_settings.h"
#include "connectors/kafka/kafka_topics.h"

/* What became of the messages of one attempt. */
struct failures {
    size_t n;
    size_t n_refused; /* events, by the broker, for what they are */
    size_t refused;   /* the place of the last of these, and why */
    rd_kafka_resp_err_t refusal;
    bool log_refused;          /* the checkpoint was */
    bool log_gone;             /* its topic is missing */
    rd_kafka_resp_err_t error; /* the first failure of any kind */
};

struct kafka_pair {
    struct sink_pair who;
    const struct kafka_settings *settings;
    struct template *topic_template;
    struct template *key_template;
    char *id;        /* the transactional id, and key of the checkpoints */
    char *owner_key; /* key of the owner records */
    char instance[KAFKA_INSTANCE_LEN + 1];
    unsigned opened;
    bool was_owner; /* so whoever came later has fenced this one */
    bool moved;     /* something was published since the owner record */
    bool holds_embedded;

    struct kafka_client producer;
    struct kafka_deliveries deliveries;
    struct kafka_topics topics;     /* of events */
    struct kafka_topics log_topics; /* the checkpoint topic */
    rd_kafka_topic_t *log;
    int64_t log_floor; /* its end before the owner record was written */
    struct buf owner;  /* the owner record's value */

    struct kafka_headers headers;
    struct buf text;
    int *routes; /* of the batch: places in topics; about commit_events of them */
    size_t n_routes, routes_cap;
    struct failures failures;
};

/* The rules for `failed` of kafka_deliveries; arg is the pair. */
void kafka_pair_note_failure(void *arg, size_t place, rd_kafka_resp_err_t error);

/* Adds a record to partition 0 of the checkpoint topic, with this instance as header. Its failure
 * is noted at the place SIZE_MAX. */
rd_kafka_resp_err_t kafka_pair_produce_log(struct kafka_pair *pair, const char *key,
                                           struct str value);

/* Calls init, commit or abort of a transaction until it is through, or fails for good, or
 * patience_ms are over (a second and a half when stopping). NULL when it is through. */
typedef rd_kafka_error_t *kafka_step_fn(rd_kafka_t *rk, int timeout_ms);
rd_kafka_error_t *kafka_pair_step(struct kafka_pair *pair, kafka_step_fn *step, int patience_ms);

/* Reads who wrote last, committed or not: DONE where it is this instance or nobody; FENCED, RETRY
 * or FATAL else. */
enum sink_result kafka_pair_check_owner(struct kafka_pair *pair, struct err *err);

/* Gives up the producer and its topics; nothing given to it is looked at any more. */
void kafka_pair_release(struct kafka_pair *pair);

/* sink_ops.publish */
enum sink_result kafka_pair_publish(void *self, struct batch *batch, const struct checkpoint *next,
                                    struct err *err);

#endif
