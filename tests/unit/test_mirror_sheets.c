/* test_mirror_sheets.c - what followers who want the same share: each message is looked at once. */
#include "connectors/mirror/sheets.h"
#include "tests/unit/check.h"
#include "tests/unit/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20 };

struct rig {
    char *dir;
    struct journal *journal;
    struct mirror_source source;
    struct feed feed;
    struct sheets sheets;
    struct group groups[2];
    struct crowd crowds[2];
    uint64_t next; /* seq */
};

static size_t composed; /* how often a message was looked at */

static size_t compose(struct buf *out, struct feed *feed, const struct filter *filter,
                      const struct block *block, const struct journal_message *message)
{
    (void)feed;
    composed++;
    if (!filter_match(filter, &block->events[message->first_event]))
        return 0;
    buf_append_str(out, message->raw);
    buf_append_char(out, '\n');
    return 1;
}

static int set_up_of(void **state, uint64_t max_size)
{
    struct rig *r = mem_zalloc(sizeof *r);
    r->dir = scratch_dir();
    r->journal = scratch_journal(r->dir, max_size);
    r->source = (struct mirror_source){.name = "prod", .journal = r->journal};
    r->feed = (struct feed){.sources = &r->source, .n_sources = 1};
    r->sheets.feed = &r->feed;
    for (size_t i = 0; i < 2; i++)
        r->crowds[i] = (struct crowd){.group = &r->groups[i], .compose = compose};
    r->next = 1;
    composed = 0;
    *state = r;
    return 0;
}

static int set_up(void **state)
{
    return set_up_of(state, 64 * MIB);
}

static int set_up_small(void **state)
{
    return set_up_of(state, 8 * MIB);
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    for (size_t i = 0; i < 2; i++) {
        sheets_drop(&r->sheets, &r->crowds[i]);
        filter_free(&r->groups[i].wish.filter);
    }
    assert_int_equal(0, r->sheets.bytes);
    journal_close(&r->journal);
    scratch_remove(r->dir);
    free(r);
    return 0;
}

/* So many messages, a commit each ten; every tenth is of the type Rare. */
static void say(struct rig *r, size_t n, size_t padding)
{
    struct err err;
    struct buf raw = {0};
    for (size_t i = 0; i < n; i++, r->next++) {
        buf_clear(&raw);
        buf_printf(&raw, "n=%zu %0*d", (size_t)r->next, (int)padding, 0);
        struct event event = {.type = r->next % 10 == 0 ? STR("Rare") : STR("Often"),
                              .data = buf_str(&raw),
                              .index = r->next,
                              .pos_index = r->next};
        int64_t arrival_us = (int64_t)r->next * 10;
        assert_int_equal(0, journal_append(r->journal, buf_str(&raw), arrival_us, &event, 1, &err));
        if (i % 10 == 9 || i + 1 == n)
            assert_int_equal(0, journal_commit(r->journal, &err));
    }
    buf_fini(&raw);
}

static void want_rare(struct rig *r, size_t crowd)
{
    struct filter *filter = filter_new();
    filter_add_type(filter, STR("Rare"));
    r->groups[crowd].wish.filter = filter;
}

static enum sheets_loaded load(struct rig *r, uint64_t *seq)
{
    return sheets_load(&r->sheets, &r->crowds[0], seq, r->next);
}

static void loads(struct rig *r, uint64_t seq)
{
    uint64_t asked = seq;
    assert_int_equal(SHEETS_LOADED, load(r, &seq));
    assert_int_equal(asked, seq);
}

/* All new blocks, to a crowd. */
static void tell(struct rig *r, size_t crowd, uint64_t from)
{
    struct journal_reader *reader = journal_reader_new(r->journal);
    struct block *block;
    struct err err;
    journal_reader_seek(reader, from);
    while (journal_reader_next(reader, 0, &block, &err) == JOURNAL_BLOCK) {
        sheets_tell(&r->sheets, &r->crowds[crowd], block);
        block_unref(&block);
    }
    journal_reader_free(&reader);
}

