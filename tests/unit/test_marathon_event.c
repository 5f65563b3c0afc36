/* test_marathon_event.c - an event of a Marathon has its topic, its key and its time, in every
 * shape it ever had, or a reason why not. */
#include "tests/fuzz/marathon_oracle.h"
#include "tests/unit/check.h"
#include "tests/unit/fixture.h"

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "connectors/sse.h"

#include <inttypes.h>

#define T29 "\"timestamp\":\"2014-03-01T23:29:30.158Z\""
#define T29_MS UINT64_C(1393716570158)

static struct marathon_event event; /* used again and again, as the connectors do */

static int tear_down(void **state)
{
    (void)state;
    marathon_event_fini(&event);
    return 0;
}

static const struct found_event *read_event(const char *type, struct str data)
{
    struct err err = {0};
    if (marathon_event_read(&event, str_from(type), data, &err) != 0)
        fail_msg("%.*s: %s", STR_ARG(data), err.msg);
    const char *wrong = marathon_oracle_compare(&event.found, str_from(type), data);
    if (wrong != NULL)
        fail_msg("%.*s: %s", STR_ARG(data), wrong);
    return &event.found;
}

static void assert_read(const char *type, const char *json, const char *topic, const char *key)
{
    const struct found_event *found = read_event(type, str_from(json));
    if (!str_is(found->topic, topic) || !str_is(found->key, key))
        fail_msg("%s gives %.*s %.*s, not %s %s", json, STR_ARG(found->topic), STR_ARG(found->key),
                 topic, key);
}

/* ---- the table ---- */

