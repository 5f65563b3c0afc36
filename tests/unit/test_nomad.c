/* test_nomad.c - the Nomad connector against a server that says what the test wrote: lines, resume,
 * start, reconnects. Its refusals are in test_nomad_refusal.c. */
#include "tests/unit/fake_ingest.h"

#include "bridge/base/clock.h"
#include "bridge/route.h"
#include "connectors/nomad/nomad.h"
#include "tests/unit/nomad_rig.h"

#include "connectors/nomad/nomad_stream.h"
#include "tests/unit/stopwatch.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

/* ---- asking ---- */

static void asks_for_everything_and_filters_here(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_heartbeats = 1;
    r->settings.token = "s3cret";
    r->topics[0] = "Job:web";
    r->settings.ns = "apps";
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n"), .hold = true}));
    assert_asked(r, 0, "GET /v1/event/stream?index=0&topic=%2A&namespace=%2A HTTP/1.1\r\n");
    assert_asked(r, 0, "\r\nX-Nomad-Token: s3cret\r\n");
    assert_int_equal(r->in.attached, 1);
}

static void asks_for_what_is_named_where_the_server_filters(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_heartbeats = 1;
    r->settings.filter_at = NOMAD_FILTER_AT_SERVER;
    r->topics[0] = "Job:my web";
    r->topics[1] = "Evaluation";
    r->settings.topics.n = 2;
    r->settings.ns = "apps";
    r->settings.region = "eu";
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n"), .hold = true}));
    assert_asked(r, 0, "?index=0&topic=Job%3Amy%20web&topic=Evaluation&namespace=apps&region=eu ");
}

static void goes_on_where_the_journal_stands(void **state)
{
    struct rig *r = *state;
    r->in.resume = (struct ingest_resume){.known = true, .index = 41, .last = 44};
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(41, "a") "\n"), .hold = true}));
    assert_asked(r, 0, "?index=41&");
    assert_told(r, "attached\nmessage 41 Job/a\n");
}

/* ---- lines ---- */

static void hands_on_messages_byte_for_byte(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 2;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(3, "a") "\n{}\n" LINE(3, "b")),
                        .pause_ms = 30,
                        .then = STR("\n"),
                        .hold = true}));
    assert_told(r, "attached\nmessage 3 Job/a\nmessage 3 Job/b\n");
    assert_string_equal(buf_cstr(&r->in.raw), LINE(3, "a") "\n" LINE(3, "b") "\n");
    assert_int_equal(r->in.heartbeats, 2);
}

static void attaches_on_a_message_without_a_heartbeat_before(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = STR("HTTP/1.1 200 OK\r\n\r\n" LINE(3, "a") "\n"), .hold = true}));
    assert_told(r, "attached\nmessage 3 Job/a\n");
}

static void flushes_what_came_before_it_waits(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(3, "a") "\n"), .hold = true}));
    assert_true(r->in.flushes >= 1);
}

static void tells_a_line_that_cannot_be_read_and_goes_on(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 2;
    run_rig(
        r, ANSWERS({.first = STR(HEAD "{}\n" LINE(3, "a") "\n{\"Events\":[{]}\n" LINE(4, "b") "\n"),
                    .hold = true}));
    assert_int_equal(r->in.malformed, 1);
    assert_int_equal(r->in.messages, 2);
    assert_string_equal(buf_cstr(&r->in.raw),
                        LINE(3, "a") "\n{\"Events\":[{]}\n" LINE(4, "b") "\n");
}

static void text_that_is_followed_by_more_was_a_message(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_messages = 2;
    run_rig(r,
            ANSWERS({.first = STR(HEAD "{}\n" LINE(3, "a") "\noops\n\nagain\n" LINE(4, "b") "\n"),
                     .hold = true}));
    assert_told(r, "attached\nmessage 3 Job/a\nmalformed 4: not JSON\nmalformed 5: not JSON\n"
                   "message 4 Job/b\n");
}

