/* sink.c - the loop that drives a sink: read a batch from the journal, publish it, move the
 * checkpoint.
 *
 * `done` is the checkpoint as the sink holds it; `next` what it will be after the batch that is
 * being filled. Whatever goes wrong, the loop throws the batch away and reads again from `done`
 * (or, where the outcome is not known, from what the sink then says). An event that the sink
 * refuses is first tried alone, then replaced by a Rejected event.
 *
 * Where much comes (a batch is full) and the sink can, it has two batches: while it publishes the
 * one, the next is read, and the sink is given that one too, so that the other side need not rest
 * in between. `done` moves as each of them ends. Only plain batches go so: those with a Gap or a
 * replacement, and those compared by identity, depend on what became of the one before. */
#include "bridge/sink_internal.h"

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "bridge/base/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STANDBY_WAIT_MS = 500, /* before the pair is asked for again, */
    FENCED_WAIT_MS = 2000, /* also after it was taken from this instance */
    KEEP_MS = 1000,
    MOVE_CHECKPOINT_MS = 3000, /* where the filter lets nothing through */
    BACKOFF_LEAST_MS = 100,
    BACKOFF_MOST_MS = 10000,
    FATAL_WAIT_MS = 30000,
    LEAVE_MS = 12000,       /* longer than a lease, or a session in a group, lasts */
    TAKEOVER_US = 10000000, /* after it nothing comes that another instance has published */
};