/* Each type, with the key's member in every place it ever stood in. */
static const struct {
    const char *type, *members, *topic, *key;
} shapes[] = {
    {"api_post_event", "\"uri\":\"/v2/apps/a\",\"appDefinition\":{\"cmd\":\"x\",\"id\":\"/a\"}",
     "App", "/a"},
    {"api_post_event", "\"appId\":\"/b\",\"appDefinition\":{\"id\":\"/a\"}", "App", "/a"},
    {"api_post_event", "\"appId\":\"/b\",\"appDefinition\":null", "App", "/b"},
    {"app_terminated_event", "\"appId\":\"/a\"", "App", "/a"},
    {"pod_created_event", "\"uri\":\"/v2/pods\"", "Pod", ""},
    {"pod_created_event", "\"clientIp\":\"::1\"", "Pod", ""},
    {"pod_created_event", "\"uri\":\"/v2/pods/my-pod\"", "Pod", "/my-pod"},
    {"pod_updated_event", "\"uri\":\"/v2/pods//p/web\"", "Pod", "/p/web"},
    {"pod_deleted_event", "\"uri\":\"/v2/pods/p/web\"", "Pod", "/p/web"},
    {"status_update_event", "\"taskId\":\"t\",\"appId\":\"/a\"", "Task", "/a"},
    {"status_update_event", "\"runSpecId\":\"/r\",\"appId\":\"/a\"", "Task", "/a"},
    {"status_update_event", "\"runSpecId\":\"/r\"", "Task", "/r"},
    {"unhealthy_task_kill_event", "\"appId\":\"/a\"", "Task", "/a"},
    {"unhealthy_task_kill_event", "\"runSpecId\":\"/r\"", "Task", "/r"},
    {"unknown_task_terminated_event", "\"appId\":\"/a\"", "Task", "/a"},
    {"unknown_task_terminated_event", "\"runSpecId\":\"/r\"", "Task", "/r"},
    {"instance_changed_event", "\"runSpecId\":\"/r\"", "Instance", "/r"},
    {"instance_changed_event", "\"appId\":\"/a\",\"runSpecId\":\"/r\"", "Instance", "/r"},
    {"instance_changed_event", "\"appId\":\"/a\"", "Instance", "/a"},
    {"instance_health_changed_event", "\"runSpecId\":\"/r\"", "Instance", "/r"},
    {"instance_health_changed_event", "\"appId\":\"/a\"", "Instance", "/a"},
    {"unknown_instance_terminated_event", "\"runSpecId\":\"/r\"", "Instance", "/r"},
    {"unknown_instance_terminated_event", "\"appId\":\"/a\"", "Instance", "/a"},
    {"unhealthy_instance_kill_event", "\"runSpecId\":\"/r\"", "Instance", "/r"},
    {"unhealthy_instance_kill_event", "\"appId\":\"/a\"", "Instance", "/a"},
    {"add_health_check_event", "\"appId\":\"/a\"", "HealthCheck", "/a"},
    {"remove_health_check_event", "\"appId\":\"/a\"", "HealthCheck", "/a"},
    {"failed_health_check_event", "\"appId\":\"/a\",\"taskId\":\"a.instance-1\"", "HealthCheck",
     "/a"},
    {"health_status_changed_event", "\"appId\":\"/a\",\"instanceId\":\"a.1\"", "HealthCheck", "/a"},
    {"deployment_info", "\"plan\":{\"id\":\"d\",\"steps\":[{\"id\":\"no\"}]}", "Deployment", "d"},
    {"deployment_info", "\"plan\":{\"original\":{\"id\":\"/\"},\"id\":\"d\"}", "Deployment", "d"},
    {"deployment_info", "\"id\":\"no\",\"plan\":{\"id\":\"d\"}", "Deployment", "d"},
    {"deployment_success", "\"id\":\"d\"", "Deployment", "d"},
    {"deployment_success", "\"id\":\"d\",\"plan\":{\"id\":\"d\"}", "Deployment", "d"},
    {"deployment_failed", "\"id\":\"d\"", "Deployment", "d"},
    {"deployment_failed", "\"id\":\"d\",\"plan\":{\"id\":\"d\"},\"reason\":\"x\"", "Deployment",
     "d"},
    {"deployment_step_success", "\"plan\":{\"id\":\"d\"},\"currentStep\":{\"id\":\"no\"}",
     "Deployment", "d"},
    {"deployment_step_failure", "\"plan\":{\"id\":\"d\"}", "Deployment", "d"},
    {"group_change_success", "\"groupId\":\"/\",\"version\":\"v\"", "Group", "/"},
    {"group_change_failed", "\"groupId\":\"/g\",\"reason\":\"\"", "Group", "/g"},
    {"scheduler_registered_event", "\"frameworkId\":\"f-1\",\"master\":\"m\"", "Scheduler", "f-1"},
    {"scheduler_reregistered_event", "\"master\":\"m\"", "Scheduler", ""},
    {"scheduler_disconnected_event", "\"master\":\"m\"", "Scheduler", ""},
    {"framework_message_event", "\"executorId\":\"e\",\"message\":\"aGk=\"", "FrameworkMessage",
     "e"},
    {"framework_message_event", "\"executorId\":\"e\",\"message\":[104,105]", "FrameworkMessage",
     "e"},
    {"subscribe_event", "\"clientIp\":\"1.2.3.4\",\"callbackUrl\":\"http://s/c\"", "Subscription",
     "http://s/c"},
    {"unsubscribe_event", "\"callbackUrl\":\"http://s/c\",\"clientIp\":\"1.2.3.4\"", "Subscription",
     "http://s/c"},
    {"event_stream_attached", "\"remoteAddress\":\"127.0.0.1\"", "Subscription", "127.0.0.1"},
    {"event_stream_attached", "\"clientIp\":\"1.2.3.4\",\"callbackUrl\":\"http://s/c\"",
     "Subscription", "http://s/c"},
    {"event_stream_detached", "\"remoteAddress\":\"::1\"", "Subscription", "::1"},
    {"brand_new_event", "\"id\":\"i\",\"groupId\":\"/g\",\"runSpecId\":\"/r\",\"appId\":\"/a\"",
     "Other", "/a"},
    {"brand_new_event", "\"id\":\"i\",\"groupId\":\"/g\",\"runSpecId\":\"/r\"", "Other", "/r"},
    {"brand_new_event", "\"id\":\"i\",\"groupId\":\"/g\"", "Other", "/g"},
    {"brand_new_event", "\"plan\":{\"id\":\"d\"},\"id\":\"i\"", "Other", "i"},
    {"brand_new_event", "\"plan\":{\"id\":\"d\"}", "Other", ""},
    {"status_update_event2", "\"appId\":\"/a\"", "Other", "/a"},
};