static void text_that_is_followed_by_a_close_is_the_reason_for_it(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_backoffs = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(3, "a") "\nsome error\n\n")}));
    assert_int_equal(r->in.malformed, 0);
    assert_detail(r, "the stream ended with \"some error\"");
}

static void tells_that_it_was_too_slow(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_backoffs = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(3, "a") "\nevent dropped from buffer")}));
    assert_detail(r, "too slow a reader");
    assert_detail(r, "event_buffer_size");
}

static void does_not_journal_half_a_line(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_backoffs = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(3, "a") "\n{\"Events\":[{\"Ind")}));
    assert_told(r, "attached\nmessage 3 Job/a\nbackoff\n");
    assert_detail(r, "in the middle of a line");
}

static void bounds_text_that_may_be_last_words(void **state)
{
    struct rig *r = *state;
    struct buf flood = {0};
    buf_append_cstr(&flood, HEAD "{}\n");
    for (int i = 0; i < 20000; i++)
        buf_printf(&flood, "text %05d\n", i);
    r->in.stop_after_backoffs = 1;
    run_rig(r, ANSWERS({.first = buf_str(&flood)}));
    assert_in_range(r->in.malformed, 20000 - 64 * 1024 / 11, 19999);
    buf_fini(&flood);
}

static void drops_doubles_of_a_server_that_filters_by_several_keys(void **state)
{
    struct rig *r = *state;
    r->settings.filter_at = NOMAD_FILTER_AT_SERVER;
    r->topics[0] = "Job:a";
    r->topics[1] = "Job:b";
    r->settings.topics.n = 2;
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n{\"Events\":[" EVENT(3, "a") "," EVENT(
                            3, "a") "," EVENT(3, "b") "],\"Index\":3}\n"),
                        .hold = true}));
    assert_told(r, "attached\nmessage 3 Job/a,Job/b\n");
}

/* ---- start: now ---- */

static void start_now_leaves_out_what_was_there(void **state)
{
    struct rig *r = *state;
    r->in.start = SOURCE_START_NOW;
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(7, "old") "\n" LINE(7, "old2") "\n"),
                        .pause_ms = 50,
                        .then = STR(LINE(8, "new") "\n"),
                        .hold = true}));
    assert_asked(r, 0, "?index=9223372036854775807&");
    assert_told(r, "attached\nmessage 8 Job/new\n");
}

static void let_go_on(void *rig)
{
    stub_go_on(((struct rig *)rig)->server);
}

static void start_now_takes_all_where_nothing_was_there(void **state)
{
    struct rig *r = *state;
    r->in.start = SOURCE_START_NOW;
    r->in.stop_after_messages = 1;
    r->in.on_flush = let_go_on;
    r->in.on_flushes = 6; /* each a wait in vain, but for the first or two */
    r->in.arg = r;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n"),
                        .wait = true,
                        .then = STR(LINE(1, "first") "\n"),
                        .hold = true}));
    assert_told(r, "attached\nmessage 1 Job/first\n");
}

/* Until all is there unread, and for a while. */
static void stand_still(void *rig)
{
    struct stub_server *server = ((struct rig *)rig)->server;
    stub_go_on(server);
    while (atomic_load(&server->n_sent) == 0)
        poll(NULL, 0, 5);
    poll(NULL, 0, 900);
}

static void start_now_leaves_out_what_was_there_though_its_thread_stood_still(void **state)
{
    struct rig *r = *state;
    r->in.start = SOURCE_START_NOW;
    r->in.on_attached = stand_still;
    r->in.arg = r;
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n"),
                        .wait = true,
                        .then = STR(LINE(7, "old") "\n" LINE(8, "new") "\n"),
                        .hold = true}));
    assert_told(r, "attached\nmessage 8 Job/new\n");
}

