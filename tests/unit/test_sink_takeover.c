/* test_sink_takeover.c - the sink loop between two instances, through gaps and resyncs, and where
 * an index starts over. */
#include "tests/unit/sink_kit.h"

#include <stdlib.h>

/* ---- two instances ---- */

static void wait_state(struct bench *b, enum sink_state state, const char *owner)
{
    struct sink_status status;
    int64_t until = clock_mono_ms() + 30000;
    do {
        usleep(1000);
        sink_loop_get_status(b->loop, &status);
    } while (status.state != state && clock_mono_ms() < until);
    assert_string_equal(sink_state_name(status.state), sink_state_name(state));
    assert_string_equal(status.owner, owner);
}

static void set_free(void)
{
    pthread_mutex_lock(&far.lock);
    far.taken = false;
    pthread_mutex_unlock(&far.lock);
}

static void stands_by_until_the_pair_is_free(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    b.standby = true;
    far.taken = true;
    put_event(&b, 1, 0, "{}", false);
    start_loop(&b);
    wait_state(&b, SINK_WAITING, "other");
    far_wait(&far.refused, 2);
    assert_int_equal(far_count(), 0);
    set_free();
    wait_for(1);
    wait_state(&b, SINK_PUBLISHING, "me");
    stop_loop(&b);
    assert_int_equal(far.opens, far.refused + 1);
    bench_teardown(&b);
}

static void fence_after(size_t keeps)
{
    int64_t until = clock_mono_ms() + 30000;
    bool done = false;
    while (!done && clock_mono_ms() < until) {
        usleep(1000);
        pthread_mutex_lock(&far.lock);
        done = far.fenced = far.taken = far.keeps >= keeps;
        pthread_mutex_unlock(&far.lock);
    }
    assert_true(done);
}

static void holds_the_pair_while_idle_and_stands_by_once_it_is_taken(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    b.standby = true;
    put_event(&b, 1, 0, "{}", false);
    int64_t began_ms = clock_mono_ms();
    start_loop(&b);
    wait_for(1);
    fence_after(2);
    assert_true(clock_mono_ms() - began_ms > 1900); /* it holds on once a second */
    wait_state(&b, SINK_WAITING, "other");
    put_event(&b, 2, 0, "{}", false);
    usleep(200000);
    assert_int_equal(far_count(), 1);
    far_wait(&far.refused, 1); /* asks again after a while */
    set_free();
    wait_for(2);
    stop_loop(&b);
    bench_teardown(&b);
}

static void what_another_journal_told_of_its_own_is_old_until_something_is_new(void **state)
{
    (void)state;
    struct bench b;
    bench_setup_takeover(&b, 5);
    put_own(&b, 0, "ResyncStarted");
    put_snapshot(&b, 3, "web");
    put_snapshot(&b, 9, "ahead"); /* newer than what the stream has told so far */
    put_event(&b, 5, 0, "{}", false);
    put_own(&b, 5, "ResyncFinished");
    start_loop(&b);
    wait_open(&b);
    wait_for(1);
    put_event(&b, 6, 0, "{}", false);
    put_snapshot(&b, 2, "late");
    wait_for(3);
    holds(1, 6, 0);
    assert_string_equal(far.ids[2], "Snapshot");
    stop_loop(&b);
    bench_teardown(&b);
}

static void what_a_resync_tells_behind_something_new_survives_a_retry(void **state)
{
    (void)state;
    struct bench b;
    bench_setup_takeover(&b, 6);
    put_event(&b, 6, 0, "{}", false);
    put_event(&b, 6, 1, "{}", false); /* new, at the checkpoint's own index */
    put_snapshot(&b, 2, "web");
    far.events_max = 1;
    far.script[0].happens = true; /* DONE */
    far.script[1].result = SINK_RETRY;
    far.at = 0;
    far.n_script = 2;
    start_loop(&b);
    wait_for(3);
    holds(1, 6, 1);
    assert_string_equal(far.ids[2], "Snapshot");
    stop_loop(&b);
    bench_teardown(&b);
}

