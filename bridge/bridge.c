/* bridge.c - all pipelines of one configuration. */
#include "bridge/bridge.h"

#include "bridge/base/clock.h"
#include "bridge/base/stop.h"
#include "bridge/bridge_parts.h"

#include <stdio.h>
#include <stdlib.h>

static void on_news(void *arg)
{
    struct bridge *b = arg;
    pthread_mutex_lock(&b->news_lock);
    if (b->news != NULL)
        b->news(b->news_arg);
    pthread_mutex_unlock(&b->news_lock);
}

static void on_ended(void *arg)
{
    struct bridge *b = arg;
    if (bridge_end(b) != BRIDGE_RUNS)
        stop_request(b->end);
}

int bridge_open(struct bridge **out, const struct setup *setup, struct err *err)
{
    struct bridge *b = mem_zalloc(sizeof *b);
    b->setup = setup;
    b->started_us = clock_wall_us();
    b->end = stop_new();
    b->metrics = metrics_all_new();
    pthread_mutex_init(&b->news_lock, NULL);
    arrival_init(&b->arrival, setup->n_sources);
    b->world = (struct pipeline_world){
        .setup = setup,
        .arrival = &b->arrival,
        .metrics = b->metrics,
        .news = on_news,
        .ended = on_ended,
        .arg = b,
    };
    b->instance.fd = -1;
    if (setup->n_sinks > 0 && instance_take(&b->instance, setup->journal_path, err) != 0) {
        bridge_close(&b);
        return -1;
    }
    b->world.instance = b->instance.id;
    b->pipelines = mem_zalloc(setup->n_sources * sizeof(struct pipeline *));
    for (size_t i = 0; i < setup->n_sources; i++) {
        if (pipeline_open(&b->pipelines[i], &b->world, i, err) != 0) {
            bridge_close(&b);
            return -1;
        }
        b->n_pipelines++;
    }
    *out = b;
    return 0;
}

void bridge_start(struct bridge *b)
{
    for (size_t i = 0; i < b->n_pipelines; i++)
        pipeline_start(b->pipelines[i]);
}

int bridge_end_fd(const struct bridge *b)
{
    return stop_fd(b->end);
}

enum bridge_end bridge_end(struct bridge *b)
{
    size_t pairs = 0, fenced = 0, failed = 0;
    for (size_t i = 0; i < b->n_pipelines; i++) {
        pairs += pipeline_sinks(b->pipelines[i]);
        fenced += pipeline_fenced(b->pipelines[i]);
        failed += pipeline_failed(b->pipelines[i]);
    }
    if (failed == b->n_pipelines)
        return BRIDGE_FAILED;
    if (pairs > 0 && fenced == pairs)
        return BRIDGE_FENCED;
    return BRIDGE_RUNS;
}

void bridge_close(struct bridge **bridge)
{
    struct bridge *b = *bridge;
    if (b == NULL)
        return;
    for (size_t i = 0; i < b->n_pipelines; i++)
        pipeline_stop(b->pipelines[i]);
    for (size_t i = 0; i < b->n_pipelines; i++)
        pipeline_close(&b->pipelines[i]);
    free(b->pipelines);
    instance_release(&b->instance);
    arrival_fini(&b->arrival);
    pthread_mutex_destroy(&b->news_lock);
    metrics_all_free(&b->metrics);
    stop_free(&b->end);
    free(b);
    *bridge = NULL;
}

size_t bridge_sources(const struct bridge *b)
{
    return b->n_pipelines;
}

const char *bridge_source_name(const struct bridge *b, size_t i)
{
    return pipeline_name(b->pipelines[i]);
}

struct journal *bridge_journal(const struct bridge *b, size_t i)
{
    return pipeline_journal(b->pipelines[i]);
}

void bridge_describe_source(struct bridge *b, size_t i, struct bridge_source *out)
{
    const struct setup_source *source = &b->setup->sources[i];
    struct ingest_status status;
    pipeline_source_status(b->pipelines[i], &status);
    *out = (struct bridge_source){
        .attached = status.state == SOURCE_ATTACHED,
        .last_index = status.last_index,
    };
    if (source->ops->is_nomad != NULL)
        out->is_nomad = source->ops->is_nomad(source->settings, &out->region);
    if (source->ops->is_marathon != NULL)
        out->is_marathon = source->ops->is_marathon(source->settings);
    snprintf(out->server, sizeof out->server, "%s", status.server);
}

int64_t bridge_arrival_horizon(struct bridge *b)
{
    return arrival_horizon(&b->arrival);
}

void bridge_on_news(struct bridge *b, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&b->news_lock);
    b->news = fn;
    b->news_arg = arg;
    pthread_mutex_unlock(&b->news_lock);
}

struct metrics_all *bridge_metrics(struct bridge *b)
{
    return b->metrics;
}
