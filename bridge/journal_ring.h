/* journal_ring.h - the newest blocks, in memory, for readers that keep up. The journal's mutex
 * guards it. */
#ifndef BUSBAR_JOURNAL_RING_H
#define BUSBAR_JOURNAL_RING_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/journal.h"
#include "bridge/journal_format.h"

enum { JOURNAL_RING_BYTES = 8 * 1024 * 1024, JOURNAL_RING_BYTES_LEAST = 1024 * 1024 };

struct journal_ring {
    struct block **slots;
    size_t cap; /* a power of two, or 0 */
    size_t head;
    size_t n;
    size_t bytes;
    size_t bytes_max; /* the newest block stays, whatever its size */
};

void journal_ring_fini(struct journal_ring *ring);
/* Takes over the reference. Blocks follow one another without holes. */
void journal_ring_push(struct journal_ring *ring, struct block *block);
/* Takes out up to `max` of the oldest blocks while there are more bytes than allowed; the caller
 * gives the references back, best without the mutex. */
size_t journal_ring_trim(struct journal_ring *ring, struct block **out, size_t max);
/* The first block that reaches the target, or NULL where an older one than the ring holds may, or
 * none does. No reference is taken. */
struct block *journal_ring_find(const struct journal_ring *ring,
                                const struct journal_target *target);
/* The oldest in it; UINT64_MAX while it is empty. */
uint64_t journal_ring_first_seq(const struct journal_ring *ring);

#endif
