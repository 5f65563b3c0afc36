/* test_mirror_subscribers.c - what callbacks get: each event, in order, again until it is taken. */
#include "tests/unit/mirror_subscribers_kit.h"
#include "tests/unit/stopwatch.h"

#define SKIPPED "busbar_callbacks_skipped_total{source=\"prod\"}"

static void posts_each_event_from_the_registration_on(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    say_numbers(r, 1, 5);
    subscribe_receiver(r, &r->a);
    say_numbers(r, 6, 105);
    expect_numbers(&r->a, 1, 6, 105);
    const char *head = r->a.posts[1].head;
    assert_non_null(strstr(head, "POST /cb HTTP/1.1\r\n"));
    assert_non_null(strstr(head, "\r\nContent-Type: application/json\r\n"));
    struct buf id = {0};
    buf_printf(&id, "\r\nBusbar-Event: %016" PRIx64 "/6\r\n", journal_id(r->bridge->journals[0]));
    assert_non_null(strstr(head, buf_cstr(&id)));
    buf_fini(&id);
    assert_int_equal(1, r->a.connections); /* kept open */
}

static void posts_only_what_the_source_told(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    subscribe_receiver(r, &r->a);
    kit_append(r->bridge, 0, (struct event){.data = STR("{\"o\":1}"), .origin = EVENT_OWN});
    kit_append(r->bridge, 0, (struct event){.data = STR("{\"o\":2}"), .origin = EVENT_MALFORMED});
    kit_append(r->bridge, 0, (struct event){.data = STR("{\"o\":3}"), .origin = EVENT_SNAPSHOT});
    kit_append(r->bridge, 0, (struct event){.data = STR("{\"o\":4}"), .repeat = true});
    kit_add(r->bridge, 1, "{\"another\":\"source's\"}");
    say_numbers(r, 1, 1);
    expect_numbers(&r->a, 1, 1, 1);
}

static void posts_what_is_left_of_redacted_events(void **state)
{
    struct rig *r = *state;
    static const char *const paths[] = {"$..env.*"};
    r->settings.redact = (struct setting_list){paths, 1};
    open_rig(r);
    subscribe_receiver(r, &r->a);
    say(r, "{\"env\":{\"KEY\":\"secret\"}}");
    assert_string_equal("{\"env\":{\"KEY\":\"[redacted]\"}}", receiver_body(&r->a, 1));
}

static void tries_the_same_event_again_until_it_is_taken(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    subscribe_receiver(r, &r->a);
    receiver_will(&r->a, 1, (struct receiver_answer){.bytes = RECEIVER_500, .repeat = -1});
    receiver_begin(&r->a, 1);
    say_numbers(r, 1, 2);
    wait_told(r, "state", "retrying");
    wait_told(r, "last_error", "answered 500: Oops");
    receiver_will(&r->a, 1, (struct receiver_answer){.bytes = "", .close = true});
    size_t at = 1;
    while (strcmp("{\"n\":1}", receiver_body(&r->a, at)) == 0)
        at++;
    assert_string_equal("{\"n\":2}", receiver_body(&r->a, at));
    wait_told(r, "state", "waiting");
    json_t *first = told(r);
    /* The close without a word, on a connection that was kept, http_stream answers by itself. */
    assert_int_equal(at - 3, json_integer_value(json_object_get(first, "retried")));
    assert_int_equal(3, json_integer_value(json_object_get(first, "delivered")));
    assert_int_equal(0, json_integer_value(json_object_get(first, "lag_events")));
    assert_true(json_is_null(json_object_get(first, "last_error")));
    json_decref(first);
}

