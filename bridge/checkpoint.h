/* checkpoint.h - how far a sink has come, kept in the sink itself and moved atomically with the
 * data.
 *
 * As text (one line of JSON, the same in Kafka and Redis):
 * {"v":2,"journal":"16 hex","seq":N,"index":N,"epoch":N,"resync":"none","hashes":["16 hex",…]}
 * Version 1 had false or true for "none" and "open".
 *
 * Of a source whose events are known by their bytes the index says little: it is a time that goes
 * back. There the hashes are a window over the last events, whatever their index, and the text is
 * {"v":3,…,"window":[N,N],"gaps":[[N,N],…],"hashes":[…]}: the arrival (µs) of the first and the
 * last of them, and what the last Gaps have told to be missing. */
#ifndef BUSBAR_CHECKPOINT_H
#define BUSBAR_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/event.h"

enum {
    CHECKPOINT_VERSION = 3,
    CHECKPOINT_HASHES_MAX = 65536,
    /* A window has the newest WINDOW_MIN, and all that arrived within WINDOW_US before the last one
     * (events of a second and more are told in another order to each who listens), up to
     * WINDOW_MAX. */
    CHECKPOINT_WINDOW_MIN = 1024,
    CHECKPOINT_WINDOW_MAX = 8192,
    CHECKPOINT_WINDOW_US = EVENT_APART_MS * 1000,
    CHECKPOINT_GAPS_MAX = 16,
};

enum checkpoint_resync {
    CHECKPOINT_RESYNC_NONE,
    CHECKPOINT_RESYNC_OWED, /* a Gap was published, and no resync since */
    CHECKPOINT_RESYNC_OPEN, /* a ResyncStarted was published, its ResyncFinished not yet */
};

struct checkpoint_gap {
    uint64_t from, to;
};

struct checkpoint {
    uint64_t journal_id;
    uint64_t seq;   /* the last event passed: published or left out by the filter */
    uint64_t index; /* the source's index of that event */
    uint32_t epoch; /* and its epoch */
    enum checkpoint_resync resync;
    uint64_t *hashes; /* identities passed at `index`, or lately, in order */
    size_t n_hashes;
    size_t hashes_cap;
    /* Of a window only. */
    bool window;
    int64_t *arrivals; /* of each; as far as known in this process, else 0 */
    int64_t from_us;   /* when the first of them arrived; 0: nothing was forgotten yet */
    int64_t until_us;  /* when the last one did */
    struct checkpoint_gap gaps[CHECKPOINT_GAPS_MAX]; /* the oldest first */
    size_t n_gaps;
};

void checkpoint_fini(struct checkpoint *cp);
void checkpoint_copy(struct checkpoint *to, const struct checkpoint *from);
/* Notes that this event of the source was passed; its (epoch, index) is not less than the
 * checkpoint's. */
void checkpoint_pass(struct checkpoint *cp, const struct event *event);
/* The same in a window: its index may be anything. */
void checkpoint_pass_window(struct checkpoint *cp, const struct event *event);
/* A Gap was passed: what lies between the two indexes has been told to be missing. */
void checkpoint_pass_gap(struct checkpoint *cp, uint64_t from, uint64_t to);
bool checkpoint_is_in_gap(const struct checkpoint *cp, uint64_t index);
/* Less than, equal to, or greater than 0: how (epoch, index) of the event stand to the
 * checkpoint's. */
int checkpoint_compare(const struct checkpoint *cp, const struct event *event);
bool checkpoint_has(const struct checkpoint *cp, uint64_t ident);

void checkpoint_encode(const struct checkpoint *cp, struct buf *out);
/* ERR_FATAL where the text is not one, or of a newer version. */
int checkpoint_decode(struct checkpoint *cp, struct str text, struct err *err);

#endif
