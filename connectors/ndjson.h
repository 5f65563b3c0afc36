/* ndjson.h - finds the lines in a stream that comes in chunks of any size.
 *
 *     ndjson_push(&framer, chunk);
 *     while (ndjson_next(&framer, &line))
 *         …
 *
 * A line is what stands before a "\n"; a "\r" before it stays (whitespace to JSON), empty lines are
 * given too. A line within one chunk is a view into it; one that is split is put together in memory
 * of the framer's, at most 1.5 · line_max. What gets longer than line_max is not buffered: once its
 * end has come, its beginning (up to 1 MiB) and its whole size are given. Time is linear in the
 * bytes whatever the chunks. One thread at a time. */
#ifndef BUSBAR_CONNECTORS_NDJSON_H
#define BUSBAR_CONNECTORS_NDJSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "connectors/bounded.h"

enum { NDJSON_LINE_MAX = 32 << 20 };

struct ndjson {
    struct bounded held; /* the beginning of a line whose end has not come */
    bool given;          /* `held` was given as a line: the next call clears it */
    const char *p;       /* what is left of the chunk */
    const char *end;
};

struct ndjson_line {
    struct str bytes; /* valid until the next call */
    uint64_t size;    /* of the whole line */
    bool oversized;   /* longer than line_max: `bytes` is only its beginning */
};

void ndjson_init(struct ndjson *framer, size_t line_max); /* 0: NDJSON_LINE_MAX */
void ndjson_fini(struct ndjson *framer);
/* For a new connection: forgets what is left. */
void ndjson_reset(struct ndjson *framer);

/* The chunk has to live until ndjson_next said false; pushing before that is a programmer's error.
 */
void ndjson_push(struct ndjson *framer, struct str chunk);
/* The next whole line; false where the chunk holds no more. */
bool ndjson_next(struct ndjson *framer, struct ndjson_line *line);
/* At the stream's end: true where text without a "\n" is left, which `tail` gets. */
bool ndjson_tail(const struct ndjson *framer, struct ndjson_line *tail);

#endif
