/* test_sink.c - the loop that drives a sink, against a sink in memory that can be told to
 * misbehave. */
#include "tests/unit/sink_kit.h"

static void publishes_everything_once_in_order_and_leaves_repeats_out(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    for (uint64_t i = 1; i <= 10; i++)
        put_event(&b, i, 0, "{}", false);
    put_event(&b, 10, 0, "{}", true);
    start_loop(&b);
    wait_for(10);
    for (uint64_t i = 11; i <= 30; i++)
        put_event(&b, i, 0, "{}", false);
    wait_for(30);
    for (size_t i = 0; i < 30; i++)
        holds(i, i + 1, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

static void goes_on_behind_its_checkpoint_after_a_restart(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    for (uint64_t i = 1; i <= 7; i++)
        put_event(&b, i, 0, "{}", false);
    start_loop(&b);
    wait_for(7);
    stop_loop(&b);
    reopen(&b);
    put_event(&b, 7, 1, "{}", false);
    put_event(&b, 8, 0, "{}", false);
    start_loop(&b);
    wait_for(9);
    holds(7, 7, 1);
    holds(8, 8, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

static void compares_by_identity_in_another_journal(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    put_event(&b, 5, 0, "{}", false);
    put_event(&b, 6, 0, "{}", false);
    put_event(&b, 6, 1, "{}", false);
    start_loop(&b);
    wait_for(3);
    stop_loop(&b);
    fresh_journal(&b);
    put_event(&b, 5, 0, "{}", false); /* passed: an older index */
    put_event(&b, 6, 2, "{}",
              false); /* new, told before what is known: the order within an index differs */
    put_event(&b, 6, 1, "{}", false);
    put_event(&b, 6, 0, "{}", false);
    put_event(&b, 7, 0, "{}", false);
    far.events_max = 1; /* each its own batch: the comparison must survive the checkpoint's moves */
    start_loop(&b);
    wait_for(5);
    holds(3, 6, 2);
    holds(4, 7, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

/* Stopped between two batches of one index in a journal that told it in another order. */
static void compares_by_identity_through_a_restart_within_one_index(void **state)
{
    (void)state;
    struct bench b;
    bench_setup_takeover(&b, 6);
    put_event(&b, 6, 1, "{}", false);
    far.events_max = 1;
    start_loop(&b);
    wait_for(3); /* a Gap, as nothing known came before, and 6/1 */
    assert_string_equal(far.ids[1], "Gap");
    stop_loop(&b);
    reopen(&b);
    put_event(&b, 6, 0, "{}", false);
    put_event(&b, 7, 0, "{}", false);
    start_loop(&b);
    wait_for(4);
    holds(2, 6, 1);
    holds(3, 7, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

static void says_a_gap_where_another_journal_starts_too_late(void **state)
{
    (void)state;
    struct bench b;
    bench_setup_takeover(&b, 5);
    put_event(&b, 9, 0, "{}", false);
    start_loop(&b);
    wait_for(3);
    assert_string_equal(far.ids[1], "Gap");
    holds(2, 9, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

static void tries_again_after_retry_and_asks_after_unknown(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    far.script[0].result = SINK_RETRY;
    far.script[1].result = SINK_UNKNOWN;
    far.script[1].happens = true;
    far.script[2].result = SINK_UNKNOWN;
    far.script[3].result = SINK_DONE;
    far.script[3].happens = true;
    far.n_script = 4;
    for (uint64_t i = 1; i <= 10; i++)
        put_event(&b, i, 0, "{}", false);
    start_loop(&b);
    wait_for(10);
    for (size_t i = 0; i < 10; i++)
        holds(i, i + 1, 0);
    assert_int_equal(far.opens, 3);
    stop_loop(&b);
    bench_teardown(&b);
}

static void replaces_what_the_sink_refuses_and_nothing_else(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    far.refuse_larger_than = 600; /* a Rejected event is smaller */
    char large[1000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    put_event(&b, 1, 0, "{}", false);
    put_event(&b, 2, 0, "{}", false);
    put_event(&b, 3, 0, large, false);
    put_event(&b, 4, 0, "{}", false);
    put_event(&b, 5, 0, large, false);
    start_loop(&b);
    wait_for(5);
    holds(0, 1, 0);
    holds(1, 2, 0);
    assert_string_equal(far.ids[2], "Rejected");
    holds(3, 4, 0);
    assert_string_equal(far.ids[4], "Rejected");
    stop_loop(&b);
    bench_teardown(&b);
}

static void replaces_an_event_whose_key_is_too_large(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    far.refuse_larger_than = 2000;
    struct buf key = {0};
    while (key.len < 5000)
        buf_append_cstr(&key, "kéy");
    put(&b, (struct event){.topic = STR("Job"),
                           .type = STR("T"),
                           .key = buf_str(&key),
                           .data = buf_str(&key),
                           .index = 1,
                           .ident = 1});
    put_event(&b, 2, 0, "{}", false);
    start_loop(&b);
    wait_for(2);
    assert_string_equal(far.ids[0], "Rejected");
    holds(1, 2, 0);
    stop_loop(&b);
    buf_fini(&key);
    bench_teardown(&b);
}

static void says_a_gap_when_the_journal_dropped_what_it_wanted(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    put_event(&b, 1, 0, "{}", false);
    start_loop(&b);
    wait_for(1);
    stop_loop(&b);
    reopen(&b);
    char *fill = mem_zalloc(60001);
    memset(fill, 'y', 60000);
    for (uint64_t i = 2; i <= 60; i++)
        put_event(&b, i, 0, fill, false); /* 3.5 MB into 1 MiB */
    reopen(&b); /* what is pruned from the disk may still be had from memory */
    uint64_t first = journal_first_seq(b.journal);
    assert_true(first > 2);
    start_loop(&b);
    wait_for(1 + 1 + 60 - (size_t)first + 1);
    assert_string_equal(far.ids[1], "Gap");
    holds(2, first, 0);
    stop_loop(&b);
    bench_teardown(&b);
    free(fill);
}

static void a_fenced_pair_ends(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    far.script[0].result = SINK_FENCED;
    far.n_script = 1;
    put_event(&b, 1, 0, "{}", false);
    start_loop(&b);
    pthread_join(b.thread, NULL);
    struct sink_status status;
    sink_loop_get_status(b.loop, &status);
    assert_int_equal(status.state, SINK_ENDED);
    sink_loop_free(&b.loop);
    bench_teardown(&b);
}

static void moves_the_checkpoint_though_the_filter_matches_nothing(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    b.filter = filter_new();
    filter_add_topic(b.filter, STR("Node"));
    put_event(&b, 1, 0, "{}", false);
    put_event(&b, 2, 0, "{}", false);
    start_loop(&b);
    int64_t until = clock_mono_ms() + 30000;
    struct sink_status status = {0};
    while (status.seq < 2 && clock_mono_ms() < until) {
        usleep(10000);
        sink_loop_get_status(b.loop, &status);
    }
    assert_int_equal(status.seq, 2);
    assert_int_equal(status.index, 2);
    assert_int_equal(far_count(), 0);
    stop_loop(&b);
    bench_teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publishes_everything_once_in_order_and_leaves_repeats_out),
        cmocka_unit_test(goes_on_behind_its_checkpoint_after_a_restart),
        cmocka_unit_test(compares_by_identity_in_another_journal),
        cmocka_unit_test(compares_by_identity_through_a_restart_within_one_index),
        cmocka_unit_test(says_a_gap_where_another_journal_starts_too_late),
        cmocka_unit_test(tries_again_after_retry_and_asks_after_unknown),
        cmocka_unit_test(replaces_what_the_sink_refuses_and_nothing_else),
        cmocka_unit_test(replaces_an_event_whose_key_is_too_large),
        cmocka_unit_test(says_a_gap_when_the_journal_dropped_what_it_wanted),
        cmocka_unit_test(a_fenced_pair_ends),
        cmocka_unit_test(moves_the_checkpoint_though_the_filter_matches_nothing),
    };
    int failed;
    RUN_BOTH_WAYS(failed, tests);
    return failed;
}
