/* test_kafka.c - the Kafka sink without a Kafka: names, headers, settings, topics' limits. */
#include "bridge/base/hash.h"
#include "connectors/kafka/kafka.h"
#include "connectors/kafka/kafka_headers.h"
#include "connectors/kafka/kafka_name.h"
#include "connectors/kafka/kafka_settings.h"
#include "connectors/kafka/kafka_topics.h"
#include "tests/unit/settings_kit.h"

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

static void the_cached_time_reads_like_the_clocks(void **state)
{
    (void)state;
    static const int64_t times[] = {
        0,  1,       999,     1000,        999999,  1000000, INT64_C(1700000000123456),
        -1, -999999, 1000001, -1000000000, 5999999, 1000,    INT64_C(1700000000120000),
    };
    struct kafka_headers h = {0};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char expected[CLOCK_TEXT_MAX];
        clock_format(times[i], expected);
        struct str got = kafka_headers_time(&h, times[i]);
        assert_int_equal(got.len, strlen(expected));
        assert_memory_equal(got.p, expected, got.len);
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
    assert_true(kafka_settings_is_embedded(&out));
    settings_free(&s);
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
        cmocka_unit_test(the_cached_time_reads_like_the_clocks),
        cmocka_unit_test(brokers_are_addresses_or_embedded),
        cmocka_unit_test(defaults_are_what_the_documentation_says),
        cmocka_unit_test(templates_know_their_variables),
        cmocka_unit_test(properties_that_the_promises_hang_on_are_refused),
        cmocka_unit_test(unknown_properties_and_bad_values_are_found),
        cmocka_unit_test(properties_that_contradict_are_found),
        cmocka_unit_test(a_password_never_shows),
        cmocka_unit_test(an_operator_overrides_defaults_but_not_promises),
        cmocka_unit_test(topics_are_found_by_name_up_to_their_limit),
        cmocka_unit_test(a_tight_topic_has_ever_less_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
