/* test_nomad_line.c - a line of Nomad's stream gives its events, verbatim, or a reason. */
#include "connectors/nomad_line.h"
#include "tests/fuzz/nomad_oracle.h"
#include "tests/unit/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void reads_every_line_of_a_real_stream(void **state)
{
    (void)state;
    struct buf file = fixture_read("nomad/capture.ndjson");
    struct nomad_line line;
    struct err err;
    size_t n_events = 0, n_heartbeats = 0;
    nomad_line_init(&line);
    const char *p = file.p, *end = file.p + file.len, *lf;
    for (; p < end && (lf = memchr(p, '\n', (size_t)(end - p))) != NULL; p = lf + 1) {
        struct str raw = {p, (size_t)(lf - p)};
        if (nomad_line_parse(&line, raw, &err) < 0)
            fail_msg("%s: %.*s", err.msg, STR_ARG(raw));
        const char *wrong = nomad_oracle_compare(&line, raw);
        if (wrong != NULL)
            fail_msg("%s: %.*s", wrong, STR_ARG(raw));
        assert_int_equal(line.heartbeat, str_is(raw, "{}"));
        for (size_t i = 0; i < line.n_events; i++)
            assert_int_equal(line.events[i].index, line.index);
        n_events += line.n_events;
        n_heartbeats += line.heartbeat;
    }
    assert_true(n_events > 500 && n_heartbeats > 0);
    nomad_line_fini(&line);
    buf_fini(&file);
}

static void takes_members_in_any_order_and_passes_unknown_ones(void **state)
{
    (void)state;
    struct str raw =
        STR(" {\"New\":{\"Events\":[{}]},\"Index\":18446744073709551615,\"Events\":[ "
            "{\"Type\":\"JobRegistered\","
            "\"Topic\":\"Job\",\"Extra\":[1],\"Key\":\"web\",\"Index\":7,\"Namespace\":\"default\","
            "\"FilterKeys\":[\"a\",\"b:c\"],\"Payload\":{\"Topic\":\"no\",\"x\":\"}]\"}} ,"
            "{\"Index\":8,\"Key\":\"\",\"Topic\":\"T\",\"Type\":\"\"}],\"More\":null}\r");
    struct nomad_line line = {0};
    struct str key, rest;
    assert_int_equal(nomad_line_parse(&line, raw, NULL), 0);
    assert_int_equal(line.index, UINT64_MAX);
    assert_int_equal(line.n_events, 2);
    assert_false(line.heartbeat);
    const struct found_event *first = &line.events[0], *second = &line.events[1];
    assert_true(str_is(first->topic, "Job") && str_is(first->type, "JobRegistered"));
    assert_true(str_is(first->key, "web") && str_is(first->ns, "default") && first->index == 7);
    assert_true(str_is((struct str){first->data.p, 7}, "{\"Type\""));
    assert_true(str_is((struct str){first->data.p + first->data.len - 4, 4}, "]\"}}"));
    rest = first->filter_keys;
    assert_true(event_next_filter_key(&rest, &key) && str_is(key, "a"));
    assert_true(event_next_filter_key(&rest, &key) && str_is(key, "b:c"));
    assert_false(event_next_filter_key(&rest, &key));
    assert_true(second->ns.p != NULL && second->filter_keys.p != NULL);
    assert_true(second->key.len == 0 && second->ns.len == 0 && second->filter_keys.len == 0);
    assert_true(second->index == 8 && second->time_us == 0);
    nomad_line_fini(&line);
}

static void tells_heartbeats_from_lines_without_events(void **state)
{
    (void)state;
    const struct {
        struct str raw;
        bool heartbeat;
        uint64_t index;
    } rows[] = {
        {STR("{}"), true, 0},
        {STR(" { } \r"), true, 0},
        {STR("{\"Events\":null,\"Index\":0}"), true, 0},
        {STR("{\"Events\":[],\"Index\":12}"), false, 12},
        {STR("{\"Events\":null,\"Index\":12}"), false, 12},
        {STR("{\"Index\":12}"), false, 12},
        {STR(""), false, 0},
        {STR(" \r"), false, 0},
    };
    struct nomad_line line = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(nomad_line_parse(&line, rows[i].raw, NULL), 0);
        assert_int_equal(line.heartbeat, rows[i].heartbeat);
        assert_int_equal(line.index, rows[i].index);
        assert_int_equal(line.n_events, 0);
    }
    nomad_line_fini(&line);
}

static void a_line_without_an_index_has_that_of_its_last_event(void **state)
{
    (void)state;
    struct nomad_line line = {0};
    struct str raw = STR("{\"Events\":[{\"Topic\":\"T\",\"Type\":\"t\",\"Key\":\"k\",\"Index\":4},"
                         "{\"Topic\":\"T\",\"Type\":\"t\",\"Key\":\"k\",\"Index\":5}]}");
    assert_int_equal(nomad_line_parse(&line, raw, NULL), 0);
    assert_int_equal(line.index, 5);
    nomad_line_fini(&line);
}

#define GOOD "{\"Topic\":\"T\",\"Type\":\"t\",\"Key\":\"k\",\"Index\":4}"

