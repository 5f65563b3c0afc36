/* lines.h - what the followers of a Nomad's stream get: lines.
 *
 * Where every event of a message is wanted, the line is the message, byte for byte as Nomad sent
 * it. Else it is composed of the wanted events, each verbatim: {"Events":[…],"Index":N}. `{}` is
 * the beat, and whoever is cut is told so in Nomad's own words. */
#ifndef BUSBAR_MIRROR_LINES_H
#define BUSBAR_MIRROR_LINES_H

#include "connectors/mirror/followers.h"
#include "connectors/mirror/nomad_query.h"

/* One more follower of the source; takes over what the query wants. Not while clients_full. */
struct follower *lines_add(struct followers *followers, struct journal *journal, size_t source,
                           struct nomad_query *query, int64_t beat_ms);

#endif
