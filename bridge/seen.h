/* seen.h - which identities a source has told lately, so that a repeat is known as one.
 *
 * Holds the newest SEEN_MIN identities, and always those of the two newest indexes whole (at most
 * SEEN_MAX). What is older than all it holds counts as seen: after a reconnect a server may start
 * far back. One thread. */
#ifndef BUSBAR_SEEN_H
#define BUSBAR_SEEN_H

#include "bridge/base/map.h"

enum { SEEN_MIN = 16384, SEEN_MAX = 1 << 20 };

struct seen_entry {
    uint64_t index;
    uint64_t ident;
};

struct seen {
    struct map idents;
    struct seen_entry *ring;
    size_t cap, head, n;
    uint64_t last;     /* the newest index; 0: none yet */
    uint64_t previous; /* the one before it; 0: none */
};

void seen_fini(struct seen *seen);
void seen_add(struct seen *seen, uint64_t index, uint64_t ident);
bool seen_has(const struct seen *seen, uint64_t ident);
/* True where `index` lies before everything held, so that its identities can't be known any more.
 */
bool seen_is_before(const struct seen *seen, uint64_t index);

#endif
