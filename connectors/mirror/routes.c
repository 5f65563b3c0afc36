/* routes.c - who answers which path of the mirror, and who may ask. */
#include "connectors/mirror/routes.h"

#include "bridge/base/hash.h"
#include "connectors/mirror/events.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
    COME_BACK_MS = 5000, /* for clients beyond the limit; up to twice that */
};

static const char TEXT[] = "text/plain; charset=utf-8";

static void answer_text(struct http_answer *answer, unsigned status, const char *text)
{
    answer->status = status;
    answer->content_type = TEXT;
    buf_append_cstr(&answer->body, text);
    buf_append_char(&answer->body, '\n');
}

/* ---- GET /events ---- */

static void as_event_stream(struct http_answer *answer)
{
    answer->content_type = "text/event-stream";
    http_answer_header(answer, "Cache-Control", "no-cache");
    http_answer_header(answer, "X-Accel-Buffering", "no");
}

/* Any status but 200 ends a browser's EventSource for good: it gets an empty stream that says when
 * to come back. */
static void turn_away(struct routes *r, const struct http_request *request,
                      struct http_answer *answer)
{
    const char *accept = http_request_header(request, "Accept");
    unsigned wait_ms = COME_BACK_MS + (unsigned)(hash_random() % COME_BACK_MS);
    metrics_add(r->metrics, METRIC_CLIENTS_REFUSED, 1);
    answer->close = true;
    if (accept != NULL && strstr(accept, "text/event-stream") != NULL) {
        as_event_stream(answer);
        buf_printf(&answer->body, ": too many clients\nretry: %u\n\n", wait_ms);
        return;
    }
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%u", wait_ms / 1000);
    http_answer_header(answer, "Retry-After", seconds);
    answer_text(answer, 503, "too many clients");
}

static void get_events(struct routes *r, const struct http_request *request,
                       struct http_answer *answer)
{
    if (clients_full(r->clients)) {
        turn_away(r, request, answer);
        return;
    }
    struct client_plan plan;
    struct err err = {.kind = ERR_INPUT};
    feed_start(r->feed);
    if (events_plan(r->feed, request, &plan, &err) != 0) {
        answer_text(answer, err.kind == ERR_INPUT ? 400 : 503, err.msg);
        return;
    }
    as_event_stream(answer);
    answer->ops = &client_stream_ops;
    if (strcmp(http_request_method(request), "HEAD") == 0)
        client_plan_fini(&plan);
    else
        answer->client = clients_add(r->clients, &plan);
}

/* ---- the others ---- */

static void get_healthz(struct routes *r, const struct http_request *request,
                        struct http_answer *answer)
{
    (void)r;
    (void)request;
    answer_text(answer, 200, "ok");
}

static void get_readyz(struct routes *r, const struct http_request *request,
                       struct http_answer *answer)
{
    (void)request;
    struct buf why = {0};
    bool ready = bridge_is_ready(r->bridge, &why);
    answer_text(answer, ready ? 200 : 503, ready ? "ready" : buf_cstr(&why));
    buf_fini(&why);
}

static void get_metrics(struct routes *r, const struct http_request *request,
                        struct http_answer *answer)
{
    (void)request;
    answer->content_type = "text/plain; version=0.0.4";
    bridge_render_metrics(r->bridge, &answer->body);
}

static void get_status(struct routes *r, const struct http_request *request,
                       struct http_answer *answer)
{
    (void)request;
    answer->content_type = "application/json";
    bridge_render_status(r->bridge, &answer->body);
}

static void get_index(struct routes *r, const struct http_request *request,
                      struct http_answer *answer);

static const struct route {
    const char *path;
    void (*get)(struct routes *r, const struct http_request *request, struct http_answer *answer);
    bool open; /* needs no token */
    const char *help;
} table[] = {
    {"/", get_index, false, "this list"},
    {"/events", get_events, false,
     "server-sent events; filters: source= topic= type= namespace=; from: last_event_id= since="},
    {"/healthz", get_healthz, true, "200 while this process serves"},
    {"/readyz", get_readyz, false, "200 while every source is attached and every sink reachable"},
    {"/metrics", get_metrics, false, "for Prometheus"},
    {"/status", get_status, false, "per source and sink: position, lag, state, last error (JSON)"},
};