static void start_now_loses_nothing_to_a_reconnect(void **state)
{
    struct rig *r = *state;
    r->in.start = SOURCE_START_NOW;
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(7, "old") "\n")},
                       {.first = STR(HEAD "{}\n" LINE(7, "old") "\n" LINE(8, "missed") "\n" LINE(
                            9, "new") "\n"),
                        .hold = true}));
    assert_asked(r, 1, "?index=7&");
    assert_told(r, "attached\nbackoff\nattached\nmessage 8 Job/missed\nmessage 9 Job/new\n");
}

static void start_now_survives_a_rebuilt_cluster(void **state)
{
    struct rig *r = *state;
    r->in.start = SOURCE_START_NOW;
    r->in.stop_after_messages = 2;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(700, "old") "\n")},
                       {.first = STR(HEAD "{}\n" LINE(5, "young") "\n" LINE(6, "new") "\n"),
                        .hold = true}));
    assert_told(r, "attached\nbackoff\nattached\nmessage 5 Job/young\nmessage 6 Job/new\n");
}

/* ---- connections ---- */

/* Mostly: the machine may stand still just between. */
static void assert_went_on_at_once(const struct rig *r, size_t times)
{
    assert_int_equal(r->in.again, times);
    if (r->in.soon < times / 2 + 1)
        fail_msg("waited %zu of %zu times", times - r->in.soon, times);
}

static void reconnects_at_once_after_a_stream_that_brought_something(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_attached = 6;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(3, "a") "\n")},
                       {.first = STR(HEAD "{}\n" LINE(4, "a") "\n")},
                       {.first = STR(HEAD "{}\n" LINE(5, "a") "\n")},
                       {.first = STR(HEAD "{}\n" LINE(6, "a") "\n")},
                       {.first = STR(HEAD "{}\n" LINE(7, "a") "\n")},
                       {.first = STR(HEAD "{}\n"), .hold = true}));
    assert_went_on_at_once(r, 5);
}

static void waits_longer_and_longer_where_nothing_comes(void **state)
{
    struct rig *r = *state;
    r->in.stop_after_attached = 4;
    struct stopwatch before = stopwatch_start();
    /* The second and third bring nothing newer: waits of 125..250 and 250..500 ms. */
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(3, "a") "\n")},
                       {.first = STR(HEAD "{}\n" LINE(3, "a") "\n")},
                       {.first = STR(HEAD "{}\n" LINE(3, "a") "\n")},
                       {.first = STR(HEAD "{}\n"), .hold = true}));
    assert_took(&before, 370, 10000);
}

static void goes_to_the_next_server(void **state)
{
    struct rig *r = *state;
    struct stub_answer gone = {.first = STR("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")};
    struct stub_server *first = stub_start(&gone, 1);
    r->in.stop_after_attached = 1;
    r->servers[0] = first->url;
    r->servers[1] = NULL; /* run_rig fills it */
    r->settings.servers.n = 2;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n"), .hold = true}));
    assert_told(r, "backoff\nattached\n");
    assert_int_equal(first->n_requests, 1);
    stub_stop(&first);
}

static void leaves_a_silent_server(void **state)
{
    struct rig *r = *state;
    r->settings.silence_ms = 300;
    r->in.stop_after_backoffs = 1;
    struct stopwatch before = stopwatch_start();
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n"), .hold = true}));
    assert_took(&before, 300, 10000);
    assert_detail(r, "silent for ");
}

static void leaves_a_server_that_never_answers(void **state)
{
    struct rig *r = *state;
    r->settings.connect_timeout_ms = 1000;
    r->in.stop_after_backoffs = 1;
    run_rig(r, ANSWERS({.first = STR(""), .hold = true}));
    assert_detail(r, "nothing came within");
    assert_int_equal(r->in.attached, 0);
}

static void leaves_a_quiet_server_that_does_not_answer(void **state)
{
    struct rig *r = *state;
    r->settings.silence_ms = 8000;
    r->settings.connect_timeout_ms = 1000;
    r->in.stop_after_backoffs = 1;
    struct stopwatch before = stopwatch_start();
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n"), .hold = true})); /* one connection at a time */
    assert_took(&before, 2000, 7500);
    assert_detail(r, "quiet, and does not answer");
}

