/* http_server.h - HTTP for those who are called: the mirror and Marathon's callbacks (libmicrohttpd
 * inside).
 *
 * A server is one thread: the one that calls http_server_run. Every callback below runs on it, one
 * at a time, so that its owner needs no locks; only http_server_poke may be called by others.
 * Callbacks must not block: while one runs, nobody else is served.
 *
 * A request gets either a whole answer or a stream. A stream is asked for bytes while its peer
 * takes them, sleeps when it has none, and is woken by http_stream_wake. Its body is neither
 * chunked nor sized, it ends with the connection (RFC 9112, section 6.3, rule 8): half the work per
 * frame, and every client can read it. */
#ifndef BUSBAR_CONNECTORS_HTTP_SERVER_H
#define BUSBAR_CONNECTORS_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/base/stop.h"

struct iovec;
struct sockaddr;
struct http_server;
struct http_request; /* lives as long as the handler's call */
struct http_stream;  /* lives until `closed` */

/* ---- requests ---- */

const char *http_request_method(const struct http_request *request);
const char *http_request_path(const struct http_request *request); /* decoded, without the query */
/* The first header of this name (any case); NULL where there is none. */
const char *http_request_header(const struct http_request *request, const char *name);
/* Whether one of the headers of this name (any case) is exactly `value`. */
bool http_request_has(const struct http_request *request, const char *name, const char *value);
/* Who asks: AF_INET or AF_INET6. */
const struct sockaddr *http_request_peer(const struct http_request *request);
/* Calls `fn` for each parameter of the query, decoded, in their order, until it returns false. */
void http_request_query(const struct http_request *request,
                        bool (*fn)(void *arg, struct str name, struct str value), void *arg);
struct str http_request_body(const struct http_request *request);

/* ---- answers ---- */

enum http_closed {
    HTTP_CLOSED_ENDED,   /* read said so, or the server ends */
    HTTP_CLOSED_PEER,    /* the peer went away */
    HTTP_CLOSED_TIMEOUT, /* the peer took nothing for stream_timeout_s */
};

enum { HTTP_READ_MIN = 4096, HTTP_END = -1 };

struct http_stream_ops {
    /* The client's stream, for http_stream_wake; before the first read. */
    void (*opened)(void *client, struct http_stream *stream);
    /* Puts up to `max` bytes (at least HTTP_READ_MIN) into `out` and returns how many; 0: nothing
     * now, sleep until woken; HTTP_END: close the connection. */
    ssize_t (*read)(void *client, char *out, size_t max);
    /* Called once, last, whatever happened; also for a stream that was never opened. */
    void (*closed)(void *client, enum http_closed why);
    /* May be NULL; asked before `read`: up to `max` parts of what comes next, where it lies
     * already, for it is sent from there: the bytes stay until `taken`, which is called before
     * anything else with how many of them the peer took, 0 included. Returns how many parts; 0:
     * `read` is asked. Where `taken` returns false it has nothing more now: neither is asked until
     * it is woken. */
    size_t (*look)(void *client, struct iovec *parts, size_t max);
    bool (*taken)(void *client, size_t bytes);
};

enum { HTTP_ANSWER_HEADERS_MAX = 12 };

/* Filled by the handler; comes zeroed, with status 200. */
struct http_answer {
    unsigned status;
    const char *content_type; /* a constant; NULL: none */
    struct buf body;          /* the server frees it */
    struct {
        const char *name; /* a constant */
        char *value;
    } headers[HTTP_ANSWER_HEADERS_MAX];
    size_t n_headers;
    bool close;                        /* end the connection after it */
    const struct http_stream_ops *ops; /* set: a stream; the body is ignored */
    void *client;
};

/* The value is copied; it must not hold line breaks. */
void http_answer_header(struct http_answer *answer, const char *name, const char *value);

/* A sleeping stream is read again; any other is read anyway. The server's thread. */
void http_stream_wake(struct http_stream *stream);
/* Closes the connection soon, whatever its peer has not taken; `closed` is called later. */
void http_stream_end(struct http_stream *stream);
/* Who it goes to, as IP:PORT; valid until the next call. */
const char *http_stream_address(const struct http_stream *stream);

/* ---- the server ---- */

struct http_server_options {
    const char *listen;       /* HOST:PORT or [ADDRESS]:PORT; port 0: any free one */
    unsigned connections_max; /* of all kinds; at the limit newcomers wait in the backlog */
    size_t send_buffer;       /* of the kernel, per connection; bounds what a dead reader holds */
    size_t body_max;          /* larger requests get 413; 0: bodies are not read at all */
    const char *tls_certificate; /* PEM files, with the chain; set: it speaks HTTPS only; who */
    const char *tls_key;         /* connects sees what they hold then (http_server_tls.h) */
    unsigned request_timeout_s;  /* for a whole request to arrive, and for idle connections */
    unsigned stream_timeout_s;   /* for the peer of a stream to take something */
    /* Called when the head of a request with a body is there; where it says false, the body is not
     * read: `handle` is called without it, and the connection ends after the answer. May be NULL:
     * all are read. */
    bool (*wants_body)(void *arg, const struct http_request *request);
    void (*handle)(void *arg, const struct http_request *request, struct http_answer *answer);
    /* Called before each turn of the loop; returns in how many ms at the latest it wants to be
     * called again. May be NULL. */
    int (*turn)(void *arg);
    void *arg;
};

/* Binds and listens; connections wait until http_server_run. ERR_FATAL where it can't. */
int http_server_open(struct http_server **out, const struct http_server_options *options,
                     struct err *err);
/* Where it listens, as IP:PORT with the real port. */
const char *http_server_address(const struct http_server *server);
/* How many connections there may be: less than asked for where the process may not open so many
 * files. */
unsigned http_server_connections_max(const struct http_server *server);
/* Serves until `stop` is requested. */
void http_server_run(struct http_server *server, struct stop *stop);
/* Any thread, not a signal handler; cheap: makes the loop turn now. */
void http_server_poke(struct http_server *server);
/* Ends all streams (HTTP_CLOSED_ENDED); http_server_run must have returned. NULL inside is fine. */
void http_server_close(struct http_server **server);

#endif
