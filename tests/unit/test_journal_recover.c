/* test_journal_recover.c - the journal after kills, torn and flipped bytes, and crashes of the
 * machine. */
#include "tests/unit/test_journal_kit.h"

#include "bridge/journal_format.h"
#include "bridge/journal_segment.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { CHILD_ROUNDS = 60 };

/* ---- kill -9 ---- */

static void child_writes(const struct kit_dir *dir, uint64_t *committed, uint64_t seed, int sync_ms)
{
    struct journal_options options = kit_options(dir);
    options.max_size = 4 * KIT_MIB;
    options.sync_ms = sync_ms;
    struct journal *journal;
    struct err err;
    if (journal_open(&journal, &options, &err) != 0)
        _exit(1);
    kit_pad = kit_mix(seed) % 8000;
    uint64_t seq = journal_next_seq(journal);
    for (uint64_t i = 0;; i++) {
        uint64_t n = 1 + kit_mix(seed + i) % 20;
        for (uint64_t k = 0; k < n; k++) {
            size_t added = kit_append(journal, seq, &err);
            if (added == 0)
                _exit(2);
            seq += added;
        }
        if (journal_commit(journal, &err) != 0)
            _exit(3);
        __atomic_store_n(committed, seq, __ATOMIC_SEQ_CST);
    }
}

static void check_after_kill(const struct kit_dir *dir, uint64_t committed, uint64_t *id)
{
    struct journal_options options = kit_options(dir);
    options.max_size = 4 * KIT_MIB;
    struct journal *journal = kit_open_with(&options);
    if (*id != 0)
        assert_int_equal(journal_id(journal), *id);
    *id = journal_id(journal);
    assert_true(journal_next_seq(journal) >= committed);
    assert_int_equal(kit_drain_all(journal),
                     journal_next_seq(journal) - journal_first_seq(journal));
    journal_close(&journal);
}

static void keeps_what_was_committed_through_kill_9(void **state)
{
    uint64_t *committed =
        mmap(NULL, sizeof *committed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(committed != MAP_FAILED);
    uint64_t id = 0;
    for (uint64_t round = 0; round < CHILD_ROUNDS; round++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            child_writes(*state, committed, round * 1000003, round % 2 == 0 ? -1 : 2);
        usleep((useconds_t)(1000 + kit_mix(round) % 15000));
        kill(pid, SIGKILL);
        int status;
        waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status));
        kit_pad = kit_mix(round * 1000003) % 8000;
        /* Only this round's events are as this round's padding makes them. */
        check_after_kill(*state, *committed, &id);
        kit_dir_empty(*state);
        *committed = 0;
        id = 0;
    }
    munmap(committed, sizeof *committed);
}

