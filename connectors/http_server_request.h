/* http_server_request.h - a request as the library has it, for http_server.c only. */
#ifndef BUSBAR_CONNECTORS_HTTP_SERVER_REQUEST_H
#define BUSBAR_CONNECTORS_HTTP_SERVER_REQUEST_H

#include "connectors/http_server.h"

struct MHD_Connection;

struct http_request {
    struct MHD_Connection *connection;
    const char *method;
    const char *path;
    struct str body;
};

void http_server_answer_fini(struct http_answer *answer);

#endif
