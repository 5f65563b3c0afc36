/* nomad_doubles.h - what Nomad tells twice because it was asked for twice. Pure. */
#ifndef BUSBAR_CONNECTORS_NOMAD_DOUBLES_H
#define BUSBAR_CONNECTORS_NOMAD_DOUBLES_H

#include "bridge/source.h"

/* Asked for several keys, Nomad tells an event once for each of them that it matches, one right
 * behind the other in the same line (1.5.0: nomad/stream/subscription.go, filter). Leaves the first
 * of each; returns how many are left. Their bytes may differ: each is encoded anew, the members of
 * maps in random order. What else one index tells twice of a key (a dead job that is registered
 * again: first dead, then pending) differs in more than that and stays. */
size_t nomad_drop_doubles(struct found_event *events, size_t n_events);

#endif
