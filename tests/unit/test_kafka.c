/* test_kafka.c - the Kafka sink without a Kafka: names, headers, settings, topics' limits. */
#include "bridge/base/hash.h"
#include "connectors/kafka/kafka.h"
#include "connectors/kafka/kafka_headers.h"
#include "connectors/kafka/kafka_name.h"
#include "connectors/kafka/kafka_settings.h"
#include "connectors/kafka/kafka_topics.h"
#include "tests/unit/settings_kit.h"

#include <time.h>

/* ---- names ---- */

static void expect_mended(const char *rendered, const char *name)
{
    struct buf b = {0};
    buf_append_cstr(&b, rendered);
    kafka_name_mend(&b);
    assert_string_equal(buf_cstr(&b), name);
    assert_true(kafka_name_is_valid(buf_str(&b)));
    buf_fini(&b);
}

static void what_kafka_forbids_in_a_name_becomes_an_underscore(void **state)
{
    (void)state;
    expect_mended("prod.Job", "prod.Job");
    expect_mended("a-B_9.z", "a-B_9.z");
    expect_mended("p/web app:1", "p_web_app_1");
    expect_mended("\xc3\xa4", "__");
}

static void a_name_of_nothing_or_dots_is_made_one(void **state)
{
    (void)state;
    expect_mended("", "_");
    expect_mended(".", "_");
    expect_mended("..", "__");
    expect_mended("...", "...");
    expect_mended("\x01", "_");
}

static void names_too_long_are_cut_and_stay_different(void **state)
{
    (void)state;
    struct buf a = {0}, b = {0};
    for (int i = 0; i < 300; i++) {
        buf_append_char(&a, 'x');
        buf_append_char(&b, 'x');
    }
    buf_append_char(&b, 'y');
    kafka_name_mend(&a);
    kafka_name_mend(&b);
    assert_int_equal(a.len, KAFKA_NAME_MAX);
    assert_int_equal(b.len, KAFKA_NAME_MAX);
    assert_false(str_eq(buf_str(&a), buf_str(&b)));
    assert_true(kafka_name_is_valid(buf_str(&a)));
    buf_fini(&a);
    buf_fini(&b);
}

static void a_name_of_full_length_is_left_alone(void **state)
{
    (void)state;
    char name[KAFKA_NAME_MAX + 1];
    memset(name, 'n', KAFKA_NAME_MAX);
    name[KAFKA_NAME_MAX] = '\0';
    expect_mended(name, name);
}

/* ---- headers ---- */

static struct event job(void)
{
    return (struct event){
        .topic = STR("Job"),
        .type = STR("JobRegistered"),
        .key = STR("web \xc3\xa4"),
        .ns = STR("default"),
        .index = 1234,
        .arrival_us = INT64_C(1700000000123456),
    };
}

