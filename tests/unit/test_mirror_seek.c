/* test_mirror_seek.c - where a client begins, against a look at everything the journal holds. */
#include "connectors/mirror/seek.h"
#include "tests/unit/nomad_lines_kit.h"
#include "tests/unit/scratch.h"

enum { TOLD_MAX = 4000 };

/* A message that was told, as the journal has it. */
struct told {
    uint64_t seq, index;
    uint32_t epoch;
};

struct rig {
    char *dir;
    struct journal *journal;
    struct told told[TOLD_MAX];
    size_t n;
    int64_t arrival;
    uint64_t pos_index;
    uint32_t ordinal;
    uint32_t random;
    uint64_t seq; /* of the next event */
};

static uint32_t draw(struct rig *r, uint32_t below)
{
    r->random = r->random * 1664525 + 1013904223;
    return (r->random >> 8) % below;
}

static void open_rig(struct rig *r, uint64_t max_size, uint32_t seed)
{
    *r = (struct rig){.dir = scratch_dir(), .random = seed, .seq = 1};
    r->journal = scratch_journal(r->dir, max_size);
}

static void close_rig(struct rig *r)
{
    journal_close(&r->journal);
    scratch_remove(r->dir);
}

static void say(struct rig *r, uint64_t index, uint32_t epoch, struct line_event of, size_t n)
{
    struct line_event events[LINE_EVENTS_MAX];
    struct line_message m;
    struct err err;
    for (size_t i = 0; i < n; i++)
        events[i] = of;
    line_make(&m, index, epoch, events, n);
    for (size_t i = 0; i < n; i++) {
        bool rises = of.origin == EVENT_SOURCE && index > r->pos_index;
        r->pos_index = rises ? index : r->pos_index;
        r->ordinal = rises ? 0 : r->ordinal + 1;
        m.events[i].pos_index = r->pos_index;
        m.events[i].ordinal = r->ordinal;
    }
    r->arrival += 100;
    assert_int_equal(0, journal_append(r->journal, buf_str(&m.raw), r->arrival, m.events, n, &err));
    if (of.origin == EVENT_SOURCE && !of.repeat)
        r->told[r->n++] = (struct told){r->seq, index, epoch};
    r->seq += n;
    line_free(&m);
}

static void commit(struct rig *r)
{
    struct err err;
    assert_int_equal(0, journal_commit(r->journal, &err));
}

/* The first message that a client would be told. */
static uint64_t found(struct rig *r, uint64_t index)
{
    struct seek *seek = seek_new(r->journal, index);
    struct seek_start start;
    struct err err;
    enum seek_step step;
    int steps = 0;
    while ((step = seek_step(seek, &start, &err)) == SEEK_MORE)
        assert_true(++steps < 2000);
    assert_int_equal(SEEK_DONE, step);
    seek_free(&seek);
    for (size_t i = 0, skipped = 0; i < r->n; i++) {
        const struct told *t = &r->told[i];
        bool below = t->epoch < start.epoch || (t->epoch == start.epoch && t->index < start.index);
        if (t->seq < start.seq)
            continue;
        if (!start.skips || !below || t->seq >= start.newest)
            return t->seq;
        assert_true(++skipped < 400); /* it is near: some blocks at most */
    }
    return start.seq;
}

/* By looking at all of it, from `oldest` on. */
static uint64_t expected(const struct rig *r, uint64_t index, uint64_t oldest)
{
    uint64_t newest = 0;
    size_t first = r->n, n = 0;
    for (size_t i = r->n; i-- > 0 && r->told[i].seq >= oldest;) {
        if (r->told[i].epoch != r->told[r->n - 1].epoch)
            break;
        if (newest == 0)
            newest = r->told[i].seq;
        if (index > 0 ? r->told[i].index >= index : n < SEEK_NEWEST)
            first = i;
        n++;
    }
    if (newest == 0)
        return journal_next_seq(r->journal);
    return first < r->n ? r->told[first].seq : newest;
}

