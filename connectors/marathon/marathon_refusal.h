/* marathon_refusal.h - puts into words why a server did not give its stream, and what to do about
 * it. */
#ifndef BUSBAR_CONNECTORS_MARATHON_REFUSAL_H
#define BUSBAR_CONNECTORS_MARATHON_REFUSAL_H

#include "connectors/http_stream.h"
#include "connectors/marathon/marathon.h"

/* An answer other than 200, and not a redirect that can be followed. */
struct marathon_refusal {
    int status;
    const char *wants; /* the header WWW-Authenticate; "": none */
    struct str text;   /* the body, or the beginning of it */
    bool trusted;      /* credentials were shown to this server, where there are any */
};

/* All set `err` (ERR_RETRY: what is wrong may be put right at the server) and return -1. */

int marathon_refusal_status(const struct marathon_settings *settings,
                            const struct marathon_refusal *refusal, struct err *err);
/* A 200 that is not an event stream, by its Content-Type. */
int marathon_refusal_type(const char *content_type, struct err *err);
/* A 200 that was closed before anything came. */
int marathon_refusal_not_ready(struct err *err);

#endif
