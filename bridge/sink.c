/* sink.c - the loop that drives a sink: read a batch from the journal, publish it, move the
 * checkpoint.
 *
 * `done` is the checkpoint as the sink holds it; `next` what it will be after the batch under way.
 * Whatever goes wrong, the loop throws the batch away and reads again from `done` (or, where the
 * outcome is not known, from what the sink then says). An event that the sink refuses is first
 * tried alone, then replaced by a Rejected event. */
#include "bridge/sink_loop.h"

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "bridge/own.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    IDLE_WAIT_MS = 1000,
    MOVE_CHECKPOINT_MS = 3000, /* where the filter lets nothing through */
    BACKOFF_LEAST_MS = 100,
    BACKOFF_MOST_MS = 10000,
    FATAL_WAIT_MS = 30000,
};

/* An event that the loop made itself, placed in the batch. */
struct made_event {
    struct event event;
    struct buf data;
};

struct sink_loop {
    struct sink_loop_options o;
    void *sink;
    struct sink_limits limits;
    struct str source;
    struct journal_reader *reader;
    bool open;
    unsigned attempt; /* fruitless ones in a row */
    int64_t last_publish_ms;
    struct checkpoint done, next;

    /* Where a batch comes from. */
    struct block *block; /* the one being read, or NULL */
    size_t at;           /* next event in it */
    bool by_identity;  /* the checkpoint is of another journal: compare until its index is passed */
    uint64_t anchor;   /* by_identity: that index */
    bool proven;       /* by_identity: something the checkpoint knows was met */
    size_t events_cap; /* 0: the sink's own limit; after a refusal fewer */
    uint64_t reject_seq; /* 0, or the event to replace */
    char reject_reason[256];

    /* The batch under way. */
    const struct event **events;
    size_t n, cap, bytes, passed;
    struct block **blocks;
    size_t n_blocks, blocks_cap, held; /* held: bytes of the blocks */
    struct made_event gap, rejected;
    bool gap_wanted; /* something was lost: a Gap goes before the next event */
    bool gap_placed; /* it stands in the batch under way */
    bool gap_again;  /* and something more was lost behind it */
    char gap_reason[256];

    pthread_mutex_t lock; /* guards status only */
    struct sink_status status;
};

const char *sink_state_name(enum sink_state state)
{
    static const char *const names[] = {
        [SINK_OPENING] = "opening", [SINK_PUBLISHING] = "publishing", [SINK_BACKOFF] = "backoff",
        [SINK_STANDBY] = "standby", [SINK_ENDED] = "ended",
    };
    return names[state];
}

struct sink_loop *sink_loop_new(const struct sink_loop_options *options)
{
    struct sink_loop *l = mem_zalloc(sizeof *l);
    l->o = *options;
    l->source = str_from(options->pair.source);
    l->sink = options->ops->create(&l->o.pair, &l->limits);
    l->reader = journal_reader_new(options->journal);
    pthread_mutex_init(&l->lock, NULL);
    l->status.since_us = clock_wall_us();
    return l;
}

void sink_loop_get_status(struct sink_loop *l, struct sink_status *out)
{
    pthread_mutex_lock(&l->lock);
    *out = l->status;
    pthread_mutex_unlock(&l->lock);
}

static void set_state(struct sink_loop *l, enum sink_state state, const char *detail)
{
    pthread_mutex_lock(&l->lock);
    struct sink_status *s = &l->status;
    bool same_trouble = *s->detail != '\0' && strcmp(s->detail, detail) == 0;
    bool was_up = s->state == SINK_PUBLISHING;
    bool news = state == SINK_BACKOFF ? !same_trouble : state != s->state && state != SINK_OPENING;
    s->state = state;
    s->since_us = clock_wall_us();
    if (state != SINK_OPENING)
        snprintf(s->detail, sizeof s->detail, "%s", detail);
    pthread_mutex_unlock(&l->lock);
    metrics_set(l->o.metrics, METRIC_SINK_UP, state == SINK_PUBLISHING);
    if (!news || (state == SINK_PUBLISHING && was_up))
        return;
    char id[32];
    snprintf(id, sizeof id, "sink_%s", sink_state_name(state));
    const struct log_field fields[] = {
        LOG_STR("source", l->o.pair.source),
        LOG_STR("sink", l->o.pair.sink),
        LOG_STR(*detail != '\0' ? "err" : NULL, detail),
        {.key = NULL},
    };
    log_write(state == SINK_BACKOFF || state == SINK_STANDBY ? LOG_WARN : LOG_INFO, id, fields);
}

