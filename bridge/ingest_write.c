/* ingest_write.c - to the journal: what the connector hands on, what has to be said in between, and
 * what a resync tells.
 *
 * The connector's thread and the resync's write in turns: each takes `turn`, then `writing`, and
 * gives `turn` back, so that one that waits is next however busy the other is. */
#include "bridge/ingest_internal.h"

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "bridge/own.h"

enum {
    /* Less than makes a block of the journal full: else each would leave one message over. */
    FLUSH_BYTES = 224 * 1024,
    DISK_FULL_WAIT_MS = 500,
    ASK_SINKS_MS = 1000,
};

/* ---- to the journal ---- */

static void set_position(struct ingest *in, struct event *e)
{
    /* What a resync tells may be older than the stream, or ahead of it. */
    if (e->origin != EVENT_SNAPSHOT && e->index > in->position.pos_index) {
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
    bool stopped = stop_wait(in->o.stop, DISK_FULL_WAIT_MS);
    journal_set_passed(in->o.journal, in->o.passed(in->o.arg)); /* what no sink wants may go */
    return !stopped;
}

static void has_room(struct ingest *in, bool told)
{
    if (told)
        log_info("journal_has_room", LOG_STR("source", in->o.source));
}

static void committed(struct ingest *in)
{
    in->unflushed = 0;
    arrival_readable(in->o.arrival, in->o.arrival_slot);
    ingest_heard(in);
    in->o.news(in->o.arg);
}

static int commit(struct ingest *in, struct err *err)
{
    bool told = false;
    while (journal_commit(in->o.journal, err) != 0)
        if (!wait_for_room(in, err, &told))
            return err_wrap(err, "journal of %s", in->o.source);
    has_room(in, told);
    committed(in);
    return 0;
}

static void note(struct ingest *in, const struct message *m)
{
    enum latest_end before = in->latest.end;
    for (size_t i = 0; i < m->n_events; i++)
        latest_note(&in->latest, &m->events[i]);
    if (in->latest.end != before)
        atomic_store(&in->latest_end, (int)in->latest.end);
}

int ingest_write_message(struct ingest *in, const struct message *m, struct err *err)
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
    note(in, m);
    in->next_seq += m->n_events;
    in->unflushed += m->raw.len;
    return in->unflushed >= FLUSH_BYTES ? commit(in, err) : 0;
}

static int say(struct ingest *in, struct event *e, struct str data, struct err *err)
{
    e->data = data;
    e->epoch = in->epoch;
    struct message m = {data, e, 1};
    return ingest_write_message(in, &m, err);
}

/* Says something of Busbar's own in the stream: type with payload. `malformed_ident`: 0, or the
 * identity of a message that could not be read. */
static int say_own(struct ingest *in, const char *type, struct str payload,
                   uint64_t malformed_ident, struct err *err)
{
    struct buf data = {0};
    own_render(&data, type, in->source, in->seen.last, payload);
    struct event e = own_event(type, in->source, buf_str(&data));
    e.index = in->seen.last;
    e.ident = malformed_ident;
    if (malformed_ident != 0)
        e.origin = EVENT_MALFORMED;
    else
        e.ident = hash64(0, data.p, data.len);
    int rc = say(in, &e, buf_str(&data), err);
    buf_fini(&data);
    return rc;
}

int ingest_write_malformed(struct ingest *in, struct str payload, uint64_t ident, struct err *err)
{
    return say_own(in, "Malformed", payload, ident, err);
}

static int say_gap(struct ingest *in, uint64_t from, uint64_t to, struct err *err)
{
    const char *reason = in->gap_reason;
    struct buf payload = {0};
    if (in->o.by_bytes)
        own_gap_widen(&from, &to);
    own_gap_payload(&payload, from, to, reason);
    log_warn("gap", LOG_STR("source", in->o.source), LOG_INT("from", from), LOG_INT("to", to),
             LOG_INT("epoch", in->epoch), LOG_STR("why", reason));
    metrics_add(in->o.metrics, METRIC_GAPS, 1);
    int rc = say_own(in, "Gap", buf_str(&payload), 0, err);
    buf_fini(&payload);
    in->proven = true;
    in->detached = in->started_over = false;
    return rc;
}

int ingest_write_gap(struct ingest *in, uint64_t from, uint64_t to, const char *reason,
                     struct err *err)
{
    bool proven = in->proven, detached = in->detached, started_over = in->started_over;
    in->gap_reason = reason;
    int rc = say_gap(in, from, to, err);
    in->proven = proven;
    in->detached = detached;
    in->started_over = started_over;
    return rc;
}

