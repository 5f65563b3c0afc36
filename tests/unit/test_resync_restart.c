/* test_resync_restart.c - a resync through restarts, kills, damage, a journal that is pruned, an
 * index that starts over; its rate, and its stop. */
#include "tests/unit/resync_kit.h"

#include <stdlib.h>

static struct kit kit; /* large */

static void ask(struct kit *k)
{
    resync_request(k->resync, journal_next_seq(k->journal) - 1, "asked for");
}

static atomic_bool may_go_on;

/* The second attempt waits for the test. */
static bool not_at_first(struct kit *k, size_t i)
{
    if (atomic_load(&k->attempts) == 1)
        return i < 150;
    while (!atomic_load(&may_go_on) && !stop_wait(k->stop, 10))
        continue;
    return true;
}

static void add_many(struct kit *k, size_t n)
{
    char key[32];
    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof key, "job-%zu", i);
        kit_add(k, key, 10 + i);
    }
}

struct told {
    unsigned n[KIT_OBJECTS];
    unsigned started, finished, vanished;
};

static void count_told(void *arg, const struct event *e)
{
    struct told *told = arg;
    told->started += str_is(e->type, "ResyncStarted");
    told->finished += str_is(e->type, "ResyncFinished");
    told->vanished += str_is(e->type, "Vanished");
    if (str_is(e->type, "Snapshot"))
        told->n[strtoul(e->key.p + 4, NULL, 10)]++;
}

static void each_was_told_once(struct kit *k, size_t n)
{
    struct told told = {.started = 0};
    kit_each(k, count_told, &told);
    for (size_t i = 0; i < n; i++)
        if (told.n[i] != 1)
            fail_msg("job-%zu was told %u times", i, told.n[i]);
    assert_int_equal(told.started, 1);
    assert_int_equal(told.finished, 1);
    assert_int_equal(told.vanished, 0);
}

static void an_attempt_that_breaks_off_is_tried_again_and_tells_nothing_twice(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    add_many(k, 300);
    k->hook = not_at_first;
    k->listing = 310;
    atomic_store(&may_go_on, false);
    kit_stream(k, "job-0", 1);
    kit_start(k);
    ask(k);
    for (int64_t until = clock_mono_ms() + KIT_WAIT_MS;
         *kit_status(k).detail == '\0' && clock_mono_ms() < until;)
        stop_wait(k->stop, 10);
    assert_string_equal(kit_status(k).detail, "broke off at 150");
    assert_true(kit_status(k).open);
    atomic_store(&may_go_on, true);
    kit_wait_finished(k, 1);
    assert_string_equal(kit_status(k).detail, "");
    each_was_told_once(k, 300);
    assert_int_equal(kit_status(k).told, 300);
    kit_teardown(k);
}

/* ---- restarts ---- */

static bool stop_at_150(struct kit *k, size_t i)
{
    if (i == 150 && atomic_load(&k->attempts) == 1)
        stop_request(k->stop);
    return true;
}

static void an_open_resync_goes_on_after_a_restart(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    add_many(k, 300);
    k->hook = stop_at_150;
    kit_stream(k, "job-0", 400);
    kit_stream(k, "job-299", 1000); /* so that objects left out count too */
    k->n_objects = 299;
    kit_start(k);
    ask(k);
    pthread_join(k->thread, NULL);
    k->running = false;
    kit_restart(k);
    kit_wait_finished(k, 1);
    assert_int_equal(k->attempts, 2);
    struct told told = {.started = 0};
    kit_each(k, count_told, &told);
    assert_int_equal(told.n[0], 0);
    for (size_t i = 1; i < 299; i++)
        assert_int_equal(told.n[i], 1);
    assert_int_equal(told.started, 1);
    assert_int_equal(kit_status(k).told, 298);
    kit_teardown(k);
}

static void copy_file(const char *from, const char *to)
{
    struct buf command = {0};
    buf_printf(&command, "rm -rf '%s' && cp -r '%s' '%s'", to, from, to);
    assert_int_equal(system(buf_cstr(&command)), 0); /* NOLINT: a test's own paths */
    buf_fini(&command);
}

