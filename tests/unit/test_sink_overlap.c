/* test_sink_overlap.c - the loop with a sink that takes a batch while it publishes another: what
 * comes when, and what becomes of the younger one when the older fails. */
#include "tests/unit/sink_kit.h"

static void start_overlapping(struct bench *b, uint64_t n_events)
{
    far_overlaps = true;
    bench_setup(b, 1 << 20);
    for (uint64_t i = 1; i <= n_events; i++)
        put_event(b, i, 0, "{}", false);
}

static void holds_all_once_in_order(uint64_t n)
{
    assert_int_equal(far_count(), n);
    for (uint64_t i = 0; i < n; i++)
        holds(i, i + 1, 0);
}

static void the_next_batch_is_begun_before_the_one_ends(void **state)
{
    (void)state;
    struct bench b;
    start_overlapping(&b, 14); /* batches of four: three are full */
    start_loop(&b);
    wait_for(14);
    stop_loop(&b);
    holds_all_once_in_order(14);
    assert_string_equal(buf_cstr(&far.calls), "bbebeep");
    bench_teardown(&b);
}

/* The journal told an event twice, without knowing it. */
static void what_the_begun_batch_has_is_not_published_again(void **state)
{
    (void)state;
    struct bench b;
    start_overlapping(&b, 4);
    for (uint64_t i = 4; i <= 10; i++)
        put_event(&b, i, 0, "{}", false);
    start_loop(&b);
    wait_for(10);
    stop_loop(&b);
    holds_all_once_in_order(10);
    bench_teardown(&b);
}

/* The n-th batch ends so, while the one behind it is begun; both come again. */
static void expect_recovery(size_t nth, enum sink_result result, bool happens, size_t opens)
{
    struct bench b;
    start_overlapping(&b, 24);
    far.script[nth].result = result;
    far.script[nth].happens = happens;
    for (size_t i = 0; i < nth; i++)
        far.script[i].happens = true;
    far.n_script = nth + 1;
    start_loop(&b);
    wait_for(24);
    stop_loop(&b);
    holds_all_once_in_order(24);
    assert_int_equal(far.opens, opens);
    assert_memory_equal(buf_cstr(&far.calls), "bbebebeb", nth * 2 + 3);
    bench_teardown(&b);
}

static void what_is_begun_behind_a_failure_comes_again(void **state)
{
    (void)state;
    for (size_t nth = 0; nth < 3; nth++) {
        expect_recovery(nth, SINK_RETRY, false, 1);
        expect_recovery(nth, SINK_UNKNOWN, false, 2);
        expect_recovery(nth, SINK_UNKNOWN, true, 2);
    }
}

static void a_fenced_pair_publishes_nothing_of_the_next_batch(void **state)
{
    (void)state;
    struct bench b;
    start_overlapping(&b, 24);
    far.script[0].happens = true;
    far.script[1].result = SINK_FENCED;
    far.n_script = 2;
    start_loop(&b);
    pthread_join(b.thread, NULL);
    struct sink_status status;
    sink_loop_get_status(b.loop, &status);
    assert_int_equal(status.state, SINK_ENDED);
    assert_int_equal(status.seq, 4);
    holds_all_once_in_order(4);
    sink_loop_free(&b.loop);
    bench_teardown(&b);
}