/* What lies behind the checkpoint's index is looked at again then, and still is no gap. */
static void a_retry_of_the_first_that_is_new_says_no_gap(void **state)
{
    (void)state;
    struct bench b;
    bench_setup_takeover(&b, 6);
    b.hold = true;
    put_event(&b, 4, 0, "{}", false);
    put_own(&b, 4, "ResyncFinished"); /* older than the takeover */
    put_event(&b, 6, 0, "{}", false);
    b.hold = false;
    put_event(&b, 7, 0, "{}", false);
    far.script[0].result = SINK_RETRY;
    far.at = 0;
    far.n_script = 1;
    start_loop(&b);
    wait_for(2);
    holds(1, 7, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

static void a_gap_of_the_journal_counts_only_right_before_what_is_new(void **state)
{
    (void)state;
    struct bench b;
    bench_setup_takeover(&b, 5);
    put_event(&b, 3, 0, "{}", false);
    put_own(&b, 3, "Gap"); /* the owner had that stretch */
    put_event(&b, 5, 0, "{}", false);
    start_loop(&b);
    wait_open(&b);
    wait_for(1);
    put_own(&b, 5, "Gap"); /* nobody has this one */
    put_own(&b, 5, "ResyncStarted");
    put_event(&b, 9, 0, "{}", false);
    wait_for(4);
    assert_string_equal(far.ids[1], "Gap");
    assert_string_equal(far.ids[2], "ResyncStarted");
    holds(3, 9, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

/* Told before this instance had the pair, with nothing behind it yet: it is not passed over. */
static void a_gap_before_the_takeover_is_said_once_something_is_new(void **state)
{
    (void)state;
    struct bench b;
    bench_setup_takeover(&b, 5);
    put_event(&b, 5, 0, "{}", false);
    put_own(&b, 5, "Gap");
    put_snapshot(&b, 5, "web");
    start_loop(&b);
    wait_open(&b);
    usleep(3200000); /* long enough for a checkpoint that moves without events */
    stop_loop(&b);
    assert_int_equal(far_count(), 1);
    reopen(&b);
    start_loop(&b);
    put_event(&b, 9, 0, "{}", false);
    wait_for(3);
    assert_string_equal(far.ids[1], "Gap");
    holds(2, 9, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

/* A journal made anew while the source is quiet: what it has again is passed, and what a resync
 * tells then is new. */
static void a_new_journal_is_passed_though_nothing_is_new(void **state)
{
    (void)state;
    struct bench b;
    bench_setup_takeover(&b, 6);
    start_loop(&b);
    wait_open(&b); /* and waits behind an empty journal's end */
    put_event(&b, 4, 0, "{}", false);
    put_own(&b, 4, "ResyncFinished"); /* before the index that the sink has reached */
    put_event(&b, 6, 0, "{}", false);
    struct sink_status status;
    int64_t until = clock_mono_ms() + 30000;
    do {
        usleep(1000);
        sink_loop_get_status(b.loop, &status);
    } while (status.passed_seq != 3 && clock_mono_ms() < until);
    assert_int_equal(status.passed_seq, 3);
    assert_int_equal(far_count(), 1);
    put_own(&b, 6, "ResyncStarted");
    put_snapshot(&b, 3, "web");
    wait_for(3);
    assert_string_equal(far.ids[1], "ResyncStarted");
    assert_string_equal(far.ids[2], "Snapshot");
    stop_loop(&b);
    reopen(&b);
    put_event(&b, 7, 0, "{}", false);
    start_loop(&b);
    wait_for(4);
    holds(3, 7, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

/* A new journal is filled from the source's buffer again, and the sink is lost before its index is
 * reached. */
static void a_restart_before_the_checkpoints_index_goes_on_comparing(void **state)
{
    (void)state;
    struct bench b;
    bench_setup_takeover(&b, 6);
    start_loop(&b);
    wait_open(&b); /* and waits behind an empty journal's end */
    put_event(&b, 4, 0, "{}", false);
    usleep(3200000); /* long enough for a checkpoint that moves without events */
    stop_loop(&b);
    reopen(&b);
    put_event(&b, 5, 0, "{}", false);
    put_event(&b, 6, 0, "{}", false);
    put_event(&b, 7, 0, "{}", false);
    start_loop(&b);
    wait_for(2);
    holds(1, 7, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

/* A namespace that the source did not tell at first: did the other instance publish what came late
 * of it? */
static void what_came_late_while_the_pair_changed_hands_is_a_gap(void **state)
{
    (void)state;
    struct bench b;
    bench_setup_takeover(&b, 6);
    put_event(&b, 4, 0, "{}", false);
    put_event(&b, 6, 0, "{}", false);
    put_event(&b, 5, 0, "{}", false);
    put_event(&b, 7, 0, "{}", false);
    start_loop(&b);
    wait_for(3);
    assert_string_equal(far.ids[1], "Gap");
    holds(2, 7, 0);
    put_event(&b, 5, 1, "{}", false); /* nobody else has the pair now */
    wait_for(4);
    holds(3, 5, 1);
    stop_loop(&b);
    bench_teardown(&b);
}

static void copy_journal(const char *from, const char *to)
{
    struct buf command = {0};
    buf_printf(&command, "rm -rf '%s' && cp -r '%s' '%s'", to, from, to);
    assert_int_equal(system(buf_cstr(&command)), 0);
    buf_fini(&command);
}

/* Restored from a backup: the same id, and other events at the seqs that were passed since. */
static void an_older_copy_of_the_journal_is_not_gone_on_with_by_seq(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    char *copy = scratch_dir();
    for (uint64_t i = 1; i <= 5; i++)
        put_event(&b, i, 0, "{}", false);
    journal_close(&b.journal);
    copy_journal(b.dir, copy);
    b.journal = scratch_journal(b.dir, 1 << 20);
    for (uint64_t i = 6; i <= 10; i++)
        put_event(&b, i, 0, "{}", false);
    start_loop(&b);
    wait_for(10);
    stop_loop(&b);
    journal_close(&b.journal);
    copy_journal(copy, b.dir);
    b.journal = scratch_journal(b.dir, 1 << 20);
    for (uint64_t i = 11; i <= 16; i++)
        put_event(&b, i, 0, "{}", false);
    start_loop(&b);
    wait_for(16);
    for (size_t i = 0; i < 16; i++)
        holds(i, i + 1, 0);
    stop_loop(&b);
    scratch_remove(copy);
    bench_teardown(&b);
}

/* ---- resyncs, epochs ---- */

static enum checkpoint_resync far_resync(void)
{
    struct checkpoint cp = {0};
    struct err err;
    pthread_mutex_lock(&far.lock);
    assert_int_equal(checkpoint_decode(&cp, buf_str(&far.checkpoint), &err), 0);
    pthread_mutex_unlock(&far.lock);
    enum checkpoint_resync resync = cp.resync;
    checkpoint_fini(&cp);
    return resync;
}

static void a_snapshot_moves_no_index(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    put_event(&b, 5, 0, "{}", false);
    put_snapshot(&b, 90, "ahead");
    start_loop(&b);
    wait_for(2);
    stop_loop(&b);
    fresh_journal(&b);
    put_event(&b, 5, 0, "{}", false);
    put_event(&b, 6, 0, "{}", false); /* behind the snapshot's index, and new */
    start_loop(&b);
    wait_for(3);
    holds(2, 6, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

static void a_gap_owes_a_resync_until_one_is_finished(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    put_event(&b, 5, 0, "{}", false);
    put_own(&b, 5, "Gap");
    put_own(&b, 5, "ResyncFinished"); /* of one whose beginning it did not take */
    start_loop(&b);
    wait_for(3);
    assert_int_equal(far_resync(), CHECKPOINT_RESYNC_OWED);
    stop_loop(&b);
    reopen(&b);
    start_loop(&b);
    put_event(&b, 6, 0, "{}", false);
    wait_for(4);
    assert_int_equal(wanted.n, 1); /* opening again asks for it, behind what it has */
    assert_int_equal(wanted.after_seq, 3);
    put_own(&b, 6, "ResyncStarted");
    put_snapshot(&b, 6, "web");
    wait_for(6);
    assert_int_equal(far_resync(), CHECKPOINT_RESYNC_OPEN);
    put_own(&b, 6, "ResyncFinished");
    wait_for(7);
    assert_int_equal(far_resync(), CHECKPOINT_RESYNC_NONE);
    stop_loop(&b);
    bench_teardown(&b);
}

static void a_resync_that_another_instance_began_is_asked_for_again(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    put_event(&b, 5, 0, "{}", false);
    put_own(&b, 5, "ResyncStarted");
    start_loop(&b);
    wait_for(2);
    stop_loop(&b);
    fresh_journal(&b);
    put_event(&b, 5, 0, "{}", false);
    start_loop(&b);
    put_event(&b, 6, 0, "{}", false);
    wait_for(3);
    assert_int_equal(wanted.n, 1);
    assert_int_equal(far_resync(), CHECKPOINT_RESYNC_OWED);
    stop_loop(&b);
    bench_teardown(&b);
}

static void an_index_that_started_over_is_new_in_every_journal(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    put_event(&b, 500, 0, "{}", false);
    b.epoch = 1;
    put_own(&b, 0, "Gap");
    put_event(&b, 7, 0, "{}", false);
    start_loop(&b);
    wait_for(3);
    assert_string_equal(far.ids[2], "prod/7~1/Job//web/T/0");
    stop_loop(&b);
    fresh_journal(&b);
    b.epoch = 0;
    put_event(&b, 500, 0, "{}", false);
    put_event(&b, 501, 0, "{}", false); /* of the epoch before: nobody can have told it since */
    b.epoch = 1;
    put_own(&b, 0, "Gap");
    put_event(&b, 7, 0, "{}", false);
    start_loop(&b);
    put_event(&b, 8, 0, "{}", false);
    wait_for(4);
    assert_string_equal(far.ids[3], "prod/8~1/Job//web/T/0");
    stop_loop(&b);
    bench_teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stands_by_until_the_pair_is_free),
        cmocka_unit_test(holds_the_pair_while_idle_and_stands_by_once_it_is_taken),
        cmocka_unit_test(what_another_journal_told_of_its_own_is_old_until_something_is_new),
        cmocka_unit_test(what_a_resync_tells_behind_something_new_survives_a_retry),
        cmocka_unit_test(a_retry_of_the_first_that_is_new_says_no_gap),
        cmocka_unit_test(a_gap_of_the_journal_counts_only_right_before_what_is_new),
        cmocka_unit_test(a_gap_before_the_takeover_is_said_once_something_is_new),
        cmocka_unit_test(a_new_journal_is_passed_though_nothing_is_new),
        cmocka_unit_test(what_came_late_while_the_pair_changed_hands_is_a_gap),
        cmocka_unit_test(a_restart_before_the_checkpoints_index_goes_on_comparing),
        cmocka_unit_test(an_older_copy_of_the_journal_is_not_gone_on_with_by_seq),
        cmocka_unit_test(a_snapshot_moves_no_index),
        cmocka_unit_test(a_gap_owes_a_resync_until_one_is_finished),
        cmocka_unit_test(a_resync_that_another_instance_began_is_asked_for_again),
        cmocka_unit_test(an_index_that_started_over_is_new_in_every_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
