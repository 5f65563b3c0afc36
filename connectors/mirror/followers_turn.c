/* followers_turn.c - what each turn of the loop does for the followers.
 *
 * Each source that is followed is read once, and what is new is put into the sheets of those crowds
 * of which somebody waits for it; only where a line came of it, they are woken. Who is behind
 * queues for a sheet, or for a step of the search for its place: each turn reads a few, and offers
 * so much and no more, as the newest events go first in each. */
#include "connectors/mirror/follower.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

enum {
    TURN_READS = 8,
    TURN_BYTES = 48 << 20,
};

/* ---- the newest ---- */

/* A place may be ahead of what was read. */
static void wake_sleeper(struct follower *c, uint64_t seq)
{
    c->asleep = false;
    c->crowd->asleep--;
    c->behind_ms = c->all->now_ms;
    c->last_us = follower_source(c)->newest_us;
    if (c->next_seq < seq)
        c->next_seq = seq;
    http_stream_wake(c->stream);
}

static void tell(struct followers *all, size_t source, const struct block *block)
{
    struct followed *f = &all->followed[source];
    const struct event *last = &block->events[block->n_events - 1];
    for (size_t i = 0; i < groups_end(all->groups); i++) {
        struct group *group = groups_at(all->groups, i);
        if (group != NULL && group->crowd->source == source)
            sheets_tell(&all->sheets, group->crowd, block);
    }
    f->seq = block->first_seq + block->n_events;
    f->newest_us = last->arrival_us;
    f->epoch = last->epoch;
}

/* What was pruned before it was read, or can't be read: each who is there finds out. */
static void skip_lost(struct followers *all, size_t source)
{
    struct followed *f = &all->followed[source];
    for (size_t i = 0; i < groups_end(all->groups); i++) {
        struct group *group = groups_at(all->groups, i);
        if (group != NULL && group->crowd->source == source && group->crowd->news_seq == 0)
            group->crowd->news_seq = f->seq;
    }
    f->seq = journal_reader_seq(f->reader);
}

static void run_source(struct followers *all, size_t source)
{
    struct followed *f = &all->followed[source];
    struct block *block;
    struct err err;
    for (;;) {
        switch (journal_reader_next(f->reader, 0, &block, &err)) {
        case JOURNAL_BLOCK:
            tell(all, source, block);
            block_unref(&block);
            break;
        case JOURNAL_LOST:
            skip_lost(all, source);
            break;
        case JOURNAL_ERROR:
            if (!f->failed)
                log_error("mirror_journal", LOG_STR("err", err.msg));
            f->failed = true;
            return;
        case JOURNAL_NOTHING:
        case JOURNAL_STOPPED:
            f->failed = false;
            return;
        }
    }
}

static void tell_news(struct followers *all)
{
    for (size_t i = 0; i < all->o.feed->n_sources; i++)
        if (all->followed[i].reader != NULL)
            run_source(all, i);
    for (size_t i = 0; i < groups_end(all->groups); i++) {
        struct group *group = groups_at(all->groups, i);
        if (group == NULL || group->crowd->news_seq == 0)
            continue;
        for (struct follower *c = group->crowd->followers; c != NULL; c = c->in_crowd)
            if (c->asleep)
                wake_sleeper(c, group->crowd->news_seq);
        group->crowd->news_seq = 0;
    }
}

/* One that was not due, as its place was not read yet, is asked for again. */
static void tell_asides(struct followers *all)
{
    if (!all->nudged)
        return;
    all->nudged = false;
    for (size_t i = 0; i < all->used; i++) {
        struct follower *c = &all->slots[i];
        if (!c->used || !c->asleep)
            continue;
        uint64_t seq = follower_source(c)->seq;
        if (follower_aside(c, seq).len > 0)
            wake_sleeper(c, seq);
        else if (follower_aside(c, UINT64_MAX).len > 0)
            all->nudged = true;
    }
}

/* ---- those who wait ---- */

static void give(struct follower *c)
{
    list_remove(&c->all->queue, &c->waiting);
    http_stream_wake(c->stream);
}

static void look_for_place(struct follower *c)
{
    struct err err;
    switch (seek_step(c->seek, &c->start, &err)) {
    case SEEK_MORE:
        list_remove(&c->all->queue, &c->waiting);
        list_add(&c->all->queue, &c->waiting, c);
        return;
    case SEEK_DONE:
        c->next_seq = c->start.seq;
        seek_free(&c->seek);
        return;
    case SEEK_FAILED:
        log_error("mirror_journal", LOG_STR("err", err.msg));
        follower_note_cut(c, CUT_JOURNAL);
        give(c);
        return;
    }
}

