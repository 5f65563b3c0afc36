/* kafka_log.c - reads the checkpoint topic: the last record of a pair, quickly.
 *
 * A window of offsets is read forwards; where what is wanted did not stand in it, the next window
 * ends where this one began and is eight times as long. The first window has no known end: its last
 * record is the owner record that this instance wrote itself (`until`), or what this reader may see
 * last: uncommitted the high watermark, committed the last stable offset. Offsets of control
 * records and compacted ones are never delivered, so a window is also over when something behind it
 * comes, or the end of the partition. */
#include "connectors/kafka/kafka_log.h"

#include "bridge/base/clock.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

enum {
    FIRST_WINDOW = 1000,
    GROWTH = 8,
    POLL_MS = 200,
    /* Another source's open transaction ends within transaction.timeout.ms, and a bit. */
    READ_TIMEOUT_MS = 20000,
    HIGH_TIMEOUT_MS = 8000,
    ASK_MS = 1000,
};

struct reading {
    struct kafka_client *reader;
    rd_kafka_topic_t *topic;
    const struct kafka_log_query *query;
};

struct window {
    int64_t from;
    int64_t end;  /* -1: the tail; else exclusive */
    int64_t high; /* the tail's, where nothing else ends it */
    bool over;
};

static bool is_committed(const struct kafka_log_query *query)
{
    return query->until.len > 0 || query->committed;
}

const char *kafka_log_isolation(const struct kafka_log_query *query)
{
    return is_committed(query) ? "read_committed" : "read_uncommitted";
}

static bool matches(const rd_kafka_message_t *m, struct str key)
{
    return m->key != NULL && str_eq((struct str){m->key, m->key_len}, key);
}

