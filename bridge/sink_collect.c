/* sink_collect.c - from the journal to a batch: what is new to the sink, with what the loop itself
 * has to say in between.
 *
 * In the journal that the checkpoint is of, what lies behind its seq is new. In another one (a
 * takeover, a new journal) events are compared with the checkpoint by epoch, index and identity:
 * what other instances published was theirs in another order. What Busbar itself and resyncs said
 * there before this loop had the pair counts as old until the first event that is new to the sink;
 * only a Gap right before that one counts, because the stretch that it tells of is then new too.
 *
 * Where a source's events are known by their bytes only (Marathon: times go back, and each who
 * listens gets another order) the checkpoint's window is all there is to compare with. What it
 * knows is published. What it does not know is older than it, or new, and which of the two is told
 * by order alone, because a stream may have stood still and then come all at once: as soon as
 * something from the window's later half was met, or something later by the source's own clock than
 * all that was published, the unknown is new. The window spans twice what the orders differ by. */
#include "bridge/sink_internal.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    IDLE_WAIT_MS = 1000,
    SCRATCH_KEEP = 1 << 20,
    /* By how much two who listen to one source may get the same event apart, at most: half of what
     * a window spans. */
    APART_US = CHECKPOINT_WINDOW_US / 2,
};

/* How far clocks of two instances may be apart, for where to begin to read. */
#define CLOCKS_APART_US INT64_C(3600000000)

/* ---- the batch under way ---- */

void sink_collect_clear(struct sink_batch *b)
{
    for (size_t i = 0; i < b->n_blocks; i++)
        block_unref(&b->blocks[i]);
    while (b->redacted != NULL) {
        struct redacted_event *older = b->redacted->older;
        free(b->redacted);
        b->redacted = older;
    }
    b->n_blocks = b->n = b->bytes = b->passed = b->held = b->n_redacted = 0;
    b->gap_placed = false;
}

void sink_collect_clear_all(struct sink_loop *l)
{
    for (size_t i = 0; i < sizeof l->batches / sizeof *l->batches; i++)
        sink_collect_clear(&l->batches[i]);
    l->begun = NULL;
}

static void batch_hold_block(struct sink_batch *b, struct block *block)
{
    if (b->n_blocks > 0 && b->blocks[b->n_blocks - 1] == block)
        return;
    if (b->n_blocks == b->blocks_cap) {
        b->blocks_cap = b->blocks_cap * 2 + 16;
        b->blocks = mem_realloc(b->blocks, b->blocks_cap * sizeof *b->blocks);
    }
    b->blocks[b->n_blocks++] = block_ref(block);
    b->held += block->bytes;
}

/* The event as it may leave: itself, or a copy with other bytes that lives as long as the batch. */
static const struct event *redacted(struct sink_loop *l, const struct event *e)
{
    if (l->scratch.cap > SCRATCH_KEEP)
        buf_fini(&l->scratch);
    if (!redact_event(l->o.redact, e, &l->scratch))
        return e;
    size_t len = l->scratch.len;
    struct redacted_event *copy = mem_alloc(sizeof *copy + len);
    copy->older = l->now->redacted;
    copy->event = *e;
    copy->event.data = (struct str){copy->data, len};
    memcpy(copy->data, l->scratch.p, len);
    l->now->redacted = copy;
    l->now->n_redacted++;
    return &copy->event;
}

static void batch_add(struct sink_batch *b, const struct event *e)
{
    if (b->n == b->cap) {
        b->cap = b->cap * 2 + 256;
        b->events = mem_realloc(b->events, b->cap * sizeof *b->events);
    }
    b->events[b->n++] = e;
    b->bytes += e->data.len;
}

bool sink_collect_is_full(const struct sink_loop *l)
{
    const struct sink_batch *b = l->now;
    size_t events_max = l->events_cap > 0 ? l->events_cap : l->limits.events_max;
    return b->n >= events_max || b->bytes >= l->limits.bytes_max ||
           b->held >= 2 * l->limits.bytes_max; /* a narrow filter holds much for few */
}

static void seek_window(struct sink_loop *l)
{
    journal_reader_seek_arrival(l->reader, l->taken.from_us - CLOCKS_APART_US);
}

