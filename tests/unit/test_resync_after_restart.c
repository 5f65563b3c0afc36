/* test_resync_after_restart.c - the resync of a source that tells its state
 * (source_ops.tells_state): after a restart it tells what differs from the table, and never stands
 * for a whole one. */
#include "tests/unit/resync_kit.h"

static struct kit kit; /* large */

static void ask(struct kit *k, const char *reason)
{
    resync_request(k->resync, journal_next_seq(k->journal) - 1, reason);
}

static void tell_deleted(struct kit *k, const char *key, uint64_t index)
{
    struct str raw = STR("{\"a\":1}");
    struct found_event found = kit_found(key, "Deleted", index, raw);
    struct err err;
    assert_int_equal(ingest_message(k->ingest, raw, &found, 1, &err), 0);
    assert_int_equal(ingest_flush(k->ingest, &err), 0);
}

static void it_tells_what_differs_from_the_table(void **state)
{
    struct kit *k = &kit;
    (void)state;
    kit_setup(k, NULL);
    kit_stream(k, "same", 5);
    kit_stream(k, "gone", 6);
    kit_stream(k, "changed", 7);
    kit_add(k, "same", 5);
    kit_add(k, "changed", 9);
    kit_add(k, "new", 8);
    k->listing = 9;
    kit_start(k);
    ask(k, RESYNC_AFTER_RESTART);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "same@5, gone@6, changed@7, ResyncStarted, =changed@9, =new@8, -gone@6, "
                      "ResyncFinished");
    kit_teardown(k);
}

static void what_was_told_as_deleted_does_not_vanish(void **state)
{
    struct kit *k = &kit;
    (void)state;
    kit_setup(k, NULL);
    kit_stream(k, "told", 5);
    kit_stream(k, "back", 6);
    tell_deleted(k, "told", 7);
    tell_deleted(k, "back", 8);
    kit_stream(k, "back", 9);
    k->listing = 10;
    kit_start(k);
    ask(k, RESYNC_AFTER_RESTART);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "told@5, back@6, told@7, back@8, back@9, ResyncStarted, -back@9, "
                      "ResyncFinished");
    kit_teardown(k);
}

static void any_other_reason_takes_its_place(void **state)
{
    struct kit *k = &kit;
    (void)state;
    kit_setup(k, NULL);
    kit_add(k, "same", 5);
    kit_stream(k, "same", 5);
    ingest_state(k->ingest, SOURCE_BACKOFF, "s", "cut"); /* so that none begins before both came */
    kit_start(k);
    ask(k, RESYNC_AFTER_RESTART);
    resync_request(k->resync, 0, "a sink lost something");
    ingest_state(k->ingest, SOURCE_ATTACHED, "s", NULL);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "same@5, ResyncStarted, =same@5, ResyncFinished");
    assert_string_equal(kit_status(k).reason, "a sink lost something");
    kit_teardown(k);
}

static void so_it_does_when_it_is_wanted_already(void **state)
{
    struct kit *k = &kit;
    (void)state;
    kit_setup(k, NULL);
    kit_add(k, "same", 5);
    kit_stream(k, "same", 5);
    ingest_state(k->ingest, SOURCE_BACKOFF, "s", "cut");
    kit_start(k);
    ask(k, RESYNC_AFTER_RESTART);
    kit_wait_reason(k, RESYNC_AFTER_RESTART); /* it is in the table, and waits for the source */
    ask(k, "a sink lost something");
    kit_wait_reason(k, "a sink lost something");
    ingest_state(k->ingest, SOURCE_ATTACHED, "s", NULL);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "same@5, ResyncStarted, =same@5, ResyncFinished");
    kit_teardown(k);
}

static void a_deletion_below_what_a_resync_told_is_not_the_last_word(void **state)
{
    struct kit *k = &kit;
    (void)state;
    kit_setup(k, NULL);
    kit_add(k, "ahead", 10);
    kit_stream(k, "ahead", 5);
    kit_start(k);
    ask(k, "first");
    kit_wait_finished(k, 1);
    tell_deleted(k, "ahead", 9);
    k->n_objects = 0;
    k->listing = 20;
    ask(k, RESYNC_AFTER_RESTART);
    kit_wait_finished(k, 2);
    kit_journal_is(k, "ahead@5, ResyncStarted, =ahead@10, ResyncFinished, ahead@9, ResyncStarted, "
                      "-ahead@10, ResyncFinished");
    kit_teardown(k);
}

static bool has_told(struct kit *k, const char *what)
{
    struct buf text = {0};
    kit_each(k, kit_append, &text);
    bool has = strstr(buf_cstr(&text), what) != NULL;
    buf_fini(&text);
    return has;
}

static void a_gap_takes_its_place_too(void **state)
{
    struct kit *k = &kit;
    (void)state;
    kit_setup(k, NULL);
    kit_add(k, "same", 5);
    kit_stream(k, "same", 5);
    ingest_state(k->ingest, SOURCE_BACKOFF, "s", "cut");
    kit_start(k);
    ask(k, RESYNC_AFTER_RESTART);
    kit_wait_reason(k, RESYNC_AFTER_RESTART); /* it is in the table, and waits for the source */
    ingest_state(k->ingest, SOURCE_ATTACHED, "s", NULL);
    kit_stream(k, "other", 9); /* a Gap comes before it; on a busy machine behind the resync */
    for (int64_t until = clock_mono_ms() + KIT_WAIT_MS;
         !has_told(k, "=same@5") && clock_mono_ms() < until;)
        stop_wait(k->stop, 10);
    assert_true(has_told(k, "=same@5"));
    kit_teardown(k);
}

static void it_answers_nobody_who_lost_something(void **state)
{
    struct kit *k = &kit;
    (void)state;
    kit_setup(k, NULL);
    kit_add(k, "same", 5);
    kit_stream(k, "same", 5);
    kit_start(k);
    ask(k, RESYNC_AFTER_RESTART);
    kit_wait_finished(k, 1);
    resync_request(k->resync, 0, "a sink lost something"); /* before what was told by then */
    kit_wait_finished(k, 2);
    kit_journal_is(k, "same@5, ResyncStarted, ResyncFinished, ResyncStarted, =same@5, "
                      "ResyncFinished");
    kit_teardown(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_tells_what_differs_from_the_table),
        cmocka_unit_test(what_was_told_as_deleted_does_not_vanish),
        cmocka_unit_test(any_other_reason_takes_its_place),
        cmocka_unit_test(so_it_does_when_it_is_wanted_already),
        cmocka_unit_test(a_gap_takes_its_place_too),
        cmocka_unit_test(a_deletion_below_what_a_resync_told_is_not_the_last_word),
        cmocka_unit_test(it_answers_nobody_who_lost_something),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
