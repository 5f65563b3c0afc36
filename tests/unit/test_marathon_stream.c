/* test_marathon_stream.c - the Marathon connector against a server that says what the test wrote:
 * framing, what counts as attached, ends, redirects. Its refusals are in test_marathon_refusal.c.
 */
#include "tests/unit/marathon_rig.h"

#include "bridge/base/clock.h"
#include "tests/unit/stopwatch.h"

#include <arpa/inet.h>

/* A stub whose answer is known only once another one's address is. */
static struct stub_server *redirecting(const char *to, char answer[512])
{
    snprintf(answer, 512,
             "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
             to);
    return stub_start(&(struct stub_answer){.first = str_from(answer)}, 1);
}

/* ---- asking ---- */

static void asks_for_all_with_one_accept_header(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD ATTACHED), .hold = true}));
    assert_asked(r, 0, "GET /v2/events?plan-format=light HTTP/1.1\r\n");
    const char *accept = strstr(r->server->requests[0], "\r\nAccept: text/event-stream\r\n");
    assert_non_null(accept);
    assert_null(strcasestr(accept + 10, "\r\nAccept"));
    assert_null(strcasestr(r->server->requests[0], "Authorization"));
    assert_told(r, "attached\nmessage 1 Subscription/127.0.0.1\n");
}

static void asks_for_types_and_for_word_that_it_is_open(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 1;
    r->types[0] = "status_update_event";
    r->types[1] = "a b&c";
    r->settings.event_types.n = 2;
    r->settings.plan_format = MARATHON_PLAN_HEAVY;
    run_rig(r, ANSWERS({.first = STR(HEAD ATTACHED), .hold = true}));
    assert_asked(r, 0,
                 "GET /v2/events?event_type=status_update_event&event_type=a%20b%26c&"
                 "event_type=event_stream_attached HTTP/1.1\r\n");
}

/* ---- frames ---- */

static void hands_on_data_byte_for_byte(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 2;
    run_rig(r, ANSWERS({.first = STR(HEAD ATTACHED GROUP(123)), .hold = true}));
    assert_string_equal(buf_cstr(&r->in.raw), ATTACHED_DATA("127.0.0.1") "\n" GROUP_DATA(123) "\n");
    assert_told(r, "attached\nmessage 1 Subscription/127.0.0.1\nmessage 123 Group//g\n");
}

static void reads_what_comes_in_two_flushes(void **state)
{
    struct rig *r = *state;
    static const char frame[] = HEAD ATTACHED GROUP(123);
    for (size_t cut = sizeof frame - 6; cut < sizeof frame; cut++) {
        r->in.stop_after_messages = r->in.messages + 2;
        struct stub_answer answer = {
            .first = {frame, cut},
            .pause_ms = 30,
            .then = {frame + cut, sizeof frame - 1 - cut},
            .hold = true,
        };
        run_rig(r, &answer, 1);
        stub_stop(&r->server);
        stop_free(&r->in.stop);
        r->in.stop = stop_new();
    }
    assert_int_equal(r->in.messages, 12);
    assert_int_equal(r->in.malformed, 0);
}

static void joins_lines_of_data(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "event: group_change_success\r\n"
                                          "data: {\"groupId\":\r\ndata: \"/g\"}\r\n\r\n"),
                        .hold = true}));
    assert_string_equal(buf_cstr(&r->in.raw), "{\"groupId\":\n\"/g\"}\n");
}

static void what_cannot_be_read_is_malformed(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 2;
    run_rig(r,
            ANSWERS({.first = STR(HEAD ATTACHED FRAME("x", "no JSON") FRAME("y", "[1]") GROUP(123)),
                     .hold = true}));
    assert_int_equal(r->in.malformed, 2);
    assert_non_null(strstr(buf_cstr(&r->in.raw), "\nno JSON\n[1]\n"));
}

static void a_frame_is_a_stream_even_if_it_cannot_be_read(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD FRAME("x", "[]") GROUP(123)), .hold = true}));
    assert_int_equal(strncmp(buf_cstr(&r->in.told), "attached\nmalformed 2: ", 22), 0);
    assert_int_equal(r->in.attached, 1);
}

static void frames_without_data_say_nothing(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 2;
    run_rig(r, ANSWERS({.first = STR(HEAD ATTACHED ": comment\r\n\r\nevent: x\r\n\r\ndata:\r\n\r\n"
                                                   "id: 7\r\nretry: 1\r\n\r\n" GROUP(123)),
                        .hold = true}));
    assert_told(r, "attached\nmessage 1 Subscription/127.0.0.1\nmessage 123 Group//g\n");
}

/* ---- attached ---- */

static void a_heartbeat_in_two_reads_is_one_sign_of_life(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_heartbeats = 2; /* the CR, and the LF */
    run_rig(r, ANSWERS({.first = STR(HEAD "\r"), .pause_ms = 50, .then = STR("\n"), .hold = true}));
    assert_told(r, "attached\n");
}

