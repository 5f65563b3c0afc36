/* resync.c - the thread that keeps the state table and reads a source's state anew.
 *
 * It looks about five times a second whether there is something to do. The table is brought up to
 * date only where that is due (is_due): a resync needs it, a Gap or the like was told, much is
 * behind, or a minute has passed. That does not read again what ingest remembers (latest.h): where
 * nothing but the source's own events were told, not many objects are theirs, and nobody asks for a
 * resync, the journal is read at the start only, and the table written once for each object. What
 * of a resync was done is read back from the journal like everything else, so there is no other
 * memory of it to lose: an open one is resumed by reading the state again and leaving out what this
 * resync has told already.
 *
 * What is left out and what has vanished, and why that is right. A listing read at index W holds
 * all objects that existed then. An object is left out where the table, with all of the journal in
 * it, has it at a higher (epoch, index): the stream has told what is newer, or will be told again.
 * An object that the table knows and that no listing of this attempt has named has vanished, but
 * only where the table has it at W or before. So these are safe: one that was created or changed
 * while the listings were read (the stream tells it at an index above W, looked at with the stream
 * standing still), and one that the stream has told newer than the listing (named is enough). After
 * the last listing the stream is waited for until it has passed W: else it could still tell, after
 * the Vanished, an older change of what is gone. (Where it stays behind W for half a minute, say
 * because it is detached, the Vanished is told all the same; what the stream then brings to life
 * again is in the table again, and told as vanished by the next resync.) A listing that was
 * read before the index started over is worth nothing for the new epoch: the attempt is broken off.
 * One thing is told that need not be: an object whose deletion the stream has told, as an event of
 * a type that nothing here knows, stays in the table, and vanishes once more with the next resync.
 * All this is said of sources whose indexes are an order; for others see resync_again.c.
 * Objects that were forgotten (state.h) can't vanish. */
#include "bridge/resync_internal.h"

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "bridge/own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TICK_MS = 200,
    CATCH_UP_EVERY_MS = 60000,
    CATCH_UP_FULL_MS = 1000, /* while each has more objects than are remembered */
    COMMIT_EVERY_MS = 1000,
    BACKOFF_LEAST_MS = 1000,
    BACKOFF_MOST_MS = 60000,
    PROGRESS_EVERY_MS = 10000,
    PUBLISH_EVERY_MS = 100,
};

/* ---- making ---- */

static int open_table(struct resync *r, struct err *err)
{
    struct state_options options = {
        .dir = r->dir, .source = r->o.source, .bytes_max = STATE_BYTES_MAX};
    return state_open(&r->state, &options, err);
}

int resync_new(struct resync **out, const struct resync_options *options, struct err *err)
{
    struct resync *r = mem_zalloc(sizeof *r);
    r->o = *options;
    r->dir = mem_strdup(options->dir);
    if (r->o.rate == 0)
        r->o.rate = 1;
    pthread_mutex_init(&r->lock, NULL);
    r->status.supported = options->ops->snapshot != NULL;
    r->reader = journal_reader_new(options->journal);
    if (open_table(r, err) != 0) {
        resync_free(&r);
        return -1;
    }
    *out = r;
    return 0;
}

void resync_free(struct resync **resync)
{
    struct resync *r = *resync;
    if (r == NULL)
        return;
    resync_tell_begin(r);
    buf_fini(&r->batch.text);
    journal_reader_free(&r->reader);
    state_close(&r->state);
    pthread_mutex_destroy(&r->lock);
    free(r->dir);
    free(r);
    *resync = NULL;
}

/* ---- the table ---- */

static int make_ready(struct resync *r, struct err *err)
{
    if (r->ready)
        return 0;
    if (r->state == NULL && open_table(r, err) != 0)
        return -1;
    if (state_verify(r->state, r->o.stop, err) != 0 ||
        state_set_journal(r->state, journal_id(r->o.journal), journal_next_seq(r->o.journal),
                          err) != 0)
        return -1;
    journal_reader_seek(r->reader, state_next_seq(r->state));
    r->caught_up_ms = 0;
    r->ready = true;
    return 0;
}

static int apply_block(struct resync *r, struct block *block, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < block->n_events && rc == 0; i++) {
        resync_watch_note(&r->watch, &block->events[i]);
        rc = state_apply(r->state, &block->events[i], err);
    }
    block_unref(&block);
    return rc;
}

static int commit(struct resync *r, struct err *err)
{
    r->committed_ms = clock_mono_ms();
    return state_commit(r->state, r->o.stop, err);
}