static void every_type_has_its_topic_and_key_in_every_shape(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct buf json = {0};
        const char *type = shapes[i].type;
        buf_printf(&json, "{%s,\"eventType\":\"%s\"," T29 "}", shapes[i].members, type);
        assert_read(type, buf_cstr(&json), shapes[i].topic, shapes[i].key);
        assert_read("", json.p, shapes[i].topic, shapes[i].key);
        assert_true(event.found.index == T29_MS && event.found.time_us == (int64_t)T29_MS * 1000);
        buf_fini(&json);
    }
}

static void every_type_of_the_table_stands_in_some_shape(void **state)
{
    (void)state;
    for (size_t row = 0; row < MARATHON_ORACLE_OTHER; row++) {
        const char *types = marathon_oracle_table[row][1];
        struct str type;
        while (marathon_oracle_word(&types, &type)) {
            bool there = false;
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                there = there || (str_is(type, shapes[i].type) &&
                                  strcmp(shapes[i].topic, marathon_oracle_table[row][0]) == 0);
            if (!there)
                fail_msg("%.*s", STR_ARG(type));
        }
    }
}

static void a_pod_has_one_key_however_its_uri_is_written(void **state)
{
    (void)state;
    const char *const rows[][2] = {
        {"/v2/pods/p/web", "/p/web"},
        {"/v2/pods//p/web", "/p/web"},
        {"/v2/pods///p/web/", "/p/web"},
        {"/v2/pods//p/web::status", "/p/web"},
        {"/v2/pods//p/web::instances/p_web.instance-1", "/p/web"},
        {"/v2/pods//p/web?force=true", "/p/web"},
        {"/v2/pods/p/web?x=::", "/p/web"},
        {"/v2/pods//p/we:b", "/p/we:b"},
        {"/service/marathon/v2/pods//p/web", "/p/web"},
        {"http://m:8080/v2/pods//p/web", "/p/web"},
        {"/v2/pods//v2/pods", "/v2/pods"},
        {"/v2/pods", ""},
        {"/v2/pods/", ""},
        {"/v2/pods?force=true", ""},
        {"/v2/pods::status", ""},
        {"/v2/pods/::status", ""},
        {"/v2/podsy", ""},
        {"/v2/apps//a", ""},
        {"", ""},
        {"\\/v2\\/pods\\/\\/p\\/we\\u0062", "/p/web"},
        {"/v2/pods//p/\\u00e4", "/p/\xc3\xa4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf json = {0};
        buf_printf(&json, "{\"clientIp\":\"::1\",\"uri\":\"%s\"}", rows[i][0]);
        assert_read("pod_deleted_event", buf_cstr(&json), "Pod", rows[i][1]);
        buf_fini(&json);
    }
}

/* ---- real bytes ---- */

static void reads_every_event_of_public_clients_and_documents(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t events, without_time;
    } files[] = {
        {"b2wdigital-async-worker", 5, 0}, {"go-marathon", 7, 2},
        {"marathon-consul", 5, 0},         {"marathon-event-bus-client", 17, 0},
        {"marathon-python", 1, 1},         {"mesosphere-marathon-docs", 32, 0},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct buf name = {0};
        buf_printf(&name, "marathon/%s.ndjson", files[i].name);
        struct buf bytes = fixture_read(buf_cstr(&name));
        size_t events = 0, without_time = 0;
        buf_cstr(&bytes);
        for (char *line = strtok(bytes.p, "\n"); line != NULL; line = strtok(NULL, "\n")) {
            const struct found_event *found = read_event("", str_from(line));
            events++;
            without_time += found->index == 0;
            assert_true(found->key.len > 0 && !str_is(found->topic, "Other"));
        }
        if (events != files[i].events || without_time != files[i].without_time)
            fail_msg("%s: %zu, %zu", files[i].name, events, without_time);
        buf_fini(&bytes);
        buf_fini(&name);
    }
}

