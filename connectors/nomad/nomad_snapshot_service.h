/* nomad_snapshot_service.h - services: listed by namespace and name, in full name by name. */
#ifndef BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_SERVICE_H
#define BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_SERVICE_H

#include "connectors/nomad/nomad_snapshot_list.h"

bool snapshot_is_service(const struct snapshot_topic *topic);

/* As snapshot_list_read, for a topic that snapshot_is_service: `list->take` gets the services in
 * full, of each name in turn. What makes no sense, or could not be listed, is added to *unreadable.
 * The result is that of the listing of names. */
int snapshot_service_read(struct snapshot_list *list, size_t *unreadable, struct err *err);

#endif
