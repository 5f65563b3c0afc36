/* test_mirror_marathon.c - GET /v2/events: what a Marathon's client asks for, and what it gets. */
#include "tests/unit/mirror_marathon_kit.h"

static void expect_answer(const struct rig *r, const char *request, const char *status,
                          const char *part)
{
    struct buf head = {0};
    buf_printf(&head, "%s\r\n", request);
    char *answer = kit_ask(r->address, buf_cstr(&head));
    if (strncmp(answer + 9, status, strlen(status)) != 0 || strstr(answer, part) == NULL)
        fail_msg("%s: %s", request, answer);
    free(answer);
    buf_fini(&head);
}

/* ---- tests ---- */

/* It listens to nothing: the others are told of nobody. */
static void a_head_attaches_nobody(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    struct peer p = greeted(r, "");
    free(kit_ask(r->address, "HEAD " STREAM " HTTP/1.1\r\n" ACCEPT));
    say_numbers(r, 1, 1, 1);
    expect_next(&p, "event: status_update_event\r\ndata: {\"n\":1,\"x\":\"0\"}\r\n\r\n");
    peer_close(&p);
}

static void answers_with_the_head_of_marathons_servlet(void **state)
{
    static const char *const wanted[] = {
        "\r\nContent-Type: text/event-stream;charset=utf-8\r\n",
        "\r\nCache-Control: no-cache, no-store, must-revalidate\r\n",
        "\r\nPragma: no-cache\r\n",
        "\r\nExpires: 0\r\n",
        "\r\nConnection: close\r\n",
        "\r\nX-Frame-Options: DENY\r\n",
        "\r\nX-XSS-Protection: 1; mode=block\r\n",
        "\r\nX-Marathon-Leader: http://x\r\n",
    };
    struct rig *r = *state;
    struct peer p;
    open_rig(r);
    char *head = listen_to(r, &p, STREAM, "");
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (strstr(head, wanted[i]) == NULL)
            fail_msg("%s is not in %s", wanted[i], head);
    assert_null(strcasestr(head, "content-length"));
    assert_null(strcasestr(head, "transfer-encoding"));
    free(head);
    peer_close(&p);
    head = kit_ask(r->address, "HEAD " STREAM " HTTP/1.1\r\n" ACCEPT);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        assert_non_null(strstr(head, wanted[i]));
    assert_ptr_equal(strstr(head, "\r\n\r\n") + 4, head + strlen(head));
    for (int i = 0; i < 100 && kit_metric(r->bridge, "busbar_clients") > 0; i++)
        usleep(50000);
    assert_int_equal(0, kit_metric(r->bridge, "busbar_clients"));
    free(head);
}

static void greets_with_its_own_attachment(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    int64_t before_us = clock_wall_us() / 1000 * 1000, told_us;
    struct peer p = listener(r, "");
    char *got = peer_take(&p, "\r\n\r\n", KIT_WAIT_MS);
    static const char start[] = "event: event_stream_attached\r\n"
                                "data: {\"remoteAddress\":\"127.0.0.1\","
                                "\"eventType\":\"event_stream_attached\",\"timestamp\":\"";
    assert_non_null(got);
    assert_memory_equal(start, got, sizeof start - 1);
    char *time = got + sizeof start - 1;
    assert_int_equal(24, strspn(time, "0123456789-:.TZ"));
    assert_string_equal("\"}\r\n\r\n", time + 24);
    assert_true(clock_parse((struct str){time, 24}, &told_us));
    assert_in_range(told_us, before_us, clock_wall_us());
    free(got);
    peer_close(&p);
}

static void gives_the_events_in_marathons_frames(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    struct peer p = greeted(r, "");
    say(r, 0, (struct event){.data = STR("{\"appId\":\"/ä\"}"), .type = STR("deployment_info")});
    say(r, 1, (struct event){.data = STR("{\"another\":\"source's\"}")});
    say(r, 0, (struct event){.data = STR("{\n  \"a\": 1,\r\n  \"b\": 2\r}")});
    expect_next(&p, "event: deployment_info\r\ndata: {\"appId\":\"/ä\"}\r\n\r\n");
    expect_next(&p, "event: status_update_event\r\n"
                    "data: {\r\ndata:   \"a\": 1,\r\ndata:   \"b\": 2\r\ndata: }\r\n\r\n");
    peer_close(&p);
}

