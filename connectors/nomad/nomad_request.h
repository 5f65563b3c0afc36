/* nomad_request.h - how a Nomad server is asked: URL, headers, access, time limits. */
#ifndef BUSBAR_CONNECTORS_NOMAD_REQUEST_H
#define BUSBAR_CONNECTORS_NOMAD_REQUEST_H

#include "connectors/http_stream.h"
#include "connectors/nomad/nomad.h"

struct nomad_request {
    struct http_request http; /* points into the rest: don't move the struct */
    struct http_access access;
    struct buf url;
    struct http_headers headers;
};

/* `server` as configured, `path` from its "/" on. nomad_request_fini gives the memory back and
 * wipes what may be secret. */
void nomad_request_init(struct nomad_request *request, const struct nomad_settings *settings,
                        const char *server, const char *path, struct stop *stop);
/* Asks for the stream from `index` on (inclusive; 0: the oldest). With filter_at bridge everything
 * is asked for: Nomad's buffer is shared by all topics, so that only an unfiltered stream can prove
 * that nothing is missing. */
void nomad_request_stream(struct nomad_request *request, const struct nomad_settings *settings,
                          uint64_t index);
/* Makes it one of the HTTP API for the configured region: adds `query` ("a=b&c=d", already encoded;
 * NULL: none) and the region. */
void nomad_request_api(struct nomad_request *request, const struct nomad_settings *settings,
                       const char *query);
void nomad_request_fini(struct nomad_request *request);

#endif
