/* test_mirror_marathon_listeners.c - GET /v2/events: who listens longer, or slowly, or with
 * others. */
#include "connectors/mirror/asides.h"
#include "tests/unit/mirror_marathon_kit.h"

static void expect_attached(struct peer *p, const char *what)
{
    struct buf start = {0};
    buf_printf(&start, "event: event_stream_%s\r\ndata: {\"remoteAddress\":\"127.0.0.1\",", what);
    char *got = peer_take(p, "\r\n\r\n", KIT_WAIT_MS);
    if (got == NULL || strncmp(got, start.p, start.len) != 0)
        fail_msg("expected %s, got %s", buf_cstr(&start), got);
    free(got);
    buf_fini(&start);
}

/* But not those of another source, nor those who did not ask for it. */
static void tells_the_others_who_comes_and_goes(void **state)
{
    struct rig *r = *state;
    struct peer here, there, filtered, late;
    r->bridge->is_marathon[1] = true;
    open_rig(r);
    free(listen_to(r, &here, "/sources/prod" STREAM, ""));
    expect_attached(&here, "attached");
    free(listen_to(r, &there, "/sources/test" STREAM, ""));
    expect_attached(&there, "attached");
    free(listen_to(r, &filtered, "/sources/prod" STREAM "?event_type=event_stream_detached", ""));
    expect_attached(&here, "attached");
    free(listen_to(r, &late, "/sources/prod" STREAM, ""));
    expect_attached(&late, "attached");
    expect_attached(&here, "attached");
    peer_close(&late);
    expect_attached(&here, "detached");
    expect_attached(&filtered, "detached");
    say(r, 1, (struct event){.data = STR("{}")});
    expect_next(&there, "event: status_update_event\r\ndata: {}\r\n\r\n");
    peer_close(&here);
    peer_close(&there);
    peer_close(&filtered);
}

/* Who reads late is told in the order in which it happened. */
static void they_come_at_their_place_between_the_events(void **state)
{
    struct rig *r = *state;
    r->settings.client_buffer = 4096;
    open_rig(r);
    struct peer slow = greeted(r, "");
    say_numbers(r, 1, 100, 30000);
    struct peer other = greeted(r, "");
    say_numbers(r, 101, 200, 30000);
    char *got = peer_take(&slow, "\"n\":200,", KIT_WAIT_MS);
    assert_non_null(got);
    const char *attached = strstr(got, "event_stream_attached");
    assert_non_null(attached);
    assert_null(strstr(attached, "\"n\":100,"));
    assert_non_null(strstr(attached, "\"n\":101,"));
    free(got);
    peer_expect(&other, "\"n\":101,");
    peer_close(&slow);
    peer_close(&other);
}

static void keeps_the_newest_asides_at_their_numbers(void **state)
{
    (void)state;
    struct asides asides = {0};
    uint64_t number = 0;
    assert_null(asides_find(&asides, &number));
    for (uint64_t i = 0; i < ASIDES_MAX + 10; i++)
        buf_append_u64(&asides_add(&asides, 7 + i, "type")->frame, i);
    const struct aside *oldest = asides_find(&asides, &number);
    assert_int_equal(10, number);
    assert_int_equal(17, oldest->seq);
    assert_true(str_is(buf_str(&oldest->frame), "10"));
    number = ASIDES_MAX + 10;
    assert_null(asides_find(&asides, &number));
    asides_fini(&asides);
    buf_append_cstr(&asides_add(&asides, 1, "type")->frame, "later");
    assert_true(str_is(buf_str(&asides_find(&asides, &number)->frame), "later"));
    asides_fini(&asides);
}

static int count_beats(const char *text)
{
    int beats = 0;
    for (const char *at = text; (at = strstr(at, "\r\n\r\n\r\n")) != NULL; at += 2)
        beats++;
    return beats;
}

static void beats_whatever_else_comes(void **state)
{
    struct rig *r = *state;
    r->settings.heartbeat_ms = 200;
    open_rig(r);
    int64_t began_ms = clock_mono_ms();
    struct peer p = greeted(r, "");
    int n = 0;
    for (; n < 600 && count_beats(buf_cstr(&p.got)) < 4; n++) {
        say_numbers(r, n, n, 1);
        usleep(50000);
        peer_read(&p, 0);
    }
    say_numbers(r, 1000, 1000, 1);
    char *got = peer_take(&p, "\"n\":1000,", KIT_WAIT_MS);
    int64_t most = (clock_mono_ms() - began_ms) / 200;
    assert_non_null(got);
    assert_in_range(count_beats(got), 4, most);
    free(got);
    peer_close(&p);
    p = greeted(r, "?event_type=none&event_type=event_stream_attached");
    peer_expect(&p, "\r\n\r\n\r\n");
    peer_close(&p);
}

static void a_beat_never_comes_within_a_frame(void **state)
{
    struct rig *r = *state;
    r->settings.heartbeat_ms = 100;
    r->settings.client_buffer = 4096;
    open_rig(r);
    struct peer p = greeted(r, "");
    say_numbers(r, 1, 1, 8 << 20);
    say_numbers(r, 2, 2, 1);
    for (int i = 0; i < 10; i++) {
        usleep(60000);
        assert_true(peer_read(&p, KIT_WAIT_MS) > 0);
    }
    char *got = peer_take(&p, "\"n\":2,", KIT_WAIT_MS);
    assert_non_null(got);
    const char *data = strstr(got, "data: {\"n\":1,");
    assert_non_null(data);
    assert_int_equal((8 << 20) + strlen("data: {\"n\":1,\"x\":\"\"}"), strcspn(data, "\r"));
    free(got);
    peer_close(&p);
}

