/* test_marathon_snapshot.c - the reading of a Marathon's whole state, against a server that answers
 * what the test wrote down, whatever it is asked, and a resync that notes what it is told. */
#include "bridge/base/clock.h"
#include "connectors/marathon/marathon_snapshot.h"
#include "connectors/marathon/marathon_snapshot_http.h"
#include "tests/unit/check.h"
#include "tests/unit/fake_ingest.h"
#include "tests/unit/stub_server.h"

/* ---- a resync ---- */

enum { HELD_MAX = 8 };

struct resync {
    struct stop *stop;
    size_t asked, stop_after; /* requests; 0: never */
    size_t expected;
    bool refuse;                   /* resync_object fails */
    const char *old;               /* a key that need not be told */
    struct buf told;               /* "App//a", "whole App", "gone App//a", each with "\n" */
    struct buf data;               /* each with "\n" */
    const char *held[HELD_MAX][2]; /* to be asked for again, and how often the first one is */
    unsigned busy;
};

struct stop *resync_stop(struct resync *r)
{
    return r->stop;
}

bool resync_may_ask(struct resync *r)
{
    if (r->stop_after > 0 && r->asked == r->stop_after)
        stop_request(r->stop);
    r->asked++;
    return !stop_requested(r->stop);
}

bool resync_goes_on(struct resync *r)
{
    return !stop_requested(r->stop);
}

void resync_expect(struct resync *r, size_t n)
{
    r->expected += n;
}

void resync_asked_now(struct resync *r)
{
    buf_append_cstr(&r->told, "asked\n");
}

bool resync_listed(struct resync *r, const struct found_event *o)
{
    return r->old == NULL || !str_is(o->key, r->old);
}

int resync_object(struct resync *r, const struct found_event *o, struct err *err)
{
    if (r->refuse)
        return err_set(err, ERR_FATAL, "the fake refuses");
    buf_printf(&r->told, "%.*s/%.*s\n", STR_ARG(o->topic), STR_ARG(o->key));
    buf_append_str(&r->data, o->data);
    buf_append_char(&r->data, '\n');
    return 0;
}

void resync_whole(struct resync *r, struct str topic, uint64_t index)
{
    assert_int_equal(index, 0);
    buf_printf(&r->told, "whole %.*s\n", STR_ARG(topic));
}

int resync_gone(struct resync *r, struct str topic, struct str key, struct err *err)
{
    (void)err;
    buf_printf(&r->told, "gone %.*s/%.*s\n", STR_ARG(topic), STR_ARG(key));
    return 0;
}

int resync_again(struct resync *r, resync_again_fn *again, void *arg, size_t *held, struct err *err)
{
    *held = 0;
    for (size_t i = 0; i < HELD_MAX && r->held[i][0] != NULL; i++)
        if (again(arg, str_from(r->held[i][0]), str_from(r->held[i][1]), err) != 0)
            return -1;
    if (r->busy > 0 && --r->busy > 0)
        *held = 1;
    return 0;
}

/* ---- the rig ---- */

struct rig {
    struct resync resync;
    struct ingest ingest;
    struct marathon_settings settings;
    const char *servers[1];
    struct stub_server *server;
    struct err err;
    int rc;
};

static int set_up(void **state)
{
    struct rig *r = mem_zalloc(sizeof *r);
    r->resync.stop = stop_new();
    r->settings =
        (struct marathon_settings){.servers = {r->servers, 1}, .connect_timeout_ms = 3000};
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    if (r->server != NULL)
        stub_stop(&r->server);
    stop_free(&r->resync.stop);
    buf_fini(&r->resync.told);
    buf_fini(&r->resync.data);
    free(r);
    return 0;
}

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
#define OK(body)                \
    {                           \
        .first = STR(HEAD body) \
    }
