/* kafka_topics.h - the topics a producer writes to: found by name, made where they are missing.
 *
 * librdkafka never forgets a topic that it was once told of, so neither does this: past
 * KAFKA_TOPICS_MAX the whole producer has to be made anew. One thread. */
#ifndef BUSBAR_KAFKA_TOPICS_H
#define BUSBAR_KAFKA_TOPICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/base/map.h"
#include "connectors/kafka/kafka_client.h"

#include <librdkafka/rdkafka.h>

enum { KAFKA_TOPICS_MAX = 10000 };

/* How a topic is made. */
struct kafka_topic_spec {
    int partitions;
    int replication; /* -1: the broker's default */
    struct setting_map config;
    bool embedded; /* in this process: see kafka_embedded.h */
};

struct kafka_topics {
    struct map places; /* hash of the name → place + 1 */
    struct kafka_topic *items;
    size_t n;
    size_t cap;
    size_t n_doubtful; /* not known to exist */
    size_t n_tight;    /* with a limit on what is under way */
};

/* Gives back all handles; before the client is closed. */
void kafka_topics_fini(struct kafka_topics *topics);
/* The same, but what kafka_topics_tighten has found out is kept for the next client: after some
 * refusals librdkafka can't go on with its sequence numbers, and the producer has to be made anew.
 */
void kafka_topics_restart(struct kafka_topics *topics);

/* The place of the topic of this name (a valid one), or -1 where there are too many. */
int kafka_topics_find(struct kafka_topics *topics, struct str name);
/* After a kafka_topics_make that was DONE. */
rd_kafka_topic_t *kafka_topics_handle(const struct kafka_topics *topics, int place);
/* It may be gone: the next kafka_topics_make looks. */
void kafka_topics_doubt(struct kafka_topics *topics, int place);

/* A message set to this topic was refused. A broker refuses it as a whole, so less of this topic is
 * to be under way at once: a quarter each time, at last one message. For as long as `topics`
 * lives. False where it can't be less. */
bool kafka_topics_tighten(struct kafka_topics *topics, int place);
/* True where all that is under way has to be answered for before `bytes` more of this topic may be
 * produced. Counts them. */
bool kafka_topics_is_full(struct kafka_topics *topics, int place, size_t bytes);
/* All was answered for. */
void kafka_topics_drained(struct kafka_topics *topics);

/* Makes those that are missing and waits until they have leaders (seconds at most, less when
 * stopping). One that may not be made but exists is fine. DONE, RETRY, FATAL. */
enum sink_result kafka_topics_make(struct kafka_topics *topics, struct kafka_client *client,
                                   const struct kafka_topic_spec *spec, struct err *err);

#endif