/* NULL where it needs none any more, or can't have it. */
static struct sheet *load(struct follower *c)
{
    struct followed *f = follower_source(c);
    struct journal *journal = c->all->o.feed->sources[c->crowd->source].journal;
    uint64_t seq = c->next_seq;
    if (seq < f->seq) {
        switch (sheets_load(&c->all->sheets, c->crowd, &seq, f->seq)) {
        case SHEETS_LOADED:
            return sheets_find(&c->all->sheets, c->crowd, c->next_seq);
        case SHEETS_LOST:
            if (c->offset > 0 || c->next_seq < journal_first_seq(journal))
                follower_note_cut(c, CUT_PRUNED);
            c->next_seq = seq; /* a bad block: it can't be had */
            break;
        case SHEETS_FAILED:
            follower_note_cut(c, CUT_JOURNAL);
            break;
        }
    }
    give(c);
    return NULL;
}

/* Returns how many bytes that may be. */
static size_t give_to_all(struct followers *all, const struct sheet *sheet, size_t bytes_max)
{
    size_t bytes = 0;
    for (struct list_item *next, *item = all->queue.first; item != NULL && bytes < bytes_max;
         item = next) {
        struct follower *c = item->owner;
        next = item->next;
        if (c->seek != NULL || c->crowd != sheet->crowd || c->next_seq < sheet->from_seq ||
            c->next_seq >= sheet->end_seq)
            continue;
        size_t line = sheet_place(sheet, c->next_seq);
        bytes += sheet->text.len - (line < sheet->n ? sheet->lines[line].start : sheet->text.len);
        give(c);
    }
    return bytes;
}

static void serve_queue(struct followers *all)
{
    struct follower *c;
    size_t bytes = 0;
    for (int reads = 0; reads < TURN_READS && bytes < TURN_BYTES; reads++) {
        struct sheet *sheet;
        while ((c = list_first(&all->queue)) != NULL && c->seek == NULL && bytes < TURN_BYTES &&
               (sheet = sheets_find(&all->sheets, c->crowd, c->next_seq)) != NULL)
            bytes += give_to_all(all, sheet, TURN_BYTES - bytes);
        if (c == NULL || bytes >= TURN_BYTES)
            return;
        if (c->seek != NULL)
            look_for_place(c);
        else if ((sheet = load(c)) != NULL)
            bytes += give_to_all(all, sheet, TURN_BYTES - bytes);
    }
}

/* ---- the turn ---- */

/* As clients.c does. */
static void cut_if_too_slow(struct follower *c)
{
    if (c->all->o.lag_ms == 0 || c->cut || c->asleep || !c->placed ||
        c->all->now_ms - c->behind_ms <= c->allow_ms || follower_lag_ms(c) <= c->allow_ms)
        return;
    follower_note_cut(c, CUT_LAG);
    http_stream_end(c->stream);
}

static void keep_house(struct followers *all)
{
    all->kept_ms = all->now_ms;
    for (size_t i = 0; i < all->used; i++) {
        struct follower *c = &all->slots[i];
        if (!c->used || c->stream == NULL)
            continue;
        if (c->asleep && follower_beat_due(c))
            wake_sleeper(c, follower_source(c)->seq);
        else if (c->waiting.owner != NULL && follower_beat_due(c))
            http_stream_wake(c->stream);
        cut_if_too_slow(c);
    }
    for (size_t i = 0; i < groups_end(all->groups); i++) {
        struct group *group = groups_at(all->groups, i);
        if (group != NULL && group->crowd->asleep == group->n_clients)
            sheets_drop(&all->sheets, group->crowd);
    }
}

void followers_nudge(struct followers *all)
{
    if (!all->nudged)
        all->o.work(all->o.work_arg);
    all->nudged = true;
}

int followers_turn(struct followers *all)
{
    if (all->count == 0)
        return FOLLOWERS_PAUSE_MS;
    all->now_ms = clock_mono_ms();
    tell_news(all);
    tell_asides(all);
    if (all->now_ms - all->kept_ms >= all->pause_ms)
        keep_house(all);
    serve_queue(all);
    return all->queue.first != NULL ? 0 : (int)all->pause_ms;
}
