/* pipeline.c - one source, its journal, and its sinks. */
#include "bridge/pipeline.h"

#include "bridge/base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

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
    pthread_t thread;
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

void pipeline_start(struct pipeline *p)
{
    for (size_t i = 0; i < p->n_pairs; i++)
        if (pthread_create(&p->pairs[i].thread, NULL, run_pair, &p->pairs[i]) != 0)
            abort();
    if (pthread_create(&p->thread, NULL, run_source, p) != 0)
        abort();
    p->started = true;
}

void pipeline_stop(struct pipeline *p)
{
    stop_request(p->stop_source);
    stop_request(p->stop_sinks);
    journal_wake_stop(p->journal);
}

/* ---- making ---- */

/* Every sink has said whether it holds a checkpoint of this source; *any: one does. */
static bool checkpoints(void *arg, bool *any)
{
    struct pipeline *p = arg;
    bool all = true;
    for (size_t i = 0; i < p->n_pairs; i++) {
        struct sink_status status;
        sink_loop_get_status(p->pairs[i].loop, &status);
        all = all && status.checkpoint_known;
        *any = *any || status.checkpoint_found;
    }
    return all;
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
    };
    int rc = journal_open(&p->journal, &options, err);
    buf_fini(&dir);
    return rc;
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
        .start = ops->start != NULL ? ops->start(p->setup->settings) : SOURCE_START_OLDEST,
        .checkpoints = checkpoints,
        .news = news,
        .passed = passed,
        .arg = p,
    };
    return ingest_new(&p->ingest, &options, err);
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
                 .standby = p->world->setup->standby,
                 .stop = p->stop_sinks},
        .journal = p->journal,
        .filter = pair->filter,
        .metrics = pair->metrics,
    };
    pair->loop = sink_loop_new(&options);
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
    if (open_journal(p, err) != 0 || open_ingest(p, i, err) != 0) {
        err_wrap(err, "source %s", p->setup->name);
        pipeline_close(&p);
        return -1;
    }
    for (size_t s = 0; s < setup->n_sinks; s++)
        if (setup_sink_takes(&setup->sinks[s], p->setup->name))
            open_pair(p, &setup->sinks[s]);
    p->source = p->setup->ops->create(p->setup->settings, p->ingest);
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
        for (size_t i = 0; i < p->n_pairs; i++)
            pthread_join(p->pairs[i].thread, NULL);
    }
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
