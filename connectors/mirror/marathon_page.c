/* marathon_page.c - the paths of Marathon's HTTP API that the mirror answers as a Marathon does. */
#include "connectors/mirror/marathon_page.h"

#include "connectors/mirror/credentials.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum { MARATHON_BEAT_MS = 10 * 1000 }; /* as Jetty's EventSourceServlet */

static const char EVENT_STREAM[] = "text/event-stream";

void marathon_page_refuse(struct http_answer *answer, unsigned status, const char *text)
{
    answer->status = status;
    answer->content_type = "text/plain; charset=utf-8";
    buf_append_cstr(&answer->body, text);
    buf_append_char(&answer->body, '\n');
}

void marathon_page_headers(const struct http_request *request, struct http_answer *answer)
{
    const char *host = http_request_header(request, "Host");
    if (host != NULL && host[0] != '\0') {
        struct buf leader = {0};
        buf_printf(&leader, "http://%s", host);
        http_answer_header(answer, "X-Marathon-Leader", buf_cstr(&leader));
        buf_fini(&leader);
    }
    http_answer_header(answer, "X-Frame-Options", "DENY");
    http_answer_header(answer, "X-XSS-Protection", "1; mode=block");
    http_answer_header(answer, "Cache-Control", "no-cache, no-store, must-revalidate");
    http_answer_header(answer, "Pragma", "no-cache");
    http_answer_header(answer, "Expires", "0");
}

/* ---- the token ---- */

bool marathon_page_may_ask(const struct routes *r, const struct http_request *request,
                           struct http_answer *answer)
{
    if (credentials_are_right(request, r->settings->token))
        return true;
    http_answer_header(answer, "WWW-Authenticate", "basic realm=\"Mesosphere\"");
    marathon_page_refuse(answer, 401, "Unauthorized");
    return false;
}

/* ---- which source ---- */

enum { NO_MARATHON = -1, SEVERAL = -2 };

static int find(const struct routes *r, struct str name)
{
    struct bridge_source about;
    int found = NO_MARATHON;
    for (size_t i = 0; i < r->feed->n_sources; i++) {
        bridge_describe_source(r->bridge, i, &about);
        if (!about.is_marathon || (name.p != NULL && !str_is(name, r->feed->sources[i].name)))
            continue;
        if (found >= 0)
            return SEVERAL;
        found = (int)i;
    }
    return found;
}

bool marathon_page_choose(const struct routes *r, struct str name, struct http_answer *answer,
                          size_t *source)
{
    struct bridge_source about;
    struct buf *body = &answer->body;
    int found = find(r, name);
    if (found >= 0) {
        *source = (size_t)found;
        return true;
    }
    answer->status = found == SEVERAL ? 400 : 404;
    answer->content_type = "text/plain; charset=utf-8";
    buf_append_cstr(body, found == SEVERAL ? "several Marathons here, ask:"
                                           : "no such Marathon here, there are:");
    for (size_t i = 0; i < r->feed->n_sources; i++) {
        bridge_describe_source(r->bridge, i, &about);
        if (about.is_marathon)
            buf_printf(body, " /sources/%s/v2/events", r->feed->sources[i].name);
    }
    buf_append_char(body, '\n');
    return false;
}

/* ---- who asks ---- */

static void write_v6(const struct in6_addr *address, char out[MARATHON_ADDRESS_MAX])
{
    const uint8_t *b = address->s6_addr;
    size_t len = 0;
    for (int i = 0; i < 16; i += 2)
        len += (size_t)snprintf(out + len, MARATHON_ADDRESS_MAX - len, "%s%x", i > 0 ? ":" : "",
                                (unsigned)b[i] << 8 | b[i + 1]);
}

void marathon_page_address(const struct http_request *request, char out[MARATHON_ADDRESS_MAX])
{
    const struct sockaddr *peer = http_request_peer(request);
    if (peer->sa_family != AF_INET6) {
        struct sockaddr_in v4;
        memcpy(&v4, peer, sizeof v4);
        inet_ntop(AF_INET, &v4.sin_addr, out, MARATHON_ADDRESS_MAX);
        return;
    }
    struct sockaddr_in6 v6;
    memcpy(&v6, peer, sizeof v6);
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
        inet_ntop(AF_INET, v6.sin6_addr.s6_addr + 12, out, MARATHON_ADDRESS_MAX);
    else
        write_v6(&v6.sin6_addr, out);
}

/* ---- /v2/events ---- */

/* The servlet's own: the method, then the Accept headers, of which one must be exactly this
 * (EventSourceServlet.doGet, HttpServlet.service). */
static bool is_understood(const struct http_request *request, struct http_answer *answer)
{
    const char *method = http_request_method(request);
    bool gets = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (gets && http_request_has(request, "Accept", EVENT_STREAM))
        return true;
    if (strcmp(method, "OPTIONS") == 0) {
        http_answer_header(answer, "Allow", "GET, HEAD, OPTIONS");
        return false;
    }
    char text[96];
    snprintf(text, sizeof text, "HTTP method %.16s is not supported by this URL", method);
    marathon_page_refuse(answer, 405, text);
    return false;
}

static int64_t beat_ms(const struct routes *r)
{
    int64_t least_ms = r->settings->heartbeat_ms;
    return least_ms < MARATHON_BEAT_MS ? least_ms : MARATHON_BEAT_MS;
}

void marathon_page_events(struct routes *r, struct str name, const struct http_request *request,
                          struct http_answer *answer)
{
    char address[MARATHON_ADDRESS_MAX];
    size_t source;
    if (!marathon_page_may_ask(r, request, answer) || !is_understood(request, answer) ||
        !marathon_page_choose(r, name, answer, &source))
        return;
    if (clients_full(r->clients)) {
        routes_turn_away(r, request, answer);
        return;
    }
    marathon_page_headers(request, answer);
    http_answer_header(answer, "X-Accel-Buffering", "no");
    answer->content_type = "text/event-stream;charset=utf-8";
    answer->ops = &follower_stream_ops;
    if (strcmp(http_request_method(request), "HEAD") == 0)
        return;
    marathon_page_address(request, address);
    answer->client =
        marathon_streams_add(r->marathon_streams, source, request, address, beat_ms(r));
}
