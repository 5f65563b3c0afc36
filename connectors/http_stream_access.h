/* http_stream_access.h - how a connection of libcurl's reaches a server: TLS, proxy, socket, and
 * the headers that all this brings.
 *
 * Used by http_stream.c only. */
#ifndef BUSBAR_CONNECTORS_HTTP_STREAM_ACCESS_H
#define BUSBAR_CONNECTORS_HTTP_STREAM_ACCESS_H

#include "connectors/http_stream.h"

#include <curl/curl.h>

/* Does it send a body, if an empty one? (RFC 9110, section 8.6: a POST of nothing says so.) */
bool http_access_has_body(const struct http_request *request);

/* All headers to send: the request's own, Host where the URL that curl is given has another one,
 * Authorization. For curl and for http_stream_raw alike. */
struct curl_slist *http_access_headers(const struct http_request *request);
/* Wipes them: there are secrets in it. NULL is fine. */
void http_access_free_headers(struct curl_slist *headers);

/* Tells `easy` where to go and whom to trust. Returns a list (or NULL) that is to be freed after
 * the transfer. */
struct curl_slist *http_access_apply(CURL *easy, const struct http_request *request);

#endif