/* ---- an index below the last, a buffer that begins behind it ---- */

#define INDEXES(index)                                                                            \
    {                                                                                             \
        .first = STR("HTTP/1.1 200 OK\r\nX-Nomad-Index: " #index "\r\nConnection: close\r\n\r\n") \
    }
#define FOUR(index) INDEXES(index), INDEXES(index), INDEXES(index), INDEXES(index)
#define NO_AGENT                                                            \
    {                                                                       \
        .first = STR("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n") \
    }
#define ALL_LISTS(index) FOUR(index), FOUR(index), FOUR(index), FOUR(index)

static void takes_what_a_server_that_lags_tells(void **state)
{
    struct rig *r = *state;
    r->in.resume = (struct ingest_resume){.known = true, .index = 41, .last = 44};
    r->in.last_index = 44;
    r->in.stop_after_messages = 2;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(7, "a") "\n" LINE(8, "b") "\n")},
                       ALL_LISTS(44), {.first = STR(HEAD "{}\n"), .hold = true}));
    assert_told(r, "attached\nlags\nmessage 7 Job/a\nmessage 8 Job/b\n");
    assert_asked(r, 1, "GET /v1/jobs?");
    assert_int_equal(r->server->n_requests, 17);
}

static void reads_an_index_that_started_over_from_its_oldest(void **state)
{
    struct rig *r = *state;
    r->in.resume = (struct ingest_resume){.known = true, .index = 41, .last = 44};
    r->in.last_index = 44;
    r->in.start = SOURCE_START_NOW; /* which is long past */
    r->in.stop_after_messages = 2;
    run_rig(r,
            ANSWERS({.first = STR(HEAD "{}\n" LINE(9, "b") "\n")}, ALL_LISTS(9), ALL_LISTS(9),
                    NO_AGENT,
                    {.first = STR(HEAD "{}\n" LINE(8, "a") "\n" LINE(9, "b") "\n"), .hold = true}));
    assert_told(r, "attached\nstarted over\nbackoff\nattached\nmessage 8 Job/a\nmessage 9 Job/b\n");
    assert_detail(r, "started over");
    assert_int_equal(r->server->n_requests, 35);
    assert_asked(r, 2, "?index=0&"); /* the 35th took the place of the third */
}

static void decides_nothing_without_the_leader(void **state)
{
    struct rig *r = *state;
    r->in.resume = (struct ingest_resume){.known = true, .index = 41, .last = 44};
    r->in.last_index = 44;
    r->in.stop_after_backoffs = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(9, "b") "\n")},
                       {.first = STR("HTTP/1.1 500 Oops\r\n\r\nNo cluster leader")}));
    assert_told(r, "attached\nbackoff\n");
    assert_detail(r, "a rebuilt cluster or a server that lags?: asking the leader");
    assert_detail(r, "No cluster leader");
}

static void tries_again_at_once_while_the_leader_applies_its_log(void **state)
{
    struct rig *r = *state;
    struct nomad_memory memory = {0};
    struct nomad_outcome outcome;
    struct stub_answer replays[] = {
        {.first = STR(HEAD "{}\n" LINE(9, "b") "\n")},
        {.first = STR("HTTP/1.1 500 Oops\r\n\r\nNot ready to serve consistent reads\n")}};
    r->in.resume = (struct ingest_resume){.known = true, .index = 41, .last = 44};
    r->in.last_index = 44;
    r->server = stub_start(replays, 2);
    nomad_stream_run(&r->settings, &r->in, r->server->url, &memory, &outcome);
    assert_int_equal(outcome.end, NOMAD_LOST);
    assert_true(outcome.fruitful);
    assert_told(r, "attached\nbackoff\n");
    assert_detail(r, "still applies its log");
}

/* `others` times the one, then the other, and so on; the first answers as `first` says, the second
 * as told. */