#define SAYS(status, body)                                                    \
    {                                                                         \
        .first = STR("HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body) \
    }
#define NO_APPS OK("{\"apps\":[]}")
#define NONE OK("[]")
#define ROOT OK("{\"id\":\"/\"}")
#define NO_PODS SAYS("404 Not Found", "no"), SAYS("404 Not Found", "no")
#define ANSWERS(...)                           \
    (const struct stub_answer[]){__VA_ARGS__}, \
        sizeof((const struct stub_answer[]){__VA_ARGS__}) / sizeof(struct stub_answer)

static void run_rig(struct rig *r, const struct stub_answer *answers, size_t n)
{
    r->server = stub_start(answers, n);
    r->servers[0] = r->server->url;
    r->rc = marathon_snapshot(&r->settings, &r->ingest, "", &r->resync, &r->err);
    stub_join(r->server);
}

#define assert_told(r, text) assert_string_equal(buf_cstr(&(r)->resync.told), (text))
#define assert_has_told(r, text)                                                      \
    do {                                                                              \
        if (strstr(buf_cstr(&(r)->resync.told), (text)) == NULL)                      \
            fail_msg("\"%s\" was not told: %s", (text), buf_cstr(&(r)->resync.told)); \
    } while (0)
#define assert_asked(r, i, text)                                                      \
    do {                                                                              \
        if (strstr((r)->server->requests[i], (text)) == NULL)                         \
            fail_msg("\"%s\" does not ask \"%s\"", (r)->server->requests[i], (text)); \
    } while (0)
#define assert_failed(r, text)                                            \
    do {                                                                  \
        assert_int_equal((r)->rc, -1);                                    \
        assert_int_equal((r)->err.kind, ERR_RETRY);                       \
        if (strstr((r)->err.msg, (text)) == NULL)                         \
            fail_msg("\"%s\" does not say \"%s\"", (r)->err.msg, (text)); \
    } while (0)

/* ---- what is asked, and told ---- */

static void the_four_lists_are_read_and_told_whole(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(OK("{\"apps\":[{\"id\":\"/a\"},{\"id\":\"/b\"}]}"), OK("[{\"id\":\"d\"}]"),
                       OK("{\"id\":\"/\",\"groups\":[{\"id\":\"/g\"}]}"), OK("[{\"id\":\"/p\"}]")));
    assert_int_equal(r->rc, 0);
    assert_told(r, "asked\nApp//a\nApp//b\nwhole App\nasked\nDeployment/d\nwhole Deployment\n"
                   "asked\nGroup//\nGroup//g\nwhole Group\nasked\nPod//p\nwhole Pod\n");
    assert_int_equal(r->resync.expected, 6);
    assert_asked(r, 0, "GET /v2/apps?embed=apps.tasks&embed=apps.counts&embed=apps.deployments");
    assert_asked(r, 0, "\r\nAccept: application/json\r\n");
    assert_asked(r, 1, "GET /v2/deployments ");
    assert_asked(r, 2, "GET /v2/groups?embed=group.groups ");
    assert_asked(r, 3, "GET /v2/pods::status ");
}

static void the_time_told_is_that_of_the_question(void **state)
{
    struct rig *r = *state;
    char from[CLOCK_TEXT_MAX], to[CLOCK_TEXT_MAX], at[CLOCK_TEXT_MAX];
    clock_format(clock_wall_us() / 1000 * 1000, from);
    run_rig(r, ANSWERS({.first = STR(HEAD "{\"apps\":["),
                        .pause_ms = 300,
                        .then = STR("{\"id\":\"/a\"}]}")},
                       NONE, ROOT, NONE));
    clock_format(clock_wall_us() / 1000 * 1000 - 300000, to);
    const char *found = strstr(buf_cstr(&r->resync.data), "\"timestamp\":\"");
    snprintf(at, sizeof at, "%.24s", found + 13);
    assert_true(strcmp(from, at) <= 0 && strcmp(at, to) <= 0);
}

static void what_need_not_be_told_is_not(void **state)
{
    struct rig *r = *state;
    r->resync.old = "/a";
    run_rig(r, ANSWERS(OK("{\"apps\":[{\"id\":\"/a\"}]}"), NONE, ROOT, NONE));
    assert_told(r, "asked\nwhole App\nasked\nwhole Deployment\nasked\nGroup//\nwhole Group\nasked\n"
                   "whole Pod\n");
}

/* ---- answers that are none ---- */

static void what_this_marathon_does_not_have_is_left_out(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(NO_APPS, NONE, ROOT, NO_PODS));
    assert_int_equal(r->rc, 0);
    assert_asked(r, 3, "GET /v2/pods::status ");
    assert_asked(r, 4, "GET /v2/pods/::status ");
    assert_has_told(r, "whole Group\n");
    assert_null(strstr(buf_cstr(&r->resync.told), "whole Pod"));
}

static void what_the_user_may_not_see_is_left_out(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(NO_APPS, NONE, SAYS("403 Forbidden", "no"), NONE));
    assert_int_equal(r->rc, 0);
    assert_has_told(r, "whole Pod\n");
    assert_null(strstr(buf_cstr(&r->resync.told), "whole Group"));
}

struct wrong {
    struct stub_answer answer;
    const char *why;
};

