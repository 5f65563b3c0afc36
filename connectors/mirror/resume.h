/* resume.h - going on in one journal where an id of another one ends.
 *
 * What came later in this journal may still have been told by the other: after a crash of the
 * machine the source tells again what the journal lost. So the source's events below the index that
 * the id names are skipped, up to the first at or past it. That needs a journal that shows to have
 * followed the same index; where it can't be known, a Gap is told, and repeats. */
#ifndef BUSBAR_MIRROR_RESUME_H
#define BUSBAR_MIRROR_RESUME_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/err.h"
#include "bridge/event.h"
#include "connectors/mirror/frame.h"
#include "connectors/mirror/merge.h"

/* Lives in a client. */
struct resume {
    bool on;          /* skips until the named index */
    uint32_t epoch;   /* of the named index */
    uint64_t index;   /* as frame_index tells it */
    int64_t since_us; /* the caller's: what is not of the stream (own, a resync's) and came earlier
                         was told */
    int64_t now_us;   /* the caller's: of the request */
    int64_t until_us; /* skips no longer than this; 0: nothing new was skipped yet */
    bool gap_due;     /* `gap` is to be told before the event that was looked at last */
    struct frame_gap gap;
};

enum { RESUME_SKIP_MAX_US = 60 * 1000 * 1000 }; /* how long the source may tell again */

/* Where a client begins in the source that its id names, an id of another journal: *from_us, 0
 * where this journal can't show that nothing is missing (the merge tells a Gap then, if it is asked
 * to). The caller has filled resume->since_us (the id's arrival less the overlap) and now_us.
 * Reads some blocks; -1 where it can't. */
int resume_find(const struct mirror_source *source, const struct frame_id *id,
                struct resume *resume, int64_t *from_us, struct err *err);

/* Looks at that source's events, one after the other; false: skip this one. Ends the skipping at
 * the named index; with `gap_due` where it never came: this event lies past it, or a minute of
 * arrivals below it has passed. A Gap of the source's own ends it too. */
bool resume_passes(struct resume *resume, const struct event *event);

#endif
