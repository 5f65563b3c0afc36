/* redis_batch.h - from a batch of events to the arguments of redis_script_publish.
 *
 * Events are grouped by stream, in each stream in their order. An entry's id is the event's
 * position, INDEX-ORDINAL; within the batch it is made to rise where positions don't (Busbar's own
 * events may share one, and 0-0 is no valid id): the last id plus one. Towards what a stream
 * already holds the script does the same. */
#ifndef BUSBAR_REDIS_BATCH_H
#define BUSBAR_REDIS_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/route.h"
#include "bridge/sink.h"
#include "connectors/redis/redis_command.h"

/* Of one script call. It holds up every other client of that Redis: 256 events take about 5 ms. */
enum { REDIS_BATCH_EVENTS_MAX = 256, REDIS_BATCH_BYTES_MAX = 1 << 20 };
/* Redis' own limit of one argument (proto-max-bulk-len, by default). */
#define REDIS_BULK_MAX ((size_t)512 << 20)

struct redis_stream {
    size_t name_at, name_len; /* in `names` */
    uint16_t first, last;     /* its events, chained by redis_entry.next */
    uint16_t count;
    uint64_t ms, seq; /* the last id given to it */
};

struct redis_entry {
    uint64_t ms, seq; /* its id */
    uint16_t next;    /* the next event of the same stream */
};

struct redis_batch {
    struct buf names;
    struct buf scratch;
    struct clock_kept time;
    size_t n_streams;
    struct redis_stream streams[REDIS_BATCH_EVENTS_MAX];
    struct redis_entry entries[REDIS_BATCH_EVENTS_MAX];
    uint16_t slots[2 * REDIS_BATCH_EVENTS_MAX]; /* a hash table: number of a stream plus one */
};

void redis_batch_fini(struct redis_batch *plan);

/* Sorts the events (REDIS_BATCH_EVENTS_MAX at most) into streams by the template. */
void redis_batch_plan(struct redis_batch *plan, const struct template *stream,
                      const struct batch *batch);

/* The name of the i-th stream, as long as the plan lives. */
struct str redis_batch_stream(const struct redis_batch *plan, size_t i);
/* Gives the entries of the i-th stream their ids anew, behind its last one (ms-seq). */
void redis_batch_number(struct redis_batch *plan, size_t i, const struct batch *batch, uint64_t ms,
                        uint64_t seq);

/* What a publish needs besides the events. */
struct redis_publish {
    const char *sha; /* of the script, 40 hex digits */
    const char *checkpoint_key;
    const char *owner_key, *lease_key;
    const char *instance;
    int64_t lease_ms;    /* 0: no need to renew the lease */
    struct str owner;    /* as the owner key holds it */
    struct str expected; /* the checkpoint as it is there; empty: none */
    struct str next;     /* the checkpoint to set */
    uint64_t max_entries;
};

/* EVALSHA for the planned batch; it points into the events and `publish`. */
void redis_batch_command(struct redis_batch *plan, const struct redis_publish *publish,
                         const struct batch *batch, struct redis_command *cmd);

/* The same as XADD and XTRIM commands, behind what is in `cmd`; each id must follow its stream's.
 */
void redis_batch_xadds(struct redis_batch *plan, const struct redis_publish *publish,
                       const struct batch *batch, struct redis_command *cmd);

/* The first event that Redis will never take, batch->n where there is none. */
size_t redis_batch_oversized(const struct batch *batch);

#endif
