/* test_nomad_snapshot_object.c - an object of the HTTP API made an event of the stream's shape. */
#include "connectors/json_scan.h"
#include "connectors/nomad/nomad_snapshot_object.h"
#include "tests/unit/check.h"

#include "bridge/event.h"

#include <string.h>

static const struct snapshot_topic *topic_of(const char *name)
{
    for (const struct snapshot_topic *t = snapshot_topics; t->name != NULL; t++)
        if (strcmp(t->name, name) == 0)
            return t;
    fail_msg("no topic %s", name);
    return NULL;
}

static struct snapshot_object object;
static struct err err;

static int read_it(const char *topic, const char *raw)
{
    return snapshot_object_read(&object, topic_of(topic), str_from(raw), &err);
}

static void assert_event(const char *topic, const char *raw, const char *event)
{
    struct json_scan scan;
    assert_int_equal(read_it(topic, raw), 0);
    snapshot_object_event(&object);
    struct buf copy = {0};
    buf_append_str(&copy, object.event.data);
    assert_string_equal(buf_cstr(&copy), event);
    json_scan_init(&scan, buf_str(&copy));
    assert_true(json_scan_skip(&scan, NULL) && json_scan_end(&scan));
    buf_fini(&copy);
}

static void assert_unreadable(const char *topic, const char *raw, const char *why)
{
    assert_int_equal(read_it(topic, raw), -1);
    assert_int_equal(err.kind, ERR_INPUT);
    if (strstr(err.msg, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.msg, why);
}

static int tear_down(void **state)
{
    (void)state;
    snapshot_object_fini(&object);
    return 0;
}

static void is_put_together_from_the_apis_own_bytes(void **state)
{
    (void)state;
    assert_event(
        "Job",
        "{\"Name\":\"w\\u00e9\\/b\", \"ID\":\"w\\u00e9\\/b\",\"Namespace\":\"default\",\"N\":"
        "18446744073709551615,\"F\":1.50E+3,\"ModifyIndex\":9007199254740993}",
        "{\"FilterKeys\":null,\"Index\":9007199254740993,\"Key\":\"w\\u00e9\\/b\","
        "\"Namespace\":\"default\",\"Payload\":{\"Job\":{\"Name\":\"w\\u00e9\\/b\", "
        "\"ID\":\"w\\u00e9\\/b\",\"Namespace\":\"default\",\"N\":18446744073709551615,"
        "\"F\":1.50E+3,\"ModifyIndex\":9007199254740993}},\"Topic\":\"Job\","
        "\"Type\":\"Snapshot\"}");
    assert_true(str_is(object.event.key, "w\u00e9/b"));
    assert_true(str_is(object.event.ns, "default"));
    assert_true(str_is(object.event.type, "Snapshot"));
    assert_true(object.event.index == UINT64_C(9007199254740993));
}

static void has_the_streams_filter_keys(void **state)
{
    (void)state;
    assert_event("Evaluation", "{\"ID\":\"e1\",\"JobID\":\"a\\\"b\",\"ModifyIndex\":7}",
                 "{\"FilterKeys\":[\"a\\\"b\",\"\"],\"Index\":7,\"Key\":\"e1\",\"Namespace\":\"\","
                 "\"Payload\":{\"Evaluation\":{\"ID\":\"e1\",\"JobID\":\"a\\\"b\",\"ModifyIndex\":7"
                 "}},\"Topic\":\"Evaluation\",\"Type\":\"Snapshot\"}");
    struct str rest = object.event.filter_keys, key;
    assert_true(event_next_filter_key(&rest, &key) && str_is(key, "a\"b"));
    assert_true(event_next_filter_key(&rest, &key) && key.len == 0);
    assert_false(event_next_filter_key(&rest, &key));
}

static void leaves_an_allocations_job_out_wherever_it_stands(void **state)
{
    (void)state;
    static const char *const raw[] = {
        "{\"Job\" : {\"ID\":\"x\",\"Job\":1} , \"ID\":\"a\"}",
        "{\"ID\":\"a\",\"Job\":null,\"N\":1}",
        "{\"ID\":\"a\" , \"Job\":[\"}\"] }",
        "{\"ID\":\"a\",\"\\u004aob\":1}",
    };
    static const char *const left[] = {"{ \"ID\":\"a\"}", "{\"ID\":\"a\",\"N\":1}",
                                       "{\"ID\":\"a\"  }", "{\"ID\":\"a\"}"};
    for (size_t i = 0; i < sizeof raw / sizeof raw[0]; i++) {
        char event[256];
        snprintf(event, sizeof event,
                 "{\"FilterKeys\":[\"\",\"\"],\"Index\":0,\"Key\":\"a\",\"Namespace\":\"\","
                 "\"Payload\":{\"Allocation\":%s},\"Topic\":\"Allocation\",\"Type\":\"Snapshot\"}",
                 left[i]);
        assert_event("Allocation", raw[i], event);
    }
    assert_unreadable("Allocation", "{\"ID\":\"a\",\"Job\":1,\"Job\":2}", "twice");
}

static void never_tells_a_secret(void **state)
{
    (void)state;
    static const struct {
        const char *topic, *raw;
    } secrets[] = {
        {"Node", "{\"ID\":\"n\",\"SecretID\":\"s3cret\"}"},
        {"Node", "{\"ID\":\"n\",\"SecretID\":\"s3cret\",\"SecretID\":\"s3cret\"}"},
        {"ACLToken", "{\"AccessorID\":\"n\",\"Secret\\u0049D\":\"s3cret\"}"},
        {"ACLAuthMethod", "{\"Name\":\"n\",\"Config\":{\"OIDCClientSecret\":\"s3cret\"}}"},
        {"CSIVolume", "{\"ID\":\"n\",\"Secrets\":{\"k\":\"s3cret\"}}"},
        {"Variable", "{\"Path\":\"n\",\"Items\":{\"k\":\"s3cret\"}}"},
    };
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
        assert_int_equal(read_it(secrets[i].topic, secrets[i].raw), 0);
        snapshot_object_event(&object);
        assert_null(memmem(object.event.data.p, object.event.data.len, "s3cret", 6));
    }
}

