/* test_ingest.c - from a connector's messages to the journal: repeats, occurrences, gaps,
 * positions. */
#include "tests/unit/ingest_kit.h"

static void repeats_are_known_by_identity_whatever_their_order(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    line(&b, 6, (const char *[]){"a", "b"}, 2);
    one(&b, 6, "c"); /* one index over several lines */
    connect_again(&b);
    one(&b, 5, "a");
    line(&b, 6, (const char *[]){"c", "d"},
         2); /* another server: another order, and one that was not seen yet */
    line(&b, 6, (const char *[]){"b", "a"}, 2);
    one(&b, 7, "a");
    journal_is(&b, "5 a/0 T 5.0, 6 a/0 T 6.0, 6 b/0 T 6.1, 6 c/0 T 6.2, 6 d/0 T 6.4, 7 a/0 T 7.0");
    assert_int_equal(metrics_get(b.metrics, METRIC_REPEATS), 4);
    bench_teardown(&b);
}

static void one_tuple_told_twice_at_one_index_is_two_events(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 4, "a");
    line(&b, 5, (const char *[]){"a", "a"}, 2);
    one(&b, 5, "a");
    connect_again(&b);
    one(&b, 4, "a");
    line(&b, 5, (const char *[]){"a", "a"}, 2);
    one(&b, 5, "a");
    one(&b, 5, "a"); /* a fourth one, new */
    journal_is(&b, "4 a/0 T 4.0, 5 a/0 T 5.0, 5 a/1 T 5.1, 5 a/2 T 5.2, 5 a/3 T 5.3");
    bench_teardown(&b);
}

static void repeats_are_known_after_a_restart(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 6, "a");
    restart(&b);
    struct ingest_resume r = ingest_resume(b.ingest);
    assert_true(r.known);
    assert_int_equal(r.index, 5);
    assert_int_equal(r.last, 6);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 6, "a");
    one(&b, 8, "a");
    journal_is(&b, "5 a/0 T 5.0, 6 a/0 T 6.0, 8 a/0 T 8.0");
    bench_teardown(&b);
}

static void continuity_that_is_not_proven_is_a_gap(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 6, "a");
    connect_again(&b);
    one(&b, 9, "a"); /* neither 5 nor 6 was seen again */
    one(&b, 10, "a");
    journal_is(&b, "5 a/0 T 5.0, 6 a/0 T 6.0, 6 prod/0 Gap 6.1, 9 a/0 T 9.0, 10 a/0 T 10.0");
    connect_again(&b);
    one(&b, 10, "a"); /* the last one alone may have started in its middle */
    one(&b, 10, "b");
    assert_int_equal(metrics_get(b.metrics, METRIC_GAPS), 2);
    connect_again(&b);
    one(&b, 9, "a");
    one(&b, 11, "a");
    assert_int_equal(metrics_get(b.metrics, METRIC_GAPS), 2);
    bench_teardown(&b);
}

static void what_lies_before_all_that_is_known_is_a_repeat(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 500, "a");
    one(&b, 501, "a");
    connect_again(&b);
    one(&b, 3, "x"); /* a follower that lags starts far back */
    one(&b, 500, "a");
    one(&b, 501, "a");
    one(&b, 502, "a");
    journal_is(&b, "500 a/0 T 500.0, 501 a/0 T 501.0, 502 a/0 T 502.0");
    bench_teardown(&b);
}

static void a_malformed_message_becomes_one_event(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    struct str bad = STR("{\"Events\":[");
    assert_int_equal(ingest_malformed(b.ingest, bad, bad.len, "ends early", &b.err), 0);
    assert_int_equal(ingest_malformed(b.ingest, bad, bad.len, "ends early", &b.err), 0);
    one(&b, 6, "a");
    journal_is(&b, "5 a/0 T 5.0, 5 prod/0 Malformed 5.1, 6 a/0 T 6.0");
    restart(&b);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    assert_int_equal(ingest_malformed(b.ingest, bad, bad.len, "ends early", &b.err), 0);
    one(&b, 6, "a");
    journal_is(&b, "5 a/0 T 5.0, 5 prod/0 Malformed 5.1, 6 a/0 T 6.0");
    bench_teardown(&b);
}

static void an_index_out_of_range_is_malformed(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, UINT64_MAX, "a");
    one(&b, 5, "a");
    journal_is(&b, "0 prod/0 Malformed 0.1, 5 a/0 T 5.0");
    bench_teardown(&b);
}

