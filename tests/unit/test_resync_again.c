/* test_resync_again.c - a resync of a source whose indexes give no order: what the stream told
 * while an answer was on its way is asked for again, whatever the numbers say. */
#include "bridge/resync_internal.h"
#include "tests/unit/resync_kit.h"

enum { CALLS_MAX = 8 };

/* The source: apps of version 1 in a list; asked for by themselves they are of version 2. Their
 * indexes are of no use: all are 100. */
static struct source {
    struct kit kit; /* large */
    const char *list[CALLS_MAX];
    /* Called when the answer is there, before it is told; `one` is NULL with the list. */
    void (*meanwhile)(struct kit *kit, const char *one);
    bool gone; /* what is asked for by itself is not there */
    size_t rounds;
    struct buf asked;
} source;

static int tell(struct resync *r, struct str key, int version, struct err *err)
{
    char data[64];
    snprintf(data, sizeof data, "{\"v\":%d}", version);
    struct found_event object = {.topic = STR("App"),
                                 .type = STR("Snapshot"),
                                 .key = key,
                                 .ns = STR(""),
                                 .filter_keys = STR(""),
                                 .index = 100,
                                 .data = str_from(data)};
    return resync_listed(r, &object) ? resync_object(r, &object, err) : 0;
}

struct asking {
    struct source *source;
    struct resync *resync;
};

static int ask_one(void *arg, struct str topic, struct str key, struct err *err)
{
    struct asking *a = arg;
    char name[32];
    snprintf(name, sizeof name, "%.*s", STR_ARG(key));
    buf_printf(&a->source->asked, "%.*s/%s ", STR_ARG(topic), name);
    resync_asked_now(a->resync);
    if (a->source->meanwhile != NULL)
        a->source->meanwhile(&a->source->kit, name);
    if (ingest_flush(a->source->kit.ingest, err) != 0 || resync_catch_up(a->resync, true, err) != 0)
        return -1;
    if (key.len == 0)
        return 0;
    return a->source->gone ? resync_gone(a->resync, topic, key, err) : tell(a->resync, key, 2, err);
}

static int snapshot(void *self, struct resync *r, struct err *err)
{
    struct source *s = (struct source *)self;
    struct asking asking = {s, r};
    resync_asked_now(r);
    if (s->meanwhile != NULL)
        s->meanwhile(&s->kit, NULL);
    for (size_t i = 0; i < CALLS_MAX && s->list[i] != NULL; i++)
        if (tell(r, str_from(s->list[i]), 1, err) != 0)
            return -1;
    resync_whole(r, STR("App"), 0);
    size_t held = 1;
    while (held > 0) {
        s->rounds++;
        if (resync_again(r, ask_one, &asking, &held, err) != 0)
            return -1;
    }
    return 0;
}

/* An event of the stream, at a time that says nothing. */
static void stream(struct kit *k, const char *topic, const char *key, const char *type)
{
    struct str raw = STR("{\"a\":1}");
    static uint64_t index = 1000;
    struct found_event found = {.topic = str_from(topic),
                                .type = str_from(type),
                                .key = str_from(key),
                                .ns = STR(""),
                                .filter_keys = STR(""),
                                .index = index++,
                                .data = raw};
    struct err err;
    if (ingest_message(k->ingest, raw, &found, 1, &err) != 0)
        fail_msg("%s", err.msg);
}

static void append(void *arg, const struct event *e)
{
    struct buf *text = arg;
    if (e->origin == EVENT_SNAPSHOT)
        buf_printf(text, "%s%.*s%.*s ", str_is(e->type, "Vanished") ? "-" : "=", STR_ARG(e->key),
                   (int)(str_is(e->type, "Vanished") ? 0 : e->data.len), e->data.p);
    else if (e->origin == EVENT_SOURCE)
        buf_printf(text, "%.*s/%.*s ", STR_ARG(e->topic), STR_ARG(e->key));
}

static int set_up(void **state)
{
    memset(&source, 0, sizeof source);
    kit_setup(&source.kit, NULL);
    source.kit.ops.snapshot = snapshot;
    *state = &source;
    return 0;
}

static int tear_down(void **state)
{
    kit_teardown(&source.kit);
    buf_fini(&source.asked);
    (void)state;
    return 0;
}

