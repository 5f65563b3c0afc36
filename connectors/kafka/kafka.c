/* kafka.c - the Kafka sink: who owns a pair, and where it stands.
 *
 * open makes the producer, sees that the checkpoint topic is there, fences older instances
 * (init_transactions, which also ends what a dead one left open) and says so by an owner record
 * there. Whoever is fenced reads who wrote last: another instance, then it is over; itself, then it
 * was the broker that raised the epoch, after a pause longer than transaction.timeout.ms, and the
 * loop opens again. An instance that was owner before looks first, so that coming back from an
 * outage does not throw out its successor. With standby the group is asked before all that
 * (kafka_standby.c). */
#include "connectors/kafka/kafka.h"

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "connectors/kafka/kafka_embedded.h"
#include "connectors/kafka/kafka_pair.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REACH_MS = 5000,          /* to find a broker, */
    REACH_TROUBLED_MS = 1500, /* less where one said no */
    SLICE_MS = 250,
    RESUME_MS = 1000,
    INIT_MS = 30000,
    OWN_MS = 10000,
    BYTES_MAX = 6 * 1024 * 1024,
};

/* Small segments, and compacted as soon as there is something to compact: a reader that starts
 * from nothing passes a few MB. max.message.bytes: a checkpoint may hold 65,536 hashes. */
static const struct setting_pair log_config[] = {
    {"cleanup.policy", "compact", 0},    {"segment.bytes", "8388608", 0},
    {"segment.ms", "600000", 0},         {"min.cleanable.dirty.ratio", "0.01", 0},
    {"max.message.bytes", "4194304", 0},
};

/* ---- create, destroy ---- */

static char *make_id(const struct sink_pair *who, const char *tail)
{
    struct buf b = {0};
    buf_printf(&b, "%s.%s.%s%s", who->bridge, who->source, who->sink, tail);
    char *id = mem_strdup(buf_cstr(&b));
    buf_fini(&b);
    return id;
}

static struct template *make_template(const char *text, const struct kafka_settings *settings)
{
    struct template *tpl = NULL;
    int rc = template_new(&tpl, text, (unsigned)settings->buckets, NULL);
    assert(rc == 0); /* the settings were checked */
    (void)rc;
    return tpl;
}

static void *kafka_create(const struct sink_pair *who, struct sink_limits *limits)
{
    struct kafka_pair *pair = mem_zalloc(sizeof *pair);
    pair->who = *who;
    if (who->instance == NULL)
        pair->who.instance = "";
    pair->settings = who->settings;
    pair->topic_template = make_template(pair->settings->topic, pair->settings);
    pair->key_template = make_template(pair->settings->key, pair->settings);
    pair->id = make_id(who, "");
    pair->owner_key = make_id(who, "#owner");
    snprintf(pair->instance, sizeof pair->instance, "%016" PRIx64, hash_random());
    pair->producer.brokers = pair->settings->brokers;
    pair->producer.stop = who->stop;
    pair->deliveries = (struct kafka_deliveries){kafka_pair_note_failure, pair};
    *limits = (struct sink_limits){
        .events_max = (size_t)pair->settings->commit_events,
        .bytes_max = BYTES_MAX,
        .interval_ms = pair->settings->commit_interval_ms,
    };
    return pair;
}

void kafka_pair_release(struct kafka_pair *pair)
{
    kafka_topics_restart(&pair->topics);
    kafka_topics_fini(&pair->log_topics);
    pair->log = NULL;
    pair->n_routes = 0;
    pair->moved = pair->repeats = false;
    kafka_client_close(&pair->producer);
}

static void kafka_close(void *self)
{
    struct kafka_pair *pair = self;
    kafka_pair_release(pair);
    if (stop_requested(pair->who.stop))
        kafka_group_leave(&pair->member);
}

static void kafka_destroy(void *self)
{
    struct kafka_pair *pair = self;
    if (pair == NULL)
        return;
    kafka_pair_release(pair);
    kafka_topics_fini(&pair->topics);
    kafka_group_leave(&pair->member);
    if (pair->holds_embedded)
        kafka_embedded_unref();
    template_free(&pair->topic_template);
    template_free(&pair->key_template);
    kafka_headers_fini(&pair->headers);
    buf_fini(&pair->owner);
    buf_fini(&pair->text);
    buf_fini(&pair->checkpoint);
    kafka_pair_forget(pair);
    free(pair->routes);
    free(pair->owner_key);
    free(pair->id);
    free(pair);
}

