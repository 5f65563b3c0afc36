/* test_resync_latest.c - the state table is brought up to date by what ingest remembers, and the
 * journal is read only where that does not tell enough. */
#include "tests/unit/check.h"

#include "tests/unit/resync_kit.h"

#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

static struct kit kit; /* large */

/* So that the thread looks at the table: a request that is answered already. */
static void nudge(struct kit *k)
{
    resync_request(k->resync, 0, "nudged");
}

/* Overwrites all that the journal has on the disk. */
static void spoil(const struct kit *k)
{
    char pattern[512], noise[4096];
    glob_t found;
    memset(noise, 'x', sizeof noise);
    snprintf(pattern, sizeof pattern, "%s/*/*.seg", k->dir);
    if (glob(pattern, 0, NULL, &found) != 0) {
        snprintf(pattern, sizeof pattern, "%s/*.seg", k->dir);
        assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        int fd = open(found.gl_pathv[i], O_WRONLY);
        off_t size = lseek(fd, 0, SEEK_END);
        for (off_t at = 4096; at < size; at += (off_t)sizeof noise)
            assert_int_equal(pwrite(fd, noise, sizeof noise, at), sizeof noise);
        close(fd);
    }
    globfree(&found);
}

/* More than the journal keeps in memory, of few objects. */
static void stream_much(struct kit *k, uint64_t from)
{
    static char raw[64 * 1024];
    char key[32];
    struct err err;
    memset(raw, 'r', sizeof raw);
    for (uint64_t i = 0; i < 180; i++) {
        snprintf(key, sizeof key, "key-%u", (unsigned)(i % 7));
        struct str text = {raw, sizeof raw};
        struct found_event found = kit_found(key, "JobRegistered", from + i, text);
        if (ingest_message(k->ingest, text, &found, 1, &err) != 0 ||
            ingest_flush(k->ingest, &err) != 0)
            fail_msg("%s", err.msg);
    }
}

static void begin(struct kit *k)
{
    kit_setup(k, NULL);
    kit_start(k);
    kit_gap(k, "first", 1); /* a resync, so that a request behind nothing is answered already */
    nudge(k);
    kit_wait_finished(k, 1);
    uint64_t known = kit_status(k).known;
    kit_stream(k, "second", 2); /* behind what the resync told, whose order counts */
    kit_wait_known(k, known + 1);
}

static void what_was_told_is_not_read_from_the_journal(void **state)
{
    (void)state;
    struct kit *k = &kit;
    begin(k);
    struct resync_status before = kit_status(k);
    stream_much(k, 10);
    spoil(k);
    nudge(k);
    kit_wait_known(k, before.known + 7);
    stop_wait(k->stop, 500); /* where it reads what can't be read, another resync follows */
    assert_int_equal(kit_status(k).number, before.number);
    assert_false(kit_status(k).wanted);
    kit_teardown(k);
}

static void what_was_only_received_becomes_readable_by_taking_it(void **state)
{
    (void)state;
    struct kit *k = &kit;
    struct latest latest;
    kit_setup(k, NULL);
    assert_true(ingest_take_latest(k->ingest, &latest));
    assert_int_equal(latest.from, 1);
    assert_int_equal(latest.to, 1);
    latest_fini(&latest);
    kit_receive(k, "a", 5);
    assert_int_equal(journal_next_seq(k->journal), 1);
    assert_true(ingest_take_latest(k->ingest, &latest));
    assert_int_equal(latest.to, 2);
    assert_int_equal(journal_next_seq(k->journal), 2);
    latest_fini(&latest);
    kit_stream(k, "b", 6);
    assert_true(ingest_take_latest(k->ingest, &latest));
    assert_int_equal(latest.from, 2);
    assert_int_equal(latest.to, 3);
    assert_int_equal(latest.n, 1);
    latest_fini(&latest);
    kit_teardown(k);
}

static void what_can_not_be_journaled_can_not_be_taken(void **state)
{
    (void)state;
    struct kit *k = &kit;
    struct latest latest;
    kit_setup(k, NULL);
    kit_receive(k, "a", 5);
    scratch_limit_file_size(100);
    assert_false(ingest_take_latest(k->ingest, &latest));
    scratch_limit_file_size(RLIM_INFINITY);
    kit_stream(k, "b", 6);
    assert_true(ingest_take_latest(k->ingest, &latest));
    assert_int_equal(latest.from, 1);
    assert_int_equal(latest.n, 2);
    latest_fini(&latest);
    kit_teardown(k);
}

static void a_gap_is_told_at_once(void **state)
{
    (void)state;
    struct kit *k = &kit;
    struct latest latest;
    kit_setup(k, NULL);
    kit_stream(k, "a", 5);
    assert_int_equal(ingest_latest_end(k->ingest), LATEST_GOES_ON);
    kit_gap(k, "b", 9);
    assert_int_equal(ingest_latest_end(k->ingest), LATEST_ORDER);
    assert_true(ingest_take_latest(k->ingest, &latest));
    assert_int_equal(latest.to, 2);
    assert_int_equal(latest.end, LATEST_ORDER);
    latest_fini(&latest);
    assert_int_equal(ingest_latest_end(k->ingest), LATEST_GOES_ON);
    assert_true(ingest_take_latest(k->ingest, &latest));
    assert_int_equal(latest.from, journal_next_seq(k->journal));
    latest_fini(&latest);
    kit_teardown(k);
}

static void a_gap_among_what_is_told_is_followed_by_a_resync(void **state)
{
    (void)state;
    struct kit *k = &kit;
    begin(k);
    kit_stream(k, "a", 20);
    kit_gap(k, "b", 30);
    kit_stream(k, "c", 31);
    kit_wait_finished(k, 2);
    kit_wait_known(k, 5);
    kit_teardown(k);
}

static void more_objects_than_are_remembered_are_all_known(void **state)
{
    (void)state;
    struct kit *k = &kit;
    char key[32];
    begin(k);
    uint64_t known = kit_status(k).known;
    for (uint64_t i = 0; i < LATEST_OBJECTS_MAX + 500; i++) {
        snprintf(key, sizeof key, "many-%u", (unsigned)i);
        kit_receive(k, key, 10 + i);
    }
    kit_stream(k, "last", 100000);
    kit_wait_known(k, known + LATEST_OBJECTS_MAX + 501); /* without being asked */
    kit_teardown(k);
}

static void what_was_not_applied_is_read_after_a_restart(void **state)
{
    (void)state;
    struct kit *k = &kit;
    begin(k);
    uint64_t known = kit_status(k).known;
    kit_stream(k, "a", 20);
    kit_restart(k);
    kit_stream(k, "b", 21);
    nudge(k); /* where it has looked before */
    kit_wait_known(k, known + 2);
    kit_teardown(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_told_is_not_read_from_the_journal),
        cmocka_unit_test(what_was_only_received_becomes_readable_by_taking_it),
        cmocka_unit_test(what_can_not_be_journaled_can_not_be_taken),
        cmocka_unit_test(a_gap_is_told_at_once),
        cmocka_unit_test(a_gap_among_what_is_told_is_followed_by_a_resync),
        cmocka_unit_test(more_objects_than_are_remembered_are_all_known),
        cmocka_unit_test(what_was_not_applied_is_read_after_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
