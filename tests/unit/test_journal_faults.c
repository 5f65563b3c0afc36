/* test_journal_faults.c - the journal on a full, a read-only, a broken disk, deleted under way, and
 * with everybody at it at once. */
#include "tests/unit/test_journal_kit.h"

#include "bridge/journal_internal.h"
#include "tests/unit/scratch.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* ---- no room ---- */

/* Appends and commits until that fails; the seq that was not appended or not committed. */
static uint64_t write_until_full(struct journal *journal, struct err *err)
{
    uint64_t seq = journal_next_seq(journal);
    for (int i = 0; i < 100000; i++) {
        size_t n = kit_append(journal, seq, err);
        if (n == 0)
            return seq;
        seq += n;
        if (i % 10 == 9 && journal_commit(journal, err) < 0)
            return seq;
    }
    fail_msg("never full");
    return 0;
}

static void a_full_disk_loses_nothing_and_goes_on_when_there_is_room(void **state)
{
    struct journal *journal = kit_open(*state);
    struct journal_reader *reader = journal_reader_new(journal);
    kit_pad = 3000;
    uint64_t read = 0, seq = 0;
    struct err err;
    for (rlim_t limit = 300000; limit < 3000000; limit += 333333) {
        scratch_limit_file_size(limit);
        seq = write_until_full(journal, &err);
        assert_int_equal(err.kind, ERR_RETRY);
        assert_non_null(strstr(err.msg, strerror(EFBIG)));
        char path[512];
        kit_last_segment(*state, path);
        assert_true((uint64_t)kit_file_size(path) == journal_bytes(journal));
        assert_int_equal(journal_commit(journal, &err), -1);
        assert_int_equal(err.kind, ERR_RETRY);
        read += kit_drain(reader);
        assert_int_equal(read + 1, journal_next_seq(journal));
        scratch_limit_file_size(RLIM_INFINITY);
        assert_int_equal(journal_commit(journal, &err), 0);
        assert_int_equal(journal_next_seq(journal), seq);
    }
    journal_reader_free(&reader);
    journal_close(&journal);
    journal = kit_open(*state);
    assert_int_equal(kit_drain_all(journal) + 1, seq);
    journal_close(&journal);
}

static void an_append_that_finds_no_room_appends_nothing(void **state)
{
    struct journal *journal = kit_open(*state);
    struct err err;
    kit_pad = 3000;
    scratch_limit_file_size(1000);
    uint64_t seq = 1;
    for (size_t n; (n = kit_append(journal, seq, &err)) > 0;)
        seq += n;
    assert_int_equal(err.kind, ERR_RETRY);
    assert_int_equal(kit_append(journal, seq, &err), 0);
    scratch_limit_file_size(RLIM_INFINITY);
    uint64_t n = kit_append(journal, seq, &err);
    assert_true(n > 0);
    assert_int_equal(journal_commit(journal, &err), 0);
    assert_int_equal(kit_drain_all(journal), seq + n - 1);
    journal_close(&journal);
}

static void a_full_disk_keeps_nothing_from_going_on(void **state)
{
    struct journal_options options = kit_options(*state);
    options.max_age_ms = 1;
    struct journal *journal = kit_open_with(&options);
    struct err err = {0};
    kit_write(journal, 10, 1);
    journal_set_passed(journal, journal_next_seq(journal));
    scratch_limit_file_size(10);
    if (journal_tick(journal, &err) != 0) /* wants to leave the aged segment for a new one */
        fail_msg("%s", err.msg);
    assert_int_equal(journal_first_seq(journal), 1);
    scratch_limit_file_size(RLIM_INFINITY);
    assert_int_equal(journal_tick(journal, &err), 0);
    assert_int_equal(journal_first_seq(journal), journal_next_seq(journal));
    kit_write(journal, 10, 1);
    kit_drain_all(journal);
    journal_close(&journal);
}

static void check_refused(const char *path, const char *what)
{
    struct journal_options options = {.dir = path, .max_size = 1 << 20, .sync_ms = -1};
    struct journal *journal;
    struct err err = {0};
    assert_int_equal(journal_open(&journal, &options, &err), -1);
    assert_int_equal(err.kind, ERR_FATAL);
    if (strstr(err.msg, path) == NULL || strstr(err.msg, what) == NULL)
        fail_msg("%s", err.msg);
}