static void closed_at_once_was_never_attached(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_backoffs = 2;
    run_rig(r, ANSWERS({.first = STR(HEAD)}));
    assert_told(r, "backoff\nbackoff\n");
    assert_detail(r, "not ready yet");
}

static void half_an_event_is_left_out_and_was_never_attached(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_backoffs = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "event: group_change_success\r\ndata: {}\r\n")}));
    assert_told(r, "backoff\n");
    assert_detail(r, "in the middle of an event");
}

static void a_cut_in_mid_frame_leaves_the_half_out(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 2;
    run_rig(r, ANSWERS({.first = STR(HEAD ATTACHED "event: group_change_success\r\ndata: {\"g")},
                       {.first = STR(HEAD ATTACHED), .hold = true}));
    assert_told(r, "attached\nmessage 1 Subscription/127.0.0.1\nbackoff\n"
                   "attached\nmessage 1 Subscription/127.0.0.1\n");
    assert_detail(r, "in the middle of an event");
}

static void a_reset_in_mid_frame_says_both(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_backoffs = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD ATTACHED "event: x\r\ndata: {\"g"),
                        .pause_ms = 100,
                        .reset = true}));
    assert_detail(r, "in the middle of an event, which is left out: the connection broke off");
}

static void any_first_event_attaches_whoever_it_is_about(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 3;
    run_rig(r, ANSWERS({.first = STR(HEAD GROUP(123) FRAME("event_stream_attached",
                                                           ATTACHED_DATA("10.1.2.3")) ATTACHED),
                        .hold = true}));
    assert_told(r, "attached\nmessage 123 Group//g\nmessage 1 Subscription/10.1.2.3\n"
                   "message 1 Subscription/127.0.0.1\n");
}

static void silence_is_a_lost_stream(void **state)
{
    struct rig *r = *state;
    r->settings.silence_ms = 300;
    r->in.stop_after_backoffs = 1;
    struct stopwatch before = stopwatch_start();
    run_rig(r, ANSWERS({.first = STR(HEAD ATTACHED), .hold = true}));
    assert_took(&before, 300, 10000);
    assert_detail(r, "silent for 300 ms");
}

static void an_answer_without_a_first_byte_is_a_lost_stream(void **state)
{
    struct rig *r = *state;
    r->settings.silence_ms = 300;
    r->in.stop_after_backoffs = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD), .hold = true}));
    assert_told(r, "backoff\n");
    assert_detail(r, "silent for 300 ms");
}

static void no_answer_at_all_is_given_up(void **state)
{
    struct rig *r = *state;
    r->settings.connect_timeout_ms = 500;
    r->in.stop_after_backoffs = 1;
    run_rig(r, ANSWERS({.first = STR("HTTP/1.1 200 OK\r\n"), .hold = true}));
    assert_detail(r, "no answer came within 1000 ms");
}

static void ends_where_the_journal_does(void **state)
{
    struct rig *r = *state;
    r->in.refuse = true;
    run_rig(r, ANSWERS({.first = STR(HEAD ATTACHED), .hold = true}));
    assert_int_equal(r->rc, -1);
    assert_string_equal(r->err.msg, "the fake refuses");
}

/* ---- the leader ---- */

static void follows_to_the_leader_without_credentials_for_strangers(void **state)
{
    struct rig *r = *state;
    char answer[512], location[128];
    r->settings.token = "s3cret";
    r->settings.access.username = "joe";
    struct setting_pair key = {.key = "X-Key", .value = "s3cret"};
    r->settings.access.headers = (struct setting_map){&key, 1};
    r->in.stop_after_messages = 1;
    r->server = stub_start(ANSWERS({.first = STR(HEAD ATTACHED), .hold = true}));
    snprintf(location, sizeof location, "%s/v2/events?plan-format=light", r->server->url);
    struct stub_server *standby = redirecting(location, answer);
    r->servers[0] = standby->url;
    run_source(r);
    assert_non_null(strstr(standby->requests[0], "\r\nAuthorization: token=s3cret\r\n"));
    assert_non_null(strstr(standby->requests[0], "\r\nX-Key: s3cret\r\n"));
    assert_asked(r, 0, "GET /v2/events?plan-format=light HTTP/1.1\r\n");
    assert_null(strstr(r->server->requests[0], "s3cret"));
    assert_null(strstr(r->server->requests[0], "Authorization"));
    assert_told(r, "attached\nmessage 1 Subscription/127.0.0.1\n");
    stub_stop(&standby);
}