static void says_what_is_wrong_with_a_line(void **state)
{
    (void)state;
    const struct {
        struct str raw;
        const char *wrong;
        bool not_json;
    } rows[] = {
        {STR("{\"Events\":[" GOOD "," GOOD ",{\"Type\":\"t\",\"Key\":\"k\",\"Index\":4}]}"),
         "event 3: \"Topic\" is missing", false},
        {STR("{\"Events\":[{\"Topic\":\"T\",\"Key\":\"k\",\"Index\":4}]}"),
         "event 1: \"Type\" is missing", false},
        {STR("{\"Events\":[{\"Topic\":\"T\",\"Type\":\"t\",\"Index\":4}]}"),
         "event 1: \"Key\" is missing", false},
        {STR("{\"Events\":[{\"Topic\":\"T\",\"Type\":\"t\",\"Key\":\"k\"}],\"Index\":4}"),
         "event 1: \"Index\" is missing", false},
        {STR("{\"Events\":[{\"Topic\":1}]}"), "event 1: \"Topic\" is not a string", false},
        {STR("{\"Events\":[{\"Type\":null}]}"), "event 1: \"Type\" is not a string", false},
        {STR("{\"Events\":[{\"Key\":[]}]}"), "event 1: \"Key\" is not a string", false},
        {STR("{\"Events\":[{\"Namespace\":{}}]}"), "event 1: \"Namespace\" is not a string", false},
        {STR("{\"Events\":[{\"Index\":\"4\"}]}"), "event 1: \"Index\" is not an unsigned integer",
         false},
        {STR("{\"Events\":[{\"Index\":-4}]}"), "event 1: \"Index\" is not an unsigned integer",
         false},
        {STR("{\"Events\":[{\"FilterKeys\":[1]}]}"),
         "event 1: \"FilterKeys\" is not an array of strings", false},
        {STR("{\"Events\":[{\"FilterKeys\":\"a\"}]}"),
         "event 1: \"FilterKeys\" is not an array of strings", false},
        {STR("{\"Events\":[" GOOD ",null]}"), "event 2: not an object", false},
        {STR("{\"Events\":{}}"), "\"Events\" is not an array", false},
        {STR("{\"Events\":[" GOOD "],\"Events\":[]}"), "\"Events\" stands twice", false},
        {STR("{\"Index\":1.5}"), "\"Index\" is not an unsigned integer", false},
        {STR("{\"Index\":18446744073709551616}"), "\"Index\" is not an unsigned integer", false},
        {STR("{\"Error\":\"no\"}"), "neither \"Events\" nor \"Index\" in it", false},
        {STR("[]"), "not an object", false},
        {STR("null"), "not an object", false},
        {STR("Permission denied"), "byte 0: not a value", true},
        {STR("event dropped from buffer"), "byte 0: not a value", true},
        {STR("null and void"), "byte 5: more text behind the value", true},
        {STR("{}{}"), "byte 2: more text behind the value", true},
        {STR("{\"Events\":[" GOOD), "byte 55: neither a comma nor the closing bracket", true},
        {STR("{\"Events\":[{\"Payload\":{\"a\":\"\t\"}}]}"),
         "event 1: byte 28: a control character in a string", true},
        {STR("{\"Events\":[{\"Topic\":\"\xff\"}]}"), "event 1: byte 21: bytes that are not UTF-8",
         true},
        {STR("{\"Events\":["), "event 1: byte 11: the text ends before a value", true},
        {STR("{\"Events\":[{\"FilterKeys\":[\"a\",}]}"), "event 1: byte 30: not a value", true},
    };
    struct nomad_line line = {0};
    struct err err;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        err = (struct err){0};
        assert_int_equal(nomad_line_parse(&line, rows[i].raw, &err), -1);
        assert_string_equal(err.msg, rows[i].wrong);
        assert_int_equal(err.kind, ERR_INPUT);
        assert_int_equal(line.not_json, rows[i].not_json);
        assert_true(line.n_events == 0 && line.index == 0 && !line.heartbeat);
    }
    assert_int_equal(nomad_line_parse(&line, STR("{}"), NULL), 0);
    assert_false(line.not_json);
    nomad_line_fini(&line);
}

static void unescapes_names_and_strings(void **state)
{
    (void)state;
    struct str raw =
        STR("{\"E\\u0076ents\":[{\"\\u0054opic\":\"J\\u006fb\",\"T\\u0079pe\":\"\\u003ct\\u003e\","
            "\"K\\u0065y\":\"a\\/b \\ud83d\\ude00\",\"Namespac\\u0065\":\"\\u0000\","
            "\"FilterKe\\u0079s\":[\"\\n\",\"plain\",\"\\\"\"],\"\\u0049ndex\":4}],"
            "\"Ind\\u0065x\":9}");
    struct nomad_line line = {0};
    struct str key;
    assert_int_equal(nomad_line_parse(&line, raw, NULL), 0);
    assert_int_equal(line.n_events, 1);
    const struct found_event *event = &line.events[0];
    assert_true(str_is(event->topic, "Job") && str_is(event->type, "<t>"));
    assert_true(str_is(event->key, "a/b \xf0\x9f\x98\x80") && str_eq(event->ns, STR("\0")));
    struct str rest = event->filter_keys;
    assert_true(event_next_filter_key(&rest, &key) && str_is(key, "\n"));
    assert_true(event_next_filter_key(&rest, &key) && str_is(key, "plain"));
    assert_true(event_next_filter_key(&rest, &key) && str_is(key, "\""));
    assert_false(event_next_filter_key(&rest, &key));
    assert_true(line.index == 9 && event->index == 4);
    nomad_line_fini(&line);
}