/* Marathon itself would have cut it after 1,024 events. */
static void who_is_slow_has_all_that_the_journal_holds(void **state)
{
    struct rig *r = *state;
    r->settings.client_buffer = 4096;
    open_rig(r);
    struct peer p = greeted(r, "");
    say_numbers(r, 1, 5000, 2000);
    for (int i = 1; i <= 5000; i++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "event: status_update_event\r\ndata: {\"n\":%d,", i);
        char *got = peer_take(&p, "\r\n\r\n", KIT_WAIT_MS);
        if (got == NULL || strncmp(got, wanted, strlen(wanted)) != 0)
            fail_msg("expected %s, got %.100s", wanted, got);
        assert_int_equal(strlen(wanted) + strlen("\"x\":\"\"}\r\n\r\n") + 2000, strlen(got));
        free(got);
    }
    assert_int_equal(0, kit_metric(r->bridge, "busbar_clients_cut_total"));
    peer_close(&p);
}

static void who_is_too_slow_for_the_journal_is_cut(void **state)
{
    struct rig *r = *state;
    kit_bridge_free(&r->bridge);
    r->bridge = kit_bridge(1, 1 << 20);
    r->bridge->is_marathon[0] = true;
    r->settings.client_buffer = 4096;
    open_rig(r);
    struct peer p = greeted(r, "");
    say_numbers(r, 1, 400, 30000);
    usleep(1300 * 1000); /* what it holds is let go */
    peer_expect_end(&p);
    assert_null(strstr(buf_cstr(&p.got), "\"n\":400"));
    assert_int_equal(1, kit_metric(r->bridge, "busbar_clients_cut_total"));
    peer_close(&p);
    p = greeted(r, "");
    say_numbers(r, 401, 401, 1);
    expect_next(&p, "event: status_update_event\r\ndata: {\"n\":401,\"x\":\"0\"}\r\n\r\n");
    peer_close(&p);
}

static void what_is_redacted_does_not_leave(void **state)
{
    struct rig *r = *state;
    static const char *const paths[] = {"$..env.*"};
    r->settings.redact = (struct setting_list){.items = paths, .n = 1};
    open_rig(r);
    struct peer p = greeted(r, "");
    say(r, 0, (struct event){.data = STR("{\"env\":{\"KEY\":\"hidden\"},\n\"id\":\"/a\"}")});
    expect_next(&p, "event: status_update_event\r\n"
                    "data: {\"env\":{\"KEY\":\"[redacted]\"},\r\ndata: \"id\":\"/a\"}\r\n\r\n");
    peer_close(&p);
}

/* Gaps show in logs, metrics and on /events. */
static void stays_open_while_the_source_is_detached(void **state)
{
    struct rig *r = *state;
    r->settings.heartbeat_ms = 100;
    r->bridge->unready = true;
    open_rig(r);
    struct peer p = greeted(r, "");
    for (int i = 0; i < 3; i++)
        peer_expect(&p, "\r\n");
    say(r, 0, (struct event){.data = STR("{\"Type\":\"Gap\"}"), .origin = EVENT_OWN});
    say_numbers(r, 1, 1, 1);
    peer_expect_without(&p, "\"n\":1,", "Gap");
    peer_close(&p);
}

static void counts_among_the_clients(void **state)
{
    struct rig *r = *state;
    r->settings.max_clients = 2;
    open_rig(r);
    struct peer a = greeted(r, ""), b = peer_get(r->address, "/events", "");
    peer_expect(&b, ": busbar\n");
    assert_int_equal(2, kit_metric(r->bridge, "busbar_clients"));
    struct peer c = peer_get(r->address, STREAM, ACCEPT);
    peer_expect(&c, "retry: "); /* any status but 200 ends a browser's EventSource */
    peer_expect_end(&c);
    peer_close(&c);
    say_numbers(r, 1, 1, 1);
    peer_expect(&a, "\"n\":1,");
    peer_expect(&b, "\"n\":1,");
    assert_true(kit_becomes(r->bridge, "busbar_delivered_total", 2));
    peer_close(&a);
    peer_close(&b);
}

static void what_is_new_is_told_to_all(void **state)
{
    struct rig *r = *state;
    struct peer peers[20];
    open_rig(r);
    for (size_t i = 0; i < 20; i++)
        peers[i] = listener(r, "?event_type=status_update_event");
    say_numbers(r, 1, 300, 100);
    for (size_t i = 0; i < 20; i++)
        for (int n = 1; n <= 300; n++) {
            char wanted[64];
            snprintf(wanted, sizeof wanted, "event: status_update_event\r\ndata: {\"n\":%d,", n);
            char *got = peer_take(&peers[i], "\r\n\r\n", KIT_WAIT_MS);
            if (got == NULL || strncmp(got, wanted, strlen(wanted)) != 0)
                fail_msg("listener %zu: expected %s, got %s", i, wanted, got);
            free(got);
        }
    for (size_t i = 0; i < 20; i++)
        peer_close(&peers[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tells_the_others_who_comes_and_goes),
        TEST(they_come_at_their_place_between_the_events),
        cmocka_unit_test(keeps_the_newest_asides_at_their_numbers),
        TEST(beats_whatever_else_comes),
        TEST(a_beat_never_comes_within_a_frame),
        TEST(who_is_slow_has_all_that_the_journal_holds),
        TEST(who_is_too_slow_for_the_journal_is_cut),
        TEST(what_is_redacted_does_not_leave),
        TEST(stays_open_while_the_source_is_detached),
        TEST(counts_among_the_clients),
        TEST(what_is_new_is_told_to_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
