/* test_resync_model.c - random histories of a source, its stream, resyncs and restarts, against a
 * simple model of what a reader of the journal has to know in the end; and the same with the stream
 * going on in a thread of its own. */
#include "tests/unit/resync_kit.h"

#include <stdlib.h>

enum { KEYS = 40 };

/* What is, at the source: an index, or 0 where the object is not. */
struct world {
    struct kit *kit;
    uint64_t is[KEYS];
    uint64_t index; /* of the last change */
    /* Changes that the stream has not told yet, in their order. */
    struct change {
        int key;
        uint64_t index;
        bool deleted;
    } behind[64];
    size_t n_behind;
    unsigned seed;
};

static struct kit kit; /* large */
static struct world world;

static unsigned draw(struct world *w, unsigned n)
{
    return (unsigned)rand_r(&w->seed) % n;
}

static void name(int key, char out[32])
{
    snprintf(out, 32, "job-%d", key);
}

static void stream_one(struct world *w)
{
    struct change c = w->behind[0];
    char key[32];
    memmove(w->behind, w->behind + 1, --w->n_behind * sizeof *w->behind);
    name(c.key, key);
    struct str raw = STR("{\"a\":1}");
    struct found_event found = kit_found(key, c.deleted ? "Deleted" : "Changed", c.index, raw);
    assert_int_equal(ingest_message(w->kit->ingest, raw, &found, 1, &w->kit->err), 0);
    assert_int_equal(ingest_flush(w->kit->ingest, &w->kit->err), 0);
}

/* Something changes; the stream tells it now, later, or (in a gap) never. */
static void change(struct world *w, bool told)
{
    int key = (int)draw(w, KEYS);
    struct change c = {.key = key, .index = ++w->index};
    c.deleted = w->is[key] > 0 && draw(w, 3) == 0;
    w->is[key] = c.deleted ? 0 : c.index;
    if (told)
        w->behind[w->n_behind++] = c;
    while (w->n_behind > 0 && (w->n_behind > 8 || draw(w, 2)))
        stream_one(w);
}

static void list(struct world *w)
{
    struct kit *k = w->kit;
    char key[32];
    k->n_objects = 0;
    for (int i = 0; i < KEYS; i++)
        if (w->is[i] > 0) {
            name(i, key);
            kit_add(k, key, w->is[i]);
        }
    k->listing = w->index;
}

/* While objects are read: the source goes on, the attempt breaks off, the process ends. */
static bool meanwhile(struct kit *k, size_t i)
{
    struct world *w = &world;
    (void)i;
    if (draw(w, 4) == 0)
        change(w, true);
    if (draw(w, 200) == 0)
        stop_request(k->stop);
    return draw(w, 300) != 0 && !stop_requested(k->stop);
}

static int listing_snapshot(void *self, struct resync *r, struct err *err)
{
    list(&world);
    return kit_snapshot(self, r, err);
}

/* The reader's view. */
struct view {
    uint64_t index[KEYS];
    bool is[KEYS];
    bool open;
    unsigned told[KEYS], finished;
    uint64_t told_at[KEYS];
};

static void view_snapshot(struct view *v, const struct event *e, size_t i)
{
    if (v->told[i] > 0 && v->told_at[i] >= e->index)
        fail_msg("job-%zu@%" PRIu64 " told twice in one resync", i, e->index);
    if (e->index < v->index[i])
        fail_msg("job-%zu@%" PRIu64 " overwrites %" PRIu64, i, e->index, v->index[i]);
    v->told[i]++;
    v->told_at[i] = e->index;
}

static void view_event(void *arg, const struct event *e)
{
    struct view *v = arg;
    if (str_is(e->type, "ResyncStarted")) {
        assert_false(v->open);
        v->open = true;
        memset(v->told, 0, sizeof v->told);
    } else if (str_is(e->type, "ResyncFinished")) {
        assert_true(v->open);
        v->open = false;
        v->finished++;
    }
    if (e->origin != EVENT_SOURCE && e->origin != EVENT_SNAPSHOT)
        return;
    size_t i = strtoul(e->key.p + 4, NULL, 10);
    if (str_is(e->type, "Snapshot"))
        view_snapshot(v, e, i);
    assert_true(e->origin == EVENT_SOURCE || v->open);
    v->is[i] = !str_is(e->type, "Deleted") && !str_is(e->type, "Vanished");
    if (e->index > v->index[i])
        v->index[i] = e->index;
}