enum { N_ROUTES = sizeof table / sizeof table[0] };

static void append_list(struct buf *out)
{
    for (size_t i = 0; i < N_ROUTES; i++)
        buf_printf(out, "GET %-10s %s\n", table[i].path, table[i].help);
}

static void get_index(struct routes *r, const struct http_request *request,
                      struct http_answer *answer)
{
    (void)request;
    answer->content_type = TEXT;
    buf_printf(&answer->body, "busbar %s\n", r->bridge_name);
    append_list(&answer->body);
}

static void answer_unknown(struct http_answer *answer)
{
    answer_text(answer, 404, "no such page; there are:");
    append_list(&answer->body);
}

/* ---- who may ask ---- */

/* Takes the same time wherever they differ. */
static bool same_secret(const char *given, const char *wanted)
{
    size_t given_len = strlen(given);
    size_t wanted_len = strlen(wanted);
    unsigned diff = given_len != wanted_len;
    for (size_t i = 0; i < given_len; i++)
        diff |= (unsigned char)given[i] ^ (unsigned char)wanted[i % (wanted_len + 1)];
    return diff == 0;
}

/* RFC 6750, section 2.1; the scheme in any case (RFC 9110, section 11.1). */
static bool may_ask(const struct routes *r, const struct http_request *request)
{
    static const char scheme[] = "Bearer ";
    const char *wanted = r->settings->token;
    if (wanted == NULL)
        return true;
    const char *given = http_request_header(request, "Authorization");
    return given != NULL && strncasecmp(given, scheme, sizeof scheme - 1) == 0 &&
           same_secret(given + sizeof scheme - 1, wanted);
}

/* CORS (WHATWG Fetch, section 3.2): tells the browser that this page may read the answer. */
static bool allow_origin(const struct routes *r, const struct http_request *request,
                         struct http_answer *answer)
{
    const struct setting_list *allowed = &r->settings->allow_origin;
    const char *origin = http_request_header(request, "Origin");
    if (allowed->n == 0)
        return false;
    http_answer_header(answer, "Vary", "Origin");
    for (size_t i = 0; origin != NULL && i < allowed->n; i++) {
        bool any = strcmp(allowed->items[i], "*") == 0;
        if (any || strcmp(allowed->items[i], origin) == 0) {
            http_answer_header(answer, "Access-Control-Allow-Origin", any ? "*" : origin);
            return true;
        }
    }
    return false;
}

static void answer_preflight(struct http_answer *answer)
{
    answer->status = 204;
    http_answer_header(answer, "Access-Control-Allow-Methods", "GET, HEAD");
    http_answer_header(answer, "Access-Control-Allow-Headers",
                       "Authorization, Cache-Control, Last-Event-ID");
    http_answer_header(answer, "Access-Control-Max-Age", "86400");
}

static const struct route *find_route(const char *path)
{
    for (size_t i = 0; i < N_ROUTES; i++)
        if (strcmp(table[i].path, path) == 0)
            return &table[i];
    return NULL;
}

void routes_answer(struct routes *routes, const struct http_request *request,
                   struct http_answer *answer)
{
    const char *method = http_request_method(request);
    const struct route *route = find_route(http_request_path(request));
    bool cors = allow_origin(routes, request, answer);
    if (cors && strcmp(method, "OPTIONS") == 0) {
        answer_preflight(answer);
    } else if ((route == NULL || !route->open) && !may_ask(routes, request)) {
        http_answer_header(answer, "WWW-Authenticate", "Bearer realm=\"busbar\"");
        answer_text(answer, 401, "a token is needed: Authorization: Bearer TOKEN");
    } else if (route == NULL) {
        answer_unknown(answer);
    } else if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        http_answer_header(answer, "Allow", "GET, HEAD");
        answer_text(answer, 405, "only GET and HEAD");
    } else {
        route->get(routes, request, answer);
    }
}
