/* marathon_stream.c - one connection to one server's event stream, from asking to its end.
 *
 *     asked ──200, text/event-stream──▶ open ──event or heartbeat──▶ attached ──┐
 *       ├──another answer: refused        └──close: not ready──┐  close, silence │
 *       └──3xx: the leader is elsewhere                        ▼                ▼
 *                                                            over ◀──────────────
 *
 * Marathon has registered a stream before it tells it anything: its first event, which is the
 * stream's own event_stream_attached, proves that nothing is missed from here on. A leader that is
 * elected and not ready answers 200 as well, and closes: such a stream was never attached, and so
 * its end is no gap. Behind the first event, or heartbeat, a frame that is whole and can't be read
 * is a malformed message; the half of one that a close leaves behind is a connection that broke
 * off, logged and not journaled. */
#include "connectors/marathon/marathon_stream.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/http_stream.h"
#include "connectors/marathon/marathon_refusal.h"
#include "connectors/marathon/marathon_request.h"
#include "connectors/marathon/marathon_settings.h"
#include "connectors/marathon_event.h"
#include "connectors/sse.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
    FLUSH_EVERY_MS = 200,
    STOOD_MS = 1000,
};

struct stream {
    const struct marathon_settings *settings;
    struct ingest *ingest;
    struct marathon_place *place;
    struct marathon_outcome *out;
    struct http_stream *http;
    const char *server;
    char label[MARATHON_LABEL_MAX];
    struct sse framer;
    struct marathon_event event;
    bool open; /* 200, and an event stream */
    bool attached;
    bool named; /* the first event_stream_attached has come */
    int64_t asked_ms;
    int64_t attached_ms;
    int64_t heard_ms;
};

void marathon_place_set(struct marathon_place *place, const char *server)
{
    pthread_mutex_lock(&place->lock);
    snprintf(place->server, sizeof place->server, "%s", server);
    pthread_mutex_unlock(&place->lock);
}

void marathon_place_get(struct marathon_place *place, char out[MARATHON_SERVER_MAX])
{
    pthread_mutex_lock(&place->lock);
    memcpy(out, place->server, MARATHON_SERVER_MAX);
    pthread_mutex_unlock(&place->lock);
}

static int lost(struct stream *s)
{
    s->out->end = MARATHON_LOST;
    return -1;
}

static int failed(struct stream *s)
{
    s->out->end = MARATHON_FAILED;
    return -1;
}

static int flush(struct stream *s)
{
    return ingest_flush(s->ingest, &s->out->err) == 0 ? 0 : failed(s);
}

static void set_label(char label[MARATHON_LABEL_MAX], const char *url)
{
    struct buf text = {0};
    http_url_label(&text, url);
    snprintf(label, MARATHON_LABEL_MAX, "%s", buf_cstr(&text));
    buf_fini(&text);
}

/* ---- attached ---- */

/* Every answer of a Marathon says who leads. Behind one that is a proxy (to 1.6, or a gateway) that
 * is somebody else than who was asked. */
static void name_leader(struct stream *s)
{
    const char *leader = http_stream_header(s->http, "X-Marathon-Leader");
    char normal[MARATHON_SERVER_MAX];
    if (leader[0] != '\0' && marathon_leader_normal(leader, normal))
        set_label(s->label, leader);
}

static void attach(struct stream *s)
{
    if (s->attached)
        return;
    if (!s->place->resumed)
        ingest_resume(s->ingest); /* may wait for the sinks, while the stream is open already */
    s->place->resumed = s->attached = true;
    s->attached_ms = s->heard_ms = clock_mono_ms();
    name_leader(s);
    ingest_state(s->ingest, SOURCE_ATTACHED, s->label, NULL);
}

/* Java writes IPv6 in full, and sometimes in brackets; an IPv4 one that came over IPv6 as IPv4. */
static bool read_ip(struct str text, struct in6_addr *out)
{
    char ip[INET6_ADDRSTRLEN + 8];
    if (text.len > 2 && text.p[0] == '[' && text.p[text.len - 1] == ']')
        text = (struct str){text.p + 1, text.len - 2};
    const char *zone = memchr(text.p, '%', text.len);
    if (zone != NULL)
        text.len = (size_t)(zone - text.p);
    if (text.len == 0 || text.len > INET6_ADDRSTRLEN)
        return false;
    bool v4 = memchr(text.p, ':', text.len) == NULL;
    snprintf(ip, sizeof ip, "%s%.*s", v4 ? "::ffff:" : "", STR_ARG(text));
    return inet_pton(AF_INET6, ip, out) == 1;
}

