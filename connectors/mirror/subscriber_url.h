/* subscriber_url.h - what may be a callback's URL, and what of it people are shown. */
#ifndef BUSBAR_MIRROR_SUBSCRIBER_URL_H
#define BUSBAR_MIRROR_SUBSCRIBER_URL_H

#include "bridge/base/buf.h"

enum { SUBSCRIBER_URL_MAX = 2048 };

/* NULL where events can be sent there: http or https, a host, a port of 1 to 65535 if any, user and
 * password if any (HTTP basic), printable ASCII. Else what is wrong with it. */
const char *subscriber_url_check(struct str url);

/* Appends scheme, host, port and path: neither user and password, nor the query, which often holds
 * a token too. For logs and /status. */
void subscriber_url_label(struct buf *out, const char *url);

#endif
