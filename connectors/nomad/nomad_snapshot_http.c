/* nomad_snapshot_http.c - one question after another to Nomad's HTTP API, over one connection.
 *
 * Which errors pass and which stay is Nomad's to know: a server that can't reach its leader says
 * 500, and so does one that can't read one policy of its own. The first must not cost an object,
 * the second must not keep a resync from ever being finished: so the same question is asked again,
 * in later attempts, before a 500 counts as an answer. Words about the leader never count. */
#include "connectors/nomad/nomad_snapshot_http.h"

#include "bridge/base/hash.h"
#include "connectors/nomad/nomad_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MEMORY_KEPT = 4 << 20 };

void snapshot_http_init(struct snapshot_http *http, const struct nomad_settings *settings,
                        const struct snapshot_asker *asker, const char *server,
                        struct snapshot_trouble *trouble)
{
    *http = (struct snapshot_http){.settings = settings,
                                   .asker = *asker,
                                   .server = server,
                                   .trouble = trouble,
                                   .session = http_session_new(),
                                   .silence_ms = SNAPSHOT_SILENCE_MS};
}

void snapshot_http_fini(struct snapshot_http *http)
{
    http_session_free(&http->session);
}

void snapshot_answer_fini(struct snapshot_answer *answer)
{
    buf_fini(&answer->body);
    buf_fini(&answer->next_token);
}

static void clear(struct snapshot_answer *answer)
{
    if (answer->body.cap > MEMORY_KEPT)
        buf_fini(&answer->body);
    buf_clear(&answer->body);
    buf_clear(&answer->next_token);
    answer->status = 0;
    answer->index = 0;
    answer->has_index = false;
    answer->too_long = false;
}

static bool says(const struct snapshot_answer *answer, const char *what)
{
    return answer->body.len > 0 &&
           memmem(answer->body.p, answer->body.len, what, strlen(what)) != NULL;
}

bool snapshot_answer_is_denied(const struct snapshot_answer *answer)
{
    return answer->status == 401 || answer->status == 403 || says(answer, "Permission denied");
}

void snapshot_answer_describe(struct snapshot_answer *answer, char *out, size_t size)
{
    char text[81];
    if (answer->too_long || (answer->status == 200 && answer->body.len == 0)) {
        snprintf(out, size, "200, and %s", answer->too_long ? "too much to be read" : "nothing");
        return;
    }
    size_t n = answer->body.len < sizeof text - 1 ? answer->body.len : sizeof text - 1;
    if (n > 0)
        memcpy(text, answer->body.p, n);
    text[n] = '\0';
    for (char *c = text; c < text + n; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
    snprintf(out, size, "%d%s%s", answer->status, n > 0 ? ": " : "", text);
}

/* ---- one exchange ---- */

static int take_head(struct http_stream *stream, struct snapshot_answer *answer, struct err *err)
{
    const char *token = http_stream_header(stream, "X-Nomad-NextToken");
    if (strlen(token) > SNAPSHOT_TOKEN_MAX)
        return err_set(err, ERR_RETRY, "X-Nomad-NextToken is longer than %d bytes",
                       SNAPSHOT_TOKEN_MAX);
    buf_append_cstr(&answer->next_token, token);
    const char *index = http_stream_header(stream, "X-Nomad-Index");
    char *end;
    errno = 0;
    uint64_t value = strtoull(index, &end, 10);
    answer->has_index = errno == 0 && *end == '\0' && index[0] >= '0' && index[0] <= '9';
    answer->index = answer->has_index ? value : 0;
    return 0;
}

static bool take_piece(struct snapshot_answer *answer, struct str bytes)
{
    answer->too_long = answer->body.len + bytes.len > SNAPSHOT_BODY_MAX;
    if (answer->too_long)
        buf_fini(&answer->body);
    else
        buf_append_str(&answer->body, bytes);
    return !answer->too_long;
}

static int read_answer(struct http_stream *stream, int silence_ms, struct snapshot_answer *answer,
                       struct err *err)
{
    for (;;) {
        struct str bytes = {0};
        switch (http_stream_read(stream, silence_ms, &bytes, err)) {
        case HTTP_DATA:
            if (!take_piece(answer, bytes))
                return 0;
            break;
        case HTTP_REFUSED:
            buf_append_str(&answer->body, http_stream_refusal(stream));
            return take_head(stream, answer, err);
        case HTTP_CLOSED:
            return take_head(stream, answer, err);
        case HTTP_IDLE:
            return err_set(err, ERR_RETRY, "silent for %d ms", silence_ms);
        case HTTP_STOPPED:
            return err_set(err, ERR_RETRY, "stopped");
        case HTTP_FAILED:
            return -1;
        }
    }
}

static int exchange(struct snapshot_http *http, const char *path, const char *query,
                    struct snapshot_answer *answer, struct err *err)
{
    struct nomad_request request;
    nomad_request_init(&request, http->settings, http->server, path, http->asker.stop);
    nomad_request_api(&request, http->settings, query);
    request.http.session = http->session;
    struct http_stream *stream = http_stream_open(&request.http);
    nomad_request_fini(&request);
    int rc = read_answer(stream, http->silence_ms, answer, err);
    answer->status = http_stream_status(stream);
    http_stream_close(&stream);
    return rc;
}

/* ---- what it means ---- */

static bool is_passing(const struct snapshot_answer *answer)
{
    return answer->status == 429 || (answer->status > 500 && answer->status != 501) ||
           says(answer, "No cluster leader") || says(answer, "Not ready to serve consistent reads");
}

/* True where this is what the server says to this question, now and later. */
static bool is_final(struct snapshot_http *http, const char *path, struct snapshot_answer *answer)
{
    struct snapshot_trouble *trouble = http->trouble;
    if (is_passing(answer))
        return false;
    /* 1.5 takes /v1/node/pools for a node's id. */
    if (answer->status != 500 || says(answer, "Permission denied") || says(answer, "UUID must be"))
        return true;
    uint64_t hash = hash64(HASH64_START, path, strlen(path));
    trouble->times = trouble->path == hash ? trouble->times + 1 : 1;
    trouble->path = hash;
    return trouble->times >= SNAPSHOT_PATIENCE;
}

int snapshot_http_get(struct snapshot_http *http, const char *path, const char *query,
                      struct snapshot_answer *answer, struct err *err)
{
    clear(answer);
    const struct snapshot_asker *asker = &http->asker;
    if (http->stopped || (asker->may_ask != NULL && !asker->may_ask(asker->arg))) {
        http->stopped = true;
        return err_set(err, ERR_RETRY, "stopped");
    }
    if (exchange(http, path, query, answer, err) != 0) {
        err->kind = ERR_RETRY;
        return err_wrap(err, "%.200s", path);
    }
    if (is_final(http, path, answer))
        return 0;
    char said[128];
    snapshot_answer_describe(answer, said, sizeof said);
    return err_set(err, ERR_RETRY, "%.200s: the server answered %s", path, said);
}
