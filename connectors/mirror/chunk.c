/* chunk.c - a run of frames, and which of them pass. */
#include "connectors/mirror/chunk.h"

#include <stdlib.h>
#include <string.h>

bool wish_takes_source(const struct wish *wish, size_t source)
{
    return wish->sources == NULL || wish->sources[source];
}

bool wish_takes(const struct wish *wish, size_t source, const struct event *event)
{
    return wish_takes_source(wish, source) &&
           (wish->filter == NULL || filter_match(wish->filter, event));
}

void chunk_fini(struct chunk *chunk)
{
    for (size_t i = 0; i < chunk->n_verdicts; i++)
        free(chunk->verdicts[i].bits);
    free(chunk->verdicts);
    buf_fini(&chunk->frames);
    buf_fini(&chunk->meta);
    free(chunk->entries);
    *chunk = (struct chunk){0};
}

/* ---- frames ---- */

size_t chunk_cost(const struct event *event, struct str frame)
{
    return sizeof(struct chunk_entry) + frame.len + event->topic.len + event->type.len +
           event->key.len + event->ns.len + event->filter_keys.len;
}

static uint32_t append_meta(struct chunk *chunk, struct str s)
{
    buf_append_str(&chunk->meta, s);
    return (uint32_t)s.len;
}

void chunk_append(struct chunk *chunk, size_t source, const struct event *event, struct str frame)
{
    if (chunk->n == chunk->cap) {
        chunk->cap = chunk->cap > 0 ? 2 * chunk->cap : 64;
        chunk->entries = mem_realloc(chunk->entries, chunk->cap * sizeof *chunk->entries);
    }
    struct chunk_entry *e = &chunk->entries[chunk->n++];
    *e = (struct chunk_entry){
        .arrival_us = event->arrival_us,
        .start = chunk->frames.len,
        .len = frame.len,
        .meta = chunk->meta.len,
        .source = (uint32_t)source,
        .origin = event->origin,
        .epoch = event->epoch,
        .ordinal = event->ordinal,
        .index = event->index,
        .pos_index = event->pos_index,
    };
    e->topic = append_meta(chunk, event->topic);
    e->type = append_meta(chunk, event->type);
    e->key = append_meta(chunk, event->key);
    e->ns = append_meta(chunk, event->ns);
    e->filter_keys = append_meta(chunk, event->filter_keys);
    buf_append_str(&chunk->frames, frame);
    chunk->bytes += chunk_cost(event, frame);
}

size_t chunk_find(const struct chunk *chunk, int64_t arrival_us)
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

static struct str take_meta(const char **at, size_t len)
{
    struct str s = {*at, len};
    *at += len;
    return s;
}

void chunk_at(const struct chunk *chunk, size_t i, struct ring_frame *out)
{
    const struct chunk_entry *e = &chunk->entries[i];
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
    out->event.epoch = e->epoch;
    out->event.ordinal = e->ordinal;
    out->event.index = e->index;
    out->event.pos_index = e->pos_index;
}

/* ---- verdicts ---- */

static struct verdict *find_verdict(struct chunk *chunk, const struct wish *wish)
{
    if (wish->number >= chunk->n_verdicts) {
        size_t n = wish->number + 1 + wish->number / 4;
        chunk->verdicts = mem_realloc(chunk->verdicts, n * sizeof *chunk->verdicts);
        memset(chunk->verdicts + chunk->n_verdicts, 0,
               (n - chunk->n_verdicts) * sizeof *chunk->verdicts);
        chunk->n_verdicts = n;
    }
    struct verdict *v = &chunk->verdicts[wish->number];
    if (v->id != wish->id) {
        free(v->bits);
        *v = (struct verdict){.id = wish->id};
    }
    return v;
}

/* From here on some pass and some do not. */
static void make_bits(struct verdict *v, const struct chunk *chunk)
{
    size_t size = (chunk->cap + 7) / 8;
    if (v->bits != NULL && size <= v->bits_size)
        return;
    uint8_t all = v->bits == NULL && v->passing > 0 ? UINT8_MAX : 0;
    v->bits = mem_realloc(v->bits, size);
    memset(v->bits + v->bits_size, all, size - v->bits_size);
    v->bits_size = size;
}

static void note(struct verdict *v, const struct chunk *chunk, bool passes)
{
    bool alike = passes ? v->passing == v->looked : v->passing == 0;
    if (v->bits != NULL || !alike) {
        make_bits(v, chunk);
        uint8_t bit = (uint8_t)(1U << (v->looked % 8));
        uint8_t *byte = &v->bits[v->looked / 8];
        *byte = passes ? *byte | bit : *byte & (uint8_t)~bit;
    }
    v->looked++;
    v->passing += passes;
}

const struct verdict *chunk_judge(struct chunk *chunk, const struct wish *wish)
{
    struct verdict *v = find_verdict(chunk, wish);
    struct ring_frame f;
    if (wish->filter == NULL && wish->sources == NULL)
        v->looked = v->passing = chunk->n;
    while (v->looked < chunk->n) {
        chunk_at(chunk, v->looked, &f);
        note(v, chunk, wish_takes(wish, f.source, &f.event));
    }
    return v;
}

bool chunk_passes(const struct verdict *v, size_t frame)
{
    return v->bits == NULL ? v->passing > 0 : (v->bits[frame / 8] >> (frame % 8) & 1) != 0;
}

size_t chunk_next(const struct chunk *chunk, const struct verdict *v, size_t frame)
{
    if (v->passing == 0)
        return chunk->n;
    while (frame < chunk->n && !chunk_passes(v, frame))
        frame++;
    return frame;
}

size_t chunk_parts(const struct chunk *chunk, const struct verdict *v,
                   const struct chunk_place *place, struct iovec *parts, size_t max)
{
    const struct chunk_entry *e = chunk->entries;
    size_t n = 0, frame = place->frame, offset = place->offset;
    while (frame < chunk->n && n < max) {
        size_t start = e[frame].start + offset;
        size_t end = frame + 1;
        if (v->bits == NULL)
            end = chunk->n;
        while (end < chunk->n && chunk_passes(v, end))
            end++;
        size_t stop = e[end - 1].start + e[end - 1].len;
        parts[n++] = (struct iovec){chunk->frames.p + start, stop - start};
        offset = 0;
        frame = chunk_next(chunk, v, end);
    }
    return n;
}

size_t chunk_pass(const struct chunk *chunk, const struct verdict *v, struct chunk_place *place,
                  size_t bytes, size_t *last)
{
    size_t whole = 0;
    while (bytes > 0) {
        size_t left = chunk->entries[place->frame].len - place->offset;
        if (bytes < left) {
            place->offset += bytes;
            return whole;
        }
        bytes -= left;
        whole++;
        *last = place->frame;
        place->offset = 0;
        place->frame = bytes > 0 ? chunk_next(chunk, v, place->frame + 1) : place->frame + 1;
    }
    return whole;
}
