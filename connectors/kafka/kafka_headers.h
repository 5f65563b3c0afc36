/* kafka_headers.h - an event's attributes as record headers: CloudEvents 1.0.2, Kafka protocol
 * binding, section 3.2 (binary content mode): `ce_` and the attribute's name, values in UTF-8. */
#ifndef BUSBAR_KAFKA_HEADERS_H
#define BUSBAR_KAFKA_HEADERS_H

#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/event.h"

#include <librdkafka/rdkafka.h>

/* Keeps what one event's headers share with the next one's. Zeroed to start with; one thread. */
struct kafka_headers {
    struct buf text; /* the value under construction; at most about three keys long */
    struct clock_kept time;
};

void kafka_headers_fini(struct kafka_headers *headers);

/* The caller, or the produce call that succeeds, owns what these two answer.
 *
 * ce_specversion, ce_id, ce_source, ce_type, ce_subject (the key; left out where it is empty, as
 * the specification wants), ce_time, content-type, ce_topic, ce_namespace (left out where empty),
 * ce_index. */
rd_kafka_headers_t *kafka_headers_of(struct kafka_headers *headers, struct str source,
                                     uint64_t journal_id, const struct event *event);
/* ce_id alone. */
rd_kafka_headers_t *kafka_headers_id(struct kafka_headers *headers, struct str source,
                                     uint64_t journal_id, const struct event *event);

#endif
