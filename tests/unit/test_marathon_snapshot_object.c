/* test_marathon_snapshot_object.c - objects of Marathon's API made Snapshots. */
#include "bridge/base/clock.h"
#include "connectors/marathon/marathon_snapshot_object.h"
#include "tests/unit/check.h"

#include <stdio.h>
#include <string.h>

/* 2026-11-21T18:37:00.504Z */
static const int64_t asked_us = INT64_C(1795286220504) * 1000;

static const struct marathon_topic *topic(const char *name)
{
    const struct marathon_topic *t = marathon_topics;
    while (strcmp(t->name, name) != 0)
        t++;
    return t;
}

static void gives(const char *name, const char *raw, const char *key, const char *data)
{
    struct marathon_object o = {.topic = NULL};
    struct err err;
    if (marathon_object_read(&o, topic(name), str_from(raw), &err) != 0)
        fail_msg("%s: %s", raw, err.msg);
    marathon_object_event(&o, asked_us + 678);
    assert_true(str_is(o.event.topic, name));
    assert_true(str_is(o.event.type, "Snapshot"));
    assert_true(str_is(o.event.key, key));
    assert_int_equal(o.event.ns.len, 0);
    assert_int_equal(o.event.filter_keys.len, 0);
    assert_int_equal(o.event.time_us, asked_us);
    buf_cstr(&o.data);
    assert_string_equal(o.data.p, data);
    marathon_object_fini(&o);
}

#define END ",\"eventType\":\"Snapshot\",\"timestamp\":\"2026-11-21T18:37:00.504Z\"}"

static void objects_are_told_byte_for_byte(void **state)
{
    (void)state;
    const char *app = "{ \"id\":\"/t/\\u0063md\",\"n\":12345678901234567890,\n\"tasks\":[{\"id\":"
                      "\"x\"}]}";
    char data[256];
    snprintf(data, sizeof data, "{\"appDefinition\":%s" END, app);
    gives("App", app, "/t/cmd", data);
    gives("Pod", "{\"id\":\"/p\"}", "/p", "{\"pod\":{\"id\":\"/p\"}" END);
    gives("Deployment", "{\"id\":\"a-b\"}", "a-b", "{\"plan\":{\"id\":\"a-b\"}" END);
}

static uint64_t index_of(const char *name, const char *raw)
{
    struct marathon_object o = {.topic = NULL};
    struct err err;
    assert_int_equal(marathon_object_read(&o, topic(name), str_from(raw), &err), 0);
    uint64_t index = o.event.index;
    marathon_object_fini(&o);
    return index;
}

static void the_index_is_when_it_was_modified_last(void **state)
{
    (void)state;
    char ahead[128], text[CLOCK_TEXT_MAX];
    uint64_t ms = 1603391761123;
    assert_int_equal(index_of("App", "{\"id\":\"/a\",\"version\":\"2020-10-22T18:36:01.123Z\"}"),
                     ms);
    assert_int_equal(index_of("Pod", "{\"lastChanged\":\"2020-10-22T18:36:01.123Z\",\"id\":\"/"
                                     "a\",\"version\":\"x\"}"),
                     ms);
    assert_int_equal(index_of("App", "{\"id\":\"/a\"}"), 0);
    assert_int_equal(index_of("App", "{\"id\":\"/a\",\"version\":7}"), 0);
    assert_int_equal(index_of("App", "{\"id\":\"/a\",\"version\":\"yesterday\"}"), 0);
    clock_format(clock_wall_us() + INT64_C(2) * 86400 * 1000000, text);
    snprintf(ahead, sizeof ahead, "{\"id\":\"/a\",\"version\":\"%s\"}", text);
    assert_int_equal(index_of("App", ahead), 0);
}