void sink_collect_rewind(struct sink_loop *l)
{
    sink_collect_clear_all(l);
    block_unref(&l->block);
    checkpoint_copy(&l->next, &l->done);
    l->past = l->past_done;
    l->over = l->over_done;
    l->gap_told = false;
    if (l->by_identity && l->done.seq == 0 && l->o.by_bytes)
        seek_window(l);
    else if (l->by_identity &&
             l->done.seq == 0) /* a position is no less than the index, in any epoch */
        journal_reader_seek_index(l->reader, l->done.index);
    else
        journal_reader_seek(l->reader, l->done.seq + 1);
}

/* Makes an event of Busbar's own that stands where `e` stands. `nth` tells the two kinds at one seq
 * apart. */
static const struct event *make_event(struct sink_loop *l, struct made_event *made,
                                      const char *type, uint32_t nth, const struct event *e)
{
    made->event = own_event(type, l->source, buf_str(&made->data));
    made->event.occurrence = nth;
    made->event.index = e->index;
    made->event.pos_index = e->pos_index;
    made->event.ordinal = e->ordinal;
    made->event.seq = e->seq;
    made->event.arrival_us = e->arrival_us;
    return &made->event;
}

void sink_collect_want_gap(struct sink_loop *l, const char *reason)
{
    l->gap_wanted = true;
    snprintf(l->gap_reason, sizeof l->gap_reason, "%.255s", reason);
}

/* Says, before the event `e`, that this sink alone did not get what lies behind its checkpoint. */
static void place_gap(struct sink_loop *l, const struct event *e)
{
    struct buf payload = {0};
    uint64_t from = l->done.index, to = e->index;
    if (l->o.by_bytes)
        own_gap_widen(&from, &to);
    own_gap_payload(&payload, from, to, l->gap_reason);
    buf_clear(&l->now->gap.data);
    own_render(&l->now->gap.data, "Gap", l->source, e->index, buf_str(&payload));
    buf_fini(&payload);
    batch_add(l->now, make_event(l, &l->now->gap, "Gap", 1, e));
    l->now->gap_placed = true;
    l->next.resync = CHECKPOINT_RESYNC_OWED;
    if (l->o.by_bytes)
        checkpoint_pass_gap(&l->next, from, to);
    l->o.want_resync(l->o.arg, e->seq - 1, l->gap_reason);
    log_warn("sink_gap", LOG_STR("source", l->o.pair.source), LOG_STR("sink", l->o.pair.sink),
             LOG_INT("from", l->done.index), LOG_INT("to", e->index),
             LOG_STR("why", l->gap_reason));
}

static const struct event *replacement(struct sink_loop *l, const struct event *e)
{
    struct buf payload = {0};
    own_rejected_payload(&payload, l->source, journal_id(l->o.journal), e, l->reject_reason);
    struct made_event *made = &l->now->rejected;
    buf_clear(&made->data);
    own_render(&made->data, "Rejected", l->source, e->index, buf_str(&payload));
    buf_fini(&payload);
    return make_event(l, made, "Rejected", 2, e);
}

static bool is_told(const struct event *e)
{
    return e->origin == EVENT_OWN || e->origin == EVENT_SNAPSHOT;
}

static bool is_own(const struct event *e, const char *type)
{
    return e->origin == EVENT_OWN && str_is(e->type, type);
}

/* By identity: it stands behind the first event that is at the checkpoint's index or past it. */
static bool is_behind_anchor(const struct sink_loop *l, const struct event *e)
{
    return l->reached_seq > 0 && e->seq > l->reached_seq;
}

static bool is_in_window(const struct sink_loop *l, const struct event *e)
{
    return !is_told(e) && map_has(&l->known, e->ident);
}

static void note_known(struct sink_loop *l, const struct block *block)
{
    for (size_t i = 0; i < block->n_events; i++)
        if (is_in_window(l, &block->events[i]))
            l->known_to = block->events[i].seq;
}

void sink_collect_find_known(struct sink_loop *l)
{
    struct err ignored;
    struct block *block = NULL;
    enum journal_read r = JOURNAL_LOST;
    checkpoint_copy(&l->taken, &l->done);
    l->taken_us = clock_wall_us();
    l->known_to = 0;
    map_clear(&l->known);
    for (size_t i = 0; i < l->taken.n_hashes; i++)
        *map_at(&l->known, l->taken.hashes[i]) = (uint32_t)i + 1;
    seek_window(l);
    while (!stop_requested(l->o.pair.stop) && (r == JOURNAL_BLOCK || r == JOURNAL_LOST)) {
        r = journal_reader_next(l->reader, 0, &block, &ignored);
        if (r == JOURNAL_BLOCK)
            note_known(l, block);
        block_unref(&block);
    }
}