static void begins_with_what_comes_next(void **state)
{
    struct rig *r = *state;
    struct peer p;
    open_rig(r);
    say_numbers(r, 1, 3, 1);
    free(listen_to(r, &p, STREAM "?index=1&last_event_id=&&=&%zz=%", "Last-Event-ID: 1\r\n"));
    say_numbers(r, 4, 4, 1);
    peer_expect_without(&p, "{\"n\":4,\"x\":\"0\"}\r\n\r\n", "\"n\":3");
    peer_close(&p);
}

static void leaves_out_what_marathon_did_not_tell(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    struct peer p = greeted(r, "");
    say(r, 0, (struct event){.data = STR("{\"gap\":1}"), .origin = EVENT_OWN});
    say(r, 0, (struct event){.data = STR("{\"bad\":1}"), .origin = EVENT_MALFORMED});
    say(r, 0, (struct event){.data = STR("{\"state\":1}"), .origin = EVENT_SNAPSHOT});
    say(r, 0, (struct event){.data = STR("{\"left_out\":1}"), .repeat = true});
    say(r, 0,
        (struct event){.data = STR("{\"attached\":\"upstream\"}"),
                       .type = STR("event_stream_attached")});
    expect_next(&p, "event: event_stream_attached\r\ndata: {\"attached\":\"upstream\"}\r\n\r\n");
    peer_close(&p);
}

static void filters_by_types_that_are_named_exactly(void **state)
{
    static const struct {
        const char *query, *told;
    } rows[] = {
        {"", "1234"},
        {"?event_type=status_update_event", "1"},
        {"?event_type=status_update_event&x=y&event_type=deployment_info", "12"},
        {"?event_type=deployment_info&event_type=deployment_info", "2"},
        {"?event_type=deployment%5Finfo", "2"},
        {"?event_type=Deployment_info", ""},
        {"?event_type=deployment", ""},
        {"?event_type=*", ""},
        {"?event_type=", ""},
        {"?event_type", ""},
        {"?event_type=status_update_event,deployment_info", ""},
        {"?plan-format=light&event_type=deployment_info", "2"},
        {"?Event_type=deployment_info", "1234"},
    };
    static const char *const types[] = {"status_update_event", "deployment_info",
                                        "deployment_success", "new_event"};
    struct rig *r = *state;
    open_rig(r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf target = {0}, told = {0};
        buf_printf(&target, "%s%sevent_type=end", rows[i].query,
                   rows[i].query[0] == '\0' ? "?not_" : "&");
        if (strstr(rows[i].query, "Event_type") != NULL)
            target.len -= strlen("&event_type=end");
        struct peer p = listener(r, buf_cstr(&target));
        for (size_t k = 0; k < 4; k++) {
            char data[] = {'{', '"', (char)('1' + k), '"', ':', '0', '}', '\0'};
            say(r, 0, (struct event){.data = str_from(data), .type = str_from(types[k])});
        }
        say(r, 0, (struct event){.data = STR("{\"end\":0}"), .type = STR("end")});
        char *got = peer_take(&p, "{\"end\":0}", KIT_WAIT_MS);
        assert_non_null(got);
        for (const char *at = got; (at = strstr(at, "data: {\"")) != NULL; at++)
            if (at[8] >= '1' && at[8] <= '4')
                buf_append_char(&told, at[8]);
        if (strcmp(rows[i].told, buf_cstr(&told)) != 0)
            fail_msg("%s: %s", rows[i].query, buf_cstr(&told));
        free(got);
        buf_fini(&told);
        buf_fini(&target);
        peer_close(&p);
    }
}

static void wants_an_accept_header_that_is_exact(void **state)
{
    static const char *const refused[] = {
        "GET " STREAM " HTTP/1.1",
        "GET " STREAM " HTTP/1.1\r\nAccept: */*",
        "GET " STREAM " HTTP/1.1\r\nAccept: text/event-stream, */*",
        "GET " STREAM " HTTP/1.1\r\nAccept: text/event-stream;charset=utf-8",
        "GET " STREAM " HTTP/1.1\r\nAccept: Text/Event-Stream",
        "HEAD " STREAM " HTTP/1.1\r\nAccept: text/html",
        "POST " STREAM " HTTP/1.1\r\n" ACCEPT "Content-Length: 0",
        "DELETE " STREAM " HTTP/1.1\r\nAccept: text/event-stream",
    };
    struct rig *r = *state;
    struct peer p;
    open_rig(r);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        expect_answer(r, refused[i], "405", "405 Method Not Allowed");
    expect_answer(r, "OPTIONS " STREAM " HTTP/1.1", "200", "\r\nAllow: GET, HEAD, OPTIONS\r\n");
    expect_answer(r, "GET " STREAM "/ HTTP/1.1\r\nAccept: text/event-stream", "404", "");
    free(listen_to(r, &p, STREAM, "Accept: text/html\r\n")); /* one of two is enough */
    peer_close(&p);
    p = peer_get(r->address, STREAM, "Accept: text/html\r\naccept: text/event-stream\r\n");
    peer_expect(&p, "200 OK");
    peer_close(&p);
}

