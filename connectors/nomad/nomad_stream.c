/* nomad_stream.c - one connection to one server's event stream, from asking to its end.
 *
 *     asked ──first line of Nomad's──▶ attached ──close, silence, error──▶ over
 *       └──anything else: a refusal──────────────────────────────────────────▲
 *
 * Until a line that Nomad could have sent was seen (always `{}`, at once), everything else is a
 * refusal: nothing of it is journaled, so that a proxy's HTML page is one line in the log and not
 * hundreds of Malformed events. From then on a terminated line that can't be read is a malformed
 * message, told to ingest, with one exception: Nomad's last words are plain text, and a close. Text
 * that is not JSON is therefore held back until something follows it (then it was a message) or the
 * stream ends (then it is the reason). */
#include "connectors/nomad/nomad_stream.h"

#include "bridge/base/clock.h"
#include "connectors/http_stream.h"
#include "connectors/ndjson.h"
#include "connectors/nomad_line.h"
#include "connectors/nomad/nomad_refusal.h"
#include "connectors/nomad/nomad_request.h"

#include <inttypes.h>
#include <string.h>

enum {
    FLUSH_EVERY_MS = 200,
    NOW_WAIT_MS = 500, /* start now: what comes first within this was there before */
    FRUITFUL_MS = 10000,
    HELD_MAX = 64 * 1024, /* of text that may be last words */
    LABEL_MAX = 256,
};

struct stream {
    const struct nomad_settings *settings;
    struct ingest *ingest;
    struct nomad_memory *memory;
    struct nomad_outcome *out;
    struct http_stream *http;
    const char *server;
    char label[LABEL_MAX];
    struct ndjson framer;
    struct nomad_line line;
    struct buf held;  /* lines of text, each with its "\n"; at most HELD_MAX */
    uint64_t skip_to; /* events up to this index are older than wanted; 0: none are */
    bool learn_now;   /* the first events tell where `now` is */
    bool attached;
    uint64_t newest_before;
    int64_t asked_ms;
    int64_t attached_ms;
    int64_t heard_ms;
};

static int lost(struct stream *s)
{
    s->out->end = NOMAD_LOST;
    return -1;
}

static int failed(struct stream *s)
{
    s->out->end = NOMAD_FAILED;
    return -1;
}

/* ---- where to begin ---- */

/* The index to ask for. Start now takes the newest and leaves out what it finds there; once that is
 * known, a lost connection may cost nothing any more. */
static uint64_t choose_index(struct stream *s)
{
    struct ingest_resume resume = ingest_resume(s->ingest);
    if (resume.last > s->memory->newest)
        s->memory->newest = resume.last;
    if (resume.known)
        return resume.index;
    if (ingest_start(s->ingest) != SOURCE_START_NOW)
        return 0;
    if (s->memory->now_known) {
        s->skip_to = s->memory->now_index;
        return s->memory->now_index;
    }
    s->learn_now = true;
    return INT64_MAX; /* Nomad reads it as a signed integer */
}

static void learn_now(struct stream *s, uint64_t index)
{
    s->learn_now = false;
    s->skip_to = index;
    s->memory->now_known = true;
    s->memory->now_index = index;
}

/* Nothing came at once: the buffer is empty, and whatever comes is new. */
static void learn_now_from_silence(struct stream *s)
{
    if (s->learn_now && s->attached && clock_mono_ms() - s->attached_ms > NOW_WAIT_MS)
        learn_now(s, 0);
}

static bool is_older_than_wanted(struct stream *s, uint64_t index)
{
    if (s->learn_now)
        learn_now(s, index);
    /* A server that begins below what was asked for has no more: a rebuilt cluster, or one that
     * lags. Its events count as new. */
    else if (index < s->skip_to && s->memory->newest == s->newest_before)
        s->skip_to = 0;
    return index <= s->skip_to;
}

/* ---- lines ---- */

static void attach(struct stream *s)
{
    if (s->attached)
        return;
    s->attached = true;
    s->attached_ms = clock_mono_ms();
    ingest_state(s->ingest, SOURCE_ATTACHED, s->label, NULL);
}

static int malformed(struct stream *s, struct str raw, uint64_t size, const char *reason)
{
    if (ingest_malformed(s->ingest, raw, size, reason, &s->out->err) != 0)
        return failed(s);
    return 0;
}

