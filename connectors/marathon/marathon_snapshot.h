/* marathon_snapshot.h - reads a Marathon's whole state for a resync: apps with their tasks and
 * deployments, pods, deployments, groups.
 *
 * Told as {"appDefinition":OBJECT,"eventType":"Snapshot","timestamp":"…"} (topic App, the member's
 * name as in api_post_event), "pod", "plan" and "group" likewise, each OBJECT byte for byte as the
 * API has it (of a group's members the ids only), the timestamp that of the moment it was asked
 * for. STATE.md says the rest. */
#ifndef BUSBAR_CONNECTORS_MARATHON_SNAPSHOT_H
#define BUSBAR_CONNECTORS_MARATHON_SNAPSHOT_H

#include "bridge/resync.h"
#include "connectors/marathon/marathon.h"

/* What source_ops.snapshot does (source.h). `server`: whom the stream is attached to, or asked
 * last; a copy of the caller's, "" where none is known. On the resync's thread. */
int marathon_snapshot(const struct marathon_settings *settings, struct ingest *ingest,
                      const char *server, struct resync *resync, struct err *err);

#endif
