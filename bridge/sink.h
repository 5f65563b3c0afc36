/* sink.h - what a sink is (sink_ops), and the loop that drives it (sink.c): one thread per (source,
 * sink).
 *
 * The loop reads batches from the journal and publishes them; a sink moves the data and the
 * checkpoint atomically:
 *
 *     open ─▶ read_checkpoint ─▶ seek ─▶ publish, publish, keep, … ─▶ close
 *      ▲ STANDBY: wait, open again          │ UNKNOWN, RETRY: close, wait, open again
 *      └────────────────────────────────────┘ FENCED: the pair ends (or becomes standby)
 *
 * A sink may take the next batch while it publishes one (begin and end instead of publish), so that
 * neither waits for the other:
 *
 *     begin 1, begin 2, end 1, begin 3, end 2, begin 4, end 3, …
 *
 * Who publishes is decided in the sink. With `standby: true` instances of one name share out their
 * pairs: open answers STANDBY as long as another instance holds the pair and is alive, and keep is
 * called about every second to go on holding it. With `standby: false` open takes the pair from
 * whoever has it. */
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
    SINK_FENCED,  /* another instance owns this pair, or is to */
    SINK_STANDBY, /* open only: another instance owns it and is alive; nothing was touched */
    SINK_REFUSED, /* nothing happened, and batch->events[batch->refused] is what the other side will
                     never take */
    SINK_FATAL,   /* an operator has to act; the loop says so and tries again every 30 s */
};

/* What to publish, in this order. Events, and all they point to, live until publish or end
 * returns. */
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
    /* This instance: 16 hex digits, the same after a restart. No two that run are the same. */
    const char *instance;
    bool standby;
    size_t n_sources;  /* how many sources of this configuration go to this sink */
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
        *rows; /* its own; what every sink has (name, type, filters, redact) the bridge reads */
    size_t settings_size;
    /* Checks values across rows (templates, URLs); connects to nothing. May be NULL. */
    void (*check)(struct settings *file, const struct settings_node *node, const void *settings);
    void *(*create)(const struct sink_pair *pair, struct sink_limits *limits);
    void (*destroy)(void *self); /* accepts NULL; closes */

    /* The pair's thread calls these; they may block, seconds at most once stop is requested. */
    /* Connects and becomes the owner: after it no older instance can publish. DONE, RETRY, FENCED,
     * FATAL, or (with standby) STANDBY: asked again after half a second, so connections may be kept
     * until close. */
    enum sink_result (*open)(void *self, struct err *err);
    /* The checkpoint as it stands there; *found false where there is none. DONE, RETRY, UNKNOWN,
     * FENCED or FATAL. */
    enum sink_result (*read_checkpoint)(void *self, struct checkpoint *cp, bool *found,
                                        struct err *err);
    /* The events and `next` together, or nothing. Any result. */
    enum sink_result (*publish)(void *self, struct batch *batch, const struct checkpoint *next,
                                struct err *err);
    /* Starts to publish, as far as that can be while another batch is begun and not ended yet
     * (never two others); what hinders is told by end. Batch and checkpoint live until then. NULL:
     * the loop calls publish only. */
    void (*begin)(void *self, struct batch *batch, const struct checkpoint *next);
    /* Publishes the older one of those begun, or waits until that is done. Any result, of that one.
     * The one behind it is not carried out before this one is there; where the result is not DONE
     * nothing of it ever happens, and the sink forgets it. publish and keep are not called while
     * anything is begun: to go on holding the pair is a matter of begin and end then. */
    enum sink_result (*end)(void *self, struct err *err);
    /* After open answered STANDBY: the checkpoint as it stands; it may move on. DONE or RETRY. May
     * be NULL. */
    enum sink_result (*peek)(void *self, struct checkpoint *cp, bool *found, struct err *err);
    /* Called about every second between two publishes, while open, also while there is nothing to
     * publish: goes on holding the pair. Takes milliseconds where all is well. DONE, UNKNOWN,
     * FENCED or FATAL. May be NULL. */
    enum sink_result (*keep)(void *self, struct err *err);
    /* Who owns the pair, as far as this instance knows: an instance's id, "" where nobody is known
     * to. The pair's thread; valid until the next call. May be NULL. */
    const char *(*owner)(void *self);
    /* Lets go of connections; open may follow. Idempotent. Where pair->stop is requested the pair
     * is given up, so that a standby need not wait: a second at most. */
    void (*close)(void *self);
};

#endif
