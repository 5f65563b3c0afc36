/* test_journal.c - the journal when nothing goes wrong. */
#include "tests/unit/test_journal_kit.h"

#include "bridge/base/clock.h"
#include "bridge/journal_internal.h"
#include "tests/unit/stopwatch.h"

#include <pthread.h>

static void gives_back_every_byte_of_what_was_appended(void **state)
{
    struct journal *journal = kit_open(*state);
    kit_write(journal, 500, 7);
    struct journal_reader *reader = journal_reader_new(journal);
    assert_int_equal(kit_drain(reader) + 1, journal_next_seq(journal));
    journal_reader_free(&reader);
    journal_close(&journal);
}

static void shows_a_block_only_after_commit(void **state)
{
    struct journal *journal = kit_open(*state);
    struct err err;
    struct block *block;
    struct journal_reader *reader = journal_reader_new(journal);
    assert_true(kit_append(journal, 1, &err) > 0);
    assert_int_equal(journal_next_seq(journal), 1);
    assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_NOTHING);
    assert_int_equal(journal_commit(journal, &err), 0);
    assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
    block_unref(&block);
    journal_reader_free(&reader);
    journal_close(&journal);
}

static void writes_a_block_by_itself_when_it_is_large(void **state)
{
    struct journal *journal = kit_open(*state);
    struct err err;
    kit_pad = 8000;
    for (uint64_t seq = 1; seq < 1000;)
        seq += kit_append(journal, seq, &err);
    assert_true(journal_next_seq(journal) > 900);
    journal_commit(journal, &err);
    struct journal_reader *reader = journal_reader_new(journal);
    struct block *block;
    assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
    assert_in_range(block->bytes, 200 * 1024, 300 * 1024);
    block_unref(&block);
    kit_drain(reader);
    journal_reader_free(&reader);
    journal_close(&journal);
}

static void takes_a_message_larger_than_a_block_and_one_that_is_empty(void **state)
{
    struct journal *journal = kit_open(*state);
    struct err err;
    size_t size = 3 * KIT_MIB;
    char *raw = malloc(size);
    memset(raw, 'x', size);
    struct event event = {.data = {raw, size}, .topic = STR("Job"), .index = 1, .pos_index = 1};
    assert_int_equal(journal_append(journal, (struct str){raw, size}, 1000, &event, 1, &err), 0);
    event.data = (struct str){NULL, 0};
    assert_int_equal(journal_append(journal, (struct str){NULL, 0}, 2000, &event, 1, &err), 0);
    assert_int_equal(journal_commit(journal, &err), 0);
    journal_close(&journal);
    journal = kit_open(*state);
    struct journal_reader *reader = journal_reader_new(journal);
    struct block *block;
    assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
    assert_int_equal(block->events[0].data.len, size);
    assert_memory_equal(block->events[0].data.p, raw, size);
    block_unref(&block);
    assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
    assert_int_equal(block->messages[0].raw.len, 0);
    assert_int_equal(block->events[0].arrival_us, 2000);
    block_unref(&block);
    journal_reader_free(&reader);
    journal_close(&journal);
    free(raw);
}

static void goes_on_after_reopening_with_id_and_numbers(void **state)
{
    struct journal *journal = kit_open(*state);
    uint64_t id = journal_id(journal);
    kit_write(journal, 100, 3);
    uint64_t next = journal_next_seq(journal);
    struct journal_tail tail = journal_tail(journal);
    uint64_t bytes = journal_bytes(journal);
    journal_close(&journal);
    struct journal_options options = kit_options(*state);
    options.boot_id = "boot-2"; /* closed cleanly: the machine may go down in between */
    journal = kit_open_with(&options);
    assert_int_equal(journal_id(journal), id);
    assert_int_equal(journal_next_seq(journal), next);
    assert_int_equal(journal_bytes(journal), bytes);
    assert_int_equal(journal_tail(journal).pos_index, tail.pos_index);
    assert_int_equal(journal_tail(journal).ordinal, tail.ordinal);
    assert_int_equal(journal_tail(journal).arrival_us, tail.arrival_us);
    kit_write(journal, 100, 3);
    assert_int_equal(kit_drain_all(journal) + 1, journal_next_seq(journal));
    journal_close(&journal);
}

