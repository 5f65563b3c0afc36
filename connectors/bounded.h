/* bounded.h - bytes put together from parts up to a ceiling; past it only the beginning is kept.
 *
 * For the framers: a message that is split over chunks is assembled here. Once it outgrows `max`,
 * the first BOUNDED_HEAD bytes of it stay (fewer where max is less), the rest is only counted. */
#ifndef BUSBAR_CONNECTORS_BOUNDED_H
#define BUSBAR_CONNECTORS_BOUNDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"

enum {
    BOUNDED_HEAD = 1 << 20, /* kept of what is too long */
    BOUNDED_IDLE = 4 << 20, /* more memory than this is given back when it is cleared */
};

struct bounded {
    struct buf bytes; /* its memory: at most 1.5 · max (it grows by halves) */
    uint64_t size;    /* of the whole */
    size_t max;
    bool cut; /* `bytes` is only the beginning */
};

void bounded_init(struct bounded *b, size_t max);
void bounded_fini(struct bounded *b);
void bounded_clear(struct bounded *b);
void bounded_append(struct bounded *b, struct str part);
/* Counts `n` bytes that nobody kept: cut from here on. */
void bounded_omit(struct bounded *b, uint64_t n);

#endif
