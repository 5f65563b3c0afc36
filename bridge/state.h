/* state.h - the state table: what the journal has told of each object, on disk (LMDB).
 *
 * A function of the journal: each object (topic, namespace, key) with the epoch and index at which
 * it was told last, and the resync that told it last; and how far the resyncs are (wanted, open).
 * The journal's (id, seq) up to which it was applied moves in the same transaction, so that after a
 * crash the rest is applied again; applying twice what was applied does no harm. After another
 * journal id all that the journal holds is applied again: what an entry says then counts only as
 * far as this journal says it too.
 *
 * Objects are found by a 16-byte hash of topic, namespace and key (LMDB's keys end at 511 bytes),
 * whose strings stand in the entry and are compared: where two ever had one hash, the one told last
 * has the entry, the other counts as never told. Strings of more than 4 KiB are not kept: such an
 * object is known, but can't be told as vanished.
 *
 * Memory is the file's own (mapped), but for the pages that the open transaction has touched: at
 * most about 16 MiB, if a commit follows when it is due. One thread. An error ends the use of
 * an open table: close it, wait, open it again. Kinds: ERR_RETRY (the disk), ERR_INPUT (damaged:
 * the next open begins anew), ERR_FATAL (its directory, or of a newer version). */
#ifndef BUSBAR_STATE_H
#define BUSBAR_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/base/stop.h"
#include "bridge/event.h"
#include "bridge/latest.h"

struct state;

enum { STATE_REASON_MAX = 256 };
/* The default for bytes_max: more than a million objects. */
#define STATE_BYTES_MAX (UINT64_C(256) << 20)

struct state_options {
    const char *dir;    /* made if missing, in one that is there */
    const char *source; /* for logs */
    /* Of all entries; the file becomes about twice as large. Past it those with the
     * lowest (epoch, index) are forgotten, until an eighth is free: not told as vanished, and told
     * again by a resync. */
    uint64_t bytes_max;
};

/* Both strings outlive the table. One that is damaged or can't be recognised is moved to
 * DIR.damaged (the last one is kept), logged, and begun anew with a resync wanted. */
int state_open(struct state **out, const struct state_options *options, struct err *err);
/* What was not committed is forgotten. NULL inside is fine. */
void state_close(struct state **state);
bool state_is_broken(const struct state *state); /* an error ended its use */
/* Reads all of it once and compares checksums; to be called before the first use, where it may take
 * a second. 0 also when it is time to stop. A process that dies of it twice in a row finds the
 * table put aside at the third open. */
int state_verify(struct state *state, struct stop *stop, struct err *err);

/* ---- the journal ---- */

/* Which journal will be applied, and what its next event will be. */
int state_set_journal(struct state *state, uint64_t journal_id, uint64_t next_seq, struct err *err);
uint64_t state_next_seq(const struct state *state); /* the first not applied; 0: from the oldest */
/* Events come in order; those before state_next_seq are skipped. */
int state_apply(struct state *state, const struct event *event, struct err *err);
/* The same for all events in it, of which the table may have some already, but not less than all
 * before latest->from. Commits in between where that is due; what it has then of `latest` is
 * applied again after a crash. */
int state_apply_latest(struct state *state, const struct latest *latest, struct stop *stop,
                       struct err *err);
/* What the journal held up to `seq` can't be had: a resync is wanted. */
int state_lost(struct state *state, uint64_t seq, struct err *err);
bool state_is_due(const struct state *state); /* a commit */
/* Makes durable. Forgets what is too much. */
int state_commit(struct state *state, struct stop *stop, struct err *err);

/* ---- resyncs ---- */

struct state_resync {
    bool open;                       /* ResyncStarted without its ResyncFinished */
    bool wanted;                     /* a Gap behind the last ResyncStarted, or state_want */
    uint64_t number;                 /* seq of the last ResyncStarted, 0: none yet */
    int64_t started_us, finished_us; /* arrival; finished is 0 while open */
    uint64_t objects, vanished;      /* told since the last ResyncStarted */
    char reason[STATE_REASON_MAX];   /* of the last ResyncStarted */
    char wanted_reason[STATE_REASON_MAX];
};
const struct state_resync *state_resync(const struct state *state);
/* The reason of a resync that tells only what differs from the table: what was deleted, and what
 * was changed, while nobody looked. Any other reason takes its place, never the other way round. */
#define STATE_AFTER_RESTART "what was deleted while this bridge was down is not known"
bool state_is_after_restart(const char *reason);
/* The next ResyncStarted settles it. Nothing happens where one is wanted already. */
int state_want(struct state *state, const char *reason, struct err *err);

/* ---- objects ---- */

struct state_id {
    struct str topic, ns, key;
};

struct state_object {
    struct state_id id;     /* this and the next: until the next call; empty where not kept */
    struct str filter_keys; /* packed, see event.h */
    uint32_t epoch;
    uint64_t index; /* at which it was told last */
    uint64_t mark;  /* number of the last resync that told it, 0: none */
    bool here;      /* this journal says so, not one whose end was lost */
    bool deleted;   /* the source has told so: it can't vanish */
    bool seen;      /* in this attempt */
};

uint64_t state_objects(struct state *state);         /* how many */
uint64_t state_forgotten(const struct state *state); /* for lack of room, since it was opened */
/* An attempt to read the whole state begins (random, not 0) or ends (0): what a resync tells from
 * now on counts as seen. */
void state_set_attempt(struct state *state, uint64_t attempt);
/* 1: found, 0: not known, -1: error. */
int state_find(struct state *state, const struct state_id *id, struct state_object *object,
               struct err *err);
/* The same, and it has been seen now; object->seen says whether it was before. */
int state_see(struct state *state, const struct state_id *id, struct state_object *object,
              struct err *err);
/* What was seen of it in this attempt does not count. */
int state_unsee(struct state *state, const struct state_id *id, struct err *err);

/* A walk through all; what is added meanwhile may be missed. Begins with zeros. */
struct state_cursor {
    bool begun;
    unsigned char at[16];
};
/* 1: the next one, 0: the end, -1: error. */
int state_walk(struct state *state, struct state_cursor *cursor, struct state_object *object,
               struct err *err);

#endif