/* False where there is none of this name and length. */
static bool read_header(const rd_kafka_message_t *m, const char *name,
                        char out[KAFKA_INSTANCE_LEN + 1])
{
    rd_kafka_headers_t *headers;
    const void *value;
    size_t size;
    if (rd_kafka_message_headers(m, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_header_get_last(headers, name, &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        value == NULL || size != KAFKA_INSTANCE_LEN)
        return false;
    memcpy(out, value, size);
    out[size] = '\0';
    return true;
}

static void note_instance(const rd_kafka_message_t *m, struct kafka_log_answer *answer)
{
    if (!read_header(m, KAFKA_INSTANCE_HEADER, answer->instance))
        return;
    answer->found_instance = true;
    if (!read_header(m, KAFKA_OWNER_HEADER, answer->owner))
        answer->owner[0] = '\0';
}

static void take_record(const rd_kafka_message_t *m, const struct kafka_log_query *query,
                        struct window *w, struct kafka_log_answer *answer)
{
    struct str value = {m->payload, m->len};
    if (w->end >= 0 && m->offset >= w->end) {
        w->over = true;
        return;
    }
    bool is_owner = matches(m, query->owner);
    if (is_owner || matches(m, query->key))
        note_instance(m, answer);
    if (is_owner && query->until.len > 0 && str_eq(value, query->until))
        w->over = true;
    if (!is_owner && value.len > 0 && matches(m, query->key)) {
        buf_clear(&answer->checkpoint);
        buf_append_str(&answer->checkpoint, value);
        answer->found_checkpoint = true;
    }
    if (w->end < 0 && query->until.len == 0 && m->offset + 1 >= w->high)
        w->over = true;
}

/* The end of the partition as this reader sees it: a committed one may be held up by an open
 * transaction, and waits for its own owner record. */
static void take_end(int64_t offset, const struct kafka_log_query *query, struct window *w)
{
    if (w->end >= 0)
        w->over = offset >= w->end;
    else if (query->until.len == 0)
        w->over = offset >= w->high;
}

static enum sink_result take(const struct reading *r, const rd_kafka_message_t *m, struct window *w,
                             struct kafka_log_answer *answer, struct err *err)
{
    if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR)
        take_record(m, r->query, w, answer);
    else if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
        take_end(m->offset, r->query, w);
    else
        return kafka_client_explain(r->reader, m->err, "read checkpoints",
                                    rd_kafka_message_errstr(m), err);
    return SINK_DONE;
}

static enum sink_result read_window(const struct reading *r, struct window *w,
                                    struct kafka_log_answer *answer, struct err *err)
{
    int64_t deadline = clock_mono_ms() + READ_TIMEOUT_MS;
    enum sink_result result = SINK_DONE;
    while (!w->over && result == SINK_DONE) {
        rd_kafka_message_t *m = rd_kafka_consume(r->topic, 0, POLL_MS);
        kafka_client_poll(r->reader, 0);
        if (m != NULL) {
            result = take(r, m, w, answer, err);
            rd_kafka_message_destroy(m);
        }
        bool late = stop_requested(r->reader->stop) || clock_mono_ms() > deadline;
        if (late && !w->over && result == SINK_DONE)
            result = kafka_client_explain(r->reader, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
                                          "read checkpoints", "took too long", err);
    }
    return result;
}

/* What a window told is older than what `answer` has. */
static void add_older(struct kafka_log_answer *answer, struct kafka_log_answer *older)
{
    if (!answer->found_instance) {
        memcpy(answer->instance, older->instance, sizeof answer->instance);
        memcpy(answer->owner, older->owner, sizeof answer->owner);
    }
    answer->found_instance |= older->found_instance;
    if (answer->found_checkpoint) {
        buf_fini(&older->checkpoint);
        return;
    }
    answer->found_checkpoint = older->found_checkpoint;
    buf_fini(&answer->checkpoint);
    answer->checkpoint = older->checkpoint;
}

static bool is_satisfied(const struct kafka_log_query *query, const struct kafka_log_answer *answer)
{
    return is_committed(query) ? answer->found_checkpoint : answer->found_instance;
}

static int64_t window_start(int64_t end, int64_t length)
{
    return end > length ? end - length : 0;
}

static enum sink_result read_backwards(const struct reading *r, struct window w,
                                       struct kafka_log_answer *answer, struct err *err)
{
    for (int64_t length = FIRST_WINDOW;; length *= GROWTH) {
        if (rd_kafka_consume_start(r->topic, 0, w.from) != 0)
            return kafka_client_explain(r->reader, rd_kafka_last_error(), "read checkpoints", NULL,
                                        err);
        struct kafka_log_answer in_window = {0};
        enum sink_result result = read_window(r, &w, &in_window, err);
        rd_kafka_consume_stop(r->topic, 0);
        add_older(answer, &in_window);
        if (result != SINK_DONE || is_satisfied(r->query, answer) || w.from == 0)
            return result;
        w = (struct window){.from = window_start(w.from, length * GROWTH), .end = w.from};
    }
}

static bool is_missing(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
           code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
}

/* Not by rd_kafka_query_watermark_offsets, whose timeout ends nothing: while the leader that is
 * known is away it waits for that one, wherever the partition has gone meanwhile. */
static rd_kafka_resp_err_t ask_end(rd_kafka_t *rk, const char *topic, int64_t *end)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = RD_KAFKA_OFFSET_END;
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(rk, list, ASK_MS);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = list->elems[0].err;
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        *end = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return code;
}

/* A topic that is not there is an empty one. */
enum sink_result kafka_log_high(struct kafka_client *client, const char *topic, int64_t *high,
                                struct err *err)
{
    int64_t end = clock_mono_ms() + HIGH_TIMEOUT_MS;
    rd_kafka_resp_err_t code;
    do {
        code = ask_end(client->rk, topic, high);
        kafka_client_poll(client, 0);
    } while (code != RD_KAFKA_RESP_ERR_NO_ERROR && !is_missing(code) && clock_mono_ms() < end &&
             !stop_wait(client->stop, 20));
    if (is_missing(code))
        *high = 0;
    else if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return kafka_client_explain(client, code, "read checkpoints", NULL, err);
    return SINK_DONE;
}

enum sink_result kafka_log_read(struct kafka_client *reader, const struct kafka_log_query *query,
                                struct kafka_log_answer *answer, struct err *err)
{
    *answer = (struct kafka_log_answer){0};
    struct window tail = {.end = -1, .high = query->floor};
    if (query->until.len == 0) {
        enum sink_result r = kafka_log_high(reader, query->topic, &tail.high, err);
        if (r != SINK_DONE || tail.high == 0)
            return r;
    }
    tail.from = window_start(tail.high, FIRST_WINDOW);
    struct reading reading = {reader, rd_kafka_topic_new(reader->rk, query->topic, NULL), query};
    enum sink_result r = read_backwards(&reading, tail, answer, err);
    rd_kafka_topic_destroy(reading.topic);
    return r;
}
