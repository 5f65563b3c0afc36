/* http_token.h - a token that is kept in a file and changes while the bridge runs.
 *
 * Whoever rotates it (Vault's agent, a mounted secret, a script) writes the file and revokes the
 * old token later; the stream then ends by itself and the next connection shows the new one. The
 * file is read for each request, which is cheap and misses nothing that size and times would. */
#ifndef BUSBAR_CONNECTORS_HTTP_TOKEN_H
#define BUSBAR_CONNECTORS_HTTP_TOKEN_H

#include "bridge/base/buf.h"
#include "bridge/base/stop.h"

enum { HTTP_TOKEN_MAX = 4096 }; /* bytes; a UUID has 36, a JWT some hundred */

struct http_token;

/* Returns what a token must be like, or NULL where this one is. It becomes an HTTP header. */
const char *http_token_expected(const char *token);
/* Appends the token in the file, without the line ends behind it. NULL, or why there is none. */
const char *http_token_read_file(const char *path, struct buf *out);
/* setting.check of a `token_file`. */
const char *http_token_expected_file(const char *path);

/* One for each source; any thread may use it. NULL for no path. */
struct http_token *http_token_new(const char *path);
void http_token_free(struct http_token **token); /* wipes it; NULL inside is fine */
/* Appends the token as the file has it now. Where that can't be read, or is no token, the last one
 * that was: which is logged once, until it can be read again. */
void http_token_append(struct http_token *token, struct buf *out);
/* Appends the token that a request shows: the kept file's, else that of the file at `path`, read
 * this once, else `literal`; nothing where there is none of them. Each may be NULL, path and
 * literal empty. The caller wipes `out`. */
void http_token_choose(struct http_token *kept, const char *path, const char *literal,
                       struct buf *out);
/* As stop_wait, but no longer than until the file has another token than was last appended. NULL
 * waits too. */
void http_token_wait(struct http_token *token, struct stop *stop, int timeout_ms);

#endif
