/* test_redact.c - which values a path names, that they go, and that nothing else does. */
#include "bridge/own.h"
#include "bridge/redact.h"
#include "tests/unit/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `paths` is one or several, with a blank between them. */
static struct redact *make(const char *paths)
{
    char *text = mem_strdup(paths), *save = NULL;
    const char *items[REDACT_STEPS_MAX];
    struct setting_list list = {items, 0};
    struct redact *redact = NULL;
    struct err err = {ERR_INPUT, ""};
    for (char *p = strtok_r(text, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save))
        items[list.n++] = p;
    if (redact_new(&redact, &list, &err) != 0)
        fail_msg("%s", err.msg);
    free(text);
    return redact;
}

static void gives(const char *paths, const char *data, const char *wanted)
{
    struct redact *redact = make(paths);
    struct buf out = {0};
    bool replaced = redact_apply(redact, str_from(data), &out);
    const char *got = replaced ? buf_cstr(&out) : data;
    if (strcmp(got, wanted) != 0)
        fail_msg("%s of %s gives %s instead of %s", paths, data, got, wanted);
    assert_int_equal(replaced, strcmp(data, wanted) != 0);
    buf_fini(&out);
    redact_free(&redact);
}

static void replaces_a_value_of_any_type(void **state)
{
    (void)state;
    static const char *const values[] = {
        "\"s\"",        "\"\"", "12", "-0.5e+7", "true",
        "false",        "null", "{}", "[]",      "{\"a\":{\"b\":[1]}}",
        "[[],{},\"]\"]"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char data[128];
        snprintf(data, sizeof data, "{\"x\":1,\"a\":%s,\"y\":2}", values[i]);
        gives("$.a", data, "{\"x\":1,\"a\":\"[redacted]\",\"y\":2}");
        snprintf(data, sizeof data, "{\"a\":%s}", values[i]);
        gives("$..a", data, "{\"a\":\"[redacted]\"}");
    }
}

static void finds_members_and_elements(void **state)
{
    (void)state;
    const char *data = "{\"a\":[{\"b\":1},{\"b\":2,\"c\":[3]}],\"b\":4}";
    gives("$.a[1].b", data, "{\"a\":[{\"b\":1},{\"b\":\"[redacted]\",\"c\":[3]}],\"b\":4}");
    gives("$.a[*].b", data,
          "{\"a\":[{\"b\":\"[redacted]\"},{\"b\":\"[redacted]\",\"c\":[3]}],\"b\":4}");
    gives("$.a.*.b", data,
          "{\"a\":[{\"b\":\"[redacted]\"},{\"b\":\"[redacted]\",\"c\":[3]}],\"b\":4}");
    gives("$.a[2]", data, data);
    gives("$.a.b", data, data);
    gives("$.b[0]", data, data);
    gives("$.b.a", data, data);
    gives("$[0]", data, data);
    gives("$['a'][0]['b']", data, "{\"a\":[{\"b\":\"[redacted]\"},{\"b\":2,\"c\":[3]}],\"b\":4}");
    gives("$.*", data, "{\"a\":\"[redacted]\",\"b\":\"[redacted]\"}");
    gives("$[1]", "[1,2,3]", "[1,\"[redacted]\",3]");
    gives("$[10]", "[0,1,2,3,4,5,6,7,8,9,10,11]", "[0,1,2,3,4,5,6,7,8,9,\"[redacted]\",11]");
}

