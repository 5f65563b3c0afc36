/* ingest.h - the pipeline's side of ingest: how one is made, and what is known about its source.
 * See source.h for the connector's side. */
#ifndef BUSBAR_INGEST_H
#define BUSBAR_INGEST_H

#include "bridge/arrival.h"
#include "bridge/journal.h"
#include "bridge/metrics.h"
#include "bridge/source.h"

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
    /* Asked where the journal is empty: has every sink said whether it has a checkpoint, and has
     * any one? */
    bool (*checkpoints)(void *arg, bool *any);
    void (*news)(void *arg); /* after each commit, on the connector's thread */
    uint64_t (*passed)(
        void *arg); /* before this seq nothing is wanted by any sink; asked about every second */
    void *arg;
};

/* Reads the newest identities back from the journal. */
int ingest_new(struct ingest **out, const struct ingest_options *options, struct err *err);
void ingest_free(struct ingest **ingest);

/* A copy of what /status tells; any thread. */
struct ingest_status {
    enum source_state state;
    int64_t since_us; /* wall clock of the last change */
    int64_t heard_us; /* wall clock of the last sign of life, 0: none yet */
    uint64_t last_index;
    char server[256];
    char detail[512]; /* the last error, kept while it lasts */
};
void ingest_get_status(struct ingest *ingest, struct ingest_status *out);
const char *source_state_name(enum source_state state);

#endif
