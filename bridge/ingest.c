/* ingest.c - from a connector's messages to the journal.
 *
 * The same for all connectors: an event that was seen before is marked by its identity, gets its
 * position and arrival time, and goes to the journal with its message. Continuity: after each
 * connection the first new event must be preceded by something known from before the last index (or
 * by all there is, where only one index is known), because only then the last index is whole in
 * what the source sent; else a Gap is said before it. */
#include "bridge/ingest.h"

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "bridge/own.h"
#include "bridge/seen.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FLUSH_BYTES = 256 * 1024,
    DISK_FULL_WAIT_MS = 500,
    CHECKPOINTS_WAIT_MS = 10000,
    PASSED_EVERY_MS = 1000,
};

/* A whole message as it goes to the journal. */
struct message {
    struct str raw;
    struct event *events;
    size_t n_events;
};

struct ingest {
    struct ingest_options o;
    struct str source;
    struct seen seen;
    struct map tuples; /* how often each tuple was told at `tuples_index` on this connection */
    uint64_t tuples_index;
    struct journal_tail position;
    struct event *events;
    size_t events_cap;
    size_t unflushed; /* bytes appended since the last commit */
    bool attached;
    bool proven; /* nothing is missing between the journal and this connection */
    bool went_back;
    int64_t passed_asked_ms;
    pthread_mutex_t lock; /* guards status only */
    struct ingest_status status;
};

/* ---- making one ---- */

