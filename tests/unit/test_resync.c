/* test_resync.c - reading a source's state anew: what is told, what is left out, what vanished, and
 * when it begins. */
#include "tests/unit/resync_kit.h"

static struct kit kit; /* large */

static void ask(struct kit *k)
{
    resync_request(k->resync, journal_next_seq(k->journal) - 1, "asked for");
}

/* ---- what is told ---- */

static void all_objects_are_told_between_start_and_finish(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "a", 5);
    kit_add(k, "b", 6);
    k->listing = 6;
    kit_stream(k, "z", 7);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "z@7, ResyncStarted, =a@5, =b@6, ResyncFinished");
    struct resync_status s = kit_status(k);
    assert_true(s.supported);
    assert_int_equal(s.number, 2);
    assert_string_equal(s.reason, "asked for");
    assert_int_equal(s.told, 2);
    assert_int_equal(s.requests, 2);
    assert_int_equal(s.expected, 2);
    assert_int_equal(s.known, 3);
    assert_int_equal(metrics_get(k->metrics, METRIC_RESYNCS), 1);
    assert_int_equal(metrics_get(k->metrics, METRIC_SNAPSHOTS), 2);
    kit_teardown(k);
}

struct last {
    struct buf data;
    const char *type;
};

static void keep_data(void *arg, const struct event *e)
{
    struct last *last = arg;
    if (str_is(e->type, last->type)) {
        buf_clear(&last->data);
        buf_append_str(&last->data, e->data);
    }
}

/* It begins so, and ends so; in between may be digits. */
static void data_is(struct kit *k, const char *type, const char *begins, const char *ends)
{
    struct last last = {.type = type};
    kit_each(k, keep_data, &last);
    const char *data = buf_cstr(&last.data);
    if (strncmp(data, begins, strlen(begins)) != 0)
        assert_string_equal(data, begins);
    data += strlen(begins);
    assert_string_equal(data + strspn(data, "0123456789"), ends);
    buf_fini(&last.data);
}

static void what_is_told_has_its_shape(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "a", 5);
    k->listing = 6;
    kit_stream(k, "g\"one", 4);
    kit_stream(k, "z", 8);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    data_is(k, "ResyncStarted",
            "{\"Topic\":\"Busbar\",\"Type\":\"ResyncStarted\",\"Key\":\"prod\",\"Namespace\":\"\","
            "\"Index\":8,\"Payload\":{\"Reason\":\"asked for\"}}",
            "");
    data_is(k, "Snapshot", "{\"Job\":{\"ID\":\"a\",\"ModifyIndex\":5}}", "");
    data_is(k, "Vanished",
            "{\"Topic\":\"Job\",\"Type\":\"Vanished\",\"Key\":\"g\\\"one\",\"Namespace\":"
            "\"default\",\"Index\":4,\"Payload\":{\"Resync\":3}}",
            "");
    data_is(k, "ResyncFinished",
            "{\"Topic\":\"Busbar\",\"Type\":\"ResyncFinished\",\"Key\":\"prod\",\"Namespace\":\"\","
            "\"Index\":8,\"Payload\":{\"Started\":3,\"Objects\":1,\"Vanished\":1,\"Seconds\":",
            "}}");
    kit_teardown(k);
}

static bool stream_tells_b_newer(struct kit *k, size_t i)
{
    if (i == 0)
        kit_receive(k, "b", 20); /* after it was read, before it is told: readable at the last
                                    moment */
    return true;
}

static void what_the_stream_told_newer_is_left_out_the_same_is_told(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "b", 10); /* the first: on a slow machine one does not wait for the others */
    kit_add(k, "a", 10);
    kit_add(k, "c", 10);
    kit_add(k, "d", 10);
    k->hook = stream_tells_b_newer;
    kit_stream(k, "c", 10);
    kit_stream(k, "d", 11);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "c@10, d@11, ResyncStarted, b@20, =a@10, =c@10, ResyncFinished");
    assert_int_equal(kit_status(k).skipped, 2);
    kit_teardown(k);
}

static void what_was_read_later_than_it_was_told_is_told(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "a", 10);
    kit_add(k, "b", 10);
    k->as_of = 15;
    kit_stream(k, "a", 14); /* an event that told it without modifying it */
    kit_stream(k, "b", 16);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "a@14, b@16, ResyncStarted, =a@10, ResyncFinished");
    kit_teardown(k);
}

static bool the_stream_tells_a(struct kit *k, size_t told)
{
    if (told == k->n_objects)
        kit_stream(k, "a", 14);
    return true;
}

/* How new an object is was said by the listing before it, not by one that is read while it waits
 * to be journaled. */
static void a_later_listing_makes_no_older_object_newer(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "a", 10);
    k->as_of = 12;
    k->hook = the_stream_tells_a;
    k->as_of_end = 20;
    kit_stream(k, "z", 12);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "z@12, ResyncStarted, a@14, ResyncFinished");
    kit_teardown(k);
}