/* ---- reading the checkpoint topic ---- */

/* Of whatever was written last, committed or not. */
static struct kafka_log_query query_of(const struct kafka_pair *pair)
{
    return (struct kafka_log_query){
        .topic = pair->settings->checkpoint_topic,
        .key = str_from(pair->id),
        .owner = str_from(pair->owner_key),
        .floor = pair->log_floor,
    };
}

static enum sink_result read_log(struct kafka_pair *pair, const struct kafka_log_query *query,
                                 struct kafka_log_answer *answer, struct err *err)
{
    struct kafka_client reader = {.brokers = pair->settings->brokers, .stop = pair->who.stop};
    *answer = (struct kafka_log_answer){0};
    const char *bootstrap = pair->holds_embedded ? kafka_embedded_bootstrap() : reader.brokers;
    rd_kafka_conf_t *conf =
        kafka_settings_reader(pair->settings, bootstrap, kafka_log_isolation(query));
    if (kafka_client_open(&reader, RD_KAFKA_CONSUMER, conf, NULL, err) != 0)
        return SINK_FATAL;
    enum sink_result r = kafka_log_read(&reader, query, answer, err);
    kafka_client_close(&reader);
    return r;
}

enum sink_result kafka_pair_check_owner(struct kafka_pair *pair, struct err *err)
{
    struct kafka_log_query query = query_of(pair);
    struct kafka_log_answer answer;
    enum sink_result r = read_log(pair, &query, &answer, err);
    if (r == SINK_DONE && answer.found_instance && strcmp(answer.instance, pair->instance) != 0) {
        err_set(err, ERR_FENCED, "kafka %s: instance %s has taken over \"%s\" from this one (%s)",
                pair->settings->brokers, answer.instance, pair->id, pair->instance);
        memcpy(pair->owner_id, answer.owner, sizeof pair->owner_id);
        kafka_standby_fenced(pair);
        r = SINK_FENCED;
    }
    buf_fini(&answer.checkpoint);
    return r;
}

enum sink_result kafka_pair_read_owner(struct kafka_pair *pair, struct err *err)
{
    struct kafka_log_query query = query_of(pair);
    struct kafka_log_answer answer;
    enum sink_result r = read_log(pair, &query, &answer, err);
    if (r == SINK_DONE)
        memcpy(pair->owner_id, answer.owner, sizeof pair->owner_id);
    buf_fini(&answer.checkpoint);
    return r;
}

/* ---- open ---- */

static enum sink_result connect_producer(struct kafka_pair *pair, struct err *err)
{
    bool embedded = kafka_settings_is_embedded(pair->settings);
    if (embedded && !pair->holds_embedded) {
        if (kafka_embedded_ref(err) != 0)
            return SINK_FATAL;
        pair->holds_embedded = true;
    }
    rd_kafka_conf_t *conf = kafka_settings_producer(
        pair->settings, embedded ? kafka_embedded_bootstrap() : pair->settings->brokers, pair->id);
    return kafka_client_open(&pair->producer, RD_KAFKA_PRODUCER, conf, &pair->deliveries, err) == 0
               ? SINK_DONE
               : SINK_FATAL;
}

/* Waits for the first broker, so that what follows fails for its own reasons only. */
static enum sink_result reach_broker(struct kafka_pair *pair, struct err *err)
{
    struct kafka_client *client = &pair->producer;
    int64_t start = clock_mono_ms();
    for (;;) {
        if (rd_kafka_controllerid(client->rk, SLICE_MS) >= 0)
            return SINK_DONE;
        kafka_client_poll(client, 0);
        int64_t patience =
            client->trouble != RD_KAFKA_RESP_ERR_NO_ERROR ? REACH_TROUBLED_MS : REACH_MS;
        if (clock_mono_ms() - start > patience || stop_requested(client->stop))
            return kafka_client_explain(client, RD_KAFKA_RESP_ERR__TRANSPORT, "connect", NULL, err);
    }
}