/* 1: there may be more, 0: all is applied, -1: error. */
static int apply_next(struct resync *r, struct err *err)
{
    struct block *block;
    switch (journal_reader_next(r->reader, 0, &block, err)) {
    case JOURNAL_BLOCK:
        return apply_block(r, block, err) == 0 ? 1 : -1;
    case JOURNAL_LOST:
        return state_lost(r->state, journal_reader_seq(r->reader), err) == 0 ? 1 : -1;
    case JOURNAL_NOTHING:
        return 0;
    case JOURNAL_STOPPED:
        return err_set(err, ERR_RETRY, "it is time to stop");
    case JOURNAL_ERROR:
        break;
    }
    return err_wrap(err, "journal of %s", r->o.source);
}

int resync_catch_up(struct resync *r, bool durable, struct err *err)
{
    int more;
    while ((more = apply_next(r, err)) == 1) {
        if (stop_requested(r->o.stop))
            return err_set(err, ERR_RETRY, "it is time to stop");
        if (durable && state_is_due(r->state) && commit(r, err) != 0)
            return -1;
    }
    r->caught_up_ms = clock_mono_ms();
    if (more == 0 && durable &&
        (state_is_due(r->state) || r->caught_up_ms - r->committed_ms >= COMMIT_EVERY_MS))
        return commit(r, err);
    return more;
}

/* As far as the table has to be read for, to apply `latest`. */
static int read_up_to(struct resync *r, uint64_t from, struct err *err)
{
    int more = 1;
    while (more == 1 && state_next_seq(r->state) < from) {
        if (stop_requested(r->o.stop))
            return err_set(err, ERR_RETRY, "it is time to stop");
        more = apply_next(r, err);
        if (more == 1 && state_is_due(r->state) && commit(r, err) != 0)
            return -1;
    }
    return more < 0 ? -1 : 0;
}

/* Like resync_catch_up, but what ingest remembers of the journal is not read again. What was told
 * in the meantime may be missing. */
static int catch_up_by_latest(struct resync *r, struct err *err)
{
    struct latest latest = {0};
    if (!ingest_take_latest(r->o.ingest, &latest))
        return resync_catch_up(r, true, err);
    int rc = read_up_to(r, latest.from, err);
    bool all = latest.end == LATEST_GOES_ON && state_next_seq(r->state) >= latest.from;
    if (rc == 0 && state_next_seq(r->state) >= latest.from)
        rc = state_apply_latest(r->state, &latest, r->o.stop, err);
    if (rc == 0)
        journal_reader_seek(r->reader, state_next_seq(r->state));
    latest_fini(&latest);
    if (rc != 0 || !all)
        return rc != 0 ? -1 : resync_catch_up(r, true, err);
    r->caught_up_ms = clock_mono_ms();
    return state_is_due(r->state) || r->caught_up_ms - r->committed_ms >= COMMIT_EVERY_MS
               ? commit(r, err)
               : 0;
}

static bool is_far_behind(const struct resync *r, uint64_t behind)
{
    uint64_t held = journal_next_seq(r->o.journal) - journal_first_seq(r->o.journal);
    return held > 0 && journal_bytes(r->o.journal) / held * behind > r->o.journal_max_size / 8;
}

static bool is_due(struct resync *r, bool asked)
{
    uint64_t next = journal_next_seq(r->o.journal), from = state_next_seq(r->state);
    if (r->caught_up_ms == 0)
        return true;
    if (next <= from)
        return false;
    enum latest_end end = ingest_latest_end(r->o.ingest);
    int64_t every = end == LATEST_FULL ? CATCH_UP_FULL_MS : CATCH_UP_EVERY_MS;
    return asked || end == LATEST_ORDER || clock_mono_ms() - r->caught_up_ms >= every ||
           is_far_behind(r, next - from);
}

static void table_failed(struct resync *r, const struct err *err)
{
    int wait = clock_backoff_ms(++r->table_failures, BACKOFF_LEAST_MS, BACKOFF_MOST_MS);
    if (r->table_failures == 1)
        log_error("state_failed", LOG_STR("source", r->o.source), LOG_STR("err", err->msg),
                  LOG_INT("retry_s", (wait + 999) / 1000));
    r->table_again_ms = clock_mono_ms() + wait;
    state_close(&r->state);
    r->ready = false;
}

/* ---- a resync ---- */