static void an_object_listed_twice_is_told_once(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "a", 10);
    kit_add(k, "a", 10); /* on the next page of the listing */
    kit_stream(k, "z", 12);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "z@12, ResyncStarted, =a@10, ResyncFinished");
    kit_teardown(k);
}

static void what_the_source_filter_leaves_out_is_not_told(void **state)
{
    (void)state;
    struct kit *k = &kit;
    struct filter *filter = filter_new();
    filter_add_topic(filter, STR("Job:a"));
    kit_setup(k, filter);
    kit_add(k, "a", 5);
    kit_add(k, "b", 6);
    kit_stream(k, "b", 7);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "ResyncStarted, =a@5, ResyncFinished");
    assert_int_equal(kit_status(k).known, 1);
    kit_teardown(k);
}

/* ---- what vanished ---- */

static bool stream_creates_new(struct kit *k, size_t i)
{
    if (i == 0)
        kit_stream(k, "new", 60); /* while the listing was read */
    return true;
}

static void what_no_listing_names_has_vanished(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "a", 10);
    kit_add(k, "newer", 10); /* named is enough, whatever the stream said */
    k->listing = 50;
    k->hook = stream_creates_new;
    kit_stream(k, "gone", 5);
    kit_stream(k, "newer", 11);
    kit_stream(k, "same", 50);
    kit_stream(k, "later", 51);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    struct buf text = {0};
    kit_each(k, kit_append, &text);
    const char *expected = "gone@5, newer@11, same@50, later@51, ResyncStarted, new@60, =a@10, ";
    assert_memory_equal(buf_cstr(&text), expected, strlen(expected));
    assert_non_null(strstr(text.p, "-gone@5"));
    assert_non_null(strstr(text.p, "-same@50"));
    assert_int_equal(kit_status(k).vanished, 2);
    buf_fini(&text);
    ask(k); /* once */
    kit_wait_finished(k, 2);
    assert_int_equal(kit_status(k).vanished, 0);
    kit_teardown(k);
}

static void without_a_whole_listing_nothing_vanishes(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "a", 10);
    kit_stream(k, "gone", 5);
    kit_stream(k, "z", 12);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "gone@5, z@12, ResyncStarted, =a@10, ResyncFinished");
    kit_teardown(k);
}

static bool b_goes_after_the_first_attempt(struct kit *k, size_t i)
{
    if (i < 2 || atomic_load(&k->attempts) > 1)
        return true;
    k->n_objects = 1; /* and nobody told */
    return false;
}

static void what_an_earlier_attempt_told_can_vanish(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "a", 10);
    kit_add(k, "b", 10);
    k->listing = 12;
    k->hook = b_goes_after_the_first_attempt;
    kit_stream(k, "a", 12);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    /* What waited in the batch as the attempt broke off was never told. */
    kit_journal_is(k, "a@12, ResyncStarted, ResyncFinished");
    kit_teardown(k);
}

static bool many_go_after_the_first_attempt(struct kit *k, size_t i)
{
    if (i < k->n_objects || atomic_load(&k->attempts) > 1)
        return true;
    k->n_objects = 10;
    return false;
}

static void what_was_told_in_this_resync_can_vanish_in_it(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    for (int i = 0; i < 128; i++) {
        char key[32];
        snprintf(key, sizeof key, "job-%d", i);
        kit_add(k, key, 10);
    }
    k->listing = 12;
    k->hook = many_go_after_the_first_attempt;
    kit_stream(k, "job-0", 12);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    /* job-0 was told newer; of 127 a batch of 64 was told (on a slow machine more, in smaller
     * ones), and 9 of its objects are left. */
    struct resync_status s = kit_status(k);
    assert_in_range(s.told, 64, 127);
    assert_int_equal(s.vanished, s.told - 9);
    kit_teardown(k);
}

static void vanished_events_bear_the_filter_keys_of_the_object(void **state)
{
    (void)state;
    struct kit *k = &kit;
    struct filter *filter = filter_new();
    filter_add_topic(filter, STR("Job:of-job")); /* by filter key alone */
    kit_setup(k, filter);
    k->listing = 12;
    struct buf packed = {0};
    event_pack_filter_key(&packed, STR("of-job"));
    struct found_event found = kit_found("gone", "T", 12, STR("{}"));
    found.filter_keys = buf_str(&packed);
    assert_int_equal(ingest_message(k->ingest, STR("{}"), &found, 1, &k->err), 0);
    assert_int_equal(ingest_flush(k->ingest, &k->err), 0);
    buf_fini(&packed);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "gone@12, ResyncStarted, -gone@12, ResyncFinished");
    kit_teardown(k);
}