static void a_disk_that_is_full_at_open_is_a_clear_error(void **state)
{
    const struct kit_dir *dir = *state;
    struct journal *journal = kit_open(dir);
    kit_write(journal, 10, 1);
    uint64_t id = journal_id(journal), next = journal_next_seq(journal);
    journal_close(&journal);
    scratch_limit_file_size(10);
    check_refused(dir->path, strerror(EFBIG));
    scratch_limit_file_size(RLIM_INFINITY);
    journal = kit_open(dir);
    assert_int_equal(journal_id(journal), id);
    assert_int_equal(journal_next_seq(journal), next);
    journal_close(&journal);
}

/* A file system of 1.5 MB on the directory; false where we may not mount. */
static bool mount_small(const struct kit_dir *dir)
{
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("busbar-test", dir->path, "tmpfs", 0, "size=1536k") == 0)
        return true;
    print_message("may not mount a file system here: %s\n", strerror(errno));
    return false;
}

static void on_a_full_disk_what_every_sink_has_passed_goes_first(void **state)
{
    const struct kit_dir *dir = *state;
    if (!mount_small(dir))
        skip();
    struct journal_options options = kit_options(dir);
    options.max_size = 4 * KIT_MIB;
    struct journal *journal = kit_open_with(&options);
    struct err err;
    kit_pad = 3000;
    uint64_t seq = write_until_full(journal, &err);
    assert_int_equal(err.kind, ERR_RETRY);
    assert_non_null(strstr(err.msg, strerror(ENOSPC)));
    assert_int_equal(journal_first_seq(journal), 1);
    journal_set_passed(journal, journal_next_seq(journal));
    assert_int_equal(journal_commit(journal, &err), 0);
    assert_true(journal_first_seq(journal) > 1);
    assert_true(journal_next_seq(journal) >= seq);
    kit_drain_all(journal);
    journal_close(&journal);
    assert_int_equal(umount(dir->path), 0);
}

static void a_read_only_disk_is_a_clear_error(void **state)
{
    const struct kit_dir *dir = *state;
    if (!mount_small(dir))
        skip();
    struct journal *journal = kit_open(dir);
    kit_write(journal, 10, 1);
    journal_close(&journal);
    assert_int_equal(mount("", dir->path, "", MS_REMOUNT | MS_RDONLY, ""), 0);
    check_refused(dir->path, strerror(EROFS));
    assert_int_equal(umount(dir->path), 0);
}

static void a_path_that_is_no_directory_is_a_clear_error(void **state)
{
    char path[512], below[600];
    snprintf(path, sizeof path, "%s/file", ((struct kit_dir *)*state)->path);
    snprintf(below, sizeof below, "%s/journal", path);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    check_refused(path, strerror(ENOTDIR));
    check_refused(below, strerror(ENOTDIR));
}

static void a_disk_that_fails_under_way_is_fatal_and_keeps_what_was_committed(void **state)
{
    struct journal *journal = kit_open(*state);
    kit_write(journal, 20, 5);
    uint64_t next = journal_next_seq(journal);
    char path[512];
    kit_last_segment(*state, path);
    int fd = journal->segments[0].file->fd, readable = open(path, O_RDONLY);
    assert_int_equal(dup2(readable, fd), fd); /* from here on each write fails */
    close(readable);
    struct err err;
    assert_true(kit_append(journal, next, &err) > 0);
    assert_int_equal(journal_commit(journal, &err), -1);
    assert_int_equal(err.kind, ERR_FATAL);
    assert_non_null(strstr(err.msg, "write: "));
    assert_int_equal(kit_drain_all(journal), next - 1);
    journal_close(&journal);
    journal = kit_open(*state);
    assert_int_equal(journal_next_seq(journal), next);
    assert_int_equal(kit_drain_all(journal), next - 1);
    journal_close(&journal);
}

static void a_sync_that_failed_is_told_to_the_writer(void **state)
{
    struct journal *journal = kit_open(*state);
    kit_write(journal, 5, 1);
    uint64_t id = journal_id(journal);
    pthread_mutex_lock(&journal->mutex);
    journal->syncer.error = EIO;
    pthread_mutex_unlock(&journal->mutex);
    struct err err;
    assert_int_equal(journal_commit(journal, &err), -1);
    assert_int_equal(err.kind, ERR_FATAL);
    assert_int_equal(journal_tick(journal, &err), -1);
    assert_non_null(strstr(err.msg, strerror(EIO)));
    journal_close(&journal);
    /* It was not closed cleanly: after a crash of the machine nothing is taken for granted. */
    struct journal_options options = kit_options(*state);
    options.boot_id = "boot-2";
    journal = kit_open_with(&options);
    assert_int_not_equal(journal_id(journal), id);
    journal_close(&journal);
}