static bool is_own_address(struct stream *s, struct str remote)
{
    char local[HTTP_IP_MAX];
    struct in6_addr ours, told;
    http_stream_local(s->http, local, sizeof local);
    return read_ip(str_from(local), &ours) && read_ip(remote, &told) &&
           memcmp(&ours, &told, sizeof ours) == 0;
}

/* The first of a connection is its own. Another address than that which this machine has there is
 * what an operator needs to find this client in Marathon's log: a proxy or NAT is in between. */
static void note_own(struct stream *s, const struct found_event *found)
{
    if (s->named || !str_is(found->type, "event_stream_attached"))
        return;
    s->named = true;
    if (is_own_address(s, found->key))
        return;
    char address[INET6_ADDRSTRLEN + 8];
    snprintf(address, sizeof address, "%.*s", STR_ARG(str_cut(found->key, INET6_ADDRSTRLEN)));
    log_debug("stream_seen_as", LOG_STR("server", s->label), LOG_STR("address", address),
              LOG_STR("note", "not this machine's own: a proxy or NAT is in between"));
}

/* ---- frames ---- */

static int malformed(struct stream *s, struct str raw, uint64_t size, const char *reason)
{
    attach(s); /* a frame, if not one that can be read */
    if (ingest_malformed(s->ingest, raw, size, reason, &s->out->err) != 0)
        return failed(s);
    return 0;
}

static int take_frame(struct stream *s, const struct sse_event *frame)
{
    struct err why;
    char reason[64];
    if (frame->oversized) {
        snprintf(reason, sizeof reason, "longer than %d bytes", SSE_EVENT_MAX);
        return malformed(s, frame->data, frame->size, reason);
    }
    if (frame->data.len == 0)
        return 0; /* as the standard: nothing */
    if (marathon_event_read(&s->event, frame->type, frame->data, &why) != 0)
        return malformed(s, frame->data, frame->data.len, why.msg);
    attach(s);
    note_own(s, &s->event.found);
    if (ingest_message(s->ingest, frame->data, &s->event.found, 1, &s->out->err) != 0)
        return failed(s);
    return 0;
}

/* Marathon's heartbeat: CR and LF, each flushed by itself. */
static bool is_heartbeat(struct str bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        if (bytes.p[i] != '\r' && bytes.p[i] != '\n')
            return false;
    return bytes.len > 0;
}

static int take_bytes(struct stream *s, struct str bytes)
{
    struct sse_event frame;
    s->heard_ms = clock_mono_ms();
    bool beat = is_heartbeat(bytes) && !sse_is_partial(&s->framer);
    sse_push(&s->framer, bytes);
    while (sse_next(&s->framer, &frame))
        if (take_frame(s, &frame) != 0)
            return -1;
    if (beat) {
        attach(s);
        ingest_heartbeat(s->ingest);
    }
    return http_stream_more(s->http) ? 0 : flush(s);
}

/* ---- the end ---- */

static void say_closed(struct stream *s)
{
    if (sse_is_partial(&s->framer))
        err_set(&s->out->err, ERR_RETRY,
                "the connection broke off in the middle of an event, which is left out: cut off as "
                "too slow a reader, or the server failed");
    else if (s->attached)
        err_set(&s->out->err, ERR_RETRY,
                "the server closed the stream: it no longer leads, or ended");
    else
        marathon_refusal_not_ready(&s->out->err);
}

static int take_refusal(struct stream *s)
{
    struct marathon_refusal refusal = {
        .status = http_stream_status(s->http),
        .text = http_stream_refusal(s->http),
        .trusted = marathon_leader_is_configured(s->settings, s->server),
    };
    if (refusal.status >= 300 && refusal.status < 400) {
        if (marathon_leader_follow(s->server, http_stream_header(s->http, "Location"),
                                   s->out->leader, &s->out->err) != 0)
            return lost(s);
        s->out->end = MARATHON_REDIRECT;
        return -1;
    }
    refusal.wants = http_stream_header(s->http, "WWW-Authenticate");
    marathon_refusal_status(s->settings, &refusal, &s->out->err);
    return lost(s);
}

