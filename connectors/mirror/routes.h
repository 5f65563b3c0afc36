/* routes.h - who answers which path of the mirror, and who may ask. */
#ifndef BUSBAR_MIRROR_ROUTES_H
#define BUSBAR_MIRROR_ROUTES_H

#include "bridge/bridge.h"
#include "bridge/metrics.h"
#include "connectors/http_server.h"
#include "connectors/mirror/clients.h"
#include "connectors/mirror/feed.h"
#include "connectors/mirror/followers.h"
#include "connectors/mirror/marathon_stream.h"
#include "connectors/mirror/mirror.h"
#include "connectors/mirror/subscribers.h"

/* What the answers are made from; all of it outlives the server. */
struct routes {
    const struct mirror_settings *settings;
    const char *bridge_name;
    struct bridge *bridge;
    struct metrics *metrics;
    struct feed *feed;
    struct clients *clients;
    struct followers *followers;
    struct marathon_streams *marathon_streams;
    struct subscribers *subscribers;
    size_t subscribers_max;
};

/* On the server's thread. */
void routes_answer(struct routes *routes, const struct http_request *request,
                   struct http_answer *answer);

/* ---- for the pages ---- */

/* A page's answer to one request, token and method included. `name`: the source named by the path,
 * p NULL where none is. */
typedef void routes_page(struct routes *r, struct str name, const struct http_request *request,
                         struct http_answer *answer);

/* The answer to a streaming client beyond the limit. */
void routes_turn_away(struct routes *routes, const struct http_request *request,
                      struct http_answer *answer);

#endif