static void goes_on_through_many_kills(void **state)
{
    uint64_t *committed =
        mmap(NULL, sizeof *committed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(committed != MAP_FAILED);
    uint64_t id = 0;
    for (uint64_t round = 0; round < CHILD_ROUNDS; round++) {
        uint64_t before = *committed;
        pid_t pid = fork();
        if (pid == 0)
            child_writes(*state, committed, 7, round % 2 == 0 ? -1 : 2);
        /* A slow machine may kill each child before its first commit: some get as far as that. */
        while (round % 4 == 1 && __atomic_load_n(committed, __ATOMIC_SEQ_CST) <= before + 10)
            usleep(100);
        usleep((useconds_t)(500 + kit_mix(round) % 8000));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        if (round % 5 != 0)
            continue; /* most are opened by the next child, not closed */
        kit_pad = kit_mix(7) % 8000;
        check_after_kill(*state, *committed, &id);
    }
    assert_true(*committed > 100);
    munmap(committed, sizeof *committed);
}

/* ---- torn tails ---- */

struct image {
    struct kit_dir from, to;
    uint64_t id, next, last_block; /* first seq of the last block */
    char last[512];                /* path of the last segment in `to` */
    off_t block_at, size;
};

/* A journal as a kill leaves it: `blocks` blocks, none closed. */
static void image_make(struct image *image, const struct kit_dir *dir, unsigned blocks)
{
    image->from = *dir;
    kit_dir_make(&image->to);
    struct journal *journal = kit_open(dir);
    for (unsigned i = 1; i < blocks; i++)
        kit_write(journal, 3, 100);
    char path[512];
    kit_last_segment(dir, path);
    image->block_at = kit_file_size(path);
    image->last_block = journal_next_seq(journal);
    kit_write(journal, 3, 100);
    image->size = kit_file_size(path);
    image->next = journal_next_seq(journal);
    image->id = journal_id(journal);
    kit_dir_copy(dir, &image->to);
    kit_last_segment(&image->to, image->last);
    journal_close(&journal);
    kit_dir_empty(dir);
    kit_dir_copy(&image->to, dir);
}

static void image_again(const struct image *image)
{
    kit_dir_copy(&image->from, &image->to);
}

static void cuts_a_torn_block_wherever_it_was_torn(void **state)
{
    struct image image;
    image_make(&image, *state, 3);
    for (off_t size = image.block_at; size <= image.size; size++) {
        image_again(&image);
        assert_int_equal(truncate(image.last, size), 0);
        struct journal *journal = kit_open(&image.to);
        bool whole = size == image.size;
        assert_int_equal(journal_id(journal), image.id);
        assert_int_equal(journal_next_seq(journal), whole ? image.next : image.last_block);
        assert_int_equal(kit_file_size(image.last), journal_bytes(journal));
        kit_write(journal, 2, 1);
        assert_int_equal(kit_drain_all(journal) + 1, journal_next_seq(journal));
        journal_close(&journal);
    }
    kit_dir_remove(&image.to);
}

static void make_header(const char *path, uint64_t first_seq)
{
    struct journal_segment_header header = {.format = JOURNAL_FORMAT, .first_seq = first_seq};
    unsigned char bytes[JOURNAL_SEGMENT_HEADER];
    journal_format_put_segment(bytes, &header);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, bytes, sizeof bytes), sizeof bytes);
    close(fd);
}

static void check_segment_header(const char *path, uint64_t first_seq)
{
    struct journal_segment_header header;
    unsigned char bytes[JOURNAL_SEGMENT_HEADER];
    if (access(path, F_OK) != 0)
        return; /* it goes on in the one before */
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, bytes, sizeof bytes), sizeof bytes);
    close(fd);
    assert_true(journal_format_get_segment(bytes, &header));
    assert_int_equal(header.first_seq, first_seq);
}

static void a_segment_that_was_not_born_is_made_again(void **state)
{
    struct image image;
    image_make(&image, *state, 2);
    char name[JOURNAL_NAME_MAX], path[512];
    journal_segment_name(name, image.next, ".seg");
    snprintf(path, sizeof path, "%s/%s", image.to.path, name);
    for (off_t size = 0; size <= JOURNAL_SEGMENT_HEADER; size += 16) {
        image_again(&image);
        make_header(path, image.next);
        assert_int_equal(truncate(path, size), 0);
        struct journal *journal = kit_open(&image.to);
        assert_int_equal(journal_id(journal), image.id);
        assert_int_equal(journal_next_seq(journal), image.next);
        kit_write(journal, 2, 1);
        assert_int_equal(kit_drain_all(journal) + 1, journal_next_seq(journal));
        journal_close(&journal);
        check_segment_header(path, image.next);
        unlink(path);
    }
    kit_dir_remove(&image.to);
}

static void damage_that_readers_may_have_passed_gives_a_new_id(void **state)
{
    struct image image;
    image_make(&image, *state, 3);
    for (off_t at = image.block_at; at < image.size; at += 7) {
        image_again(&image);
        kit_file_flip(image.last, at);
        struct journal *journal = kit_open(&image.to);
        assert_int_not_equal(journal_id(journal), image.id);
        assert_int_equal(journal_next_seq(journal), image.last_block);
        assert_int_equal(kit_drain_all(journal) + 1, image.last_block);
        journal_close(&journal);
    }
    kit_dir_remove(&image.to);
}

