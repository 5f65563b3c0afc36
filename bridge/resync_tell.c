/* resync_tell.c - what a connector tells of the source's state, on its way to the journal.
 *
 * Objects wait in a small batch. It is journaled while the connector's stream stands still
 * (ingest_lock), because only then it can be said of each whether the stream has told something
 * newer: the rest of the journal is applied to the table, then those objects are told whose (epoch,
 * index) is not less than the table's. That takes about a millisecond; what takes longer, syncing
 * the table, is done outside. */
#include "bridge/resync_internal.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_KEEP = 4 * RESYNC_BATCH_BYTES };

/* ---- the batch ---- */

static struct str part(const struct resync_batch *b, size_t from, size_t to)
{
    return (struct str){b->text.p + from, to - from};
}

static struct found_event object_at(const struct resync_batch *b, size_t i)
{
    const struct resync_object *o = &b->objects[i];
    return (struct found_event){
        .topic = part(b, o->topic, o->type),
        .type = part(b, o->type, o->key),
        .key = part(b, o->key, o->ns),
        .ns = part(b, o->ns, o->filter_keys),
        .filter_keys = part(b, o->filter_keys, o->data),
        .data = part(b, o->data, o->end),
        .index = o->index,
        .time_us = o->time_us,
    };
}

static size_t add_str(struct buf *text, struct str s)
{
    size_t at = text->len;
    buf_append_str(text, s);
    return at;
}

void resync_tell_add(struct resync *r, const struct found_event *object)
{
    struct resync_batch *b = &r->batch;
    struct resync_object *o = &b->objects[b->n];
    if (b->n++ == 0)
        b->since_ms = clock_mono_ms();
    o->topic = add_str(&b->text, object->topic);
    o->type = add_str(&b->text, object->type);
    o->key = add_str(&b->text, object->key);
    o->ns = add_str(&b->text, object->ns);
    o->filter_keys = add_str(&b->text, object->filter_keys);
    o->data = add_str(&b->text, object->data);
    o->end = b->text.len;
    o->index = object->index;
    o->as_of = r->as_of;
    o->asked_seq = r->asked_seq;
    o->time_us = object->time_us;
}

bool resync_tell_is_full(const struct resync *r)
{
    return r->batch.n == RESYNC_BATCH_OBJECTS || r->batch.text.len >= RESYNC_BATCH_BYTES;
}

static void clear_batch(struct resync_batch *b)
{
    b->n = 0;
    buf_clear(&b->text);
    if (b->text.cap > TEXT_KEEP)
        buf_fini(&b->text);
}

static bool is_waiting(const struct resync *r, const struct found_event *object)
{
    for (size_t i = 0; i < r->batch.n; i++) {
        struct found_event o = object_at(&r->batch, i);
        if (o.index >= object->index && str_eq(o.key, object->key) &&
            str_eq(o.topic, object->topic) && str_eq(o.ns, object->ns))
            return true;
    }
    return false;
}

void resync_tell_begin(struct resync *r)
{
    clear_batch(&r->batch);
    r->batch.vanished = false;
    for (size_t i = 0; i < r->n_listings; i++)
        free(r->listings[i].topic);
    free(r->listings);
    r->listings = NULL;
    r->n_listings = 0;
    r->as_of = 0;
    r->failed = false;
    resync_watch_end(r);
}

/* ---- the rules ---- */

static struct state_id id_of(const struct found_event *object)
{
    return (struct state_id){object->topic, object->ns, object->key};
}

/* The stream, or this resync, has told it as it is or newer. */
static bool is_told(const struct resync *r, const struct state_object *known, uint64_t index,
                    uint64_t as_of)
{
    if (!known->here || known->epoch < r->epoch)
        return false;
    if (known->epoch > r->epoch)
        return true;
    if (known->mark == state_resync(r->state)->number && known->index >= index)
        return true;
    if (state_is_after_restart(state_resync(r->state)->reason) && index > 0 &&
        known->index >= index)
        return true;
    return index > 0 && known->index > index && known->index > as_of;
}

