/* test_mirror_pages.c - what is read behind the ring, where the journal is shorter than what was
 * missed: nothing is passed over without a Gap, and none is told where nothing is missing. */
#include "connectors/mirror/pages.h"
#include "tests/unit/mirror_kit.h"

enum { EVENT_BYTES = 32 << 10, IN_MEMORY = 100, MORE_THAN_MEMORY = 400 };

struct rig {
    struct bridge *bridge;
    struct mirror_source sources[2];
    struct feed feed;
    struct pages *pages;
};

static int setup(void **state)
{
    struct rig *r = mem_zalloc(sizeof *r);
    r->bridge = kit_bridge(2, 1 << 20);
    for (size_t i = 0; i < 2; i++)
        r->sources[i] = (struct mirror_source){
            .name = r->bridge->names[i],
            .journal = r->bridge->journals[i],
            .journal_id = journal_id(r->bridge->journals[i]),
        };
    feed_init(&r->feed, r->bridge, r->sources, 2, 1 << 20);
    feed_start(&r->feed);
    r->pages = pages_new(&r->feed);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    pages_free(&r->pages);
    feed_fini(&r->feed);
    kit_bridge_free(&r->bridge);
    free(r);
    return 0;
}

/* The arrival of the last one. */
static int64_t add(struct rig *r, int n)
{
    static char data[EVENT_BYTES];
    int64_t arrival_us = 0;
    memset(data, 'x', sizeof data - 1);
    for (int i = 0; i < n; i++)
        arrival_us = kit_add(r->bridge, 0, data);
    return arrival_us;
}

static void feed_all(struct rig *r)
{
    do
        feed_run(&r->feed);
    while (r->feed.more);
}

static bool is_gap(const struct page *page, size_t i)
{
    struct ring_frame f;
    chunk_at(&page->chunk, i, &f);
    return str_is(f.event.key, PAGES_GAP_KEY);
}

static struct page *load(struct rig *r, int64_t after_us)
{
    bool failed;
    struct page *page = pages_load(r->pages, after_us, &failed);
    assert_false(failed);
    assert_non_null(page);
    return page;
}

/* Who has passed such a page goes on from the ring. */
static void expect_gap_up_to_what_was_fed(struct rig *r, const struct page *page)
{
    assert_int_equal(1, page->chunk.n);
    assert_true(is_gap(page, 0));
    assert_true(page->to_us == r->feed.fed_us);
    assert_true(page->chunk.entries[0].arrival_us <= page->to_us);
}

static void a_gap_is_told_before_what_was_not_fed_yet(void **state)
{
    struct rig *r = *state;
    int64_t first_us = add(r, 1);
    feed_all(r);
    struct page *page = load(r, first_us - 1);
    assert_int_equal(1, page->chunk.n);
    assert_false(is_gap(page, 0));
    int64_t passed_us = page->to_us;
    add(r, 20);
    feed_all(r);
    add(r, MORE_THAN_MEMORY);
    expect_gap_up_to_what_was_fed(r, load(r, passed_us)); /* by the readers of the last page */
    expect_gap_up_to_what_was_fed(r, load(r, first_us));  /* by others */
}

static void a_gap_is_told_where_another_source_fills_the_page(void **state)
{
    struct rig *r = *state;
    static char large[200 << 10];
    memset(large, 'x', sizeof large - 1);
    int64_t first_us = add(r, 1);
    for (int i = 0; i < 2; i++)
        kit_add(r->bridge, 1, large);
    feed_all(r);
    add(r, MORE_THAN_MEMORY);
    struct page *page = load(r, first_us - 1);
    assert_int_equal(2, page->chunk.n);
    assert_false(is_gap(page, 0));
    assert_true(is_gap(page, 1));
    assert_true(page->to_us < r->feed.fed_us);
}

static void what_is_lost_was_not_fed(void **state)
{
    struct rig *r = *state;
    add(r, 1);
    feed_all(r);
    int64_t fed_us = r->feed.fed_us;
    add(r, 20);
    arrival_take(&r->bridge->arrival, 1, 1); /* nothing later can be told until it is there */
    add(r, MORE_THAN_MEMORY);
    feed_run(&r->feed);
    assert_true(r->feed.fed_us == fed_us);
    assert_false(r->feed.more);
    arrival_readable(&r->bridge->arrival, 1);
    feed_all(r);
    assert_true(r->feed.fed_us == bridge_arrival_horizon(r->bridge));
    struct ring_cursor cursor;
    assert_false(ring_seek(r->feed.ring, fed_us, &cursor));
}

static void what_is_in_memory_is_not_missing(void **state)
{
    struct rig *r = *state;
    int64_t after_us = add(r, 5), next_us = add(r, 1);
    add(r, IN_MEMORY);
    feed_all(r);
    assert_true(journal_first_seq(r->bridge->journals[0]) > 6);
    struct page *page = load(r, after_us);
    assert_false(is_gap(page, 0));
    assert_true(page->chunk.entries[0].arrival_us == next_us);
}

#define WITH_RIG(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RIG(a_gap_is_told_before_what_was_not_fed_yet),
        WITH_RIG(a_gap_is_told_where_another_source_fills_the_page),
        WITH_RIG(what_is_lost_was_not_fed),
        WITH_RIG(what_is_in_memory_is_not_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
