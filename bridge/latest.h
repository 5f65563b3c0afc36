/* latest.h - what a source told last of each object, since some event: what the state table needs
 * to know of these events, so that it need not read them again from the journal.
 *
 * Ingest notes each event as it is journaled; the resync's thread takes all that was noted about
 * once a minute. An object's strings are held once, however often it was told. It ends at an event
 * that means something by its place in the order (Busbar's own, those of a resync), or when it is
 * full (LATEST_OBJECTS_MAX, LATEST_TEXT_MAX: 0.9 MiB in all): what comes from there on has to be
 * read from the journal. */
#ifndef BUSBAR_LATEST_H
#define BUSBAR_LATEST_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/map.h"
#include "bridge/event.h"

enum { LATEST_OBJECTS_MAX = 4096, LATEST_TEXT_MAX = 512 * 1024 };

enum latest_end {
    LATEST_GOES_ON,
    LATEST_FULL,  /* for want of room; then also: two objects had one hash */
    LATEST_ORDER, /* at an event whose place in the order counts; also where it was full before */
};

struct latest {
    uint64_t from, to; /* all events from `from` to the one before `to` are in it */
    enum latest_end end;
    uint64_t seed; /* of the hashes: nobody can choose keys that collide */
    struct map places;
    struct latest_entry *entries;
    size_t n, cap;
    struct buf text;
};

struct latest_object {
    struct event last; /* topic, ns, key, type, filter_keys, epoch, index, origin: as told last */
    uint32_t epoch_max;
    uint64_t index_max; /* with epoch_max: the highest at which it was told */
};

/* Empty; the next event noted is `from`. */
void latest_init(struct latest *latest, uint64_t from);
void latest_fini(struct latest *latest);
/* The next event of the journal. All is copied. */
void latest_note(struct latest *latest, const struct event *event);
/* Object `i`, in no order that means anything, while i < latest->n; its strings live until the next
 * latest_note. */
struct latest_object latest_object(const struct latest *latest, size_t i);

#endif