/* Last told before the listing was asked for. */
static bool is_before(struct resync *r, const struct state_object *known,
                      const struct resync_listing *l)
{
    struct found_event object = {
        .topic = known->id.topic, .ns = known->id.ns, .key = known->id.key};
    return l->asked_seq > 0 ? !resync_watch_has_told(r, &object, l->asked_seq)
                            : known->index <= l->index;
}

static bool is_in(struct resync *r, const struct state_object *known)
{
    for (size_t i = 0; i < r->n_listings; i++) {
        const struct resync_listing *l = &r->listings[i];
        if (str_eq(known->id.topic, (struct str){l->topic, l->topic_len}))
            return !known->here || known->epoch < r->epoch ||
                   (known->epoch == r->epoch && is_before(r, known, l));
    }
    return false;
}

bool resync_tell_has_vanished(struct resync *r, const struct state_object *known)
{
    return !known->seen && !known->deleted && known->id.key.len > 0 && is_in(r, known);
}

/* ---- to the journal ---- */

static int journal(struct resync *r, const struct found_event *object, struct err *err)
{
    bool told = false;
    if (ingest_tell_object(r->o.ingest, object, &told, err) != 0)
        return -1;
    if (told)
        metrics_add(r->o.metrics, METRIC_SNAPSHOTS, 1);
    else
        r->skipped++;
    return 0;
}

static int tell_object(struct resync *r, struct found_event *object,
                       const struct resync_object *asked, struct err *err)
{
    struct state_object known;
    struct state_id id = id_of(object);
    int found = state_see(r->state, &id, &known, err);
    if (found < 0)
        return -1;
    bool told = found == 1 && is_told(r, &known, object->index, asked->as_of);
    bool may_be_old = !told && resync_watch_has_told_key(r, object, asked->asked_seq);
    if (!told && !may_be_old)
        return journal(r, object, err);
    r->skipped++;
    return may_be_old ? resync_hold_back(r, object, err) : 0;
}

static void render_vanished(const struct found_event *object, uint64_t resync, struct buf *out)
{
    buf_append_cstr(out, "{\"Topic\":");
    buf_append_json(out, object->topic);
    buf_append_cstr(out, ",\"Type\":\"Vanished\",\"Key\":");
    buf_append_json(out, object->key);
    buf_append_cstr(out, ",\"Namespace\":");
    buf_append_json(out, object->ns);
    buf_printf(out, ",\"Index\":%" PRIu64 ",\"Payload\":{\"Resync\":%" PRIu64 "}}", object->index,
               resync);
}

/* With the index that is known last by now. */
static int tell_vanished(struct resync *r, struct found_event *object, struct err *err)
{
    struct state_object known;
    struct state_id id = id_of(object);
    int found = state_find(r->state, &id, &known, err);
    if (found != 1 || !resync_tell_has_vanished(r, &known))
        return found < 0 ? -1 : 0;
    struct buf data = {0};
    object->type = STR("Vanished");
    object->index = known.index;
    render_vanished(object, state_resync(r->state)->number, &data);
    object->data = buf_str(&data);
    int rc = journal(r, object, err);
    buf_fini(&data);
    return rc;
}

/* With the stream standing still. */
static int tell_all(struct resync *r, struct err *err)
{
    struct ingest_status source;
    if (resync_catch_up(r, false, err) != 0)
        return -1;
    ingest_get_status(r->o.ingest, &source);
    if (source.epoch != r->epoch)
        return err_set(err, ERR_RETRY, "the source's index started over while its state was read");
    for (size_t i = 0; i < r->batch.n; i++) {
        struct found_event object = object_at(&r->batch, i);
        int rc = r->batch.vanished ? tell_vanished(r, &object, err)
                                   : tell_object(r, &object, &r->batch.objects[i], err);
        if (rc != 0)
            return -1;
    }
    return 0;
}