static void what_vanished_is_told_behind_what_the_stream_still_has(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    k->listing = 50;
    kit_stream(k, "gone", 5);
    kit_start(k);
    ask(k);
    for (int64_t until = clock_mono_ms() + KIT_WAIT_MS;
         kit_status(k).number == 0 && clock_mono_ms() < until;)
        stop_wait(k->stop, 10);
    stop_wait(k->stop, 100);
    kit_stream(k, "gone", 40); /* it lags: this happened before the listing */
    kit_stream(k, "z", 51);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "gone@5, ResyncStarted, gone@40, z@51, -gone@40, ResyncFinished");
    kit_teardown(k);
}

/* ---- when ---- */

static void a_gap_is_followed_by_a_resync(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_stream(k, "z", 6);
    kit_start(k);
    stop_wait(k->stop, 300);
    assert_int_equal(k->attempts, 0);
    kit_gap(k, "y", 9);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "z@6, Gap, y@9, ResyncStarted, ResyncFinished");
    assert_non_null(strstr(kit_status(k).reason, "did not send anything known"));
    kit_teardown(k);
}

static bool gap_once(struct kit *k, size_t i)
{
    if (i == 0 && atomic_load(&k->attempts) == 1)
        kit_gap(k, "y", 9);
    return true;
}

static void a_gap_while_one_is_open_is_followed_by_another(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_add(k, "a", 5);
    k->hook = gap_once;
    kit_stream(k, "z", 6);
    kit_start(k);
    ask(k);
    kit_wait_finished(k, 2);
    kit_journal_is(k, "z@6, ResyncStarted, Gap, y@9, =a@5, ResyncFinished, ResyncStarted, =a@5, "
                      "ResyncFinished");
    kit_teardown(k);
}

static void a_first_start_that_ingest_said_is_taken_up(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    ingest_free(&k->ingest);
    k->start = SOURCE_START_SNAPSHOT;
    kit_make_ingest(k, NULL);
    kit_add(k, "a", 5);
    kit_start(k);
    stop_wait(k->stop, 300);
    assert_int_equal(k->attempts, 0); /* not attached yet */
    ingest_resume(k->ingest);
    ingest_state(k->ingest, SOURCE_ATTACHED, "s", NULL);
    assert_int_equal(ingest_flush(k->ingest, &k->err), 0);
    kit_wait_finished(k, 1);
    kit_journal_is(k, "ResyncStarted, =a@5, ResyncFinished");
    kit_teardown(k);
}

static void a_request_that_is_answered_already_does_nothing(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_stream(k, "z", 6);
    kit_start(k);
    resync_request(k->resync, 0, "a sink");
    kit_wait_finished(k, 1);
    resync_request(k->resync, 1, "another sink"); /* the ResyncStarted is 2 */
    stop_wait(k->stop, 500);
    kit_wait_finished(k, 1); /* and nothing is wanted any more */
    resync_request(k->resync, 2, "another sink");
    kit_wait_finished(k, 2);
    kit_teardown(k);
}

static void without_an_attached_source_or_a_state_to_read_it_waits(void **state)
{
    (void)state;
    struct kit *k = &kit;
    kit_setup(k, NULL);
    kit_stream(k, "z", 6);
    ingest_state(k->ingest, SOURCE_BACKOFF, "s", "cut");
    kit_start(k);
    ask(k);
    stop_wait(k->stop, 500);
    assert_int_equal(k->attempts, 0);
    assert_true(kit_status(k).wanted);
    kit_stop(k);
    k->ops.snapshot = NULL;
    kit_restart(k);
    kit_wait_known(k, 1); /* the table is kept all the same */
    stop_wait(k->stop, 500);
    assert_false(kit_status(k).supported);
    kit_journal_is(k, "z@6");
    kit_teardown(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_objects_are_told_between_start_and_finish),
        cmocka_unit_test(what_is_told_has_its_shape),
        cmocka_unit_test(what_the_stream_told_newer_is_left_out_the_same_is_told),
        cmocka_unit_test(what_was_read_later_than_it_was_told_is_told),
        cmocka_unit_test(a_later_listing_makes_no_older_object_newer),
        cmocka_unit_test(an_object_listed_twice_is_told_once),
        cmocka_unit_test(what_the_source_filter_leaves_out_is_not_told),
        cmocka_unit_test(what_no_listing_names_has_vanished),
        cmocka_unit_test(without_a_whole_listing_nothing_vanishes),
        cmocka_unit_test(what_an_earlier_attempt_told_can_vanish),
        cmocka_unit_test(what_was_told_in_this_resync_can_vanish_in_it),
        cmocka_unit_test(vanished_events_bear_the_filter_keys_of_the_object),
        cmocka_unit_test(what_vanished_is_told_behind_what_the_stream_still_has),
        cmocka_unit_test(a_gap_is_followed_by_a_resync),
        cmocka_unit_test(a_gap_while_one_is_open_is_followed_by_another),
        cmocka_unit_test(a_first_start_that_ingest_said_is_taken_up),
        cmocka_unit_test(a_request_that_is_answered_already_does_nothing),
        cmocka_unit_test(without_an_attached_source_or_a_state_to_read_it_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
