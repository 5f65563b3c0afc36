/* ndjson.c - finds the lines in a stream that comes in chunks of any size. */
#include "connectors/ndjson.h"

#include <assert.h>
#include <string.h>

void ndjson_init(struct ndjson *framer, size_t line_max)
{
    *framer = (struct ndjson){0};
    bounded_init(&framer->held, line_max > 0 ? line_max : NDJSON_LINE_MAX);
}

void ndjson_fini(struct ndjson *framer)
{
    bounded_fini(&framer->held);
    framer->p = framer->end = NULL;
}

void ndjson_reset(struct ndjson *framer)
{
    bounded_clear(&framer->held);
    framer->given = false;
    framer->p = framer->end = NULL;
}

void ndjson_push(struct ndjson *framer, struct str chunk)
{
    assert(framer->p == framer->end);
    if (chunk.len == 0)
        return;
    framer->p = chunk.p;
    framer->end = chunk.p + chunk.len;
}

static struct ndjson_line held_line(const struct ndjson *framer)
{
    return (struct ndjson_line){
        .bytes = buf_str(&framer->held.bytes),
        .size = framer->held.size,
        .oversized = framer->held.cut,
    };
}

bool ndjson_next(struct ndjson *framer, struct ndjson_line *line)
{
    if (framer->given)
        bounded_clear(&framer->held);
    framer->given = false;
    if (framer->p == framer->end)
        return false;
    size_t left = (size_t)(framer->end - framer->p);
    const char *lf = memchr(framer->p, '\n', left);
    struct str part = {framer->p, lf != NULL ? (size_t)(lf - framer->p) : left};
    framer->p = lf != NULL ? lf + 1 : framer->end;
    if (lf != NULL && framer->held.size == 0 && part.len <= framer->held.max) {
        *line = (struct ndjson_line){.bytes = part, .size = part.len};
        return true;
    }
    bounded_append(&framer->held, part);
    if (lf == NULL)
        return false;
    framer->given = true;
    *line = held_line(framer);
    return true;
}

bool ndjson_tail(const struct ndjson *framer, struct ndjson_line *tail)
{
    if (framer->given || framer->held.size == 0)
        return false;
    *tail = held_line(framer);
    return true;
}
