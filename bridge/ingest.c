/* ingest.c - from a connector's messages to the journal.
 *
 * The same for all connectors: an event that was seen before is marked by its identity, gets its
 * position and arrival time, and goes to the journal with its message. Continuity: after each
 * connection the first new event must be preceded by something known from before the last index (or
 * by all there is, where only one index is known), because only then the last index is whole in
 * what the source sent; else a Gap is said before it. Two threads write: the connector's, and the
 * resync's between ingest_lock and ingest_unlock. */
#include "bridge/ingest_internal.h"

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "bridge/own.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHECKPOINTS_WAIT_MS = 10000,
};

/* ---- making one ---- */

static void remember_event(struct ingest *in, const struct event *e)
{
    if (e->epoch > in->epoch) {
        in->epoch = e->epoch;
        seen_fini(&in->seen);
    }
    if (e->origin == EVENT_SOURCE || e->origin == EVENT_MALFORMED)
        seen_add(&in->seen, e->index, e->ident);
}

static int replay_tail(struct ingest *in, struct journal_reader *reader, struct err *err)
{
    for (;;) {
        struct block *block;
        switch (journal_reader_next(reader, 0, &block, err)) {
        case JOURNAL_BLOCK:
            for (size_t i = 0; i < block->n_events; i++)
                remember_event(in, &block->events[i]);
            block_unref(&block);
            break;
        case JOURNAL_LOST:
            break;
        case JOURNAL_NOTHING:
        case JOURNAL_STOPPED:
            return 0;
        case JOURNAL_ERROR:
            return err_wrap(err, "journal of %s", in->o.source);
        }
    }
}

/* Reads back until enough of the source's own events are known: a resync may have told many others
 * since. */
static int remember(struct ingest *in, struct err *err)
{
    uint64_t first = journal_first_seq(in->o.journal), next = journal_next_seq(in->o.journal);
    struct journal_reader *reader = journal_reader_new(in->o.journal);
    int rc = 0;
    for (uint64_t back = SEEN_MIN;; back *= 4) {
        uint64_t from = next - first > back ? next - back : first;
        seen_fini(&in->seen);
        journal_reader_seek(reader, from);
        rc = replay_tail(in, reader, err);
        if (rc != 0 || from == first || in->seen.n >= SEEN_MIN)
            break;
    }
    journal_reader_free(&reader);
    in->position = journal_tail(in->o.journal);
    arrival_raise(in->o.arrival, in->position.arrival_us);
    in->status.last_index = in->seen.last;
    in->status.epoch = in->epoch;
    in->next_seq = next;
    latest_init(&in->latest, next);
    ingest_set_epoch(in, in->epoch);
    return rc;
}

int ingest_new(struct ingest **out, const struct ingest_options *options, struct err *err)
{
    struct ingest *in = mem_zalloc(sizeof *in);
    in->o = *options;
    in->source = str_from(options->source);
    pthread_mutex_init(&in->lock, NULL);
    pthread_mutex_init(&in->turn, NULL);
    pthread_mutex_init(&in->writing, NULL);
    in->status.since_us = clock_wall_us();
    if (remember(in, err) != 0) {
        ingest_free(&in);
        return -1;
    }
    *out = in;
    return 0;
}

void ingest_free(struct ingest **ingest)
{
    struct ingest *in = *ingest;
    if (in == NULL)
        return;
    seen_fini(&in->seen);
    map_fini(&in->tuples);
    unchanged_fini(&in->unchanged);
    latest_fini(&in->latest);
    filter_free(&in->o.filter);
    free(in->events);
    pthread_mutex_destroy(&in->lock);
    pthread_mutex_destroy(&in->turn);
    pthread_mutex_destroy(&in->writing);
    free(in);
    *ingest = NULL;
}

struct str ingest_source(const struct ingest *in)
{
    return in->source;
}

struct stop *ingest_stop(struct ingest *in)
{
    return in->o.stop;
}

enum source_start ingest_start(const struct ingest *in)
{
    return in->o.start;
}

/* Waits until every sink has said what it holds of this source. */
static void learn_floor(struct ingest *in)
{
    struct known_checkpoint known = {0};
    int64_t until = clock_mono_ms() + CHECKPOINTS_WAIT_MS;
    while (!in->o.checkpoints(in->o.arg, &known) && clock_mono_ms() < until)
        if (stop_wait(in->o.stop, 20))
            break;
    in->floor = known;
    if (known.any && known.epoch > in->epoch)
        ingest_set_epoch(in, known.epoch);
}