static void expect_header(rd_kafka_headers_t *headers, const char *name, const char *value)
{
    const void *found = NULL;
    size_t size = 0;
    rd_kafka_resp_err_t code = rd_kafka_header_get_last(headers, name, &found, &size);
    if (value == NULL) {
        assert_int_equal(code, RD_KAFKA_RESP_ERR__NOENT);
        return;
    }
    assert_int_equal(code, RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_int_equal(size, strlen(value));
    assert_memory_equal(found, value, size);
}

static void headers_tell_the_event_as_cloudevents_wants(void **state)
{
    (void)state;
    struct kafka_headers h = {0};
    struct event e = job();
    rd_kafka_headers_t *headers = kafka_headers_of(&h, STR("prod"), 7, &e);
    expect_header(headers, "ce_specversion", "1.0");
    expect_header(headers, "ce_id", "prod/1234/Job/default/web \xc3\xa4/JobRegistered/0");
    expect_header(headers, "ce_source", "prod");
    expect_header(headers, "ce_type", "JobRegistered");
    expect_header(headers, "ce_subject", "web \xc3\xa4");
    expect_header(headers, "ce_time", "2023-11-14T22:13:20.123456Z");
    expect_header(headers, "content-type", "application/json");
    expect_header(headers, "ce_topic", "Job");
    expect_header(headers, "ce_namespace", "default");
    expect_header(headers, "ce_index", "1234");
    assert_int_equal(rd_kafka_header_cnt(headers), 10);
    rd_kafka_headers_destroy(headers);
    kafka_headers_fini(&h);
}

static void headers_leave_out_what_would_be_empty(void **state)
{
    (void)state;
    struct kafka_headers h = {0};
    struct event e = job();
    e.key = e.ns = e.type = STR("");
    e.index = 0;
    rd_kafka_headers_t *headers = kafka_headers_of(&h, STR("prod"), 7, &e);
    expect_header(headers, "ce_subject", NULL);
    expect_header(headers, "ce_namespace", NULL);
    expect_header(headers, "ce_type", "unknown");
    expect_header(headers, "ce_index", "0");
    rd_kafka_headers_destroy(headers);
    kafka_headers_fini(&h);
}

static void the_time_is_the_sources_where_it_gives_one(void **state)
{
    (void)state;
    struct kafka_headers h = {0};
    struct event e = job();
    e.time_us = INT64_C(1600000000500000);
    e.index = UINT64_MAX;
    rd_kafka_headers_t *headers = kafka_headers_of(&h, STR("prod"), 7, &e);
    expect_header(headers, "ce_time", "2020-09-13T12:26:40.500Z");
    expect_header(headers, "ce_index", "18446744073709551615");
    rd_kafka_headers_destroy(headers);
    kafka_headers_fini(&h);
}

static void the_id_may_be_all_that_is_told(void **state)
{
    (void)state;
    struct kafka_headers h = {0};
    struct event e = job();
    for (e.index = 1; e.index <= 2; e.index++) {
        rd_kafka_headers_t *headers = kafka_headers_id(&h, STR("prod"), 7, &e);
        expect_header(headers, "ce_id",
                      e.index == 1 ? "prod/1/Job/default/web \xc3\xa4/JobRegistered/0"
                                   : "prod/2/Job/default/web \xc3\xa4/JobRegistered/0");
        assert_int_equal(rd_kafka_header_cnt(headers), 1);
        rd_kafka_headers_destroy(headers);
    }
    kafka_headers_fini(&h);
}

/* ---- settings ---- */

static void expect_problems(const char *yaml, const char *problems)
{
    struct settings *s = parse(yaml);
    struct kafka_settings out;
    if (settings_apply(s, settings_root(s), "sink lake", kafka_sink.rows, NULL, &out) == 0)
        kafka_sink.check(s, settings_root(s), &out);
    char *text = problems_of(s);
    assert_string_equal(text, problems);
    free(text);
    settings_free(&s);
}

/* Expects one problem that holds this. */
static void expect_problem_with(const char *yaml, const char *part)
{
    struct settings *s = parse(yaml);
    struct kafka_settings out;
    if (settings_apply(s, settings_root(s), "sink lake", kafka_sink.rows, NULL, &out) == 0)
        kafka_sink.check(s, settings_root(s), &out);
    char *text = problems_of(s);
    assert_int_equal(settings_problems(s), 1);
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", text, part);
    free(text);
    settings_free(&s);
}

static void brokers_are_addresses_or_embedded(void **state)
{
    (void)state;
    expect_problems("brokers: 127.0.0.1:9092", "");
    expect_problems("brokers: a.example:9092,[::1]:9093", "");
    expect_problems("brokers: embedded", "");
    expect_problem_with("brokers: a.example", "HOST:PORT");
    expect_problem_with("brokers: \"a:1,,b:2\"", "HOST:PORT");
    expect_problem_with("brokers: \"a:1,\"", "HOST:PORT");
    expect_problem_with("topic: x", "brokers");
}

static void defaults_are_what_the_documentation_says(void **state)
{
    (void)state;
    struct settings *s = parse("brokers: embedded");
    struct kafka_settings out;
    assert_int_equal(settings_apply(s, settings_root(s), "x", kafka_sink.rows, NULL, &out), 0);
    assert_string_equal(out.topic, "%{source}.%{topic}");
    assert_string_equal(out.key, "%{key}");
    assert_string_equal(out.checkpoint_topic, "busbar.checkpoints");
    assert_int_equal(out.commit_interval_ms, 100);
    assert_int_equal(out.commit_events, 10000);
    assert_int_equal(out.replication, -1);
    assert_int_equal(out.headers, KAFKA_HEADERS_CLOUDEVENTS);
    assert_true(kafka_settings_is_embedded(&out));
    settings_free(&s);
}

static int headers_of(const char *word)
{
    char yaml[64];
    struct kafka_settings out;
    snprintf(yaml, sizeof yaml, "brokers: a:1\nheaders: %s", word);
    struct settings *s = parse(yaml);
    assert_int_equal(settings_apply(s, settings_root(s), "x", kafka_sink.rows, NULL, &out), 0);
    settings_free(&s);
    return out.headers;
}

static void headers_are_all_the_id_or_none(void **state)
{
    (void)state;
    assert_int_equal(headers_of("cloudevents"), KAFKA_HEADERS_CLOUDEVENTS);
    assert_int_equal(headers_of("id"), KAFKA_HEADERS_ID);
    assert_int_equal(headers_of("none"), KAFKA_HEADERS_NONE);
    expect_problem_with("brokers: a:1\nheaders: false",
                        "\"false\": expected one of cloudevents, id, none for \"headers\"");
}

static void templates_know_their_variables(void **state)
{
    (void)state;
    expect_problem_with("brokers: a:1\ntopic: \"%{tpoic}\"", "%{tpoic}");
    expect_problem_with("brokers: a:1\nkey: \"%{key\"", "not closed");
    expect_problem_with("brokers: a:1\ntopic: \"\"", "empty");
    expect_problem_with("brokers: a:1\ntopic: busbar.checkpoints", "checkpoint");
    expect_problem_with("brokers: a:1\ncheckpoint_topic: a/b", "a topic name");
}

static void properties_that_the_promises_hang_on_are_refused(void **state)
{
    (void)state;
    static const char *const owned[] = {
        "transactional.id", "enable.idempotence", "acks",        "request.required.acks",
        "isolation.level",  "bootstrap.servers",  "partitioner", "group.id",
    };
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) {
        char yaml[128];
        snprintf(yaml, sizeof yaml, "brokers: a:1\nproperties: {%s: x}", owned[i]);
        expect_problem_with(yaml, "expected none of this name");
    }
}

