/* nomad.h - a Nomad region as a source: its event stream, GET /v1/event/stream (Nomad's HTTP API
 * documentation, "Events"). README.md tells how it behaves. */
#ifndef BUSBAR_CONNECTORS_NOMAD_NOMAD_H
#define BUSBAR_CONNECTORS_NOMAD_NOMAD_H

#include <stdint.h>

#include "bridge/source.h"
#include "config/settings.h"

enum nomad_filter_at { NOMAD_FILTER_AT_BRIDGE, NOMAD_FILTER_AT_SERVER };

struct nomad_settings {
    struct setting_list servers; /* http(s)://HOST:PORT, tried in turn */
    const char *token;           /* NULL: none */
    const char *ns;
    const char *region; /* NULL: the server's own */
    struct setting_list topics;
    int filter_at; /* enum nomad_filter_at */
    int start;     /* enum source_start */
    int64_t silence_ms;
    int64_t connect_timeout_ms;
};

extern const struct source_ops nomad_source;

#endif