static void resync(const char *expected)
{
    struct buf text = {0};
    struct kit *k = &source.kit;
    struct err err;
    assert_int_equal(ingest_flush(k->ingest, &err), 0);
    kit_start(k);
    resync_request(k->resync, journal_next_seq(k->journal) - 1, "asked for");
    kit_wait_finished(k, 1);
    kit_each(k, append, &text);
    assert_string_equal(buf_cstr(&text), expected);
    buf_fini(&text);
}

static void what_was_told_before_the_question_says_nothing(void **state)
{
    (void)state;
    stream(&source.kit, "App", "/a", "api_post_event");
    source.list[0] = "/a";
    resync("App//a =/a{\"v\":1} ");
    assert_string_equal(buf_cstr(&source.asked), "");
}

static void a_task_of_a_starts(struct kit *k, const char *one)
{
    if (one == NULL)
        stream(k, "Task", "/a", "status_update_event");
}

static void what_the_stream_told_of_meanwhile_is_asked_for_again(void **state)
{
    (void)state;
    source.list[0] = "/a";
    source.list[1] = "/b";
    source.meanwhile = a_task_of_a_starts;
    resync("Task//a =/b{\"v\":1} =/a{\"v\":2} ");
    assert_string_equal(buf_cstr(&source.asked), "App//a ");
}

static unsigned busy;

static void a_is_busy_for_a_while(struct kit *k, const char *one)
{
    (void)one;
    if (busy > 0) {
        busy--;
        stream(k, "Instance", "/a", "instance_changed_event");
    }
}

static void it_is_asked_for_until_nothing_comes_in_between(void **state)
{
    (void)state;
    source.list[0] = "/a";
    source.meanwhile = a_is_busy_for_a_while;
    busy = 3;
    resync("Instance//a Instance//a Instance//a =/a{\"v\":2} ");
    assert_string_equal(buf_cstr(&source.asked), "App//a App//a App//a ");
}

static void what_is_gone_by_then_is_not_told_from_the_older_answer(void **state)
{
    (void)state;
    source.list[0] = "/a";
    source.meanwhile = a_task_of_a_starts;
    source.gone = true;
    resync("Task//a ");
    assert_string_equal(buf_cstr(&source.asked), "App//a ");
}

static void what_was_known_and_is_gone_by_then_vanishes(void **state)
{
    (void)state;
    stream(&source.kit, "App", "/a", "api_post_event");
    source.list[0] = "/a";
    source.meanwhile = a_task_of_a_starts;
    source.gone = true;
    resync("App//a Task//a -/a ");
}

static void a_is_changed(struct kit *k, const char *one)
{
    if (one == NULL)
        stream(k, "App", "/a", "api_post_event");
}

/* No event tells the end of a group. */
static void what_was_told_and_is_gone_when_it_is_asked_for_vanishes(void **state)
{
    (void)state;
    source.list[0] = "/a";
    source.meanwhile = a_is_changed;
    source.gone = true;
    resync("App//a -/a ");
}

static void a_is_changed_once_more(struct kit *k, const char *one)
{
    (void)one;
    if (busy > 0) {
        busy--;
        stream(k, "App", "/a", "api_post_event");
    }
}

static void unless_it_is_told_once_more(void **state)
{
    (void)state;
    source.meanwhile = a_is_changed_once_more;
    source.gone = true;
    busy = 2;
    resync("App//a App//a ");
}

static void a_terminates(struct kit *k, const char *one)
{
    if (one == NULL)
        stream(k, "App", "/a", "app_terminated_event");
}

static void what_the_stream_said_is_gone_does_not_vanish_too(void **state)
{
    (void)state;
    stream(&source.kit, "App", "/a", "api_post_event");
    stream(&source.kit, "App", "/b", "api_post_event");
    stream(&source.kit, "App", "/b", "app_terminated_event");
    source.meanwhile = a_terminates;
    source.gone = true;
    resync("App//a App//b App//b App//a ");
}