static void an_empty_journal_says_so(void **state)
{
    struct journal *journal = kit_open(*state);
    assert_int_equal(journal_first_seq(journal), 1);
    assert_int_equal(journal_next_seq(journal), 1);
    assert_int_equal(journal_tail(journal).arrival_us, 0);
    struct journal_reader *reader = journal_reader_new(journal);
    struct block *block;
    struct err err;
    assert_int_equal(journal_reader_next(reader, 1, &block, &err), JOURNAL_NOTHING);
    journal_reader_seek_arrival(reader, 5);
    assert_int_equal(journal_reader_seq(reader), 1);
    journal_reader_seek_index(reader, 0);
    assert_int_equal(journal_reader_seq(reader), 1);
    journal_reader_free(&reader);
    journal_close(&journal);
    journal_close(&journal); /* NULL is fine */
}

static void readers_at_the_tail_share_the_writers_block(void **state)
{
    struct journal *journal = kit_open(*state);
    struct journal_reader *a = journal_reader_new(journal), *b = journal_reader_new(journal);
    kit_write(journal, 10, 100);
    struct block *x, *y;
    struct err err;
    assert_int_equal(journal_reader_next(a, 0, &x, &err), JOURNAL_BLOCK);
    assert_int_equal(journal_reader_next(b, 0, &y, &err), JOURNAL_BLOCK);
    assert_ptr_equal(x, y);
    block_unref(&x);
    block_unref(&y);
    block_unref(&y); /* NULL inside is fine */
    journal_reader_free(&a);
    journal_reader_free(&b);
    journal_close(&journal);
}

static void a_block_outlives_reader_and_segment(void **state)
{
    struct journal *journal = kit_open(*state);
    kit_write(journal, 10, 100);
    struct journal_reader *reader = journal_reader_new(journal);
    struct block *block;
    struct err err;
    assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
    struct block *again = block_ref(block);
    block_unref(&block);
    journal_reader_free(&reader);
    journal_close(&journal);
    kit_check_block(again);
    block_unref(&again);
}

/* From any event on, by number, on disk and in memory. */
static void check_seek(struct journal *journal, struct journal_reader *reader, uint64_t seq)
{
    struct block *block;
    struct err err;
    journal_reader_seek(reader, seq);
    assert_int_equal(journal_reader_seq(reader), seq);
    enum journal_read result = journal_reader_next(reader, 0, &block, &err);
    if (seq >= journal_next_seq(journal)) {
        assert_int_equal(result, JOURNAL_NOTHING);
        return;
    }
    assert_int_equal(result, JOURNAL_BLOCK);
    assert_in_range(seq, block->first_seq, block->first_seq + block->n_events - 1);
    kit_check_block(block);
    block_unref(&block);
}

static struct journal *of_many_segments(void **state, uint64_t n)
{
    struct journal_options options = kit_options(*state);
    options.max_size = 8 * KIT_MIB; /* segments of 512 KiB */
    struct journal *journal = kit_open_with(&options);
    kit_pad = 1000;
    kit_write(journal, n, 5);
    return journal;
}

static void check_seeks(struct journal *journal)
{
    struct journal_reader *reader = journal_reader_new(journal);
    uint64_t next = journal_next_seq(journal);
    for (uint64_t i = 0; i < 500; i++)
        check_seek(journal, reader, 1 + kit_mix(i) % (next + 2));
    for (uint64_t i = next - 20; i < next + 2; i++)
        check_seek(journal, reader, i);
    journal_reader_free(&reader);
}

static void finds_any_number(void **state)
{
    struct journal *journal = of_many_segments(state, 4000);
    check_seeks(journal);
    journal_close(&journal);
    struct journal_options options = kit_options(*state);
    journal = kit_open_with(&options); /* nothing in memory now */
    check_seeks(journal);
    assert_int_equal(kit_drain_all(journal) + 1, journal_next_seq(journal));
    journal_close(&journal);
}

static void check_arrival(struct journal *journal, struct journal_reader *reader, int64_t arrival)
{
    struct block *block;
    struct err err;
    journal_reader_seek_arrival(reader, arrival);
    uint64_t seq = journal_reader_seq(reader);
    if (arrival > journal_tail(journal).arrival_us) {
        assert_int_equal(seq, journal_next_seq(journal));
        return;
    }
    assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
    const struct event *event = &block->events[seq - block->first_seq];
    assert_true(event->arrival_us >= arrival);
    if (event > block->events)
        assert_true(event[-1].arrival_us < arrival);
    block_unref(&block);
    if (seq > 1) {
        journal_reader_seek(reader, seq - 1);
        assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
        assert_true(block->events[seq - 1 - block->first_seq].arrival_us < arrival);
        block_unref(&block);
    }
}

