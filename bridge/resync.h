/* resync.h - reading a source's state and publishing it: the connector's side, the pipeline's side.
 *
 * One thread per source. It keeps the state table (state.h) by reading the journal, lazily, and
 * when a resync is wanted (a Gap in the journal, a sink that lost something, a first start with
 * `start: snapshot`) and the source is attached, it has the connector read the whole state and
 * journals what that tells: a ResyncStarted, a Snapshot for each object, a Vanished for each that
 * the table knew and that is no more, a ResyncFinished, while the stream goes on. What of this was
 * done stands in the journal, so that after a restart an open resync goes on where it was. A resync
 * that is wanted while one is open follows it. */
#ifndef BUSBAR_RESYNC_H
#define BUSBAR_RESYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/ingest.h"
#include "bridge/journal.h"
#include "bridge/metrics.h"
#include "bridge/source.h"
#include "bridge/state.h"

struct resync;

/* ---- for a connector's `snapshot`, on the resync's thread ---- */

struct stop *resync_stop(struct resync *resync);
/* Before each request upstream: waits as long as the rate asks for. False where it is time to stop.
 */
bool resync_may_ask(struct resync *resync);
/* While an answer is waited for or read, every now and then: journals what has waited for long.
 * False where the attempt is over, or it is time to stop. */
bool resync_goes_on(struct resync *resync);
/* For progress: a listing says that there are `n` (more) objects to come. */
void resync_expect(struct resync *resync, size_t n);
/* What is told from here on was read when the source's index was at least `index` (that of the
 * listing, say), until the next call. Without it an object is left out wherever the stream told it
 * at an index above the object's own; with it only where that was above both, which is better for
 * objects that events tell without modifying them (a Nomad node's NodeEvent). */
void resync_as_of(struct resync *resync, uint64_t index);
/* A listing names an object (topic, ns, key, and index: of its last modification, 0 where the
 * listing does not say). True where it has to be told in full by resync_object; false where this
 * resync did so already, or the stream has told something newer. */
bool resync_listed(struct resync *resync, const struct found_event *object);
/* The object in full: `data` is the event as it is to be published, type Snapshot, in the shape of
 * the source's own events; `index` that of its last modification. Left out where the stream has
 * told something newer, or the source's filter leaves it out. All is copied. Objects are journaled
 * in small batches. Errors: ingest's; the connector returns it. */
int resync_object(struct resync *resync, const struct found_event *object, struct err *err);
/* All that existed of this topic when the source's index was `index` has been named by
 * resync_listed or resync_object: what the table knows besides, last told at `index` or before, has
 * vanished. Not called where the listing was refused or incomplete. */
void resync_whole(struct resync *resync, struct str topic, uint64_t index);

/* Sources whose indexes give no order (a Marathon's are times, which go back): in place of
 * resync_as_of, before each question (after resync_may_ask). What is told from here on, until the
 * next call, was asked for now. Then the order of arrival decides, not the indexes: an object is
 * left out where the stream has told anything under its key since it was asked for, whatever the
 * topic, and waits for resync_again; and it vanishes unless the stream has told it since the
 * listing was asked for (the index that resync_whole gets means nothing then). */
void resync_asked_now(struct resync *resync);
/* Asked for by itself (resync_asked_now) it is not there: it vanishes, unless the stream tells it
 * again. */
int resync_gone(struct resync *resync, struct str topic, struct str key, struct err *err);
/* Asks for one object anew, by the rules above. An empty key: one that the stream told without
 * saying which it is. */
typedef int resync_again_fn(void *arg, struct str topic, struct str key, struct err *err);
/* After all topics are told: journals what waits, then has `again` ask for each object that was
 * left out since the last call, and for each of the topics told whole that is known, was not named,
 * and under whose key the stream has told something since. *held: how many of them were left out
 * once more; to be called until it is 0. -1: what `again` returned, or broken off. */
int resync_again(struct resync *resync, resync_again_fn *again, void *arg, size_t *held,
                 struct err *err);

/* ---- for the pipeline ---- */

/* All but `dir` outlive the resync. */
struct resync_options {
    const char *source;
    const char *dir; /* of the state table; made if missing */
    struct journal *journal;
    struct ingest *ingest;
    const struct source_ops *ops; /* without `snapshot` only the table is kept, nothing is read */
    void *connector;              /* what ops->create made */
    unsigned rate;                /* requests a second, at least 1 */
    struct metrics *metrics;      /* the source's: RESYNCS, RESYNC_OPEN, SNAPSHOTS */
    uint64_t journal_max_size;    /* the table is brought up to date before an eighth of this is
                                     behind it */
    struct stop *stop;
};

/* Opens the table; a damaged one is put aside and begun anew (told in the log). ERR_FATAL where its
 * directory can't be used, or it is of a newer format. */
int resync_new(struct resync **out, const struct resync_options *options, struct err *err);
void resync_free(struct resync **resync); /* NULL inside is fine */
/* The thread: until options.stop. */
void resync_run(struct resync *resync);

/* The reason of one that tells only what differs from the state table. */
#define RESYNC_AFTER_RESTART STATE_AFTER_RESTART
/* Any thread: a resync is wanted that begins behind `after_seq` of the journal. Nothing happens
 * where one that does so is open, done or wanted. `reason` is told in ResyncStarted; copied. */
void resync_request(struct resync *resync, uint64_t after_seq, const char *reason);

struct resync_status {
    bool supported; /* the source has a state to be read */
    bool open, wanted;
    uint64_t number;     /* of the open or last one: the seq of its ResyncStarted; 0: none yet */
    char reason[256];    /* of it */
    int64_t started_us;  /* wall clock, 0: none yet */
    int64_t finished_us; /* 0: open, or none yet */
    uint64_t requests;   /* sent upstream, in this process */
    uint64_t expected;   /* objects listed so far, in this attempt */
    uint64_t skipped;  /* left out: told newer by the stream, already told, or filtered; likewise */
    uint64_t told;     /* Snapshots journaled since its ResyncStarted */
    uint64_t vanished; /* Vanished, likewise */
    uint64_t known;    /* objects in the state table */
    char detail[512];  /* why the last attempt broke off, while that lasts */
};
/* Any thread. */
void resync_get_status(struct resync *resync, struct resync_status *out);

#endif
