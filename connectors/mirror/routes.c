/* routes.c - who answers which path of the mirror, and who may ask. */
#include "connectors/mirror/routes.h"

#include "bridge/base/hash.h"
#include "connectors/mirror/credentials.h"
#include "connectors/mirror/events.h"
#include "connectors/mirror/marathon_page.h"
#include "connectors/mirror/nomad_page.h"
#include "connectors/mirror/subscriptions_page.h"

#include <stdio.h>
#include <string.h>

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
void routes_turn_away(struct routes *r, const struct http_request *request,
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
        routes_turn_away(r, request, answer);
        return;
    }
    struct client_plan plan;
    struct err err = {.kind = ERR_INPUT};
    feed_start(r->feed);
    clients_feed(r->clients);
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
    subscribers_count(r->subscribers);
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
    const char *help;  /* NULL: not listed */
    bool open;         /* needs no token */
    routes_page *page; /* instead of `get`: looks after token and method itself, and is there for
                         each source below SOURCES too */
} table[] = {
    {"/", .get = get_index, .help = "this list"},
    {"/events", .get = get_events,
     .help = "server-sent events; filters: source= topic= type= namespace=; from: last_event_id= "
             "since="},
    {"/v1/event/stream", .page = nomad_page_stream,
     .help = "as Nomad's own; of one of several: /sources/NAME/v1/event/stream"},
    {"/v1/status/leader", .page = nomad_page_leader},
    {"/v1/jobs", .page = nomad_page_index},
    {"/v1/allocations", .page = nomad_page_index},
    {"/v1/evaluations", .page = nomad_page_index},
    {"/v1/deployments", .page = nomad_page_index},
    {"/v2/events", .page = marathon_page_events,
     .help = "as Marathon's own; of one of several: /sources/NAME/v2/events"},
    {"/v2/eventSubscriptions", .page = subscriptions_page,
     .help = "as Marathon's own up to 1.4, with POST and DELETE ?callbackUrl="},
    {"/healthz", .get = get_healthz, .help = "200 while this process serves", .open = true},
    {"/readyz", .get = get_readyz,
     .help = "200 while every source is attached and every sink reachable"},
    {"/metrics", .get = get_metrics, .help = "for Prometheus"},
    {"/status", .get = get_status,
     .help = "per source and sink: position, lag, state, last error (JSON)"},
};

enum { N_ROUTES = sizeof table / sizeof table[0] };

static void append_list(struct buf *out)
{
    for (size_t i = 0; i < N_ROUTES; i++)
        if (table[i].help != NULL)
            buf_printf(out, "GET %-16s %s\n", table[i].path, table[i].help);
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

/* ---- origins, sources ---- */

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
                       "Authorization, Cache-Control, Last-Event-ID, X-Nomad-Token");
    http_answer_header(answer, "Access-Control-Max-Age", "86400");
}

/* What is behind /sources/NAME, and *name; the whole path where it is not so. */
static const char *split_source(const char *path, struct str *name)
{
    static const char prefix[] = "/sources/";
    *name = (struct str){0};
    if (strncmp(path, prefix, sizeof prefix - 1) != 0)
        return path;
    const char *start = path + sizeof prefix - 1, *end = strchr(start, '/');
    if (end == NULL)
        return path;
    *name = (struct str){start, (size_t)(end - start)};
    return end;
}

static const struct route *find_route(const char *path, struct str *name)
{
    const char *rest = split_source(path, name);
    for (size_t i = 0; i < N_ROUTES; i++)
        if (strcmp(table[i].path, rest) == 0 && (name->p == NULL || table[i].page != NULL))
            return &table[i];
    return NULL;
}

void routes_answer(struct routes *routes, const struct http_request *request,
                   struct http_answer *answer)
{
    const char *method = http_request_method(request);
    struct str name;
    const struct route *route = find_route(http_request_path(request), &name);
    bool cors = allow_origin(routes, request, answer);
    if (cors && strcmp(method, "OPTIONS") == 0) {
        answer_preflight(answer);
    } else if (route != NULL && route->page != NULL) {
        route->page(routes, name, request, answer);
    } else if ((route == NULL || !route->open) &&
               !credentials_are_right(request, routes->settings->token)) {
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