static void fails(const char *raw, enum err_kind kind, const char *why)
{
    struct marathon_object o = {.topic = NULL};
    struct err err;
    assert_int_equal(marathon_object_read(&o, topic("App"), str_from(raw), &err), -1);
    assert_int_equal(err.kind, kind);
    if (strstr(err.msg, why) == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", raw, err.msg, why);
    marathon_object_fini(&o);
}

static void what_is_no_object_with_an_id_is_refused(void **state)
{
    (void)state;
    fails("{\"x\":1}", ERR_INPUT, "no \"id\"");
    fails("{\"id\":7}", ERR_INPUT, "no \"id\"");
    fails("{\"id\":\"\"}", ERR_INPUT, "no \"id\"");
    fails("{\"in\":{\"id\":\"/a\"}}", ERR_INPUT, "no \"id\"");
    fails("[\"id\"]", ERR_INPUT, "not an object");
    fails("7", ERR_INPUT, "not an object");
    fails("{\"id\":\"/a\"", ERR_RETRY, "not JSON");
    fails("{\"id\":\"/a\"} {}", ERR_RETRY, "not JSON");
    fails("{\"id\":\"/\xff\"}", ERR_RETRY, "not JSON");
    fails("", ERR_RETRY, "not JSON");
}

static void of_a_groups_members_the_ids_are_told(void **state)
{
    (void)state;
    gives("Group", "{\"id\":\"/t\", \"dependencies\":[\"/x\"],\"version\":\"v\"}", "/t",
          "{\"group\":{\"id\":\"/t\", \"dependencies\":[\"/x\"],\"version\":\"v\"}" END);
    gives("Group",
          "{\"id\":\"/t\",\"groups\":[{\"groups\":[{\"id\":\"/t/a/b\"}],\"id\":\"/t/a\",\"n\":1}, "
          "{\"id\":\"/t/\\u0062\"}],\"apps\":[],\"pods\":null,\"z\":1}",
          "/t",
          "{\"group\":{\"id\":\"/t\",\"groups\":[{\"id\":\"/t/a\"},{\"id\":\"/t/"
          "\\u0062\"}],\"apps\":[],\"pods\":null,\"z\":1}" END);
    gives("Group", "{\"id\":\"/\",\"apps\":[{\"id\":\"/a\",\"cmd\":\"x\"},7,{}]}", "/",
          "{\"group\":{\"id\":\"/\",\"apps\":[{\"id\":\"/a\"},7,{\"id\":null}]}" END);
}

/* ---- trees ---- */

static int note(void *arg, struct str group, struct err *err)
{
    (void)err;
    buf_append_str(arg, group);
    buf_append_char(arg, '\n');
    return 0;
}

static void a_tree_is_taken_group_by_group(void **state)
{
    (void)state;
    struct buf text = {0};
    struct err err;
    struct str tree = STR("{\"id\":\"/\",\"groups\":[{\"id\":\"/a\",\"groups\":[{\"id\":\"/a/b\"}]}"
                          ",{\"id\":\"/c\"}],\"apps\":[{\"groups\":[{\"id\":\"no\"}]}]}");
    assert_int_equal(marathon_groups_walk(tree, note, &text, &err), 0);
    const char *expected = "\n{\"id\":\"/a\",\"groups\":[{\"id\":\"/a/b\"}]}\n{\"id\":\"/c\"}\n"
                           "{\"id\":\"/a/b\"}\n";
    assert_memory_equal(text.p, tree.p, tree.len);
    assert_string_equal(buf_cstr(&text) + tree.len, expected);
    buf_fini(&text);
}

static void what_is_no_tree_is_refused(void **state)
{
    (void)state;
    struct err err;
    struct buf text = {0};
    const char *wrong[] = {"", "[]", "{", "{\"id\":\"/\"} x", "{\"groups\":[7]}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(marathon_groups_walk(str_from(wrong[i]), note, &text, &err), -1);
        assert_int_equal(err.kind, ERR_RETRY);
    }
    buf_fini(&text);
}

static void a_deep_tree_is_walked_without_recursion(void **state)
{
    (void)state;
    struct buf tree = {0}, text = {0};
    struct err err;
    for (int i = 0; i < 200; i++)
        buf_append_cstr(&tree, "{\"id\":\"/\",\"groups\":[");
    for (int i = 0; i < 200; i++)
        buf_append_cstr(&tree, "]}");
    assert_int_equal(marathon_groups_walk(buf_str(&tree), note, &text, &err), 0);
    buf_clear(&tree);
    for (int i = 0; i < 300; i++) /* 600 containers */
        buf_append_cstr(&tree, "{\"id\":\"/\",\"groups\":[");
    for (int i = 0; i < 300; i++)
        buf_append_cstr(&tree, "]}");
    assert_int_equal(marathon_groups_walk(buf_str(&tree), note, &text, &err), -1);
    buf_fini(&tree);
    buf_fini(&text);
}

static void a_members_value_is_found(void **state)
{
    (void)state;
    struct str value;
    struct err err;
    assert_int_equal(marathon_member(STR("{\"x\":1,\"app\": {\"id\":2} }"), "app", &value, &err),
                     0);
    assert_true(str_is(value, "{\"id\":2}"));
    assert_int_equal(marathon_member(STR("{\"x\":1}"), "app", &value, &err), -1);
    assert_int_equal(marathon_member(STR("{\"app\":1"), "app", &value, &err), -1);
    assert_int_equal(marathon_member(STR("[]"), "app", &value, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_told_byte_for_byte),
        cmocka_unit_test(the_index_is_when_it_was_modified_last),
        cmocka_unit_test(what_is_no_object_with_an_id_is_refused),
        cmocka_unit_test(of_a_groups_members_the_ids_are_told),
        cmocka_unit_test(a_tree_is_taken_group_by_group),
        cmocka_unit_test(what_is_no_tree_is_refused),
        cmocka_unit_test(a_deep_tree_is_walked_without_recursion),
        cmocka_unit_test(a_members_value_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
