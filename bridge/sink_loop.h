/* sink_loop.h - the pipeline's side of a (source, sink) pair: its thread's loop and what is known
 * about it. */
#ifndef BUSBAR_SINK_LOOP_H
#define BUSBAR_SINK_LOOP_H

#include "bridge/journal.h"
#include "bridge/metrics.h"
#include "bridge/redact.h"
#include "bridge/route.h"
#include "bridge/sink.h"

enum sink_state {
    SINK_OPENING,    /* connecting, becoming the owner, reading the checkpoint */
    SINK_PUBLISHING, /* the normal state */
    SINK_BACKOFF,    /* waiting before the next try; the detail says why */
    SINK_WAITING,    /* standby: another instance owns the pair */
    SINK_ENDED,      /* fenced, and no standby wanted; or stopped */
};

struct sink_loop;

/* All outlive the loop. */
struct sink_loop_options {
    const struct sink_ops *ops;
    struct sink_pair pair;
    struct journal *journal;
    const struct filter *filter; /* may be NULL */
    const struct redact *redact; /* may be NULL; what the sink gets has no bytes besides */
    struct metrics *metrics;
    bool by_bytes;  /* the source's events are known again by their bytes: source_ops.is_marathon */
    bool no_replay; /* see source_ops */
    /* A resync is wanted that begins behind this seq, see resync_request. */
    void (*want_resync)(void *arg, uint64_t after_seq, const char *reason);
    void *arg;
};

struct sink_loop *sink_loop_new(const struct sink_loop_options *options);
/* The thread: returns when the pair's stop is requested (and the journal's readers are woken), or
 * when it was fenced and no standby is wanted. */
void sink_loop_run(struct sink_loop *loop);
void sink_loop_free(struct sink_loop **loop);

/* ---- any thread ---- */

struct sink_status {
    enum sink_state state;
    int64_t since_us;      /* wall clock of the last change */
    bool checkpoint_known; /* the sink was asked at least once */
    bool checkpoint_found; /* and had one */
    uint64_t seq, index;   /* the checkpoint; while waiting: as it was seen last */
    uint32_t epoch;
    enum checkpoint_resync resync;
    char owner[64];       /* the instance that owns the pair, "": not known */
    uint64_t passed_seq;  /* everything up to it was passed; 0: not known yet */
    int64_t published_us; /* wall clock of the last success, 0: none yet */
    char detail[512];     /* the last error, kept while it lasts */
};
void sink_loop_get_status(struct sink_loop *loop, struct sink_status *out);
const char *sink_state_name(enum sink_state state);

#endif
