/* chunk.h - a run of frames, formatted once, in order of arrival, with what a filter looks at; and
 * which of them a wish lets pass, looked at once for all who share the wish. On the mirror's
 * thread.
 */
#ifndef BUSBAR_MIRROR_CHUNK_H
#define BUSBAR_MIRROR_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "bridge/base/buf.h"
#include "bridge/event.h"
#include "bridge/route.h"

enum { CHUNK_BYTES = 256 * 1024 }; /* more only for a frame that is larger alone */

/* What a group of clients wants. */
struct wish {
    size_t number;         /* small: an index into what chunks remember */
    uint64_t id;           /* unlike those of all who had the number before */
    struct filter *filter; /* NULL: all */
    bool *sources;         /* which; NULL: all */
};
bool wish_takes_source(const struct wish *wish, size_t source);
bool wish_takes(const struct wish *wish, size_t source, const struct event *event);

/* Where a frame and its event's strings lie in the chunk's two buffers. */
struct chunk_entry {
    int64_t arrival_us;
    size_t start;
    size_t len;
    size_t meta;
    uint32_t source;
    uint32_t topic, type, key, ns, filter_keys; /* lengths, one after the other from `meta` */
    enum event_origin origin;
    uint32_t epoch;
    uint32_t ordinal;
    uint64_t index;
    uint64_t pos_index;
};

/* Of the chunk's frames from the first on, so many were looked at for the wish `id`, and so many of
 * these pass; `bits` only where it is some, not all. */
struct verdict {
    uint64_t id;
    size_t looked;
    size_t passing;
    uint8_t *bits;
    size_t bits_size;
};

/* All zero: empty. */
struct chunk {
    struct buf frames;
    struct buf meta;
    struct chunk_entry *entries;
    size_t n;
    size_t cap;
    size_t bytes;             /* as chunk_cost counts them */
    struct verdict *verdicts; /* by number */
    size_t n_verdicts;
};

void chunk_fini(struct chunk *chunk);
size_t chunk_cost(const struct event *event, struct str frame);
/* Of the event what a filter looks at, and its place, is copied. */
void chunk_append(struct chunk *chunk, size_t source, const struct event *event, struct str frame);
/* The first entry that arrived after the time. */
size_t chunk_find(const struct chunk *chunk, int64_t arrival_us);

/* One frame, with only what a filter looks at, and the place, of its event. Lives until the next
 * chunk_append. */
struct ring_frame {
    size_t source;
    int64_t arrival_us;
    struct str bytes;
    struct event event;
};
void chunk_at(const struct chunk *chunk, size_t i, struct ring_frame *out);

/* Of all frames that are in it by now; valid until the next call for this chunk. */
const struct verdict *chunk_judge(struct chunk *chunk, const struct wish *wish);
bool chunk_passes(const struct verdict *verdict, size_t frame);
/* The first frame that passes, from `frame` on; n: none does. */
size_t chunk_next(const struct chunk *chunk, const struct verdict *verdict, size_t frame);

/* A place: so much of that frame, which passes, is out. */
struct chunk_place {
    size_t frame;
    size_t offset;
};
/* What follows of frames that pass, where it lies; adjoining ones are one part. */
size_t chunk_parts(const struct chunk *chunk, const struct verdict *verdict,
                   const struct chunk_place *place, struct iovec *parts, size_t max);
/* Moves the place by so many bytes of these parts; returns how many frames became whole, the last
 * of them in *last. */
size_t chunk_pass(const struct chunk *chunk, const struct verdict *verdict,
                  struct chunk_place *place, size_t bytes, size_t *last);

#endif
