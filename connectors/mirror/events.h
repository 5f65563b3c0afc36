/* events.h - what a GET /events asks for: its query and Last-Event-ID become a client_plan. */
#ifndef BUSBAR_MIRROR_EVENTS_H
#define BUSBAR_MIRROR_EVENTS_H

#include "bridge/base/err.h"
#include "connectors/http_server.h"
#include "connectors/mirror/clients.h"
#include "connectors/mirror/feed.h"

/* The feed must have been started. ERR_INPUT: the request is wrong, the message (one line) says
 * how; ERR_RETRY: a journal can't be read now. The plan is empty then. */
int events_plan(const struct feed *feed, const struct http_request *request,
                struct client_plan *plan, struct err *err);

#endif
