/* merge.h - the journals of several sources read as one, in order of arrival.
 *
 * Arrival times rise strictly over all sources of one instance, and everything up to the bridge's
 * horizon is readable: up to there the merge is exact. One thread; owned by the feeder, or by a
 * client that is behind the ring. */
#ifndef BUSBAR_MIRROR_MERGE_H
#define BUSBAR_MIRROR_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/err.h"
#include "bridge/event.h"
#include "bridge/journal.h"
#include "connectors/mirror/frame.h"

/* What the mirror reads; fixed for its life. */
struct mirror_source {
    const char *name;
    struct journal *journal;
    uint64_t journal_id;
    bool is_marathon; /* its indexes are times in ms, told in another order to each who listens */
};

struct merge;

struct merge *merge_new(const struct mirror_source *sources, size_t n_sources);
void merge_free(struct merge **merge);

/* When a gap is told before a source's first event. Later ones always are. */
enum merge_tell {
    MERGE_TELL_NONE,     /* the oldest is what was asked for */
    MERGE_TELL_PRUNED,   /* where the journal has pruned some of what was asked for */
    MERGE_TELL_UNPROVEN, /* also where it begins later than MERGE_OVERLAP_US after it */
};

enum { MERGE_OVERLAP_US = 5 * 1000 * 1000 }; /* how far the clocks of two instances may differ */

/* Adds a source from the first event that arrived at or after `from_us`; 0: all there ever was. */
void merge_add(struct merge *merge, size_t source, int64_t from_us, enum merge_tell tell);

enum merge_item {
    MERGE_EVENT,
    MERGE_GAP,
    MERGE_NOTHING, /* nothing up to the horizon */
    MERGE_ERROR,   /* a journal can't be read now; nothing was passed */
};

struct merge_next {
    size_t source;
    const struct event *event; /* until the next merge_peek after merge_take */
    struct frame_gap gap;
};

/* What comes next up to the horizon (µs); the same again until merge_take. Events seen before are
 * left out. Reads at most one block per source. */
enum merge_item merge_peek(struct merge *merge, int64_t horizon_us, struct merge_next *next,
                           struct err *err);
void merge_take(struct merge *merge, const struct merge_next *next);
/* A gap that merge_peek does not give yet, as what follows it is later than the others' next or
 * than the horizon: told at `at_us` or before. Whoever goes on elsewhere than with this merge, from
 * where it stands, has to be told. After merge_peek. */
bool merge_peek_gap(const struct merge *merge, int64_t at_us, struct merge_next *next);
/* Sources that had nothing are asked again: once for each new horizon, before the first peek. */
void merge_refresh(struct merge *merge);

/* True while a gap is waiting to be told; known after the first merge_peek. */
bool merge_has_gap(const struct merge *merge);

/* True where each source has given its first event, or has none: what is missing from here on was
 * pruned. */
bool merge_has_begun(const struct merge *merge);

#endif
