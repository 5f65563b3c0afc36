/* nomad_page.h - the paths of Nomad's HTTP API that the mirror answers as a Nomad does (1.5.0):
 *
 *     /v1/event/stream     whole
 *     /v1/status/leader    a leader is known while the source is attached
 *     /v1/jobs allocations evaluations deployments, with per_page=1: how far the state is, as a
 *                          busbar asks that follows this one; the head only, no list
 *
 * and the same below /sources/NAME. Without a name they are those of the one Nomad there is, or of
 * the one of the region that is asked for. */
#ifndef BUSBAR_MIRROR_NOMAD_PAGE_H
#define BUSBAR_MIRROR_NOMAD_PAGE_H

#include "connectors/mirror/routes.h"

routes_page nomad_page_stream;
routes_page nomad_page_leader;
routes_page nomad_page_index;

#endif
