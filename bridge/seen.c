/* seen.c - a ring of identities in order of arrival, and a map to find them. */
#include "bridge/seen.h"

#include "bridge/base/buf.h"

#include <stdlib.h>

void seen_fini(struct seen *seen)
{
    map_fini(&seen->idents);
    free(seen->ring);
    *seen = (struct seen){0};
}

static void grow(struct seen *seen)
{
    size_t cap = seen->cap > 0 ? seen->cap * 2 : 1024;
    struct seen_entry *ring = mem_alloc(cap * sizeof *ring);
    for (size_t i = 0; i < seen->n; i++)
        ring[i] = seen->ring[(seen->head + i) & (seen->cap - 1)];
    free(seen->ring);
    seen->ring = ring;
    seen->cap = cap;
    seen->head = 0;
}

static void forget_oldest(struct seen *seen)
{
    map_lower(&seen->idents, seen->ring[seen->head].ident);
    seen->head = (seen->head + 1) & (seen->cap - 1);
    seen->n--;
    map_fetch(&seen->idents, seen->ring[seen->head].ident); /* the next to go */
}

void seen_add(struct seen *seen, uint64_t index, uint64_t ident)
{
    if (index > seen->last) {
        seen->previous = seen->last;
        seen->last = index;
    }
    while (seen->n >= SEEN_MAX ||
           (seen->n >= SEEN_MIN && seen->ring[seen->head].index < seen->previous))
        forget_oldest(seen);
    if (seen->n == seen->cap)
        grow(seen);
    seen->ring[(seen->head + seen->n++) & (seen->cap - 1)] = (struct seen_entry){index, ident};
    ++*map_at(&seen->idents, ident);
}

bool seen_has(const struct seen *seen, uint64_t ident)
{
    return map_has(&seen->idents, ident);
}

bool seen_is_before(const struct seen *seen, uint64_t index)
{
    return seen->n > 0 && index < seen->ring[seen->head].index;
}