static void killed_between_journal_and_table_nothing_is_told_twice(void **state)
{
    (void)state;
    struct kit *k = &kit;
    struct buf saved = {0};
    kit_setup(k, NULL);
    add_many(k, 300);
    buf_printf(&saved, "%s/saved", k->dir);
    kit_stream(k, "job-0", 1);
    kit_start(k);
    kit_wait_known(k, 1);
    kit_restart(k); /* the table is on disk, nothing was asked for */
    kit_stop(k);
    copy_file(buf_cstr(&k->state_dir), buf_cstr(&saved));
    k->hook = stop_at_150;
    kit_restart(k);
    ask(k);
    pthread_join(k->thread, NULL);
    k->running = false;
    kit_stop(k);
    copy_file(buf_cstr(&saved), buf_cstr(&k->state_dir)); /* as if it had not been committed */
    kit_restart(k);
    kit_wait_finished(k, 1);
    each_was_told_once(k, 300);
    buf_fini(&saved);
    kit_teardown(k);
}

static void a_request_lasts_through_a_kill(void **state)
{
    (void)state;
    struct kit *k = &kit;
    struct buf saved = {0};
    kit_setup(k, NULL);
    buf_printf(&saved, "%s/saved", k->dir);
    kit_stream(k, "z", 6);
    ingest_state(k->ingest, SOURCE_BACKOFF, "s", "cut");
    kit_start(k);
    ask(k);
    kit_wait_reason(k, "asked for");
    copy_file(buf_cstr(&k->state_dir), buf_cstr(&saved)); /* as a kill would leave it */
    kit_stop(k);
    copy_file(buf_cstr(&saved), buf_cstr(&k->state_dir));
    kit_restart(k);
    kit_wait_finished(k, 1);
    assert_string_equal(kit_status(k).reason, "asked for");
    buf_fini(&saved);
    kit_teardown(k);
}

static void a_table_that_is_gone_is_made_anew_from_the_journal(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    add_many(k, 300);
    k->hook = stop_at_150;
    kit_stream(k, "job-0", 1);
    kit_start(k);
    ask(k);
    pthread_join(k->thread, NULL);
    k->running = false;
    kit_stop(k);
    copy_file("/dev/null", buf_cstr(&k->state_dir));
    unlink(buf_cstr(&k->state_dir));
    kit_restart(k);
    kit_wait_finished(k, 1);
    each_was_told_once(k, 300);
    kit_teardown(k);
}

static void a_damaged_table_is_followed_by_a_resync(void **state)
{
    (void)state;
    struct kit *k = &kit;
    struct buf path = {0};
    kit_setup(k, NULL);
    kit_add(k, "a", 5);
    kit_stream(k, "z", 6);
    kit_start(k);
    kit_wait_known(k, 1);
    kit_stop(k);
    buf_printf(&path, "%s/data.mdb", buf_cstr(&k->state_dir));
    FILE *f = fopen(buf_cstr(&path), "r+");
    for (int i = 0; i < 9000; i++)
        fputc('x', f);
    fclose(f);
    buf_fini(&path);
    kit_restart(k);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "z@6, ResyncStarted, =a@5, ResyncFinished");
    assert_non_null(strstr(kit_status(k).reason, "damaged"));
    kit_teardown(k);
}

/* Where the file of the table has `from`, it has `to` from now on, which is as long. */
static void replace_in_table(struct kit *k, const char *from, const char *to)
{
    struct buf path = {0}, text = {0};
    buf_printf(&path, "%s/data.mdb", buf_cstr(&k->state_dir));
    FILE *f = fopen(buf_cstr(&path), "r+");
    char *p = buf_reserve(&text, 1 << 20);
    size_t n = fread(p, 1, 1 << 20, f);
    unsigned found = 0;
    for (char *at = p; (at = memmem(at, n - (size_t)(at - p), from, strlen(from))) != NULL; found++)
        memcpy(at, to, strlen(to));
    assert_true(found > 0);
    rewind(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
    free(p);
    buf_fini(&path);
}

static void an_entry_that_flipped_is_found_and_a_resync_follows(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "a", 5);
    kit_stream(k, "zebra", 6);
    kit_start(k);
    kit_wait_known(k, 1);
    kit_stop(k);
    replace_in_table(k, "zebra", "zebrb");
    kit_restart(k);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "zebra@6, ResyncStarted, =a@5, ResyncFinished");
    kit_teardown(k);
}

