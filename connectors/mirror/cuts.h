/* cuts.h - clients that are cut: counted by reason, and said in the log with where they can go on.
 */
#ifndef BUSBAR_MIRROR_CUTS_H
#define BUSBAR_MIRROR_CUTS_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/metrics.h"
#include "connectors/http_server.h"
#include "connectors/mirror/merge.h"

enum cut_reason {
    CUT_TIMEOUT, /* took nothing for client_timeout */
    CUT_LAG,     /* fell behind by client_lag */
    CUT_PRUNED,  /* what it needed next was pruned, or the rest of a frame was */
    CUT_JOURNAL, /* a journal can't be read */
};

/* The newest id that a client has; index and arrival 0: none. */
struct told_id {
    int64_t arrival_us;
    uint64_t index; /* as frame_index tells it */
    uint32_t epoch;
    uint32_t ordinal;
    size_t source;
};

/* All zero but for the first two. */
struct cuts {
    struct metrics *metrics;
    const struct mirror_source *sources;
    int64_t since_ms; /* of this second … */
    size_t said;      /* … so many were said … */
    size_t unsaid;    /* … and so many not */
};

enum { CUTS_SAID_MAX = 20 }; /* a second; of the others only how many */

struct cut {
    enum cut_reason reason;
    const struct http_stream *stream;
    const char *path;
    const struct told_id *told; /* NULL: its stream has no ids; or none is known */
    const char *position;       /* of a stream without ids, NULL: not known */
    int64_t behind_ms;          /* how far it was */
};
/* How far behind one may be who begins with what arrived then: `lag_ms`, and as much more as that
 * is old. */
int64_t cuts_allow_ms(int64_t lag_ms, int64_t from_us);
void cuts_note(struct cuts *cuts, const struct cut *cut);
/* Once a second or so. */
void cuts_flush(struct cuts *cuts, int64_t now_ms);

#endif
