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
#include "connectors/nomad/nomad_doubles.h"
#include "connectors/nomad/nomad_leader.h"
#include "connectors/nomad/nomad_refusal.h"
#include "connectors/nomad/nomad_request.h"

#include <inttypes.h>
#include <string.h>

enum {
    FLUSH_EVERY_MS = 200,
    NOW_WAITS = 3, /* start now: what comes before so many of these were in vain was there before */
    FRUITFUL_MS = 10000,
    QUIET_MS = 10000, /* without an event for so long: is the server still there? */
    QUIET_LEAST_MS = 1000,
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
    int waits;        /* in vain, for the first of them */
    bool attached;
    bool over;            /* what a piece of the body told ended it; out->end is set */
    uint64_t begins_at;   /* the index of the first events; 0: none came */
    bool caught_up;       /* up to what was known before */
    bool hurry;           /* the next try need not wait */
    uint64_t asked_index; /* known to ingest; 0: none is */
    uint64_t newest_before;
    int64_t asked_ms;
    int64_t attached_ms;
    int64_t heard_ms;
    int64_t quiet_ms; /* since when there were no events, or since it was last asked why */
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

/* Asked also while data never ends. */
static bool is_stopped(struct stream *s)
{
    if (!stop_requested(ingest_stop(s->ingest)))
        return false;
    s->out->end = NOMAD_STOPPED;
    return true;
}

static int flush(struct stream *s)
{
    return ingest_flush(s->ingest, &s->out->err) == 0 ? 0 : failed(s);
}

/* ---- where to begin ---- */

static void note_told(struct nomad_memory *memory, uint64_t index)
{
    if (memory->n_told == 0 || memory->told[(memory->n_told - 1) % NOMAD_TOLD_MAX] < index)
        memory->told[memory->n_told++ % NOMAD_TOLD_MAX] = index;
}

/* The newest index below `index` that was told to ingest; 0: not known any more. */
static uint64_t told_before(const struct nomad_memory *memory, uint64_t index)
{
    size_t n = memory->n_told < NOMAD_TOLD_MAX ? memory->n_told : NOMAD_TOLD_MAX;
    uint64_t found = 0;
    for (size_t i = 0; i < n; i++)
        if (memory->told[i] < index && memory->told[i] > found)
            found = memory->told[i];
    return found;
}

/* What was told of a new namespace before the last index but one can be had by this subscription
 * only. Something known has to come before it: else nothing would prove that the buffer still
 * reaches back so far. */
static uint64_t reach_back(const struct stream *s, uint64_t index)
{
    uint64_t created = nomad_namespaces_created(&s->memory->namespaces);
    return created > index ? index : told_before(s->memory, created);
}

/* The index to ask for. Start now takes the newest and leaves out what it finds there; once that is
 * known, a lost connection may cost nothing any more. */
static uint64_t choose_index(struct stream *s, const struct ingest_resume *resume)
{
    if (s->memory->from_oldest)
        return 0;
    if (resume->known)
        return s->asked_index = reach_back(s, resume->index);
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

/* Nothing came at once: the buffer is empty, and whatever comes is new. Not told by the clock: what
 * is there may lie unread while the machine, or this thread, stands still. */
static void learn_now_from_silence(struct stream *s)
{
    if (s->learn_now && s->attached && ++s->waits >= NOW_WAITS)
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
    s->attached_ms = s->quiet_ms = clock_mono_ms();
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

/* Something unknown below the last index: has the index started over, or does this server lag, or
 * apply its log anew? If it has started over, this connection is of no use: asked for an index past
 * the end of its buffer, Nomad sent only the newest batch of it. The next one asks for all there
 * is. As long as the leader applies its log nothing is decided, and the next try comes at once: the
 * buffer may be small, and what comes after the log is new. */
static int find_place(struct stream *s)
{
    enum leader_verdict verdict;
    if (flush(s) != 0)
        return -1;
    if (nomad_leader_judge(s->settings, s->server, ingest_stop(s->ingest),
                           ingest_last_index(s->ingest), &verdict, &s->out->err) != 0) {
        s->hurry = verdict == LEADER_REPLAYS;
        err_wrap(&s->out->err, "an index below the last: a rebuilt cluster or a server that lags?");
        return lost(s);
    }
    if (verdict == LEADER_IS_AHEAD) {
        ingest_lags(s->ingest);
        return 0;
    }
    if (ingest_started_over(s->ingest, &s->out->err) != 0)
        return failed(s);
    s->memory->newest = 0;
    s->memory->n_told = 0;
    s->memory->from_oldest = true;
    nomad_namespaces_forget(&s->memory->namespaces);
    s->hurry = true;
    err_set(&s->out->err, ERR_RETRY,
            "the index has started over: reading the new one from its oldest");
    return lost(s);
}

/* Asked for an index that is known, a server begins with it, unless its buffer does not reach back
 * so far: it was restarted, or has a small one. Each other server is asked once then, before it is
 * a gap. */
static int check_reach(struct stream *s, uint64_t index)
{
    if (s->begins_at != 0 || s->asked_index == 0 || index <= s->asked_index ||
        s->settings->servers.n == 1 || s->memory->searched >= s->settings->servers.n)
        return 0;
    s->memory->searched++;
    s->hurry = true;
    err_set(&s->out->err, ERR_RETRY,
            "its buffer begins at %" PRIu64 ", behind the %" PRIu64
            " asked for: does another server know what is between?",
            index, s->asked_index);
    return lost(s);
}

static void mark_late(struct stream *s)
{
    for (size_t i = 0; i < s->line.n_events; i++) {
        struct found_event *event = &s->line.events[i];
        event->late = nomad_namespaces_judge(&s->memory->namespaces, event, s->begins_at);
    }
}

/* The first events of this connection. */
static int begin(struct stream *s, uint64_t index)
{
    s->begins_at = index;
    uint64_t missed = nomad_namespaces_missed(&s->memory->namespaces, index);
    if (missed == 0 || s->newest_before == 0)
        return 0;
    int rc = ingest_missed(s->ingest, missed, index,
                           "the server's buffer begins behind the creation of a namespace that was "
                           "not subscribed to yet",
                           &s->out->err);
    return rc == 0 ? 0 : failed(s);
}

static int take_events(struct stream *s, struct str raw)
{
    struct nomad_line *line = &s->line;
    s->quiet_ms = s->heard_ms;
    if (check_reach(s, line->index) != 0 || (s->begins_at == 0 && begin(s, line->index) != 0))
        return -1;
    mark_late(s);
    bool older = is_older_than_wanted(s, line->index);
    if (line->index > s->memory->newest)
        s->memory->newest = line->index;
    if (older)
        return 0;
    if (s->settings->filter_at == NOMAD_FILTER_AT_SERVER && s->settings->topics.n > 1)
        line->n_events = nomad_drop_doubles(line->events, line->n_events);
    if (ingest_is_out_of_place(s->ingest, line->events, line->n_events) && find_place(s) != 0)
        return -1;
    if (ingest_message(s->ingest, raw, line->events, line->n_events, &s->out->err) != 0)
        return failed(s);
    note_told(s->memory, line->index);
    s->caught_up = s->caught_up || line->index >= s->newest_before;
    s->memory->from_oldest = false;
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

/* http_stream's taker. */
static bool take_piece(void *arg, struct str piece)
{
    struct stream *s = arg;
    struct ndjson_line line;
    s->over = is_stopped(s);
    if (s->over)
        return false;
    s->heard_ms = clock_mono_ms();
    ndjson_push(&s->framer, piece);
    while (!s->over && ndjson_next(&s->framer, &line))
        s->over = take_line(s, &line) != 0;
    return !s->over;
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

/* Heartbeats are rare: Nomad's buffer may roll over several times before `silence` is up. And they
 * go on where a server is cut off from the others. One that tells no events is therefore asked, on
 * a connection of its own, whether it is there. */
static int check_quiet(struct stream *s, int64_t now_ms)
{
    int64_t patience_ms = s->settings->silence_ms / 4;
    if (patience_ms > QUIET_MS)
        patience_ms = QUIET_MS;
    if (patience_ms < QUIET_LEAST_MS)
        patience_ms = QUIET_LEAST_MS;
    if (now_ms - s->quiet_ms < patience_ms)
        return 0;
    int64_t timeout_ms = s->settings->silence_ms / 2;
    if (timeout_ms > s->settings->connect_timeout_ms)
        timeout_ms = s->settings->connect_timeout_ms;
    int rc = nomad_leader_is_known(s->settings, s->server, ingest_stop(s->ingest), (int)timeout_ms,
                                   &s->out->err);
    s->quiet_ms = clock_mono_ms();
    return rc;
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
    if (flush(s) != 0)
        return -1;
    return s->attached && check_quiet(s, now_ms) != 0 ? lost(s) : 0;
}

/* A new namespace is told from the next subscription on. What is held back may be a message: it is
 * waited for. */
static int check_namespaces(struct stream *s)
{
    struct nomad_namespaces *namespaces = &s->memory->namespaces;
    if (!s->attached || !nomad_namespaces_poll(namespaces, s->caught_up, s->memory->newest) ||
        s->held.len > 0)
        return 0;
    s->memory->again = s->hurry = true;
    return lost(s);
}

static int read_some(struct stream *s)
{
    struct str taken;
    struct err err;
    enum http_read got = http_stream_read(s->http, FLUSH_EVERY_MS, &taken, &err);
    if (s->over)
        return -1;
    switch (got) {
    case HTTP_DATA:
        return http_stream_more(s->http) ? 0 : flush(s);
    case HTTP_IDLE:
        return take_idle(s);
    case HTTP_CLOSED:
        say_closed(s);
        return lost(s);
    case HTTP_REFUSED:
        say_refused(s);
        return lost(s);
    case HTTP_FAILED:
        s->out->err = err;
        if (s->attached)
            say_last_words(s);
        return lost(s);
    case HTTP_STOPPED:
        s->out->end = NOMAD_STOPPED;
        return -1;
    }
    return lost(s);
}

/* One round; -1 once it is over and out->end is set. */
static int step(struct stream *s)
{
    return !is_stopped(s) && read_some(s) == 0 ? check_namespaces(s) : -1;
}

static void ask(struct stream *s)
{
    struct nomad_request request;
    struct nomad_memory *memory = s->memory;
    struct ingest_resume resume = ingest_resume(s->ingest);
    if (resume.last > memory->newest)
        memory->newest = resume.last;
    if (memory->n_told == 0 && resume.known) {
        note_told(memory, resume.index);
        note_told(memory, resume.last);
    }
    nomad_namespaces_look(&memory->namespaces, s->settings, s->ingest, s->server, memory->newest);
    nomad_request_init(&request, s->settings, s->server, "/v1/event/stream",
                       ingest_stop(s->ingest));
    nomad_request_stream(&request, s->settings, choose_index(s, &resume));
    s->newest_before = memory->newest;
    s->caught_up = memory->newest == 0;
    s->asked_ms = clock_mono_ms();
    request.http.taker = (struct http_taker){take_piece, s};
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
    if (!memory->again) /* else nothing is wrong, and it is attached */
        ingest_state(ingest, SOURCE_CONNECTING, s.label, NULL);
    memory->again = false;
    ask(&s);
    while (step(&s) == 0)
        ;
    if (out->end != NOMAD_FAILED) {
        struct err err;
        if (ingest_flush(ingest, &err) != 0)
            *out = (struct nomad_outcome){.end = NOMAD_FAILED, .err = err};
    }
    bool progress = memory->newest > s.newest_before;
    bool stood = s.attached && clock_mono_ms() - s.attached_ms >= FRUITFUL_MS;
    if (progress)
        memory->searched = 0;
    else if (memory->searched > 0 && !s.hurry)
        memory->searched++;
    out->fruitful = progress || stood || s.hurry;
    if (out->end == NOMAD_LOST && !memory->again)
        ingest_state(ingest, SOURCE_BACKOFF, s.label, out->err.msg);
    nomad_namespaces_rest(&memory->namespaces);
    http_stream_close(&s.http);
    nomad_line_fini(&s.line);
    ndjson_fini(&s.framer);
    buf_fini(&s.held);
}

void nomad_memory_fini(struct nomad_memory *memory)
{
    nomad_namespaces_fini(&memory->namespaces);
}