/* Not known to the checkpoint, because it is older than what that knows. */
static bool is_older(const struct sink_loop *l, const struct event *e)
{
    if (e->seq < l->known_to && checkpoint_is_in_gap(&l->taken, e->index))
        return true; /* told to be missing, and what came after it is published */
    if (l->over.reached || l->over.behind)
        return !l->over.reached;
    if (e->seq >= l->opened_seq)
        return false;
    if (l->known_to > 0)
        return true;
    return e->arrival_us < l->taken.until_us + APART_US; /* else it begins behind the window */
}

static bool is_known(struct sink_loop *l, const struct event *e)
{
    const struct checkpoint *cp = &l->taken;
    if (!is_in_window(l, e))
        return false;
    size_t at = *map_at(&l->known, e->ident);
    l->proven = true;
    l->over.reached = l->over.reached || cp->from_us == 0 || at > cp->n_hashes / 2;
    l->over.n_new = 0;
    l->over.last_known = e->arrival_us;
    return true;
}

/* What Busbar or a resync told. A Gap says that another connection begins. */
static bool is_told_before(struct sink_loop *l, const struct event *e)
{
    if (is_own(e, "Gap"))
        l->over.behind = false;
    if (e->seq < l->opened_seq)
        return !l->past;
    l->over.reached = l->over.reached || is_own(e, "Gap");
    return false;
}

static bool is_published_by_bytes(struct sink_loop *l, const struct event *e)
{
    if (!l->by_identity)
        return false;
    bool told = is_told(e), known = !told && is_known(l, e);
    if (!told && !known && e->index > l->taken.index)
        l->over.reached = true;
    bool is = known || (told ? is_told_before(l, e) : is_older(l, e));
    if (!told && !known) {
        l->over.behind = is;
        l->over.n_new += !is;
    }
    if ((known || !is) && l->reached_seq == 0)
        l->reached_seq = e->seq;
    return is;
}

/* What the sink has, when the batch that is being filled comes. */
static const struct checkpoint *had_before(const struct sink_loop *l)
{
    return l->begun != NULL ? &l->begun->next : &l->done;
}

/* True where the checkpoint says that the sink has this event: by its identity at the checkpoint's
 * index (order within one index differs between journals), before it by the index alone. */
static bool is_published(struct sink_loop *l, const struct event *e)
{
    if (l->o.by_bytes)
        return is_published_by_bytes(l, e);
    if (is_told(e)) /* while another had the pair it told this itself */
        return l->by_identity && !l->past && !(e->seq >= l->opened_seq && is_behind_anchor(l, e));
    const struct checkpoint *had = had_before(l);
    int c = checkpoint_compare(had, e);
    if (c >= 0 && l->reached_seq == 0)
        l->reached_seq = e->seq;
    bool is = (c == 0 && checkpoint_has(had, e->ident)) || (l->by_identity && c < 0);
    if (is && c < 0 && is_behind_anchor(l, e)) /* found_late: the other had it, or had not */
        sink_collect_want_gap(l, "what came late while this pair changed hands may be missing");
    l->proven = l->proven || is;
    return is;
}

/* Puts the event (behind a gap that is due) into the batch; false where the gap filled it. */
static bool add_event(struct sink_loop *l, const struct event *e)
{
    if (l->gap_wanted && !l->now->gap_placed) {
        place_gap(l, e);
        if (sink_collect_is_full(l))
            return false;
    }
    batch_hold_block(l->now, l->block);
    const struct event *leaves = redacted(l, e);
    batch_add(l->now, e->seq == l->reject_seq ? replacement(l, leaves) : leaves);
    return true;
}

/* By identity: the first event that is new to the sink. */
static void meet_new(struct sink_loop *l)
{
    if (!l->proven)
        sink_collect_want_gap(l, "this journal begins behind the sink's checkpoint");
    else if (l->gap_told)
        sink_collect_want_gap(l, "the source had a gap before this instance took over");
    l->proven = l->past = true;
    l->gap_told = false;
}

