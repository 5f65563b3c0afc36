/* sse.h - finds the events in a text/event-stream that comes in chunks of any size.
 *
 * As the HTML standard says it (WHATWG, section 9.2.6 "Interpreting an event stream"): lines end in
 * CR, LF or CRLF, also where a chunk ends between the two; one byte order mark at the start is
 * skipped; comments and unknown fields are ignored; an event without a data field is not
 * dispatched; an id with a NUL in it is ignored; an event that the stream's end cut off is none.
 * Differing from it: bytes that are not UTF-8 are kept as they are.
 *
 *     sse_push(&framer, chunk);
 *     while (sse_next(&framer, &event))
 *         …
 *
 * An event is given as soon as the first byte of its blank line's end has come. One line of data
 * within one chunk is a view into it; else it is put together in the framer's memory. Longer than
 * event_max: only the beginning is kept (up to 1 MiB), the rest counted. Memory at most:
 * 1.5 · event_max for a line that is split over chunks, as much for the data, and some 200 KiB. A
 * heartbeat of blank lines or comments gives nothing here: the sign of life is that something was
 * pushed. One thread at a time. */
#ifndef BUSBAR_CONNECTORS_SSE_H
#define BUSBAR_CONNECTORS_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "connectors/bounded.h"

enum {
    SSE_EVENT_MAX = 32 << 20,
    SSE_NAME_MAX = 64 << 10, /* of an `event` or `id` field; a longer id is ignored */
};

struct sse_event {
    struct str type; /* as told; empty where it was not (the standard calls that "message") */
    struct str data; /* several lines are joined by "\n" */
    struct str id;   /* the last event id so far */
    uint64_t size;   /* of the whole data */
    bool oversized;  /* too long: `data` or `type` is only a beginning */
};

/* Private but for retry_ms. */
struct sse {
    uint64_t retry_ms; /* what the server told last; UINT64_MAX: nothing */
    const char *p;     /* what is left of the chunk */
    const char *end;
    const char *lf;      /* the first LF from p on, or end */
    struct bounded line; /* the beginning of a line whose end has not come */
    struct bounded data; /* unless `view` has it */
    struct str view;     /* the first line of data, within the chunk; p NULL: none */
    struct bounded type;
    struct bounded id;
    size_t n_data;   /* data fields in this event */
    bool type_cut;   /* of the type only the beginning is there */
    bool after_cr;   /* the last line ended in CR: a LF right behind belongs to it */
    bool began;      /* the first line was seen: no byte order mark any more */
    bool line_taken; /* `line` was read: the next call clears it */
    bool given;      /* this event was given: the next call clears it */
};

void sse_init(struct sse *framer, size_t event_max); /* 0: SSE_EVENT_MAX */
void sse_fini(struct sse *framer);
/* For a new connection: forgets everything but retry_ms. */
void sse_reset(struct sse *framer);

/* The chunk has to live until sse_next said false; pushing before that is a programmer's error. */
void sse_push(struct sse *framer, struct str chunk);
/* The next event; its strings are valid until the next call. False where the chunk holds no more.
 */
bool sse_next(struct sse *framer, struct sse_event *event);
/* At the stream's end: true where it ended within a line or an event. */
bool sse_is_partial(const struct sse *framer);

#endif
