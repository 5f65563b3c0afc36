/* kafka_pair.h - one (source, sink) of Kafka: what kafka.c opens, kafka_standby.c shares out and
 * kafka_publish.c writes through. The pair's thread only. */
#ifndef BUSBAR_KAFKA_PAIR_H
#define BUSBAR_KAFKA_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/route.h"
#include "bridge/sink.h"
#include "connectors/kafka/kafka_client.h"
#include "connectors/kafka/kafka_group.h"
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
    bool repeats;   /* a transaction's end may reach the broker once more (kafka_pair_step) */
    bool holds_embedded;

    struct kafka_member *member; /* of the group, with standby */
    unsigned turn;               /* the seat's when it was last ours */
    int64_t hold_ms;             /* until then it is not taken back from who fenced this one */
    unsigned rebalances;         /* of the group, when the owner was last read, */
    int64_t look_ms;             /* and when to read it next */
    char owner_id[KAFKA_INSTANCE_LEN + 1]; /* who owned it then: "", or sink_pair.instance */

    struct kafka_client producer;
    struct kafka_deliveries deliveries;
    struct kafka_topics topics;     /* of events */
    struct kafka_topics log_topics; /* the checkpoint topic */
    rd_kafka_topic_t *log;
    int64_t log_floor; /* its end before the owner record was written */
    struct buf owner;  /* the owner record's value */
    struct buf known; /* the last checkpoint known to be committed; empty: none, or not the owner */
    char *cluster;    /* the id of the cluster that has it */

    struct kafka_headers headers;
    struct buf text;
    struct buf checkpoint; /* as the batch under way will leave it */
    int *routes;           /* of the batch: places in topics; about commit_events of them */
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
 * patience_ms are over (a second and a half when stopping). NULL when it is through; sets
 * pair->repeats where a connection was lost while a transaction was ended. */
typedef rd_kafka_error_t *kafka_step_fn(rd_kafka_t *rk, int timeout_ms);
rd_kafka_error_t *kafka_pair_step(struct kafka_pair *pair, kafka_step_fn *step, int patience_ms);

/* Reads who wrote last, committed or not: DONE where it is this instance or nobody; FENCED, RETRY
 * or FATAL else. */
enum sink_result kafka_pair_check_owner(struct kafka_pair *pair, struct err *err);

/* Reads who owned it last into owner_id. DONE, RETRY or FATAL. */
enum sink_result kafka_pair_read_owner(struct kafka_pair *pair, struct err *err);

/* With standby: asks the group. DONE where this instance is to own the pair (or without standby);
 * STANDBY, RETRY, FATAL. */
enum sink_result kafka_standby_ask(struct kafka_pair *pair, struct err *err);
/* Another instance was found to have fenced this one. */
void kafka_standby_fenced(struct kafka_pair *pair);
/* sink_ops.keep, sink_ops.owner */
enum sink_result kafka_standby_keep(void *self, struct err *err);
const char *kafka_standby_owner(void *self);

/* Notes a checkpoint that is committed in the cluster this pair is open on. */
void kafka_pair_remember(struct kafka_pair *pair, struct str checkpoint);
/* Another instance owns the pair, and moves its checkpoint. */
void kafka_pair_forget(struct kafka_pair *pair);
/* For an owner that found no checkpoint: where this instance knows of one in this cluster, its
 * topic was deleted or emptied meanwhile. Says so, writes it there again, and leaves it in
 * `checkpoint` (untouched where there is none to restore). DONE, RETRY or FATAL. */
enum sink_result kafka_pair_restore(struct kafka_pair *pair, struct buf *checkpoint,
                                    struct err *err);

/* Gives up the producer and its topics; nothing given to it is looked at any more. */
void kafka_pair_release(struct kafka_pair *pair);

/* sink_ops.publish */
enum sink_result kafka_pair_publish(void *self, struct batch *batch, const struct checkpoint *next,
                                    struct err *err);

#endif
