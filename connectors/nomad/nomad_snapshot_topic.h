/* nomad_snapshot_topic.h - for each topic of the event stream, where Nomad's HTTP API has its
 * objects, and what is to be done to them so that they look as they do on the stream.
 *
 * Read in Nomad 1.5.0's source (nomad/state/events.go, command/agent/http.go) and compared on the
 * wire (tests/integration/test_resync.py); HostVolume, CSIVolume, CSIPlugin, NodePool and Variable
 * are read from the source and documentation of later versions. */
#ifndef BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_TOPIC_H
#define BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_TOPIC_H

#include <stdbool.h>
#include <stddef.h>

#include "connectors/nomad/nomad.h"

enum { SNAPSHOT_FILTER_KEYS_MAX = 3, SNAPSHOT_EDITS_MAX = 2 };

/* Every member `name` (of the object `outer` within the object, where that is set) gets `value`. */
struct snapshot_edit {
    const char *outer;
    const char *name;
    const char *value; /* JSON; NULL: the member is left out (at most one such in a topic) */
};

struct snapshot_topic {
    const char *name;
    const char *before; /* what stands in the event before the object: {"Job": */
    const char *list;   /* path of the listing */
    const char *query;  /* of the listing; NULL: none */
    const char *one;    /* path before the key; NULL: the listing gives full objects */
    const char *key;    /* member of the object and of its listing */
    const char *filter_keys[SNAPSHOT_FILTER_KEYS_MAX]; /* members; NULL ends them */
    struct snapshot_edit edits[SNAPSHOT_EDITS_MAX];    /* a NULL name ends them */
    bool namespaced;
    bool has_uuids; /* keys are UUIDs: the listing can be asked for by prefix */
    /* Nomad changes it without raising its ModifyIndex: the listing can't tell whether the stream
     * has told something newer. */
    bool index_is_late;
    bool only_named; /* only where `topics` names it, not for "*" */
    /* Not asked for where the topic before it in the table was not readable: the two came with the
     * same version of Nomad, or need the same rights. */
    bool follows;
};

/* In the order of reading; a NULL name ends them. */
extern const struct snapshot_topic snapshot_topics[];

/* Does `topics` let anything of it through? */
bool snapshot_topic_is_wanted(const struct snapshot_topic *topic,
                              const struct nomad_settings *settings);

#endif