static void run_two(struct rig *r, size_t others, const struct stub_answer *first,
                    const struct stub_answer *answers, size_t n)
{
    struct stub_server *other = stub_start(first, 1);
    for (size_t i = 0; i < others; i++)
        r->servers[i] = other->url;
    r->settings.servers.n = others + 1;
    r->in.resume = (struct ingest_resume){.known = true, .index = 41, .last = 44};
    run_rig(r, answers, n);
    stub_stop(&other);
}

static void leaves_a_server_that_has_forgotten_for_one_that_knows(void **state)
{
    struct rig *r = *state;
    struct stub_answer forgot = {.first = STR(HEAD "{}\n" LINE(50, "f") "\n"), .hold = true};
    r->in.stop_after_messages = 2;
    run_two(
        r, 8, &forgot,
        ANSWERS({.first = STR(HEAD "{}\n" LINE(41, "a") "\n" LINE(50, "f") "\n"), .hold = true}));
    assert_int_equal(r->in.backoffs, 8);
    assert_told_last(r, "attached\nbackoff\nattached\nmessage 41 Job/a\nmessage 50 Job/f\n");
    assert_detail(r, "its buffer begins at 50, behind the 41 asked for");
    assert_went_on_at_once(r, 8);
}

static void takes_what_there_is_where_all_have_forgotten(void **state)
{
    struct rig *r = *state;
    struct stub_answer forgot = {.first = STR(HEAD "{}\n" LINE(50, "f") "\n"), .hold = true};
    r->in.stop_after_messages = 1;
    run_two(r, 1, &forgot,
            ANSWERS({.first = STR("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")}));
    assert_told(r, "attached\nbackoff\nbackoff\nattached\nmessage 50 Job/f\n");
}

static void one_server_alone_is_taken_as_it_is(void **state)
{
    struct rig *r = *state;
    r->in.resume = (struct ingest_resume){.known = true, .index = 41, .last = 44};
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(50, "f") "\n"), .hold = true}));
    assert_told(r, "attached\nmessage 50 Job/f\n");
}

static void stops_in_the_middle_of_a_flood(void **state)
{
    struct rig *r = *state;
    struct buf flood = {0};
    buf_append_cstr(&flood, HEAD);
    for (int i = 0; i < 40000; i++)
        buf_append_cstr(&flood, LINE(3, "a") "\n");
    r->in.stop_after_messages = 1;
    run_rig(r, ANSWERS({.first = buf_str(&flood)}));
    assert_in_range(r->in.messages, 1, 20000);
    buf_fini(&flood);
}

static void ends_with_the_error_of_ingest(void **state)
{
    struct rig *r = *state;
    r->in.refuse = true;
    run_rig(r, ANSWERS({.first = STR(HEAD "{}\n" LINE(3, "a") "\n"), .hold = true}));
    assert_int_equal(r->rc, -1);
    assert_string_equal(r->err.msg, "the fake refuses");
}

/* ---- settings ---- */

static struct event job(const char *key, const char *ns)
{
    return (struct event){.topic = STR("Job"), .key = str_from(key), .ns = str_from(ns)};
}

static void filters_as_nomad_does(void **state)
{
    struct rig *r = *state;
    assert_null(nomad_source.filter(&r->settings));
    r->topics[0] = "Job:web";
    r->settings.ns = "apps";
    struct filter *f = nomad_source.filter(&r->settings);
    struct event mine = job("web", "apps"), none = job("web", ""), other = job("web", "default"),
                 db = job("db", "apps");
    assert_true(filter_match(f, &mine));
    assert_true(filter_match(f, &none));
    assert_false(filter_match(f, &other));
    assert_false(filter_match(f, &db));
    filter_free(&f);
    r->settings.filter_at = NOMAD_FILTER_AT_SERVER;
    assert_null(nomad_source.filter(&r->settings));
}

/* `file` owns what `out` points to. */
static size_t problems_of(const char *yaml, struct settings **file, struct nomad_settings *out)
{
    *file = settings_parse("test", yaml, strlen(yaml));
    const struct settings_node *root = settings_root(*file);
    if (settings_apply(*file, root, "source", nomad_source.rows, NULL, out) == 0)
        nomad_source.check(*file, root, out);
    return settings_problems(*file);
}

