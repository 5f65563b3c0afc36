/* nomad.h - a Nomad region as a source: its event stream, GET /v1/event/stream (Nomad's HTTP API
 * documentation, "Events"). README.md tells how it behaves. */
#ifndef BUSBAR_CONNECTORS_NOMAD_NOMAD_H
#define BUSBAR_CONNECTORS_NOMAD_NOMAD_H

#include <stdint.h>

#include "bridge/source.h"
#include "config/settings.h"
#include "connectors/http_access.h"

struct http_token;

enum nomad_filter_at { NOMAD_FILTER_AT_BRIDGE, NOMAD_FILTER_AT_SERVER };

struct nomad_settings {
    struct http_access_settings access; /* first: its rows are shared with other sources */
    struct setting_list servers;        /* http(s)://HOST:PORT or unix:///PATH, tried in turn */
    const char *token, *token_file;     /* NULL and "": none */
    struct http_token *file_token; /* token_file's, for a source's life; NULL: read statelessly */
    const char *ns;
    const char *region; /* NULL: the server's own */
    struct setting_list topics;
    int filter_at; /* enum nomad_filter_at */
    int start;     /* enum source_start */
    int64_t silence_ms;
    int64_t connect_timeout_ms;
    int64_t snapshot_rate; /* requests a second */
    bool drop_unchanged;
    int64_t wait_ms; /* nomad_blocking: how long one question may stay open */
};

extern const struct source_ops nomad_source;

#endif
