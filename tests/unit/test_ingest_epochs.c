/* test_ingest_epochs.c - sources that can't replay, indexes that start over, servers that lag, and
 * what a resync tells. */
#include "tests/unit/ingest_kit.h"

#include <pthread.h>
#include <unistd.h>

/* ---- gaps of sources that can't replay, indexes that start over, servers that lag ---- */

static void each_detachment_of_a_source_without_replay_is_a_gap(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    b.no_replay = true;
    ingest_free(&b.ingest);
    make_ingest(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    connect_again(&b);
    assert_int_equal(ingest_flush(b.ingest, &b.err), 0); /* said before anything else comes */
    assert_int_equal(metrics_get(b.metrics, METRIC_GAPS), 1);
    one(&b, 9, "a");
    restart(&b);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 10, "a");
    journal_is(&b, "5 a/0 T 5.0, 5 prod/0 Gap 5.1, 9 a/0 T 9.0, 9 prod/0 Gap 9.1, 10 a/0 T 10.0");
    bench_teardown(&b);
}

static struct found_event found_at(uint64_t index, const char *key)
{
    return (struct found_event){.topic = STR("Job"),
                                .type = STR("T"),
                                .key = str_from(key),
                                .index = index,
                                .data = STR("{\"a\":1}")};
}

static bool out_of_place(struct bench *b, uint64_t index, const char *key)
{
    struct found_event f = found_at(index, key);
    return ingest_is_out_of_place(b->ingest, &f, 1);
}

static void an_index_that_starts_over_is_a_new_epoch_and_a_gap(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 500, "a");
    one(&b, 501, "a");
    connect_again(&b);
    assert_false(out_of_place(&b, 501, "a")); /* known */
    assert_false(out_of_place(&b, 502, "a")); /* new */
    assert_true(out_of_place(&b, 7, "a"));
    assert_int_equal(ingest_started_over(b.ingest, &b.err), 0);
    assert_false(out_of_place(&b, 7, "a")); /* judged */
    one(&b, 7, "a");
    one(&b, 500, "a"); /* the same tuple as before, another event */
    journal_is(&b, "500 a/0 T 500.0, 501 a/0 T 501.0, 0 prod/0 Gap 501.1, 7 a/0 T 501.2, 500 a/0 T "
                   "501.3");
    restart(&b);
    assert_int_equal(ingest_last_index(b.ingest), 500);
    assert_int_equal(ingest_resume(b.ingest).index, 7);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 7, "a");
    one(&b, 500, "a");
    one(&b, 502, "a");
    assert_int_equal(metrics_get(b.metrics, METRIC_GAPS), 1);
    struct ingest_status status;
    ingest_get_status(b.ingest, &status);
    assert_int_equal(status.epoch, 1);
    bench_teardown(&b);
}

static void a_server_that_lags_tells_repeats_until_it_has_caught_up(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 9, "a");
    connect_again(&b);
    assert_true(out_of_place(&b, 7, "missed"));
    ingest_lags(b.ingest);
    assert_false(out_of_place(&b, 8, "missed"));
    one(&b, 5, "a");
    one(&b, 7, "missed");
    one(&b, 9, "a");
    one(&b, 9, "b"); /* at the last index itself what is not known is new */
    one(&b, 10, "a");
    journal_is(&b, "5 a/0 T 5.0, 9 a/0 T 9.0, 9 b/0 T 9.1, 10 a/0 T 10.0");
    connect_again(&b);
    assert_true(out_of_place(&b, 8, "missed")); /* each connection is judged anew */
    bench_teardown(&b);
}

static void a_new_journal_takes_its_epoch_from_the_sinks(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    b.known = (struct known_checkpoint){true, 2, 40};
    assert_true(ingest_resume(b.ingest).known);
    assert_int_equal(ingest_last_index(b.ingest), 40);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    assert_true(out_of_place(&b, 7, "a")); /* a rebuilt cluster, or an old buffer? */
    ingest_lags(b.ingest);
    one(&b, 7, "a"); /* old: for the sinks to compare, not a repeat of this journal's */
    one(&b, 41, "a");
    journal_is(&b, "7 a/0 T 7.0, 41 a/0 T 41.0");
    struct ingest_status status;
    ingest_get_status(b.ingest, &status);
    assert_int_equal(status.epoch, 2);
    bench_teardown(&b);
}

static void an_epoch_learned_late_is_a_gap(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_resume(b.ingest);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 7, "a");
    b.known = (struct known_checkpoint){true, 1, 6};
    usleep(1100000); /* the sinks are asked about every second */
    one(&b, 8, "a");
    one(&b, 9, "a");
    journal_is(&b, "7 a/0 T 7.0, 8 a/0 T 8.0, 8 prod/0 Gap 8.1, 9 a/0 T 9.0");
    struct ingest_status status;
    ingest_get_status(b.ingest, &status);
    assert_int_equal(status.epoch, 1);
    bench_teardown(&b);
}

