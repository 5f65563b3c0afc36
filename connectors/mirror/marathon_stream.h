/* marathon_stream.h - GET /v2/events of one Marathon, for followers: who listens, and what each is
 * told.
 *
 * The events that the source told, each as its frame, in their order; and what the mirror tells of
 * its own: who else attached and detached, each event of that kind at its place between the
 * source's. These are not journaled. All on the mirror's thread. */
#ifndef BUSBAR_MIRROR_MARATHON_STREAM_H
#define BUSBAR_MIRROR_MARATHON_STREAM_H

#include "connectors/http_server.h"
#include "connectors/mirror/feed.h"
#include "connectors/mirror/followers.h"

/* All streams of all sources. */
struct marathon_streams;

struct marathon_streams *marathon_streams_new(struct feed *feed, struct followers *followers);
void marathon_streams_free(struct marathon_streams **streams); /* all must have been closed */

/* One more listens, to the types that the query's `event_type=` name, exactly; all where there is
 * none. Tells it and the others that `address` has attached, and the others once it is gone. Not
 * while clients_full. */
struct follower *marathon_streams_add(struct marathon_streams *streams, size_t source,
                                      const struct http_request *request, const char *address,
                                      int64_t beat_ms);

/* Tells all who listen to the source an event of the mirror's own making; its place is behind what
 * the journal has by now. `type` is a constant, `data` its JSON of at most 3 KiB. Whoever is more
 * than ASIDES_MAX of these behind misses the oldest. */
void marathon_streams_tell(struct marathon_streams *streams, size_t source, const char *type,
                           struct str data);

#endif
