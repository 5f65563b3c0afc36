/* kafka_settings.h - what an operator may say of a Kafka sink, and what librdkafka is told of it.
 */
#ifndef BUSBAR_KAFKA_SETTINGS_H
#define BUSBAR_KAFKA_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/err.h"
#include "config/settings.h"

#include <librdkafka/rdkafka.h>

enum {
    KAFKA_MESSAGE_MAX = 64 * 1024 * 1024, /* the broker's or topic's own limit is to decide */
    KAFKA_TRANSACTION_TIMEOUT_MS = 10000,
};

/* What a record's headers tell; in the order of the words. */
enum kafka_headers_kind { KAFKA_HEADERS_CLOUDEVENTS, KAFKA_HEADERS_ID, KAFKA_HEADERS_NONE };

struct kafka_settings {
    const char *brokers;
    const char *topic;
    const char *key;
    int headers; /* enum kafka_headers_kind */
    struct setting_map properties;
    int64_t partitions;
    int64_t replication;
    struct setting_map topic_config;
    int64_t buckets;
    int64_t commit_interval_ms;
    int64_t commit_events;
    const char *checkpoint_topic;
    const char *control_topic;
};

extern const struct setting kafka_settings_rows[];

void kafka_settings_check(struct settings *file, const struct settings_node *node,
                          const void *settings);

/* True for `brokers: embedded`. */
bool kafka_settings_is_embedded(const struct kafka_settings *settings);

/* What librdkafka is told: our defaults, then the operator's properties, then what is ours alone.
 * The caller owns the conf (rd_kafka_new takes it). Settings that passed the check can't fail
 * here. `bootstrap` NULL: no brokers at all, for checks. */
rd_kafka_conf_t *kafka_settings_producer(const struct kafka_settings *settings,
                                         const char *bootstrap, const char *transactional_id);
/* The same for reading checkpoints; `isolation` as librdkafka spells it. */
rd_kafka_conf_t *kafka_settings_reader(const struct kafka_settings *settings, const char *bootstrap,
                                       const char *isolation);
/* The same for the member of a group that shares out the pairs (kafka_group.h). */
rd_kafka_conf_t *kafka_settings_member(const struct kafka_settings *settings, const char *bootstrap,
                                       const char *group, const char *instance);

#endif
