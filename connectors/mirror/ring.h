/* ring.h - the newest frames, formatted once, shared by all clients; the oldest go when it is full.
 *
 * It holds every event (repeats left out) whose arrival lies above its floor and not above what was
 * fed, of all sources, in order of arrival. All on the mirror's thread. */
#ifndef BUSBAR_MIRROR_RING_H
#define BUSBAR_MIRROR_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/event.h"

struct ring;

struct ring *ring_new(size_t bytes_max, int64_t floor_us);
void ring_free(struct ring **ring);

/* Drops everything; it begins anew above `floor_us`, and every cursor finds its frame gone. */
void ring_reset(struct ring *ring, int64_t floor_us);

/* Adds a frame; of the event what a filter looks at is copied. A frame larger than the whole ring
 * is held alone. */
void ring_append(struct ring *ring, size_t source, const struct event *event, struct str frame);

/* A client's place: the next frame it has not passed. */
struct ring_cursor {
    uint64_t chunk;
    size_t frame;
};

/* False where frames that arrived after `arrival_us` have gone already; else the cursor stands at
 * the first of them, or at the end. */
bool ring_seek(const struct ring *ring, int64_t arrival_us, struct ring_cursor *cursor);

struct ring_frame {
    size_t source;
    int64_t arrival_us;
    struct str bytes;
    struct event event; /* only what a filter looks at */
};
/* The frame at the cursor. False at the end, and where it has gone (*gone). What `out` points to
 * lives until the next ring_append. */
bool ring_at(const struct ring *ring, struct ring_cursor *cursor, struct ring_frame *out,
             bool *gone);
/* Steps over the frame that ring_at gave. */
void ring_step(struct ring_cursor *cursor);

size_t ring_bytes(const struct ring *ring);

#endif