static void note_checkpoint(struct sink_loop *l, bool found)
{
    pthread_mutex_lock(&l->lock);
    l->status.checkpoint_known = true;
    l->status.checkpoint_found = l->status.checkpoint_found || found;
    l->status.seq = l->done.seq;
    l->status.index = l->done.index;
    l->status.passed_seq = l->by_identity ? 0 : l->done.seq;
    pthread_mutex_unlock(&l->lock);
}

/* ---- the batch under way ---- */

static void batch_clear(struct sink_loop *l)
{
    for (size_t i = 0; i < l->n_blocks; i++)
        block_unref(&l->blocks[i]);
    l->n_blocks = l->n = l->bytes = l->passed = l->held = 0;
    l->gap_placed = false;
}

static void batch_hold_block(struct sink_loop *l)
{
    if (l->n_blocks > 0 && l->blocks[l->n_blocks - 1] == l->block)
        return;
    if (l->n_blocks == l->blocks_cap) {
        l->blocks_cap = l->blocks_cap * 2 + 16;
        l->blocks = mem_realloc(l->blocks, l->blocks_cap * sizeof *l->blocks);
    }
    l->blocks[l->n_blocks++] = block_ref(l->block);
    l->held += l->block->bytes;
}

static void batch_add(struct sink_loop *l, const struct event *e)
{
    if (l->n == l->cap) {
        l->cap = l->cap * 2 + 256;
        l->events = mem_realloc(l->events, l->cap * sizeof *l->events);
    }
    l->events[l->n++] = e;
    l->bytes += e->data.len;
}

static bool batch_is_full(const struct sink_loop *l)
{
    size_t events_max = l->events_cap > 0 ? l->events_cap : l->limits.events_max;
    return l->n >= events_max || l->bytes >= l->limits.bytes_max ||
           l->held >= 2 * l->limits.bytes_max; /* a narrow filter holds much for few */
}

