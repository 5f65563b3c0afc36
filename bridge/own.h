/* own.h - what Busbar itself says: compact JSON in Nomad's shape, the same for every source
 * (DESIGN: "Busbar's own events"):
 * {"Topic":"Busbar","Type":…,"Key":SOURCE,"Namespace":"","Index":N,"Payload":{…}}, keys in this
 * order. */
#ifndef BUSBAR_OWN_H
#define BUSBAR_OWN_H

#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/event.h"

#define OWN_TOPIC "Busbar"
#define OWN_RESYNC_STARTED "ResyncStarted"
#define OWN_RESYNC_FINISHED "ResyncFinished"

/* Appends the event's bytes. `payload` is a JSON object. */
void own_render(struct buf *out, const char *type, struct str source, uint64_t index,
                struct str payload);

/* A Marathon's: what was under way on either side, in another order, may be missing too. */
void own_gap_widen(uint64_t *from, uint64_t *to);
/* What lies between, of a Gap as own_render made it; false where it is none. */
bool own_gap_range(struct str data, uint64_t *from, uint64_t *to);
/* Payload of a Gap: {"From":N,"To":N,"Reason":TEXT}: what lies between the two indexes may be
 * missing. */
void own_gap_payload(struct buf *out, uint64_t from, uint64_t to, const char *reason);

/* Payload of ResyncStarted: {"Reason":TEXT}. */
void own_resync_payload(struct buf *out, const char *reason);

/* Payload of Malformed: {"Reason":TEXT,"Size":BYTES,"Truncated":BOOL,"Base64":"…"}; raw is cut at 1
 * MiB. */
void own_malformed_payload(struct buf *out, struct str raw, uint64_t size, const char *reason);

/* Payload of Rejected: which event, why, where the full one can be read. An id of more than 1,024
 * bytes is cut there: a key may be as large as the event that was refused. */
void own_rejected_payload(struct buf *out, struct str source, uint64_t journal_id,
                          const struct event *event, const char *reason);

/* An event of Busbar's own with these bytes; `index`, position and seq are its caller's. */
struct event own_event(const char *type, struct str source, struct str data);

#endif