static void note_resync(struct sink_loop *l, const struct event *e)
{
    if (is_own(e, "Gap"))
        l->next.resync = CHECKPOINT_RESYNC_OWED;
    else if (is_own(e, OWN_RESYNC_STARTED))
        l->next.resync = CHECKPOINT_RESYNC_OPEN;
    else if (is_own(e, OWN_RESYNC_FINISHED) && l->next.resync == CHECKPOINT_RESYNC_OPEN)
        l->next.resync = CHECKPOINT_RESYNC_NONE;
}

/* Only what the source told moves the checkpoint's index (a snapshot may be ahead of the stream),
 * and neither a repeat nor what is published may bring an older index or a double into it. */
static void pass(struct sink_loop *l, const struct event *e, bool fresh)
{
    int c = checkpoint_compare(&l->next, e);
    uint64_t from, to;
    if (l->o.by_bytes && fresh && is_own(e, "Gap") && own_gap_range(e->data, &from, &to))
        checkpoint_pass_gap(&l->next, from, to);
    if (l->o.by_bytes) { /* what is published has its place there, what is older had it */
        if (!is_told(e) && (fresh || !l->by_identity))
            checkpoint_pass_window(&l->next, e);
    } else if (e->origin != EVENT_SNAPSHOT && (c > 0 || (c == 0 && fresh))) {
        checkpoint_pass(&l->next, e);
    }
    l->next.seq = e->seq;
    l->now->passed++;
}

static bool take_event(struct sink_loop *l, const struct event *e)
{
    bool fresh = !e->repeat && !is_published(l, e);
    if (fresh) {
        if (l->by_identity && !l->past)
            meet_new(l);
        if (filter_match(l->o.filter, e) && !add_event(l, e))
            return false;
        note_resync(l, e);
    } else if (l->by_identity && !l->past && !e->repeat) {
        l->gap_told = is_own(e, "Gap") || (l->gap_told && is_told(e));
    }
    pass(l, e, fresh);
    return true;
}

/* ---- reading the journal ---- */

static enum sink_progress next_block(struct sink_loop *l, int timeout_ms)
{
    struct err err = {ERR_RETRY, ""};
    block_unref(&l->block);
    switch (journal_reader_next(l->reader, timeout_ms, &l->block, &err)) {
    case JOURNAL_BLOCK:
        l->at = 0;
        while (l->at < l->block->n_events && l->block->events[l->at].seq <= l->next.seq)
            l->at++;
        return SINK_MORE;
    case JOURNAL_LOST:
        l->gap_again = l->now->gap_placed;
        sink_collect_want_gap(l, err.msg);
        return SINK_MORE;
    case JOURNAL_NOTHING:
        return SINK_NOTHING;
    case JOURNAL_STOPPED:
        return SINK_WOKEN;
    case JOURNAL_ERROR:
        sink_set_state(l, SINK_BACKOFF, err.msg);
        stop_wait(l->o.pair.stop, IDLE_WAIT_MS);
        return SINK_NOTHING;
    }
    return SINK_NOTHING;
}

static void take_block(struct sink_loop *l)
{
    while (l->block != NULL && l->at < l->block->n_events && !sink_collect_is_full(l) &&
           take_event(l, &l->block->events[l->at]))
        l->at++;
}

/* How long a batch that is not full may still wait for more. */
static int wait_ms(const struct sink_loop *l)
{
    if (l->begun != NULL)
        return 0;
    if (l->now->n == 0)
        return IDLE_WAIT_MS;
    int64_t left = l->last_publish_ms + l->limits.interval_ms - clock_mono_ms();
    return left > 0 ? (int)left : 0;
}

/* A Gap begins behind what comes before it: that is published first. */
static bool is_gap_next(const struct sink_loop *l)
{
    return l->gap_wanted && (!l->now->gap_placed || l->gap_again) &&
           (l->now->n > 0 || l->begun != NULL);
}

enum sink_progress sink_collect(struct sink_loop *l)
{
    for (;;) {
        take_block(l);
        if (sink_collect_is_full(l))
            return SINK_MORE;
        enum sink_progress p = next_block(l, wait_ms(l));
        if (p == SINK_WOKEN || stop_requested(l->o.pair.stop))
            return SINK_WOKEN;
        if (is_gap_next(l))
            return SINK_MORE;
        if (p == SINK_NOTHING && (l->now->n == 0 || wait_ms(l) == 0))
            return l->now->n > 0 || l->now->passed > 0 ? SINK_MORE : SINK_NOTHING;
    }
}