static void check_index(struct journal *journal, struct journal_reader *reader, uint64_t index)
{
    struct block *block;
    struct err err;
    journal_reader_seek_index(reader, index);
    uint64_t seq = journal_reader_seq(reader);
    if (index > journal_tail(journal).pos_index) {
        assert_int_equal(seq, journal_next_seq(journal));
        return;
    }
    assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
    assert_int_equal(seq, block->first_seq);
    assert_true(block->events[block->n_events - 1].pos_index >= index);
    block_unref(&block);
    if (seq > 1) {
        journal_reader_seek(reader, seq - 1);
        assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
        assert_true(block->events[block->n_events - 1].pos_index < index);
        block_unref(&block);
    }
}

static void check_other_seeks(struct journal *journal)
{
    struct journal_reader *reader = journal_reader_new(journal);
    uint64_t next = journal_next_seq(journal);
    for (uint64_t i = 0; i < 300; i++) {
        check_arrival(journal, reader,
                      kit_arrival(0) + (int64_t)(kit_mix(i) % (next * 10 + 30)) - 5);
        check_index(journal, reader, kit_mix(i + 1000) % (next / 3 + 110));
    }
    check_arrival(journal, reader, 0);
    check_arrival(journal, reader, journal_tail(journal).arrival_us);
    check_arrival(journal, reader, journal_tail(journal).arrival_us + 1);
    check_index(journal, reader, 0);
    check_index(journal, reader, journal_tail(journal).pos_index);
    journal_reader_free(&reader);
}

static void finds_any_arrival_and_index(void **state)
{
    struct journal *journal = of_many_segments(state, 4000);
    check_other_seeks(journal);
    journal_close(&journal);
    struct journal_options options = kit_options(*state);
    journal = kit_open_with(&options);
    check_other_seeks(journal);
    journal_close(&journal);
}

static void finds_an_index_that_begins_before_the_memory(void **state)
{
    struct journal_options options = kit_options(*state);
    struct journal *journal = kit_open_with(&options);
    journal->ring.bytes_max = 20000;
    struct journal_reader *reader = journal_reader_new(journal);
    for (int i = 0; i < 50; i++) {
        kit_write(journal, 40, 1);
        uint64_t first = journal_ring_first_seq(&journal->ring);
        for (uint64_t seq = first > 10 ? first - 10 : 1; seq < first + 10; seq++) {
            check_index(journal, reader, 100 + seq / 3);
            check_arrival(journal, reader, kit_arrival(seq));
            check_seek(journal, reader, seq);
        }
    }
    journal_reader_free(&reader);
    journal_close(&journal);
}

static void past_the_end_it_waits_for_that_number(void **state)
{
    struct journal *journal = kit_open(*state);
    kit_write(journal, 10, 1);
    struct journal_reader *reader = journal_reader_new(journal);
    uint64_t wanted = journal_next_seq(journal) + 20;
    journal_reader_seek(reader, wanted);
    struct block *block;
    struct err err;
    kit_write(journal, 5, 1);
    assert_int_equal(journal_reader_next(reader, 5, &block, &err), JOURNAL_NOTHING);
    kit_write(journal, 30, 1);
    assert_int_equal(journal_reader_next(reader, 5, &block, &err), JOURNAL_BLOCK);
    assert_in_range(wanted, block->first_seq, block->first_seq + block->n_events - 1);
    block_unref(&block);
    journal_reader_free(&reader);
    journal_close(&journal);
}

static void keeps_as_much_in_memory_as_it_is_given(void **state)
{
    struct journal_options options = kit_options(*state);
    const struct {
        uint64_t given;
        size_t kept;
    } rows[] = {{2 * KIT_MIB, 2 * KIT_MIB},
                {1, JOURNAL_RING_BYTES_LEAST},
                {64 * KIT_MIB, JOURNAL_RING_BYTES},
                {0, JOURNAL_RING_BYTES}};
    kit_pad = 4000;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        options.ring_bytes = rows[i].given;
        struct journal *journal = kit_open_with(&options);
        struct journal_reader *reader = journal_reader_new(journal);
        for (int k = 0; k < 100; k++) /* past 8 MiB */
            kit_write(journal, 50, 1);
        assert_in_range(journal->ring.bytes, rows[i].kept - KIT_MIB / 2, rows[i].kept);
        assert_int_equal(kit_drain(reader), journal_next_seq(journal) - 1);
        journal_reader_free(&reader);
        journal_close(&journal);
    }
}

