/* nomad_snapshot.h - reads a region's whole state by Nomad's HTTP API and tells it to a resync, as
 * events of the stream's own shape. STATE.md tells what is read, and where it differs from what
 * the stream tells. */
#ifndef BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_H
#define BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_H

#include <stdint.h>

#include "bridge/resync.h"
#include "connectors/nomad/nomad.h"
#include "connectors/nomad/nomad_snapshot_http.h"

/* What outlives one call: which server is next, what was logged. All zero is the beginning. */
struct snapshot_memory {
    size_t server;
    struct snapshot_trouble trouble;
    uint32_t told; /* topics whose refusal stands in the log, a bit each */
};

/* source_ops.snapshot. From one server of the list; where that fails the next call takes the next
 * one. `source`: its name for logs. */
int snapshot_read(const struct nomad_settings *settings, struct str source, struct resync *resync,
                  struct snapshot_memory *memory, struct err *err);

#endif