/* What was held back was not the end: these were messages. */
static int release_held(struct stream *s)
{
    struct str rest = buf_str(&s->held);
    while (rest.len > 0) {
        const char *end = memchr(rest.p, '\n', rest.len);
        struct str raw = {rest.p, (size_t)(end - rest.p)};
        if (malformed(s, raw, raw.len, "not JSON") != 0)
            return -1;
        rest.p += raw.len + 1;
        rest.len -= raw.len + 1;
    }
    buf_clear(&s->held);
    return 0;
}

static int hold(struct stream *s, struct str raw)
{
    if (s->held.len + raw.len + 1 > HELD_MAX && release_held(s) != 0)
        return -1;
    if (raw.len + 1 > HELD_MAX)
        return malformed(s, raw, raw.len, "not JSON");
    buf_append_str(&s->held, raw);
    buf_append_char(&s->held, '\n');
    return 0;
}

static int take_unreadable(struct stream *s, struct str raw, const struct err *why)
{
    if (!s->attached) {
        nomad_refusal_not_nomad(raw, &s->out->err);
        return lost(s);
    }
    if (s->line.not_json)
        return hold(s, raw);
    if (release_held(s) != 0)
        return -1;
    return malformed(s, raw, raw.len, why->msg);
}

static int take_oversized(struct stream *s, const struct ndjson_line *line)
{
    char reason[64];
    if (!s->attached) {
        nomad_refusal_not_nomad(line->bytes, &s->out->err);
        return lost(s);
    }
    if (release_held(s) != 0)
        return -1;
    snprintf(reason, sizeof reason, "longer than %d bytes", NDJSON_LINE_MAX);
    return malformed(s, line->bytes, line->size, reason);
}

/* Asked for several keys, Nomad 1.5 sends an event that matches two of them twice in a row
 * (nomad/stream/subscription.go, filter). */
static size_t drop_doubles(struct found_event *events, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || !str_eq(events[kept - 1].data, events[i].data))
            events[kept++] = events[i];
    return kept;
}

static int take_events(struct stream *s, struct str raw)
{
    struct nomad_line *line = &s->line;
    bool older = is_older_than_wanted(s, line->index);
    if (line->index > s->memory->newest)
        s->memory->newest = line->index;
    if (older)
        return 0;
    if (s->settings->filter_at == NOMAD_FILTER_AT_SERVER && s->settings->topics.n > 1)
        line->n_events = drop_doubles(line->events, line->n_events);
    if (ingest_message(s->ingest, raw, line->events, line->n_events, &s->out->err) != 0)
        return failed(s);
    return 0;
}

static int take_line(struct stream *s, const struct ndjson_line *line)
{
    struct err why;
    if (line->oversized)
        return take_oversized(s, line);
    if (nomad_line_parse(&s->line, line->bytes, &why) != 0)
        return take_unreadable(s, line->bytes, &why);
    if (!s->line.heartbeat && s->line.n_events == 0 && s->line.index == 0)
        return 0; /* an empty line says nothing */
    if (release_held(s) != 0)
        return -1;
    attach(s);
    if (s->line.heartbeat) {
        ingest_heartbeat(s->ingest);
        return 0;
    }
    return take_events(s, line->bytes);
}

static int flush(struct stream *s)
{
    return ingest_flush(s->ingest, &s->out->err) == 0 ? 0 : failed(s);
}

static int take_bytes(struct stream *s, struct str bytes)
{
    struct ndjson_line line;
    s->heard_ms = clock_mono_ms();
    learn_now_from_silence(s);
    ndjson_push(&s->framer, bytes);
    while (ndjson_next(&s->framer, &line))
        if (take_line(s, &line) != 0)
            return -1;
    return http_stream_more(s->http) ? 0 : flush(s);
}

/* ---- the end ---- */

/* What an attached stream left behind tells why it ended; -1 where it left nothing. */
static int say_last_words(struct stream *s)
{
    struct ndjson_line tail = {0};
    bool has_tail = ndjson_tail(&s->framer, &tail);
    if (s->held.len > 0)
        return nomad_refusal_last_words(buf_str(&s->held), &s->out->err), 0;
    if (!has_tail)
        return -1;
    if (tail.bytes.len > 0 && tail.bytes.p[0] != '{')
        return nomad_refusal_last_words(tail.bytes, &s->out->err), 0;
    err_set(&s->out->err, ERR_RETRY,
            "the connection broke off in the middle of a line (%" PRIu64 " bytes of it, left out)",
            tail.size);
    return 0;
}

