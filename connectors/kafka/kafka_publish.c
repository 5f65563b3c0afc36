/* kafka_publish.c - one batch, one transaction.
 *
 * The payloads are not copied: they are the caller's until publish returns. A commit or an abort
 * that went well leaves nothing in flight; in every other case the producer is given up, threads
 * and all, before publish returns.
 *
 * A broker that refuses a record refuses the whole message set it came in. So less and less of that
 * topic is put under way at once, until the sets are small enough, or one message is refused alone:
 * that is the one. */
#include "connectors/kafka/kafka_pair.h"

#include "bridge/base/log.h"
#include "connectors/kafka/kafka_name.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    COMMIT_MS = KAFKA_TRANSACTION_TIMEOUT_MS + 2000,
    ABORT_MS = KAFKA_TRANSACTION_TIMEOUT_MS,
    ABORT_AWAY_MS = 500, /* where nobody answers: the next open ends what is left */
    FLUSH_SLICE_MS = 50,
    SUCCESSOR_MS = 500, /* from taking over to its owner record */
    LARGE_CHUNK = 72 * 1024,
};

/* ---- failures ---- */

static bool is_refusal(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
           code == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE ||
           code == RD_KAFKA_RESP_ERR_INVALID_RECORD;
}

static bool is_topic_gone(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
           code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
}

/* These only say that another message failed. */
static bool is_consequence(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__PURGE_QUEUE || code == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT ||
           code == RD_KAFKA_RESP_ERR__STATE;
}

void kafka_pair_note_failure(void *arg, size_t place, rd_kafka_resp_err_t error)
{
    struct kafka_pair *pair = arg;
    struct failures *f = &pair->failures;
    if (is_consequence(error))
        return;
    if (f->n++ == 0)
        f->error = error;
    if (is_refusal(error) && place == SIZE_MAX) {
        f->log_refused = true;
    } else if (is_refusal(error)) {
        f->n_refused++;
        f->refused = place;
        f->refusal = error;
    }
    f->log_gone = f->log_gone || (is_topic_gone(error) && place == SIZE_MAX);
    if (is_topic_gone(error) && place < pair->n_routes)
        kafka_topics_doubt(&pair->topics, pair->routes[place]);
}

/* Why the transaction under way can only be aborted, if so. librdkafka tells it to whoever calls
 * something that is out of order, as beginning another one is. */
