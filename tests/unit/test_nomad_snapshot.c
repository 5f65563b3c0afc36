/* test_nomad_snapshot.c - the reading of a whole state, against a server that answers what the test
 * wrote down, whatever it is asked, and a resync that notes what it is told. */
#include "bridge/base/log.h"
#include "connectors/nomad/nomad_snapshot.h"
#include "tests/unit/check.h"
#include "tests/unit/stub_server.h"

/* ---- a resync ---- */

struct resync {
    struct stop *stop;
    size_t asked, stop_after; /* requests; 0: never */
    size_t expected;
    uint64_t as_of;
    bool refuse;     /* resync_object fails */
    const char *old; /* a key that need not be told */
    struct buf told; /* "listed Job/default/web@7", "Job/default/web@7", "whole Job 9" */
    struct buf data; /* each with "\n" */
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

void resync_expect(struct resync *r, size_t n)
{
    r->expected += n;
}

void resync_as_of(struct resync *r, uint64_t index)
{
    assert_true(index >= r->as_of);
    r->as_of = index;
}

static void note(struct resync *r, const char *verb, const struct found_event *o)
{
    buf_printf(&r->told, "%s%.*s/%.*s/%.*s@%llu\n", verb, STR_ARG(o->topic), STR_ARG(o->ns),
               STR_ARG(o->key), (unsigned long long)o->index);
}

bool resync_listed(struct resync *r, const struct found_event *o)
{
    note(r, "listed ", o);
    return r->old == NULL || !str_is(o->key, r->old);
}

int resync_object(struct resync *r, const struct found_event *o, struct err *err)
{
    if (r->refuse)
        return err_set(err, ERR_FATAL, "the fake refuses");
    note(r, "", o);
    buf_append_str(&r->data, o->data);
    buf_append_char(&r->data, '\n');
    return 0;
}

void resync_whole(struct resync *r, struct str topic, uint64_t index)
{
    buf_printf(&r->told, "whole %.*s %llu\n", STR_ARG(topic), (unsigned long long)index);
}

/* ---- the rig ---- */

struct rig {
    struct resync resync;
    struct nomad_settings settings;
    const char *servers[2];
    const char *topics[2];
    struct stub_server *server;
    struct snapshot_memory memory;
    struct err err;
    int rc;
};

static int set_up(void **state)
{
    struct rig *r = mem_zalloc(sizeof *r);
    r->resync.stop = stop_new();
    r->topics[0] = "Job";
    r->settings = (struct nomad_settings){.servers = {r->servers, 1},
                                          .topics = {r->topics, 1},
                                          .ns = "*",
                                          .connect_timeout_ms = 3000};
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

#define HEAD_INDEX(index)                                                                      \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Nomad-Index: " #index "\r\nConnec" \
    "tion: close\r\n"
#define OK(index, body)                             \
    {                                               \
        .first = STR(HEAD_INDEX(index) "\r\n" body) \
    }
#define PAGE(index, next, body)                                                    \
    {                                                                              \
        .first = STR(HEAD_INDEX(index) "X-Nomad-NextToken: " next "\r\n\r\n" body) \
    }
#define SAYS(status, body)                                                    \
    {                                                                         \
        .first = STR("HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body) \
    }
#define STUB(ns, id, index) \
    "{\"ID\":\"" id "\",\"Namespace\":\"" ns "\",\"ModifyIndex\":" #index ",\"Stub\":true}"
#define FULL(ns, id, index) \
    "{\"ID\":\"" id "\",\"Namespace\":\"" ns "\",\"ModifyIndex\":" #index "}"
#define NAMESPACES OK(1, "[{\"Name\":\"default\"},{\"Name\":\"apps\"}]")
#define ANSWERS(...)                           \
    (const struct stub_answer[]){__VA_ARGS__}, \
        sizeof((const struct stub_answer[]){__VA_ARGS__}) / sizeof(struct stub_answer)

static void run_rig(struct rig *r, const struct stub_answer *answers, size_t n)
{
    r->server = stub_start(answers, n);
    r->servers[r->settings.servers.n - 1] = r->server->url;
    r->rc = snapshot_read(&r->settings, STR("fake"), &r->resync, &r->memory, &r->err);
    stub_join(r->server);
}

#define assert_told(r, text) assert_string_equal(buf_cstr(&(r)->resync.told), (text))
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

static void reads_each_listed_object_in_full(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    r->settings.region = "eu";
    run_rig(r,
            ANSWERS(NAMESPACES, OK(9, "[" STUB("default", "web", 7) "," STUB("apps", "x", 8) "]"),
                    OK(7, FULL("default", "web", 7)), OK(8, FULL("apps", "x", 8))));
    assert_int_equal(r->rc, 0);
    assert_told(r,
                "listed Job/default/web@7\nJob/default/web@7\nlisted Job/apps/x@8\nJob/apps/x@8\n"
                "whole Job 9\n");
    assert_int_equal(r->resync.expected, 2);
    assert_int_equal(r->resync.as_of, 9);
    assert_asked(r, 0, "GET /v1/namespaces?&region=eu HTTP/1.1\r\n");
    assert_asked(r, 1, "GET /v1/jobs?per_page=500&namespace=%2A&region=eu HTTP/1.1\r\n");
    assert_asked(r, 1, "\r\nX-Nomad-Token: s3cret\r\n");
    assert_asked(r, 2, "GET /v1/job/web?namespace=default&region=eu HTTP/1.1\r\n");
    assert_null(strstr(buf_cstr(&r->resync.data), "Stub"));
}

static void asks_for_no_object_that_need_not_be_told(void **state)
{
    struct rig *r = *state;
    r->resync.old = "web";
    run_rig(r, ANSWERS(NAMESPACES, OK(9, "[" STUB("default", "web", 7) "]")));
    assert_told(r, "listed Job/default/web@7\nwhole Job 9\n");
    assert_int_equal(r->resync.asked, 2);
}

static void asks_for_one_namespace_and_one_key_only(void **state)
{
    struct rig *r = *state;
    r->settings.ns = "my apps";
    r->topics[0] = "Job:web";
    run_rig(r, ANSWERS(OK(1, "[{\"Name\":\"my apps\"}]"),
                       OK(9, "[" STUB("my apps", "db", 7) "," STUB("my apps", "web", 8) "]"),
                       OK(8, FULL("my apps", "web", 8))));
    assert_told(r, "listed Job/my apps/db@7\nlisted Job/my apps/web@8\nJob/my apps/web@8\n"
                   "whole Job 9\n");
    assert_asked(r, 1, "/v1/jobs?per_page=500&namespace=my%20apps ");
    assert_int_equal(r->resync.asked, 3);
}

static void odd_keys_are_escaped(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(NAMESPACES, OK(9, "[" STUB("apps", "a/b%c:\\\"d\\\"?\\u00e9#", 7) "]"),
                       OK(7, FULL("apps", "a/b%c:\\\"d\\\"?\\u00e9#", 7))));
    assert_asked(r, 2, "GET /v1/job/a%2Fb%25c%3A%22d%22%3F%C3%A9%23?namespace=apps ");
    assert_told(r, "listed Job/apps/a/b%c:\"d\"?\u00e9#@7\nJob/apps/a/b%c:\"d\"?\u00e9#@7\n"
                   "whole Job 9\n");
}

static void another_object_than_asked_for_is_not_told(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(NAMESPACES, OK(9, "[" STUB("apps", "x/summary", 7) "]"),
                       OK(7, FULL("apps", "x", 7))));
    assert_told(r, "listed Job/apps/x/summary@7\nwhole Job 9\n");
}

static void what_is_gone_before_it_is_read_is_left_out(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(NAMESPACES, OK(9, "[" STUB("apps", "a", 7) "," STUB("apps", "b", 8) "]"),
                       SAYS("404 Not Found", "job not found"), OK(8, FULL("apps", "b", 8))));
    assert_int_equal(r->rc, 0);
    assert_told(r, "listed Job/apps/a@7\nlisted Job/apps/b@8\nJob/apps/b@8\nwhole Job 9\n");
}

static void namespaces_that_the_token_may_not_see_are_left_out(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "Deployment";
    run_rig(r, ANSWERS(OK(1, "[{\"Name\":\"apps\"}]"),
                       OK(9, "[" FULL("default", "a", 7) "," FULL("apps", "b", 8) "]")));
    assert_told(r,
                "listed Deployment/default/a@7\nlisted Deployment/apps/b@8\nDeployment/apps/b@8\n"
                "whole Deployment 9\n");
}

static void services_are_read_name_by_name(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "Service";
    run_rig(r,
            ANSWERS(NAMESPACES,
                    OK(9, "[{\"Namespace\":\"apps\",\"Services\":[{\"ServiceName\":\"a b\","
                          "\"Tags\":[]},{\"Tags\":null,\"ServiceName\":\"c\"}]}]"),
                    OK(9, "[" FULL("apps", "s1", 7) "," FULL("apps", "s2", 8) "]"), OK(9, "[]")));
    assert_asked(r, 1, "/v1/services?per_page=500&namespace=%2A ");
    assert_asked(r, 2, "/v1/service/a%20b?per_page=500&namespace=apps ");
    assert_asked(r, 3, "/v1/service/c?per_page=500&namespace=apps ");
    assert_told(r, "listed Service/apps/s1@7\nService/apps/s1@7\nlisted Service/apps/s2@8\n"
                   "Service/apps/s2@8\nwhole Service 9\n");
}

#define ALLOC(id, node) \
    "{\"ID\":\"" id "\",\"NodeID\":\"" node "\",\"Namespace\":\"apps\",\"ModifyIndex\":7}"
#define ALLOCS OK(9, "[" ALLOC("a1", "n1") "," ALLOC("a2", "n2") "," ALLOC("a3", "n1") "]")

static void allocations_are_read_by_node_and_those_it_lacks_singly(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "Allocation";
    run_rig(r, ANSWERS(NAMESPACES, ALLOCS, OK(9, "[" ALLOC("a3", "n1") "," ALLOC("a9", "n1") "]"),
                       OK(7, ALLOC("a1", "n1")), OK(7, ALLOC("a2", "n2"))));
    assert_int_equal(r->rc, 0);
    assert_asked(r, 1, "/v1/allocations?per_page=500&task_states=false&namespace=%2A ");
    assert_asked(r, 2, "/v1/node/n1/allocations?");
    assert_asked(r, 3, "/v1/allocation/a1?");
    assert_asked(r, 4, "/v1/allocation/a2?");
    assert_told(r, "listed Allocation/apps/a1@7\nlisted Allocation/apps/a2@7\n"
                   "listed Allocation/apps/a3@7\nAllocation/apps/a3@7\nAllocation/apps/a1@7\n"
                   "Allocation/apps/a2@7\nwhole Allocation 9\n");
}

static void a_token_that_may_not_read_nodes_reads_allocations_singly(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "Allocation";
    run_rig(r,
            ANSWERS(NAMESPACES,
                    OK(9, "[" ALLOC("a1", "n1") "," ALLOC("a2", "n2") "," ALLOC(
                              "a3", "n1") "," ALLOC("a4", "n2") "]"),
                    SAYS("403 Forbidden", "Permission denied"), OK(7, ALLOC("a1", "n1")),
                    OK(7, ALLOC("a3", "n1")), OK(7, ALLOC("a2", "n2")), OK(7, ALLOC("a4", "n2"))));
    assert_int_equal(r->rc, 0);
    assert_int_equal(r->resync.asked, 7);
    assert_non_null(strstr(buf_cstr(&r->resync.told),
                           "\nAllocation/apps/a1@7\nAllocation/apps/a3@7\nAllocation/apps/a2@7"
                           "\nAllocation/apps/a4@7\nwhole"));
}

/* ---- pages ---- */

static void follows_pages_to_the_end(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "Evaluation";
    run_rig(r, ANSWERS(NAMESPACES, PAGE(9, "5.b c", "[" FULL("apps", "a", 4) "]"),
                       OK(12, "[" FULL("apps", "b", 5) "]")));
    assert_asked(r, 2, "/v1/evaluations?per_page=500&namespace=%2A&next_token=5.b%20c ");
    assert_told(r, "listed Evaluation/apps/a@4\nEvaluation/apps/a@4\nlisted Evaluation/apps/b@5\n"
                   "Evaluation/apps/b@5\nwhole Evaluation 9\n");
    assert_int_equal(r->resync.expected, 2);
}

static void pages_that_turn_in_a_circle_are_taken_apart_by_namespace(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(NAMESPACES, PAGE(9, "default.x", "[]"), PAGE(9, "default.x", "[]"),
                       OK(8, "[]"), OK(9, "[]")));
    assert_asked(r, 3, "/v1/jobs?per_page=500&namespace=default ");
    assert_asked(r, 4, "/v1/jobs?per_page=500&namespace=apps ");
    assert_told(r, "whole Job 8\n");
    assert_int_equal(r->resync.asked, 5);
}

