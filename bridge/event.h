/* event.h - one change as the source told it, its identity and its position. See README.md for the
 * words. */
#ifndef BUSBAR_EVENT_H
#define BUSBAR_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"

/* Marathon: by how much (ms) times go back in order of arrival, and two who listen are told an
 * event apart, at most. 1.02 s were seen. */
enum { EVENT_APART_MS = 2000 };

enum event_origin {
    EVENT_SOURCE,    /* told by the source */
    EVENT_MALFORMED, /* Busbar's own: a message that could not be read; identity = hash of its bytes
                      */
    EVENT_OWN,       /* Busbar's own: Gap, Rejected, …; identity = journal id and seq */
    EVENT_SNAPSHOT,  /* told by a resync, of type Snapshot or Vanished: the resource's own topic,
                        namespace and key; identity = journal id and seq */
};

/* An event as it stands in a journal block; all strings point into that block and live as long as
 * it does. */
struct event {
    struct str topic;
    struct str type;
    struct str key;         /* JSON-unescaped UTF-8 */
    struct str ns;          /* namespace, empty where there is none */
    struct str filter_keys; /* packed: see event_next_filter_key */
    struct str data;        /* the event's bytes, verbatim */
    uint64_t seq;           /* from 1, no holes, exact within one journal */
    uint64_t index;         /* as the source told it; Marathon: timestamp in ms */
    uint64_t pos_index;     /* position = pos_index.ordinal; rises within one journal */
    uint32_t ordinal;
    uint32_t occurrence; /* how often this tuple was told at this index before, on that connection;
                            Marathon: the lower half of ident, which tells as much */
    uint32_t epoch;      /* how often the source's index had started over by then */
    uint64_t ident;      /* hash64 of the identity */
    int64_t time_us;     /* the source's time, µs since 1970; 0 where it gives none */
    int64_t arrival_us;  /* µs since 1970, strictly rising over all sources of one instance */
    enum event_origin origin;
    bool repeat; /* seen before, or left out by the source's own filter: no exit publishes it */
};

/* Names one event forever, the CloudEvents `id`: source/index/topic/namespace/key/type/occurrence,
 * with index~epoch for index once that has started over; Malformed: source/malformed/HASH; Busbar's
 * own and what a resync tells: source/JOURNAL/SEQ. Appends to `out`. */
void event_append_id(struct buf *out, struct str source, uint64_t journal_id,
                     const struct event *event);

/* Where people look at it: "pos_index.ordinal". Appends to `out`. */
void event_append_position(struct buf *out, const struct event *event);

/* The source told it, and told something new. */
static inline bool event_is_told(const struct event *event)
{
    return event->origin == EVENT_SOURCE && !event->repeat;
}

/* hash64 over index, topic, namespace, key, type and occurrence (lengths included). */
uint64_t event_hash(uint64_t index, struct str topic, struct str ns, struct str key,
                    struct str type, uint32_t occurrence);
/* The same of a source whose index is a time, so that many events share one: over index, type and
 * the event's bytes. */
uint64_t event_hash_bytes(uint64_t index, struct str type, struct str data, uint32_t occurrence);

/* The packed form of FilterKeys: each a uint32_t length in host order, then the bytes
 * (JSON-unescaped). Walk with `struct str rest = e->filter_keys, key; while
 * (event_next_filter_key(&rest, &key))`. Append with event_pack_…. */
bool event_next_filter_key(struct str *rest, struct str *key);
void event_pack_filter_key(struct buf *packed, struct str key);

/* A text for errors and logs where an event is named to people: "Job/default/web JobRegistered at
 * 1234". */
void event_describe(const struct event *event, char *out, size_t size);

#endif