/* ---- resyncs ---- */

static void a_first_start_with_a_snapshot_says_so_before_anything_else(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    b.start = SOURCE_START_SNAPSHOT;
    ingest_free(&b.ingest);
    make_ingest(&b, NULL);
    ingest_resume(b.ingest);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    journal_is(&b, "0 prod/0 ResyncStarted 0.1, 5 a/0 T 5.0");
    restart(&b);
    ingest_resume(b.ingest);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 6, "a");
    journal_is(&b, "0 prod/0 ResyncStarted 0.1, 5 a/0 T 5.0, 6 a/0 T 6.0");
    bench_teardown(&b);
}

static void a_sink_that_knows_the_source_makes_it_no_first_start(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    b.start = SOURCE_START_SNAPSHOT;
    b.known.any = true;
    ingest_free(&b.ingest);
    make_ingest(&b, NULL);
    ingest_resume(b.ingest);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    journal_is(&b, "5 a/0 T 5.0");
    bench_teardown(&b);
}

static void tell_snapshots(struct bench *b, uint64_t index, size_t n)
{
    struct found_event f = found_at(index, "s");
    f.type = STR("Snapshot");
    bool told;
    assert_int_equal(ingest_lock(b->ingest, &b->err), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(ingest_tell_object(b->ingest, &f, &told, &b->err), 0);
    assert_int_equal(ingest_unlock(b->ingest, &b->err), 0);
}

static void what_a_resync_tells_raises_no_position_and_hides_no_repeat(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 6, "a");
    tell_snapshots(&b, 90, 2);
    journal_is(&b, "5 a/0 T 5.0, 6 a/0 T 6.0, 90 s/0 Snapshot 6.1, 90 s/0 Snapshot 6.2");
    assert_int_equal(ingest_last_index(b.ingest), 6);
    tell_snapshots(&b, 90, SEEN_MIN + 10); /* more than the window that is read back */
    restart(&b);
    assert_int_equal(ingest_resume(b.ingest).index, 5);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 6, "a");
    one(&b, 7, "a");
    assert_int_equal(metrics_get(b.metrics, METRIC_REPEATS), 2);
    assert_int_equal(metrics_get(b.metrics, METRIC_GAPS), 0);
    bench_teardown(&b);
}

static void a_resync_heeds_the_sources_filter(void **state)
{
    (void)state;
    struct bench b;
    struct filter *filter = filter_new();
    filter_add_topic(filter, STR("Job:wanted"));
    bench_setup(&b, filter);
    struct found_event f = found_at(3, "other");
    bool told = true;
    assert_int_equal(ingest_lock(b.ingest, &b.err), 0);
    assert_int_equal(ingest_tell_object(b.ingest, &f, &told, &b.err), 0);
    assert_false(told);
    f = found_at(3, "wanted");
    assert_int_equal(ingest_tell_object(b.ingest, &f, &told, &b.err), 0);
    assert_true(told);
    uint64_t seq = 0;
    assert_int_equal(ingest_tell_own(b.ingest, "ResyncFinished", STR("{}"), &seq, &b.err), 0);
    assert_int_equal(ingest_unlock(b.ingest, &b.err), 0);
    assert_int_equal(seq, 2);
    journal_is(&b, "3 wanted/0 T 0.1, 0 prod/0 ResyncFinished 0.2");
    bench_teardown(&b);
}

static void *resync_thread(void *arg)
{
    for (int i = 0; i < 50; i++)
        tell_snapshots(arg, 1, 4);
    return NULL;
}

static void the_stream_and_a_resync_write_in_turns(void **state)
{
    (void)state;
    struct bench b;
    pthread_t thread;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    assert_int_equal(pthread_create(&thread, NULL, resync_thread, &b), 0);
    for (uint64_t i = 1; i <= 500; i++)
        one(&b, i, "a");
    pthread_join(thread, NULL);
    assert_int_equal(journal_next_seq(b.journal), 701);
    bench_teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_detachment_of_a_source_without_replay_is_a_gap),
        cmocka_unit_test(an_index_that_starts_over_is_a_new_epoch_and_a_gap),
        cmocka_unit_test(a_server_that_lags_tells_repeats_until_it_has_caught_up),
        cmocka_unit_test(a_new_journal_takes_its_epoch_from_the_sinks),
        cmocka_unit_test(an_epoch_learned_late_is_a_gap),
        cmocka_unit_test(a_first_start_with_a_snapshot_says_so_before_anything_else),
        cmocka_unit_test(a_sink_that_knows_the_source_makes_it_no_first_start),
        cmocka_unit_test(what_a_resync_tells_raises_no_position_and_hides_no_repeat),
        cmocka_unit_test(a_resync_heeds_the_sources_filter),
        cmocka_unit_test(the_stream_and_a_resync_write_in_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