static void finds_at_any_depth(void **state)
{
    (void)state;
    gives("$..b", "{\"a\":[{\"b\":1},[{\"c\":{\"b\":2}}]],\"b\":{\"b\":3}}",
          "{\"a\":[{\"b\":\"[redacted]\"},[{\"c\":{\"b\":\"[redacted]\"}}]],\"b\":\"[redacted]\"}");
    gives("$.a..b", "{\"b\":1,\"a\":{\"b\":2,\"c\":[{\"b\":3}]}}",
          "{\"b\":1,\"a\":{\"b\":\"[redacted]\",\"c\":[{\"b\":\"[redacted]\"}]}}");
    gives("$..a..b", "{\"b\":1,\"a\":{\"a\":{\"b\":2}},\"c\":{\"b\":3}}",
          "{\"b\":1,\"a\":{\"a\":{\"b\":\"[redacted]\"}},\"c\":{\"b\":3}}");
    gives("$..a.b", "{\"a\":{\"x\":{\"b\":1},\"a\":{\"b\":2}},\"b\":3}",
          "{\"a\":{\"x\":{\"b\":1},\"a\":{\"b\":\"[redacted]\"}},\"b\":3}");
    gives("$..[1]", "{\"a\":[1,2],\"b\":[[3,4]]}",
          "{\"a\":[1,\"[redacted]\"],\"b\":[[3,\"[redacted]\"]]}");
    gives("$..*", "{\"a\":[1,2]}", "{\"a\":\"[redacted]\"}");
    gives("$..a.*", "{\"a\":{\"k\":\"v\",\"l\":null},\"b\":{\"a\":null}}",
          "{\"a\":{\"k\":\"[redacted]\",\"l\":\"[redacted]\"},\"b\":{\"a\":null}}");
}

static void takes_several_paths_that_share_steps(void **state)
{
    (void)state;
    const char *data = "{\"a\":{\"b\":1,\"c\":2,\"d\":{\"e\":3}},\"e\":4}";
    gives("$.a.b $.a.c", data,
          "{\"a\":{\"b\":\"[redacted]\",\"c\":\"[redacted]\",\"d\":{\"e\":3}},\"e\":4}");
    gives("$.a.b $.a", data, "{\"a\":\"[redacted]\",\"e\":4}");
    gives("$.a $.a.b", data, "{\"a\":\"[redacted]\",\"e\":4}");
    gives("$.a.d $..e $.a.d", data,
          "{\"a\":{\"b\":1,\"c\":2,\"d\":\"[redacted]\"},\"e\":\"[redacted]\"}");
    gives("$.a..e $.a.e", data, "{\"a\":{\"b\":1,\"c\":2,\"d\":{\"e\":\"[redacted]\"}},\"e\":4}");
}

static void compares_names_without_their_escapes(void **state)
{
    (void)state;
    gives("$.Env", "{\"\\u0045n\\u0076\":1}", "{\"\\u0045n\\u0076\":\"[redacted]\"}");
    gives("$['a\"b\\\\']", "{\"a\\\"b\\\\\":1}", "{\"a\\\"b\\\\\":\"[redacted]\"}");
    gives("$[\"a'b\\/\"]", "{\"a'b/\":1}", "{\"a'b/\":\"[redacted]\"}");
    gives("$['it\\'s']", "{\"it's\":1}", "{\"it's\":\"[redacted]\"}");
    gives("$['a.b']", "{\"a.b\":1,\"a\":{\"b\":2}}", "{\"a.b\":\"[redacted]\",\"a\":{\"b\":2}}");
    gives("$.\xc3\xa9", "{\"\\u00e9\":1,\"\xc3\xa9\":2}",
          "{\"\\u00e9\":\"[redacted]\",\"\xc3\xa9\":\"[redacted]\"}");
    gives("$['\\ud83d\\ude8c']", "{\"\xf0\x9f\x9a\x8c\":1,\"\\uD83D\\uDE8C\":2}",
          "{\"\xf0\x9f\x9a\x8c\":\"[redacted]\",\"\\uD83D\\uDE8C\":\"[redacted]\"}");
    gives("$['']", "{\"\":1}", "{\"\":\"[redacted]\"}");
    gives("$.a", "{\"a\\u0000\":1,\"A\":2,\"aa\":3,\"\":4}",
          "{\"a\\u0000\":1,\"A\":2,\"aa\":3,\"\":4}");
}

