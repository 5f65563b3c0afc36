/* frame.h - what an event looks like on GET /events, and its id (WHATWG HTML, section 9.2,
 * "Server-sent events").
 *
 *     id: prod:1234.0@1790000000000000.0123456789abcdef
 *     event: JobRegistered
 *     data: {"Topic":"Job",…}
 *
 * The id line comes first: it alone, with an empty line behind it, moves a client's last event id
 * without an event. The same event always gives the same bytes. Once the source's index has started
 * over, the id has the epoch too, INDEX~EPOCH.ORDINAL: the position's index does not fall with the
 * source's, so it would mean nothing to another instance. */
#ifndef BUSBAR_MIRROR_FRAME_H
#define BUSBAR_MIRROR_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/event.h"

/* The index that the event's id names: its position's; in an epoch above 0 the event's own, 0 for
 * what a resync tells, whose index is not of the stream. */
uint64_t frame_index(const struct event *event);

/* Appends the event's frame; its ceiling is the event's bytes, twice over for data that is nothing
 * but line breaks, and some 300 bytes. */
void frame_append_event(struct buf *out, const char *source, uint64_t journal_id,
                        const struct event *event);

/* Appends the frame of an event as a Marathon's own stream has it: no id, and lines end in CRLF.
 * The ceiling is the event's bytes, four times over for data that is nothing but line breaks. */
void frame_append_marathon(struct buf *out, struct str type, struct str data);

/* A stretch of one source that this client, or the mirror, can't have any more. */
struct frame_gap {
    uint64_t from; /* index of the last event before it; 0: not known */
    uint64_t to;   /* index of the first event after it */
    uint32_t epoch;
    uint32_t ordinal; /* the id of that event has to.ordinal, to~epoch.ordinal */
    int64_t
        arrival_us; /* everything up to this has been told: resuming here asks for what follows */
    const char *reason;
};
enum { FRAME_GAP_MAX = 1024 };
void frame_append_gap(struct buf *out, const char *source, uint64_t journal_id,
                      const struct frame_gap *gap);

/* Appends the first line of that frame. */
void frame_append_id_line(struct buf *out, const char *source, uint64_t journal_id,
                          const struct event *event);

/* SOURCE:POSITION@ARRIVAL.JOURNAL; `source` points into the text. */
struct frame_id {
    struct str source;
    uint64_t index;
    uint32_t epoch; /* 0 where it has none */
    uint32_t ordinal;
    int64_t arrival_us;
    uint64_t journal_id;
};
bool frame_parse_id(struct str text, struct frame_id *out);
void frame_append_id(struct buf *out, const struct frame_id *id);

#endif
