/* subscriber_post.c - one event to one callback. */
#include "connectors/mirror/subscriber_post.h"

#include "bridge/base/clock.h"
#include "connectors/http_stream.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    ANSWER_BYTES_MAX = 64 * 1024, /* of a body that nobody reads */
    ANSWER_WAIT_MS = 1000,        /* for the rest of it */
    CONNECT_TIMEOUT_MS = 5000,
    SAID_MAX = 120, /* of a refusal's body in the error */
    ID_MAX = 64,
};

struct poster {
    char *url;
    struct stop *cut;
    struct http_session *session;
};

struct poster *poster_new(const char *url, struct stop *cut)
{
    struct poster *p = mem_zalloc(sizeof *p);
    p->url = mem_strdup(url);
    p->cut = cut;
    p->session = http_session_new();
    return p;
}

void poster_free(struct poster **poster)
{
    struct poster *p = *poster;
    if (p == NULL)
        return;
    http_session_free(&p->session);
    free(p->url);
    free(p);
    *poster = NULL;
}

static bool is_taken(int status)
{
    return status >= 200 && status <= 299;
}

static int say_refused(struct http_stream *s, struct err *err)
{
    int status = http_stream_status(s);
    if (status >= 300 && status <= 399)
        return err_set(err, ERR_RETRY, "answered %d: redirects are not followed", status);
    char said[SAID_MAX + 1] = "";
    struct str text = str_cut(http_stream_refusal(s), SAID_MAX);
    for (size_t i = 0; i < text.len; i++)
        said[i] = (char)((unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f ? ' ' : text.p[i]);
    return err_set(err, ERR_RETRY, "answered %d%s%s", status, text.len > 0 ? ": " : "", said);
}

/* Once the status is known, what follows is only waited for so that the connection lives on. */
static int read_answer(struct http_stream *s, int timeout_ms, struct err *err)
{
    int64_t until_ms = clock_mono_ms() + timeout_ms;
    size_t got = 0;
    bool known = false;
    for (;;) {
        struct str bytes = {0};
        int64_t left_ms = until_ms - clock_mono_ms();
        int wait_ms = left_ms > ANSWER_WAIT_MS ? ANSWER_WAIT_MS : (int)left_ms;
        enum http_read read = http_stream_read(s, wait_ms > 0 ? wait_ms : 0, &bytes, err);
        int status = http_stream_status(s);
        got += bytes.len;
        if (is_taken(status) && (read != HTTP_DATA || got > ANSWER_BYTES_MAX || left_ms <= 0))
            return 0;
        if (read == HTTP_FAILED)
            return -1;
        if (read == HTTP_STOPPED)
            return err_set(err, ERR_RETRY, "stopped");
        if (read == HTTP_REFUSED || (status != 0 && left_ms <= 0))
            return say_refused(s, err);
        if (left_ms <= 0)
            return err_set(err, ERR_RETRY, "no answer within %d ms", timeout_ms);
        if (!known && status != 0 && left_ms > ANSWER_WAIT_MS)
            until_ms = clock_mono_ms() + ANSWER_WAIT_MS;
        known = status != 0;
    }
}

int poster_send(struct poster *p, struct str body, const char *id, int timeout_ms, struct err *err)
{
    char tells[ID_MAX + 16] = "";
    const char *headers[] = {"Content-Type: application/json", "Accept: application/json", NULL,
                             NULL};
    if (id != NULL) {
        snprintf(tells, sizeof tells, "Busbar-Event: %.*s", ID_MAX, id);
        headers[2] = tells;
    }
    struct http_request request = {
        .url = p->url,
        .method = "POST",
        .body = body,
        .headers = headers,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .stop = p->cut,
        .session = p->session,
    };
    struct http_stream *s = http_stream_open(&request);
    int rc = read_answer(s, timeout_ms, err);
    http_stream_close(&s);
    return rc;
}