static void unknown_properties_and_bad_values_are_found(void **state)
{
    (void)state;
    expect_problem_with("brokers: a:1\nproperties:\n  linger.mss: 5",
                        "b.yaml:3: property \"linger.mss\"");
    expect_problem_with("brokers: a:1\nproperties: {compression.type: lzma}", "compression.type");
    expect_problem_with("brokers: a:1\nproperties: {linger.ms: soon}", "linger.ms");
    expect_problems("brokers: a:1\nproperties: {compression.type: zstd, linger.ms: 20}", "");
}

static void properties_that_contradict_are_found(void **state)
{
    (void)state;
    expect_problem_with("brokers: a:1\nproperties: {max.in.flight: 100}", "max.in.flight");
    expect_problem_with(
        "brokers: a:1\nproperties: {security.protocol: ssl, ssl.ca.location: /no/such.pem}",
        "ssl.ca.location");
}

/* The problems of the one sink of a whole file. */
static void expect_sink_problem(const char *yaml, const char *part)
{
    struct settings *s = parse(yaml);
    const struct settings_node *node = settings_item(settings_get(settings_root(s), "sinks"), 0);
    struct kafka_settings out;
    assert_int_equal(settings_apply(s, node, "sink lake", kafka_sink.rows, NULL, &out), 0);
    kafka_sink.check(s, node, &out);
    char *text = problems_of(s);
    assert_int_equal(settings_problems(s), part != NULL);
    if (part != NULL && strstr(text, part) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", text, part);
    free(text);
    settings_free(&s);
}

static void standby_needs_a_cluster_that_others_reach(void **state)
{
    (void)state;
    expect_sink_problem("standby: true\nsinks: [{brokers: embedded}]", "standby: true");
    expect_sink_problem("standby: false\nsinks: [{brokers: embedded}]", NULL);
    expect_sink_problem("standby: true\nsinks: [{brokers: \"a:1\"}]", NULL);
    expect_sink_problem("standby: true\nsinks: [{brokers: \"a:1\", properties: "
                        "{session.timeout.ms: \"3600000\"}}]",
                        "session.timeout.ms");
}

static void a_password_never_shows(void **state)
{
    (void)state;
    struct settings *s = parse("brokers: a:1\n"
                               "properties: {sasl.mechanism: NONE, security.protocol: sasl_ssl, "
                               "sasl.username: u, sasl.password: hunter2}");
    struct kafka_settings out;
    assert_int_equal(settings_apply(s, settings_root(s), "x", kafka_sink.rows, NULL, &out), 0);
    kafka_sink.check(s, settings_root(s), &out);
    char *text = problems_of(s);
    assert_true(*text != '\0');
    assert_null(strstr(text, "hunter2"));
    free(text);
    settings_free(&s);
}

static void expect_property(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char got[128];
    size_t size = sizeof got;
    assert_int_equal(rd_kafka_conf_get(conf, name, got, &size), RD_KAFKA_CONF_OK);
    assert_string_equal(got, value);
}

static void an_operator_overrides_defaults_but_not_promises(void **state)
{
    (void)state;
    struct setting_pair pairs[] = {
        {"compression.codec", "zstd", 0}, {"message.max.bytes", "2000000", 0}, {"acks", "0", 0}};
    struct kafka_settings settings = {.properties = {pairs, 3}};
    rd_kafka_conf_t *conf = kafka_settings_producer(&settings, "h:1", "b.s.k");
    expect_property(conf, "compression.type", "zstd");
    expect_property(conf, "message.max.bytes", "2000000");
    expect_property(conf, "enable.idempotence", "true");
    expect_property(conf, "acks", "-1");
    expect_property(conf, "partitioner", "murmur2_random");
    expect_property(conf, "transaction.timeout.ms", "10000");
    expect_property(conf, "transactional.id", "b.s.k");
    expect_property(conf, "bootstrap.servers", "h:1");
    rd_kafka_conf_destroy(conf);
    settings.properties.n = 0;
    conf = kafka_settings_producer(&settings, NULL, "b.s.k");
    expect_property(conf, "compression.type", "lz4");
    rd_kafka_conf_destroy(conf);
}

/* ---- topics ---- */

static void topics_are_found_by_name_up_to_their_limit(void **state)
{
    (void)state;
    struct kafka_topics topics = {0};
    char name[32];
    for (int i = 0; i < KAFKA_TOPICS_MAX; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(kafka_topics_find(&topics, str_from(name)), i);
    }
    assert_int_equal(kafka_topics_find(&topics, STR("one.too.many")), -1);
    assert_int_equal(kafka_topics_find(&topics, STR("one.too.many")), -1);
    assert_int_equal(kafka_topics_find(&topics, STR("t77")), 77);
    kafka_topics_fini(&topics);
    assert_int_equal(topics.n, 0);
}

static void a_tight_topic_has_ever_less_under_way(void **state)
{
    (void)state;
    struct kafka_topics topics = {0};
    int t = kafka_topics_find(&topics, STR("t"));
    assert_false(kafka_topics_is_full(&topics, t, 10 << 20));
    assert_true(kafka_topics_tighten(&topics, t));
    assert_false(kafka_topics_is_full(&topics, t, 10 << 20)); /* alone it may be of any size */
    assert_true(kafka_topics_is_full(&topics, t, 1));
    kafka_topics_drained(&topics);
    assert_false(kafka_topics_is_full(&topics, t, 1000));
    assert_false(kafka_topics_is_full(&topics, t, 1000));
    while (kafka_topics_tighten(&topics, t))
        ;
    kafka_topics_drained(&topics);
    assert_false(kafka_topics_is_full(&topics, t, 100));
    assert_true(kafka_topics_is_full(&topics, t, 100)); /* at last one at a time */
    kafka_topics_fini(&topics);
}

static void a_tight_topic_stays_so_for_the_next_producer(void **state)
{
    (void)state;
    struct kafka_topics topics = {0};
    kafka_topics_find(&topics, STR("wide"));
    kafka_topics_tighten(&topics, kafka_topics_find(&topics, STR("tight")));
    kafka_topics_restart(&topics);
    assert_int_equal(topics.n, 1); /* the other is found, and made, only if it is wanted again */
    assert_int_equal(topics.n_doubtful, 1);
    int tight = kafka_topics_find(&topics, STR("tight"));
    int wide = kafka_topics_find(&topics, STR("wide"));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(i > 0, kafka_topics_is_full(&topics, tight, 10 << 20));
        assert_false(kafka_topics_is_full(&topics, wide, 10 << 20));
    }
    kafka_topics_drained(&topics);
    assert_false(kafka_topics_is_full(&topics, tight, 1));
    kafka_topics_fini(&topics);
}

