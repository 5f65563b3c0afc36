/* http_stream_raw.h - a GET spoken by hand over a connection of libcurl's, for answers that libcurl
 * refuses to read.
 *
 * Nomad 1.10.8 answers an event stream with `HTTP/0.0 200 OK` (hashicorp/nomad #27582),
 * which Go's client takes and libcurl does not. Name, TCP, TLS and the proxy tunnel stay libcurl's;
 * only the request and the answer's head are done here. The body is taken as it comes, up to the
 * close: what else such a server could mean by it is refused.
 *
 * Used by http_stream.c only. */
#ifndef BUSBAR_CONNECTORS_HTTP_STREAM_RAW_H
#define BUSBAR_CONNECTORS_HTTP_STREAM_RAW_H

#include <stdbool.h>

#include "bridge/base/buf.h"

#include <curl/curl.h>

/* True where the transfer ended because of such an answer; `detail` is libcurl's error text. */
bool http_raw_is_needed(CURLcode result, const char *detail);

/* Sends the request on `easy`, which CURLOPT_CONNECT_ONLY has connected. */
CURLcode http_raw_send(CURL *easy, const char *url, const struct curl_slist *headers);

/* Appends to `into` what has arrived, up to `max` bytes in it. CURLE_OK: `into` is full;
 * CURLE_AGAIN: nothing more for now; CURLE_GOT_NOTHING: the other side has closed; else it broke.
 */
CURLcode http_raw_receive(CURL *easy, struct buf *into, size_t max);

/* Takes the answer's head off the front of `from`: the status, 0 where the head is not whole yet,
 * -1 where it is not one that can be read. */
int http_raw_take_head(struct buf *from);

#endif