static void what_vanished_is_what_is_known_and_not_listed(void **state)
{
    (void)state;
    stream(&source.kit, "App", "/a", "api_post_event");
    stream(&source.kit, "App", "/b", "api_post_event");
    stream(&source.kit, "Task", "/c", "status_update_event");
    stream(&source.kit, "Subscription", "1.2.3.4", "event_stream_attached");
    stream(&source.kit, "App", "", "api_post_event");
    source.list[0] = "/a";
    resync("App//a App//b Task//c Subscription/1.2.3.4 App/ =/a{\"v\":1} -/b ");
}

/* A late task event of what is gone keeps nothing alive; what came back under that key is found. */
static void what_is_not_listed_but_heard_of_is_asked_for(void **state)
{
    (void)state;
    stream(&source.kit, "App", "/a", "api_post_event");
    source.meanwhile = a_task_of_a_starts;
    resync("App//a Task//a =/a{\"v\":2} ");
    assert_string_equal(buf_cstr(&source.asked), "App//a ");
}

static void what_is_found_so_is_asked_for_until_nothing_comes_in_between(void **state)
{
    (void)state;
    stream(&source.kit, "App", "/a", "api_post_event");
    source.meanwhile = a_is_busy_for_a_while;
    busy = 3;
    resync("App//a Instance//a Instance//a Instance//a =/a{\"v\":2} ");
    assert_string_equal(buf_cstr(&source.asked), "App//a App//a App//a ");
}

static void what_is_not_listed_and_really_gone_vanishes_though_heard_of(void **state)
{
    (void)state;
    stream(&source.kit, "App", "/a", "api_post_event");
    source.meanwhile = a_task_of_a_starts;
    source.gone = true;
    resync("App//a Task//a -/a ");
}

static void b_is_created(struct kit *k, const char *one)
{
    if (one == NULL)
        stream(k, "App", "/b", "api_post_event");
}

static void what_is_created_meanwhile_is_asked_for_and_stays(void **state)
{
    (void)state;
    source.meanwhile = b_is_created;
    resync("App//b =/b{\"v\":2} ");
}

static void something_is_created(struct kit *k, const char *one)
{
    if (one == NULL)
        stream(k, "App", "", "pod_created_event");
}

static void what_is_told_without_a_key_is_said_to_the_connector(void **state)
{
    (void)state;
    source.meanwhile = something_is_created;
    resync("App/ ");
    assert_string_equal(buf_cstr(&source.asked), "App/ ");
}

static void too_many_keys_to_be_noted_count_as_told(void **state)
{
    (void)state;
    static struct resync r;
    struct event e = {.origin = EVENT_SOURCE, .topic = STR("Task"), .ns = STR(""), .seq = 10};
    struct found_event never = {.topic = STR("App"), .ns = STR(""), .key = STR("never")};
    r.watch = (struct resync_watch){.on = true, .from = 10};
    for (uint64_t i = 0; i < (1 << 19); i++, e.seq++) {
        char key[16];
        e.key = (struct str){key, (size_t)snprintf(key, sizeof key, "%d", (int)i)};
        assert_false(resync_watch_has_told_key(&r, &never, 10));
        resync_watch_note(&r.watch, &e);
    }
    e.key = STR("more");
    resync_watch_note(&r.watch, &e);
    assert_true(resync_watch_has_told_key(&r, &never, 10));
    assert_true(resync_watch_has_told_key(&r, &never, e.seq));
    assert_false(resync_watch_has_told_key(&r, &never, e.seq + 1));
    resync_watch_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_told_before_the_question_says_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_the_stream_told_of_meanwhile_is_asked_for_again,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_is_asked_for_until_nothing_comes_in_between, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_gone_by_then_is_not_told_from_the_older_answer,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_known_and_is_gone_by_then_vanishes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_was_told_and_is_gone_when_it_is_asked_for_vanishes,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(unless_it_is_told_once_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_stream_said_is_gone_does_not_vanish_too, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_vanished_is_what_is_known_and_not_listed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_listed_but_heard_of_is_asked_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            what_is_found_so_is_asked_for_until_nothing_comes_in_between, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_listed_and_really_gone_vanishes_though_heard_of,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_created_meanwhile_is_asked_for_and_stays, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_told_without_a_key_is_said_to_the_connector, set_up,
                                        tear_down),
        cmocka_unit_test(too_many_keys_to_be_noted_count_as_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
