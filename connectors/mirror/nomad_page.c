/* nomad_page.c - the paths of Nomad's HTTP API that the mirror answers as a Nomad does. */
#include "connectors/mirror/nomad_page.h"

#include "connectors/mirror/credentials.h"
#include "connectors/mirror/lines.h"
#include "connectors/mirror/nomad_query.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { NOMAD_BEAT_MS = 30 * 1000 }; /* as Nomad's (nomad/event_endpoint.go) */

static const char TEXT[] = "text/plain; charset=utf-8";

static bool is_get(const struct http_request *request, struct http_answer *answer)
{
    if (strcmp(http_request_method(request), "GET") == 0)
        return true;
    answer->status = 405;
    answer->content_type = TEXT;
    buf_append_cstr(&answer->body, "Invalid method");
    return false;
}

/* ---- the token ---- */

/* As command/agent/http.go, parseToken. */
static struct str given_token(const struct http_request *request)
{
    static const char scheme[] = "Bearer ";
    const char *own = http_request_header(request, "X-Nomad-Token");
    if (own != NULL && own[0] != '\0')
        return str_from(own);
    const char *bearer = http_request_header(request, "Authorization");
    if (bearer == NULL || strncasecmp(bearer, scheme, sizeof scheme - 1) != 0)
        return STR("");
    bearer += sizeof scheme - 1;
    bearer += strspn(bearer, " ");
    return (struct str){bearer, strcspn(bearer, " ")};
}

/* Nomad answers 500 where no token came, 403 where it is unknown. */
static bool may_ask(const struct routes *r, const struct http_request *request,
                    struct http_answer *answer)
{
    struct str given = given_token(request);
    if (r->settings->token == NULL || credentials_are_same(given, r->settings->token))
        return true;
    nomad_query_refuse(answer, given.len == 0 ? 500 : 403, "Permission denied");
    return false;
}

/* ---- which source ---- */

enum { NO_SOURCE = -1, NO_NOMAD = -2, SEVERAL = -3 };

static int find_named(const struct routes *r, struct str name)
{
    struct bridge_source about;
    for (size_t i = 0; i < r->feed->n_sources; i++) {
        bridge_describe_source(r->bridge, i, &about);
        if (str_is(name, r->feed->sources[i].name))
            return about.is_nomad ? (int)i : NO_NOMAD;
    }
    return NO_NOMAD;
}

/* The only Nomad there is, or the only one of that region. The region of a source that configures
 * none is not known: where it is the only one, any will do. */
static int find_of_region(const struct routes *r, const char *region)
{
    struct bridge_source about;
    size_t nomads = 0, of_region = 0;
    int last = NO_NOMAD, match = NO_NOMAD;
    bool known = false;
    for (size_t i = 0; i < r->feed->n_sources; i++) {
        bridge_describe_source(r->bridge, i, &about);
        if (!about.is_nomad)
            continue;
        nomads++;
        last = (int)i;
        known = about.region != NULL;
        if (region != NULL && known && strcmp(region, about.region) == 0) {
            of_region++;
            match = (int)i;
        }
    }
    if (of_region > 0)
        return of_region == 1 ? match : SEVERAL;
    if (region != NULL && (nomads > 1 || known))
        return NO_SOURCE;
    return nomads > 1 ? SEVERAL : last;
}

static void answer_several(const struct routes *r, struct http_answer *answer, int found)
{
    struct bridge_source about;
    struct buf *body = &answer->body;
    answer->status = found == SEVERAL ? 400 : 404;
    answer->content_type = TEXT;
    buf_append_cstr(body, found == SEVERAL ? "several Nomads here, name one by region= or ask:"
                                           : "no such Nomad here, there are:");
    for (size_t i = 0; i < r->feed->n_sources; i++) {
        bridge_describe_source(r->bridge, i, &about);
        if (about.is_nomad)
            buf_printf(body, " /sources/%s/v1/event/stream", r->feed->sources[i].name);
    }
    buf_append_char(body, '\n');
}

/* *source; false where the request has been answered. */
static bool choose(const struct routes *r, struct str name, const char *region,
                   struct http_answer *answer, size_t *source)
{
    int found = name.p != NULL ? find_named(r, name) : find_of_region(r, region);
    if (found == NO_SOURCE)
        nomad_query_refuse(answer, 500, "No path to region");
    else if (found < 0)
        answer_several(r, answer, found);
    else
        *source = (size_t)found;
    return found >= 0;
}

/* ---- pages ---- */

static int64_t beat_ms(const struct routes *r)
{
    int64_t two_ms = 2 * r->settings->heartbeat_ms;
    return two_ms < NOMAD_BEAT_MS ? two_ms : NOMAD_BEAT_MS;
}

void nomad_page_stream(struct routes *r, struct str name, const struct http_request *request,
                       struct http_answer *answer)
{
    struct nomad_query query;
    size_t source;
    if (!is_get(request, answer) || nomad_query_read(&query, request, answer) != 0)
        return;
    if (may_ask(r, request, answer) && choose(r, name, query.region, answer, &source)) {
        if (clients_full(r->clients)) {
            routes_turn_away(r, request, answer);
        } else {
            answer->content_type = "application/json";
            http_answer_header(answer, "Cache-Control", "no-cache");
            answer->ops = &follower_stream_ops;
            answer->client = lines_add(r->followers, r->feed->sources[source].journal, source,
                                       &query, beat_ms(r));
        }
    }
    nomad_query_fini(&query);
}

static bool take_region(void *arg, struct str name, struct str value)
{
    char **region = arg;
    if (!str_is(name, "region") || value.len == 0)
        return true;
    *region = mem_strndup(value.p, value.len);
    return false;
}

/* What the pages besides the stream share; false where the request has been answered. */
static bool describe(const struct routes *r, struct str name, const struct http_request *request,
                     struct http_answer *answer, struct bridge_source *about)
{
    struct nomad_query query = {0};
    size_t source;
    if (!is_get(request, answer) || !may_ask(r, request, answer))
        return false;
    http_request_query(request, take_region, &query.region);
    bool chosen = choose(r, name, query.region, answer, &source);
    nomad_query_fini(&query);
    if (chosen)
        bridge_describe_source(r->bridge, source, about);
    return chosen;
}

void nomad_page_leader(struct routes *r, struct str name, const struct http_request *request,
                       struct http_answer *answer)
{
    struct bridge_source about;
    if (!describe(r, name, request, answer, &about))
        return;
    answer->content_type = "application/json";
    buf_append_json(&answer->body, about.attached ? str_from(about.server) : STR(""));
}

static bool asks_for_one(void *arg, struct str name, struct str value)
{
    bool *one = arg;
    *one = *one || (str_is(name, "per_page") && str_is(value, "1"));
    return true;
}

void nomad_page_index(struct routes *r, struct str name, const struct http_request *request,
                      struct http_answer *answer)
{
    struct bridge_source about;
    bool one = false;
    if (!describe(r, name, request, answer, &about))
        return;
    http_request_query(request, asks_for_one, &one);
    if (!one) {
        answer->status = 404;
        answer->content_type = TEXT;
        buf_append_cstr(&answer->body, "no state here, only events: ask a Nomad\n");
        return;
    }
    answer->content_type = "application/json";
    if (!about.attached) {
        answer->status = 500;
        buf_append_cstr(&answer->body, "No cluster leader");
        return;
    }
    char index[32];
    snprintf(index, sizeof index, "%" PRIu64, about.last_index);
    http_answer_header(answer, "X-Nomad-Index", index);
    http_answer_header(answer, "X-Nomad-KnownLeader", "true");
}
