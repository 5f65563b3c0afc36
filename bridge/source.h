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
struct resync;

/* Only where neither a checkpoint nor a journal says better. */
enum source_start { SOURCE_START_SNAPSHOT, SOURCE_START_OLDEST, SOURCE_START_NOW };

enum source_state {
    SOURCE_CONNECTING, /* asking a server */
    SOURCE_ATTACHED,   /* the stream flows, or is known to be open (Nomad: the first `{}`) */
    SOURCE_BACKOFF,    /* waiting before the next try; the detail says why */
    SOURCE_ENDED,      /* nothing more will come (a replay's end) */
    SOURCE_FAILED,     /* its thread ended with an error */
};

typedef uint64_t source_digest(struct str event);

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
    /* What of an event's bytes counts, where events that tell nothing new of their key are to be
     * left out: those with the same digest, and type, as the last one. NULL inside: none are. May
     * be NULL. */
    source_digest *(*digest)(const void *settings);
    /* True where a source can't tell again what was missed while it was detached: then each
     * detachment is a gap. */
    bool no_replay;
    /* True where the source tells no stream of changes, but what there is: after each detachment it
     * tells all that has changed since the last index, whole, by its own knowledge of what changed.
     * So nothing has to be told twice to prove that nothing is missing, and there is no Gap; after
     * a restart a resync finds out what was deleted meanwhile. */
    bool tells_state;
    /* Whether its messages are lines of a Nomad's event stream, which the mirror then serves as
     * Nomad does, and of which region they are (*region stays NULL: not known). May be NULL: they
     * are not. */
    bool (*is_nomad)(const void *settings, const char **region);
    /* Whether its events are those of a Marathon's event bus, one a message, the message being the
     * event's bytes, `index` the time it tells in ms, which may go back. Nothing such a source
     * tells is a repeat, and an event is known again (by another instance) by its bytes. The mirror
     * serves them as Marathon does. May be NULL: they are not. */
    bool (*is_marathon)(const void *settings);
    /* How many requests a second a resync may send upstream. May be NULL where `snapshot` is. */
    unsigned (*snapshot_rate)(const void *settings);
    /* Reads the whole state and tells it to `resync` (resync.h says how), on a thread of the
     * resync's own, while `run` goes on in another: `self` is shared. 0: all was told, or
     * resync_stop was requested; -1, ERR_RETRY: it broke off (tried again after a while; what was
     * told need not be told again, see resync_listed). NULL: there is no state to be read. */
    int (*snapshot)(void *self, struct resync *resync, struct err *err);
    /* `settings` and `ingest` outlive the source. Connects to nothing yet. */
    void *(*create)(const void *settings, struct ingest *ingest);
    /* The thread. Returns 0 when ingest_stop was requested or nothing more will come (it said
     * SOURCE_ENDED), -1 where trying again can't help. Upstream failures are its own business: it
     * logs each change once, waits, tries on. */
    int (*run)(void *self, struct err *err);
    void (*destroy)(void *self); /* accepts NULL */
};

/* ---- ingest: all on the thread of `run` ---- */

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

/* Told below the last known index, and unknown, an event is out of place. Not so where the
 * connector knows that it comes late, because the source did not tell its namespace before. */
enum found_late {
    FOUND_IN_TIME,
    FOUND_MAYBE_LATE, /* a repeat only if known, or older than all that is known */
    FOUND_LATE,       /* a repeat only if known; and nothing of what comes late is missing before */
};

/* One event of a message, as the connector found it. */
struct found_event {
    struct str topic, type, key, ns; /* JSON-unescaped; need to live until the call returns */
    struct str filter_keys;          /* packed, see event.h */
    uint64_t index;
    int64_t time_us; /* 0: the source gives none */
    struct str data; /* within the message's raw bytes */
    enum found_late late;
};

/* A whole message with its events in their order. `raw` without its terminator. Messages that bring
 * nothing new are not journaled. With start `now` the connector leaves out what is older by not
 * calling this. Errors: what journal_append says; the connector returns it from run (the message is
 * not lost: it will be sent again at the next connection). A full disk is waited for inside
 * (ERR_RETRY never comes out). */
int ingest_message(struct ingest *ingest, struct str raw, const struct found_event *events,
                   size_t n_events, struct err *err);
/* What the next event will have as its seq in the journal: one more than all that it was told. */
uint64_t ingest_next_seq(const struct ingest *ingest);
/* The newest index known of the present epoch, in the journal or in a sink; 0: none. */
uint64_t ingest_last_index(struct ingest *ingest);
/* True where a message can't be placed: it tells something unknown below the last known index, and
 * this connection has not been judged yet. The connector then finds out whether the source's index
 * has started over, and says one of the next two before the message. */
bool ingest_is_out_of_place(struct ingest *ingest, const struct found_event *events,
                            size_t n_events);
/* It has: the epoch rises, a Gap is said, and everything from here on is new. */
int ingest_started_over(struct ingest *ingest, struct err *err);
/* It has not, this upstream only lags behind another: what it tells below the last known index is
 * taken for repeats, for this connection. */
void ingest_lags(struct ingest *ingest);
/* Some of what the source told between these indexes could not be had, and why: says a Gap, now.
 * Proves nothing of this connection otherwise. */
int ingest_missed(struct ingest *ingest, uint64_t from, uint64_t to, const char *reason,
                  struct err *err);
/* A terminated message that can't be read: becomes Busbar/Malformed with the bytes (cut at 1 MiB,
 * which it says) in base64. `size` is the whole size where `raw` is only its beginning (an
 * oversized one). */
int ingest_malformed(struct ingest *ingest, struct str raw, uint64_t size, const char *reason,
                     struct err *err);
/* Writes what came so far; call when nothing more is waiting to be read, and about every 200 ms
 * when idle. */
int ingest_flush(struct ingest *ingest, struct err *err);

#endif
