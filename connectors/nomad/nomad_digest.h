/* nomad_digest.h - what of a Nomad event counts where unchanged ones are to be left out. Pure. */
#ifndef BUSBAR_CONNECTORS_NOMAD_DIGEST_H
#define BUSBAR_CONNECTORS_NOMAD_DIGEST_H

#include <stdint.h>

#include "bridge/base/buf.h"

/* A hash of the Payload of `event` (the event's bytes, valid JSON), the same for any order of an
 * object's members: Nomad writes maps in a random one. Left out, wherever they stand, are the
 * numbers named ModifyTime or …Index: they change with every write to Nomad's state, whatever was
 * written (ModifyIndex, LastAllocUpdateIndex, …; nomad/structs in Nomad's source). Linear in the
 * bytes, no memory. */
uint64_t nomad_digest(struct str event);

#endif