static void a_tail_lost_after_a_clean_close_gives_a_new_id_and_no_number_twice(void **state)
{
    struct journal *journal = kit_open(*state);
    kit_write(journal, 20, 1);
    uint64_t id = journal_id(journal), next = journal_next_seq(journal);
    journal_close(&journal);
    char path[512];
    kit_last_segment(*state, path);
    assert_int_equal(truncate(path, kit_file_size(path) - 10), 0);
    journal = kit_open(*state);
    assert_int_not_equal(journal_id(journal), id);
    assert_int_equal(journal_next_seq(journal), next);
    kit_write(journal, 5, 1);
    uint64_t end = journal_next_seq(journal);
    id = journal_id(journal);
    journal_close(&journal);
    journal = kit_open(*state);
    assert_int_equal(journal_id(journal), id);
    struct journal_reader *reader = journal_reader_new(journal);
    struct block *block;
    struct err err;
    enum journal_read result;
    while ((result = journal_reader_next(reader, 0, &block, &err)) == JOURNAL_BLOCK)
        block_unref(&block);
    assert_int_equal(result, JOURNAL_LOST); /* the hole is told */
    assert_int_equal(journal_reader_seq(reader), next);
    assert_int_equal(kit_drain(reader), end - next);
    journal_reader_free(&reader);
    journal_close(&journal);
}

/* ---- flipped bytes in the middle ---- */

struct tally {
    uint64_t read, lost;
    unsigned losses;
};

/* Reads to the end whatever comes; what is given is right, and all that is not given is told. */
static struct tally read_over_damage(struct journal *journal)
{
    struct tally tally = {0};
    struct journal_reader *reader = journal_reader_new(journal);
    struct block *block;
    struct err err;
    uint64_t seq = journal_reader_seq(reader);
    enum journal_read result;
    while ((result = journal_reader_next(reader, 0, &block, &err)) != JOURNAL_NOTHING) {
        if (result == JOURNAL_BLOCK) {
            kit_check_block(block);
            assert_int_equal(block->first_seq, seq);
            seq += block->n_events;
            tally.read += block->n_events;
            block_unref(&block);
        } else {
            assert_int_equal(result, JOURNAL_LOST);
            assert_true(journal_reader_seq(reader) > seq);
            tally.lost += journal_reader_seq(reader) - seq;
            tally.losses++;
            seq = journal_reader_seq(reader);
        }
    }
    journal_reader_free(&reader);
    assert_int_equal(seq, journal_next_seq(journal));
    return tally;
}

static void a_flipped_bit_costs_one_block_and_is_told(void **state)
{
    struct image image;
    image_make(&image, *state, 12);
    for (off_t at = JOURNAL_SEGMENT_HEADER; at < image.block_at; at += 3) {
        image_again(&image);
        kit_file_flip(image.last, at);
        struct journal *journal = kit_open(&image.to);
        assert_int_equal(journal_id(journal), image.id);
        assert_int_equal(journal_next_seq(journal), image.next);
        struct tally tally = read_over_damage(journal);
        assert_int_equal(tally.losses, 1);
        assert_in_range(tally.lost, 1, 6);
        journal_close(&journal);
    }
    kit_dir_remove(&image.to);
}

static void a_flipped_segment_header_costs_nothing(void **state)
{
    struct image image;
    image_make(&image, *state, 4);
    for (off_t at = 0; at < JOURNAL_SEGMENT_HEADER; at++) {
        image_again(&image);
        kit_file_flip(image.last, at);
        struct journal *journal = kit_open(&image.to);
        assert_int_equal(read_over_damage(journal).lost, 0);
        assert_int_equal(journal_next_seq(journal), image.next);
        journal_close(&journal);
    }
    kit_dir_remove(&image.to);
}

