/* sink_internal.h - what sink.c (opening, publishing) and sink_collect.c (the batch under way)
 * share. */
#ifndef BUSBAR_SINK_INTERNAL_H
#define BUSBAR_SINK_INTERNAL_H

#include "bridge/base/map.h"
#include "bridge/sink_loop.h"

#include <pthread.h>

/* An event that the loop made itself, placed in the batch. */
struct made_event {
    struct event event;
    struct buf data;
};

/* An event whose bytes had to be changed for this sink. */
struct redacted_event {
    struct redacted_event *older;
    struct event event;
    char data[];
};

/* A batch, and all that it holds on to. */
struct sink_batch {
    struct batch told; /* as the sink gets it */
    struct checkpoint next;
    const struct event **events;
    size_t n, cap, bytes, passed;
    struct block **blocks;
    size_t n_blocks, blocks_cap, held; /* held: bytes of the blocks */
    struct made_event gap, rejected;
    struct redacted_event *redacted; /* the newest first; they live until the batch is let go */
    size_t n_redacted;
    bool gap_placed; /* a Gap that was wanted stands in it */
};

/* How far a takeover by bytes has come. */
struct taken_over {
    bool reached;       /* what is not known from here on is new */
    bool behind;        /* this connection told what is older than the window */
    size_t n_new;       /* since something was known last */
    int64_t last_known; /* when that arrived */
};

struct sink_loop {
    struct sink_loop_options o;
    void *sink;
    struct sink_limits limits;
    struct str source;
    struct journal_reader *reader;
    bool open;
    unsigned attempt; /* fruitless ones in a row */
    int64_t last_publish_ms, last_keep_ms;
    struct checkpoint done, next;

    /* Where a batch comes from. */
    struct block *block; /* the one being read, or NULL */
    size_t at;           /* next event in it */
    /* The checkpoint is of another journal: compare until its (epoch, index), the anchor, is
     * passed. */
    bool by_identity;
    uint32_t anchor_epoch;
    uint64_t anchor;
    uint64_t opened_seq;  /* the next seq of the journal when the sink was opened */
    uint64_t reached_seq; /* by_identity: an event at the anchor or behind it was met here; or 0 */
    /* By bytes: the checkpoint as it was found, when that was, and the seq of the last event that
     * it knows (0: this journal has none). */
    struct checkpoint taken;
    int64_t taken_us;
    uint64_t known_to;
    struct map known;                  /* of its hashes: where it stands among them, from 1 */
    struct taken_over over, over_done; /* as of the last event looked at, and of the last published
                                        */
    bool proven;                       /* by_identity: something the checkpoint knows was met */
    bool past;                         /* by_identity: something new was met, */
    bool past_done;                    /* and published */
    bool gap_told;       /* by_identity: the journal tells a Gap, and nothing known since */
    size_t events_cap;   /* 0: the sink's own limit; after a refusal fewer */
    uint64_t reject_seq; /* 0, or the event to replace */
    char reject_reason[256];

    struct sink_batch batches[2];
    struct sink_batch *now;   /* the one that is being filled */
    struct sink_batch *begun; /* the one before it, which the sink is publishing; or NULL */
    struct buf scratch;       /* one event being redacted */
    bool gap_wanted;          /* something was lost: a Gap goes before the next event */
    bool gap_again;           /* and something more behind the Gap that was placed */
    char gap_reason[256];

    pthread_mutex_t lock; /* guards status only */
    struct sink_status status;
};

/* ---- sink_collect.c ---- */

enum sink_progress { SINK_MORE, SINK_NOTHING, SINK_WOKEN };

/* Fills the batch: until it is full, or its interval is over and nothing more is there at once.
 * While another one is begun it waits for nothing. */
enum sink_progress sink_collect(struct sink_loop *loop);
bool sink_collect_is_full(const struct sink_loop *loop);
/* Lets go of a batch, */
void sink_collect_clear(struct sink_batch *batch);
/* and of all there are. */
void sink_collect_clear_all(struct sink_loop *loop);
/* Throws away what is not known to be published and stands behind `done` again. */
void sink_collect_rewind(struct sink_loop *loop);

/* By bytes, in another journal: takes `done` over as `taken`, looks for the events that it knows.
 * Leaves the reader anywhere. */
void sink_collect_find_known(struct sink_loop *loop);

/* A Gap goes before the next event that is published. */
void sink_collect_want_gap(struct sink_loop *loop, const char *reason);

/* ---- sink.c ---- */

void sink_set_state(struct sink_loop *loop, enum sink_state state, const char *detail);

#endif
