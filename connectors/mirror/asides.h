/* asides.h - what the mirror itself tells those who follow one source, beside its events: the
 * newest of it, each at its place between the source's.
 *
 * Aside 0 is the first; only ASIDES_MAX are kept. */
#ifndef BUSBAR_MIRROR_ASIDES_H
#define BUSBAR_MIRROR_ASIDES_H

#include <stdint.h>

#include "bridge/base/buf.h"

enum { ASIDES_MAX = 1024 }; /* Marathon's own backlog of a client */

struct aside {
    uint64_t seq;     /* comes before the event of this seq */
    const char *type; /* a constant */
    struct buf frame;
};

/* All zero: empty. */
struct asides {
    struct aside *ring; /* NULL while empty */
    uint64_t next;      /* how many there ever were: the number of the next one */
};

void asides_fini(struct asides *asides); /* the numbers go on */

/* One more, whose empty frame the caller fills; its oldest goes where there are too many. */
struct aside *asides_add(struct asides *asides, uint64_t seq, const char *type);

/* The one of that number, or where that is gone the oldest, whose number *number gets; NULL: there
 * is none yet. */
const struct aside *asides_find(const struct asides *asides, uint64_t *number);

#endif