static void leaves_all_other_bytes_alone(void **state)
{
    (void)state;
    gives("$.s",
          " {\n\"n\" : 18446744073709551615 ,\t\"s\" : {\"x\":1} , "
          "\"f\":1.0e+02,\"u\":\"\\u003c\"} \r\n",
          " {\n\"n\" : 18446744073709551615 ,\t\"s\" : \"[redacted]\" , "
          "\"f\":1.0e+02,\"u\":\"\\u003c\"} \r\n");
    gives("$.a", "{\"a\":1,\"b\":2,\"a\":3}",
          "{\"a\":\"[redacted]\",\"b\":2,\"a\":\"[redacted]\"}");
    gives("$.a", "{\"b\":\"\\\"a\\\":1\",\"c\":\"a\"}", "{\"b\":\"\\\"a\\\":1\",\"c\":\"a\"}");
    gives("$..a", "{\"b\":\"{\\\"a\\\":1}\\\\\",\"c\":[\"a\",\"a\"]}",
          "{\"b\":\"{\\\"a\\\":1}\\\\\",\"c\":[\"a\",\"a\"]}");
    gives("$.a", "17", "17");
    gives("$..*", "\"text\"", "\"text\"");
    gives("$.aB", "{\"a\":1}", "{\"a\":1}"); /* two names of one hash */
    gives("$.a", "{}", "{}");
    gives("$[0]", "[]", "[]");
}

static void says_whether_anything_was_replaced(void **state)
{
    (void)state;
    struct redact *redact = make("$.a");
    struct buf out = {0};
    buf_append_cstr(&out, "old");
    assert_true(redact_apply(redact, STR("{\"a\":1}"), &out));
    assert_string_equal(buf_cstr(&out), "{\"a\":\"[redacted]\"}");
    assert_false(redact_apply(redact, STR("{\"b\":1}"), &out));
    assert_false(redact_apply(redact, STR(""), &out));
    assert_false(redact_apply(NULL, STR("{\"a\":1}"), &out));
    redact_free(&redact);
    redact_free(&redact);
    buf_fini(&out);
    struct setting_list none = {NULL, 0};
    assert_int_equal(redact_new(&redact, &none, NULL), 0);
    assert_null(redact);
}

/* What can't be walked might hide a value that has to go. */
static void lets_nothing_through_that_is_no_json(void **state)
{
    (void)state;
    static const char *const texts[] = {"{",
                                        "{\"a\"",
                                        "{\"a\":",
                                        "{\"a\":1",
                                        "{\"a\":1,",
                                        "{\"a\":1]",
                                        "{\"a\":1}}",
                                        "{\"a\":1}{\"a\":1}",
                                        "{\"b\":[",
                                        "{\"b\":[1,",
                                        "{\"b\":\"",
                                        "{\"b\":\"\\",
                                        "{b:1}",
                                        "{\"b\"=1}",
                                        "{\"b\" 1}",
                                        "{,}",
                                        "{\"b\":1,}",
                                        "[1,]",
                                        "[,1]",
                                        "{\"b\":{\"c",
                                        "{\"\\u00zz\":1}",
                                        "{\"\\ud800\":1}",
                                        "{\"\\x\":1}",
                                        "text of a server",
                                        "]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        gives("$..a $..[7]", texts[i], "\"[redacted]\"");
    }
}

enum { SHAPE_MAX = 512 };

/* `b` is an object or an array, `pad` blanks and `inner` in it. */
static void shape(char *out, size_t pad, const char *inner, const char *a)
{
    if (pad % 2 == 0)
        snprintf(out, SHAPE_MAX, "{\"b\":{\"c\":\"%*s\",\"d\":%s},\"a\":%s}", (int)pad, "", inner,
                 a);
    else
        snprintf(out, SHAPE_MAX, "{\"b\":[\"%*s\",%s],\"a\":%s}", (int)pad, "", inner, a);
}

