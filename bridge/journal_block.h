/* journal_block.h - blocks in memory: the one under construction, and the shared, immutable ones.
 *
 * Both ends make a `struct block` by the same function: the writer from what it has just written,
 * a reader from what it has read. At most three pieces of memory each, whatever it holds. */
#ifndef BUSBAR_JOURNAL_BLOCK_H
#define BUSBAR_JOURNAL_BLOCK_H

#include <stdbool.h>

#include "bridge/base/buf.h"
#include "bridge/journal.h"
#include "bridge/journal_format.h"

/* A block is written when it has grown to this; a larger single message makes a larger block. */
enum { JOURNAL_BLOCK_TARGET = 256 * 1024 };

/* ---- reading ---- */

/* The parts of a block as they stand on disk; its CRC was checked. */
struct journal_image {
    struct journal_block_header header;
    const char *data;
    const unsigned char *messages; /* n_messages records */
    const unsigned char *events;   /* n_events records */
};

/* Takes over `memory` (from malloc, `size` bytes, image->data lies in it) and returns the first
 * reference; NULL, and `memory` stays the caller's, where the records say what can't be. */
struct block *journal_block_new(const struct journal_image *image, char *memory, size_t size);

/* The same from a body in one piece at `memory`; `len` as journal_format_body_size tells. */
struct block *journal_block_from_body(const struct journal_block_header *header, char *memory,
                                      size_t len);

/* ---- writing ---- */

enum { JOURNAL_BUILD_SHARED = 64 };

struct journal_build {
    struct buf data;     /* becomes the block's memory where there is much of it */
    struct buf messages; /* records, reused from block to block */
    struct buf events;
    uint32_t n_messages, n_events;
    int64_t arrival_us;
    struct journal_mark last; /* seq is not kept */
    /* Strings of this block that may come again, by a hash of theirs. */
    struct journal_ref shared[JOURNAL_BUILD_SHARED];
};

void journal_build_fini(struct journal_build *build);
/* True where the block should be written before a message of that size and time is added. */
bool journal_build_is_full(const struct journal_build *build, size_t bytes, int64_t arrival_us);
/* As journal_append. */
void journal_build_add(struct journal_build *build, struct str raw, int64_t arrival_us,
                       const struct event *events, size_t n_events);
/* Bytes of the block as it stands, header included; 0 while it is empty. */
size_t journal_build_size(const struct journal_build *build);
/* Fills the image; may be called again after more was added. */
void journal_build_image(const struct journal_build *build, uint64_t first_seq, uint64_t offset,
                         struct journal_image *image);
/* The block that was written; `build` is empty again. */
struct block *journal_build_take(struct journal_build *build, const struct journal_image *image);

#endif