static void syncs_by_interval_and_always(void **state)
{
    struct journal_options options = kit_options(*state);
    options.max_size = KIT_MIB;
    const int intervals[] = {JOURNAL_SYNC_ALWAYS, 1, 20, 100000};
    struct err err;
    kit_pad = 3000;
    for (size_t i = 0; i < sizeof intervals / sizeof intervals[0]; i++) {
        options.sync_ms = intervals[i];
        struct journal *journal = kit_open_with(&options);
        kit_write(journal, 600, 5); /* over several segments */
        for (int k = 0; k < 3000 && options.sync_ms < 1000 && options.sync_ms > 0; k++) {
            pthread_mutex_lock(&journal->mutex);
            bool dirty = journal->syncer.dirty || journal->syncer.n_finished > 0;
            pthread_mutex_unlock(&journal->mutex);
            if (!dirty)
                break;
            assert_true(k < 2999);
            usleep(10000);
        }
        assert_int_equal(journal_tick(journal, &err), 0);
        kit_drain_all(journal);
        journal_close(&journal);
    }
}

/* Stands before the system's own; says how often it was called. */
static atomic_uint syncs;

int fdatasync(int fd)
{
    atomic_fetch_add(&syncs, 1);
    return (int)syscall(SYS_fdatasync, fd);
}

/* How many files an open of that directory makes durable. */
static unsigned syncs_at_open(const struct kit_dir *dir, int sync_ms)
{
    struct journal_options options = kit_options(dir);
    options.max_size = 4 * KIT_MIB;
    options.sync_ms = sync_ms;
    unsigned before = atomic_load(&syncs);
    struct journal *journal = kit_open_with(&options);
    unsigned n = atomic_load(&syncs) - before;
    journal_close(&journal);
    return n;
}

static void what_a_killed_process_wrote_is_made_durable_at_open(void **state)
{
    struct journal_options options = kit_options(*state);
    options.max_size = 4 * KIT_MIB;
    struct journal *journal = kit_open_with(&options);
    kit_pad = 3000;
    kit_write(journal, 600, 5);
    struct kit_dir copy;
    kit_dir_make(&copy);
    kit_dir_copy(*state, &copy); /* as a kill leaves it */
    unsigned segments = (unsigned)journal->n_segments;
    assert_in_range(segments, 3, JOURNAL_FINISHED_MAX);
    assert_int_equal(syncs_at_open(&copy, 100000), segments);
    assert_int_equal(syncs_at_open(&copy, 100000), 0); /* closed */
    kit_dir_copy(*state, &copy);
    assert_int_equal(syncs_at_open(&copy, JOURNAL_SYNC_ALWAYS), segments);
    kit_dir_copy(*state, &copy);
    assert_int_equal(syncs_at_open(&copy, JOURNAL_SYNC_NEVER), 0);
    journal_close(&journal);
    kit_dir_remove(&copy);
}

/* ---- deleted while running ---- */

static void look_now(struct journal *journal)
{
    struct err err = {0};
    journal->checked_ms = 0;
    if (journal_tick(journal, &err) < 0)
        fail_msg("%s", err.msg);
}

static void deleted_under_way_it_is_made_anew_and_readers_are_told(void **state)
{
    const struct kit_dir *dir = *state;
    struct journal *journal = kit_open(dir);
    journal->ring.bytes_max = 0; /* all but the newest block from files */
    kit_pad = 500;
    kit_write(journal, 100, 5);
    struct journal_reader *keeps_up = journal_reader_new(journal);
    struct journal_reader *lags = journal_reader_new(journal);
    kit_drain(keeps_up);
    kit_dir_remove(dir);
    kit_write(journal, 50, 5);
    kit_drain(keeps_up); /* the open file can still be read */
    uint64_t first = journal_next_seq(journal), id = journal_id(journal);
    look_now(journal);
    assert_int_equal(journal_first_seq(journal), first);
    kit_write(journal, 50, 5);
    kit_drain(keeps_up);
    struct block *block;
    struct err err;
    assert_int_equal(journal_reader_next(lags, 0, &block, &err), JOURNAL_LOST);
    assert_int_equal(journal_reader_seq(lags), first);
    kit_drain(lags);
    journal_reader_free(&keeps_up);
    journal_reader_free(&lags);
    uint64_t next = journal_next_seq(journal);
    journal_close(&journal);
    journal = kit_open(dir);
    assert_int_equal(journal_id(journal), id);
    assert_int_equal(journal_first_seq(journal), first);
    assert_int_equal(kit_drain_all(journal), next - first);
    journal_close(&journal);
}

