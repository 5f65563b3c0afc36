/* nomad_leader.h - what the leader says: how far its state is, to tell an index that has started
 * over (a rebuilt cluster) from a server that only lags; and whether there is one. */
#ifndef BUSBAR_CONNECTORS_NOMAD_LEADER_H
#define BUSBAR_CONNECTORS_NOMAD_LEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/err.h"
#include "bridge/base/stop.h"
#include "connectors/nomad/nomad.h"

/* Asks through `server`, which forwards to the leader, how far the leader's state is: *index = the
 * largest X-Nomad-Index over the lists of all tables that have topics. Each is the raft index of
 * that table's last change (Nomad's HTTP API documentation, "Blocking Queries"), and whatever was
 * told at an index changed one of these tables: so *index is at least every index ever told, unless
 * the index has started over. Takes some milliseconds, at most some 15 s; a stop request ends it.
 * -1, ERR_RETRY: no leader, no answer, or the token may not list what its events come from. */
int nomad_leader_index(const struct nomad_settings *settings, const char *server, struct stop *stop,
                       uint64_t *index, struct err *err);

enum leader_verdict {
    LEADER_UNKNOWN,  /* could not be found out */
    LEADER_IS_AHEAD, /* its index is at or above the last: who tells something older lags */
    LEADER_STARTED_OVER,
    LEADER_REPLAYS, /* was restarted, applies its log: no answer yet, and none will be better */
};

/* Has the index started over since `last` was told? Only where the leader's lists say so twice, two
 * seconds apart (a leader that was paused and replaced answers from its old state until it
 * notices), and the raft log of `server`, where the token may read it (agent:read), does not reach
 * `last` either: a log that does is the old one, whatever of it has been applied. 0: ahead or
 * started over. -1, ERR_RETRY, as above: unknown, or the leader replays; that has then taken two
 * seconds at least, so that it can be asked again at once. */
int nomad_leader_judge(const struct nomad_settings *settings, const char *server, struct stop *stop,
                       uint64_t last, enum leader_verdict *verdict, struct err *err);

/* Asks `server` itself whether it is there and knows a leader: a frozen one gives no answer, one
 * that is cut off from the others goes on sending heartbeats, but no events. -1, ERR_RETRY: no
 * answer within timeout_ms, or no leader; 0 for whatever else it says. */
int nomad_leader_is_known(const struct nomad_settings *settings, const char *server,
                          struct stop *stop, int timeout_ms, struct err *err);

#endif