static void a_journal_with_another_id_tells_nothing_twice(void **state)
{
    (void)state;
    struct kit *k = &kit;
    struct buf meta = {0};
    kit_setup(k, NULL);
    add_many(k, 300);
    k->hook = stop_at_150;
    kit_stream(k, "job-0", 1);
    kit_start(k);
    ask(k);
    pthread_join(k->thread, NULL);
    k->running = false;
    kit_stop(k);
    uint64_t id = journal_id(k->journal);
    ingest_free(&k->ingest);
    journal_close(&k->journal);
    buf_printf(&meta, "%s/meta", k->dir);
    assert_int_equal(unlink(buf_cstr(&meta)), 0); /* as after a crash of the machine */
    buf_fini(&meta);
    k->journal = scratch_journal(k->dir, k->journal_max);
    kit_make_ingest(k, NULL);
    kit_restart(k);
    assert_true(journal_id(k->journal) != id);
    kit_wait_finished(k, 1);
    each_was_told_once(k, 300);
    kit_teardown(k);
}

/* ---- the journal's limits ---- */

static void grow_journal(struct kit *k, size_t from, size_t n)
{
    struct buf raw = {0};
    char key[32];
    buf_append_cstr(&raw, "{\"a\":\"");
    for (int i = 0; i < 2000; i++)
        buf_append_char(&raw, 'x');
    buf_append_cstr(&raw, "\"}");
    for (size_t i = from; i < from + n; i++) {
        snprintf(key, sizeof key, "job-%zu", i);
        struct found_event found = kit_found(key, "T", i + 1, buf_str(&raw));
        assert_int_equal(ingest_message(k->ingest, buf_str(&raw), &found, 1, &k->err), 0);
        if (i % 8 == 0)
            assert_int_equal(ingest_flush(k->ingest, &k->err), 0);
    }
    assert_int_equal(ingest_flush(k->ingest, &k->err), 0);
    buf_fini(&raw);
}

static void small_journal(struct kit *k)
{
    ingest_free(&k->ingest);
    journal_close(&k->journal);
    k->journal_max = 1 << 20;
    k->journal = scratch_journal(k->dir, k->journal_max);
    kit_make_ingest(k, NULL);
    ingest_state(k->ingest, SOURCE_ATTACHED, "s", NULL);
}

static void what_was_pruned_before_it_was_read_wants_a_resync(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    small_journal(k);
    grow_journal(k, 0, 10);
    kit_start(k);
    kit_wait_known(k, 10);
    kit_stop(k);
    grow_journal(k, 10, 2000);
    kit_restart(k);
    kit_wait_finished(k, 1);
    assert_non_null(strstr(kit_status(k).reason, "lost before it was read"));
    kit_teardown(k);
}

/* Long before it would look by the clock. */
static void wait_known_at_least(struct kit *k, uint64_t n)
{
    int64_t until = clock_mono_ms() + KIT_WAIT_MS / 2;
    while (kit_status(k).known < n) {
        if (clock_mono_ms() > until)
            fail_msg("%" PRIu64 " of %" PRIu64 " are known", kit_status(k).known, n);
        stop_wait(k->stop, 20);
    }
}

static void the_table_keeps_up_with_a_journal_that_is_pruned(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    small_journal(k);
    kit_start(k);
    for (size_t i = 0; i < 14; i++) {
        grow_journal(k, i * 60, 60); /* 120 KB, an eighth of it is 128 */
        wait_known_at_least(k, i * 60);
    }
    assert_true(journal_first_seq(k->journal) > 100);
    kit_stop(k);
    kit_restart(k);
    kit_wait_known(k, 840);
    assert_false(kit_status(k).wanted);
    kit_teardown(k);
}

/* ---- epochs ---- */