static void deletes_the_oldest_and_tells_who_wanted_them(void **state)
{
    struct journal_options options = kit_options(*state);
    options.max_size = KIT_MIB;
    struct journal *journal = kit_open_with(&options);
    kit_pad = 4000;
    kit_write(journal, 50, 5);
    journal_close(&journal);
    journal = kit_open_with(&options); /* so that the first blocks are in no ring */
    struct journal_reader *behind = journal_reader_new(journal);
    struct journal_reader *keeps_up = journal_reader_new(journal);
    struct block *held, *block;
    struct err err;
    assert_int_equal(journal_reader_next(behind, 0, &held, &err), JOURNAL_BLOCK);
    uint64_t read = kit_drain(keeps_up) + 1;
    for (int i = 0; i < 300; i++) { /* past 8 MiB of ring */
        kit_write(journal, 50, 5);
        read += kit_drain(keeps_up);
        assert_in_range(journal_bytes(journal), 1, options.max_size);
    }
    assert_int_equal(read, journal_next_seq(journal));
    assert_in_range(journal->ring.bytes, JOURNAL_RING_BYTES / 2, JOURNAL_RING_BYTES);
    assert_true(journal_first_seq(journal) > 1);
    assert_int_equal(journal_reader_next(behind, 0, &block, &err), JOURNAL_LOST);
    assert_int_equal(journal_reader_seq(behind), journal_first_seq(journal));
    assert_int_equal(kit_drain(behind), journal_next_seq(journal) - journal_first_seq(journal));
    kit_check_block(held);
    block_unref(&held);
    journal_reader_seek(behind, 1);
    assert_int_equal(journal_reader_next(behind, 0, &block, &err), JOURNAL_LOST);
    journal_reader_free(&behind);
    journal_reader_free(&keeps_up);
    journal_close(&journal);
    char names[64][64];
    assert_in_range(kit_dir_list(*state, ".seg", names, 64), 2, 5);
    assert_in_range(kit_dir_list(*state, ".idx", names, 64), 1, 4);
}

static void deletes_by_age_only_what_every_sink_has_passed(void **state)
{
    struct journal_options options = kit_options(*state);
    options.max_size = 4 * KIT_MIB;
    options.max_age_ms = 1000; /* the kit's events are of 2023 */
    struct journal *journal = kit_open_with(&options);
    kit_pad = 4000;
    kit_write(journal, 500, 5);
    uint64_t bytes = journal_bytes(journal);
    struct err err;
    assert_int_equal(journal_tick(journal, &err), 0);
    assert_int_equal(journal_first_seq(journal), 1);
    assert_int_equal(journal_bytes(journal), bytes);
    journal_set_passed(journal, 200);
    assert_int_equal(journal_tick(journal, &err), 0);
    uint64_t first = journal_first_seq(journal);
    assert_in_range(first, 2, 200);
    journal_set_passed(journal, journal_next_seq(journal));
    assert_int_equal(journal_tick(journal, &err), 0);
    assert_int_equal(journal_first_seq(journal), journal_next_seq(journal));
    uint64_t next = journal_next_seq(journal);
    struct journal_tail tail = journal_tail(journal);
    journal_close(&journal);
    journal = kit_open_with(&options); /* an empty one still knows where it was */
    assert_int_equal(journal_next_seq(journal), next);
    assert_int_equal(journal_tail(journal).arrival_us, tail.arrival_us);
    assert_int_equal(journal_tail(journal).pos_index, tail.pos_index);
    kit_write(journal, 5, 5);
    assert_int_equal(kit_drain_all(journal), journal_next_seq(journal) - next);
    journal_close(&journal);
}

static void keeps_what_is_not_old_enough(void **state)
{
    struct journal_options options = kit_options(*state);
    options.max_age_ms = INT64_C(100) * 365 * 86400 * 1000;
    options.max_size = 4 * KIT_MIB;
    struct journal *journal = kit_open_with(&options);
    kit_pad = 4000;
    kit_write(journal, 500, 5);
    journal_set_passed(journal, journal_next_seq(journal));
    struct err err;
    assert_int_equal(journal_tick(journal, &err), 0);
    assert_int_equal(journal_first_seq(journal), 1);
    journal_close(&journal);
}

static void count_call(void *arg)
{
    ++*(int *)arg;
}

static void on_commit_is_called_after_each(void **state)
{
    struct journal *journal = kit_open(*state);
    int calls = 0;
    journal_on_commit(journal, count_call, &calls);
    struct err err;
    assert_int_equal(journal_commit(journal, &err), 0);
    assert_int_equal(calls, 0);
    kit_write(journal, 5, 1000);
    assert_int_equal(calls, 1);
    journal_close(&journal);
}