static void takes_any_2xx_and_nothing_else(void **state)
{
    struct rig *r = *state;
    static const struct {
        struct receiver_answer answer;
        bool taken;
    } cases[] = {
        {{.bytes = "HTTP/1.1 204 No Content\r\n\r\n"}, true},
        {{.bytes = "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"}, true},
        {{.bytes = "HTTP/1.1 200 OK\r\n\r\n", .flood = true}, true},
        {{.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"}, true},
        {{.bytes = "HTTP/1.1 200 OK\r\nX: ", .flood = true}, false},
        {{.bytes = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"},
         false},
        {{.bytes = "HTTP/1.1 404 Not Found\r\n\r\n", .flood = true}, false},
        {{.bytes = "HTTP/0.0 200 OK\r\n\r\n", .close = true}, false},
        {{.bytes = "{\"no\":\"http\"}\r\n\r\n", .close = true}, false},
    };
    open_rig(r);
    subscribe_receiver(r, &r->a);
    size_t posts = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        receiver_will(&r->a, 1, cases[i].answer);
        receiver_begin(&r->a, 1);
        say_numbers(r, (int)i, (int)i);
        say(r, "{\"then\":1}");
        posts += cases[i].taken ? 2 : 3;
        receiver_wait(&r->a, posts);
        assert_string_equal("{\"then\":1}", receiver_body(&r->a, posts - 1));
        expect_numbers(&r->a, posts - 2, (int)i, (int)i);
        if (!cases[i].taken)
            expect_numbers(&r->a, posts - 3, (int)i, (int)i);
    }
    assert_null(strstr(r->a.posts[posts - 1].head, "elsewhere"));
}

static void goes_on_where_it_was_after_a_restart(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    subscribe_receiver(r, &r->a);
    say_numbers(r, 1, 50);
    receiver_wait(&r->a, 20);
    mirror_close(&r->mirror);
    say_numbers(r, 51, 60);
    open_rig(r);
    expect(r, "GET", "", "200", r->a.url);
    expect_numbers(&r->a, 1, 1, 60);
    wait_told(r, "state", "waiting"); /* the last one is answered */
    restart(r);
    poll(NULL, 0, 100);
    assert_int_equal(61, receiver_count(&r->a)); /* nothing twice */
}

static void waits_at_the_end_for_an_answer_that_is_due(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    subscribe_receiver(r, &r->a);
    receiver_will(&r->a, 1, (struct receiver_answer){.delay_ms = 400});
    say_numbers(r, 1, 1);
    receiver_wait(&r->a, 2);
    restart(r);
    say_numbers(r, 2, 2);
    expect_numbers(&r->a, 1, 1, 2);
}

static void ends_in_time_though_callbacks_hang(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    subscribe_receiver(r, &r->a);
    receiver_will(&r->a, 1, (struct receiver_answer){.delay_ms = 60000});
    say_numbers(r, 1, 1);
    receiver_wait(&r->a, 2);
    struct stopwatch start = stopwatch_start();
    mirror_close(&r->mirror);
    assert_took(&start, 1500, 20000);
    open_rig(r);
}

static void skips_what_was_pruned_and_counts_it(void **state)
{
    struct rig *r = *state;
    char *large = mem_zalloc(100001);
    memset(large, ' ', 100000);
    memcpy(large, "{}", 2);
    open_rig(r);
    subscribe_receiver(r, &r->a);
    unsigned port = (unsigned)strtoul(strrchr(r->a.url, ':') + 1, NULL, 10);
    receiver_close(&r->a);
    int kept = receiver_port(port);
    say_numbers(r, 1, 1);
    wait_told(r, "state", "retrying");
    for (int i = 0; i < 150; i++) /* more than the journal keeps in memory */
        say(r, large);
    say_numbers(r, 152, 152);
    receiver_open(&r->a, port);
    close(kept);
    subscribe(r, r->a.url);
    const char *id = strstr((receiver_wait(&r->a, 1), r->a.posts[0].head), "Busbar-Event: ");
    assert_non_null(id);
    uint64_t first = strtoull(strchr(id, '/') + 1, NULL, 10);
    assert_in_range(first, 10, 152);
    expect_numbers(&r->a, 152 - first, 152, 152);
    assert_non_null(strstr(receiver_body(&r->a, 153 - first), "\"subscribe_event\""));
    wait_told(r, "state", "waiting");
    assert_int_equal(first - 1, kit_metric(r->bridge, SKIPPED));
    json_t *told_first = told(r);
    assert_int_equal(first - 1, json_integer_value(json_object_get(told_first, "skipped")));
    json_decref(told_first);
    free(large);
}

static void tries_at_once_when_it_registers_again(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    subscribe_receiver(r, &r->a);
    receiver_will(&r->a, 1, (struct receiver_answer){.bytes = RECEIVER_500, .repeat = 5});
    say_numbers(r, 1, 1);
    receiver_wait(&r->a, 1 + 6); /* the next one would be in 4 s at least */
    wait_told(r, "state", "retrying");
    struct stopwatch start = stopwatch_start();
    subscribe(r, r->a.url);
    expect_numbers(&r->a, 7, 1, 1);
    assert_took(&start, 0, 3900);
}

static void tries_again_at_once_what_failed_as_it_registered(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    subscribe_receiver(r, &r->a);
    receiver_will(&r->a, 1, (struct receiver_answer){.bytes = RECEIVER_500, .repeat = 3});
    receiver_will(&r->a, 2, (struct receiver_answer){.bytes = RECEIVER_500, .delay_ms = 500});
    say_numbers(r, 1, 1);
    receiver_wait(&r->a, 1 + 5); /* not answered yet; the next one would be 2 s after the answer */
    struct stopwatch start = stopwatch_start();
    subscribe(r, r->a.url);
    expect_numbers(&r->a, 6, 1, 1);
    assert_took(&start, 0, 2400);
}

static void removes_one_that_only_fails(void **state)
{
    struct rig *r = *state;
    r->settings.callback_give_up_ms = 600;
    open_rig(r);
    subscribe_receiver(r, &r->a);
    subscribe_receiver(r, &r->b);
    receiver_will(&r->a, 1, (struct receiver_answer){.bytes = RECEIVER_500, .repeat = -1});
    receiver_begin(&r->a, 1);
    say_numbers(r, 1, 1);
    wait_told(r, "url", r->b.url);
    wait_told(r, "state", "waiting");
    restart(r);
    struct buf list = {0};
    buf_printf(&list, "{\"callbackUrls\":[\"%s\"]}", r->b.url);
    expect(r, "GET", "", "200", buf_cstr(&list));
    buf_fini(&list);
}

static void ends_a_retrying_one_at_once(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    subscribe_receiver(r, &r->a);
    receiver_will(&r->a, 1, (struct receiver_answer){.bytes = RECEIVER_500, .repeat = -1});
    say_numbers(r, 1, 1);
    receiver_wait(&r->a, 1 + 6); /* the next one would be in 4 s at least */
    wait_told(r, "state", "retrying");
    struct stopwatch start = stopwatch_start();
    struct buf query = {0};
    buf_printf(&query, "?callbackUrl=%s", r->a.url);
    expect(r, "DELETE", buf_cstr(&query), "200", "unsubscribe_event");
    buf_fini(&query);
    expect(r, "GET", "", "200", "{\"callbackUrls\":[]}");
    mirror_close(&r->mirror);
    assert_took(&start, 0, 3900);
    open_rig(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(posts_each_event_from_the_registration_on),
        TEST(posts_only_what_the_source_told),
        TEST(posts_what_is_left_of_redacted_events),
        TEST(tries_the_same_event_again_until_it_is_taken),
        TEST(takes_any_2xx_and_nothing_else),
        TEST(goes_on_where_it_was_after_a_restart),
        TEST(waits_at_the_end_for_an_answer_that_is_due),
        TEST(ends_in_time_though_callbacks_hang),
        TEST(skips_what_was_pruned_and_counts_it),
        TEST(tries_at_once_when_it_registers_again),
        TEST(tries_again_at_once_what_failed_as_it_registered),
        TEST(removes_one_that_only_fails),
        TEST(ends_a_retrying_one_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
