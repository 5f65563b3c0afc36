/* nomad_blocking_round.h - one server being polled: which tables there are, and a round through
 * them. */
#ifndef BUSBAR_CONNECTORS_NOMAD_BLOCKING_ROUND_H
#define BUSBAR_CONNECTORS_NOMAD_BLOCKING_ROUND_H

#include "bridge/source.h"
#include "connectors/nomad/nomad_blocking_line.h"
#include "connectors/nomad/nomad_blocking_order.h"
#include "connectors/nomad/nomad_blocking_table.h"
#include "connectors/nomad/nomad_snapshot_list.h"
#include "connectors/nomad/nomad_snapshot_object.h"

struct blocking {
    const struct nomad_settings *settings;
    struct ingest *ingest;
    struct filter *filter; /* of the source; may be NULL */
    char source[128];      /* its name, for logs */

    /* What outlives a connection. */
    struct order order;
    bool placed;               /* `order` knows where to begin */
    uint32_t refused, missing; /* topics whose refusal, or lack, stands in the log: a bit each */
    struct snapshot_trouble trouble;
    int64_t asked_us; /* when the next request is due */
    int64_t flushed_ms;
    bool failed; /* ingest takes no more: `failure` */
    struct err failure;

    /* The connection. */
    struct snapshot_http http;
    struct blocking_table tables[BLOCKING_TABLES_MAX];
    size_t n_tables;
    struct snapshot_namespaces namespaces;
    bool namespaces_fresh; /* read in this round */

    /* The round. */
    size_t table; /* being listed */
    uint64_t listed[BLOCKING_TABLES_MAX];
    size_t unreadable;
    struct snapshot_object entry, object;
    struct snapshot_answer answer;
    struct blocking_line line;
    struct buf deleted;
};

void blocking_fini(struct blocking *blocking);

/* A connection: `server` is not asked before blocking_survey. */
void blocking_open(struct blocking *blocking, const char *server);
void blocking_close(struct blocking *blocking);
/* Finds out which tables there are, and how far each is; all are still to be listed. -1, ERR_RETRY:
 * none, or no answer. */
int blocking_survey(struct blocking *blocking, struct err *err);
/* The largest index of all tables. */
uint64_t blocking_newest(const struct blocking *blocking);
/* Some table has changed since it was listed. */
bool blocking_is_due(const struct blocking *blocking);
/* Lists the tables that changed and tells what changed in them. -1: as for requests; or stopped; or
 * `failed`. */
int blocking_round(struct blocking *blocking, struct err *err);
/* Has ingest write what it has, about every 200 ms. -1: `failed`. */
int blocking_flush(struct blocking *blocking, struct err *err);
/* Counts `n` more requests. */
void blocking_charge(struct blocking *blocking, size_t n);

#endif