static void and_then_by_the_first_digits_of_their_ids(void **state)
{
    struct rig *r = *state;
    r->settings.ns = "apps";
    r->topics[0] = "Evaluation";
    run_rig(r, ANSWERS(NAMESPACES, PAGE(9, "10.x", "[]"), PAGE(9, "11.y", "[]"),
                       PAGE(9, "10.x", "[]"), OK(9, "[]")));
    assert_int_equal(r->resync.asked, 4 + 256);
    assert_asked(r, (4 + 255) % STUB_REQUESTS_MAX, "&namespace=apps&prefix=ff ");
    assert_told(r, "whole Evaluation 9\n");
}

static void a_listing_that_never_ends_is_not_called_whole(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(NAMESPACES, PAGE(9, "x", "[" STUB("apps", "a", 4) "]")));
    assert_int_equal(r->rc, 0);
    assert_null(strstr(buf_cstr(&r->resync.told), "whole"));
}

static void the_smallest_index_of_all_pages_counts_and_none_is_none(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "Evaluation";
    run_rig(r, ANSWERS(NAMESPACES, PAGE(9, "a", "[]"), SAYS("200 OK\r\nX-Nomad-Index: 12x", "[]")));
    assert_told(r, "");
}

/* ---- refusals and hostile answers ---- */

