/* test_state.c - the state table: what the journal says of each object, through commits, other
 * journals and resyncs. */
#include "tests/unit/state_kit.h"

#include <stdlib.h>

/* ---- the journal ---- */

static void the_newest_epoch_and_index_of_each_object_are_kept(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    apply(&b, job("web", 0, 10));
    apply(&b, job("web", 0, 12));
    apply(&b, job("web", 0, 11));
    apply(&b, job("db", 0, 900));
    apply(&b, job("db", 1, 3)); /* started over: 3 is newer than 900 */
    is_at(&b, "web", 0, 12);
    is_at(&b, "db", 1, 3);
    is_unknown(&b, "none");
    assert_int_equal(state_objects(b.state), 2);
    teardown(&b);
}

static bool is_deleted(struct bench *b, struct event e)
{
    struct state_id id = {e.topic, e.ns, e.key};
    struct state_object object;
    assert_int_equal(state_find(b->state, &id, &object, &b->err), 1);
    return object.deleted;
}

/* Its times go back: what comes later is newer. */
static void what_a_marathon_says_is_gone_is_gone_whatever_the_time(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    struct event app = job("/web", 0, 20);
    apply(&b, app);
    const char *const types[] = {"app_terminated_event", "pod_deleted_event", "deployment_success",
                                 "deployment_failed"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct event gone = job("/web", 0, 10);
        gone.type = str_from(types[i]);
        assert_false(is_deleted(&b, app));
        apply(&b, gone);
        assert_true(is_deleted(&b, app));
        apply(&b, job("/web", 0, 5)); /* created again */
    }
    teardown(&b);
}

static void what_was_seen_can_be_unseen(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    struct state_id id = {STR("Job"), STR("default"), STR("web")}, none = id;
    struct state_object object;
    none.key = STR("none");
    apply(&b, job("web", 0, 20));
    state_set_attempt(b.state, 7);
    assert_int_equal(state_see(b.state, &id, &object, &b.err), 1);
    assert_int_equal(state_unsee(b.state, &id, &b.err), 0);
    assert_int_equal(state_unsee(b.state, &none, &b.err), 0);
    assert_int_equal(state_find(b.state, &id, &object, &b.err), 1);
    assert_false(object.seen);
    teardown(&b);
}

static void topic_and_namespace_tell_objects_apart(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    struct event other = job("web", 0, 20);
    other.ns = STR("other");
    struct event node = job("web", 0, 30);
    node.topic = STR("Node");
    apply(&b, job("web", 0, 10));
    apply(&b, other);
    apply(&b, node);
    is_at(&b, "web", 0, 10);
    assert_int_equal(state_objects(b.state), 3);
    teardown(&b);
}

static void repeats_and_what_is_malformed_say_nothing(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    struct event repeat = job("web", 0, 10), malformed = job("db", 0, 10);
    repeat.repeat = true;
    malformed.origin = EVENT_MALFORMED;
    apply(&b, repeat);
    apply(&b, malformed);
    assert_int_equal(state_objects(b.state), 0);
    assert_int_equal(state_next_seq(b.state), 3);
    teardown(&b);
}

static void what_is_applied_again_changes_nothing(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    for (int round = 0; round < 2; round++) {
        b.seq = 0;
        apply(&b, job("web", 0, 10));
        apply(&b, snapshot("web", 10, "Vanished"));
        apply(&b, job("web", 0, 14));
        apply(&b, snapshot("web", 13, "Vanished")); /* of an older one: no */
        apply(&b, job("db", 0, 15));
        apply(&b, snapshot("db", 15, "Vanished"));
        is_at(&b, "web", 0, 14);
        is_unknown(&b, "db");
    }
    teardown(&b);
}

