/* resync_again.c - for sources whose indexes give no order: the order of arrival decides.
 *
 * From the first question of an attempt on it is noted under which keys the stream tells something,
 * and at which seq of the journal. An answer to a question that was asked when the journal's next
 * event was to be seq S is older than nothing that stands before S; of what stands behind it nobody
 * can say whether the answer knew it. So an object under whose key something stands there is not
 * told but asked for again, until nothing came in between. */
#include "bridge/resync_internal.h"

#include "bridge/base/hash.h"

#include <stdlib.h>

enum {
    KEYS_MAX = 1 << 20, /* noted: at most 48 MiB */
    HELD_MAX = 100000,  /* objects to be asked for again, in one round */
};

/* ---- what the stream has told ---- */

static uint64_t hash_of(struct str topic, const struct found_event *object)
{
    uint64_t hash = hash64(HASH64_START, topic.p, topic.len);
    hash = hash64(hash, "", 1);
    hash = hash64(hash, object->ns.p, object->ns.len);
    hash = hash64(hash, "", 1);
    return hash64(hash, object->key.p, object->key.len);
}

static void note(struct resync_watch *w, uint64_t hash, uint64_t seq)
{
    if (w->told.used >= KEYS_MAX || seq - w->from >= UINT32_MAX) {
        map_clear(&w->told);
        w->from = w->all = seq;
    }
    *map_at(&w->told, hash) = (uint32_t)(seq - w->from) + 1;
}

void resync_watch_note(struct resync_watch *w, const struct event *e)
{
    struct found_event object = {.ns = e->ns, .key = e->key};
    if (!w->on || !event_is_told(e) || e->seq < w->from)
        return;
    note(w, hash_of(e->topic, &object), e->seq);
    note(w, hash_of(STR(""), &object), e->seq);
}

static bool has_told(struct resync_watch *w, uint64_t hash, uint64_t seq)
{
    if (w->all > 0 && w->all >= seq)
        return true;
    return map_has(&w->told, hash) && w->from + *map_at(&w->told, hash) - 1 >= seq;
}

bool resync_watch_has_told(struct resync *r, const struct found_event *object, uint64_t seq)
{
    return seq > 0 && has_told(&r->watch, hash_of(object->topic, object), seq);
}

bool resync_watch_has_told_key(struct resync *r, const struct found_event *object, uint64_t seq)
{
    return seq > 0 && has_told(&r->watch, hash_of(STR(""), object), seq);
}

/* ---- objects that wait to be asked for again ---- */

static void clear_names(struct resync_names *names)
{
    for (size_t i = 0; i < names->n; i++) {
        free(names->items[i].topic);
        free(names->items[i].ns);
        free(names->items[i].key);
    }
    free(names->items);
    *names = (struct resync_names){0};
}

static int add_name(struct resync_names *names, const struct found_event *object, struct err *err)
{
    if (names->n == HELD_MAX)
        return err_set(err, ERR_RETRY, "more than %d objects changed while they were read",
                       HELD_MAX);
    names->items = mem_realloc(names->items, (names->n + 1) * sizeof *names->items);
    names->items[names->n++] = (struct resync_name){
        .topic = mem_strndup(object->topic.p, object->topic.len),
        .ns = mem_strndup(object->ns.p, object->ns.len),
        .key = mem_strndup(object->key.p, object->key.len),
        .lens = {object->topic.len, object->ns.len, object->key.len},
    };
    return 0;
}

int resync_hold_back(struct resync *r, const struct found_event *object, struct err *err)
{
    return add_name(&r->held, object, err);
}

void resync_watch_end(struct resync *r)
{
    map_fini(&r->watch.told);
    r->watch = (struct resync_watch){0};
    clear_names(&r->held);
    r->asked_seq = r->again_seq = 0;
}

/* ---- for the connector ---- */

void resync_asked_now(struct resync *r)
{
    r->as_of = UINT64_MAX;
    r->asked_seq = journal_next_seq(r->o.journal);
    if (r->watch.on)
        return;
    r->watch.on = true;
    r->watch.from = r->again_seq = r->asked_seq;
}

/* Nothing that the stream told before it was asked for speaks for it any more, nor that it was
 * listed. */
int resync_gone(struct resync *r, struct str topic, struct str key, struct err *err)
{
    struct found_event object = {.topic = topic, .ns = STR(""), .key = key};
    struct state_id id = {topic, STR(""), key};
    if (!resync_watch_has_told(r, &object, r->asked_seq))
        map_remove(&r->watch.told, hash_of(topic, &object));
    return state_unsee(r->state, &id, err);
}

static bool is_whole(const struct resync *r, struct str topic)
{
    for (size_t i = 0; i < r->n_listings; i++)
        if (str_eq(topic, (struct str){r->listings[i].topic, r->listings[i].topic_len}))
            return true;
    return false;
}

/* Those that no listing named, though the stream has told something under their key since. */
static int collect_unnamed(struct resync *r, struct resync_names *names, struct err *err)
{
    struct state_cursor at = {.begun = false};
    struct state_object known;
    int found;
    while ((found = state_walk(r->state, &at, &known, err)) == 1) {
        struct found_event object = {
            .topic = known.id.topic, .ns = known.id.ns, .key = known.id.key};
        if (!known.seen && is_whole(r, object.topic) &&
            resync_watch_has_told_key(r, &object, r->again_seq) &&
            add_name(names, &object, err) != 0)
            return -1;
        if (stop_requested(r->o.stop))
            return err_set(err, ERR_RETRY, "it is time to stop");
    }
    return found;
}

static int ask_again(const struct resync_names *names, resync_again_fn *again, void *arg,
                     struct err *err)
{
    for (size_t i = 0; i < names->n; i++) {
        const struct resync_name *name = &names->items[i];
        if (again(arg, (struct str){name->topic, name->lens[0]},
                  (struct str){name->key, name->lens[2]}, err) != 0)
            return -1;
    }
    return 0;
}

/* All that the connector has received is in the table, and what was told is in the journal. */
static int come_up_to_date(struct resync *r, struct err *err)
{
    if (resync_tell_flush(r, err) != 0 || ingest_lock(r->o.ingest, err) != 0 ||
        ingest_unlock(r->o.ingest, err) != 0)
        return -1;
    return resync_catch_up(r, true, err);
}

int resync_again(struct resync *r, resync_again_fn *again, void *arg, size_t *held, struct err *err)
{
    if (come_up_to_date(r, err) != 0)
        return -1;
    struct resync_names names = r->held;
    r->held = (struct resync_names){0};
    int rc = collect_unnamed(r, &names, err);
    r->again_seq = state_next_seq(r->state);
    if (rc == 0 && names.n > 0 &&
        (ask_again(&names, again, arg, err) != 0 || come_up_to_date(r, err) != 0))
        rc = -1;
    clear_names(&names);
    *held = r->held.n;
    return rc;
}
