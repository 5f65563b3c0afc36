/* marathon_snapshot_http.c - one question after another to Marathon's HTTP API, for a resync. */
#include "connectors/marathon/marathon_snapshot_http.h"

#include "bridge/base/clock.h"
#include "connectors/marathon/marathon_request.h"

#include <stdio.h>
#include <string.h>

enum { LOOK_MS = 200 };

const struct marathon_asker_limits marathon_asker_limits = {
    .silence_ms = 30000, .whole_ms = 600000, .bytes_max = UINT64_C(1) << 30};

void marathon_asker_init(struct marathon_asker *asker, const struct marathon_settings *settings,
                         const char *server, struct resync *resync)
{
    *asker = (struct marathon_asker){.settings = settings,
                                     .resync = resync,
                                     .server = server,
                                     .limits = marathon_asker_limits,
                                     .session = http_session_new()};
}

void marathon_asker_fini(struct marathon_asker *asker)
{
    http_session_free(&asker->session);
}

static void describe(struct http_stream *stream, struct marathon_answer *answer)
{
    char text[81];
    struct str body = http_stream_refusal(stream);
    const char *location = http_stream_header(stream, "Location");
    size_t n = body.len < sizeof text - 1 ? body.len : sizeof text - 1;
    if (n > 0)
        memcpy(text, body.p, n);
    text[n] = '\0';
    for (char *c = text; c < text + n; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
    if (*location != '\0')
        snprintf(answer->said, sizeof answer->said, "%d, to %.100s", answer->status, location);
    else
        snprintf(answer->said, sizeof answer->said, "%d%s%s", answer->status, n > 0 ? ": " : "",
                 text);
}

struct reading {
    struct marathon_asker *asker;
    marathon_body_fn *take;
    void *arg;
    uint64_t bytes;
    int64_t heard_ms, until_ms;
};

static int take_piece(struct reading *r, struct str bytes, struct err *err)
{
    const struct marathon_asker_limits *limits = &r->asker->limits;
    r->bytes += bytes.len;
    if (r->bytes > limits->bytes_max)
        return err_set(err, ERR_RETRY, "an answer of more than %llu bytes",
                       (unsigned long long)limits->bytes_max);
    if (clock_mono_ms() > r->until_ms)
        return err_set(err, ERR_RETRY, "an answer that takes longer than %lld ms",
                       (long long)limits->whole_ms);
    r->asker->lost = false;
    int rc = r->take(r->arg, bytes, err);
    r->asker->lost = rc == 0;
    return rc;
}

/* What was told so far does not wait for the rest. */
static int wait_on(struct reading *r, struct err *err)
{
    int silence_ms = r->asker->limits.silence_ms;
    if (!resync_goes_on(r->asker->resync))
        return err_set(err, ERR_RETRY, "it is time to stop");
    if (clock_mono_ms() - r->heard_ms >= silence_ms)
        return err_set(err, ERR_RETRY, "silent for %d ms", silence_ms);
    return 0;
}

static int read_answer(struct reading *r, struct http_stream *stream, struct err *err)
{
    int look_ms = r->asker->limits.silence_ms < LOOK_MS ? r->asker->limits.silence_ms : LOOK_MS;
    for (;;) {
        struct str bytes = {0};
        switch (http_stream_read(stream, look_ms, &bytes, err)) {
        case HTTP_DATA:
            r->heard_ms = clock_mono_ms();
            if (take_piece(r, bytes, err) != 0)
                return -1;
            break;
        case HTTP_REFUSED:
        case HTTP_CLOSED:
            return 0;
        case HTTP_IDLE:
            if (wait_on(r, err) != 0)
                return -1;
            break;
        case HTTP_STOPPED:
            return err_set(err, ERR_RETRY, "it is time to stop");
        case HTTP_FAILED:
            return -1;
        }
    }
}

static int exchange(struct marathon_asker *asker, const char *path, struct reading *reading,
                    struct marathon_answer *answer, struct err *err)
{
    struct marathon_request request;
    marathon_request_init(&request, asker->settings, asker->server, path, "application/json",
                          resync_stop(asker->resync));
    request.http.session = asker->session;
    struct http_stream *stream = http_stream_open(&request.http);
    marathon_request_fini(&request);
    int rc = read_answer(reading, stream, err);
    answer->status = http_stream_status(stream);
    if (rc == 0 && answer->status != 200)
        describe(stream, answer);
    http_stream_close(&stream);
    return rc;
}

int marathon_ask(struct marathon_asker *asker, const char *path, marathon_body_fn *take, void *arg,
                 struct marathon_answer *answer, struct err *err)
{
    *answer = (struct marathon_answer){.status = 0};
    asker->lost = true;
    if (!resync_may_ask(asker->resync))
        return err_set(err, ERR_RETRY, "it is time to stop");
    resync_asked_now(asker->resync);
    asker->asked_us = clock_wall_us();
    struct reading reading = {.asker = asker,
                              .take = take,
                              .arg = arg,
                              .heard_ms = clock_mono_ms(),
                              .until_ms = clock_mono_ms() + asker->limits.whole_ms};
    if (exchange(asker, path, &reading, answer, err) != 0) {
        err->kind = ERR_RETRY;
        return err_wrap(err, "%.200s", path);
    }
    asker->lost = false;
    return 0;
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~' || c == '/';
}

void marathon_append_id(struct buf *path, struct str id)
{
    for (size_t i = 0; i < id.len; i++) {
        if (is_plain(id.p[i]))
            buf_append_char(path, id.p[i]);
        else
            buf_printf(path, "%%%02X", (unsigned char)id.p[i]);
    }
}
