/* resync_kit.h - a resync on a real journal and ingest, of a source whose state a test makes up. */
#ifndef BUSBAR_TESTS_RESYNC_KIT_H
#define BUSBAR_TESTS_RESYNC_KIT_H

#include "bridge/base/clock.h"
#include "bridge/resync.h"
#include "tests/unit/scratch.h"
#include "tests/unit/stopwatch.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* KIT_STOP_MS: long enough for a sync on a busy disk; what it must not wait for takes longer. */
enum { KIT_OBJECTS = 2000, KIT_WAIT_MS = 60000, KIT_STOP_MS = 10000 };

struct kit_object {
    char key[32];
    uint64_t index;
};

struct kit {
    char *dir;
    struct buf state_dir;
    struct journal *journal;
    struct arrival arrival;
    struct metrics_all *all;
    struct metrics *metrics;
    struct stop *stop;
    struct ingest *ingest;
    struct source_ops ops;
    struct resync *resync;
    pthread_t thread;
    bool running;
    uint64_t journal_max;
    unsigned rate;
    enum source_start start;
    struct err err;
    /* The source: what `snapshot` lists as topic Job, at `listing`; told whole where not 0. */
    struct kit_object objects[KIT_OBJECTS];
    size_t n_objects;
    uint64_t listing, as_of;
    uint64_t as_of_end; /* of a listing of something else, read when all objects are told */
    /* Called before object `i` is told in full, and with i == n_objects at the end; false: break
     * off. */
    bool (*hook)(struct kit *kit, size_t i);
    atomic_uint attempts;
};

static inline bool kit_checkpoints(void *arg, struct known_checkpoint *known)
{
    (void)arg;
    *known = (struct known_checkpoint){.any = false};
    return true;
}

static inline void kit_news(void *arg)
{
    (void)arg;
}

static inline uint64_t kit_passed(void *arg)
{
    (void)arg;
    return 0;
}

static inline struct found_event kit_found(const char *key, const char *type, uint64_t index,
                                           struct str data)
{
    return (struct found_event){.topic = STR("Job"),
                                .type = str_from(type),
                                .key = str_from(key),
                                .ns = STR("default"),
                                .index = index,
                                .data = data};
}

static inline int kit_tell(struct kit *k, struct resync *r, size_t i, struct err *err)
{
    char data[128];
    const struct kit_object *o = &k->objects[i];
    snprintf(data, sizeof data, "{\"Job\":{\"ID\":\"%s\",\"ModifyIndex\":%" PRIu64 "}}", o->key,
             o->index);
    struct found_event object = kit_found(o->key, "Snapshot", o->index, str_from(data));
    if (!resync_listed(r, &object))
        return 0;
    if (!resync_may_ask(r))
        return err_set(err, ERR_RETRY, "not now");
    if (k->hook != NULL && !k->hook(k, i))
        return err_set(err, ERR_RETRY, "broke off at %zu", i);
    return resync_object(r, &object, err);
}

static inline int kit_snapshot(void *self, struct resync *r, struct err *err)
{
    struct kit *k = self;
    k->attempts++;
    resync_expect(r, k->n_objects);
    if (k->as_of > 0)
        resync_as_of(r, k->as_of);
    for (size_t i = 0; i < k->n_objects; i++)
        if (kit_tell(k, r, i, err) != 0)
            return -1;
    if (k->hook != NULL && !k->hook(k, k->n_objects))
        return err_set(err, ERR_RETRY, "broke off at the end");
    if (k->as_of_end > 0)
        resync_as_of(r, k->as_of_end);
    if (k->listing > 0)
        resync_whole(r, STR("Job"), k->listing);
    return 0;
}

static inline void kit_add(struct kit *k, const char *key, uint64_t index)
{
    struct kit_object *o = &k->objects[k->n_objects++];
    snprintf(o->key, sizeof o->key, "%s", key);
    o->index = index;
}

/* ---- the process ---- */