static bool is_lost(struct kafka_pair *pair, char *why, size_t size)
{
    rd_kafka_error_t *error = rd_kafka_begin_transaction(pair->producer.rk);
    if (error == NULL)
        return false;
    bool lost = rd_kafka_error_txn_requires_abort(error) || rd_kafka_error_is_fatal(error);
    snprintf(why, size, "%s", rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return lost;
}

static enum sink_result unknown(struct kafka_pair *pair, rd_kafka_resp_err_t code,
                                const char *doing, const char *detail, struct err *err)
{
    if (is_topic_gone(code)) {
        err_set(err, ERR_RETRY, "kafka %s: %s: a topic is gone: making it again",
                pair->producer.brokers, doing);
        return SINK_UNKNOWN;
    }
    enum sink_result r = kafka_client_explain(&pair->producer, code, doing, detail, err);
    return r == SINK_FATAL ? r : SINK_UNKNOWN;
}

/* The producer is done for: has another instance taken over? A successor says so a moment after it
 * has fenced this one. */
static enum sink_result after_fatal(struct kafka_pair *pair, struct err *err)
{
    char text[256];
    rd_kafka_resp_err_t code = rd_kafka_fatal_error(pair->producer.rk, text, sizeof text);
    enum sink_result r = kafka_pair_check_owner(pair, err);
    if (r == SINK_DONE && !stop_wait(pair->who.stop, SUCCESSOR_MS))
        r = kafka_pair_check_owner(pair, err);
    if (r == SINK_FENCED)
        return r;
    if (r == SINK_DONE)
        log_warn("kafka_epoch_lost", LOG_STR("transactional_id", pair->id), LOG_STR("reason", text),
                 LOG_STR("note", "no other instance took over: a pause longer than the "
                                 "transaction's timeout, most likely"));
    return unknown(pair, code, "publish", text, err);
}

/* What a failed attempt means, after its transaction was aborted: nothing happened. */
static enum sink_result classify(struct kafka_pair *pair, struct batch *batch, const char *why,
                                 struct err *err)
{
    const struct failures *f = &pair->failures;
    if (f->n_refused > 0) {
        const struct event *e = batch->events[f->refused];
        char what[256];
        event_describe(e, what, sizeof what);
        err_set(err, ERR_INPUT, "kafka %s: %s (%zu bytes): %s", pair->producer.brokers, what,
                e->data.len, rd_kafka_err2str(f->refusal));
        batch->refused = f->refused;
        return SINK_REFUSED;
    }
    if (f->log_refused)
        return kafka_client_explain(&pair->producer, RD_KAFKA_RESP_ERR_INVALID_CONFIG,
                                    "publish the checkpoint", "larger than the topic takes", err);
    if (is_topic_gone(f->error)) {
        err_set(err, ERR_RETRY, "kafka %s: %s is gone: making it again", pair->producer.brokers,
                f->log_gone ? pair->settings->checkpoint_topic : "a topic");
        return f->log_gone ? SINK_UNKNOWN : SINK_RETRY; /* the former is made by open */
    }
    if (f->n > 0)
        return kafka_client_explain(&pair->producer, f->error, "publish", NULL, err);
    err_set(err, ERR_RETRY, "kafka %s: publish: %s", pair->producer.brokers, why);
    return SINK_RETRY;
}

/* Ends a transaction that can't be committed. */
static enum sink_result give_up(struct kafka_pair *pair, struct batch *batch, struct err *err)
{
    char why[256] = "";
    if (rd_kafka_fatal_error(pair->producer.rk, why, sizeof why) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return after_fatal(pair, err);
    is_lost(pair, why, sizeof why);
    bool away = pair->failures.error == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT;
    rd_kafka_error_t *error =
        kafka_pair_step(pair, rd_kafka_abort_transaction, away ? ABORT_AWAY_MS : ABORT_MS);
    if (error != NULL) {
        bool fatal = rd_kafka_error_is_fatal(error) != 0;
        enum sink_result r = fatal ? after_fatal(pair, err)
                                   : unknown(pair, rd_kafka_error_code(error), "abort",
                                             rd_kafka_error_string(error), err);
        rd_kafka_error_destroy(error);
        return r;
    }
    if (rd_kafka_outq_len(pair->producer.rk) > 0)
        return unknown(pair, RD_KAFKA_RESP_ERR__TIMED_OUT, "abort", NULL, err);
    return classify(pair, batch, why, err);
}

/* ---- where to ---- */

static int route_one(struct kafka_pair *pair, const struct batch *batch, size_t i)
{
    buf_clear(&pair->text);
    template_render(pair->topic_template, batch->source, batch->events[i], &pair->text);
    kafka_name_mend(&pair->text);
    return kafka_topics_find(&pair->topics, buf_str(&pair->text));
}

static enum sink_result route_all(struct kafka_pair *pair, const struct batch *batch,
                                  struct err *err)
{
    if (pair->routes_cap < batch->n) {
        pair->routes_cap = batch->n;
        pair->routes = mem_realloc(pair->routes, batch->n * sizeof *pair->routes);
    }
    pair->n_routes = 0;
    for (size_t i = 0; i < batch->n; i++) {
        int topic = route_one(pair, batch, i);
        pair->routes[i] = topic;
        pair->n_routes = i + 1;
        if (topic < 0) {
            err_set(err, ERR_RETRY,
                    "kafka %s: more than %d topics: starting the producer anew; does topic: tell "
                    "what is in a key?",
                    pair->producer.brokers, KAFKA_TOPICS_MAX);
            return SINK_UNKNOWN;
        }
    }
    const struct kafka_topic_spec spec = {
        .partitions = (int)pair->settings->partitions,
        .replication = (int)pair->settings->replication,
        .config = pair->settings->topic_config,
        .embedded = pair->holds_embedded,
    };
    return kafka_topics_make(&pair->topics, &pair->producer, &spec, err);
}

/* ---- the transaction ---- */

enum { VUS = 7 };

/* NULL where it has none. */
static rd_kafka_headers_t *headers_of(struct kafka_pair *pair, const struct batch *batch, size_t i)
{
    const struct event *e = batch->events[i];
    switch ((enum kafka_headers_kind)pair->settings->headers) {
    case KAFKA_HEADERS_CLOUDEVENTS:
        return kafka_headers_of(&pair->headers, batch->source, batch->journal_id, e);
    case KAFKA_HEADERS_ID:
        return kafka_headers_id(&pair->headers, batch->source, batch->journal_id, e);
    case KAFKA_HEADERS_NONE:
        break;
    }
    return NULL;
}

static size_t fill(struct kafka_pair *pair, const struct batch *batch, size_t i,
                   rd_kafka_vu_t vus[VUS])
{
    const struct event *e = batch->events[i];
    size_t n = 0;
    vus[n].vtype = RD_KAFKA_VTYPE_RKT;
    vus[n++].u.rkt = kafka_topics_handle(&pair->topics, pair->routes[i]);
    vus[n].vtype = RD_KAFKA_VTYPE_PARTITION;
    vus[n++].u.i32 = RD_KAFKA_PARTITION_UA;
    vus[n].vtype = RD_KAFKA_VTYPE_VALUE;
    vus[n].u.mem.ptr = (void *)(uintptr_t)e->data.p;
    vus[n++].u.mem.size = e->data.len;
    vus[n].vtype = RD_KAFKA_VTYPE_OPAQUE;
    vus[n++].u.ptr = (void *)(uintptr_t)i;
    buf_clear(&pair->text);
    template_render(pair->key_template, batch->source, e, &pair->text);
    if (pair->text.len > 0) {
        vus[n].vtype = RD_KAFKA_VTYPE_KEY;
        vus[n].u.mem.ptr = pair->text.p;
        vus[n++].u.mem.size = pair->text.len;
    }
    return n;
}

/* The producer's queue has no limit that a batch can reach, so that a failure here is one. */
static rd_kafka_resp_err_t produce(struct kafka_pair *pair, const struct batch *batch, size_t i)
{
    rd_kafka_vu_t vus[VUS];
    size_t n = fill(pair, batch, i, vus);
    rd_kafka_headers_t *headers = headers_of(pair, batch, i);
    if (headers != NULL) {
        vus[n].vtype = RD_KAFKA_VTYPE_HEADERS;
        vus[n++].u.headers = headers;
    }
    rd_kafka_error_t *error = rd_kafka_produceva(pair->producer.rk, vus, n);
    if (error == NULL)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    if (headers != NULL)
        rd_kafka_headers_destroy(headers);
    return code;
}

/* Waits until all that was produced so far is answered for. */
static bool flush(struct kafka_pair *pair)
{
    char why[256];
    while (rd_kafka_flush(pair->producer.rk, FLUSH_SLICE_MS) == RD_KAFKA_RESP_ERR__TIMED_OUT)
        if (stop_requested(pair->who.stop) || is_lost(pair, why, sizeof why))
            return false;
    return pair->failures.n == 0;
}

static bool produce_one(struct kafka_pair *pair, const struct batch *batch, size_t i)
{
    size_t bytes = batch->events[i]->data.len;
    if (kafka_topics_is_full(&pair->topics, pair->routes[i], bytes)) {
        if (!flush(pair))
            return false;
        kafka_topics_drained(&pair->topics);
        kafka_topics_is_full(&pair->topics, pair->routes[i], bytes);
    }
    rd_kafka_resp_err_t code = produce(pair, batch, i);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        kafka_pair_note_failure(pair, i, code);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* The checkpoint goes first: its partition is then made part of the transaction by the same request
 * as the others. Behind them it often cost another one, and 2 ms of librdkafka's spinning. */
static bool produce_all(struct kafka_pair *pair, const struct batch *batch,
                        const struct checkpoint *next)
{
    buf_clear(&pair->checkpoint);
    checkpoint_encode(next, &pair->checkpoint);
    rd_kafka_resp_err_t code = kafka_pair_produce_log(pair, pair->id, buf_str(&pair->checkpoint));
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        kafka_pair_note_failure(pair, SIZE_MAX, code);
        return false;
    }
    kafka_topics_drained(&pair->topics);
    for (size_t i = 0; i < batch->n; i++)
        if (!produce_one(pair, batch, i))
            return false;
    return true;
}

/* The request to commit goes out only when every message was delivered. */
static bool is_surely_not_committed(struct kafka_pair *pair)
{
    return pair->failures.n > 0 || rd_kafka_outq_len(pair->producer.rk) > 0;
}

static enum sink_result commit(struct kafka_pair *pair, struct batch *batch, struct err *err)
{
    rd_kafka_error_t *error = kafka_pair_step(pair, rd_kafka_commit_transaction, COMMIT_MS);
    if (error == NULL)
        return SINK_DONE;
    enum sink_result r;
    if (rd_kafka_error_is_fatal(error))
        r = after_fatal(pair, err);
    else if (rd_kafka_error_txn_requires_abort(error) && is_surely_not_committed(pair))
        r = give_up(pair, batch, err);
    else
        r = unknown(pair, rd_kafka_error_code(error), "commit", rd_kafka_error_string(error), err);
    rd_kafka_error_destroy(error);
    return r;
}

static enum sink_result attempt(struct kafka_pair *pair, struct batch *batch,
                                const struct checkpoint *next, struct err *err)
{
    pair->failures = (struct failures){0};
    rd_kafka_error_t *error = rd_kafka_begin_transaction(pair->producer.rk);
    if (error != NULL) {
        enum sink_result r = rd_kafka_error_is_fatal(error)
                                 ? after_fatal(pair, err)
                                 : unknown(pair, rd_kafka_error_code(error), "begin",
                                           rd_kafka_error_string(error), err);
        rd_kafka_error_destroy(error);
        return r;
    }
    return produce_all(pair, batch, next) ? commit(pair, batch, err) : give_up(pair, batch, err);
}

/* True where the refusal says nothing yet of the event it names, because others were refused with
 * it; the next attempt is to have fewer of its topic under way. */
static bool is_to_narrow(struct kafka_pair *pair, const struct batch *batch)
{
    if (pair->failures.n_refused < 2 || stop_requested(pair->who.stop))
        return false;
    int topic = pair->routes[batch->refused];
    bool narrower = kafka_topics_tighten(&pair->topics, topic);
    if (narrower)
        log_info("kafka_message_set_refused", LOG_STR("source", pair->who.source),
                 LOG_STR("topic", rd_kafka_topic_name(kafka_topics_handle(&pair->topics, topic))),
                 LOG_STR("note", "sending fewer at once; batch.size below the topic's "
                                 "max.message.bytes would be faster"));
    return narrower;
}

/* Headers are ten small chunks an event, freed by librdkafka's thread in its own order. glibc keeps
 * such chunks apart, and the next batch's headers would lie all over the heap: a third of this
 * sink's CPU was cache misses. A large request makes it merge them first (malloc_consolidate). */
static void merge_free_memory(void)
{
    void *volatile large = mem_alloc(LARGE_CHUNK);
    free(large);
}

static enum sink_result publish(struct kafka_pair *pair, struct batch *batch,
                                const struct checkpoint *next, struct err *err)
{
    enum sink_result r = route_all(pair, batch, err);
    if (r != SINK_DONE)
        return r;
    merge_free_memory();
    do
        r = attempt(pair, batch, next, err);
    while (r == SINK_REFUSED && !pair->repeats && is_to_narrow(pair, batch));
    return r;
}

/* librdkafka sends a request again when its connection is lost, and the first may be under way
 * still. A transaction's end that comes during the next one would end half of that (KIP-890): only
 * a new epoch, which opening anew brings, has the broker refuse it. */
static enum sink_result renew(struct kafka_pair *pair, struct err *err)
{
    err_set(err, ERR_RETRY,
            "kafka %s: a connection was lost at the end of a transaction: beginning a new epoch",
            pair->producer.brokers);
    return SINK_UNKNOWN;
}

enum sink_result kafka_pair_publish(void *self, struct batch *batch, const struct checkpoint *next,
                                    struct err *err)
{
    struct kafka_pair *pair = self;
    if (pair->producer.rk == NULL) {
        err_set(err, ERR_RETRY, "kafka %s: not open", pair->producer.brokers);
        return SINK_UNKNOWN;
    }
    enum sink_result r = pair->repeats ? renew(pair, err) : publish(pair, batch, next, err);
    pair->moved = pair->moved || r == SINK_DONE;
    if (r == SINK_DONE)
        kafka_pair_remember(pair, buf_str(&pair->checkpoint));
    if (r == SINK_FENCED)
        kafka_pair_forget(pair);
    if (r == SINK_UNKNOWN || r == SINK_FENCED || r == SINK_FATAL)
        kafka_pair_release(pair); /* something may be in flight */
    return r;
}
