/* test_kafka_embedded.c - the whole Kafka sink against librdkafka's mock cluster. It fences nobody
 * and shows aborted records, so what is proven here is the way of the data and of errors; exactly
 * once is proven with real brokers. */
#include "connectors/kafka/kafka.h"
#include "connectors/kafka/kafka_embedded.h"
#include "connectors/kafka/kafka_pair.h"
#include "connectors/kafka/kafka_settings.h"
#include "tests/unit/check.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { API_PRODUCE = 0, API_ADD_PARTITIONS = 24, API_END_TXN = 26 };

struct rig {
    struct stop *stop;
    struct kafka_settings settings;
    struct sink_pair pair;
    struct sink_limits limits;
    void *sink;
    struct err err;
};

static void rig_start(struct rig *rig, const char *source)
{
    *rig = (struct rig){
        .stop = stop_new(),
        .settings = {.brokers = "embedded",
                     .topic = "%{source}.%{topic}",
                     .key = "%{key}",
                     .partitions = 3,
                     .replication = -1,
                     .buckets = 16,
                     .commit_interval_ms = 100,
                     .commit_events = 10000,
                     .checkpoint_topic = "busbar.checkpoints"},
    };
    rig->pair =
        (struct sink_pair){.bridge = "busbar", .source = source, .sink = "lake", .stop = rig->stop};
    rig->pair.settings = &rig->settings;
    rig->sink = kafka_sink.create(&rig->pair, &rig->limits);
}

static void rig_stop(struct rig *rig)
{
    kafka_sink.destroy(rig->sink);
    stop_free(&rig->stop);
}

static void expect_result(struct rig *rig, enum sink_result got, enum sink_result wanted)
{
    if (got != wanted)
        fail_msg("result %d, not %d: %s", (int)got, (int)wanted, rig->err.msg);
}

static void rig_open(struct rig *rig)
{
    expect_result(rig, kafka_sink.open(rig->sink, &rig->err), SINK_DONE);
}

static void rig_begin(struct rig *rig, const char *source)
{
    rig_start(rig, source);
    rig_open(rig);
}

static struct event event(uint64_t seq, const char *topic, const char *key, const char *data)
{
    return (struct event){
        .topic = str_from(topic),
        .type = STR("Tested"),
        .key = str_from(key),
        .data = str_from(data),
        .seq = seq,
        .index = seq,
        .arrival_us = INT64_C(1700000000000000) + (int64_t)seq,
    };
}

static enum sink_result publish(struct rig *rig, const struct event *events, size_t n, uint64_t seq,
                                size_t *refused)
{
    const struct event *places[8];
    assert_true(n <= sizeof places / sizeof *places);
    for (size_t i = 0; i < n; i++)
        places[i] = &events[i];
    struct batch batch = {
        .events = places, .n = n, .source = str_from(rig->pair.source), .journal_id = 7};
    struct checkpoint next = {.journal_id = 7, .seq = seq, .index = seq};
    enum sink_result r = kafka_sink.publish(rig->sink, &batch, &next, &rig->err);
    if (refused != NULL)
        *refused = batch.refused;
    return r;
}

/* The sequence number of the checkpoint as the sink reads it; 0 where there is none. */
static uint64_t read_seq(struct rig *rig)
{
    struct checkpoint cp = {0};
    bool found = false;
    expect_result(rig, kafka_sink.read_checkpoint(rig->sink, &cp, &found, &rig->err), SINK_DONE);
    uint64_t seq = found ? cp.seq : 0;
    assert_true(!found || cp.journal_id == 7);
    checkpoint_fini(&cp);
    return seq;
}

/* ---- reading what was written ---- */

static rd_kafka_t *consumer(void)
{
    char errstr[128];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", kafka_embedded_bootstrap(), errstr, sizeof errstr);
    rd_kafka_conf_set(conf, "enable.partition.eof", "true", errstr, sizeof errstr);
    rd_kafka_conf_set(conf, "fetch.wait.max.ms", "10", errstr, sizeof errstr);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, errstr, sizeof errstr);
    assert_non_null(rk);
    return rk;
}