static inline void kit_make_ingest(struct kit *k, struct filter *filter)
{
    struct ingest_options o = {
        .source = "prod",
        .journal = k->journal,
        .arrival = &k->arrival,
        .metrics = k->metrics,
        .filter = filter,
        .stop = k->stop,
        .start = k->start,
        .checkpoints = kit_checkpoints,
        .news = kit_news,
        .passed = kit_passed,
        .arg = k,
    };
    if (ingest_new(&k->ingest, &o, &k->err) != 0)
        fail_msg("%s", k->err.msg);
}

static inline void kit_setup(struct kit *k, struct filter *filter)
{
    memset(k, 0, sizeof *k);
    k->dir = scratch_dir();
    k->journal_max = 1 << 24;
    k->rate = 100000;
    k->start = SOURCE_START_OLDEST;
    k->ops = (struct source_ops){.type = "kit", .snapshot = kit_snapshot};
    buf_printf(&k->state_dir, "%s/state", k->dir);
    k->journal = scratch_journal(k->dir, k->journal_max);
    k->all = metrics_all_new();
    k->metrics = metrics_new(k->all, METRICS_SOURCE, "prod", NULL);
    k->stop = stop_new();
    arrival_init(&k->arrival, 1);
    kit_make_ingest(k, filter);
    ingest_state(k->ingest, SOURCE_ATTACHED, "s", NULL);
}

static inline void *kit_run(void *arg)
{
    resync_run(((struct kit *)arg)->resync);
    return NULL;
}

static inline void kit_start(struct kit *k)
{
    struct resync_options o = {
        .source = "prod",
        .dir = buf_cstr(&k->state_dir),
        .journal = k->journal,
        .ingest = k->ingest,
        .ops = &k->ops,
        .connector = k,
        .rate = k->rate,
        .metrics = k->metrics,
        .journal_max_size = k->journal_max,
        .stop = k->stop,
    };
    if (resync_new(&k->resync, &o, &k->err) != 0)
        fail_msg("%s", k->err.msg);
    assert_int_equal(pthread_create(&k->thread, NULL, kit_run, k), 0);
    k->running = true;
}

/* Waits for the thread's end, which somebody asked for; ms that it took, of those it had. */
static inline int64_t kit_join(struct kit *k)
{
    struct stopwatch from = stopwatch_start();
    pthread_join(k->thread, NULL);
    k->running = false;
    return stopwatch_had(&from);
}

static inline void kit_stop(struct kit *k)
{
    stop_request(k->stop);
    if (k->running)
        assert_true(kit_join(k) < KIT_STOP_MS);
    resync_free(&k->resync);
}

/* A new process: all but the files begins anew. */
static inline void kit_restart(struct kit *k)
{
    kit_stop(k);
    ingest_free(&k->ingest);
    journal_close(&k->journal);
    stop_free(&k->stop);
    k->stop = stop_new();
    k->journal = scratch_journal(k->dir, k->journal_max);
    kit_make_ingest(k, NULL);
    ingest_state(k->ingest, SOURCE_ATTACHED, "s", NULL);
    kit_start(k);
}

static inline void kit_teardown(struct kit *k)
{
    kit_stop(k);
    ingest_free(&k->ingest);
    journal_close(&k->journal);
    metrics_all_free(&k->all);
    stop_free(&k->stop);
    arrival_fini(&k->arrival);
    buf_fini(&k->state_dir);
    scratch_remove(k->dir);
}

/* ---- the stream ---- */

/* Only received: whoever locks the ingest next makes it readable. */
static inline void kit_receive(struct kit *k, const char *key, uint64_t index)
{
    struct str raw = STR("{\"a\":1}");
    struct found_event found = kit_found(key, "JobRegistered", index, raw);
    struct err err;
    if (ingest_message(k->ingest, raw, &found, 1, &err) != 0)
        fail_msg("%s", err.msg);
}

static inline void kit_stream(struct kit *k, const char *key, uint64_t index)
{
    struct err err;
    kit_receive(k, key, index);
    if (ingest_flush(k->ingest, &err) != 0)
        fail_msg("%s", err.msg);
}

