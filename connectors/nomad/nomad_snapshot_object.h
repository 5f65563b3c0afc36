/* nomad_snapshot_object.h - an object of Nomad's HTTP API made an event of its stream's shape.
 * Pure: no I/O. The object's bytes are the API's, but for the members that snapshot_topic says. */
#ifndef BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_OBJECT_H
#define BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_OBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/source.h"
#include "connectors/nomad/nomad_snapshot_topic.h"

enum { SNAPSHOT_CUTS_MAX = 8 };

/* What was read of an object, or of its entry in a listing. All zero is a good start; used again
 * for one after another. */
struct snapshot_object {
    /* For resync_listed and resync_object: views into the object's text, and into the buffers
     * below. `data` is empty before snapshot_object_event. */
    struct found_event event;
    struct str node;       /* member NodeID, raw: of allocations */
    uint64_t modify_index; /* as it stands there; event.index may be later (index_is_late) */

    /* private */
    const struct snapshot_topic *topic;
    struct str raw;                                        /* the object */
    struct str key_json, ns_json;                          /* raw, without quotes */
    struct str filter_keys_json[SNAPSHOT_FILTER_KEYS_MAX]; /* raw, without quotes */
    struct snapshot_cut {
        struct str at; /* within raw */
        const char *value;
    } cuts[SNAPSHOT_CUTS_MAX];
    size_t n_cuts;
    struct buf key, ns, filter_keys, scratch, data;
};

void snapshot_object_fini(struct snapshot_object *object);

/* Reads `raw`, a JSON object, which has to live as long as the result is used. ERR_INPUT: not an
 * object, no key in it, a member of the wrong type. */
int snapshot_object_read(struct snapshot_object *object, const struct snapshot_topic *topic,
                         struct str raw, struct err *err);
/* Makes the event of it, of type Snapshot: event.data. For full objects only. */
void snapshot_object_event(struct snapshot_object *object);
/* The same, of the type `type` (a literal, nothing in it to be escaped), at event.index. */
void snapshot_object_event_of(struct snapshot_object *object, const char *type);

#endif