struct waiter {
    struct journal_reader *reader;
    enum journal_read result;
};

static void *wait_long(void *arg)
{
    struct waiter *waiter = arg;
    struct block *block;
    struct err err;
    waiter->result = journal_reader_next(waiter->reader, 10000, &block, &err);
    block_unref(&block);
    return NULL;
}

static void a_waiting_reader_wakes_for_news_and_for_the_end(void **state)
{
    struct journal *journal = kit_open(*state);
    struct waiter waiter = {.reader = journal_reader_new(journal)};
    pthread_t thread;
    struct stopwatch start = stopwatch_start();
    pthread_create(&thread, NULL, wait_long, &waiter);
    usleep(20000);
    kit_write(journal, 1, 1);
    pthread_join(thread, NULL);
    assert_int_equal(waiter.result, JOURNAL_BLOCK);
    pthread_create(&thread, NULL, wait_long, &waiter);
    usleep(20000);
    journal_wake_stop(journal);
    pthread_join(thread, NULL);
    assert_int_equal(waiter.result, JOURNAL_STOPPED);
    wait_long(&waiter);
    assert_int_equal(waiter.result, JOURNAL_STOPPED);
    assert_took(&start, 0, 9000);
    journal_reader_free(&waiter.reader);
    journal_close(&journal);
}

static void costs_about_a_hundred_bytes_an_event_at_most(void **state)
{
    struct journal *journal = kit_open(*state);
    char raw[2000];
    memset(raw, 'x', sizeof raw);
    struct err err;
    uint64_t before = journal_bytes(journal);
    for (int i = 0; i < 1000; i++) {
        struct event event = {
            .data = {raw + 20, 1900},
            .topic = STR("Allocation"),
            .type = STR("AllocationUpdated"),
            .key = {raw + 100, 36},
            .ns = STR("default"),
            .index = 5,
            .pos_index = 5,
        };
        int64_t arrival = 1000 + i;
        journal_append(journal, (struct str){raw, sizeof raw}, arrival, &event, 1, &err);
        if (i % 100 == 99)
            journal_commit(journal, &err);
    }
    uint64_t overhead = (journal_bytes(journal) - before) / 1000 - sizeof raw;
    assert_in_range(overhead, 50, 110);
    journal_close(&journal);
}

static void makes_its_directory_with_parents(void **state)
{
    const struct kit_dir *dir = *state;
    char path[256], parent[256];
    snprintf(parent, sizeof parent, "%s/a", dir->path);
    snprintf(path, sizeof path, "%s/a/b", dir->path);
    struct journal_options options = kit_options(*state);
    options.dir = path;
    struct journal *journal = kit_open_with(&options);
    kit_write(journal, 5, 1);
    journal_close(&journal);
    struct kit_dir inner;
    snprintf(inner.path, sizeof inner.path, "%.120s", path);
    kit_dir_remove(&inner);
    rmdir(parent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(gives_back_every_byte_of_what_was_appended),
        KIT_TEST(shows_a_block_only_after_commit),
        KIT_TEST(writes_a_block_by_itself_when_it_is_large),
        KIT_TEST(takes_a_message_larger_than_a_block_and_one_that_is_empty),
        KIT_TEST(goes_on_after_reopening_with_id_and_numbers),
        KIT_TEST(an_empty_journal_says_so),
        KIT_TEST(readers_at_the_tail_share_the_writers_block),
        KIT_TEST(a_block_outlives_reader_and_segment),
        KIT_TEST(finds_any_number),
        KIT_TEST(finds_any_arrival_and_index),
        KIT_TEST(finds_an_index_that_begins_before_the_memory),
        KIT_TEST(past_the_end_it_waits_for_that_number),
        KIT_TEST(keeps_as_much_in_memory_as_it_is_given),
        KIT_TEST(deletes_the_oldest_and_tells_who_wanted_them),
        KIT_TEST(deletes_by_age_only_what_every_sink_has_passed),
        KIT_TEST(keeps_what_is_not_old_enough),
        KIT_TEST(on_commit_is_called_after_each),
        KIT_TEST(a_waiting_reader_wakes_for_news_and_for_the_end),
        KIT_TEST(costs_about_a_hundred_bytes_an_event_at_most),
        KIT_TEST(makes_its_directory_with_parents),
    };
    log_setup(LOG_LOGFMT, LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