static void what_is_refused_is_replaced_wherever_it_stands(void **state)
{
    (void)state;
    char large[1000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    for (uint64_t refused = 1; refused <= 12; refused++) {
        struct bench b;
        start_overlapping(&b, 0);
        far.refuse_larger_than = 600; /* a Rejected event is smaller */
        for (uint64_t i = 1; i <= 20; i++)
            put_event(&b, i, 0, i == refused ? large : "{}", false);
        start_loop(&b);
        wait_for(20);
        stop_loop(&b);
        for (uint64_t i = 1; i <= 20; i++) {
            if (i == refused)
                assert_string_equal(far.ids[i - 1], "Rejected");
            else
                holds(i - 1, i, 0);
        }
        bench_teardown(&b);
    }
}

static void request_stop(void *arg)
{
    struct bench *b = arg;
    if (far.calls.len >= 4) { /* "bbeb" */
        stop_request(b->stop);
        journal_wake_stop(b->journal);
    }
}

static void a_stop_waits_for_what_is_begun_and_begins_no_more(void **state)
{
    (void)state;
    struct bench b;
    start_overlapping(&b, 0);
    b.hold = true; /* all in one block: it is not the journal that ends the reading */
    for (uint64_t i = 1; i <= 40; i++)
        put_event(&b, i, 0, "{}", false);
    b.hold = false;
    assert_int_equal(journal_commit(b.journal, NULL), 0);
    far.on_begin = request_stop;
    far.arg = &b;
    start_loop(&b);
    pthread_join(b.thread, NULL);
    sink_loop_free(&b.loop);
    holds_all_once_in_order(12);
    assert_string_equal(buf_cstr(&far.calls), "bbebee");
    far.on_begin = NULL;
    reopen(&b);
    start_loop(&b);
    wait_for(40);
    stop_loop(&b);
    holds_all_once_in_order(40);
    bench_teardown(&b);
}

/* While the first batch is begun the journal drops what comes behind it. */
static void overrun_journal(void *arg)
{
    struct bench *b = arg;
    char *fill = mem_zalloc(60001);
    memset(fill, 'y', 60000);
    for (uint64_t i = 5; i <= 300; i++)
        put_event(b, i, 0, fill, false); /* 18 MB into 1 MiB, and past what memory keeps */
    free(fill);
    far.on_begin = NULL;
}

static void a_gap_behind_what_is_begun_begins_where_that_ends(void **state)
{
    (void)state;
    struct bench b;
    start_overlapping(&b, 4);
    far.on_begin = overrun_journal;
    far.arg = &b;
    start_loop(&b);
    int64_t until = clock_mono_ms() + 30000;
    struct sink_status status = {0};
    while (status.seq < 300 && clock_mono_ms() < until) {
        usleep(1000);
        sink_loop_get_status(b.loop, &status);
    }
    stop_loop(&b);
    holds(3, 4, 0);
    assert_string_equal(far.ids[4], "Gap");
    assert_non_null(strstr(buf_cstr(&far.gap), "\"From\":4,"));
    assert_memory_equal(buf_cstr(&far.calls), "bep", 3);
    bench_teardown(&b);
}

/* By identity a batch depends on the one before. */
static void nothing_is_begun_while_another_journal_is_compared(void **state)
{
    (void)state;
    struct bench b;
    start_overlapping(&b, 8);
    start_loop(&b);
    wait_for(8);
    stop_loop(&b);
    fresh_journal(&b);
    buf_clear(&far.calls);
    for (uint64_t i = 5; i <= 20; i++)
        put_event(&b, i, 0, "{}", false);
    start_loop(&b);
    wait_for(20);
    stop_loop(&b);
    holds_all_once_in_order(20);
    assert_string_equal(buf_cstr(&far.calls), "pbbee");
    bench_teardown(&b);
}

static void the_pair_is_kept_when_nothing_is_begun(void **state)
{
    (void)state;
    struct bench b;
    start_overlapping(&b, 12);
    start_loop(&b);
    wait_for(12);
    far_wait(&far.keeps, 2);
    stop_loop(&b);
    bench_teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_batch_is_begun_before_the_one_ends),
        cmocka_unit_test(what_the_begun_batch_has_is_not_published_again),
        cmocka_unit_test(what_is_begun_behind_a_failure_comes_again),
        cmocka_unit_test(a_fenced_pair_publishes_nothing_of_the_next_batch),
        cmocka_unit_test(what_is_refused_is_replaced_wherever_it_stands),
        cmocka_unit_test(a_stop_waits_for_what_is_begun_and_begins_no_more),
        cmocka_unit_test(a_gap_behind_what_is_begun_begins_where_that_ends),
        cmocka_unit_test(nothing_is_begun_while_another_journal_is_compared),
        cmocka_unit_test(the_pair_is_kept_when_nothing_is_begun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
