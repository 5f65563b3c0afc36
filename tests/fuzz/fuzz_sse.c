/* fuzz_sse.c - any bytes: the events are the same whether they come in one chunk, byte by byte or
 * in chunks of odd sizes, and nothing is held beyond the ceiling. The first byte of the input sets
 * the sizes of the chunks, the second the ceiling. */
#include "bridge/base/buf.h"
#include "connectors/sse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
    if (!good)
        abort();
}

static void note(struct buf *out, struct str s)
{
    buf_append(out, &s.len, sizeof s.len);
    buf_append_str(out, s);
}

static void feed(struct sse *framer, struct str chunk, struct buf *out)
{
    struct sse_event event;
    char *copy = mem_alloc(chunk.len);
    memcpy(copy, chunk.p, chunk.len);
    sse_push(framer, (struct str){copy, chunk.len});
    while (sse_next(framer, &event)) {
        must(event.oversized || event.size == event.data.len);
        must(event.data.len <= framer->data.max);
        note(out, event.type);
        note(out, event.data);
        note(out, event.id);
        buf_append(out, &event.size, sizeof event.size);
        buf_append_char(out, event.oversized ? '!' : '.');
    }
    must(framer->line.bytes.len <= framer->line.max);
    must(framer->data.bytes.len <= framer->data.max);
    free(copy);
}

/* Chunks of 1 to `most` bytes. */
static struct buf frame(struct str text, size_t max, unsigned most)
{
    struct sse framer;
    struct buf out = {0};
    unsigned seed = most;
    sse_init(&framer, max);
    for (size_t at = 0; at < text.len;) {
        seed = seed * 1103515245u + 12345u;
        size_t len = (seed >> 16) % most + 1;
        len = len < text.len - at ? len : text.len - at;
        feed(&framer, (struct str){text.p + at, len}, &out);
        at += len;
    }
    buf_append_char(&out, sse_is_partial(&framer) ? '!' : '.');
    buf_append(&out, &framer.retry_ms, sizeof framer.retry_ms);
    sse_fini(&framer);
    return out;
}

static struct buf frame_whole(struct str text, size_t max)
{
    struct sse framer;
    struct buf out = {0};
    sse_init(&framer, max);
    feed(&framer, text, &out);
    buf_append_char(&out, sse_is_partial(&framer) ? '!' : '.');
    buf_append(&out, &framer.retry_ms, sizeof framer.retry_ms);
    sse_fini(&framer);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    size_t max = (size_t)data[1] + 1;
    struct str text = {(const char *)data + 2, size - 2};
    struct buf whole = frame_whole(text, max);
    struct buf bytes = frame(text, max, 1);
    struct buf chunks = frame(text, max, data[0] + 2u);
    must(str_eq(buf_str(&whole), buf_str(&bytes)));
    must(str_eq(buf_str(&whole), buf_str(&chunks)));
    buf_fini(&whole);
    buf_fini(&bytes);
    buf_fini(&chunks);
    return 0;
}