static enum sink_result make_log_topic(struct kafka_pair *pair, struct err *err)
{
    const struct kafka_topic_spec spec = {
        .partitions = 1,
        .replication = (int)pair->settings->replication,
        .config = {log_config, sizeof log_config / sizeof *log_config},
        .embedded = pair->holds_embedded,
    };
    int place = kafka_topics_find(&pair->log_topics, str_from(pair->settings->checkpoint_topic));
    enum sink_result r = kafka_topics_make(&pair->log_topics, &pair->producer, &spec, err);
    pair->log = kafka_topics_handle(&pair->log_topics, place);
    return r;
}

/* A commit that goes on has more time: where librdkafka's (2.0.2) main thread does not take it up
 * in that time, librdkafka forgets that it is a commit, takes the answer to it for one to an abort,
 * and aborts the process. */
rd_kafka_error_t *kafka_pair_step(struct kafka_pair *pair, kafka_step_fn *step, int patience_ms)
{
    int64_t start = clock_mono_ms(), stopping_since = 0;
    unsigned lost = atomic_load(&pair->producer.lost);
    for (int slice = SLICE_MS;; slice = step == rd_kafka_commit_transaction ? RESUME_MS : slice) {
        rd_kafka_error_t *error = step(pair->producer.rk, slice);
        kafka_client_poll(&pair->producer, 0);
        if (error == NULL && step != rd_kafka_init_transactions)
            pair->repeats = pair->repeats || atomic_load(&pair->producer.lost) != lost;
        if (error == NULL || !rd_kafka_error_is_retriable(error))
            return error;
        int64_t now = clock_mono_ms();
        if (stopping_since == 0 && stop_requested(pair->who.stop))
            stopping_since = now;
        if (now - start > patience_ms || (stopping_since != 0 && now - stopping_since > 1000))
            return error;
        rd_kafka_error_destroy(error);
        if (clock_mono_ms() - now < 1)
            stop_wait(pair->who.stop, 5);
    }
}

static enum sink_result explain_and_destroy(struct kafka_pair *pair, rd_kafka_error_t *error,
                                            const char *doing, struct err *err)
{
    enum sink_result r = kafka_client_explain(&pair->producer, rd_kafka_error_code(error), doing,
                                              rd_kafka_error_string(error), err);
    rd_kafka_error_destroy(error);
    return r;
}

static enum sink_result fence_older(struct kafka_pair *pair, struct err *err)
{
    rd_kafka_error_t *error = kafka_pair_step(pair, rd_kafka_init_transactions, INIT_MS);
    return error == NULL ? SINK_DONE : explain_and_destroy(pair, error, "take over", err);
}

/* The headers are made here, and not by RD_KAFKA_VTYPE_HEADER: librdkafka 2.0.2 frees those twice
 * where the partition turns out not to exist. */
rd_kafka_resp_err_t kafka_pair_produce_log(struct kafka_pair *pair, const char *key,
                                           struct str value)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(2);
    rd_kafka_header_add(headers, KAFKA_INSTANCE_HEADER, -1, pair->instance, KAFKA_INSTANCE_LEN);
    rd_kafka_header_add(headers, KAFKA_OWNER_HEADER, -1, pair->who.instance, -1);
    rd_kafka_vu_t vus[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = pair->log},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = 0},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)(uintptr_t)key, strlen(key)}},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)(uintptr_t)value.p, value.len}},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = (void *)UINTPTR_MAX},
    };
    rd_kafka_error_t *error = rd_kafka_produceva(pair->producer.rk, vus, sizeof vus / sizeof *vus);
    if (error == NULL)
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    rd_kafka_headers_destroy(headers);
    return code;
}

static enum sink_result announce_owner(struct kafka_pair *pair, struct err *err)
{
    enum sink_result r =
        kafka_log_high(&pair->producer, pair->settings->checkpoint_topic, &pair->log_floor, err);
    if (r != SINK_DONE)
        return r;
    buf_clear(&pair->owner);
    buf_printf(&pair->owner, "{\"v\":1,\"instance\":\"%s\",\"opened\":%u}", pair->instance,
               ++pair->opened);
    rd_kafka_error_t *error = rd_kafka_begin_transaction(pair->producer.rk);
    if (error != NULL)
        return explain_and_destroy(pair, error, "take over", err);
    rd_kafka_resp_err_t code = kafka_pair_produce_log(pair, pair->owner_key, buf_str(&pair->owner));
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return kafka_client_explain(&pair->producer, code, "take over", NULL, err);
    pair->failures = (struct failures){0};
    error = kafka_pair_step(pair, rd_kafka_commit_transaction, OWN_MS);
    pair->moved = error != NULL;
    if (error == NULL)
        return SINK_DONE;
    if (pair->failures.n > 0) { /* says more than "abort needed" */
        rd_kafka_error_destroy(error);
        return kafka_client_explain(&pair->producer, pair->failures.error, "take over", NULL, err);
    }
    return explain_and_destroy(pair, error, "take over", err);
}

