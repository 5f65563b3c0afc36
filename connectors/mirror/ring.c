/* ring.c - the newest frames, in chunks of about 256 KiB: whole chunks are dropped. */
#include "connectors/mirror/ring.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 256 * 1024 };

/* Where a frame and its event's strings lie in the chunk's two buffers. */
struct entry {
    int64_t arrival_us;
    size_t start;
    size_t len;
    size_t meta;
    uint32_t source;
    uint32_t topic, type, key, ns, filter_keys; /* lengths, one after the other from `meta` */
    enum event_origin origin;
};

struct chunk {
    struct buf frames;
    struct buf meta;
    struct entry *entries;
    size_t n;
    size_t cap;
    size_t bytes;
};

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

static struct chunk *chunk_at(const struct ring *ring, uint64_t number)
{
    return &ring->chunks[number % ring->n_chunks];
}

static void chunk_fini(struct chunk *chunk)
{
    buf_fini(&chunk->frames);
    buf_fini(&chunk->meta);
    free(chunk->entries);
    *chunk = (struct chunk){0};
}

void ring_free(struct ring **ring)
{
    if (*ring == NULL)
        return;
    for (uint64_t i = (*ring)->first; i < (*ring)->end; i++)
        chunk_fini(chunk_at(*ring, i));
    free((*ring)->chunks);
    free(*ring);
    *ring = NULL;
}

static void drop_oldest(struct ring *ring)
{
    struct chunk *chunk = chunk_at(ring, ring->first++);
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
    struct chunk *last = ring->end > ring->first ? chunk_at(ring, ring->end - 1) : NULL;
    bool fresh = last == NULL || last->bytes + more > CHUNK_BYTES;
    while (ring->first < ring->end && ring->bytes + more > ring->bytes_max &&
           (fresh || ring->end - ring->first > 1))
        drop_oldest(ring);
    while (fresh && ring->end - ring->first >= ring->n_chunks)
        drop_oldest(ring);
    if (fresh) {
        last = chunk_at(ring, ring->end++);
        buf_reserve(&last->frames, more > CHUNK_BYTES ? more : CHUNK_BYTES);
    }
    return last;
}

static uint32_t append_meta(struct chunk *chunk, struct str s)
{
    buf_append_str(&chunk->meta, s);
    return (uint32_t)s.len;
}

void ring_append(struct ring *ring, size_t source, const struct event *event, struct str frame)
{
    size_t more = sizeof(struct entry) + frame.len + event->topic.len + event->type.len +
                  event->key.len + event->ns.len + event->filter_keys.len;
    struct chunk *chunk = make_room(ring, more);
    if (chunk->n == chunk->cap) {
        chunk->cap = chunk->cap > 0 ? 2 * chunk->cap : 64;
        chunk->entries = mem_realloc(chunk->entries, chunk->cap * sizeof *chunk->entries);
    }
    struct entry *e = &chunk->entries[chunk->n++];
    *e = (struct entry){
        .arrival_us = event->arrival_us,
        .start = chunk->frames.len,
        .len = frame.len,
        .meta = chunk->meta.len,
        .source = (uint32_t)source,
        .origin = event->origin,
    };
    e->topic = append_meta(chunk, event->topic);
    e->type = append_meta(chunk, event->type);
    e->key = append_meta(chunk, event->key);
    e->ns = append_meta(chunk, event->ns);
    e->filter_keys = append_meta(chunk, event->filter_keys);
    buf_append_str(&chunk->frames, frame);
    chunk->bytes += more;
    ring->bytes += more;
}

/* The first entry of the chunk that arrived after the time. */
static size_t find_entry(const struct chunk *chunk, int64_t arrival_us)
{
    size_t low = 0;
    size_t high = chunk->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (chunk->entries[mid].arrival_us > arrival_us)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

bool ring_seek(const struct ring *ring, int64_t arrival_us, struct ring_cursor *cursor)
{
    if (arrival_us < ring->floor_us)
        return false;
    uint64_t number = ring->first;
    while (number < ring->end) {
        const struct chunk *chunk = chunk_at(ring, number);
        if (chunk->entries[chunk->n - 1].arrival_us > arrival_us)
            break;
        number++;
    }
    *cursor = (struct ring_cursor){.chunk = number};
    if (number < ring->end)
        cursor->frame = find_entry(chunk_at(ring, number), arrival_us);
    else if (number > ring->first) /* the last chunk may grow yet */
        *cursor = (struct ring_cursor){number - 1, chunk_at(ring, number - 1)->n};
    return true;
}

static struct str take_meta(const char **at, size_t len)
{
    struct str s = {*at, len};
    *at += len;
    return s;
}

static void fill_frame(const struct chunk *chunk, const struct entry *e, struct ring_frame *out)
{
    const char *meta = chunk->meta.p != NULL ? chunk->meta.p + e->meta : "";
    out->source = e->source;
    out->arrival_us = e->arrival_us;
    out->bytes = (struct str){chunk->frames.p + e->start, e->len};
    out->event.topic = take_meta(&meta, e->topic);
    out->event.type = take_meta(&meta, e->type);
    out->event.key = take_meta(&meta, e->key);
    out->event.ns = take_meta(&meta, e->ns);
    out->event.filter_keys = take_meta(&meta, e->filter_keys);
    out->event.arrival_us = e->arrival_us;
    out->event.origin = e->origin;
}

bool ring_at(const struct ring *ring, struct ring_cursor *cursor, struct ring_frame *out,
             bool *gone)
{
    *gone = cursor->chunk < ring->first;
    if (*gone || cursor->chunk >= ring->end)
        return false;
    const struct chunk *chunk = chunk_at(ring, cursor->chunk);
    if (cursor->frame == chunk->n && cursor->chunk + 1 < ring->end) {
        *cursor = (struct ring_cursor){.chunk = cursor->chunk + 1};
        chunk = chunk_at(ring, cursor->chunk);
    }
    if (cursor->frame == chunk->n)
        return false;
    fill_frame(chunk, &chunk->entries[cursor->frame], out);
    return true;
}

void ring_step(struct ring_cursor *cursor)
{
    cursor->frame++;
}

size_t ring_bytes(const struct ring *ring)
{
    return ring->bytes;
}
