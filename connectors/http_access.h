/* http_access.h - the settings by which a guarded server is reached: TLS, credentials, proxy,
 * further headers. The same for every source that speaks HTTP. */
#ifndef BUSBAR_CONNECTORS_HTTP_ACCESS_H
#define BUSBAR_CONNECTORS_HTTP_ACCESS_H

#include "config/settings.h"

struct buf;
struct http_access; /* http_stream.h; not included here, for those who include http_server.h */

/* Stands first in a source's settings, because the rows' offsets count from there. An empty value
 * counts as none. */
struct http_access_settings {
    const char *tls_ca, *tls_cert, *tls_key, *tls_server_name;
    const char *username, *password;
    const char *proxy;
    struct setting_map headers;
};

/* tls_*, username, password, proxy, headers: the last rows of a source's table. */
extern const struct setting http_access_rows[];
/* source_ops.check for these rows. `reserved`: headers that `headers` must not set
 * (NULL-terminated, may be NULL; any case), because other rows or the source itself do: "NAME", or
 * "NAME: WHAT" where WHAT is expected instead ("X-Nomad-Token: token or token_file"). Those that no
 * source's `headers` may set (Host, Connection and the like) are known. */
void http_access_check(struct settings *file, const struct settings_node *node,
                       const struct http_access_settings *set, const struct setting_list *servers,
                       const char *const *reserved);
/* setting.check of a server: http(s)://HOST:PORT, or unix:///PATH. */
const char *http_access_expected_server(const char *server);
/* How `server` is reached, and the beginning of every URL of it (appended, without a "/" at its
 * end). Points into `set` and `server`. */
struct http_access http_access_of(const struct http_access_settings *set, const char *server,
                                  struct buf *url);

/* Headers of a request. All zero: none. */
struct http_headers {
    char **list; /* "Name: value", NULL-terminated; NULL where there is none */
    size_t n;
};

void http_headers_add(struct http_headers *headers, const char *name, const char *value);
void http_headers_fini(struct http_headers *headers); /* wipes what may be secret */

#endif
