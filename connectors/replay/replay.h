/* replay.h - a capture of a source's messages as a source: what `curl -N …/v1/event/stream` (Nomad)
 * or `…/v2/events` (Marathon) wrote into a file is told once more, byte for byte, then
 * SOURCE_ENDED. README.md tells how it behaves. */
#ifndef BUSBAR_CONNECTORS_REPLAY_REPLAY_H
#define BUSBAR_CONNECTORS_REPLAY_REPLAY_H

#include <stdint.h>

#include "bridge/source.h"
#include "config/settings.h"

struct replay_settings {
    const char *path;
    int format;   /* of replay.c's format_names */
    int64_t rate; /* events a second; 0: as fast as it goes */
};

extern const struct source_ops replay_source;

#endif
