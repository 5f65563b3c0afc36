/* redis_sink.h - the Redis sink: events as entries of Redis streams, exactly once.
 *
 * Each batch is one call of one Lua script that compares owner and checkpoint, checks every stream,
 * then adds the entries and moves the checkpoint; on any difference it writes nothing. Where much
 * comes, a transaction under WATCH does the same at half the cost (redis_transaction.h). Keys of
 * its own, all with the source as hash tag:
 *
 *     PREFIX:{SOURCE}:BRIDGE.SINK:checkpoint   the checkpoint's text
 *     PREFIX:{SOURCE}:BRIDGE.SINK:owner        "EPOCH TOKEN" of the process that may publish
 *     PREFIX:{SOURCE}:BRIDGE.SINK:lease        its instance, while it is alive (redis_owner.h)
 *
 * Results, where sink.h leaves a choice: a connection that breaks or goes silent is SINK_UNKNOWN
 * from publish and read_checkpoint, whatever was sent, so that the loop opens anew. SINK_RETRY from
 * publish means that Redis answered that it cannot now (OOM, LOADING, BUSY, NOREPLICAS, …) and the
 * connection is good. After SINK_FATAL the loop opens anew too. With `standby: false` open is
 * SINK_FENCED only for a process that was owner before and finds a successor; one that is new takes
 * the pair over. With `standby: true` it is SINK_STANDBY while another one's lease lives; the
 * connection is kept, so that asking again is one round trip. */
#ifndef BUSBAR_REDIS_SINK_H
#define BUSBAR_REDIS_SINK_H

#include "bridge/sink.h"

extern const struct sink_ops redis_sink;

#endif
