/* marathon_snapshot_http.h - one question after another to Marathon's HTTP API, for a resync. */
#ifndef BUSBAR_CONNECTORS_MARATHON_SNAPSHOT_HTTP_H
#define BUSBAR_CONNECTORS_MARATHON_SNAPSHOT_HTTP_H

#include "bridge/resync.h"
#include "connectors/http_stream.h"
#include "connectors/marathon/marathon.h"

/* Of one question. An answer that keeps to none of these is broken off, ERR_RETRY. */
struct marathon_asker_limits {
    int silence_ms;     /* for the answer to begin, and between its pieces */
    int64_t whole_ms;   /* for all of it */
    uint64_t bytes_max; /* of its body */
};
extern const struct marathon_asker_limits marathon_asker_limits; /* 30 s, 10 minutes, 1 GiB */

struct marathon_asker {
    const struct marathon_settings *settings;
    struct resync *resync;
    const char *server;
    struct marathon_asker_limits limits;
    struct http_session *session; /* one connection for all questions */
    bool lost; /* the last question has no answer: the server can't be reached, or it broke off */
    int64_t asked_us; /* when the last question was asked, wall clock */
};

void marathon_asker_init(struct marathon_asker *asker, const struct marathon_settings *settings,
                         const char *server, struct resync *resync);
void marathon_asker_fini(struct marathon_asker *asker);

/* What Marathon said to a question. */
struct marathon_answer {
    int status;
    char said[128]; /* "404: Not Found", for a log, where it is not 200 */
};

typedef int marathon_body_fn(void *arg, struct str bytes, struct err *err);

/* Asks for `path` (encoded, with its query), when the rate lets it; resync_asked_now was called
 * then. The body of a 200 goes piece by piece to `take`, whose -1 ends it. 0: a whole answer,
 * whatever its status. -1, ERR_RETRY: none, or time to stop; or what `take` returned. */
int marathon_ask(struct marathon_asker *asker, const char *path, marathon_body_fn *take, void *arg,
                 struct marathon_answer *answer, struct err *err);

/* Appends an id, percent-encoded but for its slashes. */
void marathon_append_id(struct buf *path, struct str id);

#endif
