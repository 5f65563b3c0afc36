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
#include "connectors/mirror/chunk.h"

struct ring;

struct ring *ring_new(size_t bytes_max, int64_t floor_us);
void ring_free(struct ring **ring);

/* Drops everything; it begins anew above `floor_us`, and every cursor finds its frame gone. */
void ring_reset(struct ring *ring, int64_t floor_us);

/* Adds a frame; of the event what a filter looks at, and its place, is copied. A frame larger than
 * the whole ring is held alone. */
void ring_append(struct ring *ring, size_t source, const struct event *event, struct str frame);

/* A client's place: the next frame it has not passed. */
struct ring_cursor {
    uint64_t chunk;
    size_t frame;
};

/* False where frames that arrived after `arrival_us` have gone already; else the cursor stands at
 * the first of them, or at the end. */
bool ring_seek(const struct ring *ring, int64_t arrival_us, struct ring_cursor *cursor);

/* The chunk of the cursor, which may have to step into the next one for it; NULL at the end, and
 * where it has gone. The cursor may stand behind the last frame of the newest. */
struct chunk *ring_chunk(const struct ring *ring, struct ring_cursor *cursor, bool *gone);
bool ring_is_newest(const struct ring *ring, const struct ring_cursor *cursor);

struct chunk *ring_newest(const struct ring *ring); /* NULL: it is empty */

size_t ring_bytes(const struct ring *ring);

#endif