static void a_commit_lasts_and_what_was_not_committed_is_asked_for_again(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    apply(&b, job("web", 0, 10));
    commit(&b);
    apply(&b, job("web", 0, 11));
    reopen(&b); /* killed between journal and table */
    is_at(&b, "web", 0, 10);
    assert_int_equal(state_next_seq(b.state), 2);
    teardown(&b);
}

static void after_another_journal_only_what_it_says_counts(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    apply(&b, job("lost", 0, 99));
    apply(&b, job("web", 0, 99)); /* its end was lost: */
    apply(&b, started());
    commit(&b);
    assert_int_equal(state_set_journal(b.state, JOURNAL + 1, 10, &b.err), 0);
    assert_int_equal(state_next_seq(b.state), 0); /* all of it once more */
    assert_false(state_resync(b.state)->open);
    assert_true(state_resync(b.state)->wanted); /* the open one may be in what was lost */
    b.seq = 0;
    apply(&b, job("web", 0, 50));
    is_at(&b, "web", 0, 50);
    struct state_object object;
    assert_true(find(&b, "web", &object) && object.here);
    assert_true(find(&b, "lost", &object) && !object.here);
    apply(&b, started());
    assert_true(state_resync(b.state)->open);
    assert_false(state_resync(b.state)->wanted);
    teardown(&b);
}

static void a_journal_that_goes_back_is_another_one(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    apply(&b, job("web", 0, 10));
    apply(&b, job("web", 0, 11));
    assert_int_equal(state_set_journal(b.state, JOURNAL, 2, &b.err), 0);
    assert_int_equal(state_next_seq(b.state), 0);
    teardown(&b);
}

static void a_stretch_that_was_lost_wants_a_resync(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    assert_int_equal(state_lost(b.state, 5, &b.err), 0);
    assert_false(state_resync(b.state)->wanted); /* nothing was known yet: not lost, but pruned */
    struct event e = job("web", 0, 10);
    e.seq = 5;
    apply(&b, e);
    assert_int_equal(state_lost(b.state, 9, &b.err), 0);
    assert_true(state_resync(b.state)->wanted);
    assert_int_equal(state_next_seq(b.state), 9);
    teardown(&b);
}

/* ---- resyncs ---- */

static void gaps_starts_and_ends_tell_how_far_a_resync_is(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    const struct state_resync *r = state_resync(b.state);
    assert_false(r->wanted || r->open);
    apply(&b, gap());
    assert_true(r->wanted);
    assert_string_equal(r->wanted_reason, "cut");
    apply(&b, started());
    assert_true(r->open && !r->wanted);
    assert_int_equal(r->number, 2);
    assert_string_equal(r->reason, "cut");
    apply(&b, snapshot("web", 9, "Snapshot"));
    apply(&b, gap()); /* while one is open: another follows */
    assert_true(r->open && r->wanted);
    commit(&b);
    reopen(&b);
    r = state_resync(b.state);
    assert_true(r->open && r->wanted);
    assert_int_equal(r->objects, 1);
    apply(&b, own("ResyncFinished", "{}"));
    assert_true(!r->open && r->wanted);
    assert_int_equal(r->finished_us, 5000000);
    apply(&b, started());
    assert_true(r->open && !r->wanted);
    assert_int_equal(r->objects, 0);
    teardown(&b);
}

static void a_snapshot_bears_the_mark_of_its_resync(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    struct state_object object;
    apply(&b, started());
    apply(&b, snapshot("web", 9, "Snapshot"));
    apply(&b, job("web", 0, 12));
    assert_true(find(&b, "web", &object));
    assert_int_equal(object.mark, 1);
    assert_int_equal(object.index, 12);
    assert_int_equal(state_set_journal(b.state, JOURNAL + 1, 10, &b.err), 0);
    assert_true(find(&b, "web", &object));
    assert_int_equal(object.mark, 0); /* that number may be another's there */
    teardown(&b);
}

