/* routes.h - who answers which path of the mirror, and who may ask. */
#ifndef BUSBAR_MIRROR_ROUTES_H
#define BUSBAR_MIRROR_ROUTES_H

#include "bridge/bridge.h"
#include "bridge/metrics.h"
#include "connectors/http_server.h"
#include "connectors/mirror/clients.h"
#include "connectors/mirror/feed.h"
#include "connectors/mirror/mirror.h"

/* What the answers are made from; all of it outlives the server. */
struct routes {
    const struct mirror_settings *settings;
    const char *bridge_name;
    struct bridge *bridge;
    struct metrics *metrics;
    struct feed *feed;
    struct clients *clients;
};

/* On the server's thread. */
void routes_answer(struct routes *routes, const struct http_request *request,
                   struct http_answer *answer);

#endif
