/* nomad_snapshot_read.h - one snapshot being read: what its parts share. */
#ifndef BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_READ_H
#define BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_READ_H

#include "bridge/route.h"
#include "connectors/nomad/nomad_snapshot_http.h"
#include "connectors/nomad/nomad_snapshot_list.h"
#include "connectors/nomad/nomad_snapshot_object.h"
#include "connectors/nomad/nomad_snapshot_topic.h"

struct snapshot_wanted; /* nomad_snapshot_alloc.c */

struct snapshot {
    const struct nomad_settings *settings;
    struct resync *resync;
    const char *source;
    struct filter *filter; /* what `topics` and `namespace` let through, wherever it is filtered */
    struct snapshot_http http;
    struct snapshot_namespaces namespaces;
    const struct snapshot_topic *topic;   /* being read */
    struct snapshot_object entry, object; /* of a listing, in full */
    struct snapshot_answer answer;        /* to the question for one object */
    struct snapshot_wanted *wanted;       /* allocations listed and not read yet */
    size_t unreadable;                    /* entries of a listing that make no sense */
    size_t untold;                        /* objects that are listed but can't be had */
};

/* Tells a full object, unless it is filtered out. */
int snapshot_tell(struct snapshot *s, struct snapshot_object *object, struct err *err);
/* Reads one object of the topic by its key, and tells it. One that is gone is no error. */
int snapshot_read_one(struct snapshot *s, struct str key, struct str ns, struct err *err);

/* ---- allocations (nomad_snapshot_alloc.c): full ones come by node, many at a time ---- */

/* Notes s->entry. */
void snapshot_alloc_want(struct snapshot *s);
/* Reads and tells all that were noted. */
int snapshot_alloc_read(struct snapshot *s, struct err *err);
void snapshot_alloc_fini(struct snapshot *s);

#endif