static void describe(rd_kafka_message_t *m, struct buf *out)
{
    rd_kafka_headers_t *headers;
    const void *id;
    size_t size = 0, n = 0;
    if (rd_kafka_message_headers(m, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        n = rd_kafka_header_cnt(headers);
        rd_kafka_header_get_last(headers, "ce_id", &id, &size);
    }
    buf_printf(out, "%s:%.*s:%.*s/%zu ", m->key == NULL ? "null" : "", (int)m->key_len,
               (const char *)m->key, (int)m->len, (const char *)m->payload, n);
    assert_int_equal(size > 0, n > 0);
}

/* All records of one partition as "key:value/headers " each. */
static void read_partition(rd_kafka_t *rk, const char *name, int32_t partition, struct buf *out)
{
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
    assert_int_equal(rd_kafka_consume_start(topic, partition, RD_KAFKA_OFFSET_BEGINNING), 0);
    for (bool more = true; more;) {
        rd_kafka_message_t *m = rd_kafka_consume(topic, partition, 30000);
        assert_non_null(m);
        more = m->err == RD_KAFKA_RESP_ERR_NO_ERROR;
        if (more)
            describe(m, out);
        else
            assert_int_equal(m->err, RD_KAFKA_RESP_ERR__PARTITION_EOF);
        rd_kafka_message_destroy(m);
    }
    rd_kafka_consume_stop(topic, partition);
    rd_kafka_topic_destroy(topic);
}

static char *records_of(const char *topic, int partitions)
{
    struct buf out = {0};
    rd_kafka_t *rk = consumer();
    for (int p = 0; p < partitions; p++)
        read_partition(rk, topic, p, &out);
    rd_kafka_destroy(rk);
    char *text = mem_strdup(buf_cstr(&out));
    buf_fini(&out);
    return text;
}

/* ---- tests ---- */

static void a_new_pair_has_no_checkpoint(void **state)
{
    (void)state;
    struct rig rig;
    rig_start(&rig, "new");
    assert_int_equal(rig.limits.events_max, 10000);
    assert_int_equal(rig.limits.interval_ms, 100);
    rig_open(&rig);
    assert_int_equal(read_seq(&rig), 0);
    rig_stop(&rig);
}

static void what_is_published_is_there_with_its_checkpoint(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "way");
    struct event events[] = {event(1, "Job", "web", "{\"n\":1}"),
                             event(2, "Job", "web", "{\"n\":2}"), event(3, "Node", "", "{}")};
    expect_result(&rig, publish(&rig, events, 3, 3, NULL), SINK_DONE);
    assert_int_equal(read_seq(&rig), 3);
    char *jobs = records_of("way.Job", 3), *nodes = records_of("way.Node", 3);
    assert_string_equal(jobs, ":web:{\"n\":1}/9 :web:{\"n\":2}/9 ");
    assert_string_equal(nodes, "null::{}/8 ");
    free(jobs);
    free(nodes);
    rig_stop(&rig);
}

static void records_have_the_headers_that_were_asked_for(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "head");
    struct event e = event(1, "Job", "k", "{}");
    int *kind = &rig.settings.headers;
    for (*kind = KAFKA_HEADERS_CLOUDEVENTS; *kind <= KAFKA_HEADERS_NONE; ++*kind)
        expect_result(&rig, publish(&rig, &e, 1, 1, NULL), SINK_DONE);
    char *records = records_of("head.Job", 3);
    assert_string_equal(records, ":k:{}/9 :k:{}/1 :k:{}/0 ");
    free(records);
    rig_stop(&rig);
}

