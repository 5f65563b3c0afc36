/* nomad_blocking.h - a Nomad region as a source without its event stream: by long polls of its HTTP
 * API (Nomad's HTTP API documentation, "Blocking Queries"). BLOCKING.md tells how it behaves, and
 * what it can't see. */
#ifndef BUSBAR_CONNECTORS_NOMAD_BLOCKING_H
#define BUSBAR_CONNECTORS_NOMAD_BLOCKING_H

#include "bridge/source.h"

extern const struct source_ops nomad_blocking_source;

#endif
