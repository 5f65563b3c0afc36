/* http_stream.h - everything that goes out over HTTP: an endless GET read blocking style, and short
 * questions of any method.
 *
 * The only place that knows libcurl. One thread at a time per stream; a stream is one request on
 * one connection, never used again. http and https, HTTP/1.1; certificates, proxy and credentials
 * by struct http_access. Redirects are never followed, so that a token goes to nobody but the
 * configured server: they are told, with their Location. Compression is not asked for. */
#ifndef BUSBAR_CONNECTORS_HTTP_STREAM_H
#define BUSBAR_CONNECTORS_HTTP_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/base/stop.h"

enum {
    HTTP_COLLECT_MAX = 256 * 1024, /* what arrived together is delivered together, up to this */
    HTTP_TAKE_MAX = 16 << 20,      /* what one read hands to a taker, however fast more comes */
    HTTP_REFUSAL_MAX = 4 * 1024,   /* kept of the body of an answer other than 200 */
    HTTP_HEAD_MAX = 64 * 1024,     /* response headers; more is an error */
    HTTP_IP_MAX = 46,              /* of an address as text, with its end (INET6_ADDRSTRLEN) */
};

struct http_session;

/* How a server is reached and what it is shown; each may be NULL. Files are read anew for each
 * connection, so that renewed ones need no restart. */
struct http_access {
    const char *ca; /* PEM file: only what these sign is trusted; NULL: the system's store */
    const char *cert, *key;  /* PEM files: the client's own; both or none; without a passphrase */
    const char *server_name; /* what the server's certificate must be for, and SNI; NULL: the URL's
                                host. The Host header stays the URL's */
    const char *user, *password; /* HTTP basic authentication (RFC 7617), unasked */
    const char *proxy;       /* http://[USER:PASSWORD@]HOST:PORT, whatever no_proxy says; "": none;
                                NULL: as http_proxy, https_proxy, no_proxy say */
    const char *unix_socket; /* connect to this path; the URL only names the Host. No proxy */
};

/* Where a 200's body goes piece by piece, from the memory that libcurl received it in: for streams
 * that are so fast that a copy counts. */
struct http_taker {
    /* Called within http_stream_read. `piece` is valid until it returns. May block, and ask others,
     * but leaves its own stream alone. False: nothing more is wanted. It is not called again then,
     * and only closing the stream is left, whatever the read says. */
    bool (*take)(void *arg, struct str piece);
    void *arg;
};

struct http_request {
    const char *url;
    const char *method;               /* POST, DELETE, HEAD and so on; NULL: GET */
    struct str body;                  /* without a Content-Type but that of `headers` */
    const char *const *headers;       /* "Name: value", NULL-terminated; may be NULL */
    const struct http_access *access; /* may be NULL */
    int connect_timeout_ms;           /* name, TCP and TLS together; 0: 10 s */
    struct stop *stop;                /* ends every wait; may be NULL */
    struct http_session *session;     /* may be NULL: a connection of its own */
    struct http_taker taker;          /* without `take`: http_stream_read collects the body */
};

/* Keeps the connection open for the next request that names the session, where the server does too.
 * One request at a time: it is closed before the next is opened, and before the session is freed.
 *
 * A request on a kept connection that ends before the answer's first line is whole is sent once
 * more, on a new one, whatever its method: the server had closed it, most likely before it saw the
 * request, but that can't be known (RFC 9110, section 9.2.2). Who must not be heard twice gives no
 * session. Nothing else is ever sent twice, but a GET that is answered by HTTP/0.0
 * (http_stream_raw.h). */
struct http_session *http_session_new(void);
void http_session_free(struct http_session **session); /* NULL inside is fine */

struct http_stream;

enum http_read {
    HTTP_DATA,    /* *bytes: body of a 200, as long as possible; valid until the next call. Empty
                     where a taker got it */
    HTTP_IDLE,    /* nothing within the time */
    HTTP_CLOSED,  /* a 200's body ended the way HTTP ends one */
    HTTP_REFUSED, /* another status: see http_stream_status, _header, _refusal */
    HTTP_FAILED,  /* no connection, or it broke off; err says what happened and what to do */
    HTTP_STOPPED, /* the request's `stop` was requested */
};

/* Connects to nothing before the first read. Copies what `request` points to, but not `stop`; the
 * copies of headers are wiped when it is closed. A body is sent with its Content-Length, without
 * waiting for the server to want it (no Expect), and while the answer is read: one that comes
 * before the body is sent is taken. POST, PUT and PATCH without one say Content-Length: 0. */
struct http_stream *http_stream_open(const struct http_request *request);
void http_stream_close(struct http_stream **stream); /* NULL inside is fine */

/* Connects, sends, receives: whatever is due. Waits for at most timeout_ms (0: only what is there
 * already). After CLOSED, REFUSED and FAILED only closing is left. `err` is filled by FAILED
 * (ERR_RETRY), and only then. */
enum http_read http_stream_read(struct http_stream *stream, int timeout_ms, struct str *bytes,
                                struct err *err);
/* After HTTP_DATA: true where the call ended at its ceiling, so that more is likely waiting. */
bool http_stream_more(const struct http_stream *stream);

/* The answer's status; 0 until its head is complete. */
int http_stream_status(const struct http_stream *stream);
/* A response header's value, "" where there is none; valid until the next call. */
const char *http_stream_header(struct http_stream *stream, const char *name);
/* The beginning of the body of an answer other than 200. */
struct str http_stream_refusal(const struct http_stream *stream);

/* The IP addresses of the connection's two ends (the other may be a proxy's), as text without
 * brackets; "" before it is there, and for a socket with a path. `size` >= HTTP_IP_MAX. */
void http_stream_local(struct http_stream *stream, char *out, size_t size);
void http_stream_peer(struct http_stream *stream, char *out, size_t size);

/* ---- short answers ---- */

struct http_answer {
    int status;
    struct buf body; /* of an answer other than 200 at most HTTP_REFUSAL_MAX */
};

void http_answer_fini(struct http_answer *answer);
/* A whole exchange within timeout_ms; of a 200's body at most body_max bytes. 0: any status,
 * `answer` filled (it must be zeroed before). -1, ERR_RETRY: no answer, a broken one, stopped, too
 * late; ERR_INPUT: longer than body_max. Then `answer` may hold its status and a part. */
int http_ask(const struct http_request *request, int timeout_ms, size_t body_max,
             struct http_answer *answer, struct err *err);

/* ---- URLs ---- */

/* Appends `url` as logs may show it: without user name and password. */
void http_url_label(struct buf *out, const char *url);
/* Appends `value` percent-encoded for a query: all but RFC 3986's unreserved characters. */
void http_url_encode(struct buf *out, const char *value);

#endif