static void a_refused_topic_is_left_out_and_the_next_is_read(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "Node";
    r->topics[1] = "Job";
    r->settings.topics.n = 2;
    run_rig(r, ANSWERS(NAMESPACES, SAYS("403 Forbidden", "Permission denied"), OK(9, "[]")));
    assert_int_equal(r->rc, 0);
    assert_told(r, "whole Job 9\n");
}

static void acl_topics_are_asked_for_only_where_tokens_are_listed(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "ACLPolicy";
    run_rig(r, ANSWERS(NAMESPACES, SAYS("403 Forbidden", "Permission denied")));
    assert_asked(r, 1, "/v1/acl/tokens?per_page=1&");
    assert_int_equal(r->resync.asked, 2);
    assert_told(r, "");
}

static void empty_and_null_listings_are_empty(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "Evaluation";
    r->topics[1] = "Deployment";
    r->settings.topics.n = 2;
    run_rig(r, ANSWERS(OK(1, "null"), OK(9, " null "), OK(8, "[ ]")));
    assert_told(r, "whole Deployment 9\nwhole Evaluation 8\n");
}

static void what_is_not_json_is_tried_again(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(NAMESPACES, OK(9, "[{\"ID\":\"a\"},")));
    assert_failed(r, "/v1/jobs: the answer is not a JSON array");
    assert_told(r, "");
}