static int say_resync(struct ingest *in, struct err *err)
{
    struct buf payload = {0};
    own_resync_payload(&payload, "first start");
    int rc = say_own(in, OWN_RESYNC_STARTED, buf_str(&payload), 0, err);
    buf_fini(&payload);
    return rc;
}

int ingest_write_due(struct ingest *in, uint64_t to, struct err *err)
{
    bool first = in->first;
    in->first = false;
    if (first && in->o.start == SOURCE_START_SNAPSHOT && say_resync(in, err) != 0)
        return -1;
    if (in->started_over) {
        in->gap_reason = "the source's index has started over (a rebuilt cluster), and what it "
                         "held before is not known to have been whole";
        return say_gap(in, in->last_before, to, err);
    }
    if (in->detached)
        in->gap_reason = "this source can't tell again what happened while it was detached";
    else if (!in->proven)
        in->gap_reason = "after a reconnect the source did not send anything known from before "
                         "the last index, so events between the two may be missing";
    else
        return 0;
    return say_gap(in, in->seen.last, to, err);
}

/* A sink may tell only later that the index had started over by the time this journal began. */
static int adopt_epoch(struct ingest *in, struct err *err)
{
    struct known_checkpoint known = {0};
    in->o.checkpoints(in->o.arg, &known);
    if (!known.any || known.epoch <= in->epoch)
        return 0;
    ingest_set_epoch(in, known.epoch);
    ingest_heard(in);
    if (in->seen.last == 0)
        return 0;
    in->gap_reason = "a sink knows that the source's index had started over, which this journal "
                     "did not: what it holds so far is counted as older";
    return say_gap(in, in->seen.last, in->seen.last, err);
}

/* What is asked of the sinks about every second. */
static int ask_sinks(struct ingest *in, struct err *err)
{
    int64_t now = clock_mono_ms();
    if (now - in->asked_ms < ASK_SINKS_MS)
        return 0;
    in->asked_ms = now;
    journal_set_passed(in->o.journal, in->o.passed(in->o.arg));
    return adopt_epoch(in, err);
}

int ingest_write_flush(struct ingest *in, struct err *err)
{
    bool due = in->attached && (in->first || in->detached);
    if (ask_sinks(in, err) != 0 || (due && ingest_write_due(in, in->seen.last, err) != 0) ||
        (in->unflushed > 0 && commit(in, err) != 0))
        return -1;
    if (journal_tick(in->o.journal, err) != 0)
        return err_wrap(err, "journal of %s", in->o.source);
    return 0;
}

/* ---- for the state table ---- */

bool ingest_take_latest(struct ingest *in, struct latest *latest)
{
    struct err ignored; /* whoever journals next is told */
    ingest_write_begin(in);
    bool readable = in->unflushed == 0;
    if (!readable && journal_commit(in->o.journal, &ignored) == 0) {
        readable = true;
        committed(in);
    }
    if (readable) {
        *latest = in->latest;
        latest_init(&in->latest, in->next_seq);
        atomic_store(&in->latest_end, LATEST_GOES_ON);
    }
    ingest_write_end(in);
    return readable;
}

enum latest_end ingest_latest_end(const struct ingest *in)
{
    return (enum latest_end)atomic_load(&in->latest_end);
}

/* ---- two writers ---- */

void ingest_write_begin(struct ingest *in)
{
    pthread_mutex_lock(&in->turn);
    pthread_mutex_lock(&in->writing);
    pthread_mutex_unlock(&in->turn);
}

void ingest_write_end(struct ingest *in)
{
    pthread_mutex_unlock(&in->writing);
}

int ingest_lock(struct ingest *in, struct err *err)
{
    ingest_write_begin(in);
    int rc = ingest_write_flush(in, err);
    if (rc != 0)
        ingest_write_end(in);
    return rc;
}

int ingest_unlock(struct ingest *in, struct err *err)
{
    int rc = ingest_write_flush(in, err);
    ingest_write_end(in);
    return rc;
}

int ingest_tell_own(struct ingest *in, const char *type, struct str payload, uint64_t *seq,
                    struct err *err)
{
    *seq = in->next_seq;
    return say_own(in, type, payload, 0, err);
}

int ingest_tell_object(struct ingest *in, const struct found_event *object, bool *told,
                       struct err *err)
{
    struct event e = {
        .topic = object->topic,
        .type = object->type,
        .key = object->key,
        .ns = object->ns,
        .filter_keys = object->filter_keys,
        .index = object->index,
        .time_us = object->time_us,
        .ident = hash64(0, object->data.p, object->data.len),
        .origin = EVENT_SNAPSHOT,
    };
    *told = filter_match(in->o.filter, &e);
    unchanged_forget(&in->unchanged, &e);
    return *told ? say(in, &e, object->data, err) : 0;
}
