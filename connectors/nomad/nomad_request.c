/* nomad_request.c - how a Nomad server is asked: URL, headers, access, time limits. */
#include "connectors/nomad/nomad_request.h"

#include "connectors/http_token.h"

#include <inttypes.h>
#include <string.h>

static void add_token(struct nomad_request *request, const struct nomad_settings *settings)
{
    struct buf token = {0};
    http_token_choose(settings->file_token, settings->token_file, settings->token, &token);
    if (token.len > 0)
        http_headers_add(&request->headers, "X-Nomad-Token", buf_cstr(&token));
    buf_wipe(&token);
}

void nomad_request_init(struct nomad_request *request, const struct nomad_settings *settings,
                        const char *server, const char *path, struct stop *stop)
{
    const struct setting_map *more = &settings->access.headers;
    *request = (struct nomad_request){0};
    add_token(request, settings);
    for (size_t i = 0; i < more->n; i++)
        http_headers_add(&request->headers, more->pairs[i].key, more->pairs[i].value);
    request->access = http_access_of(&settings->access, server, &request->url);
    buf_append_cstr(&request->url, path);
    request->http = (struct http_request){
        .url = buf_cstr(&request->url),
        .headers = (const char *const *)request->headers.list,
        .access = &request->access,
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

void nomad_request_api(struct nomad_request *request, const struct nomad_settings *settings,
                       const char *query)
{
    struct buf *url = &request->url;
    buf_printf(url, "?%s", query != NULL ? query : "");
    if (settings->region != NULL && settings->region[0] != '\0')
        add_parameter(url, "region", settings->region);
    request->http.url = buf_cstr(url);
}

void nomad_request_fini(struct nomad_request *request)
{
    http_headers_fini(&request->headers);
    buf_fini(&request->url);
}
