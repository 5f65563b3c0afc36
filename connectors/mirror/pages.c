/* pages.c - stretches of the journals behind the ring, for all who are at them. */
#include "connectors/mirror/pages.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

#include <stdlib.h>

enum { RETRY_MS = 1000, EVENTS_MAX = 8192 };

struct pages {
    struct feed *feed;
    struct page held[PAGES_MAX];
    struct merge *merge; /* goes on behind `merge_us`; NULL: none */
    int64_t merge_us;
    uint64_t uses;
    uint64_t loaded;
    int64_t failed_ms; /* when a journal could not be read, 0: fine */
};

struct pages *pages_new(struct feed *feed)
{
    struct pages *pages = mem_zalloc(sizeof *pages);
    pages->feed = feed;
    return pages;
}

static void drop(struct page *page)
{
    chunk_fini(&page->chunk);
    *page = (struct page){0};
}

void pages_drop(struct pages *pages)
{
    for (size_t i = 0; i < PAGES_MAX; i++)
        drop(&pages->held[i]);
    merge_free(&pages->merge);
}

void pages_free(struct pages **pages)
{
    if (*pages == NULL)
        return;
    pages_drop(*pages);
    free(*pages);
    *pages = NULL;
}

struct page *pages_find(struct pages *pages, int64_t after_us)
{
    for (size_t i = 0; i < PAGES_MAX; i++) {
        struct page *page = &pages->held[i];
        if (page->number > 0 && page->after_us <= after_us && after_us < page->to_us) {
            page->used = ++pages->uses;
            return page;
        }
    }
    return NULL;
}

struct page *pages_get(struct pages *pages, uint64_t number)
{
    for (size_t i = 0; i < PAGES_MAX; i++)
        if (pages->held[i].number == number)
            return &pages->held[i];
    return NULL;
}

struct page *pages_ending(struct pages *pages, int64_t to_us)
{
    for (size_t i = 0; i < PAGES_MAX; i++)
        if (pages->held[i].number > 0 && pages->held[i].to_us == to_us)
            return &pages->held[i];
    return NULL;
}

/* A Gap may stand at the very time at which the page begins. */
size_t pages_place(const struct page *page, int64_t after_us)
{
    return after_us == page->after_us ? 0 : chunk_find(&page->chunk, after_us);
}

/* ---- reading ---- */

static struct page *oldest(struct pages *pages)
{
    struct page *page = &pages->held[0];
    for (size_t i = 1; i < PAGES_MAX; i++)
        if (pages->held[i].used < page->used)
            page = &pages->held[i];
    drop(page);
    return page;
}

static void begin(struct pages *pages, int64_t after_us)
{
    const struct feed *feed = pages->feed;
    if (pages->merge == NULL || pages->merge_us != after_us) {
        merge_free(&pages->merge);
        pages->merge = merge_new(feed->sources, feed->n_sources);
        for (size_t i = 0; i < feed->n_sources; i++)
            merge_add(pages->merge, i, after_us + 1, MERGE_TELL_PRUNED);
    }
    merge_refresh(pages->merge);
}

static void put_gap(struct pages *pages, struct page *page, struct merge_next *next)
{
    if (next->gap.arrival_us < page->to_us)
        next->gap.arrival_us = page->to_us;
    struct event event = {
        .topic = STR("Busbar"), /* passes every filter */
        .type = STR("Gap"),
        .key = STR(PAGES_GAP_KEY),
        .origin = EVENT_OWN,
        .arrival_us = next->gap.arrival_us,
        .pos_index = next->gap.to,
        .index = next->gap.to,
        .epoch = next->gap.epoch,
        .ordinal = next->gap.ordinal,
    };
    chunk_append(&page->chunk, next->source, &event, feed_format(pages->feed, next));
    page->to_us = next->gap.arrival_us;
}

/* One event or Gap; false where the page is full. */
static bool put(struct pages *pages, struct page *page, struct merge_next *next)
{
    if (next->event == NULL) {
        put_gap(pages, page, next);
    } else {
        struct str frame = feed_format(pages->feed, next);
        size_t cost = chunk_cost(next->event, frame);
        if (page->chunk.n > 0 && page->chunk.bytes + cost > CHUNK_BYTES)
            return false;
        chunk_append(&page->chunk, next->source, next->event, frame);
        page->to_us = next->event->arrival_us;
    }
    merge_take(pages->merge, next);
    return true;
}

/* Who has passed the page may go on from the ring: what he owes is told here. */
static void put_rest(struct pages *pages, struct page *page)
{
    struct merge_next next;
    while (page->to_us > page->after_us && merge_peek_gap(pages->merge, page->to_us, &next)) {
        put_gap(pages, page, &next);
        merge_take(pages->merge, &next);
    }
}

static bool fill(struct pages *pages, struct page *page)
{
    struct merge_next next;
    struct err err;
    while (page->chunk.n < EVENTS_MAX) {
        enum merge_item item = merge_peek(pages->merge, pages->feed->fed_us, &next, &err);
        if (item == MERGE_ERROR) {
            if (pages->failed_ms == 0)
                log_error("mirror_journal", LOG_STR("err", err.msg));
            pages->failed_ms = clock_mono_ms();
            return false;
        }
        if (item == MERGE_NOTHING) {
            if (pages->feed->fed_us > page->to_us)
                page->to_us = pages->feed->fed_us;
            break;
        }
        if (!put(pages, page, &next))
            break;
    }
    put_rest(pages, page);
    pages->failed_ms = 0;
    return true;
}

struct page *pages_load(struct pages *pages, int64_t after_us, bool *failed)
{
    *failed = pages->failed_ms != 0 && clock_mono_ms() - pages->failed_ms < RETRY_MS;
    if (*failed)
        return NULL;
    struct page *page = oldest(pages);
    page->after_us = page->to_us = after_us;
    begin(pages, after_us);
    *failed = !fill(pages, page);
    pages->merge_us = page->to_us;
    if (*failed)
        merge_free(&pages->merge);
    if (*failed || (page->chunk.n == 0 && page->to_us == after_us)) {
        drop(page);
        return NULL;
    }
    page->number = ++pages->loaded;
    page->used = ++pages->uses;
    return page;
}

uint64_t pages_loaded(const struct pages *pages)
{
    return pages->loaded;
}