static void topics_have_the_partitions_that_were_asked_for(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "parts");
    struct event e = event(1, "Job", "k", "{}");
    expect_result(&rig, publish(&rig, &e, 1, 1, NULL), SINK_DONE);
    rd_kafka_t *rk = consumer();
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, "parts.Job", NULL);
    const struct rd_kafka_metadata *md;
    assert_int_equal(rd_kafka_metadata(rk, 0, topic, &md, 30000), 0);
    assert_int_equal(md->topics[0].partition_cnt, 3);
    rd_kafka_metadata_destroy(md);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    rig_stop(&rig);
}

static void an_empty_batch_moves_the_checkpoint_alone(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "empty");
    expect_result(&rig, publish(&rig, NULL, 0, 41, NULL), SINK_DONE);
    expect_result(&rig, publish(&rig, NULL, 0, 42, NULL), SINK_DONE);
    assert_int_equal(read_seq(&rig), 42);
    rig_stop(&rig);
}

static void a_checkpoint_outlives_close_and_is_ones_own(void **state)
{
    (void)state;
    struct rig a, b;
    rig_start(&a, "one");
    rig_start(&b, "other");
    rig_open(&a);
    rig_open(&b);
    expect_result(&a, publish(&a, NULL, 0, 5, NULL), SINK_DONE);
    expect_result(&b, publish(&b, NULL, 0, 6, NULL), SINK_DONE);
    kafka_sink.close(a.sink);
    kafka_sink.close(a.sink);
    rig_open(&a);
    assert_int_equal(read_seq(&a), 5);
    assert_int_equal(read_seq(&b), 6);
    rig_stop(&a);
    rig_stop(&b);
}

/* As other pairs would, but without transactions: it is quicker. */
static void add_foreign_checkpoints(int n)
{
    char errstr[128];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", kafka_embedded_bootstrap(), errstr, sizeof errstr);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, errstr, sizeof errstr);
    assert_non_null(rk);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, "busbar.checkpoints", NULL);
    for (int i = 0; i < n; i++) {
        char value[] = "{}", key[] = "busbar.else.lake";
        int rc = rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, value, 2, key, 16, NULL);
        assert_int_equal(rc, 0);
    }
    assert_int_equal(rd_kafka_flush(rk, 30000), 0);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
}

static void an_old_checkpoint_is_found_behind_many_others(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "old");
    expect_result(&rig, publish(&rig, NULL, 0, 5, NULL), SINK_DONE);
    add_foreign_checkpoints(12000); /* more than the first two windows */
    rig_open(&rig);
    assert_int_equal(read_seq(&rig), 5);
    rig_stop(&rig);
}

static void an_older_instance_finds_itself_fenced_when_it_comes_back(void **state)
{
    (void)state;
    struct rig a, b;
    rig_start(&a, "dup");
    rig_start(&b, "dup");
    rig_open(&a);
    expect_result(&a, publish(&a, NULL, 0, 5, NULL), SINK_DONE);
    rig_open(&b);
    expect_result(&a, kafka_sink.open(a.sink, &a.err), SINK_FENCED);
    assert_int_equal(a.err.kind, ERR_FENCED);
    assert_non_null(strstr(a.err.msg, "has taken over \"busbar.dup.lake\""));
    assert_int_equal(read_seq(&b), 5);
    expect_result(&a, publish(&a, NULL, 0, 6, NULL), SINK_UNKNOWN);
    rig_open(&a); /* asked again, it takes the pair back */
    expect_result(&b, kafka_sink.open(b.sink, &b.err), SINK_FENCED);
    rig_stop(&a);
    rig_stop(&b);
}

/* The mock refuses a request, whatever is in it: the event's, or the checkpoint's where that goes
 * first. Whose turn it is depends on what was sent before. */
