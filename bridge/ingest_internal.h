/* ingest_internal.h - what ingest.c (the connector's side) and ingest_write.c (to the journal)
 * share. */
#ifndef BUSBAR_INGEST_INTERNAL_H
#define BUSBAR_INGEST_INTERNAL_H

#include "bridge/ingest.h"
#include "bridge/seen.h"
#include "bridge/unchanged.h"

#include <pthread.h>
#include <stdatomic.h>

/* A whole message as it goes to the journal. */
struct message {
    struct str raw;
    struct event *events;
    size_t n_events;
};

/* What was found out of this connection, which told something unknown below the last index. */
enum judgement { UNJUDGED, LAGS, STARTED_OVER };

struct ingest {
    struct ingest_options o;
    struct str source;
    /* Taken one in the other, so that the two writers take turns. */
    pthread_mutex_t turn, writing;
    uint32_t epoch;
    struct known_checkpoint floor; /* of the sinks, where the journal knows nothing itself */
    struct seen seen;
    /* How often each tuple was told at `tuples_index` on this connection; by bytes: lately. */
    struct map tuples;
    uint64_t tuples_index;
    struct unchanged unchanged; /* where o.digest is set */
    struct latest latest;       /* for the state table */
    atomic_int latest_end;      /* of it, for whoever does not hold `writing` */
    struct journal_tail position;
    struct event *events;
    size_t events_cap;
    size_t unflushed;  /* bytes appended since the last commit */
    uint64_t next_seq; /* what the next event appended will get */
    bool attached;
    bool proven;       /* nothing is missing between the journal and this connection */
    bool first;        /* the journal is empty and no sink knows of this source: `start` decides */
    bool detached;     /* what was missed can't be had again, and this is still to be said */
    bool started_over; /* so did its index, at last_before */
    uint64_t last_before;
    enum judgement judgement;
    const char *gap_reason; /* why the next thing new is not proven to be the next */
    int64_t asked_ms;       /* when the sinks were asked last */
    pthread_mutex_t lock;   /* guards status only */
    struct ingest_status status;
};

/* ---- ingest_write.c; all between ingest_write_begin and ingest_write_end ---- */

void ingest_write_begin(struct ingest *ingest);
void ingest_write_end(struct ingest *ingest);
/* Appends; waits as long as the disk is full: a paused stream may become a gap, a dropped message
 * surely is one. */
int ingest_write_message(struct ingest *ingest, const struct message *message, struct err *err);
int ingest_write_flush(struct ingest *ingest, struct err *err);
/* Says Malformed, with its identity, which is not 0. */
int ingest_write_malformed(struct ingest *ingest, struct str payload, uint64_t ident,
                           struct err *err);
/* Says what has to be said before anything new, if anything: that this is a first start, that
 * something is or may be missing before `to`. */
int ingest_write_due(struct ingest *ingest, uint64_t to, struct err *err);

/* Says a Gap for this reason, besides what is due. */
int ingest_write_gap(struct ingest *ingest, uint64_t from, uint64_t to, const char *reason,
                     struct err *err);

/* ---- ingest.c ---- */

/* Puts what /status tells where ingest_get_status finds it. */
void ingest_heard(struct ingest *ingest);
/* The epoch of what is told from here on; never a lower one than before. */
void ingest_set_epoch(struct ingest *ingest, uint32_t epoch);

#endif
