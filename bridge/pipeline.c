/* pipeline.c - one source, its journal, its resyncs, and its sinks. */
#include "bridge/pipeline.h"

#include "bridge/base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* What all journals together keep in memory of their newest blocks. */
#define RINGS_BYTES (UINT64_C(64) << 20)

struct pair {
    struct pipeline *pipeline;
    const struct setup_sink *setup;
    struct filter *filter;
    struct metrics *metrics;
    struct sink_loop *loop;
    pthread_t thread;
};

struct pipeline {
    const struct pipeline_world *world;
    const struct setup_source *setup;
    struct journal *journal;
    struct metrics *metrics;
    struct stop *stop_source, *stop_sinks;
    struct ingest *ingest;
    void *source;
    struct resync *resync;
    pthread_t thread, resync_thread;
    bool started;
    atomic_bool failed;
    atomic_size_t fenced;
    struct pair *pairs;
    size_t n_pairs;
};

/* ---- threads ---- */

static void *run_source(void *arg)
{
    struct pipeline *p = arg;
    struct err err = {ERR_FATAL, ""};
    int rc = p->setup->ops->run(p->source, &err);
    struct err flush_err;
    if (ingest_flush(p->ingest, &flush_err) != 0 && rc == 0) {
        err = flush_err;
        rc = -1;
    }
    if (rc != 0 && !stop_requested(p->stop_source)) {
        ingest_state(p->ingest, SOURCE_FAILED, NULL, err.msg);
        atomic_store(&p->failed, true);
        p->world->ended(p->world->arg);
    }
    return NULL;
}

static void *run_pair(void *arg)
{
    struct pair *pair = arg;
    struct pipeline *p = pair->pipeline;
    sink_loop_run(pair->loop);
    if (!stop_requested(p->stop_sinks)) {
        atomic_fetch_add(&p->fenced, 1);
        p->world->ended(p->world->arg);
    }
    return NULL;
}

static void *run_resync(void *arg)
{
    resync_run(((struct pipeline *)arg)->resync);
    return NULL;
}

static void start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
    if (pthread_create(thread, NULL, run, arg) != 0)
        abort();
}

void pipeline_start(struct pipeline *p)
{
    for (size_t i = 0; i < p->n_pairs; i++)
        start_thread(&p->pairs[i].thread, run_pair, &p->pairs[i]);
    start_thread(&p->thread, run_source, p);
    start_thread(&p->resync_thread, run_resync, p);
    p->started = true;
}

void pipeline_stop(struct pipeline *p)
{
    stop_request(p->stop_source);
    stop_request(p->stop_sinks);
    journal_wake_stop(p->journal);
}

/* ---- making ---- */

static void add_checkpoint(struct known_checkpoint *known, const struct sink_status *status)
{
    if (!status->checkpoint_found)
        return;
    if (!known->any || status->epoch > known->epoch ||
        (status->epoch == known->epoch && status->index > known->index))
        *known = (struct known_checkpoint){true, status->epoch, status->index};
}

/* What all sinks hold of this source; false as long as one of them was not asked. */
static bool checkpoints(void *arg, struct known_checkpoint *known)
{
    struct pipeline *p = arg;
    bool all = true;
    *known = (struct known_checkpoint){0};
    for (size_t i = 0; i < p->n_pairs; i++) {
        struct sink_status status;
        sink_loop_get_status(p->pairs[i].loop, &status);
        all = all && status.checkpoint_known;
        add_checkpoint(known, &status);
    }
    return all;
}

static void want_resync(void *arg, uint64_t after_seq, const char *reason)
{
    resync_request(((struct pipeline *)arg)->resync, after_seq, reason);
}

static void news(void *arg)
{
    struct pipeline *p = arg;
    p->world->news(p->world->arg);
}

static uint64_t passed(void *arg)
{
    struct pipeline *p = arg;
    uint64_t least = journal_next_seq(p->journal);
    for (size_t i = 0; i < p->n_pairs; i++) {
        struct sink_status status;
        sink_loop_get_status(p->pairs[i].loop, &status);
        if (status.passed_seq + 1 < least)
            least = status.passed_seq + 1;
    }
    return least;
}

