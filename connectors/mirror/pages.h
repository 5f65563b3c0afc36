/* pages.h - stretches of the journals behind the ring, read and formatted once for all who are at
 * them.
 *
 * A page holds every event (repeats left out) that arrived in its stretch of time, of all sources,
 * and a Gap where some were pruned; some 256 KiB, unless one frame is larger. A few pages are kept,
 * those used last. All on the mirror's thread. */
#ifndef BUSBAR_MIRROR_PAGES_H
#define BUSBAR_MIRROR_PAGES_H

#include <stdint.h>

#include "connectors/mirror/chunk.h"
#include "connectors/mirror/feed.h"

enum { PAGES_MAX = 16 };

/* The key of a Gap that no journal holds, in a chunk. */
#define PAGES_GAP_KEY "pruned"

struct page {
    struct chunk chunk;
    uint64_t number;  /* unlike that of any page before; 0: free */
    int64_t after_us; /* it holds what arrived after this … */
    int64_t to_us;    /* … up to this */
    uint64_t used;
};

struct pages;

struct pages *pages_new(struct feed *feed);
void pages_free(struct pages **pages);
void pages_drop(struct pages *pages); /* what is held, until it is asked for again */

/* The page that goes on behind that time, or the one of that number; NULL: not held. */
struct page *pages_find(struct pages *pages, int64_t after_us);
struct page *pages_get(struct pages *pages, uint64_t number);
/* The one that ends there. */
struct page *pages_ending(struct pages *pages, int64_t to_us);
/* Where one begins who has passed what arrived up to that time. */
size_t pages_place(const struct page *page, int64_t after_us);

/* Reads the page that begins there, up to what the ring was fed; the one used longest ago goes.
 * NULL: there is nothing (*failed false), or a journal can't be read now. */
struct page *pages_load(struct pages *pages, int64_t after_us, bool *failed);

/* How many were read. */
uint64_t pages_loaded(const struct pages *pages);

#endif