struct ingest_resume ingest_resume(struct ingest *in)
{
    if (in->seen.last == 0 && !in->floor.any) {
        learn_floor(in);
        in->first =
            !in->floor.any && journal_next_seq(in->o.journal) == journal_first_seq(in->o.journal);
    }
    struct ingest_resume r = {.last = in->seen.last};
    r.index = in->seen.previous > 0 ? in->seen.previous : in->seen.last;
    r.known = in->seen.last > 0 || in->floor.any;
    return r;
}

uint64_t ingest_next_seq(const struct ingest *in)
{
    return in->next_seq;
}

uint64_t ingest_last_index(struct ingest *in)
{
    return in->seen.last > 0 || in->floor.epoch != in->epoch ? in->seen.last : in->floor.index;
}

/* ---- state ---- */

const char *source_state_name(enum source_state state)
{
    static const char *const names[] = {
        [SOURCE_CONNECTING] = "connecting", [SOURCE_ATTACHED] = "attached",
        [SOURCE_BACKOFF] = "backoff",       [SOURCE_ENDED] = "ended",
        [SOURCE_FAILED] = "failed",
    };
    return names[state];
}

static void new_connection(struct ingest *in)
{
    map_clear(&in->tuples);
    in->tuples_index = 0;
    in->attached = true;
    in->proven = in->seen.last == 0 || in->o.by_bytes || in->o.no_replay || in->o.tells_state;
    in->detached = in->seen.n > 0 && in->o.no_replay;
    in->judgement = UNJUDGED;
    metrics_add(in->o.metrics, METRIC_CONNECTS, 1);
}

static void log_state(const struct ingest *in, enum source_state state, const char *server,
                      const char *detail)
{
    const struct log_field fields[] = {
        LOG_STR("source", in->o.source),
        LOG_STR("server", server),
        LOG_STR(*detail != '\0' ? "err" : NULL, detail),
        {.key = NULL},
    };
    char id[32];
    snprintf(id, sizeof id, "source_%s", source_state_name(state));
    enum log_level level = LOG_INFO;
    if (state == SOURCE_FAILED)
        level = LOG_ERROR;
    else if (state == SOURCE_BACKOFF)
        level = LOG_WARN;
    else if (state == SOURCE_CONNECTING)
        level = LOG_DEBUG;
    log_write(level, id, fields);
}

void ingest_state(struct ingest *in, enum source_state state, const char *server,
                  const char *detail)
{
    struct ingest_status *s = &in->status;
    if (server == NULL)
        server = "";
    if (detail == NULL)
        detail = "";
    pthread_mutex_lock(&in->lock);
    /* CONNECTING between two equal failures is no news; neither is the second failure. */
    bool same_trouble = *s->detail != '\0' && strcmp(s->detail, detail) == 0;
    bool news =
        state == SOURCE_BACKOFF ? !same_trouble : state != s->state && state != SOURCE_CONNECTING;
    s->state = state;
    s->since_us = clock_wall_us();
    snprintf(s->server, sizeof s->server, "%s", server);
    if (state != SOURCE_CONNECTING)
        snprintf(s->detail, sizeof s->detail, "%s", detail);
    if (state == SOURCE_ATTACHED)
        s->heard_us = s->since_us;
    pthread_mutex_unlock(&in->lock);
    ingest_write_begin(in);
    if (state == SOURCE_ATTACHED)
        new_connection(in);
    else
        in->attached = false;
    ingest_write_end(in);
    metrics_set(in->o.metrics, METRIC_ATTACHED, state == SOURCE_ATTACHED);
    if (news)
        log_state(in, state, server, detail);
}

void ingest_set_epoch(struct ingest *in, uint32_t epoch)
{
    in->epoch = epoch;
    metrics_set(in->o.metrics, METRIC_EPOCH, epoch);
}

void ingest_heard(struct ingest *in)
{
    pthread_mutex_lock(&in->lock);
    in->status.heard_us = clock_wall_us();
    in->status.last_index = in->seen.last;
    in->status.epoch = in->epoch;
    pthread_mutex_unlock(&in->lock);
}

void ingest_heartbeat(struct ingest *in)
{
    ingest_heard(in);
}

