/* fuzz_ndjson.c - any bytes in any chunks: the lines are those between the "\n", none is held
 * beyond the ceiling. The first byte of the input sets the sizes of the chunks, the second the
 * ceiling. */
#include "bridge/base/buf.h"
#include "connectors/ndjson.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
    if (!good)
        abort();
}

/* Compares with the line that starts at *text, and moves *text behind it. */
static void check_line(struct str *text, const struct ndjson_line *line, size_t max)
{
    const char *lf = memchr(text->p, '\n', text->len);
    size_t whole = lf != NULL ? (size_t)(lf - text->p) : text->len;
    must(line->size == whole);
    must(line->oversized == (whole > max));
    must(line->bytes.len == (whole < max ? whole : max));
    must(line->bytes.len == 0 || memcmp(line->bytes.p, text->p, line->bytes.len) == 0);
    whole += lf != NULL;
    *text = (struct str){text->p + whole, text->len - whole};
}

static void feed(struct ndjson *framer, struct str *rest, struct str chunk, size_t max)
{
    struct ndjson_line line;
    char *copy = mem_alloc(chunk.len);
    memcpy(copy, chunk.p, chunk.len);
    ndjson_push(framer, (struct str){copy, chunk.len});
    while (ndjson_next(framer, &line))
        check_line(rest, &line, max);
    must(framer->held.bytes.len <= max);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    unsigned seed = data[0];
    size_t max = (size_t)data[1] + 1;
    struct str text = {(const char *)data + 2, size - 2}, rest = text;
    struct ndjson framer;
    struct ndjson_line tail;
    ndjson_init(&framer, max);
    for (size_t at = 0; at < text.len;) {
        seed = seed * 1103515245u + 12345u;
        size_t len = (seed >> 16) % (data[0] + 1u) + 1;
        len = len < text.len - at ? len : text.len - at;
        feed(&framer, &rest, (struct str){text.p + at, len}, max);
        at += len;
    }
    bool left = ndjson_tail(&framer, &tail);
    must(left == (rest.len > 0));
    if (left)
        check_line(&rest, &tail, max);
    must(rest.len == 0);
    ndjson_fini(&framer);
    return 0;
}
