/* kafka_headers.c - an event's attributes as record headers. */
#include "connectors/kafka/kafka_headers.h"

enum { HEADERS = 10 };

void kafka_headers_fini(struct kafka_headers *headers)
{
    buf_fini(&headers->text);
}

static void add(rd_kafka_headers_t *to, struct str name, struct str value)
{
    rd_kafka_header_add(to, name.p, (ssize_t)name.len, value.p, (ssize_t)value.len);
}

static void add_id(struct kafka_headers *headers, rd_kafka_headers_t *to, struct str source,
                   uint64_t journal_id, const struct event *event)
{
    buf_clear(&headers->text);
    event_append_id(&headers->text, source, journal_id, event);
    add(to, STR("ce_id"), buf_str(&headers->text));
}

static void add_index(rd_kafka_headers_t *to, uint64_t index)
{
    char digits[24];
    char *at = digits + sizeof digits;
    do {
        *--at = (char)('0' + index % 10);
        index /= 10;
    } while (index > 0);
    add(to, STR("ce_index"), (struct str){at, (size_t)(digits + sizeof digits - at)});
}

rd_kafka_headers_t *kafka_headers_of(struct kafka_headers *headers, struct str source,
                                     uint64_t journal_id, const struct event *event)
{
    rd_kafka_headers_t *to = rd_kafka_headers_new(HEADERS);
    add(to, STR("ce_specversion"), STR("1.0"));
    add_id(headers, to, source, journal_id, event);
    add(to, STR("ce_source"), source);
    /* A CloudEvent must have a type. */
    add(to, STR("ce_type"), event->type.len > 0 ? event->type : STR("unknown"));
    if (event->key.len > 0)
        add(to, STR("ce_subject"), event->key);
    int64_t time_us = event->time_us != 0 ? event->time_us : event->arrival_us;
    add(to, STR("ce_time"), clock_format_kept(&headers->time, time_us));
    add(to, STR("content-type"), STR("application/json"));
    add(to, STR("ce_topic"), event->topic);
    if (event->ns.len > 0)
        add(to, STR("ce_namespace"), event->ns);
    add_index(to, event->index);
    return to;
}

rd_kafka_headers_t *kafka_headers_id(struct kafka_headers *headers, struct str source,
                                     uint64_t journal_id, const struct event *event)
{
    rd_kafka_headers_t *to = rd_kafka_headers_new(1);
    add_id(headers, to, source, journal_id, event);
    return to;
}