void ingest_get_status(struct ingest *in, struct ingest_status *out)
{
    pthread_mutex_lock(&in->lock);
    *out = in->status;
    pthread_mutex_unlock(&in->lock);
}

/* ---- messages ---- */

/* Tells something of an index below the last known one that is not known. */
static bool is_unknown_before(const struct ingest *in, const struct found_event *f, uint64_t last)
{
    return f->index < last && f->late == FOUND_IN_TIME &&
           !seen_has(&in->seen, event_hash(f->index, f->topic, f->ns, f->key, f->type, 0));
}

bool ingest_is_out_of_place(struct ingest *in, const struct found_event *events, size_t n_events)
{
    uint64_t last = ingest_last_index(in);
    for (size_t i = 0; i < n_events && in->judgement == UNJUDGED; i++)
        if (is_unknown_before(in, &events[i], last))
            return true;
    return false;
}

int ingest_started_over(struct ingest *in, struct err *err)
{
    ingest_write_begin(in);
    in->judgement = STARTED_OVER;
    in->last_before = ingest_last_index(in);
    int rc = ingest_write_flush(in, err);
    ingest_set_epoch(in, in->epoch + 1);
    in->started_over = true;
    seen_fini(&in->seen);
    unchanged_clear(&in->unchanged);
    map_clear(&in->tuples);
    in->tuples_index = 0;
    ingest_heard(in);
    log_warn("index_started_over", LOG_STR("source", in->o.source),
             LOG_INT("last", in->last_before), LOG_INT("epoch", in->epoch),
             LOG_STR("note", "the leader's state is behind what was seen: a rebuilt cluster"));
    ingest_write_end(in);
    return rc;
}

void ingest_lags(struct ingest *in)
{
    in->judgement = LAGS;
    if (in->seen.last == 0)
        return; /* a new journal beside an old checkpoint begins like this */
    log_warn("source_lags", LOG_STR("source", in->o.source), LOG_INT("last", ingest_last_index(in)),
             LOG_STR("note", "this server is behind what was seen already; what it tells of that "
                             "is taken for repeats"));
}

/* A tuple that is told again is another event: the next of its kind. */
static void mark_by_bytes(struct ingest *in, struct event *e)
{
    if (in->tuples.used > SEEN_MIN)
        map_clear(&in->tuples);
    uint32_t *told = map_at(&in->tuples, event_hash_bytes(e->index, e->type, e->data, 0));
    do
        e->ident = event_hash_bytes(e->index, e->type, e->data, (*told)++);
    while (seen_has(&in->seen, e->ident));
    e->occurrence = (uint32_t)e->ident;
}

static void mark_by_tuple(struct ingest *in, const struct found_event *f, struct event *e)
{
    if (f->index != in->tuples_index) {
        map_clear(&in->tuples);
        in->tuples_index = f->index;
    }
    uint64_t tuple = event_hash(f->index, f->topic, f->ns, f->key, f->type, 0);
    e->occurrence = (*map_at(&in->tuples, tuple))++;
    e->ident = e->occurrence == 0
                   ? tuple
                   : event_hash(f->index, f->topic, f->ns, f->key, f->type, e->occurrence);
    bool known = seen_has(&in->seen, e->ident);
    e->repeat = known || (f->late != FOUND_LATE && seen_is_before(&in->seen, f->index)) ||
                (f->late == FOUND_IN_TIME && in->judgement == LAGS && f->index < in->seen.last);
    if (known && (f->index < in->seen.last || in->seen.previous == 0))
        in->proven = true;
}

static void mark(struct ingest *in, const struct found_event *f, struct event *e)
{
    *e = (struct event){
        .topic = f->topic,
        .type = f->type,
        .key = f->key,
        .ns = f->ns,
        .filter_keys = f->filter_keys,
        .data = f->data,
        .index = f->index,
        .time_us = f->time_us,
        .epoch = in->epoch,
        .origin = EVENT_SOURCE,
    };
    if (in->o.by_bytes)
        mark_by_bytes(in, e);
    else
        mark_by_tuple(in, f, e);
}

