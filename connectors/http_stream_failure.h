/* http_stream_failure.h - puts into words why there was no connection, or why it broke off.
 *
 * Used by http_stream.c only. */
#ifndef BUSBAR_CONNECTORS_HTTP_STREAM_FAILURE_H
#define BUSBAR_CONNECTORS_HTTP_STREAM_FAILURE_H

#include "connectors/http_stream.h"

#include <curl/curl.h>

struct http_failure {
    CURLcode result;
    const char *detail; /* libcurl's own words, or "" */
    int system_errno;   /* 0: the system was not asked */
    bool answered;      /* a head came */
    /* Of the request: */
    int connect_timeout_ms;
    bool tls, has_ca, has_cert, has_proxy, has_socket;
};

/* What a failure of this request would have to do with. */
struct http_failure http_failure_expect(const struct http_request *request, int connect_timeout_ms);
/* Sets `err` (ERR_RETRY): what happened, then, behind a colon, what an operator can do. Setting
 * names are those that every source has. Returns -1. */
int http_failure_say(const struct http_failure *failure, struct err *err);

#endif