static enum sink_result publish_refused(struct rig *rig, const struct event *e, size_t *refused)
{
    enum sink_result r = SINK_FATAL;
    for (size_t i = 0; i < 50 && r == SINK_FATAL; i++) {
        rig_open(rig);
        expect_result(rig, publish(rig, e, (i + 1) % 2, 1, NULL), SINK_DONE);
        kafka_embedded_fail_next(API_PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
        r = publish(rig, e, 1, 2, refused);
        kafka_embedded_fail_next(API_PRODUCE, 0, 0);
        assert_true(r != SINK_FATAL || strstr(rig->err.msg, "publish the checkpoint") != NULL);
    }
    return r;
}

static void an_event_that_the_broker_refuses_is_named(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "big");
    struct event one = event(1, "Job", "k", "{}");
    size_t refused = 99;
    expect_result(&rig, publish_refused(&rig, &one, &refused), SINK_REFUSED);
    assert_int_equal(refused, 0);
    assert_int_equal(rig.err.kind, ERR_INPUT);
    assert_non_null(strstr(rig.err.msg, "Job//k Tested at 1 (2 bytes)"));
    rig_stop(&rig);
}

static void an_event_larger_than_any_is_refused_without_asking(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "huge");
    size_t len = KAFKA_MESSAGE_MAX + 1, refused = 99;
    char *huge = mem_zalloc(len);
    struct event events[] = {event(1, "Job", "k", "{}"), event(2, "Job", "k", "")};
    events[1].data = (struct str){huge, len};
    for (int kind = KAFKA_HEADERS_CLOUDEVENTS; kind <= KAFKA_HEADERS_NONE; kind++) {
        rig.settings.headers = kind;
        expect_result(&rig, publish(&rig, events, 2, 2, &refused), SINK_REFUSED);
        assert_int_equal(refused, 1);
    }
    expect_result(&rig, publish(&rig, events, 1, 1, NULL), SINK_DONE);
    assert_int_equal(read_seq(&rig), 1);
    free(huge);
    rig_stop(&rig);
}

static void a_missing_right_is_the_operators_business(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "acl");
    struct event e = event(1, "Job", "k", "{}");
    expect_result(&rig, publish(&rig, &e, 1, 1, NULL), SINK_DONE);
    kafka_embedded_fail_next(API_PRODUCE, 2, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    enum sink_result r = publish(&rig, &e, 1, 2, NULL);
    kafka_embedded_fail_next(API_PRODUCE, 0, 0);
    expect_result(&rig, r, SINK_FATAL);
    assert_non_null(strstr(rig.err.msg, "grant this user WRITE"));
    rig_stop(&rig);
}

static void a_lost_epoch_without_a_successor_is_unknown(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "epoch");
    struct event e = event(1, "Job", "k", "{}");
    expect_result(&rig, publish(&rig, &e, 1, 1, NULL), SINK_DONE);
    kafka_embedded_fail_next(API_END_TXN, 1, RD_KAFKA_RESP_ERR_PRODUCER_FENCED);
    expect_result(&rig, publish(&rig, &e, 1, 2, NULL), SINK_UNKNOWN);
    rig_open(&rig);
    assert_true(read_seq(&rig) >= 1);
    rig_stop(&rig);
}

static void a_lost_epoch_with_a_successor_is_fenced(void **state)
{
    (void)state;
    struct rig a, b;
    rig_start(&a, "heir");
    rig_start(&b, "heir");
    rig_open(&a);
    struct event e = event(1, "Job", "k", "{}");
    expect_result(&a, publish(&a, &e, 1, 1, NULL), SINK_DONE);
    rig_open(&b);
    kafka_embedded_fail_next(API_ADD_PARTITIONS, 1, RD_KAFKA_RESP_ERR_PRODUCER_FENCED);
    expect_result(&a, publish(&a, &e, 1, 2, NULL), SINK_FENCED);
    rig_stop(&a);
    rig_stop(&b);
}