/* Several finished segments; closed. */
static size_t many_segments(const struct kit_dir *dir, char names[][64], size_t max)
{
    struct journal_options options = kit_options(dir);
    options.max_size = 8 * KIT_MIB;
    struct journal *journal = kit_open_with(&options);
    kit_pad = 2000;
    kit_write(journal, 2500, 3);
    journal_close(&journal);
    size_t n = kit_dir_list(dir, ".seg", names, max);
    assert_true(n >= 4);
    return n;
}

static void damage_in_older_segments_is_found_while_reading(void **state)
{
    const struct kit_dir *dir = *state;
    char names[64][64], path[512];
    size_t n = many_segments(dir, names, 64);
    for (size_t i = 0; i + 1 < n; i++) {
        snprintf(path, sizeof path, "%s/%.63s", dir->path, names[i]);
        kit_file_flip(path, kit_file_size(path) / 2);
    }
    snprintf(path, sizeof path, "%s/%.63s", dir->path, names[n - 2]);
    kit_file_flip(path, kit_file_size(path) - 5); /* the last block of a finished one */
    struct journal *journal = kit_open(dir);
    struct tally tally = read_over_damage(journal);
    assert_int_equal(tally.losses, n);
    assert_in_range(tally.lost, n, n * 12);
    journal_close(&journal);
}

static void a_missing_or_short_segment_is_told(void **state)
{
    const struct kit_dir *dir = *state;
    char names[64][64], path[512];
    many_segments(dir, names, 64);
    snprintf(path, sizeof path, "%s/%.63s", dir->path, names[1]);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/%.63s", dir->path, names[2]);
    assert_int_equal(truncate(path, kit_file_size(path) / 2), 0);
    struct journal *journal = kit_open(dir);
    assert_int_equal(read_over_damage(journal).losses, 2);
    journal_close(&journal);
    /* And while it is open, behind the ring. */
    journal = kit_open(dir);
    snprintf(path, sizeof path, "%s/%.63s", dir->path, names[0]);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(read_over_damage(journal).losses, 2);
    journal_close(&journal);
}

static void indexes_are_made_again(void **state)
{
    const struct kit_dir *dir = *state;
    char names[64][64], path[512];
    many_segments(dir, names, 64);
    size_t n = kit_dir_list(dir, ".idx", names, 64);
    assert_true(n >= 3);
    snprintf(path, sizeof path, "%s/%.63s", dir->path, names[0]);
    unlink(path);
    snprintf(path, sizeof path, "%s/%.63s", dir->path, names[1]);
    off_t size = kit_file_size(path);
    kit_file_flip(path, size - 3);
    snprintf(path, sizeof path, "%s/%.63s", dir->path, names[2]);
    assert_int_equal(truncate(path, size / 2), 0);
    struct journal *journal = kit_open(dir);
    assert_int_equal(read_over_damage(journal).lost, 0);
    journal_close(&journal);
    assert_int_equal(kit_dir_list(dir, ".idx", names, 64), n);
    for (size_t i = 0; i < n; i++) {
        uint64_t seq;
        struct journal_index_summary summary;
        int fd = open(dir->path, O_RDONLY | O_DIRECTORY);
        assert_true(journal_segment_parse(names[i], ".idx", &seq));
        assert_true(journal_segment_load_index(fd, seq, &summary, NULL));
        close(fd);
    }
}

/* ---- who it is ---- */

static void a_crash_of_the_machine_gives_a_new_id_and_the_numbers_go_on(void **state)
{
    struct image image;
    image_make(&image, *state, 5);
    struct journal_options options = kit_options(&image.to);
    options.boot_id = "boot-2";
    struct journal *journal = kit_open_with(&options);
    assert_int_not_equal(journal_id(journal), image.id);
    assert_int_equal(journal_next_seq(journal), image.next);
    assert_int_equal(kit_drain_all(journal) + 1, image.next);
    uint64_t id = journal_id(journal);
    journal_close(&journal);
    options.boot_id = "boot-3";
    journal = kit_open_with(&options);
    assert_int_equal(journal_id(journal), id);
    journal_close(&journal);
    kit_dir_remove(&image.to);
}

