/* http_server_tls.h - the certificate that an HTTP server shows, and records of TLS (GnuTLS
 * inside). One thread. */
#ifndef BUSBAR_CONNECTORS_HTTP_SERVER_TLS_H
#define BUSBAR_CONNECTORS_HTTP_SERVER_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"

/* ---- the certificate ---- */

struct http_tls;
struct http_tls_shown; /* one certificate with its key; lives as long as a session may need it */

/* Reads both files; the paths must stay. ERR_FATAL where they can't be used. */
int http_tls_open(struct http_tls **out, const char *certificate, const char *key, struct err *err);
void http_tls_close(struct http_tls **tls); /* after the last http_tls_leave */

/* What was read first, as the library wants it for its start. */
const char *http_tls_first_certificate(struct http_tls *tls);
const char *http_tls_first_key(struct http_tls *tls);

/* Once a second: takes other files where they have changed and rest since the last look. Where they
 * can't be used, or not together, the former are shown on; the log says either. */
void http_tls_look(struct http_tls *tls);

/* A session (gnutls_session_t), before its handshake, is shown the newest. */
struct http_tls_shown *http_tls_enter(struct http_tls *tls, void *session);
void http_tls_leave(struct http_tls_shown **shown); /* the session has ended; NULL inside is fine */

/* ---- records ---- */

enum { HTTP_TLS_RECORD = 16 * 1024 }; /* most plain bytes of one: RFC 8446, section 5.1 */

enum http_tls_sent {
    HTTP_TLS_SENT,
    HTTP_TLS_FULL, /* encrypted and kept in the session: http_tls_flush when there is room */
    HTTP_TLS_BROKEN,
};

/* One record of at most HTTP_TLS_RECORD bytes; *taken: how many of them it holds, fewer than `len`
 * where the peer wants smaller ones (RFC 6066, section 4; RFC 8449). HTTP_TLS_FULL: not told yet.
 */
enum http_tls_sent http_tls_send(void *session, const char *p, size_t len, size_t *taken);
/* The rest of a record that HTTP_TLS_FULL told of; *taken: how many bytes it held in all. */
enum http_tls_sent http_tls_flush(void *session, size_t *taken);

#endif