/* A reconnect that proves nothing, and the Gap that follows with the next event. */
static inline void kit_gap(struct kit *k, const char *key, uint64_t index)
{
    ingest_state(k->ingest, SOURCE_BACKOFF, "s", "cut");
    ingest_state(k->ingest, SOURCE_ATTACHED, "s", NULL);
    kit_stream(k, key, index);
}

/* ---- looking at it ---- */

static inline struct resync_status kit_status(struct kit *k)
{
    struct resync_status status;
    resync_get_status(k->resync, &status);
    return status;
}

/* Until the table knows so many objects. */
static inline void kit_wait_known(struct kit *k, uint64_t n)
{
    int64_t until = clock_mono_ms() + KIT_WAIT_MS;
    while (kit_status(k).known != n) {
        if (clock_mono_ms() > until)
            fail_msg("%" PRIu64 " of %" PRIu64 " are known", kit_status(k).known, n);
        stop_wait(k->stop, 20);
    }
}

/* Until one is begun, or is wanted and that is on the disk, for that reason. */
static inline void kit_wait_reason(struct kit *k, const char *reason)
{
    int64_t until = clock_mono_ms() + KIT_WAIT_MS;
    while (strcmp(kit_status(k).reason, reason) != 0) {
        if (clock_mono_ms() > until)
            fail_msg("\"%s\" instead of \"%s\"", kit_status(k).reason, reason);
        stop_wait(k->stop, 10);
    }
}

/* Until so many resyncs are finished in the journal, and nothing more is wanted. */
static inline void kit_wait_finished(struct kit *k, unsigned n);

typedef void kit_each_fn(void *arg, const struct event *event);

/* All that exits would publish. */
static inline void kit_each(struct kit *k, kit_each_fn *fn, void *arg)
{
    struct journal_reader *reader = journal_reader_new(k->journal);
    struct block *block;
    for (;;) {
        enum journal_read read = journal_reader_next(reader, 0, &block, &k->err);
        if (read == JOURNAL_LOST)
            continue;
        if (read != JOURNAL_BLOCK)
            break;
        for (size_t i = 0; i < block->n_events; i++)
            if (!block->events[i].repeat)
                fn(arg, &block->events[i]);
        block_unref(&block);
    }
    journal_reader_free(&reader);
}

static inline void kit_append(void *arg, const struct event *e)
{
    struct buf *text = arg;
    if (text->len > 0)
        buf_append_cstr(text, ", ");
    if (e->origin == EVENT_OWN)
        buf_append_str(text, e->type);
    else
        buf_printf(text, "%s%.*s@%" PRIu64,
                   e->origin == EVENT_SOURCE     ? ""
                   : str_is(e->type, "Vanished") ? "-"
                                                 : "=",
                   STR_ARG(e->key), e->index);
}

/* "a@5" from the stream, "=a@5" Snapshot, "-a@5" Vanished, and types of Busbar's own. */
static inline void kit_journal_is(struct kit *k, const char *expected)
{
    struct buf text = {0};
    kit_each(k, kit_append, &text);
    assert_string_equal(buf_cstr(&text), expected);
    buf_fini(&text);
}

static inline void kit_count_finished(void *arg, const struct event *e)
{
    *(unsigned *)arg += str_is(e->type, "ResyncFinished");
}

static inline void kit_wait_finished(struct kit *k, unsigned n)
{
    int64_t until = clock_mono_ms() + KIT_WAIT_MS;
    for (;;) {
        struct resync_status s = kit_status(k);
        unsigned finished = 0;
        kit_each(k, kit_count_finished, &finished);
        if (finished >= n && !s.open && !s.wanted && s.finished_us > 0) {
            assert_int_equal(finished, n);
            return;
        }
        if (clock_mono_ms() > until)
            fail_msg("%u of %u finished, open %d wanted %d: %s", finished, n, s.open, s.wanted,
                     s.detail);
        stop_wait(k->stop, 20);
    }
}

#endif
