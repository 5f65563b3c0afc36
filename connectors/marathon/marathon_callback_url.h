/* marathon_callback_url.h - the address that Marathon is told to call, and whether a request is
 * meant for it. Pure; any thread. */
#ifndef BUSBAR_CONNECTORS_MARATHON_CALLBACK_URL_H
#define BUSBAR_CONNECTORS_MARATHON_CALLBACK_URL_H

#include <stdbool.h>

#include "bridge/base/buf.h"

enum {
    CALLBACK_URL_MAX = 1024,
    CALLBACK_SECRET_MIN = 16, /* characters of path and query that hold a secret */
};

/* setting.check of `callback_url`: http(s)://HOST[:PORT]/PATH[?QUERY], as Marathon's HTTP client
 * takes it: no user, no fragment, nothing that had to be encoded. */
const char *callback_url_expected(const char *url);
/* How long it is without path and query, which logs must not show. */
size_t callback_url_origin(const char *url);
/* How many characters of path and query a stranger would have to guess. */
size_t callback_url_secret(const char *url);

/* What a request must be for, each made comparable: the path decoded, the query's parameters as
 * they are decoded, "NAME\0VALUE\0" one after the other. */
struct callback_target {
    struct buf path, query;
};

void callback_target_init(struct callback_target *target, const char *url);
void callback_target_fini(struct callback_target *target);
/* One more parameter, as callback_target_init has them from an URL. */
void callback_target_add(struct buf *query, struct str name, struct str value);
/* Takes as long for each wrong path of the right length, so that none can be guessed by parts. */
bool callback_target_is(const struct callback_target *target, struct str path, struct str query);

#endif
