/* test_nomad_refusal.c - every way a server can refuse its stream is told in words that help. */
#include "tests/unit/nomad_rig.h"

#define REFUSAL(status, body)                                                 \
    {                                                                         \
        .first = STR("HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body) \
    }
#define NOTHING            \
    {                      \
        .first = STR(HEAD) \
    }

/* Runs until the first failure; whatever it was, nothing may have been journaled and no secret
 * told. */
static void refuse(struct rig *r, const struct stub_answer *answers, size_t n)
{
    r->in.stop_after_backoffs = 1;
    run_rig(r, answers, n);
    assert_int_equal(r->rc, 0);
    assert_told(r, "backoff\n");
    assert_null(strstr(buf_cstr(&r->in.last_detail), "s3cret"));
}

static void unknown_token(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    refuse(r, ANSWERS(REFUSAL("403 Forbidden", "Permission denied")));
    assert_detail(r, "does not accept this `token`");
}

static void no_token(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("500 Internal Server Error", "Permission denied")));
    assert_detail(r, "no `token` is set");
}

static void small_token_for_everything(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    refuse(r, ANSWERS(REFUSAL("500 Internal Server Error", "Permission denied")));
    assert_detail(r, "management token");
    assert_detail(r, "`filter_at: server`");
}

static void small_token_for_some_topics(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    r->settings.filter_at = NOMAD_FILTER_AT_SERVER;
    refuse(r, ANSWERS(REFUSAL("500 Internal Server Error", "Permission denied")));
    assert_detail(r, "one of `topics`");
}

static void names_what_each_topic_needs(void **state)
{
    struct rig *r = *state;
    const char *const topics[] = {"Job:a", "Node", "Job:b", "HostVolume", "Service", "*"};
    r->settings.token_file = "nowhere";
    r->settings.filter_at = NOMAD_FILTER_AT_SERVER;
    r->settings.topics = (struct setting_list){topics, 6};
    r->settings.ns = "apps";
    refuse(r, ANSWERS(REFUSAL("500 Internal Server Error", "Permission denied")));
    assert_detail(r, "needed are, Job, Service: the capability read-job in namespace apps; "
                     "HostVolume: the capability host-volume-read in namespace apps; "
                     "Node: node { policy = \"read\" }; *: a management token");
}

static void names_every_namespace_where_all_are_asked_for(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    r->settings.filter_at = NOMAD_FILTER_AT_SERVER;
    r->topics[0] = "Evaluation";
    refuse(r, ANSWERS(REFUSAL("500 Internal Server Error", "Permission denied")));
    assert_detail(r, "Evaluation: the capability read-job in every namespace");
}

static void an_unknown_token_from_a_file(void **state)
{
    struct rig *r = *state;
    r->settings.token_file = "nowhere";
    refuse(r, ANSWERS(REFUSAL("403 Forbidden", "Permission denied")));
    assert_detail(r, "does not accept this `token_file`");
}

static void a_reverse_proxy_without_credentials(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("401 Unauthorized", "")));
    assert_detail(r, "set `username` and `password`");
}

static void a_reverse_proxy_with_wrong_credentials(void **state)
{
    struct rig *r = *state;
    r->settings.access.username = "me";
    r->settings.access.password = "s3cret";
    refuse(r, ANSWERS(REFUSAL("401 Unauthorized", "")));
    assert_detail(r, "does not accept this `username`");
}

static void a_proxy_that_wants_credentials(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("407 Proxy Authentication Required", "")));
    assert_detail(r, "set them in `proxy`");
}

static void broker_off(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("500 Internal Server Error", "EventBroker not configured")));
    assert_detail(r, "enable_event_broker = true");
    assert_detail(r, "type: nomad_blocking");
}

static void bad_request(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("400 Bad Request", "Invalid topic query: error")));
    assert_detail(r, "400: Invalid topic query: error");
}

static void not_found(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("404 Not Found", "404 page not found")));
    assert_detail(r, "not a Nomad, one before 1.0, or a proxy");
}

static void redirect(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS({.first = STR("HTTP/1.1 307 Temporary Redirect\r\nLocation: "
                                    "https://me:s3cret@other:4646/v1\r\nContent-Length: "
                                    "0\r\n\r\n")}));
    assert_detail(r, "redirected (307) to https://other:4646/v1");
}