static void a_stretch_is_read_once_for_all_who_are_at_it(void **state)
{
    struct rig *r = *state;
    say(r, 100, 100);
    loads(r, 1);
    assert_int_equal(100, composed);
    for (uint64_t seq = 1; seq < r->next; seq++) {
        const struct sheet *sheet = sheets_find(&r->sheets, &r->crowds[0], seq);
        assert_ptr_equal(r->crowds[0].sheets, sheet);
        size_t line = sheet_place(sheet, seq);
        assert_int_equal(seq, sheet->lines[line].seq);
        assert_int_equal(seq, strtol(sheet->text.p + sheet->lines[line].start + 2, NULL, 10));
        assert_int_equal('\n', sheet->text.p[sheet_line_end(sheet, line) - 1]);
    }
    assert_null(sheets_find(&r->sheets, &r->crowds[0], r->next));
    assert_null(sheets_find(&r->sheets, &r->crowds[1], 1)); /* who want something else */
    assert_int_equal(100, composed);
}

static void what_is_new_is_looked_at_where_somebody_waits(void **state)
{
    struct rig *r = *state;
    want_rare(r, 0);
    r->crowds[0].asleep = 1;
    say(r, 9, 10);
    tell(r, 0, 1);
    tell(r, 1, 1); /* of which nobody waits */
    assert_int_equal(9, composed);
    assert_int_equal(0, r->crowds[0].news_seq);
    assert_null(r->crowds[1].sheets);
    say(r, 21, 10);
    tell(r, 0, 10);
    assert_int_equal(30, composed);
    assert_int_equal(10, r->crowds[0].news_seq);
    const struct sheet *sheet = sheets_find(&r->sheets, &r->crowds[0], 10);
    assert_int_equal(3, sheet->n);
    assert_null(sheet->next);
    assert_int_equal(1, sheet->from_seq);
    assert_int_equal(31, sheet->end_seq);
    r->crowds[0].asleep = 0; /* who is on it yet needs no other, once it is full */
    say(r, 300, 1000);
    tell(r, 0, 31);
    assert_ptr_equal(sheet, r->crowds[0].sheets);
}

static void a_stretch_ends_where_the_next_one_begins(void **state)
{
    struct rig *r = *state;
    say(r, 100, 10);
    loads(r, 55);
    loads(r, 1);
    assert_int_equal(100, composed);
    assert_int_equal(55, sheets_find(&r->sheets, &r->crowds[0], 54)->end_seq);
    assert_int_equal(101, sheets_find(&r->sheets, &r->crowds[0], 55)->end_seq);
}

static void some_mib_are_kept_of_what_was_used_last(void **state)
{
    struct rig *r = *state;
    say(r, 20 * 1024, 1024);
    for (uint64_t seq = 1; seq < r->next; seq = r->crowds[0].sheets->end_seq) {
        loads(r, seq);
        assert_true(r->sheets.bytes < 9 * MIB);
        if (seq > 1)
            assert_non_null(sheets_find(&r->sheets, &r->crowds[0], 1)); /* in use all the time */
    }
    assert_int_equal(20 * 1024, composed);
    assert_true(r->sheets.bytes > 7 * MIB);
    assert_null(sheets_find(&r->sheets, &r->crowds[0], 1024));
    assert_non_null(sheets_find(&r->sheets, &r->crowds[0], r->next - 1));
}

static void what_was_pruned_says_where_it_goes_on(void **state)
{
    struct rig *r = *state;
    say(r, 20 * 1024, 1024);
    uint64_t seq = 1, first = journal_first_seq(r->journal);
    assert_true(first > 1);
    assert_int_equal(SHEETS_LOST, load(r, &seq));
    assert_int_equal(first, seq);
    assert_null(r->crowds[0].sheets);
    loads(r, seq);
}

#define WITH(test, setup) cmocka_unit_test_setup_teardown(test, setup, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_stretch_is_read_once_for_all_who_are_at_it, set_up),
        WITH(what_is_new_is_looked_at_where_somebody_waits, set_up),
        WITH(a_stretch_ends_where_the_next_one_begins, set_up),
        WITH(some_mib_are_kept_of_what_was_used_last, set_up),
        WITH(what_was_pruned_says_where_it_goes_on, set_up_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