static int replay_tail(struct ingest *in, struct journal_reader *reader, struct err *err)
{
    for (;;) {
        struct block *block;
        switch (journal_reader_next(reader, 0, &block, err)) {
        case JOURNAL_BLOCK:
            for (size_t i = 0; i < block->n_events; i++)
                if (block->events[i].origin != EVENT_OWN)
                    seen_add(&in->seen, block->events[i].index, block->events[i].ident);
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

static int remember(struct ingest *in, struct err *err)
{
    uint64_t first = journal_first_seq(in->o.journal), next = journal_next_seq(in->o.journal);
    struct journal_reader *reader = journal_reader_new(in->o.journal);
    journal_reader_seek(reader, next - first > SEEN_MIN ? next - SEEN_MIN : first);
    int rc = replay_tail(in, reader, err);
    journal_reader_free(&reader);
    in->position = journal_tail(in->o.journal);
    arrival_raise(in->o.arrival, in->position.arrival_us);
    in->status.last_index = in->seen.last;
    return rc;
}

int ingest_new(struct ingest **out, const struct ingest_options *options, struct err *err)
{
    struct ingest *in = mem_zalloc(sizeof *in);
    in->o = *options;
    in->source = str_from(options->source);
    pthread_mutex_init(&in->lock, NULL);
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
    filter_free(&in->o.filter);
    free(in->events);
    pthread_mutex_destroy(&in->lock);
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

/* True where some sink already has a checkpoint of this source: then `start` has nothing to say. */
static bool any_checkpoint(struct ingest *in)
{
    bool any = false;
    int64_t until = clock_mono_ms() + CHECKPOINTS_WAIT_MS;
    while (!in->o.checkpoints(in->o.arg, &any) && !any && clock_mono_ms() < until)
        if (stop_wait(in->o.stop, 20))
            break;
    return any;
}

struct ingest_resume ingest_resume(struct ingest *in)
{
    struct ingest_resume r = {.last = in->seen.last};
    r.index = in->seen.previous > 0 ? in->seen.previous : in->seen.last;
    r.known = in->seen.last > 0;
    if (!r.known && in->o.start == SOURCE_START_NOW)
        r.known = any_checkpoint(in);
    return r;
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
    in->proven = in->seen.last == 0;
    in->went_back = false;
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
    if (state == SOURCE_ATTACHED)
        new_connection(in);
    else
        in->attached = false;
    metrics_set(in->o.metrics, METRIC_ATTACHED, state == SOURCE_ATTACHED);
    if (news)
        log_state(in, state, server, detail);
}

static void heard(struct ingest *in)
{
    pthread_mutex_lock(&in->lock);
    in->status.heard_us = clock_wall_us();
    in->status.last_index = in->seen.last;
    pthread_mutex_unlock(&in->lock);
}

void ingest_heartbeat(struct ingest *in)
{
    heard(in);
}

void ingest_get_status(struct ingest *in, struct ingest_status *out)
{
    pthread_mutex_lock(&in->lock);
    *out = in->status;
    pthread_mutex_unlock(&in->lock);
}

/* ---- to the journal ---- */

static void set_position(struct ingest *in, struct event *e)
{
    if (e->index > in->position.pos_index) {
        in->position.pos_index = e->index;
        in->position.ordinal = 0;
    } else {
        in->position.ordinal++;
    }
    e->pos_index = in->position.pos_index;
    e->ordinal = in->position.ordinal;
}

/* Waits a while for room on the disk, which is told once; false where it is time to stop or to give
 * up. */
static bool wait_for_room(struct ingest *in, const struct err *err, bool *told)
{
    if (err->kind != ERR_RETRY)
        return false;
    if (!*told)
        log_error("journal_full", LOG_STR("source", in->o.source), LOG_STR("err", err->msg),
                  LOG_STR("hint", "make room on the disk; reading from the source has stopped"));
    *told = true;
    return !stop_wait(in->o.stop, DISK_FULL_WAIT_MS);
}

static void has_room(struct ingest *in, bool told)
{
    if (told)
        log_info("journal_has_room", LOG_STR("source", in->o.source));
}

/* Appends; waits as long as the disk is full: a paused stream may become a gap, a dropped message
 * surely is one. */
static int append(struct ingest *in, const struct message *m, struct err *err)
{
    for (size_t i = 0; i < m->n_events; i++)
        set_position(in, &m->events[i]);
    bool told = false;
    for (;;) {
        int64_t arrival = arrival_take(in->o.arrival, in->o.arrival_slot, m->n_events);
        if (journal_append(in->o.journal, m->raw, arrival, m->events, m->n_events, err) == 0)
            break;
        if (!wait_for_room(in, err, &told))
            return err_wrap(err, "journal of %s", in->o.source);
    }
    has_room(in, told);
    in->unflushed += m->raw.len;
    return in->unflushed >= FLUSH_BYTES ? ingest_flush(in, err) : 0;
}

int ingest_flush(struct ingest *in, struct err *err)
{
    if (in->unflushed > 0) {
        bool told = false;
        while (journal_commit(in->o.journal, err) != 0)
            if (!wait_for_room(in, err, &told))
                return err_wrap(err, "journal of %s", in->o.source);
        has_room(in, told);
        in->unflushed = 0;
        arrival_readable(in->o.arrival, in->o.arrival_slot);
        heard(in);
        in->o.news(in->o.arg);
    }
    int64_t now = clock_mono_ms();
    if (now - in->passed_asked_ms >= PASSED_EVERY_MS) {
        in->passed_asked_ms = now;
        journal_set_passed(in->o.journal, in->o.passed(in->o.arg));
    }
    if (journal_tick(in->o.journal, err) != 0)
        return err_wrap(err, "journal of %s", in->o.source);
    return 0;
}

/* Says something of Busbar's own in the stream: type with payload. */
static int say(struct ingest *in, const char *type, struct str payload, uint64_t malformed_ident,
               struct err *err)
{
    struct buf data = {0};
    own_render(&data, type, in->source, in->seen.last, payload);
    struct event e = own_event(type, in->source, buf_str(&data));
    e.index = in->seen.last;
    e.ident = hash64(malformed_ident, data.p, data.len);
    if (malformed_ident != 0) {
        e.origin = EVENT_MALFORMED;
        e.ident = malformed_ident;
    }
    struct message m = {buf_str(&data), &e, 1};
    int rc = append(in, &m, err);
    buf_fini(&data);
    return rc;
}

static int say_gap(struct ingest *in, uint64_t to, struct err *err)
{
    const char *reason =
        "after a reconnect the source did not send anything known from before the last index, so "
        "events between the two may be missing";
    struct buf payload = {0};
    own_gap_payload(&payload, in->seen.last, to, reason);
    log_warn("gap", LOG_STR("source", in->o.source), LOG_INT("from", in->seen.last),
             LOG_INT("to", to), LOG_STR("why", reason));
    metrics_add(in->o.metrics, METRIC_GAPS, 1);
    int rc = say(in, "Gap", buf_str(&payload), 0, err);
    buf_fini(&payload);
    in->proven = true;
    return rc;
}

/* ---- messages ---- */

static void note_went_back(struct ingest *in, uint64_t index)
{
    if (in->went_back)
        return;
    in->went_back = true;
    log_warn("index_went_back", LOG_STR("source", in->o.source), LOG_INT("index", index),
             LOG_INT("last", in->seen.last),
             LOG_STR("hint", "a server that lags, or a rebuilt cluster: older indexes are taken "
                             "for repeats; after a rebuild give the source a new name or journal"));
}

static void mark(struct ingest *in, const struct found_event *f, struct event *e)
{
    if (f->index != in->tuples_index) {
        map_clear(&in->tuples);
        in->tuples_index = f->index;
    }
    *e = (struct event){
        .topic = f->topic,
        .type = f->type,
        .key = f->key,
        .ns = f->ns,
        .filter_keys = f->filter_keys,
        .data = f->data,
        .index = f->index,
        .time_us = f->time_us,
        .origin = EVENT_SOURCE,
    };
    uint64_t tuple = event_hash(f->index, f->topic, f->ns, f->key, f->type, 0);
    e->occurrence = (*map_at(&in->tuples, tuple))++;
    e->ident = e->occurrence == 0
                   ? tuple
                   : event_hash(f->index, f->topic, f->ns, f->key, f->type, e->occurrence);
    e->repeat = seen_has(&in->seen, e->ident);
    if (!e->repeat && seen_is_before(&in->seen, f->index)) {
        e->repeat = true;
        note_went_back(in, f->index);
    }
    if (e->repeat && (f->index < in->seen.last || in->seen.previous == 0))
        in->proven = true;
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
    metrics_add(in->o.metrics, METRIC_REPEATS, n - new_ones);
    return new_ones;
}

static void remember_new(struct ingest *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct event *e = &in->events[i];
        if (e->repeat)
            continue;
        seen_add(&in->seen, e->index, e->ident);
        if (!filter_match(in->o.filter, e)) {
            e->repeat = true; /* journaled, so that continuity can be proven after a restart; no
                                 exit publishes it */
            metrics_add(in->o.metrics, METRIC_FILTERED, 1);
        } else {
            metrics_add(in->o.metrics, METRIC_EVENTS, 1);
        }
    }
    metrics_set(in->o.metrics, METRIC_LAST_INDEX, in->seen.last);
}

int ingest_message(struct ingest *in, struct str raw, const struct found_event *events,
                   size_t n_events, struct err *err)
{
    metrics_add(in->o.metrics, METRIC_MESSAGES, 1);
    metrics_add(in->o.metrics, METRIC_RECEIVED_BYTES, raw.len);
    for (size_t i = 0; i < n_events; i++)
        if (events[i].index > INT64_MAX)
            return ingest_malformed(in, raw, raw.len, "an index is larger than 2^63-1", err);
    if (mark_all(in, events, n_events) == 0)
        return 0;
    if (!in->proven && say_gap(in, events[0].index, err) != 0)
        return -1;
    remember_new(in, n_events);
    struct message m = {raw, in->events, n_events};
    return append(in, &m, err);
}

int ingest_malformed(struct ingest *in, struct str raw, uint64_t size, const char *reason,
                     struct err *err)
{
    uint64_t ident = hash64(HASH64_START, raw.p, raw.len) | 1; /* never 0 */
    metrics_add(in->o.metrics, METRIC_MALFORMED, 1);
    if (seen_has(&in->seen, ident)) {
        metrics_add(in->o.metrics, METRIC_REPEATS, 1);
        return 0;
    }
    seen_add(&in->seen, in->seen.last, ident);
    log_warn("malformed", LOG_STR("source", in->o.source), LOG_INT("bytes", size),
             LOG_STR("why", reason));
    struct buf payload = {0};
    own_malformed_payload(&payload, raw, size, reason);
    int rc = say(in, "Malformed", buf_str(&payload), ident, err);
    buf_fini(&payload);
    return rc;
}