static void answers_that_make_no_sense_break_it_off_but_not_the_other_lists(void **state)
{
    const struct wrong wrong_apps[] = {
        {SAYS("500 Oops", "trouble\nhere"), "/v2/apps?embed=apps.tasks"},
        {SAYS("500 Oops", "trouble\nhere"), "the server answered 500: trouble here"},
        {SAYS("401 Unauthorized", ""), "the server answered 401"},
        {SAYS("302 Found\r\nLocation: http://elsewhere/", ""),
         "answered 302, to http://elsewhere/"},
        {SAYS("204 No Content", ""), "the server answered 204"},
        {OK(""), "not JSON"},
        {OK("<html></html>"), "not JSON"},
        {OK("[]"), "not an object with a list \"apps\""},
        {OK("{\"apps\":{}}"), "not an object with a list \"apps\""},
        {OK("{\"apps\":[{\"id\":\"/a\"},{\"id\""), "ends in the middle"},
        {OK("{\"apps\":[{\"id\":\"/a\"},{\"id\"}]}"), "not JSON"},
    };
    for (size_t i = 0; i < sizeof wrong_apps / sizeof *wrong_apps; i++) {
        struct rig *r = *state;
        run_rig(r, ANSWERS(wrong_apps[i].answer, NONE, ROOT, NONE));
        assert_failed(r, wrong_apps[i].why);
        assert_null(strstr(buf_cstr(&r->resync.told), "whole App"));
        assert_has_told(r, "whole Pod\n");
        tear_down(state);
        set_up(state);
    }
}

static void wrong_groups_are_noticed(void **state)
{
    const char *const why[] = {"not a group", "not JSON"};
    const struct stub_answer wrong[] = {OK("[]"), OK("{\"id\":\"/\"")};
    for (size_t i = 0; i < 2; i++) {
        struct rig *r = *state;
        run_rig(r, ANSWERS(NO_APPS, NONE, wrong[i], NONE));
        assert_failed(r, why[i]);
        tear_down(state);
        set_up(state);
    }
}

static void an_entry_that_makes_no_sense_is_left_out_and_nothing_vanishes(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(OK("{\"apps\":[{\"id\":\"/a\"},7,{\"x\":1}]}"), NONE, ROOT, NONE));
    assert_int_equal(r->rc, 0);
    assert_has_told(r, "asked\nApp//a\nasked\n");
}

static void a_lost_connection_ends_the_attempt_at_once(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS({.first = STR("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"apps\":["),
                        .reset = true}));
    assert_failed(r, "/v2/apps");
    assert_int_equal(r->resync.asked, 1);
}

static void an_error_of_the_resync_is_the_result(void **state)
{
    struct rig *r = *state;
    r->resync.refuse = true;
    run_rig(r, ANSWERS(OK("{\"apps\":[{\"id\":\"/a\"}]}"), NONE, NONE, NONE));
    assert_int_equal(r->rc, -1);
    assert_non_null(strstr(r->err.msg, "the fake refuses"));
}

static void when_it_is_time_to_stop_it_stops(void **state)
{
    struct rig *r = *state;
    r->resync.stop_after = 2;
    run_rig(r, ANSWERS(NO_APPS, NONE, ROOT, NONE));
    assert_int_equal(r->rc, 0);
    assert_int_equal(r->server->n_requests, 2);
}

/* ---- asking again ---- */

static void changed_objects_are_asked_for_by_themselves(void **state)
{
    struct rig *r = *state;
    const char *held[][2] = {{"App", "/t/\xc3\xa4 x"}, {"Pod", "/p"},       {"Group", "/"},
                             {"Group", "/g"},          {"Deployment", "d"}, {"App", ""},
                             {"Other", "/x"}};
    memcpy(r->resync.held, held, sizeof held);
    run_rig(r,
            ANSWERS(NO_APPS, NONE, ROOT, NONE, OK("{\"app\":{\"id\":\"/t/\xc3\xa4 x\",\"v\":2}}"),
                    OK("{\"id\":\"/p\"}"), OK("{\"id\":\"/\"}"), SAYS("404 Not Found", "no")));
    assert_int_equal(r->rc, 0);
    assert_has_told(r, "whole Pod\nasked\nApp//t/\xc3\xa4 x\nasked\nPod//p\nasked\nGroup//\nasked\n"
                       "gone Group//g\n");
    assert_asked(r, 4, "GET /v2/apps/t/%C3%A4%20x?embed=app.tasks&embed=app.counts&embed=app.depl");
    assert_asked(r, 5, "GET /v2/pods/p::status ");
    assert_asked(r, 6, "GET /v2/groups?embed=group.groups ");
    assert_asked(r, 7, "GET /v2/groups/g?embed=group.groups ");
    assert_int_equal(r->server->n_requests, 8);
    assert_non_null(strstr(buf_cstr(&r->resync.data), "{\"appDefinition\":{\"id\":\"/t/\xc3\xa4 "
                                                      "x\",\"v\":2},\"eventType\""));
}

