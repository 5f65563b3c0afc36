/* http_server_writer.h - sends what streams have, without the library: for connections of which the
 * library has sent the head of the answer, and which it leaves alone from then on (suspended).
 *
 * A stream costs one send for all it has, and nothing while it is asleep: no system call puts it
 * there or wakes it. Bytes that clients share are sent from where they lie, or encrypted from
 * there; what does not fill a record goes into one together. One thread. */
#ifndef BUSBAR_CONNECTORS_HTTP_SERVER_WRITER_H
#define BUSBAR_CONNECTORS_HTTP_SERVER_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "connectors/http_server.h"

struct http_writer;

/* One stream's part; lies in the stream. All zero: not added. */
struct http_sending {
    const struct http_stream_ops *ops;
    void *client;
    char *rest; /* of what was read, not taken by the peer yet; NULL: none */
    size_t rest_len;
    size_t rest_at;
    int64_t stuck_ms; /* since when the peer takes nothing; 0: it does */
    void *tls;        /* the session that encrypts; NULL: none */
    size_t tls_most;  /* bytes that one of its records may hold */
    size_t tls_known; /* so many it has held */
    size_t tls_full;  /* in one that the peer has not taken whole; 0: there is none */
    int fd;
    bool tls_kept; /* its bytes lie in `rest` too */
    bool added;
    bool ready; /* in the list of those that are asked next */
    bool over;
    struct http_sending *next;
};

enum { HTTP_WRITER_BLOCK = 8 * 1024 }; /* what `read` is asked for, and a stuck stream may hold */

/* `end` is called where a stream is over, once, and may not free it before http_writer_wait,
 * http_writer_run or http_writer_expire have returned. NULL where it can't. */
struct http_writer *http_writer_new(void (*end)(struct http_sending *s, enum http_closed why));
void http_writer_free(struct http_writer **writer);
/* Another descriptor that ends a wait while it is readable; with `edge` once for each write to it,
 * so that nobody need read it. False where it can't. */
bool http_writer_watch(struct http_writer *writer, int fd, bool edge);
void http_writer_unwatch(struct http_writer *writer, int fd);

/* Takes over a connection, `fd`, `tls` and what gives its bytes being set: it is asked soon. False
 * where it can't. */
bool http_writer_add(struct http_writer *writer, struct http_sending *s);
void http_writer_remove(struct http_writer *writer, struct http_sending *s); /* not added: fine */

/* It may have something by now. */
void http_writer_wake(struct http_writer *writer, struct http_sending *s);

/* Sends to each who has something and takes it, a share. */
void http_writer_run(struct http_writer *writer);
/* Until a peer has room again or has gone, who is let go here, or a watched descriptor is readable,
 * or so long; not at all while somebody is to be asked yet. */
void http_writer_wait(struct http_writer *writer, int wait_ms);

/* Once a second: ends it if its peer took nothing for so long, and tries again what is stuck. */
void http_writer_expire(struct http_writer *writer, struct http_sending *s, int64_t now_ms,
                        int64_t patience_ms);

/* Ends it. */
void http_writer_end(struct http_writer *writer, struct http_sending *s, enum http_closed why);

#endif