static void deleted_on_a_full_disk_it_is_made_anew_when_there_is_room(void **state)
{
    const struct kit_dir *dir = *state;
    struct journal *journal = kit_open(dir);
    kit_write(journal, 20, 5);
    uint64_t id = journal_id(journal), first = journal_next_seq(journal);
    kit_dir_remove(dir);
    scratch_limit_file_size(10);
    look_now(journal);
    scratch_limit_file_size(RLIM_INFINITY);
    look_now(journal);
    kit_write(journal, 20, 5);
    uint64_t next = journal_next_seq(journal);
    journal_close(&journal);
    journal = kit_open(dir);
    assert_int_equal(journal_id(journal), id);
    assert_int_equal(kit_drain_all(journal), next - first);
    journal_close(&journal);
}

static void deleted_files_are_noticed_when_the_next_segment_is_made(void **state)
{
    const struct kit_dir *dir = *state;
    struct journal_options options = kit_options(dir);
    options.max_size = KIT_MIB;
    struct journal *journal = kit_open_with(&options);
    struct journal_reader *reader = journal_reader_new(journal);
    kit_pad = 3000;
    kit_write(journal, 20, 5);
    kit_dir_remove(dir);
    kit_write(journal, 400, 5); /* more than a segment, no tick in between */
    assert_int_equal(kit_drain(reader) + 1, journal_next_seq(journal)); /* from the ring */
    journal_reader_free(&reader);
    char names[16][64];
    assert_true(kit_dir_list(dir, ".seg", names, 16) >= 1);
    assert_int_equal(kit_dir_list(dir, "lock", names, 16), 1);
    uint64_t next = journal_next_seq(journal);
    journal_close(&journal);
    journal = kit_open_with(&options);
    assert_int_equal(journal_next_seq(journal), next);
    journal_close(&journal);
}

static void a_deleted_lock_is_taken_again(void **state)
{
    const struct kit_dir *dir = *state;
    struct journal *journal = kit_open(dir);
    char path[512];
    snprintf(path, sizeof path, "%s/lock", dir->path);
    unlink(path);
    look_now(journal);
    check_refused(dir->path, "in use by another process");
    kit_write(journal, 5, 1);
    assert_int_equal(kit_drain_all(journal) + 1, journal_next_seq(journal));
    journal_close(&journal);
}

/* ---- files are open only as long as somebody reads them ---- */

static unsigned open_files(struct journal *journal)
{
    unsigned n = 0;
    for (size_t i = 0; i < journal->n_segments; i++)
        n += journal->segments[i].file != NULL;
    return n;
}

static void many_readers_share_few_files(void **state)
{
    struct journal_options options = kit_options(*state);
    options.max_size = 4 * KIT_MIB;
    struct journal *journal = kit_open_with(&options);
    kit_pad = 3000;
    kit_write(journal, 600, 5);
    journal_close(&journal);
    journal = kit_open_with(&options);
    assert_true(journal->n_segments > 2);
    struct journal_reader *readers[20];
    struct block *block;
    struct err err;
    for (size_t i = 0; i < 20; i++) {
        readers[i] = journal_reader_new(journal);
        assert_int_equal(journal_reader_next(readers[i], 0, &block, &err), JOURNAL_BLOCK);
        block_unref(&block);
    }
    assert_int_equal(open_files(journal), 2);
    kit_write(journal, 10, 5);
    kit_drain(readers[0]);
    assert_int_equal(open_files(journal), 2);
    for (size_t i = 1; i < 20; i++) {
        journal_reader_seek(readers[i], journal_next_seq(journal) - 1);
        assert_int_equal(journal_reader_next(readers[i], 0, &block, &err), JOURNAL_BLOCK);
        block_unref(&block);
    }
    assert_int_equal(open_files(journal), 1);
    for (size_t i = 0; i < 20; i++)
        journal_reader_free(&readers[i]);
    journal_close(&journal);
}

/* ---- everybody at once ---- */

enum { STRESS_READERS = 3, STRESS_BLOCKS = 1500 };

struct stress {
    struct journal *journal;
    atomic_bool done;
    unsigned kind;
    uint64_t read, lost;
    pthread_barrier_t *ready; /* all stand at the beginning before the first block is written */
};