static void check(struct rig *r, uint64_t index, int line)
{
    uint64_t got = found(r, index), oldest = journal_first_seq(r->journal);
    if (got < oldest)
        oldest = got; /* pruned, but still in the journal's memory */
    uint64_t wanted = expected(r, index, oldest);
    if (got != wanted)
        fail_msg("line %d: index %" PRIu64 ": seq %" PRIu64 ", expected %" PRIu64, line, index, got,
                 wanted);
}

static void an_empty_journal_is_waited_at(void **state)
{
    (void)state;
    struct rig r;
    open_rig(&r, 1 << 20, 1);
    assert_int_equal(1, found(&r, 0));
    assert_int_equal(1, found(&r, 77));
    say(&r, 3, 0, (struct line_event){.origin = EVENT_OWN}, 1);
    commit(&r);
    assert_int_equal(2, found(&r, 0));
    assert_int_equal(2, found(&r, 77));
    close_rig(&r);
}

static void what_comes_while_it_looks_is_not_passed_over(void **state)
{
    (void)state;
    struct rig r;
    open_rig(&r, 1 << 20, 1);
    struct seek *seek = seek_new(r.journal, 0);
    say(&r, 3, 0, (struct line_event){0}, 1);
    commit(&r);
    struct seek_start start;
    struct err err;
    assert_int_equal(SEEK_DONE, seek_step(seek, &start, &err));
    assert_int_equal(1, start.seq);
    seek_free(&seek);
    close_rig(&r);
}

/* One round of a source's life: told, repeated, snapshots, own words, epochs. */
static void live(struct rig *r, uint64_t *index, uint32_t *epoch, int messages)
{
    for (int i = 0; i < messages && r->n < TOLD_MAX; i++) {
        struct line_event of = {.padding = draw(r, 3000)};
        uint32_t kind = draw(r, 40);
        *index += draw(r, 3);
        if (kind == 0 && r->n > 100 && draw(r, 12) == 0) {
            (*epoch)++;
            *index = 1 + draw(r, 50);
            of.origin = EVENT_OWN;
        } else if (kind < 4) {
            of.repeat = true;
        } else if (kind < 7) {
            of.origin = EVENT_SNAPSHOT;
        }
        say(r, *index, *epoch, of, 1 + draw(r, 4));
        if (draw(r, 8) == 0)
            commit(r);
    }
    commit(r);
}

static void every_index_is_found_where_it_is(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 12; seed++) {
        struct rig r;
        uint64_t index = 5;
        uint32_t epoch = 0;
        open_rig(&r, seed % 3 == 0 ? 1 << 20 : 64 << 20, seed);
        for (int round = 0; round < 3; round++) {
            live(&r, &index, &epoch, 700);
            check(&r, 0, __LINE__);
            for (uint64_t i = 1; i < index + 3; i += 1 + draw(&r, 5))
                check(&r, i, __LINE__);
        }
        check(&r, INT64_MAX, __LINE__);
        close_rig(&r);
    }
}

static void a_long_resync_hides_nothing(void **state)
{
    (void)state;
    struct rig r;
    open_rig(&r, 64 << 20, 1);
    for (uint64_t i = 1; i <= 150; i++)
        say(&r, i, 0, (struct line_event){0}, 1);
    for (uint64_t i = 1; i <= 3000; i++)
        say(&r, i, 0, (struct line_event){.origin = EVENT_SNAPSHOT, .padding = 500}, 1);
    commit(&r);
    check(&r, 0, __LINE__);
    check(&r, 77, __LINE__);
    check(&r, 1000, __LINE__);
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_journal_is_waited_at),
        cmocka_unit_test(what_comes_while_it_looks_is_not_passed_over),
        cmocka_unit_test(every_index_is_found_where_it_is),
        cmocka_unit_test(a_long_resync_hides_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