static void has_defaults_that_work(void **state)
{
    (void)state;
    struct settings *file;
    struct nomad_settings s = {0};
    assert_int_equal(problems_of("servers: [http://127.0.0.1:4646]\n", &file, &s), 0);
    assert_int_equal(s.filter_at, NOMAD_FILTER_AT_BRIDGE);
    assert_int_equal(nomad_source.start(&s), SOURCE_START_SNAPSHOT);
    assert_int_equal(s.silence_ms, 95000);
    assert_int_equal(s.connect_timeout_ms, 5000);
    assert_null(s.token);
    assert_null(nomad_source.filter(&s));
    settings_free(&file);
}

static void refuses_settings_that_cannot_work(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "token: x\n",
        "servers: [nomad:4646]\n",
        "servers: [http://n:4646]\ntoken: \"a\\nb\"\n",
        "servers: [http://n:4646]\ntopics: [\":x\"]\n",
        "servers: [http://n:4646]\nnamespace: \"\"\n",
        "servers: [http://n:4646]\nfilter_at: server\ntopics: [\"Job:a:b\"]\n",
        "servers: [http://n:4646]\nfilter_at: server\ntopics: [Job, \"Job:a\"]\n",
        "servers: [http://n:4646]\nsilence: 10ms\n",
    };
    static const char right[] = "servers: [http://n:4646]\nfilter_at: server\n"
                                "topics: [Job, \"JobX:a\"]\n";
    struct settings *file;
    struct nomad_settings s;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(problems_of(wrong[i], &file, &s), 1);
        settings_free(&file);
    }
    assert_int_equal(problems_of(right, &file, &s), 0);
    settings_free(&file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_rig, tear_down_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(asks_for_everything_and_filters_here),
        TEST(asks_for_what_is_named_where_the_server_filters),
        TEST(goes_on_where_the_journal_stands),
        TEST(hands_on_messages_byte_for_byte),
        TEST(attaches_on_a_message_without_a_heartbeat_before),
        TEST(flushes_what_came_before_it_waits),
        TEST(tells_a_line_that_cannot_be_read_and_goes_on),
        TEST(text_that_is_followed_by_more_was_a_message),
        TEST(text_that_is_followed_by_a_close_is_the_reason_for_it),
        TEST(tells_that_it_was_too_slow),
        TEST(does_not_journal_half_a_line),
        TEST(bounds_text_that_may_be_last_words),
        TEST(drops_doubles_of_a_server_that_filters_by_several_keys),
        TEST(start_now_leaves_out_what_was_there),
        TEST(start_now_takes_all_where_nothing_was_there),
        TEST(start_now_leaves_out_what_was_there_though_its_thread_stood_still),
        TEST(start_now_loses_nothing_to_a_reconnect),
        TEST(start_now_survives_a_rebuilt_cluster),
        TEST(reconnects_at_once_after_a_stream_that_brought_something),
        TEST(waits_longer_and_longer_where_nothing_comes),
        TEST(goes_to_the_next_server),
        TEST(leaves_a_silent_server),
        TEST(leaves_a_server_that_never_answers),
        TEST(leaves_a_quiet_server_that_does_not_answer),
        TEST(takes_what_a_server_that_lags_tells),
        TEST(reads_an_index_that_started_over_from_its_oldest),
        TEST(decides_nothing_without_the_leader),
        TEST(tries_again_at_once_while_the_leader_applies_its_log),
        TEST(leaves_a_server_that_has_forgotten_for_one_that_knows),
        TEST(takes_what_there_is_where_all_have_forgotten),
        TEST(one_server_alone_is_taken_as_it_is),
        TEST(stops_in_the_middle_of_a_flood),
        TEST(ends_with_the_error_of_ingest),
        TEST(filters_as_nomad_does),
        TEST(has_defaults_that_work),
        TEST(refuses_settings_that_cannot_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