const char *sink_state_name(enum sink_state state)
{
    static const char *const names[] = {
        [SINK_OPENING] = "opening", [SINK_PUBLISHING] = "publishing", [SINK_BACKOFF] = "backoff",
        [SINK_WAITING] = "standby", [SINK_ENDED] = "ended",
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
    l->now = &l->batches[0];
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

void sink_set_state(struct sink_loop *l, enum sink_state state, const char *detail)
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
    log_write(state == SINK_BACKOFF ? LOG_WARN : LOG_INFO, id, fields);
}

static void note_owner(struct sink_loop *l)
{
    const char *owner = l->o.ops->owner != NULL ? l->o.ops->owner(l->sink) : "";
    pthread_mutex_lock(&l->lock);
    snprintf(l->status.owner, sizeof l->status.owner, "%s", owner != NULL ? owner : "");
    pthread_mutex_unlock(&l->lock);
}

static void note_checkpoint(struct sink_loop *l, bool found)
{
    pthread_mutex_lock(&l->lock);
    l->status.checkpoint_known = true;
    l->status.checkpoint_found = l->status.checkpoint_found || found;
    l->status.seq = l->done.seq;
    l->status.index = l->done.index;
    l->status.epoch = l->done.epoch;
    l->status.resync = l->done.resync;
    l->status.passed_seq = l->by_identity ? 0 : l->done.seq;
    pthread_mutex_unlock(&l->lock);
}

/* ---- opening ---- */

/* Goes on holding the pair, about every second. */
static enum sink_result keep(struct sink_loop *l, struct err *err)
{
    int64_t now = clock_mono_ms();
    if (l->o.ops->keep == NULL || now - l->last_keep_ms < KEEP_MS)
        return SINK_DONE;
    enum sink_result r = l->o.ops->keep(l->sink, err);
    if (r == SINK_DONE)
        l->last_keep_ms = now;
    return r;
}

/* Waits; while open it goes on holding the pair, and where that fails the next step will see it. */
static void rest(struct sink_loop *l, int wait_ms)
{
    for (int64_t left = wait_ms, until = clock_mono_ms() + wait_ms; left > 0;
         left = until - clock_mono_ms()) {
        struct err ignored = {ERR_RETRY, ""};
        if (stop_wait(l->o.pair.stop, (int)(left < KEEP_MS ? left : KEEP_MS)) ||
            (l->open && keep(l, &ignored) != SINK_DONE))
            return;
    }
}

static void wait_after(struct sink_loop *l, enum sink_result result, const struct err *err)
{
    l->attempt++;
    int wait = result == SINK_FATAL
                   ? FATAL_WAIT_MS
                   : clock_backoff_ms(l->attempt, BACKOFF_LEAST_MS, BACKOFF_MOST_MS);
    sink_set_state(l, SINK_BACKOFF, err->msg);
    metrics_add(l->o.metrics, METRIC_RETRIES, 1);
    rest(l, wait);
}

static void close_sink(struct sink_loop *l)
{
    l->o.ops->close(l->sink);
    l->open = false;
    sink_collect_clear_all(l);
    block_unref(&l->block);
}

/* What the checkpoint says is owed, or was begun in a journal that nobody goes on with. */
static void ask_for_resync(struct sink_loop *l, bool same_journal)
{
    uint64_t after = same_journal ? l->done.seq : journal_next_seq(l->o.journal) - 1;
    if (!same_journal && l->done.resync == CHECKPOINT_RESYNC_OPEN)
        l->done.resync = CHECKPOINT_RESYNC_OWED;
    if (l->done.resync == CHECKPOINT_RESYNC_OWED)
        l->o.want_resync(l->o.arg, after, "a sink is owed one since a gap");
}

/* An older copy of the journal put back has the id that the checkpoint names, but other events
 * behind some seq. */
static bool is_what_was_passed(struct sink_loop *l)
{
    struct err err = {ERR_RETRY, ""};
    struct block *block = NULL;
    bool is = true;
    if (l->done.seq < journal_first_seq(l->o.journal))
        return true;
    journal_reader_seek(l->reader, l->done.seq);
    if (journal_reader_next(l->reader, 0, &block, &err) != JOURNAL_BLOCK)
        return true;
    if (l->done.seq >= block->first_seq && l->done.seq < block->first_seq + block->n_events) {
        const struct event *e = &block->events[l->done.seq - block->first_seq];
        int c = l->o.by_bytes ? 0 : checkpoint_compare(&l->done, e);
        is = e->origin == EVENT_SNAPSHOT || e->repeat || c < 0 ||
             (l->o.by_bytes && e->origin == EVENT_OWN) ||
             (c == 0 && checkpoint_has(&l->done, e->ident));
    }
    block_unref(&block);
    return is;
}

/* Where to go on: behind the checkpoint in the same journal; by identity in another one; else at
 * the oldest. */
static void seek(struct sink_loop *l, bool found)
{
    uint64_t next_seq = journal_next_seq(l->o.journal);
    bool same = found && l->done.journal_id == journal_id(l->o.journal) && l->done.seq < next_seq &&
                is_what_was_passed(l);
    l->by_identity = found && !same;
    l->anchor_epoch = l->done.epoch;
    l->anchor = l->done.index;
    if (l->by_identity && l->o.by_bytes)
        sink_collect_find_known(l);
    l->opened_seq = next_seq;
    l->reached_seq = 0;
    l->proven = l->past_done = false;
    l->over_done = (struct taken_over){0};
    l->gap_wanted = l->gap_again = false;
    ask_for_resync(l, same);
    if (!found)
        l->done.seq = journal_first_seq(l->o.journal) - 1;
    l->done.journal_id = journal_id(l->o.journal);
    if (l->by_identity)
        l->done.seq = 0;
    sink_collect_rewind(l);
    if (l->by_identity) /* the journal reaches back behind the checkpoint's index */
        l->proven = l->o.by_bytes ? l->known_to > 0
                                  : journal_reader_seq(l->reader) > journal_first_seq(l->o.journal);
    note_checkpoint(l, found);
    log_info("sink_resumes", LOG_STR("source", l->o.pair.source), LOG_STR("sink", l->o.pair.sink),
             LOG_STR("by", !found ? "oldest" : (same ? "seq" : "identity")),
             LOG_INT("index", l->done.index), LOG_INT("seq", l->done.seq));
}

static enum sink_result open_sink(struct sink_loop *l, struct err *err)
{
    bool found = false;
    if (l->status.state != SINK_WAITING)
        sink_set_state(l, SINK_OPENING, "");
    enum sink_result r = l->o.ops->open(l->sink, err);
    if (r != SINK_DONE)
        return r;
    l->last_keep_ms = clock_mono_ms();
    note_owner(l);
    checkpoint_fini(&l->done);
    r = l->o.ops->read_checkpoint(l->sink, &l->done, &found, err);
    if (r != SINK_DONE)
        return r;
    l->open = true;
    seek(l, found);
    if (l->attempt == 0) /* else the first success says so: no flapping where opening works and
                            publishing does not */
        sink_set_state(l, SINK_PUBLISHING, "");
    return SINK_DONE;
}

/* ---- publishing ---- */

static bool is_past_anchor(const struct sink_loop *l)
{
    if (l->o.by_bytes) {
        int64_t since = l->taken_us > l->over.last_known ? l->taken_us : l->over.last_known;
        return l->over.n_new >= CHECKPOINT_WINDOW_MIN && l->done.until_us > since + TAKEOVER_US;
    }
    return l->done.epoch > l->anchor_epoch ||
           (l->done.epoch == l->anchor_epoch && l->done.index > l->anchor);
}

static void note_published(struct sink_loop *l)
{
    pthread_mutex_lock(&l->lock);
    l->status.seq = l->done.seq;
    l->status.index = l->done.index;
    l->status.epoch = l->done.epoch;
    l->status.resync = l->done.resync;
    l->status.passed_seq = l->done.seq;
    l->status.published_us = clock_wall_us();
    bool up = l->status.state == SINK_PUBLISHING;
    pthread_mutex_unlock(&l->lock);
    if (!up)
        sink_set_state(l, SINK_PUBLISHING, "");
}

static void published(struct sink_loop *l, struct sink_batch *b)
{
    struct checkpoint before = l->done;
    l->done = b->next;
    b->next = before;
    l->attempt = 0;
    if (is_past_anchor(l))
        l->by_identity = false; /* from here on everything is new */
    l->past_done = l->past;
    l->over_done = l->over;
    if (b->gap_placed) {
        metrics_add(l->o.metrics, METRIC_SINK_GAPS, 1);
        l->gap_wanted = l->gap_again;
        l->gap_again = false;
    }
    l->events_cap = 0;
    l->reject_seq = 0;
    metrics_add(l->o.metrics, METRIC_PUBLISHED, b->n);
    metrics_add(l->o.metrics, METRIC_PUBLISHED_BYTES, b->bytes);
    metrics_add(l->o.metrics, METRIC_REDACTED, b->n_redacted);
    metrics_add(l->o.metrics, METRIC_BATCHES, 1);
    sink_collect_clear(b);
    note_published(l);
}

/* First alone, then replaced. */
static void refused(struct sink_loop *l, const struct batch *batch, const struct err *err)
{
    const struct event *e = batch->events[batch->refused];
    if (batch->n > 1) {
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
    sink_collect_rewind(l);
}

/* What became of a batch. Unless it is published, the one behind it is thrown away with it. */
static enum sink_result conclude(struct sink_loop *l, struct sink_batch *b, enum sink_result r,
                                 const struct err *err)
{
    switch (r) {
    case SINK_DONE:
        published(l, b);
        break;
    case SINK_REFUSED:
        if (b->n == 1 && b->events[0]->origin == EVENT_OWN) {
            sink_collect_rewind(l);
            return SINK_FATAL; /* even what replaces it is refused */
        }
        refused(l, &b->told, err);
        break;
    case SINK_RETRY:
        sink_collect_rewind(l);
        break;
    case SINK_UNKNOWN:
    case SINK_FENCED:
    case SINK_STANDBY:
    case SINK_FATAL:
        close_sink(l);
        break;
    }
    return r;
}

/* The batch that was filled is the sink's now. */
static void hand_over(struct sink_loop *l)
{
    struct sink_batch *b = l->now;
    b->told = (struct batch){
        .events = b->events,
        .n = b->n,
        .bytes = b->bytes,
        .source = l->source,
        .journal_id = journal_id(l->o.journal),
    };
    checkpoint_copy(&b->next, &l->next);
    l->last_publish_ms = clock_mono_ms();
}

static enum sink_result publish(struct sink_loop *l, struct err *err)
{
    struct sink_batch *b = l->now;
    hand_over(l);
    return conclude(l, b, l->o.ops->publish(l->sink, &b->told, &b->next, err), err);
}

static bool may_begin(const struct sink_loop *l)
{
    return l->o.ops->begin != NULL && !stop_requested(l->o.pair.stop) && sink_collect_is_full(l) &&
           l->now->n > 0 && !l->by_identity && l->events_cap == 0 && l->reject_seq == 0 &&
           !l->gap_wanted && !l->now->gap_placed;
}

static void begin(struct sink_loop *l)
{
    hand_over(l);
    l->o.ops->begin(l->sink, &l->now->told, &l->now->next);
}

/* What was begun is being published: meanwhile the next batch is filled, and begun where it is
 * full. */
static enum sink_result end(struct sink_loop *l, struct err *err)
{
    struct sink_batch *b = l->begun;
    bool stopping = sink_collect(l) == SINK_WOKEN;
    bool another = !stopping && may_begin(l);
    if (another)
        begin(l);
    enum sink_result r = conclude(l, b, l->o.ops->end(l->sink, err), err);
    if (r != SINK_DONE)
        return r;
    l->begun = another ? l->now : NULL;
    if (another)
        l->now = b;
    else if (stopping)
        sink_collect_clear(l->now);
    return SINK_DONE;
}

static enum sink_result step(struct sink_loop *l, struct err *err)
{
    if (!l->open)
        return open_sink(l, err);
    if (l->begun != NULL)
        return end(l, err);
    enum sink_result kept = keep(l, err);
    if (kept != SINK_DONE) {
        close_sink(l);
        return kept;
    }
    enum sink_progress p = sink_collect(l);
    if (p == SINK_WOKEN) {
        sink_collect_clear(l->now);
        return SINK_DONE;
    }
    if (may_begin(l)) {
        begin(l);
        l->begun = l->now;
        l->now = l->now == l->batches ? l->batches + 1 : l->batches;
        return SINK_DONE;
    }
    /* In another journal not before the checkpoint's index is reached: it would name a seq behind
     * which not all is new; nor past a Gap that still has to be said. */
    bool move = l->now->passed > 0 && (!l->by_identity || (l->reached_seq > 0 && !l->gap_told)) &&
                clock_mono_ms() - l->last_publish_ms >= MOVE_CHECKPOINT_MS;
    if (l->now->n > 0 || (p == SINK_MORE && move))
        return publish(l, err);
    l->attempt = 0; /* what was not known had happened: nothing is left to publish */
    if (l->status.state != SINK_PUBLISHING)
        sink_set_state(l, SINK_PUBLISHING, "");
    return SINK_DONE;
}

/* What a new journal has to know at once, and not only when this instance takes over. */
static void peek(struct sink_loop *l)
{
    struct checkpoint cp = {0};
    struct err ignored = {ERR_RETRY, ""};
    bool found = false;
    if (l->o.ops->peek == NULL || l->status.checkpoint_known ||
        l->o.ops->peek(l->sink, &cp, &found, &ignored) != SINK_DONE)
        return;
    pthread_mutex_lock(&l->lock);
    l->status.checkpoint_known = true;
    l->status.checkpoint_found = found;
    l->status.index = cp.index;
    l->status.epoch = cp.epoch;
    pthread_mutex_unlock(&l->lock);
    checkpoint_fini(&cp);
}

/* Another instance has the pair. `wait_ms`: before it is asked for again. */
static void stand_by(struct sink_loop *l, int wait_ms, const struct err *err)
{
    l->attempt = 0;
    note_owner(l);
    sink_set_state(l, SINK_WAITING, err->msg);
    peek(l);
    stop_wait(l->o.pair.stop, wait_ms);
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
    case SINK_STANDBY:
        stand_by(l, STANDBY_WAIT_MS, err);
        return true;
    case SINK_FENCED:
        break;
    }
    close_sink(l);
    if (l->o.pair.standby) {
        stand_by(l, FENCED_WAIT_MS, err);
        return true;
    }
    sink_set_state(l, SINK_ENDED, err->msg);
    return false;
}

/* What such a source told while this instance was down it does not tell again, and a standby has
 * it: so that one is let take over what this instance had, and still has by its name. */
static void leave_to_another(struct sink_loop *l)
{
    bool was_here = journal_next_seq(l->o.journal) > journal_first_seq(l->o.journal);
    if (!l->o.no_replay || !l->o.pair.standby || !was_here)
        return;
    sink_set_state(l, SINK_WAITING, "left to an instance that was attached meanwhile, if any");
    stop_wait(l->o.pair.stop, LEAVE_MS);
}

void sink_loop_run(struct sink_loop *l)
{
    leave_to_another(l);
    while (!stop_requested(l->o.pair.stop) || l->begun != NULL) {
        struct err err = {ERR_RETRY, ""};
        if (!after(l, step(l, &err), &err))
            return;
    }
    close_sink(l);
}

static void free_batch(struct sink_batch *b)
{
    checkpoint_fini(&b->next);
    buf_fini(&b->gap.data);
    buf_fini(&b->rejected.data);
    free(b->events);
    free(b->blocks);
}

void sink_loop_free(struct sink_loop **loop)
{
    struct sink_loop *l = *loop;
    if (l == NULL)
        return;
    sink_collect_clear_all(l);
    block_unref(&l->block);
    l->o.ops->destroy(l->sink);
    journal_reader_free(&l->reader);
    checkpoint_fini(&l->done);
    checkpoint_fini(&l->next);
    checkpoint_fini(&l->taken);
    map_fini(&l->known);
    buf_fini(&l->scratch);
    for (size_t i = 0; i < sizeof l->batches / sizeof *l->batches; i++)
        free_batch(&l->batches[i]);
    pthread_mutex_destroy(&l->lock);
    free(l);
    *loop = NULL;
}