typedef enum sink_result open_step(struct kafka_pair *pair, struct err *err);

static enum sink_result look_for_successor(struct kafka_pair *pair, struct err *err)
{
    return pair->was_owner ? kafka_pair_check_owner(pair, err) : SINK_DONE;
}

static enum sink_result kafka_open(void *self, struct err *err)
{
    static open_step *const steps[] = {kafka_standby_ask,  connect_producer, reach_broker,
                                       look_for_successor, make_log_topic,   fence_older,
                                       announce_owner};
    struct kafka_pair *pair = self;
    kafka_pair_release(pair);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        enum sink_result r = steps[i](pair, err);
        if (r != SINK_DONE) {
            kafka_pair_release(pair);
            if (r == SINK_STANDBY || r == SINK_FENCED)
                kafka_pair_forget(pair);
            return r;
        }
    }
    pair->was_owner = true;
    log_info("kafka_open", LOG_STR("source", pair->who.source), LOG_STR("sink", pair->who.sink),
             LOG_STR("transactional_id", pair->id), LOG_STR("instance", pair->instance));
    return SINK_DONE;
}

/* ---- checkpoints ---- */

static enum sink_result decode(const struct kafka_pair *pair, struct str text,
                               struct checkpoint *cp, struct err *err)
{
    if (checkpoint_decode(cp, text, err) == 0)
        return SINK_DONE;
    err_wrap(err, "kafka %s: checkpoint \"%s\" in topic %s", pair->settings->brokers, pair->id,
             pair->settings->checkpoint_topic);
    return SINK_FATAL;
}

static enum sink_result kafka_read_checkpoint(void *self, struct checkpoint *cp, bool *found,
                                              struct err *err)
{
    struct kafka_pair *pair = self;
    *found = false;
    if (pair->producer.rk == NULL) {
        err_set(err, ERR_RETRY, "kafka %s: not open", pair->settings->brokers);
        return SINK_UNKNOWN;
    }
    enum sink_result r = pair->moved ? announce_owner(pair, err) : SINK_DONE;
    if (r != SINK_DONE)
        return r;
    struct kafka_log_query query = query_of(pair);
    struct kafka_log_answer answer;
    query.until = buf_str(&pair->owner);
    r = read_log(pair, &query, &answer, err);
    if (r == SINK_DONE && !answer.found_checkpoint)
        r = kafka_pair_restore(pair, &answer.checkpoint, err);
    if (r == SINK_DONE && answer.checkpoint.len > 0) {
        kafka_pair_remember(pair, buf_str(&answer.checkpoint));
        r = decode(pair, buf_str(&answer.checkpoint), cp, err);
        *found = r == SINK_DONE;
    }
    buf_fini(&answer.checkpoint);
    return r;
}

/* The producer, and with it the pair, is its owner's; a reader needs neither. */
static enum sink_result kafka_peek(void *self, struct checkpoint *cp, bool *found, struct err *err)
{
    struct kafka_pair *pair = self;
    struct kafka_log_query query = query_of(pair);
    struct kafka_log_answer answer;
    query.committed = true;
    enum sink_result r = read_log(pair, &query, &answer, err);
    bool is_there = r == SINK_DONE && answer.found_checkpoint;
    if (is_there)
        r = decode(pair, buf_str(&answer.checkpoint), cp, err);
    buf_fini(&answer.checkpoint);
    *found = is_there && r == SINK_DONE;
    return r == SINK_DONE ? SINK_DONE : SINK_RETRY;
}

const struct sink_ops kafka_sink = {
    .type = "kafka",
    .rows = kafka_settings_rows,
    .settings_size = sizeof(struct kafka_settings),
    .check = kafka_settings_check,
    .create = kafka_create,
    .destroy = kafka_destroy,
    .open = kafka_open,
    .read_checkpoint = kafka_read_checkpoint,
    .publish = kafka_pair_publish,
    .peek = kafka_peek,
    .keep = kafka_standby_keep,
    .owner = kafka_standby_owner,
    .close = kafka_close,
};
