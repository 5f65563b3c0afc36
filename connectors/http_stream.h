/* http_stream.h - everything that goes out over HTTP: an endless GET read blocking style, and a
 * short one.
 *
 * The only place that knows libcurl. One thread at a time per stream; a stream is one request on
 * one connection, never used again. http and https (certificates are checked against the system's
 * store), HTTP/1.1, proxies as libcurl's environment says (http_proxy, https_proxy, no_proxy).
 * Redirects are never followed, so that a token goes to nobody but the configured server: they are
 * told, with their Location. Compression is not asked for. */
#ifndef BUSBAR_CONNECTORS_HTTP_STREAM_H
#define BUSBAR_CONNECTORS_HTTP_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/base/stop.h"

enum {
    HTTP_COLLECT_MAX = 256 * 1024, /* what arrived together is delivered together, up to this */
    HTTP_REFUSAL_MAX = 4 * 1024,   /* kept of the body of an answer other than 200 */
    HTTP_HEAD_MAX = 64 * 1024,     /* response headers; more is an error */
};

struct http_request {
    const char *url;
    const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
    int connect_timeout_ms;     /* name, TCP and TLS together; 0: 10 s */
    struct stop *stop;          /* ends every wait; may be NULL */
};

struct http_stream;

enum http_read {
    HTTP_DATA,    /* *bytes: body of a 200, as long as possible; valid until the next call */
    HTTP_IDLE,    /* nothing within the time */
    HTTP_CLOSED,  /* a 200's body ended the way HTTP ends one */
    HTTP_REFUSED, /* another status: see http_stream_status, _header, _refusal */
    HTTP_FAILED,  /* no connection, or it broke off; err says what happened and what to do */
    HTTP_STOPPED, /* the request's `stop` was requested */
};

/* Connects to nothing before the first read. Copies what `request` points to, but not `stop`. */
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

/* ---- short answers ---- */

struct http_answer {
    int status;
    struct buf body; /* of an answer other than 200 at most HTTP_REFUSAL_MAX */
};

void http_answer_fini(struct http_answer *answer);
/* A whole GET within timeout_ms, at most body_max bytes. 0: any status, `answer` filled (it must be
 * zeroed before). -1, ERR_RETRY: no answer, a broken one, stopped, too late; ERR_INPUT: longer than
 * body_max. */
int http_get(const struct http_request *request, int timeout_ms, size_t body_max,
             struct http_answer *answer, struct err *err);

/* ---- URLs ---- */

/* Appends `url` as logs may show it: without user name and password. */
void http_url_label(struct buf *out, const char *url);
/* Appends `value` percent-encoded for a query: all but RFC 3986's unreserved characters. */
void http_url_encode(struct buf *out, const char *value);

#endif
