/* metrics.h - counters and gauges, as Prometheus reads them (text format 0.0.4). Any thread. */
#ifndef BUSBAR_METRICS_H
#define BUSBAR_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"

enum metric {
#define METRIC(id, scope, kind, name, help) METRIC_##id,
#include "bridge/metrics.def"
#undef METRIC
    METRIC_COUNT
};

enum metrics_scope { METRICS_SOURCE, METRICS_SINK, METRICS_MIRROR, METRICS_CALLBACKS };

struct metrics;     /* one labelled set of values */
struct metrics_all; /* all sets of one process */

struct metrics_all *metrics_all_new(void);
void metrics_all_free(struct metrics_all **all); /* and every set */
/* Labels are copied; NULL leaves one out. The set lives as long as `all`. */
struct metrics *metrics_new(struct metrics_all *all, enum metrics_scope scope, const char *source,
                            const char *sink);

void metrics_add(struct metrics *m, enum metric id, uint64_t n);
/* The same for less, of a metric that only one thread at a time adds to. */
void metrics_count(struct metrics *m, enum metric id, uint64_t n);
void metrics_set(struct metrics *m, enum metric id, uint64_t value);
uint64_t metrics_get(const struct metrics *m, enum metric id);

/* Appends the exposition of all sets. */
void metrics_render(struct metrics_all *all, struct buf *out);

#endif