static int begin_locked(struct resync *r, struct err *err)
{
    const struct state_resync *s = state_resync(r->state);
    uint64_t seq;
    if (resync_catch_up(r, false, err) != 0)
        return -1;
    if (s->open || !s->wanted)
        return 0;
    struct buf payload = {0};
    own_resync_payload(&payload, s->wanted_reason);
    int rc = ingest_tell_own(r->o.ingest, OWN_RESYNC_STARTED, buf_str(&payload), &seq, err);
    buf_fini(&payload);
    return rc;
}

/* Says ResyncStarted, unless one is open. */
static int begin(struct resync *r, struct err *err)
{
    if (state_resync(r->state)->open)
        return 0;
    if (ingest_lock(r->o.ingest, err) != 0)
        return -1;
    int rc = begin_locked(r, err);
    struct err unlock_err;
    if (ingest_unlock(r->o.ingest, rc == 0 ? err : &unlock_err) != 0)
        rc = -1;
    return rc == 0 ? resync_catch_up(r, true, err) : -1;
}

/* Once for each in this process. */
static void note_begun(struct resync *r)
{
    const struct state_resync *s = state_resync(r->state);
    if (r->counted == s->number)
        return;
    r->counted = s->number;
    r->requests = 0;
    r->lock_us = 0;
    metrics_add(r->o.metrics, METRIC_RESYNCS, 1);
    log_info("resync_started", LOG_STR("source", r->o.source), LOG_INT("seq", s->number),
             LOG_STR("why", s->reason), LOG_INT("told_already", s->objects),
             LOG_INT("known", state_objects(r->state)));
}

static int try_attempt(struct resync *r, struct err *err)
{
    struct ingest_status source;
    if (resync_catch_up(r, true, err) != 0 || begin(r, err) != 0)
        return -1;
    if (!state_resync(r->state)->open)
        return 0;
    note_begun(r);
    ingest_get_status(r->o.ingest, &source);
    r->epoch = source.epoch;
    r->expected = r->skipped = 0;
    r->progress_ms = clock_mono_ms();
    r->status_ms = 0;
    resync_publish(r);
    resync_tell_begin(r);
    state_set_attempt(r->state, hash_random() | 1);
    int rc = r->o.ops->snapshot(r->o.connector, r, err);
    if (r->failed) {
        *err = r->failure;
        rc = -1;
    }
    if (stop_requested(r->o.stop))
        return err_set(err, ERR_RETRY, "it is time to stop");
    return rc == 0 ? resync_end(r, err) : -1;
}

static void set_detail(struct resync *r, const char *detail)
{
    pthread_mutex_lock(&r->lock);
    snprintf(r->status.detail, sizeof r->status.detail, "%s", detail);
    pthread_mutex_unlock(&r->lock);
}

static void attempt_failed(struct resync *r, const struct err *err)
{
    int wait = clock_backoff_ms(++r->failures, BACKOFF_LEAST_MS, BACKOFF_MOST_MS);
    if (strcmp(r->status.detail, err->msg) != 0) /* written by this thread only */
        log_warn("resync_backoff", LOG_STR("source", r->o.source), LOG_STR("err", err->msg),
                 LOG_INT("retry_s", (wait + 999) / 1000));
    set_detail(r, err->msg);
    r->again_ms = clock_mono_ms() + wait;
}

static void attempt(struct resync *r)
{
    struct err err = {ERR_RETRY, "broke off"};
    int rc = try_attempt(r, &err);
    state_set_attempt(r->state, 0);
    resync_tell_begin(r);
    if (rc == 0) {
        r->failures = 0;
        set_detail(r, "");
    } else if (!stop_requested(r->o.stop)) {
        attempt_failed(r, &err);
        if (state_is_broken(r->state))
            table_failed(r, &err);
    }
}

static bool may_attempt(struct resync *r)
{
    const struct state_resync *s = state_resync(r->state);
    struct ingest_status source;
    if (r->o.ops->snapshot == NULL || !(s->open || s->wanted) || clock_mono_ms() < r->again_ms)
        return false;
    ingest_get_status(r->o.ingest, &source);
    return source.state == SOURCE_ATTACHED;
}

/* ---- asked for ---- */

void resync_request(struct resync *r, uint64_t after_seq, const char *reason)
{
    pthread_mutex_lock(&r->lock);
    struct resync_ask *ask = &r->ask;
    bool later = !ask->any || after_seq > ask->after_seq;
    if (later || state_is_after_restart(ask->reason))
        snprintf(ask->reason, sizeof ask->reason, "%s", reason);
    if (later)
        ask->after_seq = after_seq;
    ask->any = true;
    pthread_mutex_unlock(&r->lock);
}