static void give_nothing_when_cut(const char *data)
{
    for (size_t cut = 6; cut < strlen(data); cut += 7) {
        char *part = mem_strndup(data, cut);
        gives("$.a", part, "\"[redacted]\"");
        free(part);
    }
}

/* Passed over 64 bytes at a time: whatever stands at a block's edge, and in what is left behind the
 * last one. */
static void passes_over_containers_of_any_shape(void **state)
{
    (void)state;
    static const char *const inner[] = {
        "\"\"",         "\"\\\\\"",          "\"\\\"}\\\\\"",         "\"}]\",[\"{[\",{\"\":{}}]",
        "\"\\\\\\\\\"", "\"\\\\\\\"{\\\"\"", "[[[[]]],[{\"}\":[]}]]", "\"\\\\\\\\\\\"]\""};
    for (size_t pad = 0; pad < 140; pad++) {
        for (size_t i = 0; i < sizeof inner / sizeof *inner; i++) {
            char data[SHAPE_MAX], wanted[SHAPE_MAX];
            shape(data, pad, inner[i], "7");
            shape(wanted, pad, inner[i], "\"[redacted]\"");
            gives("$.a", data, wanted);
            gives("$.b", data, "{\"b\":\"[redacted]\",\"a\":7}");
            give_nothing_when_cut(data);
        }
    }
}

/* `n` times `open`, a value, `n` times `close`. */
static struct buf nested(size_t n, const char *open, const char *value, const char *close)
{
    struct buf b = {0};
    for (size_t i = 0; i < n; i++)
        buf_append_cstr(&b, open);
    buf_append_cstr(&b, value);
    for (size_t i = 0; i < n; i++)
        buf_append_cstr(&b, close);
    return b;
}

static void replaces_what_is_too_deep_to_be_searched(void **state)
{
    (void)state;
    struct redact *deep = make("$..b"), *exact = make("$.b");
    struct buf out = {0};
    struct buf within = nested(511, "[", "{\"b\":1}", "]");
    struct buf wanted = nested(511, "[", "{\"b\":\"[redacted]\"}", "]");
    assert_true(redact_apply(deep, buf_str(&within), &out));
    assert_true(str_eq(buf_str(&out), buf_str(&wanted)));
    struct buf beyond = nested(100000, "[", "{\"b\":1}", "]");
    buf_fini(&wanted);
    wanted = nested(512, "[", "\"[redacted]\"", "]");
    assert_true(redact_apply(deep, buf_str(&beyond), &out));
    assert_true(str_eq(buf_str(&out), buf_str(&wanted)));
    assert_false(redact_apply(exact, buf_str(&beyond), &out));
    redact_free(&deep);
    redact_free(&exact);
    buf_fini(&out);
    buf_fini(&within);
    buf_fini(&beyond);
    buf_fini(&wanted);
}

static void is_linear_in_a_huge_value(void **state)
{
    (void)state;
    struct redact *redact = make("$.Payload.Big $..[3].x.y $..Env");
    struct buf data = {0}, out = {0};
    buf_append_cstr(&data, "{\"Payload\":{\"Big\":\"");
    memset(buf_reserve(&data, 16 << 20), 'x', 16 << 20);
    data.len += 16 << 20;
    buf_append_cstr(&data, "\",\"Ints\":[");
    for (size_t i = 0; i < 1000000; i++)
        buf_append_cstr(&data, "[],");
    buf_append_cstr(&data, "0]}}");
    assert_true(redact_apply(redact, buf_str(&data), &out));
    assert_int_equal(out.len, data.len - (16 << 20) - 2 + strlen("\"[redacted]\""));
    redact_free(&redact);
    buf_fini(&data);
    buf_fini(&out);
}