static void asks_for_its_token_as_marathons_do(void **state)
{
    static const char *const right[] = {
        "Authorization: token=s3cret\r\n",           "Authorization: Bearer s3cret\r\n",
        "Authorization: Basic dXNlcjpzM2NyZXQ=\r\n", /* user:s3cret */
        "Authorization: basic OnMzY3JldA==\r\n",     /* :s3cret */
        "Authorization: Basic  dXNlcjpzM2NyZXQ\r\n", /* without its padding */
    };
    static const char *const wrong[] = {
        "",
        "\r\nAuthorization: token=s3cre",
        "\r\nAuthorization: token=s3crett",
        "\r\nAuthorization: token=",
        "\r\nAuthorization: s3cret",
        "\r\nAuthorization: Basic s3cret",
        "\r\nAuthorization: Basic dXNlcjpzM2NyZQ==", /* user:s3cre */
        "\r\nAuthorization: Basic czNjcmV0",         /* s3cret, no user */
        "\r\nAuthorization: Basic czNjcmV0Ong=",     /* s3cret:x */
        "\r\nAuthorization: Basic ",
        "\r\nX-Nomad-Token: s3cret",
    };
    struct rig *r = *state;
    struct peer p;
    r->settings.token = "s3cret";
    open_rig(r);
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        free(listen_to(r, &p, STREAM, right[i]));
        peer_close(&p);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct buf request = {0};
        buf_printf(&request, "GET " STREAM " HTTP/1.1\r\nAccept: text/event-stream%s", wrong[i]);
        expect_answer(r, buf_cstr(&request), "401",
                      "\r\nWWW-Authenticate: basic realm=\"Mesosphere\"\r\n");
        buf_fini(&request);
    }
    expect_answer(r, "GET /status HTTP/1.1\r\nAuthorization: Basic dXNlcjpzM2NyZXQ=", "200", "");
    expect_answer(r, "GET /status HTTP/1.1\r\nAuthorization: Basic dXNlcjpzM2NyZQ==", "401",
                  "\r\nWWW-Authenticate: Bearer ");
    expect_answer(r, "GET /sources/nobody" STREAM " HTTP/1.1\r\nAccept: text/event-stream", "401",
                  "");
}

static void several_marathons_are_asked_by_name(void **state)
{
    struct rig *r = *state;
    r->bridge->is_marathon[1] = true;
    open_rig(r);
    expect_answer(r, "GET " STREAM " HTTP/1.1\r\nAccept: text/event-stream", "400",
                  "\r\n\r\nseveral Marathons here, ask: /sources/prod/v2/events "
                  "/sources/test/v2/events\n");
    struct peer p;
    free(listen_to(r, &p, "/sources/test" STREAM, ""));
    say(r, 0, (struct event){.data = STR("{\"prod\":1}")});
    say(r, 1, (struct event){.data = STR("{\"test\":1}")});
    peer_expect_without(&p, "{\"test\":1}\r\n\r\n", "prod");
    peer_close(&p);
}

static void is_not_there_without_a_marathon(void **state)
{
    struct rig *r = *state;
    r->bridge->is_marathon[0] = false;
    open_rig(r);
    expect_answer(r, "GET " STREAM " HTTP/1.1\r\nAccept: text/event-stream", "404",
                  "\r\n\r\nno such Marathon here, there are:\n");
    expect_answer(r, "GET /sources/prod" STREAM " HTTP/1.1\r\nAccept: text/event-stream", "404",
                  "no such Marathon");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_with_the_head_of_marathons_servlet),
        TEST(a_head_attaches_nobody),
        TEST(greets_with_its_own_attachment),
        TEST(gives_the_events_in_marathons_frames),
        TEST(begins_with_what_comes_next),
        TEST(leaves_out_what_marathon_did_not_tell),
        TEST(filters_by_types_that_are_named_exactly),
        TEST(wants_an_accept_header_that_is_exact),
        TEST(asks_for_its_token_as_marathons_do),
        TEST(several_marathons_are_asked_by_name),
        TEST(is_not_there_without_a_marathon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