static bool starts_over_once(struct kit *k, size_t i)
{
    if (i == 0 && atomic_load(&k->attempts) == 1) {
        assert_int_equal(ingest_started_over(k->ingest, &k->err), 0);
        kit_stream(k, "a", 3);
    }
    return true;
}

static void an_index_that_starts_over_breaks_the_attempt_off(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "a", 3);
    kit_add(k, "b", 2);
    k->listing = 3;
    k->hook = starts_over_once;
    kit_stream(k, "old", 900);
    kit_stream(k, "b", 901);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 2);
    assert_true(atomic_load(&k->attempts) >= 3);
    /* In the new epoch 2 is newer than 901; what was only of the old one has vanished. */
    kit_journal_is(k, "old@900, b@901, ResyncStarted, Gap, a@3, =a@3, =b@2, -old@900, "
                      "ResyncFinished, ResyncStarted, =a@3, =b@2, ResyncFinished");
    kit_teardown(k);
}

/* ---- rate, stop ---- */

static int64_t asked_us[KIT_OBJECTS];

static bool note_time(struct kit *k, size_t i)
{
    (void)k;
    if (i < KIT_OBJECTS)
        asked_us[i] = clock_mono_us();
    return true;
}

static void requests_keep_to_the_rate(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    add_many(k, 60);
    k->rate = 100;
    k->hook = note_time;
    kit_stream(k, "z", 1000);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    for (size_t i = 0; i < 60; i++)
        for (size_t j = i; j < 60;
             j++) /* in any stretch: its time's worth, and a tenth of a second's
                   */
            assert_true((double)(j - i + 1) <= (double)(asked_us[j] - asked_us[i]) / 10000 + 12);
    assert_true(asked_us[59] - asked_us[0] > 450000);
    kit_teardown(k);
}

static bool stop_soon(struct kit *k, size_t i)
{
    if (i == 1)
        stop_request(k->stop);
    return true;
}

static bool detach_at_the_end(struct kit *k, size_t i)
{
    if (i == k->n_objects) {
        ingest_state(k->ingest, SOURCE_BACKOFF, "s", "cut");
        atomic_store(&may_go_on, true);
    }
    return true;
}

static void a_stop_is_quick_between_requests_and_while_it_waits(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    add_many(k, 60);
    k->rate = 1; /* one a second */
    k->hook = stop_soon;
    kit_stream(k, "z", 1000);
    kit_start(k);
    ask(k);
    assert_true(kit_join(k) < KIT_STOP_MS); /* not the minute that its requests would take */
    kit_stop(k);
    atomic_store(&may_go_on, false);
    k->hook = detach_at_the_end;
    k->rate = 100000;
    k->listing = 5000; /* where the stream never comes: half a minute */
    kit_restart(k);
    for (int64_t until = clock_mono_ms() + KIT_WAIT_MS;
         !atomic_load(&may_go_on) && clock_mono_ms() < until;)
        stop_wait(k->stop, 10);
    assert_true(atomic_load(&may_go_on));
    stop_wait(k->stop, 300);
    kit_stop(k); /* asserts that it does not take so long */
    kit_teardown(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_attempt_that_breaks_off_is_tried_again_and_tells_nothing_twice),
        cmocka_unit_test(an_open_resync_goes_on_after_a_restart),
        cmocka_unit_test(killed_between_journal_and_table_nothing_is_told_twice),
        cmocka_unit_test(a_request_lasts_through_a_kill),
        cmocka_unit_test(a_table_that_is_gone_is_made_anew_from_the_journal),
        cmocka_unit_test(a_damaged_table_is_followed_by_a_resync),
        cmocka_unit_test(an_entry_that_flipped_is_found_and_a_resync_follows),
        cmocka_unit_test(a_journal_with_another_id_tells_nothing_twice),
        cmocka_unit_test(what_was_pruned_before_it_was_read_wants_a_resync),
        cmocka_unit_test(the_table_keeps_up_with_a_journal_that_is_pruned),
        cmocka_unit_test(an_index_that_starts_over_breaks_the_attempt_off),
        cmocka_unit_test(requests_keep_to_the_rate),
        cmocka_unit_test(a_stop_is_quick_between_requests_and_while_it_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