static void a_broker_that_is_away_is_tried_again_and_said_plainly(void **state)
{
    (void)state;
    struct rig rig;
    rig_start(&rig, "away");
    kafka_sink.destroy(rig.sink);
    rig.settings.brokers = "127.0.0.1:1";
    rig.sink = kafka_sink.create(&rig.pair, &rig.limits);
    expect_result(&rig, kafka_sink.open(rig.sink, &rig.err), SINK_RETRY);
    assert_non_null(strstr(rig.err.msg, "kafka 127.0.0.1:1: connect: "));
    assert_non_null(strstr(rig.err.msg, "refused: is the broker up, is brokers: right?"));
    stop_request(rig.stop);
    expect_result(&rig, kafka_sink.open(rig.sink, &rig.err), SINK_RETRY);
    rig_stop(&rig);
}

/* ---- peek ---- */

static uint64_t peek_seq(struct rig *rig)
{
    struct checkpoint cp = {0};
    bool found = true;
    expect_result(rig, kafka_sink.peek(rig->sink, &cp, &found, &rig->err), SINK_DONE);
    uint64_t seq = found ? cp.seq : 0;
    checkpoint_fini(&cp);
    return seq;
}

static void who_is_not_the_owner_may_peek(void **state)
{
    (void)state;
    struct rig owner, other;
    rig_start(&owner, "peek");
    rig_start(&other, "peek");
    struct kafka_pair *pair = other.sink;
    pair->holds_embedded = kafka_embedded_ref(NULL) == 0; /* as open would have it */
    assert_int_equal(peek_seq(&other), 0);                /* maybe not even a topic */
    rig_open(&owner);
    assert_int_equal(peek_seq(&other), 0);
    expect_result(&owner, publish(&owner, NULL, 0, 5, NULL), SINK_DONE);
    expect_result(&owner, publish(&owner, NULL, 0, 6, NULL), SINK_DONE);
    add_foreign_checkpoints(1500); /* more than the first window, */
    rig_open(&owner);              /* where only this stands */
    assert_int_equal(peek_seq(&other), 6);
    expect_result(&owner, publish(&owner, NULL, 0, 7, NULL), SINK_DONE); /* not fenced by it */
    assert_null(pair->producer.rk);
    rig_stop(&owner);
    rig_stop(&other);
}

static void a_peek_at_a_broker_that_is_away_is_tried_again(void **state)
{
    (void)state;
    struct rig rig;
    struct checkpoint cp = {0};
    bool found = true;
    rig_start(&rig, "peekaway");
    kafka_sink.destroy(rig.sink);
    rig.settings.brokers = "127.0.0.1:1";
    rig.sink = kafka_sink.create(&rig.pair, &rig.limits);
    stop_request(rig.stop);
    expect_result(&rig, kafka_sink.peek(rig.sink, &cp, &found, &rig.err), SINK_RETRY);
    assert_false(found);
    rig_stop(&rig);
}

/* ---- a checkpoint topic that is empty when its owner comes back ---- */

/* An owner that has published up to 5, in a checkpoint topic that nobody finds any more. */
static void rig_start_forgotten(struct rig *rig, const char *source, const char *empty_topic)
{
    rig_begin(rig, source);
    expect_result(rig, publish(rig, NULL, 0, 5, NULL), SINK_DONE);
    rig->settings.checkpoint_topic = empty_topic;
}

static void an_owner_writes_its_checkpoint_down_again(void **state)
{
    (void)state;
    struct rig rig, heir;
    rig_start_forgotten(&rig, "lost", "lost.checkpoints");
    rig_open(&rig);
    assert_int_equal(read_seq(&rig), 5);
    rig_start(&heir, "lost"); /* one that knows nothing but what is written */
    heir.settings.checkpoint_topic = "lost.checkpoints";
    rig_open(&heir);
    assert_int_equal(read_seq(&heir), 5);
    rig_stop(&heir);
    rig_stop(&rig);
}

