/* journal_ring.c - the newest blocks, in memory, for readers that keep up. */
#include "bridge/journal_ring.h"

#include <stdlib.h>

static struct block *slot(const struct journal_ring *ring, size_t i)
{
    return ring->slots[(ring->head + i) & (ring->cap - 1)];
}

void journal_ring_fini(struct journal_ring *ring)
{
    for (size_t i = 0; i < ring->n; i++) {
        struct block *block = slot(ring, i);
        block_unref(&block);
    }
    free(ring->slots);
    *ring = (struct journal_ring){0};
}

static void grow(struct journal_ring *ring)
{
    size_t cap = ring->cap > 0 ? ring->cap * 2 : 64;
    struct block **slots = mem_alloc(cap * sizeof(struct block *));
    for (size_t i = 0; i < ring->n; i++)
        slots[i] = slot(ring, i);
    free(ring->slots);
    ring->slots = slots;
    ring->cap = cap;
    ring->head = 0;
}

void journal_ring_push(struct journal_ring *ring, struct block *block)
{
    if (ring->n == ring->cap)
        grow(ring);
    ring->slots[(ring->head + ring->n) & (ring->cap - 1)] = block;
    ring->n++;
    ring->bytes += block->bytes;
}

size_t journal_ring_trim(struct journal_ring *ring, struct block **out, size_t max)
{
    size_t n = 0;
    while (n < max && ring->n > 1 && ring->bytes > ring->bytes_max) {
        out[n] = slot(ring, 0);
        ring->bytes -= out[n]->bytes;
        ring->head = (ring->head + 1) & (ring->cap - 1);
        ring->n--;
        n++;
    }
    return n;
}

static bool reaches(const struct block *block, const struct journal_target *target)
{
    const struct event *last = &block->events[block->n_events - 1];
    struct journal_mark mark = {last->seq, last->arrival_us, last->pos_index, last->ordinal};
    return journal_mark_reaches(&mark, target);
}

/* True where no older block can reach the target. */
static bool covers(const struct journal_ring *ring, const struct journal_target *target)
{
    const struct event *first = &slot(ring, 0)->events[0];
    switch (target->by) {
    case JOURNAL_BY_SEQ:
        return target->seq >= first->seq;
    case JOURNAL_BY_ARRIVAL:
        return target->arrival_us >= first->arrival_us;
    case JOURNAL_BY_INDEX:
        return target->pos_index > first->pos_index;
    }
    return false;
}

struct block *journal_ring_find(const struct journal_ring *ring,
                                const struct journal_target *target)
{
    if (ring->n == 0 || !covers(ring, target) || !reaches(slot(ring, ring->n - 1), target))
        return NULL;
    size_t low = 0, high = ring->n - 1;
    /* Who keeps up wants the newest. */
    if (high > 0 && !reaches(slot(ring, high - 1), target))
        return slot(ring, high);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (reaches(slot(ring, middle), target))
            high = middle;
        else
            low = middle + 1;
    }
    return slot(ring, low);
}

uint64_t journal_ring_first_seq(const struct journal_ring *ring)
{
    return ring->n > 0 ? slot(ring, 0)->first_seq : UINT64_MAX;
}
