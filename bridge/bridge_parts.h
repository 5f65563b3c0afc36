/* bridge_parts.h - what bridge.c and status.c share. */
#ifndef BUSBAR_BRIDGE_PARTS_H
#define BUSBAR_BRIDGE_PARTS_H

#include "bridge/arrival.h"
#include "bridge/bridge.h"
#include "bridge/instance.h"
#include "bridge/pipeline.h"

#include <pthread.h>

struct bridge {
    const struct setup *setup;
    struct instance instance;
    int64_t started_us;
    struct stop *end;
    struct metrics_all *metrics;
    struct arrival arrival;
    struct pipeline_world world;
    struct pipeline **pipelines;
    size_t n_pipelines;
    pthread_mutex_t news_lock; /* held while `news` runs, so that taking it away waits for it */
    void (*news)(void *arg);
    void *news_arg;
    void (*add_status)(void *arg, size_t i, struct json_t *source); /* NULL: nobody adds */
    void *add_status_arg;
};

#endif
