/* test_marathon_refusal.c - every way a server can refuse its stream is told in words that help. */
#include "tests/unit/marathon_rig.h"

#define REFUSAL(status, body)                                                 \
    {                                                                         \
        .first = STR("HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body) \
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

static void no_credentials(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("401 Unauthorized", "")));
    assert_detail(r, "set `token` (DC/OS), or `username` and `password`");
}

static void basic_wanted(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("401 Unauthorized\r\nWWW-Authenticate: basic realm=\"x\"", "")));
    assert_detail(r, "wants basic authentication (401): set `username` and `password`");
}

static void wrong_token(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    refuse(r, ANSWERS(REFUSAL("401 Unauthorized", "s3cret")));
    assert_detail(r, "does not accept this `token` (401)");
    assert_asked(r, 0, "\r\nAuthorization: token=s3cret\r\n");
}

static void wrong_password(void **state)
{
    struct rig *r = *state;
    r->settings.access.username = "joe";
    r->settings.access.password = "s3cret";
    refuse(r, ANSWERS(REFUSAL("401 Unauthorized", "")));
    assert_detail(r, "does not accept this `username` and `password`");
    assert_asked(r, 0, "\r\nAuthorization: Basic am9lOnMzY3JldA==\r\n");
}

static void a_stranger_wants_credentials(void **state)
{
    struct rig *r = *state;
    char answer[512];
    r->settings.token = "s3cret";
    r->in.stop_after_backoffs = 1;
    r->server = stub_start(ANSWERS(REFUSAL("401 Unauthorized", "")));
    snprintf(answer, sizeof answer,
             "HTTP/1.1 307 X\r\nLocation: %s/v2/events\r\nContent-Length: 0\r\n\r\n",
             r->server->url);
    struct stub_server *standby = stub_start(&(struct stub_answer){.first = str_from(answer)}, 1);
    r->servers[0] = standby->url;
    run_source(r);
    assert_detail(r, "the addresses in `servers` only: add this one there");
    assert_null(strstr(r->server->requests[0], "s3cret"));
    stub_stop(&standby);
}

static void forbidden(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    refuse(r, ANSWERS(REFUSAL("403 Forbidden", "")));
    assert_detail(r, "has to allow them to view events");
}

static void forbidden_without_credentials(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("403 Forbidden", "")));
    assert_detail(r, "no credentials are set: set `token`");
}

static void not_found(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("404 Not Found", "")));
    assert_detail(r, "`type: marathon_callback`");
    assert_detail(r, "check `servers`");
}

static void wrong_method_or_accept(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("405 HTTP method GET is not supported", "")));
    assert_detail(r, "(405): a proxy before Marathon must pass GET");
}

static void not_acceptable(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("406 Not Acceptable", "")));
    assert_detail(r, "(406): a proxy before Marathon");
}

static void no_leader(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("502 Bad Gateway", "<html>\n<b>Could not determine</b> the\n current "
                                                 "leader</html>")));
    assert_detail(r, "no leader (502: Could not determine the current leader): ");
}

static void bad_request(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("400 Bad Request", "no")));
    assert_detail(r, "(400: no)");
    assert_detail(r, "https:// in `servers`");
}

static void busy(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("503 Service Unavailable", "too many requests")));
    assert_detail(r, "(503: too many requests)");
}

static void something_else(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("418 I'm a teapot", "")));
    assert_detail(r, "the server answered 418: (nothing)");
}

static void proxy_credentials(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS(REFUSAL("407 X", "")));
    assert_detail(r, "set them in `proxy`");
}

static void a_web_page(void **state)
{
    struct rig *r = *state;
    refuse(r, ANSWERS({.first = STR("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
                                    "data: {}\r\n\r\n"),
                       .hold = true}));
    assert_detail(r, "not with an event stream (Content-Type: text/html)");
}

static void an_endless_head(void **state)
{
    struct rig *r = *state;
    struct buf head = {0};
    buf_append_cstr(&head, "HTTP/1.1 200 OK\r\n");
    while (head.len < 200 * 1024)
        buf_append_cstr(&head, "X-A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n");
    struct stub_answer answer = {.first = buf_str(&head), .hold = true};
    refuse(r, &answer, 1);
    assert_detail(r, "head is longer than");
    buf_fini(&head);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_rig, tear_down_rig)
    const struct CMUnitTest tests[] = {
        TEST(no_credentials),
        TEST(basic_wanted),
        TEST(wrong_token),
        TEST(wrong_password),
        TEST(a_stranger_wants_credentials),
        TEST(forbidden),
        TEST(forbidden_without_credentials),
        TEST(not_found),
        TEST(wrong_method_or_accept),
        TEST(not_acceptable),
        TEST(no_leader),
        TEST(bad_request),
        TEST(busy),
        TEST(something_else),
        TEST(proxy_credentials),
        TEST(a_web_page),
        TEST(an_endless_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