/* Throws the batch away and stands behind `done` again. */
static void rewind_to_done(struct sink_loop *l)
{
    batch_clear(l);
    block_unref(&l->block);
    checkpoint_copy(&l->next, &l->done);
    if (l->by_identity && l->done.seq == 0)
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

static void want_gap(struct sink_loop *l, const char *reason)
{
    l->gap_wanted = true;
    snprintf(l->gap_reason, sizeof l->gap_reason, "%.255s", reason);
}

/* Says, before the event `e`, that this sink alone did not get what lies behind its checkpoint. */
static void place_gap(struct sink_loop *l, const struct event *e)
{
    struct buf payload = {0};
    own_gap_payload(&payload, l->done.index, e->index, l->gap_reason);
    buf_clear(&l->gap.data);
    own_render(&l->gap.data, "Gap", l->source, e->index, buf_str(&payload));
    buf_fini(&payload);
    batch_add(l, make_event(l, &l->gap, "Gap", 1, e));
    l->gap_placed = true;
    log_warn("sink_gap", LOG_STR("source", l->o.pair.source), LOG_STR("sink", l->o.pair.sink),
             LOG_INT("from", l->done.index), LOG_INT("to", e->index),
             LOG_STR("why", l->gap_reason));
}

static const struct event *replacement(struct sink_loop *l, const struct event *e)
{
    struct buf payload = {0};
    own_rejected_payload(&payload, l->source, journal_id(l->o.journal), e, l->reject_reason);
    buf_clear(&l->rejected.data);
    own_render(&l->rejected.data, "Rejected", l->source, e->index, buf_str(&payload));
    buf_fini(&payload);
    return make_event(l, &l->rejected, "Rejected", 2, e);
}

/* True where the checkpoint says that the sink has this event: by its identity at the checkpoint's
 * index (order within one index differs between journals), before it by the index alone. */
static bool is_published(struct sink_loop *l, const struct event *e)
{
    bool is = (e->index == l->done.index && checkpoint_has(&l->done, e->ident)) ||
              (l->by_identity && e->index < l->done.index);
    l->proven = l->proven || is;
    return is;
}

/* Puts the event (behind a gap that is due) into the batch; false where the gap filled it. */
static bool add_event(struct sink_loop *l, const struct event *e)
{
    if (l->gap_wanted && !l->gap_placed) {
        place_gap(l, e);
        if (batch_is_full(l))
            return false;
    }
    batch_hold_block(l);
    batch_add(l, e->seq == l->reject_seq ? replacement(l, e) : e);
    return true;
}

static bool take_event(struct sink_loop *l, const struct event *e)
{
    bool published = !e->repeat && is_published(l, e);
    if (!e->repeat && !published) {
        if (l->by_identity && !l->proven) {
            want_gap(l, "this journal begins behind the sink's checkpoint");
            l->proven = true;
        }
        if (filter_match(l->o.filter, e) && !add_event(l, e))
            return false;
    }
    /* A repeat, or what is published, must not bring an older index or a double into the
     * checkpoint. */
    if (e->index > l->next.index || (e->index == l->next.index && !e->repeat && !published))
        checkpoint_pass(&l->next, e->seq, e->index, e->ident);
    l->next.seq = e->seq;
    l->passed++;
    return true;
}

/* ---- reading the journal ---- */

enum progress { MORE, NOTHING, STOPPED };

static enum progress next_block(struct sink_loop *l, int timeout_ms)
{
    struct err err = {ERR_RETRY, ""};
    block_unref(&l->block);
    switch (journal_reader_next(l->reader, timeout_ms, &l->block, &err)) {
    case JOURNAL_BLOCK:
        l->at = 0;
        while (l->at < l->block->n_events && l->block->events[l->at].seq <= l->next.seq)
            l->at++;
        return MORE;
    case JOURNAL_LOST:
        l->gap_again = l->gap_placed;
        want_gap(l, err.msg);
        return MORE;
    case JOURNAL_NOTHING:
        return NOTHING;
    case JOURNAL_STOPPED:
        return STOPPED;
    case JOURNAL_ERROR:
        set_state(l, SINK_BACKOFF, err.msg);
        stop_wait(l->o.pair.stop, IDLE_WAIT_MS);
        return NOTHING;
    }
    return NOTHING;
}

static void take_block(struct sink_loop *l)
{
    while (l->block != NULL && l->at < l->block->n_events && !batch_is_full(l) &&
           take_event(l, &l->block->events[l->at]))
        l->at++;
}

/* How long a batch that is not full may still wait for more. */
static int wait_ms(const struct sink_loop *l)
{
    if (l->n == 0)
        return IDLE_WAIT_MS;
    int64_t left = l->last_publish_ms + l->limits.interval_ms - clock_mono_ms();
    return left > 0 ? (int)left : 0;
}

/* Fills the batch: until it is full, or its interval is over and nothing more is there at once. */
static enum progress collect(struct sink_loop *l)
{
    for (;;) {
        take_block(l);
        if (batch_is_full(l))
            return MORE;
        enum progress p = next_block(l, wait_ms(l));
        if (p == STOPPED || stop_requested(l->o.pair.stop))
            return STOPPED;
        if (p == NOTHING && (l->n == 0 || wait_ms(l) == 0))
            return l->n > 0 || l->passed > 0 ? MORE : NOTHING;
    }
}

/* ---- opening ---- */

static void wait_after(struct sink_loop *l, enum sink_result result, const struct err *err)
{
    l->attempt++;
    int wait = result == SINK_FATAL
                   ? FATAL_WAIT_MS
                   : clock_backoff_ms(l->attempt, BACKOFF_LEAST_MS, BACKOFF_MOST_MS);
    set_state(l, SINK_BACKOFF, err->msg);
    metrics_add(l->o.metrics, METRIC_RETRIES, 1);
    stop_wait(l->o.pair.stop, wait);
}

static void close_sink(struct sink_loop *l)
{
    l->o.ops->close(l->sink);
    l->open = false;
    batch_clear(l);
    block_unref(&l->block);
}

/* Where to go on: behind the checkpoint in the same journal; by identity in another one; else at
 * the oldest. */
static void seek(struct sink_loop *l, bool found)
{
    uint64_t next_seq = journal_next_seq(l->o.journal);
    bool same = found && l->done.journal_id == journal_id(l->o.journal) && l->done.seq < next_seq;
    l->by_identity = found && !same;
    l->anchor = l->done.index;
    l->proven = false;
    l->gap_wanted = l->gap_again = false;
    if (!found)
        l->done.seq = journal_first_seq(l->o.journal) - 1;
    l->done.journal_id = journal_id(l->o.journal);
    if (l->by_identity)
        l->done.seq = 0;
    rewind_to_done(l);
    if (l->by_identity) /* the journal reaches back behind the checkpoint's index */
        l->proven = journal_reader_seq(l->reader) > journal_first_seq(l->o.journal);
    note_checkpoint(l, found);
    log_info("sink_resumes", LOG_STR("source", l->o.pair.source), LOG_STR("sink", l->o.pair.sink),
             LOG_STR("by", !found ? "oldest" : (same ? "seq" : "identity")),
             LOG_INT("index", l->done.index), LOG_INT("seq", l->done.seq));
}

static enum sink_result open_sink(struct sink_loop *l, struct err *err)
{
    bool found = false;
    set_state(l, SINK_OPENING, "");
    enum sink_result r = l->o.ops->open(l->sink, err);
    if (r != SINK_DONE)
        return r;
    checkpoint_fini(&l->done);
    r = l->o.ops->read_checkpoint(l->sink, &l->done, &found, err);
    if (r != SINK_DONE)
        return r;
    l->open = true;
    seek(l, found);
    if (l->attempt == 0) /* else the first success says so: no flapping where opening works and
                            publishing does not */
        set_state(l, SINK_PUBLISHING, "");
    return SINK_DONE;
}

/* ---- publishing ---- */

static void published(struct sink_loop *l)
{
    checkpoint_copy(&l->done, &l->next);
    l->attempt = 0;
    if (l->done.index > l->anchor)
        l->by_identity = false; /* from here on everything is new */
    if (l->gap_placed) {
        metrics_add(l->o.metrics, METRIC_SINK_GAPS, 1);
        l->gap_wanted = l->gap_again;
        l->gap_again = false;
    }
    l->events_cap = 0;
    l->reject_seq = 0;
    metrics_add(l->o.metrics, METRIC_PUBLISHED, l->n);
    metrics_add(l->o.metrics, METRIC_PUBLISHED_BYTES, l->bytes);
    metrics_add(l->o.metrics, METRIC_BATCHES, 1);
    batch_clear(l);
    pthread_mutex_lock(&l->lock);
    l->status.seq = l->done.seq;
    l->status.index = l->done.index;
    l->status.passed_seq = l->done.seq;
    l->status.published_us = clock_wall_us();
    bool up = l->status.state == SINK_PUBLISHING;
    pthread_mutex_unlock(&l->lock);
    if (!up)
        set_state(l, SINK_PUBLISHING, "");
}

/* First alone, then replaced. */
static void refused(struct sink_loop *l, const struct batch *batch, const struct err *err)
{
    const struct event *e = l->events[batch->refused];
    if (l->n > 1) {
        l->events_cap = batch->refused > 0 ? batch->refused : 1;
    } else {
        char what[256];
        event_describe(e, what, sizeof what);
        log_error("rejected", LOG_STR("source", l->o.pair.source), LOG_STR("sink", l->o.pair.sink),
                  LOG_STR("event_id", what), LOG_INT("bytes", e->data.len),
                  LOG_STR("err", err->msg));
        metrics_add(l->o.metrics, METRIC_REJECTED, 1);
        l->reject_seq = e->seq;
        l->events_cap = 1;
        snprintf(l->reject_reason, sizeof l->reject_reason, "%.255s", err->msg);
    }
    rewind_to_done(l);
}

static enum sink_result publish(struct sink_loop *l, struct err *err)
{
    struct batch batch = {
        .events = l->events,
        .n = l->n,
        .bytes = l->bytes,
        .source = l->source,
        .journal_id = journal_id(l->o.journal),
    };
    l->last_publish_ms = clock_mono_ms();
    enum sink_result r = l->o.ops->publish(l->sink, &batch, &l->next, err);
    switch (r) {
    case SINK_DONE:
        published(l);
        break;
    case SINK_REFUSED:
        if (l->n == 1 && l->events[0]->origin == EVENT_OWN)
            return SINK_FATAL; /* even what replaces it is refused */
        refused(l, &batch, err);
        break;
    case SINK_RETRY:
        rewind_to_done(l);
        break;
    case SINK_UNKNOWN:
    case SINK_FENCED:
    case SINK_FATAL:
        close_sink(l);
        break;
    }
    return r;
}

static enum sink_result step(struct sink_loop *l, struct err *err)
{
    if (!l->open)
        return open_sink(l, err);
    enum progress p = collect(l);
    if (p == STOPPED) {
        batch_clear(l);
        return SINK_DONE;
    }
    bool move = l->passed > 0 && clock_mono_ms() - l->last_publish_ms >= MOVE_CHECKPOINT_MS;
    if (l->n > 0 || (p == MORE && move))
        return publish(l, err);
    if (l->status.state != SINK_PUBLISHING)
        set_state(l, SINK_PUBLISHING, "");
    return SINK_DONE;
}

/* False where the loop is over. */
static bool after(struct sink_loop *l, enum sink_result result, const struct err *err)
{
    switch (result) {
    case SINK_DONE:
    case SINK_REFUSED:
        return true;
    case SINK_RETRY:
    case SINK_UNKNOWN:
    case SINK_FATAL:
        wait_after(l, result, err);
        return true;
    case SINK_FENCED:
        break;
    }
    close_sink(l);
    set_state(l, l->o.pair.standby ? SINK_STANDBY : SINK_ENDED, err->msg);
    if (!l->o.pair.standby)
        return false;
    while (!stop_wait(l->o.pair.stop, IDLE_WAIT_MS))
        ;
    return true;
}

void sink_loop_run(struct sink_loop *l)
{
    while (!stop_requested(l->o.pair.stop)) {
        struct err err = {ERR_RETRY, ""};
        if (!after(l, step(l, &err), &err))
            return;
    }
    close_sink(l);
}

void sink_loop_free(struct sink_loop **loop)
{
    struct sink_loop *l = *loop;
    if (l == NULL)
        return;
    batch_clear(l);
    block_unref(&l->block);
    l->o.ops->destroy(l->sink);
    journal_reader_free(&l->reader);
    checkpoint_fini(&l->done);
    checkpoint_fini(&l->next);
    buf_fini(&l->gap.data);
    buf_fini(&l->rejected.data);
    free(l->events);
    free(l->blocks);
    pthread_mutex_destroy(&l->lock);
    free(l);
    *loop = NULL;
}