static void a_page_of_a_proxy_is_no_listing(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(NAMESPACES, OK(9, "<html>It works!</html>")));
    assert_failed(r, "/v1/jobs: the answer is not a JSON array");
}

static void entries_of_the_wrong_type_keep_a_topic_from_being_whole(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "Evaluation";
    run_rig(
        r, ANSWERS(NAMESPACES, OK(9, "[7,{\"ID\":{}},null,[],\"x\",{}," FULL("apps", "a", 4) "]")));
    assert_int_equal(r->rc, 0);
    assert_told(r, "listed Evaluation/apps/a@4\nEvaluation/apps/a@4\n");
}

static void an_object_of_the_wrong_type_is_left_out(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(NAMESPACES, OK(9, "[" STUB("apps", "a", 4) "]"), OK(9, "[\"no job\"]")));
    assert_int_equal(r->rc, 0);
    assert_told(r, "listed Job/apps/a@4\nwhole Job 9\n");
}

static void services_of_the_wrong_type_are_left_out(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "Service";
    run_rig(r, ANSWERS(NAMESPACES,
                       OK(9, "[7,{\"Services\":7},{\"Services\":[7,{\"ServiceName\":7},{}]}]")));
    assert_int_equal(r->rc, 0);
    assert_told(r, "");
}

static void a_huge_answer_costs_its_topic_only(void **state)
{
    struct rig *r = *state;
    r->topics[0] = "Evaluation";
    struct buf huge = {0};
    buf_append_cstr(&huge, HEAD_INDEX(9) "\r\n[\"");
    size_t head = huge.len, more = SNAPSHOT_BODY_MAX + 2;
    memset(buf_reserve(&huge, more), 'x', more);
    huge.len += more;
    assert_true(huge.len > head);
    run_rig(r, ANSWERS(NAMESPACES, {.first = buf_str(&huge)}));
    assert_int_equal(r->rc, 0);
    assert_told(r, "");
    stub_stop(&r->server);
    buf_fini(&huge);
}