static int open_journal(struct pipeline *p, struct err *err)
{
    const struct setup *setup = p->world->setup;
    struct buf dir = {0};
    buf_printf(&dir, "%s/%s", setup->journal_path, p->setup->name);
    struct journal_options options = {
        .dir = buf_cstr(&dir),
        .max_size = setup->journal_max_size,
        .max_age_ms = setup->journal_max_age_ms,
        .sync_ms = setup->journal_sync_ms,
        .ring_bytes = RINGS_BYTES / setup->n_sources,
    };
    int rc = journal_open(&p->journal, &options, err);
    buf_fini(&dir);
    return rc;
}

/* A snapshot only where there is a state to be read. */
static enum source_start start_of(const struct setup_source *source)
{
    const struct source_ops *ops = source->ops;
    enum source_start start =
        ops->start != NULL ? ops->start(source->settings) : SOURCE_START_OLDEST;
    return start == SOURCE_START_SNAPSHOT && ops->snapshot == NULL ? SOURCE_START_OLDEST : start;
}

static bool is_by_bytes(const struct setup_source *source)
{
    return source->ops->is_marathon != NULL && source->ops->is_marathon(source->settings);
}

static int open_ingest(struct pipeline *p, size_t slot, struct err *err)
{
    const struct source_ops *ops = p->setup->ops;
    struct ingest_options options = {
        .source = p->setup->name,
        .journal = p->journal,
        .arrival = p->world->arrival,
        .arrival_slot = slot,
        .metrics = p->metrics,
        .filter = ops->filter != NULL ? ops->filter(p->setup->settings) : NULL,
        .stop = p->stop_source,
        .start = start_of(p->setup),
        .no_replay = ops->no_replay,
        .tells_state = ops->tells_state,
        .by_bytes = is_by_bytes(p->setup),
        .digest = ops->digest != NULL ? ops->digest(p->setup->settings) : NULL,
        .checkpoints = checkpoints,
        .news = news,
        .passed = passed,
        .arg = p,
    };
    return ingest_new(&p->ingest, &options, err);
}

static int open_resync(struct pipeline *p, struct err *err)
{
    const struct source_ops *ops = p->setup->ops;
    struct buf dir = {0};
    buf_printf(&dir, "%s/%s/state", p->world->setup->journal_path, p->setup->name);
    struct resync_options options = {
        .source = p->setup->name,
        .dir = buf_cstr(&dir),
        .journal = p->journal,
        .ingest = p->ingest,
        .ops = ops,
        .connector = p->source,
        .rate = ops->snapshot_rate != NULL ? ops->snapshot_rate(p->setup->settings) : 1,
        .metrics = p->metrics,
        .journal_max_size = p->world->setup->journal_max_size,
        .stop = p->stop_source,
    };
    int rc = resync_new(&p->resync, &options, err);
    buf_fini(&dir);
    uint64_t next = journal_next_seq(p->journal);
    if (rc == 0 && ops->tells_state && next > journal_first_seq(p->journal))
        resync_request(p->resync, next - 1, RESYNC_AFTER_RESTART);
    return rc;
}

static size_t count_sources(const struct setup *setup, const struct setup_sink *sink)
{
    size_t n = 0;
    for (size_t i = 0; i < setup->n_sources; i++)
        n += setup_sink_takes(sink, setup->sources[i].name);
    return n;
}

static struct filter *make_filter(const struct setup_sink *sink)
{
    struct filter *f = filter_new();
    for (size_t i = 0; i < sink->topics.n; i++)
        filter_add_topic(f, str_from(sink->topics.items[i]));
    for (size_t i = 0; i < sink->types.n; i++)
        filter_add_type(f, str_from(sink->types.items[i]));
    for (size_t i = 0; i < sink->namespaces.n; i++)
        filter_add_namespace(f, str_from(sink->namespaces.items[i]));
    if (filter_is_empty(f))
        filter_free(&f);
    return f;
}