/* Marks all; returns how many are new. */
static size_t mark_all(struct ingest *in, const struct found_event *found, size_t n)
{
    if (n > in->events_cap) {
        in->events_cap = n + n / 2 + 16;
        in->events = mem_realloc(in->events, in->events_cap * sizeof *in->events);
    }
    size_t new_ones = 0;
    for (size_t i = 0; i < n; i++) {
        mark(in, &found[i], &in->events[i]);
        new_ones += !in->events[i].repeat;
    }
    metrics_count(in->o.metrics, METRIC_REPEATS, n - new_ones);
    return new_ones;
}

/* All that is new of a message comes late: it lies within what is known, whatever is missing behind
 * that. */
static bool is_all_late(const struct ingest *in, const struct found_event *found, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!in->events[i].repeat &&
            (found[i].late != FOUND_LATE || found[i].index >= in->seen.last))
            return false;
    return true;
}

static void remember_new(struct ingest *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct event *e = &in->events[i];
        if (e->repeat)
            continue;
        seen_add(&in->seen, e->index, e->ident);
        bool unwanted = !filter_match(in->o.filter, e);
        bool unchanged = !unwanted && in->o.digest != NULL &&
                         unchanged_note(&in->unchanged, e, in->o.digest(e->data));
        e->repeat = unwanted || unchanged; /* journaled, so that continuity can be proven after a
                                              restart; no exit publishes it */
        metrics_count(in->o.metrics,
                      unwanted    ? METRIC_FILTERED
                      : unchanged ? METRIC_UNCHANGED
                                  : METRIC_EVENTS,
                      1);
    }
    metrics_set(in->o.metrics, METRIC_LAST_INDEX, in->seen.last);
}

static int take_malformed(struct ingest *in, struct str raw, uint64_t size, const char *reason,
                          struct err *err)
{
    uint64_t ident = hash64(HASH64_START, raw.p, raw.len) | 1; /* never 0 */
    metrics_add(in->o.metrics, METRIC_MALFORMED, 1);
    while (in->o.by_bytes && seen_has(&in->seen, ident))
        ident = hash64(ident, &ident, sizeof ident) | 1;
    if (seen_has(&in->seen, ident)) {
        metrics_count(in->o.metrics, METRIC_REPEATS, 1);
        return 0;
    }
    if (in->o.no_replay && ingest_write_due(in, in->seen.last, err) != 0)
        return -1;
    seen_add(&in->seen, in->seen.last, ident);
    log_warn("malformed", LOG_STR("source", in->o.source), LOG_INT("bytes", size),
             LOG_STR("why", reason));
    struct buf payload = {0};
    own_malformed_payload(&payload, raw, size, reason);
    int rc = ingest_write_malformed(in, buf_str(&payload), ident, err);
    buf_fini(&payload);
    return rc;
}

static int take_message(struct ingest *in, struct str raw, const struct found_event *events,
                        size_t n_events, struct err *err)
{
    metrics_count(in->o.metrics, METRIC_MESSAGES, 1); /* one writer at a time */
    metrics_count(in->o.metrics, METRIC_RECEIVED_BYTES, raw.len);
    for (size_t i = 0; i < n_events; i++)
        if (events[i].index > INT64_MAX)
            return take_malformed(in, raw, raw.len, "an index is larger than 2^63-1", err);
    if (mark_all(in, events, n_events) == 0)
        return 0;
    if (!is_all_late(in, events, n_events) && ingest_write_due(in, events[0].index, err) != 0)
        return -1;
    remember_new(in, n_events);
    struct message m = {raw, in->events, n_events};
    return ingest_write_message(in, &m, err);
}

int ingest_message(struct ingest *in, struct str raw, const struct found_event *events,
                   size_t n_events, struct err *err)
{
    ingest_write_begin(in);
    int rc = take_message(in, raw, events, n_events, err);
    ingest_write_end(in);
    return rc;
}

int ingest_malformed(struct ingest *in, struct str raw, uint64_t size, const char *reason,
                     struct err *err)
{
    ingest_write_begin(in);
    int rc = take_malformed(in, raw, size, reason, err);
    ingest_write_end(in);
    return rc;
}

int ingest_missed(struct ingest *in, uint64_t from, uint64_t to, const char *reason,
                  struct err *err)
{
    ingest_write_begin(in);
    int rc = ingest_write_gap(in, from, to, reason, err);
    ingest_write_end(in);
    return rc;
}

int ingest_flush(struct ingest *in, struct err *err)
{
    ingest_write_begin(in);
    int rc = ingest_write_flush(in, err);
    ingest_write_end(in);
    return rc;
}
