/* resync_internal.h - what resync.c (the thread and its table), resync_tell.c (the connector's
 * side), resync_again.c (sources without an order) and resync_end.c (what vanished) share. */
#ifndef BUSBAR_RESYNC_INTERNAL_H
#define BUSBAR_RESYNC_INTERNAL_H

#include <pthread.h>

#include "bridge/base/map.h"
#include "bridge/resync.h"
#include "bridge/state.h"

enum {
    RESYNC_BATCH_OBJECTS = 64,
    RESYNC_BATCH_BYTES = 1 << 20, /* a larger object is alone in its batch */
    RESYNC_BATCH_MS = 200,
};

/* An object that waits to be told; the numbers are offsets into the batch's text. */
struct resync_object {
    size_t topic, type, key, ns, filter_keys, data, end;
    uint64_t index;
    uint64_t as_of;     /* the source's index was at least this when it was read */
    uint64_t asked_seq; /* what the journal's next event was to be when it was asked for; 0: the
                           source's index decides */
    int64_t time_us;
};

struct resync_batch {
    struct resync_object objects[RESYNC_BATCH_OBJECTS];
    size_t n;
    struct buf text;
    int64_t since_ms; /* of the first one */
    bool vanished;    /* all of them are: told only where they still are not seen */
};

/* A whole listing. */
struct resync_listing {
    char *topic;
    size_t topic_len;
    uint64_t index;
    uint64_t asked_seq; /* as above */
};

/* Under which keys the stream has told something, and at which seq: by topic, namespace and key,
 * and with an empty topic by namespace and key. */
struct resync_watch {
    bool on;
    uint64_t from;   /* the first seq noted */
    uint64_t all;    /* there were too many: up to this seq everything counts as told; 0: no */
    struct map told; /* seq - from + 1 */
};

struct resync_names {
    struct resync_name {
        char *topic, *ns, *key;
        size_t lens[3];
    } * items;
    size_t n;
};

struct resync_ask {
    bool any;
    uint64_t after_seq;
    char reason[STATE_REASON_MAX];
};

struct resync {
    struct resync_options o;
    char *dir;
    struct state *state; /* NULL after an error, until it is opened again */
    bool ready;          /* it was read through, and knows the journal */
    struct journal_reader *reader;

    /* When the table is to be brought up to date. */
    int64_t caught_up_ms, committed_ms;

    /* Waiting after a failure: of the table, of an attempt. */
    unsigned table_failures, failures;
    int64_t table_again_ms, again_ms;

    /* The attempt. */
    uint32_t epoch;
    uint64_t as_of, asked_seq, again_seq;
    struct resync_watch watch;
    struct resync_names held; /* to be asked for again */
    int64_t asked_us;         /* when the next request is due */
    struct resync_batch batch;
    struct resync_listing *listings;
    size_t n_listings;
    bool failed; /* the attempt, with `failure` */
    struct err failure;
    uint64_t requests, expected, skipped; /* for people */
    int64_t progress_ms, status_ms;
    int64_t lock_us;  /* the longest that the connector had to wait */
    uint64_t counted; /* number of the resync that the metric has counted */

    pthread_mutex_t lock; /* guards the rest */
    struct resync_ask ask;
    struct resync_status status;
};

/* ---- resync.c ---- */

/* Applies what the journal holds to the table. `durable` false: without a commit (which takes
 * milliseconds). */
int resync_catch_up(struct resync *resync, bool durable, struct err *err);
/* Puts what is known now where resync_get_status finds it; logs how far it is, every now and then.
 */
void resync_publish(struct resync *resync);

/* ---- resync_tell.c ---- */

/* Forgets what an earlier attempt left. */
void resync_tell_begin(struct resync *resync);
/* Adds to the batch: all is copied. */
void resync_tell_add(struct resync *resync, const struct found_event *object);
bool resync_tell_is_full(const struct resync *resync);
/* Journals the batch. */
int resync_tell_flush(struct resync *resync, struct err *err);
/* Not named by the whole listing of its topic, and not told since. */
bool resync_tell_has_vanished(struct resync *resync, const struct state_object *known);

/* ---- resync_again.c ---- */

/* For each event that is applied to the table. */
void resync_watch_note(struct resync_watch *watch, const struct event *event);
/* The stream has told it at `seq` or later; false where seq is 0. */
bool resync_watch_has_told(struct resync *resync, const struct found_event *object, uint64_t seq);
/* The same for anything under its key. */
bool resync_watch_has_told_key(struct resync *resync, const struct found_event *object,
                               uint64_t seq);
int resync_hold_back(struct resync *resync, const struct found_event *object, struct err *err);
/* The attempt is over. */
void resync_watch_end(struct resync *resync);

/* ---- resync_end.c ---- */

/* Tells what vanished, then that the resync is finished. */
int resync_end(struct resync *resync, struct err *err);

#endif
