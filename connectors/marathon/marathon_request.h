/* marathon_request.h - how a Marathon is asked: URL, headers, access, time limits. Every question
 * to Marathon goes through it. */
#ifndef BUSBAR_CONNECTORS_MARATHON_REQUEST_H
#define BUSBAR_CONNECTORS_MARATHON_REQUEST_H

#include "connectors/http_stream.h"
#include "connectors/marathon/marathon.h"

struct marathon_request {
    struct http_request http; /* points into the rest: don't move the struct */
    struct http_access access;
    struct buf url;
    struct http_headers headers;
};

/* `server` as configured, or where a redirect led to; `path` from its "/" on, with its query, both
 * encoded; `accept`: the value of the Accept header, the only one that is sent. Credentials
 * (token, username, headers) are shown only to hosts that the configuration names: to others the
 * request goes without. marathon_request_fini gives the memory back and wipes what may be secret.
 */
void marathon_request_init(struct marathon_request *request,
                           const struct marathon_settings *settings, const char *server,
                           const char *path, const char *accept, struct stop *stop);
/* Appends the path and query of the event stream: /v2/events with plan-format and event_type. Where
 * event_types leave event_stream_attached out it is asked for all the same: it is Marathon's word
 * that the stream is open, some ms after the question instead of the ten seconds to the first
 * heartbeat. source_ops.filter keeps it out. (1.7: HttpEventStreamServlet.scala: any other value of
 * plan-format than light counts as none.) */
void marathon_request_events(struct buf *path, const struct marathon_settings *settings);
void marathon_request_fini(struct marathon_request *request);

#endif