static void a_member_told_twice_counts_as_told_last(void **state)
{
    (void)state;
    struct str raw =
        STR("{\"Events\":[{\"Topic\":\"A\",\"Topic\":\"B\",\"Type\":\"t\",\"Key\":\"k\","
            "\"Index\":1,\"Index\":2,\"FilterKeys\":[\"a\",\"b\"],\"FilterKeys\":[\"c\"],"
            "\"Namespace\":\"n\",\"Namespace\":null}]}");
    struct nomad_line line = {0};
    assert_int_equal(nomad_line_parse(&line, raw, NULL), 0);
    assert_true(str_is(line.events[0].topic, "B") && line.events[0].index == 2);
    assert_null(nomad_oracle_compare(&line, raw));
    nomad_line_fini(&line);
}

/* Every string of every event escaped, so that all are in the buffer while it fills. */
static void views_stay_valid_while_a_line_of_escapes_is_read(void **state)
{
    (void)state;
    struct buf raw = {0};
    struct nomad_line line = {0};
    enum { EVENTS = 20000 };
    buf_append_cstr(&raw, "{\"Events\":[");
    for (int i = 0; i < EVENTS; i++)
        buf_printf(&raw,
                   "%s{\"Topic\":\"\\u0054%d\",\"Type\":\"\\n%d\",\"Key\":\"\\/%d\",\"Index\":%d,"
                   "\"FilterKeys\":[\"\",\"\",\"\\t\",\"%d\"]}",
                   i > 0 ? "," : "", i, i, i, i, i);
    buf_append_cstr(&raw, "]}");
    assert_int_equal(nomad_line_parse(&line, buf_str(&raw), NULL), 0);
    assert_int_equal(line.n_events, EVENTS);
    assert_null(nomad_oracle_compare(&line, buf_str(&raw)));
    nomad_line_fini(&line);
    buf_fini(&raw);
}

/* The densest line there can be for the buffer: nothing but empty filter keys. */
static void a_line_of_empty_filter_keys_fits(void **state)
{
    (void)state;
    struct nomad_line line = {0};
    for (int n = 0; n < 3000; n += n < 300 ? 1 : 100) {
        struct buf raw = {0};
        buf_append_cstr(&raw, "{\"Events\":[{\"Topic\":\"\",\"Type\":\"\",\"Key\":\"\",\"Index\":0,"
                              "\"FilterKeys\":[");
        for (int i = 0; i < n; i++)
            buf_append_cstr(&raw, i > 0 ? ",\"\"" : "\"\"");
        buf_append_cstr(&raw, "]}]}");
        assert_int_equal(nomad_line_parse(&line, buf_str(&raw), NULL), 0);
        assert_null(nomad_oracle_compare(&line, buf_str(&raw)));
        buf_fini(&raw);
    }
    nomad_line_fini(&line);
}

static void gives_memory_back_after_a_huge_line(void **state)
{
    (void)state;
    struct nomad_line line = {0};
    struct buf raw = {0};
    enum { EVENTS = 100000 };
    buf_append_cstr(&raw, "{\"Events\":[");
    for (int i = 0; i < EVENTS; i++)
        buf_printf(&raw, "%s" GOOD, i > 0 ? "," : "");
    buf_append_cstr(&raw, "]}");
    assert_int_equal(nomad_line_parse(&line, buf_str(&raw), NULL), 0);
    assert_int_equal(line.n_events, EVENTS);
    assert_true(line.events_cap >= EVENTS);
    assert_int_equal(nomad_line_parse(&line, STR("{\"Events\":[" GOOD "]}"), NULL), 0);
    assert_int_equal(line.n_events, 1);
    assert_true(line.events_cap < 1000 && line.text.cap < 4096);
    nomad_line_fini(&line);
    nomad_line_fini(&line);
    buf_fini(&raw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_line_of_a_real_stream),
        cmocka_unit_test(takes_members_in_any_order_and_passes_unknown_ones),
        cmocka_unit_test(tells_heartbeats_from_lines_without_events),
        cmocka_unit_test(a_line_without_an_index_has_that_of_its_last_event),
        cmocka_unit_test(says_what_is_wrong_with_a_line),
        cmocka_unit_test(unescapes_names_and_strings),
        cmocka_unit_test(a_member_told_twice_counts_as_told_last),
        cmocka_unit_test(views_stay_valid_while_a_line_of_escapes_is_read),
        cmocka_unit_test(a_line_of_empty_filter_keys_fits),
        cmocka_unit_test(gives_memory_back_after_a_huge_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
