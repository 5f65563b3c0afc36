/* marathon_event.h - one event of a Marathon's event bus: its topic, its key, its time.
 *
 * Marathon has no topics: the event's type gives one, and says where the key stands
 * (marathon_event.c has the table). Names of fields changed between versions; all of them are
 * known. The whole object is validated (json_scan.h). Pure; one thread at a time. */
#ifndef BUSBAR_CONNECTORS_MARATHON_EVENT_H
#define BUSBAR_CONNECTORS_MARATHON_EVENT_H

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/source.h"

struct marathon_event {
    /* index: the timestamp in ms, time_us in µs, both 0 where there is none; data: all of it */
    struct found_event found;
    struct buf text; /* what had to be unescaped */
};

void marathon_event_init(struct marathon_event *event);
void marathon_event_fini(struct marathon_event *event);

/* Reads `data`, a JSON object as an SSE frame's data or a callback's body has it. `type` is the
 * frame's `event:`; where it is empty the object's eventType. What it finds points into `data`,
 * `type` and `event` and lives until the next call. The key is the first of the type's members that
 * is a string and not empty, unescaped; else it is empty. A member told twice counts as told last.
 * A timestamp that is not as RFC 3339 has it, or is more than a day ahead of this machine's clock,
 * counts as none: one wild clock must not move the source's position for years.
 *
 * Memory: `data` once more where something has to be unescaped; more than 1 MiB is given back at
 * the next call. 0.6 µs for an event of 278 bytes, the median.
 *
 * -1, ERR_INPUT: not a whole JSON object, or without a type, or with one that is not printable
 * ASCII and not the object's eventType; `found` is then empty. */
int marathon_event_read(struct marathon_event *event, struct str type, struct str data,
                        struct err *err);

#endif
