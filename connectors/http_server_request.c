/* http_server_request.c - what a handler can ask of a request, and add to its answer. */
#include "connectors/http_server_request.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *http_request_method(const struct http_request *request)
{
    return request->method;
}

const char *http_request_path(const struct http_request *request)
{
    return request->path;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

struct one_value {
    const char *name;
    const char *value;
    bool found;
};

static enum MHD_Result one_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    (void)kind;
    struct one_value *one = cls;
    if (strcasecmp(name, one->name) == 0 && value != NULL && strcmp(value, one->value) == 0)
        one->found = true;
    return one->found ? MHD_NO : MHD_YES;
}

bool http_request_has(const struct http_request *request, const char *name, const char *value)
{
    struct one_value one = {name, value, false};
    MHD_get_connection_values(request->connection, MHD_HEADER_KIND, one_header, &one);
    return one.found;
}

const struct sockaddr *http_request_peer(const struct http_request *request)
{
    return MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)
        ->client_addr;
}

struct str http_request_body(const struct http_request *request)
{
    return request->body;
}

struct each_query {
    bool (*fn)(void *arg, struct str name, struct str value);
    void *arg;
};

static enum MHD_Result one_query(void *cls, enum MHD_ValueKind kind, const char *name,
                                 size_t name_len, const char *value, size_t value_len)
{
    (void)kind;
    struct each_query *each = cls;
    struct str v = {value != NULL ? value : "", value != NULL ? value_len : 0};
    return each->fn(each->arg, (struct str){name, name_len}, v) ? MHD_YES : MHD_NO;
}

void http_request_query(const struct http_request *request,
                        bool (*fn)(void *arg, struct str name, struct str value), void *arg)
{
    struct each_query each = {fn, arg};
    MHD_get_connection_values_n(request->connection, MHD_GET_ARGUMENT_KIND, one_query, &each);
}

void http_answer_header(struct http_answer *answer, const char *name, const char *value)
{
    if (answer->n_headers == HTTP_ANSWER_HEADERS_MAX)
        abort();
    answer->headers[answer->n_headers].name = name;
    answer->headers[answer->n_headers++].value = mem_strdup(value);
}

void http_server_answer_fini(struct http_answer *answer)
{
    buf_fini(&answer->body);
    for (size_t i = 0; i < answer->n_headers; i++)
        free(answer->headers[i].value);
}