static void plain_http_to_a_tls_port(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(
                  REFUSAL("400 Bad Request", "Client sent an HTTP request to an HTTPS server.\n")));
    assert_detail(r, "write https://");
}

static void unknown_region(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("500 Internal Server Error", "No path to region")));
    assert_detail(r, "check `region`");
}

static void any_other_status(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("502 Bad Gateway", "<html>\r\n<b>Bad\001 Gateway</b>\r\n")));
    assert_detail(r, "answered 502: <html> <b>Bad Gateway</b>");
}

static void a_page_instead_of_a_stream(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS({.first = STR(HEAD "<html>\n<body>\nSign in\n</body>\n</html>\n")}));
    assert_detail(r, "not with Nomad's event stream (\"<html>\")");
}

static void json_of_something_else(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS({.first = STR(HEAD "{\"error\":\"no\"}\n{\"error\":\"no\"}\n")}));
    assert_detail(r, "not with Nomad's event stream");
}

static void a_word_without_a_line_break(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS({.first = STR(HEAD "OK")}));
    assert_detail(r, "not with Nomad's event stream (\"OK\")");
}

static void only_empty_lines(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS({.first = STR(HEAD "\n\n")}, REFUSAL("404 Not Found", "")));
    assert_detail(r, "closed without a word");
}

/* ---- the newest Nomad: 200, nothing, close; then what it answers when asked why ---- */

static void without_a_word_an_unknown_token(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    refuse(r, ANSWERS(NOTHING, REFUSAL("403 Forbidden", "ACL token not found"),
                      REFUSAL("403 Forbidden", "ACL token not found")));
    assert_asked(r, 1, "GET /v1/acl/token/self ");
    assert_asked(r, 1, "X-Nomad-Token: s3cret");
    assert_asked(r, 2, "GET /v1/agent/self ");
    assert_detail(r, "does not accept this `token`");
}

static void without_a_word_no_token(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(NOTHING, REFUSAL("403 Forbidden", "ACL token not found"),
                      REFUSAL("403 Forbidden", "Permission denied")));
    assert_detail(r, "no `token` is set");
}

static void without_a_word_a_small_token(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    refuse(r, ANSWERS(NOTHING, {.first = STR(HEAD "{\"Type\":\"client\"}")},
                      REFUSAL("403 Forbidden", "Permission denied")));
    assert_detail(r, "management token");
}

static void without_a_word_the_broker_off(void **state)
{
    struct rig *r = *state;
    refuse(r,
           ANSWERS(NOTHING, REFUSAL("400 Bad Request", "ACL support disabled"),
                   {.first = STR(HEAD "{\"config\":{\"Server\":{\"EnableEventBroker\":false}}}")}));
    assert_detail(r, "enable_event_broker = true");
}

static void without_a_word_and_no_reason_found(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    refuse(r, ANSWERS(NOTHING, {.first = STR(HEAD "{\"Type\":\"management\"}")},
                      {.first = STR(HEAD "{\"config\":{\"Server\":{}}}")}));
    assert_detail(r, "the token is not why");
    assert_detail(r, "enable_event_broker");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_rig, tear_down_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unknown_token),
        TEST(no_token),
        TEST(small_token_for_everything),
        TEST(small_token_for_some_topics),
        TEST(names_what_each_topic_needs),
        TEST(names_every_namespace_where_all_are_asked_for),
        TEST(an_unknown_token_from_a_file),
        TEST(a_reverse_proxy_without_credentials),
        TEST(a_reverse_proxy_with_wrong_credentials),
        TEST(a_proxy_that_wants_credentials),
        TEST(broker_off),
        TEST(bad_request),
        TEST(not_found),
        TEST(redirect),
        TEST(plain_http_to_a_tls_port),
        TEST(unknown_region),
        TEST(any_other_status),
        TEST(a_page_instead_of_a_stream),
        TEST(json_of_something_else),
        TEST(a_word_without_a_line_break),
        TEST(only_empty_lines),
        TEST(without_a_word_an_unknown_token),
        TEST(without_a_word_no_token),
        TEST(without_a_word_a_small_token),
        TEST(without_a_word_the_broker_off),
        TEST(without_a_word_and_no_reason_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