/* Once, when the head of a 200 is there. */
static int check_type(struct stream *s)
{
    static const char wanted[] = "text/event-stream";
    const char *type = http_stream_header(s->http, "Content-Type");
    s->open = true;
    s->heard_ms = clock_mono_ms();
    if (strncasecmp(type, wanted, sizeof wanted - 1) == 0)
        return 0;
    marathon_refusal_type(type, &s->out->err);
    return lost(s);
}

/* Nothing came for a while: too long a while? */
static int take_idle(struct stream *s)
{
    int64_t now_ms = clock_mono_ms();
    if (!s->open && now_ms - s->asked_ms > 2 * s->settings->connect_timeout_ms) {
        err_set(&s->out->err, ERR_RETRY,
                "connected, but no answer came within %" PRId64 " ms: is the server overloaded?",
                2 * s->settings->connect_timeout_ms);
        return lost(s);
    }
    if (s->open && now_ms - s->heard_ms > s->settings->silence_ms) {
        err_set(&s->out->err, ERR_RETRY,
                "silent for %" PRId64 " ms (heartbeats are due every 10 s)",
                s->settings->silence_ms);
        return lost(s);
    }
    return flush(s);
}

static int read_some(struct stream *s)
{
    struct str bytes = {0};
    enum http_read got = http_stream_read(s->http, FLUSH_EVERY_MS, &bytes, &s->out->err);
    if (!s->open && http_stream_status(s->http) == 200 && check_type(s) != 0)
        return -1;
    switch (got) {
    case HTTP_DATA:
        return take_bytes(s, bytes);
    case HTTP_IDLE:
        return take_idle(s);
    case HTTP_CLOSED:
        say_closed(s);
        return lost(s);
    case HTTP_REFUSED:
        return take_refusal(s);
    case HTTP_FAILED:
        if (sse_is_partial(&s->framer))
            err_wrap(&s->out->err, "in the middle of an event, which is left out");
        return lost(s);
    case HTTP_STOPPED:
        s->out->end = MARATHON_STOPPED;
        return -1;
    }
    return lost(s);
}

/* One round; -1 once it is over and out->end is set. */
static int step(struct stream *s)
{
    if (stop_requested(ingest_stop(s->ingest))) { /* also while data never ends */
        s->out->end = MARATHON_STOPPED;
        return -1;
    }
    return read_some(s);
}

static void ask(struct stream *s)
{
    struct marathon_request request;
    struct buf path = {0};
    marathon_request_events(&path, s->settings);
    marathon_request_init(&request, s->settings, s->server, buf_cstr(&path), "text/event-stream",
                          ingest_stop(s->ingest));
    marathon_place_set(s->place, s->server);
    s->asked_ms = clock_mono_ms();
    s->http = http_stream_open(&request.http);
    marathon_request_fini(&request);
    buf_fini(&path);
}

void marathon_stream_run(const struct marathon_settings *settings, struct ingest *ingest,
                         struct marathon_place *place, const char *server,
                         struct marathon_outcome *out)
{
    struct stream s = {
        .settings = settings, .ingest = ingest, .place = place, .out = out, .server = server};
    *out = (struct marathon_outcome){.end = MARATHON_LOST};
    set_label(s.label, server);
    sse_init(&s.framer, 0);
    marathon_event_init(&s.event);
    ingest_state(ingest, SOURCE_CONNECTING, s.label, NULL);
    ask(&s);
    while (step(&s) == 0)
        ;
    if (out->end != MARATHON_FAILED) {
        struct err err;
        if (ingest_flush(ingest, &err) != 0)
            *out = (struct marathon_outcome){.end = MARATHON_FAILED, .err = err};
    }
    snprintf(out->label, sizeof out->label, "%s", s.label);
    int status = http_stream_status(s.http);
    out->answered = status != 0;
    out->refused = status >= 400 && status < 500;
    out->attached = s.attached;
    out->stood = s.attached && clock_mono_ms() - s.attached_ms >= STOOD_MS;
    http_stream_close(&s.http);
    marathon_event_fini(&s.event);
    sse_fini(&s.framer);
}