static void seen_is_what_this_attempt_has_seen(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    struct state_object object;
    struct state_id id = {STR("Job"), STR("default"), STR("web")};
    apply(&b, job("web", 0, 9));
    assert_int_equal(state_see(b.state, &id, &object, &b.err), 1);
    assert_true(find(&b, "web", &object) && !object.seen); /* outside of an attempt */
    state_set_attempt(b.state, 123);
    assert_int_equal(state_see(b.state, &id, &object, &b.err), 1);
    assert_false(object.seen);
    assert_true(find(&b, "web", &object) && object.seen);
    apply(&b, snapshot("db", 9, "Snapshot"));
    assert_true(find(&b, "db", &object) && object.seen);
    state_set_attempt(b.state, 124);
    assert_true(find(&b, "web", &object) && !object.seen);
    assert_true(find(&b, "db", &object) && !object.seen);
    teardown(&b);
}

/* ---- objects ---- */

static void a_walk_meets_every_object_while_some_are_removed(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    char key[32];
    for (uint64_t i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "job-%" PRIu64, i);
        apply(&b, job(key, 0, i));
    }
    struct state_cursor at = {.begun = false};
    struct state_object object;
    uint64_t n = 0, sum = 0;
    while (state_walk(b.state, &at, &object, &b.err) == 1) {
        n++;
        sum += object.index;
        snprintf(key, sizeof key, "%.*s", STR_ARG(object.id.key));
        if (n % 2 == 0)
            apply(&b, snapshot(key, object.index, "Vanished"));
    }
    assert_int_equal(n, 500);
    assert_int_equal(sum, 499 * 500 / 2);
    assert_int_equal(state_objects(b.state), 250);
    teardown(&b);
}

static void filter_keys_are_kept_and_follow_the_newest(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    struct buf packed = {0};
    event_pack_filter_key(&packed, STR("a-job"));
    struct event e = job("web", 0, 9);
    struct state_object object;
    apply(&b, e);
    e.filter_keys = buf_str(&packed);
    e.index = 10;
    apply(&b, e);
    assert_true(find(&b, "web", &object));
    assert_true(str_eq(object.filter_keys, buf_str(&packed)));
    buf_fini(&packed);
    commit(&b);
    reopen(&b); /* checksums and the count of bytes follow */
    teardown(&b);
}

static void an_object_of_overlong_strings_is_known_without_them(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    char *key = mem_zalloc(100001);
    memset(key, 'k', 100000);
    apply(&b, job(key, 0, 9));
    commit(&b);
    reopen(&b);
    struct state_object object;
    assert_true(find(&b, key, &object));
    assert_int_equal(object.index, 9);
    assert_int_equal(object.id.key.len, 0);
    free(key);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_epoch_and_index_of_each_object_are_kept),
        cmocka_unit_test(what_a_marathon_says_is_gone_is_gone_whatever_the_time),
        cmocka_unit_test(what_was_seen_can_be_unseen),
        cmocka_unit_test(topic_and_namespace_tell_objects_apart),
        cmocka_unit_test(repeats_and_what_is_malformed_say_nothing),
        cmocka_unit_test(what_is_applied_again_changes_nothing),
        cmocka_unit_test(a_commit_lasts_and_what_was_not_committed_is_asked_for_again),
        cmocka_unit_test(after_another_journal_only_what_it_says_counts),
        cmocka_unit_test(a_journal_that_goes_back_is_another_one),
        cmocka_unit_test(a_stretch_that_was_lost_wants_a_resync),
        cmocka_unit_test(gaps_starts_and_ends_tell_how_far_a_resync_is),
        cmocka_unit_test(a_snapshot_bears_the_mark_of_its_resync),
        cmocka_unit_test(seen_is_what_this_attempt_has_seen),
        cmocka_unit_test(a_walk_meets_every_object_while_some_are_removed),
        cmocka_unit_test(filter_keys_are_kept_and_follow_the_newest),
        cmocka_unit_test(an_object_of_overlong_strings_is_known_without_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
