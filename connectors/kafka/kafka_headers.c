/* kafka_headers.c - an event's attributes as record headers. */
#include "connectors/kafka/kafka_headers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { HEADERS = 10, US_PER_S = 1000000 };

void kafka_headers_fini(struct kafka_headers *headers)
{
    buf_fini(&headers->text);
}

struct str kafka_headers_time(struct kafka_headers *headers, int64_t wall_us)
{
    int64_t second = wall_us / US_PER_S, us = wall_us % US_PER_S;
    if (us < 0) {
        us += US_PER_S;
        second--;
    }
    if (headers->time_len == 0 || headers->second != second) {
        clock_format(second * US_PER_S, headers->time);
        headers->time_len = strcspn(headers->time, ".");
        headers->second = second;
    }
    bool whole_ms = us % 1000 == 0;
    int digits = whole_ms ? 3 : 6;
    int64_t fraction = whole_ms ? us / 1000 : us;
    char *at = headers->time + headers->time_len;
    *at = '.';
    for (int i = digits; i > 0; i--, fraction /= 10)
        at[i] = (char)('0' + fraction % 10);
    at[digits + 1] = 'Z';
    return (struct str){headers->time, headers->time_len + (size_t)digits + 2};
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
    add(to, STR("ce_time"), kafka_headers_time(headers, time_us));
    add(to, STR("content-type"), STR("application/json"));
    add(to, STR("ce_topic"), event->topic);
    if (event->ns.len > 0)
        add(to, STR("ce_namespace"), event->ns);
    add_index(to, event->index);
    return to;
}