static const char *const topics[] = {
    "App",        "Pod",   "Task",      "Instance",     "HealthCheck",
    "Deployment", "Group", "Scheduler", "Subscription", "FrameworkMessage"};
enum { TOPICS = sizeof topics / sizeof *topics };

/* Counted by another program (json.loads of every data line, the table as a dict): events of each
 * topic, how often the time is lower than that of the event before, and the bytes of all keys. */
static const struct capture {
    const char *name;
    size_t events, back, key_bytes, of[TOPICS];
} captures[] = {
    {"real-1.11.sse", 6370, 2027, 44279, {55, 5, 2104, 3891, 21, 196, 64, 1, 32, 1}},
    {"real-1.11-failover.sse", 33, 7, 329, {0, 0, 11, 19, 0, 2, 0, 0, 1, 0}},
    {"real-1.11-scheduler.sse", 78, 8, 935, {1, 0, 19, 34, 0, 13, 3, 1, 7, 0}},
    {"wire-true-servlet.bin", 33, 3, 563, {2, 3, 4, 5, 4, 5, 2, 0, 7, 1}},
};

static void count(const struct found_event *found, struct capture *counted, uint64_t *last)
{
    assert_true(found->index > 0 && found->time_us == (int64_t)found->index * 1000);
    counted->events++;
    counted->back += found->index < *last;
    counted->key_bytes += found->key.len;
    *last = found->index;
    for (size_t i = 0; i < TOPICS; i++)
        counted->of[i] += str_is(found->topic, topics[i]);
}

static void reads_every_event_of_the_captures(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof captures / sizeof *captures; i++) {
        struct buf path = {0};
        buf_printf(&path, "marathon/%s", captures[i].name);
        struct buf bytes = fixture_read(buf_cstr(&path));
        struct capture counted = {.name = captures[i].name};
        struct sse framer;
        struct sse_event frame;
        uint64_t last = 0;
        sse_init(&framer, 0);
        sse_push(&framer, buf_str(&bytes));
        while (sse_next(&framer, &frame)) {
            struct str type = frame.type;
            assert_int_equal(marathon_event_read(&event, type, frame.data, NULL), 0);
            assert_null(marathon_oracle_compare(&event.found, type, frame.data));
            count(&event.found, &counted, &last);
            assert_int_equal(marathon_event_read(&event, STR(""), frame.data, NULL), 0);
            assert_true(str_eq(event.found.type, type));
        }
        assert_memory_equal(&counted.events, &captures[i].events,
                            sizeof counted - offsetof(struct capture, events));
        sse_fini(&framer);
        buf_fini(&bytes);
        buf_fini(&path);
    }
}

/* ---- time ---- */

static uint64_t ms_of(const char *value)
{
    struct buf json = {0};
    buf_printf(&json, "{\"timestamp\":%s}", value);
    const struct found_event *found = read_event("x", buf_str(&json));
    buf_fini(&json);
    assert_true((uint64_t)found->time_us / 1000 == found->index);
    return found->index;
}

