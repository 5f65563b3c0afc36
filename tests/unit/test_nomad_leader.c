/* test_nomad_leader.c - how far the leader's state is, whether its index started over, and whether
 * there is one, from a server that says what the test wrote. */
#include "tests/unit/nomad_rig.h"

#include "bridge/base/clock.h"
#include "connectors/nomad/nomad_leader.h"
#include "tests/unit/stopwatch.h"

enum { TABLES = 16 };

#define LIST(index)                                                                      \
    {                                                                                    \
        .first = STR("HTTP/1.1 200 OK\r\nX-Nomad-Index: " #index "\r\nContent-Length: 2" \
                     "\r\nConnection: close\r\n\r\n[]")                                  \
    }
#define REFUSAL(status, body)                                                 \
    {                                                                         \
        .first = STR("HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body) \
    }
#define BASE(index) LIST(index), LIST(index), LIST(index), LIST(index)

/* Asks; the answer, or 0 with r->err. */
static uint64_t ask(struct rig *r, const struct stub_answer *answers, size_t n)
{
    uint64_t index;
    r->server = stub_start(answers, n);
    r->rc = nomad_leader_index(&r->settings, r->server->url, r->in.stop, &index, &r->err);
    stub_join(r->server);
    return r->rc == 0 ? index : 0;
}

static void assert_refused(struct rig *r, const char *text)
{
    assert_int_equal(r->rc, -1);
    assert_int_equal(r->err.kind, ERR_RETRY);
    if (strstr(r->err.msg, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", r->err.msg, text);
}

static void takes_the_largest_of_all_lists(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    r->settings.region = "eu";
    uint64_t index =
        ask(r, ANSWERS(LIST(7), LIST(0), LIST(18446744073709551615), LIST(9), LIST(1)));
    assert_true(index == UINT64_MAX);
    assert_int_equal(r->server->n_requests, TABLES);
    assert_asked(r, 0, "GET /v1/jobs?per_page=1&namespace=%2A&region=eu HTTP/1.1\r\n");
    assert_asked(r, 0, "\r\nX-Nomad-Token: s3cret\r\n");
    assert_asked(r, 12, "GET /v1/volumes?type=csi&per_page=1&namespace=%2A&region=eu ");
}

static void reads_no_more_than_the_head(void **state)
{
    struct rig *r = *state;
    struct stub_answer endless = {
        .first = STR("HTTP/1.1 200 OK\r\nX-Nomad-Index: 8\r\n\r\n[{\"ID\":"), .hold = true};
    struct stopwatch before = stopwatch_start();
    assert_int_equal(ask(r, &endless, 1), 8);
    assert_took(&before, 0, 5000);
}

static void passes_over_lists_that_this_version_does_not_know(void **state)
{
    struct rig *r = *state;
    assert_int_equal(
        ask(r, ANSWERS(BASE(5), LIST(12), REFUSAL("404 Not Found", ""),
                       REFUSAL("500 Oops", "index error: UUID must be 36 characters"),
                       REFUSAL("400 Bad Request", "ACL support disabled"),
                       REFUSAL("500 Oops", "rpc error: rpc: can't find method ACL.ListRoles"),
                       REFUSAL("501 Not Implemented", ""), {.first = STR(HEAD)})),
        12);
    assert_int_equal(r->server->n_requests, TABLES);
}

static void knows_nothing_without_a_leader(void **state)
{
    struct rig *r = *state;
    ask(r, ANSWERS(REFUSAL("500 Internal Server Error", "No cluster leader\n")));
    assert_refused(r, "asking the leader, /v1/jobs: answered 500: No cluster leader");
}

static void knows_nothing_where_the_leader_goes_in_between(void **state)
{
    struct rig *r = *state;
    ask(r, ANSWERS(BASE(5), LIST(5), REFUSAL("500 Internal Server Error", "No cluster leader")));
    assert_refused(r, "/v1/services: answered 500");
}

static void knows_nothing_of_lists_it_may_not_read(void **state)
{
    struct rig *r = *state;
    ask(r, ANSWERS(BASE(5), REFUSAL("403 Forbidden", "Permission denied")));
    assert_refused(r, "/v1/nodes: the token may not list it (403)");
}

static void asks_only_for_what_events_come_from(void **state)
{
    struct rig *r = *state;
    r->settings.filter_at = NOMAD_FILTER_AT_SERVER;
    r->settings.ns = "apps";
    r->topics[0] = "Job:web";
    r->topics[1] = "Service";
    r->settings.topics.n = 2;
    assert_int_equal(ask(r, ANSWERS(BASE(5), LIST(6))), 6);
    assert_int_equal(r->server->n_requests, 5);
    assert_asked(r, 4, "GET /v1/services?per_page=1&namespace=apps ");
}

static void takes_nothing_else_for_a_nomad(void **state)
{
    struct rig *r = *state;
    ask(r, ANSWERS({.first = STR(HEAD "<html>It works!</html>")}));
    assert_refused(r, "is it a Nomad?");
    stub_stop(&r->server);
    ask(r, ANSWERS(REFUSAL("404 Not Found", "")));
    assert_refused(r, "/v1/jobs: answered 404");
    stub_stop(&r->server);
    ask(r, ANSWERS(LIST(12x)));
    assert_refused(r, "is no number");
    stub_stop(&r->server);
    ask(r, ANSWERS(LIST(0)));
    assert_refused(r, "no list was ever changed");
}

/* ---- has the index started over ---- */

#define SIXTEEN(index) BASE(index), BASE(index), BASE(index), BASE(index)
#define AGENT(raft)                                                                              \
    {                                                                                            \
        .first = STR(HEAD "{\"config\":{},\"stats\":{\"nomad\":{\"server\":\"true\"}" raft "}}") \
    }
#define LOG_TO(index) AGENT(",\"raft\":{\"last_log_index\":\"" #index "\",\"fsm_pending\":\"3\"}")

static enum leader_verdict judge(struct rig *r, uint64_t last, const struct stub_answer *answers,
                                 size_t n)
{
    enum leader_verdict verdict;
    r->server = stub_start(answers, n);
    r->rc = nomad_leader_judge(&r->settings, r->server->url, r->in.stop, last, &verdict, &r->err);
    stub_join(r->server);
    return verdict;
}

static void an_index_that_is_reached_has_not_started_over(void **state)
{
    struct rig *r = *state;
    assert_int_equal(judge(r, 20, ANSWERS(BASE(5), LIST(20))), LEADER_IS_AHEAD);
    assert_int_equal(r->rc, 0);
    assert_int_equal(r->server->n_requests, TABLES);
}

static void an_index_has_started_over_where_the_leader_says_so_twice(void **state)
{
    struct rig *r = *state;
    assert_int_equal(judge(r, 20, ANSWERS(SIXTEEN(19), SIXTEEN(19), LOG_TO(19))),
                     LEADER_STARTED_OVER);
    assert_int_equal(r->rc, 0);
    assert_int_equal(r->server->n_requests, 2 * TABLES + 1);
    assert_asked(r, 0, "GET /v1/agent/self "); /* the 33rd took the place of the first */
}

static void a_leader_that_was_replaced_is_not_believed(void **state)
{
    struct rig *r = *state;
    assert_int_equal(judge(r, 20, ANSWERS(SIXTEEN(19), LIST(21), LIST(3))), LEADER_IS_AHEAD);
    assert_int_equal(r->rc, 0);
    assert_int_equal(r->server->n_requests, 2 * TABLES);
}

static void a_log_that_reaches_the_last_index_is_the_old_one(void **state)
{
    struct rig *r = *state;
    assert_int_equal(judge(r, 20, ANSWERS(SIXTEEN(3), SIXTEEN(11), LOG_TO(20))), LEADER_IS_AHEAD);
    assert_int_equal(r->rc, 0);
}

static void the_lists_decide_where_the_log_may_not_be_read(void **state)
{
    struct rig *r = *state;
    struct stub_answer unreadable[] = {REFUSAL("403 Forbidden", "Permission denied"),
                                       AGENT(""),
                                       {.first = STR(HEAD "<html>")},
                                       LOG_TO(-20)};
    r->settings.filter_at = NOMAD_FILTER_AT_SERVER; /* four lists, then */
    r->topics[0] = "Job";
    for (size_t i = 0; i < sizeof unreadable / sizeof *unreadable; i++) {
        assert_int_equal(judge(r, 20, ANSWERS(BASE(19), BASE(19), unreadable[i])),
                         LEADER_STARTED_OVER);
        stub_stop(&r->server);
    }
}

static void a_leader_that_applies_its_log_decides_nothing(void **state)
{
    struct rig *r = *state;
    struct stopwatch before = stopwatch_start();
    assert_int_equal(
        judge(r, 20,
              ANSWERS(LIST(3), REFUSAL("500 Internal Server Error", "rpc error: Not ready to serve "
                                                                    "consistent reads"))),
        LEADER_REPLAYS);
    assert_refused(r, "/v1/allocations: it was restarted and still applies its log");
    assert_took(&before, 1900, 10000); /* no busy loop */
    assert_int_equal(r->server->n_requests, 2);
}

static void without_a_leader_nothing_is_known(void **state)
{
    struct rig *r = *state;
    struct stopwatch before = stopwatch_start();
    for (int i = 0; i < 5; i++) {
        assert_int_equal(judge(r, 20, ANSWERS(REFUSAL("500 Oops", "No cluster leader"))),
                         LEADER_UNKNOWN);
        assert_refused(r, "No cluster leader");
        stub_stop(&r->server);
    }
    assert_took(&before, 0, 8000); /* waits as above would take 10 s */
}

static void a_stop_request_ends_the_asking(void **state)
{
    struct rig *r = *state;
    stop_request(r->in.stop);
    struct stopwatch before = stopwatch_start();
    assert_int_equal(judge(r, 20, ANSWERS({.first = STR(""), .hold = true})), LEADER_UNKNOWN);
    assert_refused(r, "stopped");
    assert_took(&before, 0, 8000); /* an answer would be waited for for 11 s */
}

/* ---- is there one ---- */

static int look(struct rig *r, int timeout_ms, const struct stub_answer *answers, size_t n)
{
    r->server = stub_start(answers, n);
    r->rc = nomad_leader_is_known(&r->settings, r->server->url, r->in.stop, timeout_ms, &r->err);
    stub_join(r->server);
    int rc = r->rc;
    if (rc == 0)
        stub_stop(&r->server);
    return rc;
}

static void a_server_that_answers_is_there(void **state)
{
    struct rig *r = *state;
    assert_int_equal(look(r, 20000, ANSWERS({.first = STR(HEAD "\"127.0.0.1:4647\"")})), 0);
    assert_int_equal(look(r, 20000, ANSWERS(REFUSAL("404 Not Found", ""))), 0);
    assert_int_equal(look(r, 20000, ANSWERS(REFUSAL("403 Forbidden", ""))), 0);
}

static void a_server_that_knows_no_leader_is_of_no_use(void **state)
{
    struct rig *r = *state;
    assert_int_equal(look(r, 20000, ANSWERS({.first = STR(HEAD "\"\"")})), -1);
    assert_asked(r, 0, "GET /v1/status/leader ");
    assert_refused(r, "knows no leader");
}

static void a_server_that_does_not_answer_is_not_there(void **state)
{
    struct rig *r = *state;
    assert_int_equal(look(r, 300, ANSWERS({.first = STR(""), .hold = true})), -1);
    assert_refused(r, "quiet, and does not answer: no whole answer within 300 ms");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_rig, tear_down_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(takes_the_largest_of_all_lists),
        TEST(reads_no_more_than_the_head),
        TEST(passes_over_lists_that_this_version_does_not_know),
        TEST(knows_nothing_without_a_leader),
        TEST(knows_nothing_where_the_leader_goes_in_between),
        TEST(knows_nothing_of_lists_it_may_not_read),
        TEST(asks_only_for_what_events_come_from),
        TEST(takes_nothing_else_for_a_nomad),
        TEST(an_index_that_is_reached_has_not_started_over),
        TEST(an_index_has_started_over_where_the_leader_says_so_twice),
        TEST(a_leader_that_was_replaced_is_not_believed),
        TEST(a_log_that_reaches_the_last_index_is_the_old_one),
        TEST(the_lists_decide_where_the_log_may_not_be_read),
        TEST(a_leader_that_applies_its_log_decides_nothing),
        TEST(without_a_leader_nothing_is_known),
        TEST(a_stop_request_ends_the_asking),
        TEST(a_server_that_answers_is_there),
        TEST(a_server_that_knows_no_leader_is_of_no_use),
        TEST(a_server_that_does_not_answer_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