static void a_nodes_index_counts_what_its_modify_index_does_not(void **state)
{
    (void)state;
    assert_int_equal(read_it("Node", "{\"ID\":\"n\",\"ModifyIndex\":5,\"LastAllocUpdateIndex\":9,"
                                     "\"Events\":[{\"CreateIndex\":12,\"M\":{}},{\"CreateIndex\":0"
                                     "}]}"),
                     0);
    assert_int_equal(object.event.index, 12);
    assert_int_equal(read_it("Node", "{\"ID\":\"n\",\"ModifyIndex\":5,\"Events\":null}"), 0);
    assert_int_equal(object.event.index, 5);
    assert_int_equal(read_it("Job", "{\"ID\":\"n\",\"ModifyIndex\":5,\"LastAllocUpdateIndex\":9}"),
                     0);
    assert_int_equal(object.event.index, 5);
}

static void what_is_no_such_object_is_refused(void **state)
{
    (void)state;
    assert_unreadable("Job", "", "not an object");
    assert_unreadable("Job", "null", "not an object");
    assert_unreadable("Job", "[]", "not an object");
    assert_unreadable("Job", "{}", "no \"ID\"");
    assert_unreadable("Job", "{\"ID\":\"\"}", "no \"ID\"");
    assert_unreadable("Job", "{\"ID\":null}", "no \"ID\"");
    assert_unreadable("Job", "{\"ID\":7}", "not a string");
    assert_unreadable("Job", "{\"ID\":\"a\",\"Namespace\":{}}", "not a string");
    assert_unreadable("Job", "{\"ID\":\"a\",\"ModifyIndex\":-1}", "not an unsigned integer");
    assert_unreadable("Job", "{\"ID\":\"a\"", "byte");
    assert_unreadable("Job", "{\"ID\":\"a\"}x", "byte");
    assert_unreadable("Job", "{\"ID\":\"a\x01\"}", "byte");
    assert_unreadable("Node", "{\"ID\":\"a\",\"Events\":[7]}", "byte");
    assert_unreadable("Node",
                      "{\"ID\":\"a\",\"SecretID\":1,\"SecretID\":1,\"SecretID\":1,\"SecretID\":1,"
                      "\"SecretID\":1,\"SecretID\":1,\"SecretID\":1,\"SecretID\":1,\"SecretID\":1}",
                      "too often");
}

static void one_after_another_leaves_nothing_of_the_last(void **state)
{
    (void)state;
    assert_int_equal(read_it("Allocation", "{\"ID\":\"a\",\"NodeID\":\"n\",\"JobID\":\"j\","
                                           "\"Namespace\":\"x\",\"ModifyIndex\":9,\"Job\":{}}"),
                     0);
    assert_true(str_is(object.node, "n"));
    assert_event("Allocation", "{\"ID\":\"b\"}",
                 "{\"FilterKeys\":[\"\",\"\"],\"Index\":0,\"Key\":\"b\",\"Namespace\":\"\","
                 "\"Payload\":{\"Allocation\":{\"ID\":\"b\"}},\"Topic\":\"Allocation\","
                 "\"Type\":\"Snapshot\"}");
    assert_int_equal(object.node.len, 0);
}

static void only_topics_that_the_source_lets_through_are_wanted(void **state)
{
    (void)state;
    const char *items[] = {"Job:web", "Node"};
    struct nomad_settings settings = {.topics = {items, 2}};
    assert_true(snapshot_topic_is_wanted(topic_of("Job"), &settings));
    assert_true(snapshot_topic_is_wanted(topic_of("Node"), &settings));
    assert_false(snapshot_topic_is_wanted(topic_of("NodePool"), &settings));
    items[0] = "*";
    assert_true(snapshot_topic_is_wanted(topic_of("NodePool"), &settings));
    assert_false(snapshot_topic_is_wanted(topic_of("Variable"), &settings));
    items[1] = "Variable";
    assert_true(snapshot_topic_is_wanted(topic_of("Variable"), &settings));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(is_put_together_from_the_apis_own_bytes, tear_down),
        cmocka_unit_test_teardown(has_the_streams_filter_keys, tear_down),
        cmocka_unit_test_teardown(leaves_an_allocations_job_out_wherever_it_stands, tear_down),
        cmocka_unit_test_teardown(never_tells_a_secret, tear_down),
        cmocka_unit_test_teardown(a_nodes_index_counts_what_its_modify_index_does_not, tear_down),
        cmocka_unit_test_teardown(what_is_no_such_object_is_refused, tear_down),
        cmocka_unit_test_teardown(one_after_another_leaves_nothing_of_the_last, tear_down),
        cmocka_unit_test_teardown(only_topics_that_the_source_lets_through_are_wanted, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