static void a_pod_that_was_created_is_found_in_the_list(void **state)
{
    struct rig *r = *state;
    r->resync.held[0][0] = "Pod";
    r->resync.held[0][1] = "";
    run_rig(r, ANSWERS(NO_APPS, NONE, ROOT, NONE, OK("[{\"id\":\"/new\"}]")));
    assert_int_equal(r->rc, 0);
    assert_has_told(r, "asked\nPod//new\n");
    assert_asked(r, 4, "GET /v2/pods::status ");
}

static void what_is_answered_with_something_else_is_not_told(void **state)
{
    struct rig *r = *state;
    r->resync.held[0][0] = "App";
    r->resync.held[0][1] = "/a/tasks";
    r->resync.held[1][0] = "App";
    r->resync.held[1][1] = "/b";
    run_rig(r, ANSWERS(NO_APPS, NONE, ROOT, NONE, OK("{\"tasks\":[]}"),
                       OK("{\"app\":{\"id\":\"/c\"}}")));
    assert_int_equal(r->rc, 0);
    assert_int_equal(r->server->n_requests, 6);
    assert_null(strstr(buf_cstr(&r->resync.told), "App/"));
}

static void trouble_when_asking_again_breaks_it_off(void **state)
{
    struct rig *r = *state;
    r->resync.held[0][0] = "App";
    r->resync.held[0][1] = "/a";
    run_rig(r, ANSWERS(NO_APPS, NONE, ROOT, NONE, SAYS("503 Busy", "later")));
    assert_failed(r, "the server answered 503: later");
}

static void what_changes_for_a_while_is_waited_for(void **state)
{
    struct rig *r = *state;
    r->resync.held[0][0] = "App";
    r->resync.held[0][1] = "/a";
    r->resync.busy = 4;
    run_rig(r, ANSWERS(NO_APPS, NONE, ROOT, NONE, OK("{\"app\":{\"id\":\"/a\"}}")));
    assert_int_equal(r->rc, 0);
    assert_int_equal(r->server->n_requests, 8);
}

/* ---- limits ---- */

static int take_nothing(void *arg, struct str bytes, struct err *err)
{
    (void)arg, (void)bytes, (void)err;
    return 0;
}

static void limit(struct rig *r, const struct stub_answer *answer,
                  const struct marathon_asker_limits *limits, const char *why)
{
    struct marathon_asker asker;
    struct marathon_answer said;
    r->server = stub_start(answer, 1);
    r->servers[0] = r->server->url;
    marathon_asker_init(&asker, &r->settings, r->server->url, &r->resync);
    asker.limits = *limits;
    r->rc = marathon_ask(&asker, "/v2/apps", take_nothing, NULL, &said, &r->err);
    assert_failed(r, why);
    assert_true(asker.lost);
    marathon_asker_fini(&asker);
    stub_stop(&r->server);
}

static void an_answer_has_limits(void **state)
{
    struct rig *r = *state;
    const struct stub_answer silent = {.first = STR(HEAD "["), .hold = true};
    const struct stub_answer mute = {.first = STR(""), .hold = true};
    const struct stub_answer slow = {.first = STR(HEAD "["), .pause_ms = 300, .then = STR("]")};
    const struct stub_answer large = OK("[1,2,3,4,5,6]");
    limit(r, &silent, &(struct marathon_asker_limits){100, 60000, 1000}, "silent for 100 ms");
    limit(r, &mute, &(struct marathon_asker_limits){100, 60000, 1000}, "silent for 100 ms");
    limit(r, &slow, &(struct marathon_asker_limits){5000, 100, 1000}, "longer than 100 ms");
    limit(r, &large, &(struct marathon_asker_limits){5000, 60000, 5}, "more than 5 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_four_lists_are_read_and_told_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_time_told_is_that_of_the_question, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_need_not_be_told_is_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_this_marathon_does_not_have_is_left_out, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_the_user_may_not_see_is_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            answers_that_make_no_sense_break_it_off_but_not_the_other_lists, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_groups_are_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            an_entry_that_makes_no_sense_is_left_out_and_nothing_vanishes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_connection_ends_the_attempt_at_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_error_of_the_resync_is_the_result, set_up, tear_down),
        cmocka_unit_test_setup_teardown(when_it_is_time_to_stop_it_stops, set_up, tear_down),
        cmocka_unit_test_setup_teardown(changed_objects_are_asked_for_by_themselves, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_pod_that_was_created_is_found_in_the_list, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_answered_with_something_else_is_not_told, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(trouble_when_asking_again_breaks_it_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_changes_for_a_while_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_has_limits, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
