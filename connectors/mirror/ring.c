/* ring.c - the newest frames, in chunks of about 256 KiB: whole chunks are dropped. */
#include "connectors/mirror/ring.h"

#include <stdlib.h>

struct ring {
    struct chunk *chunks; /* a circle: chunk number i lies at i % n_chunks */
    size_t n_chunks;
    uint64_t first;
    uint64_t end; /* the newest chunk is end - 1 */
    size_t bytes;
    size_t bytes_max;
    int64_t floor_us;
};

struct ring *ring_new(size_t bytes_max, int64_t floor_us)
{
    struct ring *ring = mem_zalloc(sizeof *ring);
    ring->bytes_max = bytes_max;
    ring->floor_us = floor_us;
    /* Two chunks in a row are together larger than CHUNK_BYTES. */
    ring->n_chunks = 2 * (bytes_max / CHUNK_BYTES) + 4;
    ring->chunks = mem_zalloc(ring->n_chunks * sizeof *ring->chunks);
    return ring;
}

static struct chunk *nth(const struct ring *ring, uint64_t number)
{
    return &ring->chunks[number % ring->n_chunks];
}

void ring_free(struct ring **ring)
{
    if (*ring == NULL)
        return;
    for (uint64_t i = (*ring)->first; i < (*ring)->end; i++)
        chunk_fini(nth(*ring, i));
    free((*ring)->chunks);
    free(*ring);
    *ring = NULL;
}

static void drop_oldest(struct ring *ring)
{
    struct chunk *chunk = nth(ring, ring->first++);
    ring->floor_us = chunk->entries[chunk->n - 1].arrival_us;
    ring->bytes -= chunk->bytes;
    chunk_fini(chunk);
}

void ring_reset(struct ring *ring, int64_t floor_us)
{
    while (ring->first < ring->end)
        drop_oldest(ring);
    ring->first = ++ring->end;
    ring->floor_us = floor_us;
}

/* The chunk that takes `more` bytes, a new one where the last is full. */
static struct chunk *make_room(struct ring *ring, size_t more)
{
    struct chunk *last = ring->end > ring->first ? nth(ring, ring->end - 1) : NULL;
    bool fresh = last == NULL || last->bytes + more > CHUNK_BYTES;
    while (ring->first < ring->end && ring->bytes + more > ring->bytes_max &&
           (fresh || ring->end - ring->first > 1))
        drop_oldest(ring);
    while (fresh && ring->end - ring->first >= ring->n_chunks)
        drop_oldest(ring);
    if (fresh) {
        last = nth(ring, ring->end++);
        buf_reserve(&last->frames, more > CHUNK_BYTES ? more : CHUNK_BYTES);
    }
    return last;
}

void ring_append(struct ring *ring, size_t source, const struct event *event, struct str frame)
{
    size_t cost = chunk_cost(event, frame);
    struct chunk *chunk = make_room(ring, cost);
    chunk_append(chunk, source, event, frame);
    ring->bytes += cost;
}

bool ring_seek(const struct ring *ring, int64_t arrival_us, struct ring_cursor *cursor)
{
    if (arrival_us < ring->floor_us)
        return false;
    uint64_t number = ring->first;
    while (number < ring->end) {
        const struct chunk *chunk = nth(ring, number);
        if (chunk->entries[chunk->n - 1].arrival_us > arrival_us)
            break;
        number++;
    }
    *cursor = (struct ring_cursor){.chunk = number};
    if (number < ring->end)
        cursor->frame = chunk_find(nth(ring, number), arrival_us);
    else if (number > ring->first) /* the last chunk may grow yet */
        *cursor = (struct ring_cursor){number - 1, nth(ring, number - 1)->n};
    return true;
}

struct chunk *ring_chunk(const struct ring *ring, struct ring_cursor *cursor, bool *gone)
{
    *gone = cursor->chunk < ring->first;
    if (*gone || cursor->chunk >= ring->end)
        return NULL;
    struct chunk *chunk = nth(ring, cursor->chunk);
    if (cursor->frame < chunk->n || cursor->chunk + 1 == ring->end)
        return chunk;
    *cursor = (struct ring_cursor){.chunk = cursor->chunk + 1};
    return nth(ring, cursor->chunk);
}

bool ring_is_newest(const struct ring *ring, const struct ring_cursor *cursor)
{
    return cursor->chunk + 1 >= ring->end;
}

struct chunk *ring_newest(const struct ring *ring)
{
    return ring->end > ring->first ? nth(ring, ring->end - 1) : NULL;
}

size_t ring_bytes(const struct ring *ring)
{
    return ring->bytes;
}