static void reads_nothing_behind_the_bytes(void **state)
{
    (void)state;
    const char *data =
        "{\"a\":{\"b\":[1,\"t\\\"x\",{\"c\":true}]},\"\\u0062\":-1.5e7,\"Env\":null}";
    struct redact *redact = make("$..c $.a.b[1] $..Env");
    struct buf out = {0};
    for (size_t len = 1; len <= strlen(data); len++) {
        char *cut = mem_alloc(len); /* so that a sanitizer sees it */
        memcpy(cut, data, len);
        assert_true(redact_apply(redact, (struct str){cut, len}, &out));
        assert_int_equal(str_is(buf_str(&out), "\"[redacted]\""), len < strlen(data));
        free(cut);
    }
    buf_fini(&out);
    redact_free(&redact);
}

/* ---- paths ---- */

static void takes_the_paths_it_documents(void **state)
{
    (void)state;
    static const char *const good[] = {
        "$.a",        "$..a",         "$.a.b_c1",       "$._x",       "$.*",
        "$..*",       "$[0]",         "$[*]",           "$..[*]",     "$..['a']",
        "$[\"a b\"]", "$['\\u00e9']", "$.a[999999999]", "$.\xc3\xa9", "$['$.a']",
        "$.a['b'].c", "$.a[0][1][2]", "$['']",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (redact_check_path(good[i]) != NULL)
            fail_msg("%s: expected %s", good[i], redact_check_path(good[i]));
}

static void refuses_other_paths_and_says_what_it_expects(void **state)
{
    (void)state;
    static const struct {
        const char *path, *expected;
    } bad[] = {
        {"", "begins with $"},
        {"Env", "begins with $"},
        {".Env", "begins with $"},
        {"$", "a step behind"},
        {"$Env", "a dot or a bracket"},
        {"$.", "a name, * or ["},
        {"$..", "a name, * or ["},
        {"$...a", "a name, * or ["},
        {"$.1a", "a name, * or ["},
        {"$.[0]", "a name, * or ["},
        {"$.a-b", "['a-b']"},
        {"$.a b", "['a-b']"},
        {"$.a.", "a name, * or ["},
        {"$.a$", "['a-b']"},
        {"$.*a", "a dot or a bracket"},
        {"$[", "a quoted name"},
        {"$[]", "a quoted name"},
        {"$[a]", "a quoted name"},
        {"$[-1]", "a quoted name"},
        {"$[01]", "without zeros"},
        {"$[1000000000]", "at most 999999999"},
        {"$[0", "one selector"},
        {"$[0:2]", "one selector"},
        {"$['a','b']", "one selector"},
        {"$['a'", "one selector"},
        {"$['a]", "ends with its quote"},
        {"$['a\"]", "ends with its quote"},
        {"$['\\x']", "an escape"},
        {"$['\\ud800']", "an escape"},
        {"$['\\udc00\\udc00']", "an escape"},
        {"$[\"\\'\"]", "an escape"},
        {"$['\\", "an escape"},
        {"$[?@.a]", "a quoted name"},
        {"$.a[0]b", "a dot or a bracket"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *expected = redact_check_path(bad[i].path);
        if (expected == NULL || strstr(expected, bad[i].expected) == NULL)
            fail_msg("%s: expected %s", bad[i].path, expected != NULL ? expected : "nothing");
        struct redact *redact = NULL;
        struct err err = {ERR_FATAL, ""};
        struct setting_list list = {&bad[i].path, 1};
        assert_int_equal(redact_new(&redact, &list, &err), -1);
        assert_null(redact);
        assert_int_equal(err.kind, ERR_INPUT);
        assert_non_null(strstr(err.msg, bad[i].expected));
    }
}

static void refuses_a_name_that_is_too_long(void **state)
{
    (void)state;
    char path[300] = "$.";
    memset(path + 2, 'n', 256);
    assert_non_null(strstr(redact_check_path(path), "255 bytes"));
    path[257] = '\0';
    assert_null(redact_check_path(path));
}

/* `n` paths of one step each behind a step that all share, but for the first, which has none. */
static int make_many(size_t n, struct err *err)
{
    char(*texts)[32] = mem_alloc(n * sizeof *texts);
    const char **items = mem_alloc(n * sizeof *items);
    struct redact *redact = NULL;
    for (size_t i = 0; i < n; i++) {
        snprintf(texts[i], sizeof *texts, "$.shared.n%zu", i);
        items[i] = texts[i];
    }
    items[0] = "$.shared";
    int rc = redact_new(&redact, &(struct setting_list){items, n}, err);
    if (rc == 0) {
        struct buf out = {0};
        assert_true(redact_apply(redact, STR("{\"shared\":{\"n63\":1}}"), &out));
        buf_fini(&out);
    }
    redact_free(&redact);
    free(items);
    free(texts);
    return rc;
}

static void has_room_for_64_steps(void **state)
{
    (void)state;
    struct err err = {ERR_FATAL, ""};
    assert_int_equal(make_many(64, &err), 0);
    assert_int_equal(make_many(65, &err), -1);
    assert_int_equal(err.kind, ERR_INPUT);
    assert_string_equal(err.msg, "more than 64 steps in all paths: expected fewer");
}

/* ---- events ---- */

static void takes_the_raw_bytes_out_of_malformed_events(void **state)
{
    (void)state;
    struct redact *redact = make("$..Env $.Payload.Reason");
    struct buf payload = {0}, data = {0}, out = {0};
    own_malformed_payload(&payload, STR("{\"secret"), 8, "why");
    own_render(&data, "Malformed", STR("prod"), 7, buf_str(&payload));
    struct event event = own_event("Malformed", STR("prod"), buf_str(&data));
    assert_false(redact_event(redact, &event, &out)); /* Busbar's own words */
    event.origin = EVENT_MALFORMED;
    assert_false(redact_event(NULL, &event, &out));
    assert_true(redact_event(redact, &event, &out));
    assert_string_equal(buf_cstr(&out),
                        "{\"Topic\":\"Busbar\",\"Type\":\"Malformed\",\"Key\":\"prod\","
                        "\"Namespace\":\"\",\"Index\":7,"
                        "\"Payload\":{\"Reason\":\"[redacted]\",\"Size\":8,\"Truncated\":false,"
                        "\"Base64\":\"[redacted]\"}}");
    event.origin = EVENT_SOURCE;
    assert_true(redact_event(redact, &event, &out));
    assert_null(strstr(buf_cstr(&out), "\"Base64\":\"[redacted]\""));
    redact_free(&redact);
    redact = make("$.Payload");
    event.origin = EVENT_MALFORMED;
    assert_true(redact_event(redact, &event, &out));
    assert_non_null(strstr(buf_cstr(&out), "\"Payload\":\"[redacted]\"}"));
    redact_free(&redact);
    buf_fini(&payload);
    buf_fini(&data);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaces_a_value_of_any_type),
        cmocka_unit_test(finds_members_and_elements),
        cmocka_unit_test(finds_at_any_depth),
        cmocka_unit_test(takes_several_paths_that_share_steps),
        cmocka_unit_test(compares_names_without_their_escapes),
        cmocka_unit_test(leaves_all_other_bytes_alone),
        cmocka_unit_test(says_whether_anything_was_replaced),
        cmocka_unit_test(lets_nothing_through_that_is_no_json),
        cmocka_unit_test(passes_over_containers_of_any_shape),
        cmocka_unit_test(replaces_what_is_too_deep_to_be_searched),
        cmocka_unit_test(is_linear_in_a_huge_value),
        cmocka_unit_test(reads_nothing_behind_the_bytes),
        cmocka_unit_test(takes_the_paths_it_documents),
        cmocka_unit_test(refuses_other_paths_and_says_what_it_expects),
        cmocka_unit_test(refuses_a_name_that_is_too_long),
        cmocka_unit_test(has_room_for_64_steps),
        cmocka_unit_test(takes_the_raw_bytes_out_of_malformed_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