int resync_tell_flush(struct resync *r, struct err *err)
{
    if (r->batch.n == 0)
        return 0;
    if (resync_catch_up(r, true, err) != 0 || ingest_lock(r->o.ingest, err) != 0)
        return -1;
    int64_t from = clock_mono_us();
    int rc = tell_all(r, err);
    struct err unlock_err;
    if (ingest_unlock(r->o.ingest, rc == 0 ? err : &unlock_err) != 0)
        rc = -1;
    int64_t took = clock_mono_us() - from;
    r->lock_us = took > r->lock_us ? took : r->lock_us;
    clear_batch(&r->batch);
    return rc == 0 ? resync_catch_up(r, true, err) : -1;
}

/* ---- for the connector ---- */

struct stop *resync_stop(struct resync *r)
{
    return r->o.stop;
}

/* Ends the attempt: whatever the connector says, it will have broken off. */
static int fail(struct resync *r, const struct err *err)
{
    r->failed = true;
    r->failure = *err;
    return -1;
}

static int flush(struct resync *r, struct err *err)
{
    return resync_tell_flush(r, err) == 0 ? 0 : fail(r, err);
}

static bool is_late(const struct resync *r)
{
    return r->batch.n > 0 && clock_mono_ms() - r->batch.since_ms >= RESYNC_BATCH_MS;
}

/* So that at no time more than a tenth of a second's requests go out in a row. */
static bool wait_for_turn(struct resync *r)
{
    int64_t now = clock_mono_us(), interval = 1000000 / r->o.rate;
    int64_t earliest = now - interval * (r->o.rate / 10);
    if (r->asked_us < earliest)
        r->asked_us = earliest;
    while (r->asked_us > now) {
        int64_t wait_ms = (r->asked_us - now + 999) / 1000;
        if (stop_wait(r->o.stop, (int)wait_ms))
            return false;
        now = clock_mono_us();
    }
    r->asked_us += interval;
    return !stop_requested(r->o.stop);
}

bool resync_may_ask(struct resync *r)
{
    struct err err;
    resync_publish(r);
    if (r->failed || (is_late(r) && flush(r, &err) != 0) || !wait_for_turn(r))
        return false;
    r->requests++;
    return true;
}

bool resync_goes_on(struct resync *r)
{
    struct err err;
    resync_publish(r);
    return !r->failed && !stop_requested(r->o.stop) && !(is_late(r) && flush(r, &err) != 0);
}

void resync_expect(struct resync *r, size_t n)
{
    r->expected += n;
}

void resync_as_of(struct resync *r, uint64_t index)
{
    r->asked_seq = 0;
    r->as_of = index;
}

bool resync_listed(struct resync *r, const struct found_event *object)
{
    struct state_object known;
    struct state_id id = id_of(object);
    struct err err;
    if (r->failed)
        return false;
    int found = state_see(r->state, &id, &known, &err);
    if (found < 0)
        return fail(r, &err) == 0;
    if (is_waiting(r, object) || (found == 1 && is_told(r, &known, object->index, r->as_of))) {
        r->skipped++;
        return false;
    }
    return true;
}

int resync_object(struct resync *r, const struct found_event *object, struct err *err)
{
    if (stop_requested(r->o.stop))
        return err_set(err, ERR_RETRY, "it is time to stop");
    if (r->failed) {
        *err = r->failure;
        return -1;
    }
    resync_publish(r);
    if (is_waiting(r, object)) {
        r->skipped++;
        return 0;
    }
    if (r->batch.text.len + object->data.len > RESYNC_BATCH_BYTES && flush(r, err) != 0)
        return -1;
    resync_tell_add(r, object);
    return resync_tell_is_full(r) || is_late(r) ? flush(r, err) : 0;
}

void resync_whole(struct resync *r, struct str topic, uint64_t index)
{
    for (size_t i = 0; i < r->n_listings; i++) {
        struct resync_listing *l = &r->listings[i];
        if (str_eq(topic, (struct str){l->topic, l->topic_len})) {
            l->index = index < l->index ? index : l->index;
            return;
        }
    }
    r->listings = mem_realloc(r->listings, (r->n_listings + 1) * sizeof *r->listings);
    r->listings[r->n_listings++] = (struct resync_listing){.topic = mem_strndup(topic.p, topic.len),
                                                           .topic_len = topic.len,
                                                           .index = r->asked_seq > 0 ? 0 : index,
                                                           .asked_seq = r->asked_seq};
}