static void in_another_cluster_an_owner_begins_anew(void **state)
{
    (void)state;
    struct rig rig;
    rig_start_forgotten(&rig, "moved", "moved.checkpoints");
    struct kafka_pair *pair = rig.sink;
    assert_non_null(pair->cluster);
    free(pair->cluster);
    pair->cluster = mem_strdup("the one that was here before");
    rig_open(&rig);
    assert_int_equal(read_seq(&rig), 0);
    assert_int_equal(pair->known.len, 0);
    expect_result(&rig, publish(&rig, NULL, 0, 6, NULL), SINK_DONE);
    assert_string_not_equal(pair->cluster, "the one that was here before");
    rig_stop(&rig);
}

static void a_cluster_that_tells_no_id_is_taken_for_the_same(void **state)
{
    (void)state;
    struct rig rig;
    rig_start_forgotten(&rig, "nameless", "nameless.checkpoints");
    struct kafka_pair *pair = rig.sink;
    free(pair->cluster);
    pair->cluster = NULL;
    rig_open(&rig);
    assert_int_equal(read_seq(&rig), 5);
    rig_stop(&rig);
}

static void who_was_fenced_knows_no_checkpoint_any_more(void **state)
{
    (void)state;
    struct rig a, b;
    rig_start_forgotten(&a, "forget", "busbar.checkpoints");
    rig_start(&b, "forget");
    rig_open(&b);
    expect_result(&a, kafka_sink.open(a.sink, &a.err), SINK_FENCED);
    a.settings.checkpoint_topic = "forget.checkpoints";
    rig_open(&a);
    assert_int_equal(read_seq(&a), 0);
    rig_stop(&a);
    rig_stop(&b);
}

static int hold_cluster(void **state)
{
    (void)state;
    return kafka_embedded_ref(NULL);
}

static int let_go_of_cluster(void **state)
{
    (void)state;
    kafka_embedded_unref();
    return 0;
}

/* Debian's librdkafka starts its threads by C11's thrd_create, which ThreadSanitizer 14 does not
 * know: it crashes in the first of them. */
#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

int main(void)
{
    if (UNDER_TSAN) {
        puts("skipped: librdkafka's threads can't be followed by ThreadSanitizer");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_pair_has_no_checkpoint),
        cmocka_unit_test(what_is_published_is_there_with_its_checkpoint),
        cmocka_unit_test(records_have_the_headers_that_were_asked_for),
        cmocka_unit_test(topics_have_the_partitions_that_were_asked_for),
        cmocka_unit_test(an_empty_batch_moves_the_checkpoint_alone),
        cmocka_unit_test(a_checkpoint_outlives_close_and_is_ones_own),
        cmocka_unit_test(an_old_checkpoint_is_found_behind_many_others),
        cmocka_unit_test(an_older_instance_finds_itself_fenced_when_it_comes_back),
        cmocka_unit_test(an_event_that_the_broker_refuses_is_named),
        cmocka_unit_test(an_event_larger_than_any_is_refused_without_asking),
        cmocka_unit_test(a_missing_right_is_the_operators_business),
        cmocka_unit_test(a_lost_epoch_without_a_successor_is_unknown),
        cmocka_unit_test(a_lost_epoch_with_a_successor_is_fenced),
        cmocka_unit_test(a_broker_that_is_away_is_tried_again_and_said_plainly),
        cmocka_unit_test(who_is_not_the_owner_may_peek),
        cmocka_unit_test(a_peek_at_a_broker_that_is_away_is_tried_again),
        cmocka_unit_test(an_owner_writes_its_checkpoint_down_again),
        cmocka_unit_test(in_another_cluster_an_owner_begins_anew),
        cmocka_unit_test(a_cluster_that_tells_no_id_is_taken_for_the_same),
        cmocka_unit_test(who_was_fenced_knows_no_checkpoint_any_more),
    };
    return cmocka_run_group_tests(tests, hold_cluster, let_go_of_cluster);
}