static void open_pair(struct pipeline *p, const struct setup_sink *sink)
{
    struct pair *pair = &p->pairs[p->n_pairs++];
    pair->pipeline = p;
    pair->setup = sink;
    pair->filter = make_filter(sink);
    pair->metrics = metrics_new(p->world->metrics, METRICS_SINK, p->setup->name, sink->name);
    struct sink_loop_options options = {
        .ops = sink->ops,
        .pair = {.bridge = p->world->setup->name,
                 .source = p->setup->name,
                 .sink = sink->name,
                 .settings = sink->settings,
                 .instance = p->world->instance,
                 .standby = p->world->setup->standby,
                 .n_sources = count_sources(p->world->setup, sink),
                 .stop = p->stop_sinks},
        .journal = p->journal,
        .filter = pair->filter,
        .redact = sink->redact,
        .by_bytes = is_by_bytes(p->setup),
        .no_replay = p->setup->ops->no_replay,
        .metrics = pair->metrics,
        .want_resync = want_resync,
        .arg = p,
    };
    pair->loop = sink_loop_new(&options);
}

static int open_source(struct pipeline *p, struct err *err)
{
    p->source = p->setup->ops->create(p->setup->settings, p->ingest);
    return open_resync(p, err);
}

int pipeline_open(struct pipeline **out, const struct pipeline_world *world, size_t i,
                  struct err *err)
{
    struct pipeline *p = mem_zalloc(sizeof *p);
    const struct setup *setup = world->setup;
    p->world = world;
    p->setup = &setup->sources[i];
    p->stop_source = stop_new();
    p->stop_sinks = stop_new();
    p->metrics = metrics_new(world->metrics, METRICS_SOURCE, p->setup->name, NULL);
    p->pairs = mem_zalloc(setup->n_sinks * sizeof *p->pairs);
    if (open_journal(p, err) != 0 || open_ingest(p, i, err) != 0 || open_source(p, err) != 0) {
        err_wrap(err, "source %s", p->setup->name);
        pipeline_close(&p);
        return -1;
    }
    for (size_t s = 0; s < setup->n_sinks; s++)
        if (setup_sink_takes(&setup->sinks[s], p->setup->name))
            open_pair(p, &setup->sinks[s]);
    *out = p;
    return 0;
}

void pipeline_close(struct pipeline **pipeline)
{
    struct pipeline *p = *pipeline;
    if (p == NULL)
        return;
    if (p->started) {
        pipeline_stop(p);
        pthread_join(p->thread, NULL);
        pthread_join(p->resync_thread, NULL);
        for (size_t i = 0; i < p->n_pairs; i++)
            pthread_join(p->pairs[i].thread, NULL);
    }
    resync_free(&p->resync);
    if (p->source != NULL)
        p->setup->ops->destroy(p->source);
    for (size_t i = 0; i < p->n_pairs; i++) {
        sink_loop_free(&p->pairs[i].loop);
        filter_free(&p->pairs[i].filter);
    }
    ingest_free(&p->ingest);
    journal_close(&p->journal);
    stop_free(&p->stop_source);
    stop_free(&p->stop_sinks);
    free(p->pairs);
    free(p);
    *pipeline = NULL;
}

/* ---- looking at it ---- */

const char *pipeline_name(const struct pipeline *p)
{
    return p->setup->name;
}

const char *pipeline_type(const struct pipeline *p)
{
    return p->setup->ops->type;
}

struct journal *pipeline_journal(const struct pipeline *p)
{
    return p->journal;
}

struct metrics *pipeline_metrics(const struct pipeline *p)
{
    return p->metrics;
}

void pipeline_source_status(struct pipeline *p, struct ingest_status *out)
{
    ingest_get_status(p->ingest, out);
}

void pipeline_resync_status(struct pipeline *p, struct resync_status *out)
{
    resync_get_status(p->resync, out);
}

size_t pipeline_sinks(const struct pipeline *p)
{
    return p->n_pairs;
}

const struct setup_sink *pipeline_sink(const struct pipeline *p, size_t i)
{
    return p->pairs[i].setup;
}

struct metrics *pipeline_sink_metrics(const struct pipeline *p, size_t i)
{
    return p->pairs[i].metrics;
}

void pipeline_sink_status(struct pipeline *p, size_t i, struct sink_status *out)
{
    sink_loop_get_status(p->pairs[i].loop, out);
}

bool pipeline_failed(const struct pipeline *p)
{
    return atomic_load(&p->failed);
}

size_t pipeline_fenced(const struct pipeline *p)
{
    return atomic_load(&p->fenced);
}
