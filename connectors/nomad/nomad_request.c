/* nomad_request.c - how a Nomad server is asked: URL, token, time limits. */
#include "connectors/nomad/nomad_request.h"

#include <inttypes.h>
#include <string.h>

void nomad_request_init(struct nomad_request *request, const struct nomad_settings *settings,
                        const char *server, const char *path, struct stop *stop)
{
    *request = (struct nomad_request){0};
    size_t len = strlen(server);
    while (len > 0 && server[len - 1] == '/')
        len--;
    buf_append(&request->url, server, len);
    buf_append_cstr(&request->url, path);
    if (settings->token != NULL && settings->token[0] != '\0') {
        buf_printf(&request->token, "X-Nomad-Token: %s", settings->token);
        request->headers[0] = buf_cstr(&request->token);
    }
    request->http = (struct http_request){
        .url = buf_cstr(&request->url),
        .headers = request->headers,
        .connect_timeout_ms = (int)settings->connect_timeout_ms,
        .stop = stop,
    };
}

static void add_parameter(struct buf *url, const char *name, const char *value)
{
    buf_printf(url, "&%s=", name);
    http_url_encode(url, value);
}

void nomad_request_stream(struct nomad_request *request, const struct nomad_settings *settings,
                          uint64_t index)
{
    bool at_server = settings->filter_at == NOMAD_FILTER_AT_SERVER;
    struct buf *url = &request->url;
    buf_printf(url, "?index=%" PRIu64, index);
    if (!at_server)
        add_parameter(url, "topic", "*");
    for (size_t i = 0; at_server && i < settings->topics.n; i++)
        add_parameter(url, "topic", settings->topics.items[i]);
    add_parameter(url, "namespace", at_server ? settings->ns : "*");
    if (settings->region != NULL && settings->region[0] != '\0')
        add_parameter(url, "region", settings->region);
    request->http.url = buf_cstr(url);
}

void nomad_request_fini(struct nomad_request *request)
{
    if (request->token.p != NULL)
        explicit_bzero(request->token.p, request->token.cap);
    buf_fini(&request->token);
    buf_fini(&request->url);
}
