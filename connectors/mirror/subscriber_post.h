/* subscriber_post.h - one event to one callback: a POST, and whether it was taken.
 *
 * Blocking, over http_stream; one connection that is kept open between events. One thread at a
 * time. */
#ifndef BUSBAR_MIRROR_SUBSCRIBER_POST_H
#define BUSBAR_MIRROR_SUBSCRIBER_POST_H

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/base/stop.h"

struct poster;

/* `url` is copied; `cut` ends a POST at once and outlives the poster. */
struct poster *poster_new(const char *url, struct stop *cut);
void poster_free(struct poster **poster); /* NULL inside is fine */

/* 0: the answer was a 2xx, whatever its body. -1, ERR_RETRY: any other (redirects are not
 * followed), none within timeout_ms, no connection, cut. `id` is what the header Busbar-Event says,
 * NULL: nothing. Of an answer's body some KiB are read, and not for longer than 1 s: it is for
 * nobody, only the connection can't be used again before its end. */
int poster_send(struct poster *poster, struct str body, const char *id, int timeout_ms,
                struct err *err);

#endif