/* Kind 0 keeps up, 1 lags, 2 jumps about. */
static void *stress_read(void *arg)
{
    struct stress *stress = arg;
    struct journal_reader *reader = journal_reader_new(stress->journal);
    uint64_t seq = journal_reader_seq(reader);
    pthread_barrier_wait(stress->ready);
    struct block *block;
    struct err err;
    while (stress->kind == 1 && journal_first_seq(stress->journal) <= seq)
        usleep(1000); /* what it wants first has to go before it reads */
    for (unsigned i = 0;; i++) {
        bool last = atomic_load(&stress->done);
        enum journal_read result = journal_reader_next(reader, 5, &block, &err);
        if (result == JOURNAL_BLOCK) {
            kit_check_block(block);
            assert_in_range(seq, block->first_seq, block->first_seq + block->n_events - 1);
            stress->read += block->n_events;
            block_unref(&block);
        } else if (result == JOURNAL_LOST) {
            stress->lost += journal_reader_seq(reader) - seq;
        } else if (result == JOURNAL_NOTHING && last) {
            break;
        } else {
            assert_int_equal(result, JOURNAL_NOTHING);
        }
        if (stress->kind == 1 && i % 8 == 0)
            usleep(1000);
        if (stress->kind == 2 && i % 50 == 0 && !last)
            journal_reader_seek_arrival(
                reader, kit_arrival(kit_mix(i) % journal_next_seq(stress->journal)));
        if (stress->kind == 2 && i % 50 == 25 && !last)
            journal_reader_seek(reader, 1 + kit_mix(i) % journal_next_seq(stress->journal));
        seq = journal_reader_seq(reader);
    }
    journal_reader_free(&reader);
    return NULL;
}

static void one_writes_three_read_while_the_oldest_goes(void **state)
{
    struct journal_options options = kit_options(*state);
    options.max_size = KIT_MIB;
    options.sync_ms = 2;
    struct journal *journal = kit_open_with(&options);
    journal->ring.bytes_max = 50000;
    kit_pad = 2000;
    struct stress readers[STRESS_READERS];
    pthread_t threads[STRESS_READERS];
    pthread_barrier_t ready;
    pthread_barrier_init(&ready, NULL, STRESS_READERS + 1);
    for (unsigned i = 0; i < STRESS_READERS; i++) {
        readers[i] = (struct stress){.journal = journal, .kind = i, .ready = &ready};
        pthread_create(&threads[i], NULL, stress_read, &readers[i]);
    }
    pthread_barrier_wait(&ready);
    struct err err;
    for (int i = 0; i < STRESS_BLOCKS; i++) {
        kit_write(journal, 1 + (uint64_t)i % 12, 100);
        assert_int_equal(journal_tick(journal, &err), 0);
        if (i % 50 == 0)
            usleep(500);
    }
    for (unsigned i = 0; i < STRESS_READERS; i++)
        atomic_store(&readers[i].done, true);
    for (unsigned i = 0; i < STRESS_READERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(readers[i].read + readers[i].lost + 1, journal_next_seq(journal));
    assert_true(readers[1].lost > 0 && readers[2].read > 0);
    pthread_barrier_destroy(&ready);
    journal_close(&journal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(a_full_disk_loses_nothing_and_goes_on_when_there_is_room),
        KIT_TEST(an_append_that_finds_no_room_appends_nothing),
        KIT_TEST(a_full_disk_keeps_nothing_from_going_on),
        KIT_TEST(a_disk_that_is_full_at_open_is_a_clear_error),
        KIT_TEST(on_a_full_disk_what_every_sink_has_passed_goes_first),
        KIT_TEST(a_read_only_disk_is_a_clear_error),
        KIT_TEST(a_path_that_is_no_directory_is_a_clear_error),
        KIT_TEST(a_disk_that_fails_under_way_is_fatal_and_keeps_what_was_committed),
        KIT_TEST(a_sync_that_failed_is_told_to_the_writer),
        KIT_TEST(syncs_by_interval_and_always),
        KIT_TEST(what_a_killed_process_wrote_is_made_durable_at_open),
        KIT_TEST(deleted_under_way_it_is_made_anew_and_readers_are_told),
        KIT_TEST(deleted_on_a_full_disk_it_is_made_anew_when_there_is_room),
        KIT_TEST(deleted_files_are_noticed_when_the_next_segment_is_made),
        KIT_TEST(a_deleted_lock_is_taken_again),
        KIT_TEST(many_readers_share_few_files),
        KIT_TEST(one_writes_three_read_while_the_oldest_goes),
    };
    log_setup(LOG_LOGFMT, LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
