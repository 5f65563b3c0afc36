/* source.h - what a connector is (source_ops), and what it writes to (ingest).
 *
 * A connector speaks to one kind of upstream, in one thread, blocking style. It frames bytes into
 * messages, finds the events in them and hands both to `ingest`, which does the same for all
 * connectors: marks repeats by identity, gives positions and arrival times, writes the journal,
 * says gaps. Ingest never waits for a sink. */
#ifndef BUSBAR_SOURCE_H
#define BUSBAR_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/base/stop.h"
#include "bridge/event.h"
#include "bridge/route.h"
#include "config/settings.h"

struct ingest;

/* Only where neither a checkpoint nor a journal says better. */
enum source_start { SOURCE_START_SNAPSHOT, SOURCE_START_OLDEST, SOURCE_START_NOW };

enum source_state {
    SOURCE_CONNECTING, /* asking a server */
    SOURCE_ATTACHED,   /* the stream flows, or is known to be open (Nomad: the first `{}`) */
    SOURCE_BACKOFF,    /* waiting before the next try; the detail says why */
    SOURCE_ENDED,      /* nothing more will come (a replay's end) */
    SOURCE_FAILED,     /* its thread ended with an error */
};

struct source_ops {
    const char *type; /* as `type:` in the configuration */
    const struct setting
        *rows; /* its own settings; `name` and `type` are read by the bridge itself */
    size_t settings_size;
    /* Checks across rows; adds problems by settings_problem. May be NULL. */
    void (*check)(struct settings *file, const struct settings_node *node, const void *settings);
    /* What the source's own `topics` and `namespace` let through, applied by ingest; NULL:
     * everything. May be NULL. The caller frees the filter. */
    struct filter *(*filter)(const void *settings);
    /* The `start:` setting. May be NULL: oldest. */
    enum source_start (*start)(const void *settings);
    /* `settings` and `ingest` outlive the source. Connects to nothing yet. */
    void *(*create)(const void *settings, struct ingest *ingest);
    /* The thread. Returns 0 when ingest_stop was requested or nothing more will come (it said
     * SOURCE_ENDED), -1 where trying again can't help. Upstream failures are its own business: it
     * logs each change once, waits, tries on. */
    int (*run)(void *self, struct err *err);
    void (*destroy)(void *self); /* accepts NULL */
};

/* ---- ingest: all on the connector's thread ---- */

struct str ingest_source(const struct ingest *ingest); /* the source's name */
struct stop *ingest_stop(struct ingest *ingest);
enum source_start ingest_start(const struct ingest *ingest);

/* Where to go on. `known` is false where this source starts from nothing: no journal, no checkpoint
 * in any sink (with start `now` it waits for the sinks to say so, at most 10 s). `index`: the last
 * index but one, 0 for the oldest. */
struct ingest_resume {
    bool known;
    uint64_t index; /* ask the upstream from here, inclusive */
    uint64_t last;  /* the newest index seen so far */
};
struct ingest_resume ingest_resume(struct ingest *ingest);

/* Tells state changes for logs, /status, /readyz and metrics. `server` may be NULL. Each change is
 * logged once; a repeated CONNECTING/BACKOFF with the same detail is not logged again.
 * SOURCE_ATTACHED also starts a new connection: occurrences count from nothing, continuity has to
 * be proven before the first new event, else a Gap is said. */
void ingest_state(struct ingest *ingest, enum source_state state, const char *server,
                  const char *detail);
/* The upstream gave a sign of life (a heartbeat). */
void ingest_heartbeat(struct ingest *ingest);

/* One event of a message, as the connector found it. */
struct found_event {
    struct str topic, type, key, ns; /* JSON-unescaped; need to live until the call returns */
    struct str filter_keys;          /* packed, see event.h */
    uint64_t index;
    int64_t time_us; /* 0: the source gives none */
    struct str data; /* within the message's raw bytes */
};

/* A whole message with its events in their order. `raw` without its terminator. Messages that bring
 * nothing new are not journaled. With start `now` the connector leaves out what is older by not
 * calling this. Errors: what journal_append says; the connector returns it from run (the message is
 * not lost: it will be sent again at the next connection). A full disk is waited for inside
 * (ERR_RETRY never comes out). */
int ingest_message(struct ingest *ingest, struct str raw, const struct found_event *events,
                   size_t n_events, struct err *err);
/* A terminated message that can't be read: becomes Busbar/Malformed with the bytes (cut at 1 MiB,
 * which it says) in base64. `size` is the whole size where `raw` is only its beginning (an
 * oversized one). */
int ingest_malformed(struct ingest *ingest, struct str raw, uint64_t size, const char *reason,
                     struct err *err);
/* Writes what came so far; call when nothing more is waiting to be read, and about every 200 ms
 * when idle. */
int ingest_flush(struct ingest *ingest, struct err *err);

#endif