static struct resync_ask get_ask(struct resync *r)
{
    pthread_mutex_lock(&r->lock);
    struct resync_ask ask = r->ask;
    pthread_mutex_unlock(&r->lock);
    return ask;
}

static void settle(struct resync *r, const struct resync_ask *ask)
{
    pthread_mutex_lock(&r->lock);
    if (r->ask.after_seq == ask->after_seq)
        r->ask.any = false;
    r->status.wanted = state_resync(r->state)->wanted; /* so that it is never seen to be neither */
    pthread_mutex_unlock(&r->lock);
}

/* The table is up to date. A wish goes to the disk, to last through a restart. */
static int answer(struct resync *r, const struct resync_ask *ask, struct err *err)
{
    if (!ask->any)
        return 0;
    const struct state_resync *s = state_resync(r->state);
    /* Of no use to anybody who lost something. */
    bool had_less = state_is_after_restart(s->reason) && !state_is_after_restart(ask->reason);
    if ((!s->wanted || state_is_after_restart(s->wanted_reason)) &&
        (s->number <= ask->after_seq || had_less) &&
        (state_want(r->state, ask->reason, err) != 0 || commit(r, err) != 0))
        return -1;
    settle(r, ask);
    return 0;
}

/* ---- the thread ---- */

static int keep_table(struct resync *r, struct err *err)
{
    struct resync_ask ask = get_ask(r);
    if (make_ready(r, err) != 0)
        return -1;
    if (is_due(r, ask.any) && catch_up_by_latest(r, err) != 0)
        return -1;
    if (answer(r, &ask, err) != 0)
        return -1;
    r->table_failures = 0;
    return 0;
}

static void step(struct resync *r)
{
    struct err err;
    if (clock_mono_ms() < r->table_again_ms)
        return;
    if (keep_table(r, &err) != 0) {
        if (!stop_requested(r->o.stop))
            table_failed(r, &err);
        return;
    }
    if (may_attempt(r))
        attempt(r);
    r->status_ms = 0;
    resync_publish(r);
}

void resync_run(struct resync *r)
{
    do
        step(r);
    while (!stop_wait(r->o.stop, TICK_MS));
    struct err ignored; /* what is not committed is applied again */
    if (r->state != NULL && !state_is_broken(r->state))
        state_commit(r->state, r->o.stop, &ignored);
}

/* ---- looking at it ---- */

static void note_progress(struct resync *r, int64_t now)
{
    const struct state_resync *s = state_resync(r->state);
    if (!s->open || now - r->progress_ms < PROGRESS_EVERY_MS)
        return;
    r->progress_ms = now;
    log_info("resync_progress", LOG_STR("source", r->o.source), LOG_INT("seq", s->number),
             LOG_INT("requests", r->requests), LOG_INT("expected", r->expected),
             LOG_INT("told", s->objects), LOG_INT("skipped", r->skipped),
             LOG_INT("vanished", s->vanished));
}

void resync_publish(struct resync *r)
{
    int64_t now = clock_mono_ms();
    if (r->state == NULL || now - r->status_ms < PUBLISH_EVERY_MS)
        return;
    r->status_ms = now;
    const struct state_resync *s = state_resync(r->state);
    uint64_t known = state_objects(r->state);
    pthread_mutex_lock(&r->lock);
    struct resync_status *out = &r->status;
    out->open = s->open;
    out->wanted = s->wanted;
    out->number = s->number;
    snprintf(out->reason, sizeof out->reason, "%s", s->number > 0 ? s->reason : s->wanted_reason);
    out->started_us = s->started_us;
    out->finished_us = s->finished_us;
    out->requests = r->requests;
    out->expected = r->expected;
    out->skipped = r->skipped;
    out->told = s->objects;
    out->vanished = s->vanished;
    out->known = known;
    pthread_mutex_unlock(&r->lock);
    metrics_set(r->o.metrics, METRIC_RESYNC_OPEN, s->open);
    if (r->counted == s->number)
        note_progress(r, now);
}

void resync_get_status(struct resync *r, struct resync_status *out)
{
    pthread_mutex_lock(&r->lock);
    *out = r->status;
    out->wanted = out->wanted || r->ask.any;
    pthread_mutex_unlock(&r->lock);
}
