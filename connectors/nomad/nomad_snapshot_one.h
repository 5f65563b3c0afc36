/* nomad_snapshot_one.h - one object of Nomad's HTTP API, asked for by its name. */
#ifndef BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_ONE_H
#define BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_ONE_H

#include "connectors/nomad/nomad_snapshot_http.h"
#include "connectors/nomad/nomad_snapshot_topic.h"

struct snapshot_name {
    const struct snapshot_topic *topic; /* one that has `one` */
    struct str ns;                      /* may be empty */
    struct str key;
};

/* As snapshot_http_get. Nomad takes the end of a path for a question about what stands before it:
 * /v1/job/x/summary is never the job `x/summary`; and it redirects from // to /. So the caller
 * looks whether what came is what was asked for, and whether a 404 says anything
 * (snapshot_name_is_askable). */
int snapshot_one_get(struct snapshot_http *http, const struct snapshot_name *name,
                     struct snapshot_answer *answer, struct err *err);
/* False where the API may never tell this object, though it is there. */
bool snapshot_name_is_askable(const struct snapshot_name *name);
/* Appends `text`, percent-encoded. */
void snapshot_append_encoded(struct buf *url, struct str text);

#endif