/* ---- how librdkafka waits (kafka_timers.c) ---- */

enum { TIMER_MS = 10, TIMERS = 40 };

static double ms_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Of CPU, for each of the timers that end within a while. */
static double ms_a_timer(void)
{
    double before = ms_of(CLOCK_PROCESS_CPUTIME_ID), began = ms_of(CLOCK_MONOTONIC);
    usleep(TIMERS * TIMER_MS * 1000);
    double timers = (ms_of(CLOCK_MONOTONIC) - began) / TIMER_MS;
    return (ms_of(CLOCK_PROCESS_CPUTIME_ID) - before) / timers;
}

static void the_last_millisecond_of_a_timer_is_slept_through(void **state)
{
    (void)state;
#ifndef BUSBAR_KAFKA_TIMERS
    skip(); /* librdkafka is linked as it is */
#endif
    char every[16], errstr[256];
    snprintf(every, sizeof every, "%d", TIMER_MS);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "topic.metadata.refresh.interval.ms", every, NULL, 0);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, errstr, sizeof errstr);
    assert_non_null(rk);
    double spent = ms_a_timer();
    for (int more = 2; more > 0 && spent > 0.125; more--)
        spent = ms_a_timer();
    rd_kafka_destroy(rk);
    assert_true(spent < 0.125); /* sleeping takes 0.03, spinning 0.2 to 1 */
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
        cmocka_unit_test(what_kafka_forbids_in_a_name_becomes_an_underscore),
        cmocka_unit_test(a_name_of_nothing_or_dots_is_made_one),
        cmocka_unit_test(names_too_long_are_cut_and_stay_different),
        cmocka_unit_test(a_name_of_full_length_is_left_alone),
        cmocka_unit_test(headers_tell_the_event_as_cloudevents_wants),
        cmocka_unit_test(headers_leave_out_what_would_be_empty),
        cmocka_unit_test(the_time_is_the_sources_where_it_gives_one),
        cmocka_unit_test(the_id_may_be_all_that_is_told),
        cmocka_unit_test(brokers_are_addresses_or_embedded),
        cmocka_unit_test(defaults_are_what_the_documentation_says),
        cmocka_unit_test(headers_are_all_the_id_or_none),
        cmocka_unit_test(templates_know_their_variables),
        cmocka_unit_test(properties_that_the_promises_hang_on_are_refused),
        cmocka_unit_test(unknown_properties_and_bad_values_are_found),
        cmocka_unit_test(properties_that_contradict_are_found),
        cmocka_unit_test(standby_needs_a_cluster_that_others_reach),
        cmocka_unit_test(a_password_never_shows),
        cmocka_unit_test(an_operator_overrides_defaults_but_not_promises),
        cmocka_unit_test(topics_are_found_by_name_up_to_their_limit),
        cmocka_unit_test(a_tight_topic_has_ever_less_under_way),
        cmocka_unit_test(a_tight_topic_stays_so_for_the_next_producer),
        cmocka_unit_test(the_last_millisecond_of_a_timer_is_slept_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
