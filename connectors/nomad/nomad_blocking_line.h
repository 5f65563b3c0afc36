/* nomad_blocking_line.h - events put together to a line as Nomad's event stream has them,
 * {"Events":[…],"Index":N}, and told to ingest. */
#ifndef BUSBAR_CONNECTORS_NOMAD_BLOCKING_LINE_H
#define BUSBAR_CONNECTORS_NOMAD_BLOCKING_LINE_H

#include "bridge/source.h"

enum {
    LINE_EVENTS_MAX = 64,
    LINE_BYTES_MAX = 1 << 20, /* a larger event has a line of its own */
};

/* All zero is a good start. */
struct blocking_line {
    struct buf text;    /* the line so far */
    struct buf strings; /* of the events: topic, type, key, ns, filter keys, one after the other */
    struct {
        size_t string, topic_len, type_len, key_len, ns_len, filter_keys_len;
        size_t data, data_len;
    } events[LINE_EVENTS_MAX];
    size_t n;
    uint64_t index; /* of all of them */
};

void blocking_line_fini(struct blocking_line *line);
/* Adds the event (all is copied), tells before what has another index or no room beside it. Errors:
 * ingest's. */
int blocking_line_add(struct blocking_line *line, struct ingest *ingest,
                      const struct found_event *event, struct err *err);
/* Tells what is left. */
int blocking_line_send(struct blocking_line *line, struct ingest *ingest, struct err *err);

/* Appends the event that says that an object was deleted, in the stream's shape: type Deleted, an
 * empty Payload. Of `event` topic, key, ns, filter_keys and index are read. */
void blocking_line_deleted(struct buf *out, const struct found_event *event);

#endif
