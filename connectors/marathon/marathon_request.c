/* marathon_request.c - how a Marathon is asked: URL, headers, access, time limits. */
#include "connectors/marathon/marathon_request.h"

#include "connectors/http_token.h"
#include "connectors/marathon/marathon_leader.h"
#include "connectors/marathon/marathon_settings.h"

#include <string.h>

static const char attached_type[] = "event_stream_attached";

static void add_token(struct marathon_request *request, const struct marathon_settings *settings)
{
    static const struct str scheme = {"token=", 6};
    struct buf token = {0};
    buf_reserve(&token, HTTP_TOKEN_MAX + sizeof "token="); /* at once: nothing is left unwiped */
    buf_append_str(&token, scheme);
    http_token_choose(settings->file_token, settings->token_file, settings->token, &token);
    if (token.len > scheme.len)
        http_headers_add(&request->headers, "Authorization", buf_cstr(&token));
    buf_wipe(&token);
}

static void add_credentials(struct marathon_request *request,
                            const struct marathon_settings *settings)
{
    const struct setting_map *more = &settings->access.headers;
    add_token(request, settings);
    for (size_t i = 0; i < more->n; i++)
        http_headers_add(&request->headers, more->pairs[i].key, more->pairs[i].value);
}

/* Nothing that says who asks. */
static void withhold(struct http_access *access)
{
    access->user = access->password = access->cert = access->key = NULL;
}

void marathon_request_init(struct marathon_request *request,
                           const struct marathon_settings *settings, const char *server,
                           const char *path, const char *accept, struct stop *stop)
{
    bool trusted = marathon_leader_is_configured(settings, server);
    *request = (struct marathon_request){0};
    http_headers_add(&request->headers, "Accept", accept);
    request->access = http_access_of(&settings->access, server, &request->url);
    if (trusted)
        add_credentials(request, settings);
    else
        withhold(&request->access);
    buf_append_cstr(&request->url, path);
    request->http = (struct http_request){
        .url = buf_cstr(&request->url),
        .headers = (const char *const *)request->headers.list,
        .access = &request->access,
        .connect_timeout_ms = (int)settings->connect_timeout_ms,
        .stop = stop,
    };
}

static void add_parameter(struct buf *path, const char *name, const char *value)
{
    buf_printf(path, "%c%s=", memchr(path->p, '?', path->len) == NULL ? '?' : '&', name);
    http_url_encode(path, value);
}

void marathon_request_events(struct buf *path, const struct marathon_settings *settings)
{
    bool asked = !marathon_is_filtered(settings);
    buf_append_cstr(path, "/v2/events");
    if (settings->plan_format == MARATHON_PLAN_LIGHT)
        add_parameter(path, "plan-format", "light");
    for (size_t i = 0; marathon_is_filtered(settings) && i < settings->event_types.n; i++) {
        const char *type = settings->event_types.items[i];
        add_parameter(path, "event_type", type);
        asked = asked || strcmp(type, attached_type) == 0;
    }
    if (!asked)
        add_parameter(path, "event_type", attached_type);
}

void marathon_request_fini(struct marathon_request *request)
{
    http_headers_fini(&request->headers);
    buf_fini(&request->url);
}