static void shows_credentials_to_a_leader_that_is_configured(void **state)
{
    struct rig *r = *state;
    char answer[512], location[128];
    r->settings.token = "s3cret";
    r->in.stop_after_messages = 1;
    r->server = stub_start(ANSWERS({.first = STR(HEAD ATTACHED), .hold = true}));
    snprintf(location, sizeof location, "%s/v2/events", r->server->url);
    struct stub_server *standby = redirecting(location, answer);
    r->servers[0] = standby->url;
    r->servers[1] = r->server->url;
    r->settings.servers.n = 2;
    run_source(r);
    assert_asked(r, 0, "\r\nAuthorization: token=s3cret\r\n");
    assert_int_equal(standby->n_requests, 1);
    stub_stop(&standby);
}

static void a_circle_of_redirects_is_noticed(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_backoffs = 1;
    char answer[512];
    struct stub_server *first = redirecting("/v2/events", answer);
    r->servers[0] = first->url;
    run_source(r);
    assert_detail(r, "round in a circle");
    assert_int_equal(first->n_requests, 1);
    stub_stop(&first);
}

static void a_redirect_to_a_login_page_is_not_followed(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_backoffs = 1;
    run_rig(r, ANSWERS({.first = STR("HTTP/1.1 302 Found\r\nLocation: http://user:pw@gate/login?to="
                                     "/v2/events\r\nContent-Length: 0\r\n\r\n")}));
    assert_detail(r, "a login page");
    assert_null(strstr(buf_cstr(&r->in.last_detail), "pw@"));
}

static void a_dead_leader_does_not_keep_others_from_being_asked(void **state)
{
    struct rig *r = *state;
    char answer[512], gone[128];
    struct stub_server *dead = stub_start(ANSWERS({.first = STR("")}));
    snprintf(gone, sizeof gone, "%s/v2/events", dead->url);
    stub_stop(&dead);
    r->in.stop_after_messages = 1;
    struct stub_server *standby = redirecting(gone, answer);
    r->servers[0] = standby->url;
    r->settings.servers.n = 2;
    run_rig(r, ANSWERS({.first = STR(HEAD ATTACHED), .hold = true}));
    assert_told(r, "backoff\nattached\nmessage 1 Subscription/127.0.0.1\n");
    assert_detail(r, "the leader that http://127.0.0.1:");
    assert_detail(r, "names: can't connect: Connection refused");
    stub_stop(&standby);
}

/* ---- trying again ---- */

static void waits_between_fruitless_rounds(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_backoffs = 6;
    struct stopwatch before = stopwatch_start();
    run_rig(r, ANSWERS({.first = STR(HEAD)}));
    /* five waits of 25 to 50 ms, or of a tenth of what passed */
    assert_took(&before, 125, 10000);
}

static void asks_anew_at_once_after_a_stream_that_stood(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 2;
    r->server = stub_start(ANSWERS({.first = STR(HEAD ATTACHED), .pause_ms = 1100},
                                   {.first = STR(HEAD ATTACHED), .hold = true}));
    r->servers[0] = r->server->url;
    struct stopwatch before = stopwatch_start();
    run_source(r);
    assert_took(&before, 1000, 1100 + 9000);
    assert_int_equal(r->in.attached, 2);
}

/* Attached and gone again at once, on and on: no storm. */
static void waits_after_streams_that_did_not_stand(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_attached = 6;
    struct stopwatch before = stopwatch_start();
    run_rig(r, ANSWERS({.first = STR(HEAD ATTACHED)}));
    assert_took(&before, 125, 10000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_rig, tear_down_rig)
    const struct CMUnitTest tests[] = {
        TEST(asks_for_all_with_one_accept_header),
        TEST(asks_for_types_and_for_word_that_it_is_open),
        TEST(hands_on_data_byte_for_byte),
        TEST(reads_what_comes_in_two_flushes),
        TEST(joins_lines_of_data),
        TEST(what_cannot_be_read_is_malformed),
        TEST(a_frame_is_a_stream_even_if_it_cannot_be_read),
        TEST(frames_without_data_say_nothing),
        TEST(a_heartbeat_in_two_reads_is_one_sign_of_life),
        TEST(closed_at_once_was_never_attached),
        TEST(half_an_event_is_left_out_and_was_never_attached),
        TEST(a_cut_in_mid_frame_leaves_the_half_out),
        TEST(a_reset_in_mid_frame_says_both),
        TEST(any_first_event_attaches_whoever_it_is_about),
        TEST(silence_is_a_lost_stream),
        TEST(an_answer_without_a_first_byte_is_a_lost_stream),
        TEST(no_answer_at_all_is_given_up),
        TEST(ends_where_the_journal_does),
        TEST(follows_to_the_leader_without_credentials_for_strangers),
        TEST(shows_credentials_to_a_leader_that_is_configured),
        TEST(a_circle_of_redirects_is_noticed),
        TEST(a_redirect_to_a_login_page_is_not_followed),
        TEST(a_dead_leader_does_not_keep_others_from_being_asked),
        TEST(waits_between_fruitless_rounds),
        TEST(asks_anew_at_once_after_a_stream_that_stood),
        TEST(waits_after_streams_that_did_not_stand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
