/* marathon_leader.h - where a redirect to the leader leads, and whom credentials are shown to.
 *
 * Since 1.7 a master that does not lead answers GET /v2/events by 302 and the leader's address
 * (1.11: core/election, api/LeaderProxyFilter.scala). What it names is taken apart and put together
 * anew, so that nobody else reads it differently. Pure; any thread. */
#ifndef BUSBAR_CONNECTORS_MARATHON_LEADER_H
#define BUSBAR_CONNECTORS_MARATHON_LEADER_H

#include <stdbool.h>

#include "connectors/http_stream.h"
#include "connectors/marathon/marathon.h"

enum { MARATHON_SERVER_MAX = 320 }; /* of a server as it is written here, with its end */

/* `server`, as configured or as marathon_leader_follow wrote it, in the one way that two of the
 * same are equal as text: host in small letters, the port always there, no "/" at the end. A
 * socket's as it is. False where it is none, or too long. */
bool marathon_leader_normal(const char *server, char out[MARATHON_SERVER_MAX]);
/* Where `location` (of an answer from `from`) leads to: the server as marathon_leader_normal writes
 * it. -1, ERR_RETRY: to no event stream of a Marathon. */
int marathon_leader_follow(const char *from, const char *location, char out[MARATHON_SERVER_MAX],
                           struct err *err);
/* Is it one of the configured servers, by host and port? One that is configured with https is not
 * where it is to be asked without. */
bool marathon_leader_is_configured(const struct marathon_settings *settings, const char *server);

#endif
