/* feed.h - what fills the ring: reads all journals up to the horizon and formats each event once.
 *
 * It runs only while somebody listens. All on the mirror's thread. */
#ifndef BUSBAR_MIRROR_FEED_H
#define BUSBAR_MIRROR_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/bridge.h"
#include "bridge/redact.h"
#include "connectors/mirror/merge.h"
#include "connectors/mirror/ring.h"

struct feed {
    struct bridge *bridge;
    const struct mirror_source *sources;
    size_t n_sources;
    size_t ring_bytes;
    const struct redact *redact; /* what no client may see; NULL: all may; set before the start */
    struct ring *ring;           /* NULL while stopped */
    struct merge *merge;         /* NULL while stopped */
    int64_t fed_us;              /* everything up to this is in the ring, or below its floor */
    struct buf scratch;  /* one frame; at most as large as one, shrunk when it was a big one */
    struct buf redacted; /* one event's bytes, likewise */
    bool more;           /* the last run ended before the horizon */
    int64_t failed_ms;   /* when a journal could not be read, 0: fine */
};

void feed_init(struct feed *feed, struct bridge *bridge, const struct mirror_source *sources,
               size_t n_sources, size_t ring_bytes);
void feed_fini(struct feed *feed);

/* The ring begins a few seconds in the past, for those who come back after a restart. */
void feed_start(struct feed *feed);
void feed_stop(struct feed *feed);

/* Feeds what is new, at most some MiB. True where the ring changed. */
bool feed_run(struct feed *feed);

/* The event's bytes as they may leave: its own, or the feed's until the next call. Whoever sends
 * bytes of events in a form of his own calls this for each. */
struct str feed_event_bytes(struct feed *feed, const struct event *event);

/* Formats an event into the feed's scratch, redacted. */
struct str feed_format(struct feed *feed, const struct merge_next *next);

#endif
