/* subscriber.h - one callback of a Marathon's: a cursor in the source's journal, and a thread that
 * POSTs one event after the other.
 *
 *     waiting ──▶ delivering ──▶ waiting          ended: asked to
 *                   │     ▲
 *                   ▼     │ 2xx                   given_up: nothing but failures for give_up_ms
 *                 retrying ──────────▶ given_up
 *
 * The journal is the queue: what can't be delivered is tried again, the same event first, for as
 * long as the journal holds it. It waits for nobody, so what was pruned meanwhile is passed over,
 * logged and counted. A subscriber that is retrying holds no memory of the journal's. */
#ifndef BUSBAR_MIRROR_SUBSCRIBER_H
#define BUSBAR_MIRROR_SUBSCRIBER_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/journal.h"
#include "bridge/metrics.h"
#include "bridge/redact.h"

/* Where it stands, and what else of it outlives the process. */
struct subscriber_place {
    uint64_t journal_id;
    uint64_t seq;       /* of the event that comes next */
    int64_t arrival_us; /* everything that arrived up to then has been passed */
    int64_t since_us;   /* when it was registered */
    int64_t failing_ms; /* for how long there has been nothing but failures */
};

/* Behind everything that the journal has by now. */
struct subscriber_place subscriber_place_now(struct journal *journal);
/* The same place in this journal, where that is another one than `place` was in (this one's before
 * it lost its end, say): behind what arrived up to then. */
struct subscriber_place subscriber_place_in(struct journal *journal,
                                            const struct subscriber_place *place);

struct subscriber;

struct subscriber_options {
    const char *source;
    const char *url; /* copied */
    struct journal *journal;
    const struct redact *redact; /* may be NULL */
    struct metrics *metrics;
    int64_t give_up_ms;      /* 0: never */
    void (*over)(void *arg); /* it has ended by itself; on its thread; must not block */
    void *arg;
};

/* All but `url` outlives it. No thread yet. */
struct subscriber *subscriber_new(const struct subscriber_options *options,
                                  const struct subscriber_place *place);
/* ERR_RETRY where there can be no thread. */
int subscriber_start(struct subscriber *subscriber, struct err *err);
/* Asks it to end: after the POST that is under way, or, `cut`, without waiting for its answer. */
void subscriber_end(struct subscriber *subscriber, bool cut);
/* Waits until its thread has ended. */
void subscriber_join(struct subscriber *subscriber);
/* Cuts, joins. NULL inside is fine. */
void subscriber_free(struct subscriber **subscriber);

/* ---- any thread ---- */

const char *subscriber_url(const struct subscriber *subscriber);
/* An event of the mirror's own making; its place is behind what the journal has by now. Not kept on
 * disk; where so many of them wait already that a subscriber is far behind, it is left out. */
void subscriber_tell(struct subscriber *subscriber, struct str bytes);
/* It has registered once more: tries again now, and its failures are forgotten. */
void subscriber_again(struct subscriber *subscriber);

enum subscriber_state {
    SUBSCRIBER_WAITING, /* has all */
    SUBSCRIBER_DELIVERING,
    SUBSCRIBER_RETRYING,
    SUBSCRIBER_GIVEN_UP,
    SUBSCRIBER_ENDED,
};

const char *subscriber_state_name(enum subscriber_state state);

struct subscriber_status {
    struct subscriber_place place;
    enum subscriber_state state;
    int64_t state_us;                     /* since when */
    int64_t delivered_us;                 /* when the last event was taken; 0: none yet */
    uint64_t lag_events;                  /* in the journal and not passed */
    uint64_t delivered, retried, skipped; /* since the process started */
    char detail[256];                     /* the last error, kept while it lasts */
};

void subscriber_get_status(struct subscriber *subscriber, struct subscriber_status *out);

#endif
