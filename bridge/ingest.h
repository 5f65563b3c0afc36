/* ingest.h - the pipeline's side of ingest: how one is made, and what is known about its source.
 * See source.h for the connector's side. */
#ifndef BUSBAR_INGEST_H
#define BUSBAR_INGEST_H

#include "bridge/arrival.h"
#include "bridge/journal.h"
#include "bridge/latest.h"
#include "bridge/metrics.h"
#include "bridge/source.h"

/* The newest (epoch, index) that any sink holds. */
struct known_checkpoint {
    bool any;
    uint32_t epoch;
    uint64_t index;
};

/* All outlive the ingest. */
struct ingest_options {
    const char *source;
    struct journal *journal;
    struct arrival *arrival;
    size_t arrival_slot;
    struct metrics *metrics;
    struct filter *filter; /* owned by the ingest from now on; may be NULL */
    struct stop *stop;
    enum source_start start;
    bool no_replay;        /* see source_ops, */
    bool tells_state;      /* likewise */
    bool by_bytes;         /* is_marathon */
    source_digest *digest; /* also; NULL: what tells nothing new is told */
    /* What the sinks' checkpoints say of this source: false as long as a sink has not been asked.
     */
    bool (*checkpoints)(void *arg, struct known_checkpoint *known);
    void (*news)(void *arg); /* after each commit, on the connector's thread */
    uint64_t (*passed)(
        void *arg); /* before this seq nothing is wanted by any sink; asked about every second */
    void *arg;
};

/* Reads the newest identities back from the journal. */
int ingest_new(struct ingest **out, const struct ingest_options *options, struct err *err);
void ingest_free(struct ingest **ingest);

/* ---- for the resync's thread: the connector waits meanwhile, so not for long ---- */

/* Between the two nobody else writes the journal, and all that came before is readable. Where it
 * fails nothing is locked. */
int ingest_lock(struct ingest *ingest, struct err *err);
/* Commits what was told; unlocks in any case. */
int ingest_unlock(struct ingest *ingest, struct err *err);
/* Within: an event of Busbar's own (topic Busbar); *seq is its sequence number. */
int ingest_tell_own(struct ingest *ingest, const char *type, struct str payload, uint64_t *seq,
                    struct err *err);
/* Within: an event of a resync (EVENT_SNAPSHOT): topic, type, ns, key, filter_keys, index, data.
 * *told is false where the source's filter leaves it out. Positions don't rise to its index. */
int ingest_tell_object(struct ingest *ingest, const struct found_event *object, bool *told,
                       struct err *err);

/* Moves to *latest (an empty one, to be freed by latest_fini) what was journaled since the last
 * call or, the first time, since the ingest was made; all of it can be read by then. False where it
 * can't be journaled now: the disk is full. */
bool ingest_take_latest(struct ingest *ingest, struct latest *latest);
/* How far the next one goes; doesn't wait for anybody. */
enum latest_end ingest_latest_end(const struct ingest *ingest);

/* A copy of what /status tells; any thread. */
struct ingest_status {
    enum source_state state;
    int64_t since_us; /* wall clock of the last change */
    int64_t heard_us; /* wall clock of the last sign of life, 0: none yet */
    uint64_t last_index;
    uint32_t epoch;
    char server[256];
    char detail[512]; /* the last error, kept while it lasts */
};
void ingest_get_status(struct ingest *ingest, struct ingest_status *out);
const char *source_state_name(enum source_state state);

#endif
