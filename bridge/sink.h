/* sink.h - what a sink is (sink_ops), and the loop that drives it (sink.c): one thread per (source,
 * sink).
 *
 * The loop reads batches from the journal and publishes them; a sink moves the data and the
 * checkpoint atomically:
 *
 *     open ─▶ read_checkpoint ─▶ seek ─▶ publish, publish, … ─▶ close
 *      ▲                                    │ UNKNOWN, RETRY: close, wait, open again
 *      └────────────────────────────────────┘ FENCED: the pair ends (or becomes standby) */
#ifndef BUSBAR_SINK_H
#define BUSBAR_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/base/stop.h"
#include "bridge/checkpoint.h"
#include "bridge/event.h"
#include "config/settings.h"

enum sink_result {
    SINK_DONE,  /* the data and the checkpoint are there */
    SINK_RETRY, /* nothing happened; the sink stays open; the same batch comes again after a backoff
                 */
    SINK_UNKNOWN, /* it may have happened or not: the loop closes, opens, reads the checkpoint,
                     seeks */
    SINK_FENCED,  /* another instance owns this pair */
    SINK_REFUSED, /* nothing happened, and batch->events[batch->refused] is what the other side will
                     never take */
    SINK_FATAL,   /* an operator has to act; the loop says so and tries again every 30 s */
};

/* What to publish, in this order. Events, and all they point to, live until publish returns. */
struct batch {
    const struct event *const *events;
    size_t n;     /* may be 0: only the checkpoint moves */
    size_t bytes; /* sum of data lengths */
    struct str source;
    uint64_t journal_id;
    size_t refused; /* out, with SINK_REFUSED */
};

/* Who this pair is; everything outlives the sink. */
struct sink_pair {
    const char *bridge; /* `name:` of the configuration */
    const char *source;
    const char *sink;
    const void *settings; /* filled by the sink's rows */
    bool standby;
    struct stop *stop; /* long waits inside the sink end when it is requested */
};

/* How much the loop puts into one batch; the sink fills it in create(). */
struct sink_limits {
    size_t events_max;
    size_t bytes_max;    /* one event may exceed it alone */
    int64_t interval_ms; /* at least so long from one publish to the next, unless the batch is full;
                            0: none */
};

struct sink_ops {
    const char *type; /* as `type:` in the configuration */
    const struct setting
        *rows; /* its own; name, type, sources, topics, types, namespaces are read by the bridge */
    size_t settings_size;
    /* Checks values across rows (templates, URLs); connects to nothing. May be NULL. */
    void (*check)(struct settings *file, const struct settings_node *node, const void *settings);
    void *(*create)(const struct sink_pair *pair, struct sink_limits *limits);
    void (*destroy)(void *self); /* accepts NULL; closes */

    /* The pair's thread calls these; they may block, seconds at most once stop is requested. */
    /* Connects and becomes the owner: after it no older instance can publish. DONE, RETRY, FENCED
     * or FATAL. */
    enum sink_result (*open)(void *self, struct err *err);
    /* The checkpoint as it stands there; *found false where there is none. DONE, RETRY, UNKNOWN,
     * FENCED or FATAL. */
    enum sink_result (*read_checkpoint)(void *self, struct checkpoint *cp, bool *found,
                                        struct err *err);
    /* The events and `next` together, or nothing. Any result. */
    enum sink_result (*publish)(void *self, struct batch *batch, const struct checkpoint *next,
                                struct err *err);
    /* Lets go of connections; open may follow. Idempotent. */
    void (*close)(void *self);
};

#endif
