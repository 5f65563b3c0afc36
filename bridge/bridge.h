/* bridge.h - the whole: all pipelines of one configuration, as the mirror and main see them. */
#ifndef BUSBAR_BRIDGE_H
#define BUSBAR_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/journal.h"
#include "bridge/metrics.h"

struct bridge;
struct setup;

/* ---- for main: one thread ---- */

enum bridge_end {
    BRIDGE_RUNS,
    BRIDGE_FAILED, /* every source's thread has ended with an error */
    BRIDGE_FENCED, /* every pair was fenced, and no standby is wanted */
};

/* Opens all journals and makes all parts; no thread runs yet. `setup` outlives it. */
int bridge_open(struct bridge **out, const struct setup *setup, struct err *err);
void bridge_start(struct bridge *bridge);
/* Readable once bridge_end is no longer BRIDGE_RUNS. */
int bridge_end_fd(const struct bridge *bridge);
enum bridge_end bridge_end(struct bridge *bridge);
/* Stops all threads (sources first), closes all journals. The mirror must be closed before. NULL is
 * fine. */
void bridge_close(struct bridge **bridge);

/* ---- for the mirror; any thread; sources are fixed for the life of a bridge ---- */

size_t bridge_sources(const struct bridge *bridge);
const char *bridge_source_name(const struct bridge *bridge, size_t i);
struct journal *bridge_journal(const struct bridge *bridge, size_t i);
/* What a source is, and how it is. `region` lives as long as the bridge. */
struct bridge_source {
    bool is_nomad;      /* its messages are lines of a Nomad's event stream … */
    const char *region; /* … of this region; NULL: not known */
    bool is_marathon;   /* its events are a Marathon's */
    bool attached;
    uint64_t last_index; /* of the present epoch; 0: none */
    char server[256];
};
void bridge_describe_source(struct bridge *bridge, size_t i, struct bridge_source *out);
/* All events with arrival_us up to this are readable in their journals: merging sources by arrival
 * is exact up to here, and what lies behind it can only get larger arrival times. */
int64_t bridge_arrival_horizon(struct bridge *bridge);
/* `fn` runs after each commit of any source, on that source's thread; it must not block. One only;
 * NULL takes it away, and it does not run any more once that returns. */
void bridge_on_news(struct bridge *bridge, void (*fn)(void *arg), void *arg);

struct metrics_all *bridge_metrics(struct bridge *bridge);
/* What GET /status answers, one JSON object. */
void bridge_render_status(struct bridge *bridge, struct buf *out);
/* `fn` adds to what it tells of source `i` (a json_t of jansson's: an object), on the thread that
 * calls bridge_render_status, which is the only one to call this too while there may be such a
 * call. One only; NULL takes it away. */
struct json_t;
void bridge_on_status(struct bridge *bridge, void (*fn)(void *arg, size_t i, struct json_t *source),
                      void *arg);
/* What GET /metrics answers; brings gauges up to date first. */
void bridge_render_metrics(struct bridge *bridge, struct buf *out);
/* True when every source is attached (or ended well) and every sink reachable; else `why` gets one
 * line each. */
bool bridge_is_ready(struct bridge *bridge, struct buf *why);

#endif