static void what_the_sources_filter_leaves_out_still_proves_continuity(void **state)
{
    (void)state;
    struct bench b;
    struct filter *filter = filter_new();
    filter_add_topic(filter, STR("Job:wanted"));
    bench_setup(&b, filter);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "wanted");
    one(&b, 6, "other");
    one(&b, 7, "other");
    journal_is(&b, "5 wanted/0 T 5.0");
    restart(&b);
    assert_int_equal(ingest_resume(b.ingest).index, 6);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 6, "other");
    one(&b, 7, "other");
    one(&b, 8, "wanted");
    journal_is(&b, "5 wanted/0 T 5.0, 8 wanted/0 T 8.0");
    bench_teardown(&b);
}

static void starts_now_only_where_no_sink_knows_better(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    assert_false(ingest_resume(b.ingest).known);
    ingest_free(&b.ingest);
    b.start = SOURCE_START_NOW;
    make_ingest(&b, NULL);
    assert_false(ingest_resume(b.ingest).known);
    b.known.any = true;
    assert_true(ingest_resume(b.ingest).known);
    assert_int_equal(ingest_resume(b.ingest).index, 0);
    bench_teardown(&b);
}

static void arrival_times_rise_over_all_sources_and_the_horizon_waits(void **state)
{
    (void)state;
    struct arrival a;
    arrival_init(&a, 2);
    int64_t first = arrival_take(&a, 0, 3);
    int64_t second = arrival_take(&a, 1, 1);
    assert_true(second >= first + 3);
    assert_int_equal(arrival_horizon(&a), first - 1);
    arrival_readable(&a, 0);
    assert_int_equal(arrival_horizon(&a), second - 1);
    arrival_readable(&a, 1);
    assert_int_equal(arrival_horizon(&a), second);
    arrival_raise(&a, second + 1000000);
    assert_int_equal(arrival_take(&a, 0, 1), second + 1000001);
    arrival_fini(&a);
}

static void the_window_keeps_the_two_newest_indexes_whole(void **state)
{
    (void)state;
    struct seen s = {0};
    for (uint64_t i = 1; i <= 3 * SEEN_MIN; i++)
        seen_add(&s, 1, i);
    for (uint64_t i = 1; i <= 10; i++)
        seen_add(&s, 2, 1000000 + i);
    assert_true(seen_has(&s, 1));
    assert_false(seen_is_before(&s, 1));
    seen_add(&s, 3, 2000000);
    assert_false(seen_has(&s, 1));
    assert_true(seen_has(&s, 1000001));
    assert_int_equal(s.previous, 2);
    seen_fini(&s);
}

static void what_comes_fast_fills_whole_blocks(void **state)
{
    (void)state;
    struct bench b;
    static char text[2048];
    memset(text, 'x', sizeof text);
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    for (uint64_t i = 1; i <= 1000; i++) {
        struct str raw = {text, sizeof text};
        struct found_event found = {
            .topic = STR("Job"), .type = STR("T"), .key = STR("a"), .index = i, .data = raw};
        assert_int_equal(ingest_message(b.ingest, raw, &found, 1, &b.err), 0);
    }
    assert_int_equal(ingest_flush(b.ingest, &b.err), 0);
    struct journal_reader *reader = journal_reader_new(b.journal);
    struct block *block;
    size_t n = 0;
    for (uint64_t seen = 0; seen < 1000; n++) {
        assert_int_equal(journal_reader_next(reader, 0, &block, &b.err), JOURNAL_BLOCK);
        seen += block->n_messages;
        assert_true(block->n_messages > 100 || seen == 1000); /* none of a message left over */
        block_unref(&block);
    }
    assert_int_equal(n, b.news); /* each was told of at once */
    journal_reader_free(&reader);
    bench_teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeats_are_known_by_identity_whatever_their_order),
        cmocka_unit_test(one_tuple_told_twice_at_one_index_is_two_events),
        cmocka_unit_test(repeats_are_known_after_a_restart),
        cmocka_unit_test(continuity_that_is_not_proven_is_a_gap),
        cmocka_unit_test(what_lies_before_all_that_is_known_is_a_repeat),
        cmocka_unit_test(a_malformed_message_becomes_one_event),
        cmocka_unit_test(an_index_out_of_range_is_malformed),
        cmocka_unit_test(what_the_sources_filter_leaves_out_still_proves_continuity),
        cmocka_unit_test(starts_now_only_where_no_sink_knows_better),
        cmocka_unit_test(arrival_times_rise_over_all_sources_and_the_horizon_waits),
        cmocka_unit_test(the_window_keeps_the_two_newest_indexes_whole),
        cmocka_unit_test(what_comes_fast_fills_whole_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