static void takes_the_time_as_marathon_and_rfc_3339_write_it(void **state)
{
    (void)state;
    const struct {
        const char *value;
        uint64_t ms;
    } rows[] = {
        {"\"2014-03-01T23:29:30.158Z\"", T29_MS},
        {"\"2014-03-01T23:29:30Z\"", T29_MS - 158},
        {"\"2014-03-01T23:29:30.1Z\"", T29_MS - 58},
        {"\"2014-03-01T23:29:30.158999Z\"", T29_MS},
        {"\"2014-03-02T00:29:30.158+01:00\"", T29_MS},
        {"\"2014-03-01T15:59:30.158-07:30\"", T29_MS},
        {"\"2014-03-01T23:29:30.158\\u005a\"", T29_MS},
        {"\"2016-02-29T12:00:00.001Z\"", UINT64_C(1456747200001)},
        {"\"1970-01-01T00:00:00.001Z\"", 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(ms_of(rows[i].value), rows[i].ms);
    ms_of("\"2014-03-01T23:29:30.158999Z\"");
    assert_int_equal(event.found.time_us, (int64_t)T29_MS * 1000 + 999);
}

static void a_time_that_cannot_be_is_none(void **state)
{
    (void)state;
    const char *const values[] = {
        "12345",
        "null",
        "{}",
        "\"\"",
        "\"yesterday\"",
        "\"2014-03-01\"",
        "\"2014-03-01T23:29:30.158\"",   /* of which zone? */
        "\"2014-13-01T23:29:30.158Z\"",  /* no month */
        "\"2014-03-01T23:29:30.158Z \"", /* more behind it */
        "\"1970-01-01T00:00:00.000Z\"",  /* an unset clock */
        "\"1970-01-01T00:00:00.000999Z\"",
        "\"1969-12-31T23:59:59.999Z\"", /* before time began */
        "\"2014-03-01T23:29:30.158\\u0000\"",
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        assert_true(ms_of(values[i]) == 0 && event.found.time_us == 0);
}

static uint64_t ms_from_now(int64_t ahead_us)
{
    char text[CLOCK_TEXT_MAX], json[CLOCK_TEXT_MAX + 2];
    clock_format((clock_wall_us() + ahead_us) / 1000 * 1000, text);
    snprintf(json, sizeof json, "\"%s\"", text);
    return ms_of(json);
}

static void a_clock_that_is_a_day_ahead_tells_no_time(void **state)
{
    (void)state;
    const int64_t hour = INT64_C(3600) * 1000000;
    assert_true(ms_from_now(0) > 0);
    assert_true(ms_from_now(23 * hour) > 0);
    assert_int_equal(ms_from_now(25 * hour), 0);
    assert_int_equal(ms_of("\"9999-12-31T23:59:59.999Z\""), 0);
}

/* ---- odd and hostile ---- */

static void unescapes_names_and_values(void **state)
{
    (void)state;
    assert_read("status_update_event", "{\"app\\u0049d\":\"\\/a \\u00e4\\ud83d\\ude00\\n\"}",
                "Task", "/a \xc3\xa4\xf0\x9f\x98\x80\n");
    assert_read("", "{\"event\\u0054ype\":\"app_termin\\u0061ted_event\",\"appId\":\"\\u002fa\"}",
                "App", "/a");
    assert_read("deployment_info", "{\"pl\\u0061n\":{\"\\u0069d\":\"\\u0064\"}}", "Deployment",
                "d");
    assert_true(str_is(event.found.type, "deployment_info"));
    const struct found_event *found = read_event("x", STR("{\"id\":\"\\u0000a\"}"));
    assert_true(str_eq(found->key, STR("\0a")));
}

static void keeps_what_is_not_ascii_as_it_is(void **state)
{
    (void)state;
    struct str data = STR("{\"appId\":\"/\xe2\x80\xa8\xc3\xa4\",\"message\":\"\xe2\x80\xa8\"}");
    const struct found_event *found = read_event("status_update_event", data);
    assert_true(str_is(found->key, "/\xe2\x80\xa8\xc3\xa4"));
    assert_true(found->data.p == data.p && found->data.len == data.len);
}

/* Every string that matters escaped, so that all are in one buffer while it fills. */
static void views_stay_valid_while_an_event_of_escapes_is_read(void **state)
{
    (void)state;
    struct buf json = {0};
    buf_append_cstr(&json, "{\"eventTyp\\u0065\":\"\\u0070od_updated_event\",");
    for (int i = 0; i < 20000; i++)
        buf_printf(&json, "\"\\u0075ri\":\"\\/v2/pods/%d\",\"\\u0061ppId\":\"\\t%d\",", i, i);
    buf_append_cstr(&json, "\"\\u0074imestamp\":\"\\u0032014-03-01T23:29:30.158Z\"}");
    assert_read("", buf_cstr(&json), "Pod", "/19999");
    assert_int_equal(event.found.index, T29_MS);
    buf_fini(&json);
}

static void a_member_told_twice_counts_as_told_last(void **state)
{
    (void)state;
    assert_read("app_terminated_event", "{\"appId\":\"/a\",\"appId\":\"/b\"}", "App", "/b");
    assert_read("app_terminated_event", "{\"appId\":\"/a\",\"appId\":null}", "App", "");
    assert_read("deployment_info", "{\"plan\":{\"id\":\"a\",\"id\":\"b\"}}", "Deployment", "b");
    assert_read("deployment_info", "{\"plan\":{\"id\":\"a\"},\"plan\":{}}", "Deployment", "");
    assert_read("deployment_info", "{\"id\":\"i\",\"plan\":{\"id\":\"a\"},\"plan\":7}",
                "Deployment", "i");
    assert_read("", "{\"eventType\":\"x\",\"eventType\":\"app_terminated_event\"}", "App", "");
}

static void a_key_that_is_no_text_is_none(void **state)
{
    (void)state;
    assert_read("status_update_event", "{\"appId\":7,\"runSpecId\":\"/r\"}", "Task", "/r");
    assert_read("status_update_event", "{\"appId\":\"\",\"runSpecId\":\"/r\"}", "Task", "/r");
    assert_read("status_update_event", "{\"appId\":[\"/a\"],\"runSpecId\":{\"id\":\"x\"}}", "Task",
                "");
    assert_read("api_post_event", "{\"appDefinition\":\"/a\"}", "App", "");
    assert_read("api_post_event", "{\"appDefinition\":[{\"id\":\"/a\"}]}", "App", "");
    assert_read("api_post_event", "{\"appDefinition\":{\"x\":{\"id\":\"/a\"}}}", "App", "");
    assert_read("x", "{}", "Other", "");
}

static void what_the_frame_says_counts_before_the_object(void **state)
{
    (void)state;
    assert_read("app_terminated_event", "{\"eventType\":\"x\",\"appId\":\"/a\"}", "App", "/a");
    assert_read("x", "{\"eventType\":\"app_terminated_event\",\"appId\":\"/a\"}", "Other", "/a");
    assert_read("\xc3\xa4", "{\"eventType\":\"\xc3\xa4\",\"appId\":\"/a\"}", "Other", "/a");
}

static void says_what_is_wrong_with_an_event(void **state)
{
    (void)state;
    const struct {
        const char *type;
        struct str data;
        const char *wrong;
    } rows[] = {
        {"", STR("{}"), "\"eventType\" is missing"},
        {"", STR("{\"eventType\":\"\"}"), "\"eventType\" is missing"},
        {"", STR("{\"eventType\":7}"), "\"eventType\" is missing"},
        {"\xff", STR("{\"eventType\":\"x\"}"),
         "the frame's type is neither plain nor \"eventType\""},
        {"a\tb", STR("{}"), "the frame's type is neither plain nor \"eventType\""},
        {"x", STR("[]"), "not an object"},
        {"x", STR("null"), "not an object"},
        {"x", STR(" \"{}\" "), "not an object"},
        {"x", STR(""), "byte 0: the text ends before a value"},
        {"x", STR("{"), "byte 1: a member without a name"},
        {"x", STR("{} {}"), "byte 3: more text behind the value"},
        {"x", STR("[] {}"), "byte 3: more text behind the value"},
        {"x", STR("[1"), "byte 2: neither a comma nor the closing bracket"},
        {"x", STR("{\"appId\":\"/a"), "byte 12: the text ends in a string"},
        {"x", STR("{\"plan\":{\"id\":\"a\"}"), "byte 18: neither a comma nor the closing bracket"},
        {"x", STR("{\"plan\":{\"id\":}}"), "byte 14: not a value"},
        {"x", STR("{\"plan\":{\"id\" 1}}"), "byte 14: a member without a colon"},
        {"x", STR("{\"appId\":\"\xff\"}"), "byte 10: bytes that are not UTF-8"},
        {"x", STR("{\"z\":\"\xff\"}"), "byte 6: bytes that are not UTF-8"},
        {"x", STR("{\"z\":\"\\ud800\"}"), "byte 6: a high surrogate without a low one"},
        {"x", STR("{\"z\":\"\n\"}"), "byte 6: a control character in a string"},
        {"x", STR("{\"appId\":01}"), "byte 10: neither a comma nor the closing bracket"},
        {"x", STR("{\"appId\":nul}"), "byte 9: not a value"},
        {"x", STR("\xef\xbb\xbf{}"), "byte 0: not a value"},
        {"x", STR("<html>503</html>"), "byte 0: not a value"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct str type = str_from(rows[i].type);
        assert_int_equal(marathon_event_read(&event, type, rows[i].data, &err), -1);
        assert_string_equal(err.msg, rows[i].wrong);
        assert_int_equal(err.kind, ERR_INPUT);
        assert_true(event.found.type.p == NULL && event.found.data.p == NULL);
        assert_null(marathon_oracle_compare(NULL, type, rows[i].data));
    }
    assert_read("x", "{\"id\":\"works still\"}", "Other", "works still");
}

static void depth_has_a_limit(void **state)
{
    (void)state;
    for (size_t depth = JSON_SCAN_DEPTH_MAX - 1; depth <= JSON_SCAN_DEPTH_MAX; depth++) {
        struct buf json = {0};
        buf_append_cstr(&json, "{\"a\":");
        for (size_t i = 0; i < depth; i++)
            buf_append_char(&json, '[');
        for (size_t i = 0; i < depth; i++)
            buf_append_char(&json, ']');
        buf_append_char(&json, '}');
        int want = depth < JSON_SCAN_DEPTH_MAX ? 0 : -1;
        assert_int_equal(marathon_event_read(&event, STR("x"), buf_str(&json), NULL), want);
        buf_fini(&json);
    }
}

static void any_beginning_of_an_event_is_refused(void **state)
{
    (void)state;
    struct str whole = STR("{\"eventType\":\"deployment_info\",\"plan\":{\"id\":\"\\u0064\"},\"n\":"
                           "[1.5e3,true,null,\"\xc3\xa4\"]," T29 "}");
    for (size_t len = 0; len < whole.len; len++) {
        char *cut = mem_alloc(len + 1); /* so that a byte too far is seen */
        memcpy(cut, whole.p, len);
        char *exact = mem_realloc(cut, len > 0 ? len : 1);
        assert_int_equal(marathon_event_read(&event, STR(""), (struct str){exact, len}, NULL), -1);
        free(exact);
    }
    assert_int_equal(marathon_event_read(&event, STR(""), whole, NULL), 0);
}

static void gives_memory_back_after_a_huge_event(void **state)
{
    (void)state;
    struct buf json = {0};
    buf_append_cstr(&json, "{\"id\":\"\\n\",\"x\":\"");
    memset(buf_reserve(&json, 8 << 20), 'x', 8 << 20);
    json.len += 8 << 20;
    buf_append_cstr(&json, "\"}");
    assert_read("x", buf_cstr(&json), "Other", "\n");
    assert_read("x", "{\"id\":\"\\n\"}", "Other", "\n");
    assert_true(event.text.cap < 4096);
    buf_fini(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_has_its_topic_and_key_in_every_shape),
        cmocka_unit_test(every_type_of_the_table_stands_in_some_shape),
        cmocka_unit_test(a_pod_has_one_key_however_its_uri_is_written),
        cmocka_unit_test(reads_every_event_of_public_clients_and_documents),
        cmocka_unit_test(reads_every_event_of_the_captures),
        cmocka_unit_test(takes_the_time_as_marathon_and_rfc_3339_write_it),
        cmocka_unit_test(a_time_that_cannot_be_is_none),
        cmocka_unit_test(a_clock_that_is_a_day_ahead_tells_no_time),
        cmocka_unit_test(unescapes_names_and_values),
        cmocka_unit_test(keeps_what_is_not_ascii_as_it_is),
        cmocka_unit_test(views_stay_valid_while_an_event_of_escapes_is_read),
        cmocka_unit_test(a_member_told_twice_counts_as_told_last),
        cmocka_unit_test(a_key_that_is_no_text_is_none),
        cmocka_unit_test(what_the_frame_says_counts_before_the_object),
        cmocka_unit_test(says_what_is_wrong_with_an_event),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(any_beginning_of_an_event_is_refused),
        cmocka_unit_test(gives_memory_back_after_a_huge_event),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
