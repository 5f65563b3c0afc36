/* nomad_line.h - reads one line of Nomad's event stream (GET /v1/event/stream) without building a
 * tree.
 *
 * A line is `{}` (a heartbeat) or, seen on the wire of 1.5 (not in Nomad's documentation in this
 * order), {"Events":[{"FilterKeys":…,"Index":…,"Key":…,"Namespace":…,"Payload":{…},"Topic":…,
 * "Type":…},…],"Index":…}. No order is relied on, members that are not known pass. The whole line
 * is validated (json_scan.h). As in Nomad's own client, a member told twice counts as told last;
 * null stands for nothing in Events, FilterKeys and Namespace.
 *
 * One thread at a time; a nomad_line is used again for line after line. */
#ifndef BUSBAR_NOMAD_LINE_H
#define BUSBAR_NOMAD_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/source.h"

struct nomad_line {
    bool heartbeat; /* `{}`, or as Nomad's client sees it: Index 0 and no events */
    uint64_t index; /* the line's; where it has none, that of the last event; else 0 */
    /* Strings without escapes, and `data`, point into the raw line; the others into `text`. */
    struct found_event *events;
    size_t n_events;
    /* Nomad doesn't speak JSON here: it ends a stream by plain text, then a close. Meaningful after
     * an error only. */
    bool not_json;

    /* private: memory kept from line to line */
    size_t events_cap;
    struct buf text;    /* unescaped strings and packed filter keys; at most 1.5 · raw.len */
    struct buf scratch; /* one string being unescaped */
};

/* All zero is a good start too. */
void nomad_line_init(struct nomad_line *line);
void nomad_line_fini(struct nomad_line *line);

/* Reads `raw`, a line without its "\n", which has to live as long as the result is used. What was
 * read before is void. An empty line (whitespace) gives no events and is no heartbeat.
 *
 * Memory: one found_event (about 120 bytes) an event, which takes 40 bytes of a line at least;
 * memory past some MiB is given back at the next call.
 *
 * Errors: ERR_INPUT, with the place: `byte 17: a control character in a string`, `event 3: "Topic"
 * is missing` (counted from 1), `event 3: "Key" is not a string`, `"Index" is not an unsigned
 * integer`. The result is then empty. */
int nomad_line_parse(struct nomad_line *line, struct str raw, struct err *err);

#endif