static void say_closed(struct stream *s)
{
    struct ndjson_line tail;
    if (s->attached) {
        if (say_last_words(s) != 0)
            err_set(&s->out->err, ERR_RETRY, "the server closed the stream");
    } else if (ndjson_tail(&s->framer, &tail)) {
        nomad_refusal_not_nomad(tail.bytes, &s->out->err);
    } else {
        nomad_refusal_empty(s->settings, s->server, ingest_stop(s->ingest), &s->out->err);
    }
}

static void say_refused(struct stream *s)
{
    nomad_refusal_status(s->settings, http_stream_status(s->http),
                         http_stream_header(s->http, "Location"), http_stream_refusal(s->http),
                         &s->out->err);
}

/* Nothing came for a while: too long a while? */
static int take_idle(struct stream *s)
{
    int64_t now_ms = clock_mono_ms();
    learn_now_from_silence(s);
    if (!s->attached && now_ms - s->asked_ms > 2 * s->settings->connect_timeout_ms) {
        err_set(&s->out->err, ERR_RETRY,
                "connected, but nothing came within %" PRId64 " ms: is "
                "the server overloaded, or without a leader?",
                now_ms - s->asked_ms);
        return lost(s);
    }
    if (s->attached && now_ms - s->heard_ms > s->settings->silence_ms) {
        err_set(&s->out->err, ERR_RETRY,
                "silent for %" PRId64 " ms (heartbeats are due every 30 s)", now_ms - s->heard_ms);
        return lost(s);
    }
    return flush(s);
}

/* One round; -1 once it is over and out->end is set. */
static int step(struct stream *s)
{
    struct str bytes;
    if (stop_requested(ingest_stop(s->ingest))) { /* also while data never ends */
        s->out->end = NOMAD_STOPPED;
        return -1;
    }
    switch (http_stream_read(s->http, FLUSH_EVERY_MS, &bytes, &s->out->err)) {
    case HTTP_DATA:
        return take_bytes(s, bytes);
    case HTTP_IDLE:
        return take_idle(s);
    case HTTP_CLOSED:
        say_closed(s);
        return lost(s);
    case HTTP_REFUSED:
        say_refused(s);
        return lost(s);
    case HTTP_FAILED:
        if (s->attached)
            say_last_words(s);
        return lost(s);
    case HTTP_STOPPED:
        s->out->end = NOMAD_STOPPED;
        return -1;
    }
    return lost(s);
}

static void ask(struct stream *s)
{
    struct nomad_request request;
    nomad_request_init(&request, s->settings, s->server, "/v1/event/stream",
                       ingest_stop(s->ingest));
    nomad_request_stream(&request, s->settings, choose_index(s));
    s->newest_before = s->memory->newest;
    s->asked_ms = clock_mono_ms();
    s->http = http_stream_open(&request.http);
    nomad_request_fini(&request);
}

static void set_label(struct stream *s)
{
    struct buf label = {0};
    http_url_label(&label, s->server);
    snprintf(s->label, sizeof s->label, "%s", buf_cstr(&label));
    buf_fini(&label);
}

void nomad_stream_run(const struct nomad_settings *settings, struct ingest *ingest,
                      const char *server, struct nomad_memory *memory, struct nomad_outcome *out)
{
    struct stream s = {
        .settings = settings, .ingest = ingest, .memory = memory, .out = out, .server = server};
    *out = (struct nomad_outcome){.end = NOMAD_LOST};
    set_label(&s);
    ndjson_init(&s.framer, 0);
    nomad_line_init(&s.line);
    ingest_state(ingest, SOURCE_CONNECTING, s.label, NULL);
    ask(&s);
    while (step(&s) == 0)
        ;
    if (out->end != NOMAD_FAILED) {
        struct err err;
        if (ingest_flush(ingest, &err) != 0)
            *out = (struct nomad_outcome){.end = NOMAD_FAILED, .err = err};
    }
    out->fruitful = memory->newest > s.newest_before ||
                    (s.attached && clock_mono_ms() - s.attached_ms >= FRUITFUL_MS);
    if (out->end == NOMAD_LOST)
        ingest_state(ingest, SOURCE_BACKOFF, s.label, out->err.msg);
    http_stream_close(&s.http);
    nomad_line_fini(&s.line);
    ndjson_fini(&s.framer);
    buf_fini(&s.held);
}
