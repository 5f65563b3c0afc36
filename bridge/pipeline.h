/* pipeline.h - one source, its journal, and its sinks: threads and their order of life. Internal to
 * the bridge. */
#ifndef BUSBAR_PIPELINE_H
#define BUSBAR_PIPELINE_H

#include "bridge/ingest.h"
#include "bridge/resync.h"
#include "bridge/setup.h"
#include "bridge/sink_loop.h"

struct pipeline;

/* What all pipelines of a bridge share; outlives them. */
struct pipeline_world {
    const struct setup *setup;
    const char *instance; /* see sink_pair */
    struct arrival *arrival;
    struct metrics_all *metrics;
    void (*news)(void *arg);  /* after each commit, on the connector's thread */
    void (*ended)(void *arg); /* after a source failed or a pair was fenced, on its thread */
    void *arg;
};

/* `i` is the source's place in the setup. */
int pipeline_open(struct pipeline **out, const struct pipeline_world *world, size_t i,
                  struct err *err);
void pipeline_start(struct pipeline *pipeline);
void pipeline_stop(struct pipeline *pipeline);   /* asks all its threads; returns at once */
void pipeline_close(struct pipeline **pipeline); /* stops, joins, closes */

/* ---- any thread ---- */

const char *pipeline_name(const struct pipeline *pipeline);
const char *pipeline_type(const struct pipeline *pipeline);
struct journal *pipeline_journal(const struct pipeline *pipeline);
struct metrics *pipeline_metrics(const struct pipeline *pipeline);
void pipeline_source_status(struct pipeline *pipeline, struct ingest_status *out);
void pipeline_resync_status(struct pipeline *pipeline, struct resync_status *out);
size_t pipeline_sinks(const struct pipeline *pipeline);
const struct setup_sink *pipeline_sink(const struct pipeline *pipeline, size_t i);
struct metrics *pipeline_sink_metrics(const struct pipeline *pipeline, size_t i);
void pipeline_sink_status(struct pipeline *pipeline, size_t i, struct sink_status *out);
bool pipeline_failed(const struct pipeline *pipeline); /* its source's thread ended with an error */
size_t pipeline_fenced(const struct pipeline *pipeline); /* how many of its pairs ended so */

#endif