static void the_view_is_the_world(struct world *w)
{
    struct view v = {.open = false};
    kit_each(w->kit, view_event, &v);
    for (size_t i = 0; i < KEYS; i++)
        if (v.is[i] != (w->is[i] > 0) || (w->is[i] > 0 && v.index[i] != w->is[i]))
            fail_msg("job-%zu: read %d at %" PRIu64 ", but is at %" PRIu64, i, v.is[i], v.index[i],
                     w->is[i]);
}

/* Until nothing is open or wanted; the process ends and begins again as it likes. */
static void settle(struct world *w)
{
    int64_t until = clock_mono_ms() + KIT_WAIT_MS;
    for (;;) {
        struct kit *k = w->kit;
        if (stop_requested(k->stop)) {
            kit_join(k);
            while (w->n_behind > 0) /* the next connection tells the same again, or a Gap */
                stream_one(w);
            kit_restart(k);
        }
        struct resync_status s = kit_status(k);
        if (!s.open && !s.wanted && s.finished_us > 0)
            return;
        if (clock_mono_ms() > until)
            fail_msg("seed %u: does not settle: %s", w->seed, s.detail);
        stop_wait(k->stop, 10);
    }
}

static void history(unsigned seed)
{
    struct world *w = &world;
    struct kit *k = &kit;
    *w = (struct world){.kit = k, .seed = seed};
    kit_setup(k, NULL);
    k->ops.snapshot = listing_snapshot;
    for (int i = 0; i < 30; i++)
        change(w, true);
    for (int round = 0; round < 4; round++) {
        while (w->n_behind > 0) /* nobody tells what was before a gap behind it */
            stream_one(w);
        for (unsigned i = draw(w, 20); i > 0; i--)
            change(w, false); /* in the gap */
        k->hook = meanwhile;  /* on the resync's thread: the stream stands still otherwise */
        kit_start(k);
        resync_request(k->resync, journal_next_seq(k->journal) - 1, "gap");
        settle(w);
        kit_stop(k);
        while (w->n_behind > 0)
            stream_one(w);
        the_view_is_the_world(w);
        kit_restart(k);
        kit_stop(k);
        ingest_free(&k->ingest);
        stop_free(&k->stop);
        k->stop = stop_new();
        kit_make_ingest(k, NULL);
        ingest_state(k->ingest, SOURCE_ATTACHED, "s", NULL);
    }
    kit_teardown(k);
}

static void what_is_read_is_what_is_after_any_history(void **state)
{
    (void)state;
    const char *text = getenv("RESYNC_SEEDS");
    unsigned n = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 4;
    for (unsigned seed = 1; seed <= n; seed++) {
        print_message("seed %u\n", seed);
        history(seed);
    }
}

/* ---- the stream in a thread of its own ---- */

static pthread_mutex_t world_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool stream_ends;

static void *run_stream(void *arg)
{
    struct world *w = arg;
    while (!atomic_load(&stream_ends)) {
        pthread_mutex_lock(&world_lock);
        change(w, true);
        pthread_mutex_unlock(&world_lock);
        if (draw(w, 16) == 0)
            usleep(1000);
    }
    while (w->n_behind > 0)
        stream_one(w);
    return NULL;
}

static int locked_listing_snapshot(void *self, struct resync *r, struct err *err)
{
    pthread_mutex_lock(&world_lock);
    list(&world);
    pthread_mutex_unlock(&world_lock);
    return kit_snapshot(self, r, err);
}

static bool take_time(struct kit *k, size_t i)
{
    (void)k;
    if (i % 8 == 0)
        usleep(2000);
    return true;
}

static void nothing_older_overwrites_while_the_stream_goes_on(void **state)
{
    (void)state;
    struct world *w = &world;
    struct kit *k = &kit;
    pthread_t stream;
    *w = (struct world){.kit = k, .seed = 7};
    kit_setup(k, NULL);
    k->ops.snapshot = locked_listing_snapshot;
    k->hook = take_time;
    atomic_store(&stream_ends, false);
    kit_start(k);
    assert_int_equal(pthread_create(&stream, NULL, run_stream, w), 0);
    for (unsigned i = 1; i <= 4; i++) {
        stop_wait(k->stop, 50);
        resync_request(k->resync, journal_next_seq(k->journal), "again");
        int64_t until = clock_mono_ms() + KIT_WAIT_MS;
        while (metrics_get(k->metrics, METRIC_RESYNCS) < i || kit_status(k).open)
            if (stop_wait(k->stop, 10) || clock_mono_ms() > until)
                fail_msg("does not end: %s", kit_status(k).detail);
    }
    atomic_store(&stream_ends, true);
    pthread_join(stream, NULL);
    the_view_is_the_world(w);
    kit_teardown(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_what_is_after_any_history),
        cmocka_unit_test(nothing_older_overwrites_while_the_stream_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