static void a_lost_or_damaged_meta_gives_a_new_id(void **state)
{
    struct image image;
    image_make(&image, *state, 5);
    char path[512];
    snprintf(path, sizeof path, "%s/meta", image.to.path);
    off_t size = kit_file_size(path);
    for (off_t at = -1; at < size - 1; at += 5) {
        image_again(&image);
        if (at < 0)
            unlink(path);
        else if (at >= 8)
            kit_file_flip(path, at); /* a flip in the format's number is a newer format */
        struct journal *journal = kit_open(&image.to);
        if (at < 0 || at >= 8)
            assert_int_not_equal(journal_id(journal), image.id);
        assert_int_equal(journal_next_seq(journal), image.next);
        journal_close(&journal);
    }
    kit_dir_remove(&image.to);
}

static void check_refused(const struct kit_dir *dir, const char *what)
{
    struct journal_options options = kit_options(dir);
    struct journal *journal;
    struct err err = {0};
    assert_int_equal(journal_open(&journal, &options, &err), -1);
    assert_null(journal);
    assert_int_equal(err.kind, ERR_FATAL);
    if (strstr(err.msg, what) == NULL || strstr(err.msg, dir->path) == NULL)
        fail_msg("%s", err.msg);
}

static void a_newer_format_is_refused(void **state)
{
    const struct kit_dir *dir = *state;
    struct journal *journal = kit_open(dir);
    journal_close(&journal);
    char path[512];
    snprintf(path, sizeof path, "%s/meta", dir->path);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "format=9", 8, 0), 8);
    close(fd);
    check_refused(dir, "written by a newer busbar (format 9, this one reads up to 2)");
    unlink(path);
    kit_last_segment(dir, path);
    struct journal_segment_header header = {.format = JOURNAL_FORMAT + 1, .first_seq = 1};
    unsigned char bytes[JOURNAL_SEGMENT_HEADER];
    journal_format_put_segment(bytes, &header);
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 0), sizeof bytes);
    close(fd);
    check_refused(dir, "written by a newer busbar (format 3, this one reads up to 2)");
}

static void two_cannot_have_it_at_once(void **state)
{
    const struct kit_dir *dir = *state;
    struct journal *journal = kit_open(dir);
    char what[64];
    snprintf(what, sizeof what, "in use by another process (pid %d)", (int)getpid());
    check_refused(dir, what);
    kit_write(journal, 5, 1);
    journal_close(&journal);
    journal = kit_open(dir);
    journal_close(&journal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(keeps_what_was_committed_through_kill_9),
        KIT_TEST(goes_on_through_many_kills),
        KIT_TEST(cuts_a_torn_block_wherever_it_was_torn),
        KIT_TEST(a_segment_that_was_not_born_is_made_again),
        KIT_TEST(damage_that_readers_may_have_passed_gives_a_new_id),
        KIT_TEST(a_tail_lost_after_a_clean_close_gives_a_new_id_and_no_number_twice),
        KIT_TEST(a_flipped_bit_costs_one_block_and_is_told),
        KIT_TEST(a_flipped_segment_header_costs_nothing),
        KIT_TEST(damage_in_older_segments_is_found_while_reading),
        KIT_TEST(a_missing_or_short_segment_is_told),
        KIT_TEST(indexes_are_made_again),
        KIT_TEST(a_crash_of_the_machine_gives_a_new_id_and_the_numbers_go_on),
        KIT_TEST(a_lost_or_damaged_meta_gives_a_new_id),
        KIT_TEST(a_newer_format_is_refused),
        KIT_TEST(two_cannot_have_it_at_once),
    };
    log_setup(LOG_LOGFMT, LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
