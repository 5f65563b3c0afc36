/* nomad_blocking_table.h - one polled table, and how it is asked whether it changed. */
#ifndef BUSBAR_CONNECTORS_NOMAD_BLOCKING_TABLE_H
#define BUSBAR_CONNECTORS_NOMAD_BLOCKING_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "connectors/nomad/nomad_snapshot_http.h"
#include "connectors/nomad/nomad_snapshot_topic.h"

enum { BLOCKING_TABLES_MAX = 32 };

struct blocking_table {
    const struct snapshot_topic *topic;
    bool readable;   /* the server has it, and the token may list it */
    uint64_t seen;   /* the newest X-Nomad-Index of it, at least 1 */
    uint64_t listed; /* all that changed up to here was listed and told */
};

/* Asks for the table's index: by a page of one entry, and with `after` > 0 only once it is above
 * that, or the setting `wait` is over (Nomad's HTTP API documentation, "Blocking Queries"). 0:
 * *index is at least 1, or 0 where there is no such table for this token: `answer` has what the
 * server said. -1, ERR_RETRY: as snapshot_http_get. */
int blocking_table_ask(struct snapshot_http *http, const struct snapshot_topic *topic,
                       uint64_t after, struct snapshot_answer *answer, uint64_t *index,
                       struct err *err);

#endif