/* ---- trouble ---- */

static void a_server_that_breaks_off_is_left_for_the_next(void **state)
{
    struct rig *r = *state;
    r->servers[0] = "http://127.0.0.1:1";
    r->settings.servers.n = 2;
    assert_int_equal(snapshot_read(&r->settings, STR("fake"), &r->resync, &r->memory, &r->err), -1);
    assert_int_equal(r->err.kind, ERR_RETRY);
    assert_non_null(strstr(r->err.msg, "/v1/namespaces: can't connect"));
    run_rig(r, ANSWERS(NAMESPACES, OK(9, "[]")));
    assert_int_equal(r->rc, 0);
    assert_told(r, "whole Job 9\n");
}

static void half_an_answer_is_none(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(NAMESPACES, SAYS("200 OK\r\nContent-Length: 100", "[")));
    assert_failed(r, "/v1/jobs: the connection broke off");
}

static void a_server_without_a_leader_is_tried_again_for_ever(void **state)
{
    struct rig *r = *state;
    run_rig(r, ANSWERS(SAYS("500 Internal Server Error", "No cluster leader")));
    for (int i = 0; i < 5; i++) {
        assert_failed(r, "/v1/namespaces: the server answered 500: No cluster leader");
        stub_stop(&r->server);
        run_rig(r, ANSWERS(SAYS("500 Internal Server Error", "No cluster leader")));
    }
}

static void a_question_that_is_always_answered_500_is_given_up(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < 3; i++) {
        if (r->server != NULL)
            stub_stop(&r->server);
        run_rig(r, ANSWERS(NAMESPACES, SAYS("500 Internal Server Error", "no such rule")));
        assert_int_equal(r->rc, i < 2 ? -1 : 0);
    }
    assert_told(r, "");
}

static void stops_when_asked_to(void **state)
{
    struct rig *r = *state;
    r->resync.stop_after = 2;
    run_rig(r, ANSWERS(NAMESPACES, OK(9, "[" STUB("apps", "a", 4) "]")));
    assert_int_equal(r->rc, 0);
    assert_told(r, "listed Job/apps/a@4\n");
}

static void a_resync_that_takes_no_more_ends_it(void **state)
{
    struct rig *r = *state;
    r->resync.refuse = true;
    r->topics[0] = "Evaluation";
    run_rig(r, ANSWERS(NAMESPACES, OK(9, "[" FULL("apps", "a", 4) "]")));
    assert_int_equal(r->rc, -1);
    assert_int_equal(r->err.kind, ERR_FATAL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    log_setup(LOG_LOGFMT, LOG_ERROR);
    const struct CMUnitTest tests[] = {
        T(reads_each_listed_object_in_full),
        T(asks_for_no_object_that_need_not_be_told),
        T(asks_for_one_namespace_and_one_key_only),
        T(odd_keys_are_escaped),
        T(another_object_than_asked_for_is_not_told),
        T(what_is_gone_before_it_is_read_is_left_out),
        T(namespaces_that_the_token_may_not_see_are_left_out),
        T(services_are_read_name_by_name),
        T(allocations_are_read_by_node_and_those_it_lacks_singly),
        T(a_token_that_may_not_read_nodes_reads_allocations_singly),
        T(follows_pages_to_the_end),
        T(pages_that_turn_in_a_circle_are_taken_apart_by_namespace),
        T(and_then_by_the_first_digits_of_their_ids),
        T(a_listing_that_never_ends_is_not_called_whole),
        T(the_smallest_index_of_all_pages_counts_and_none_is_none),
        T(a_refused_topic_is_left_out_and_the_next_is_read),
        T(acl_topics_are_asked_for_only_where_tokens_are_listed),
        T(empty_and_null_listings_are_empty),
        T(what_is_not_json_is_tried_again),
        T(a_page_of_a_proxy_is_no_listing),
        T(entries_of_the_wrong_type_keep_a_topic_from_being_whole),
        T(an_object_of_the_wrong_type_is_left_out),
        T(services_of_the_wrong_type_are_left_out),
        T(a_huge_answer_costs_its_topic_only),
        T(a_server_that_breaks_off_is_left_for_the_next),
        T(half_an_answer_is_none),
        T(a_server_without_a_leader_is_tried_again_for_ever),
        T(a_question_that_is_always_answered_500_is_given_up),
        T(stops_when_asked_to),
        T(a_resync_that_takes_no_more_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
