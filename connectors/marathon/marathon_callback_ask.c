/* marathon_callback_ask.c - one short question to a Marathon that nobody waits for. */
#include "connectors/marathon/marathon_callback_ask.h"

#include "bridge/base/clock.h"
#include "connectors/marathon/marathon_leader.h"
#include "connectors/marathon/marathon_refusal.h"
#include "connectors/marathon/marathon_request.h"

#include <string.h>

enum { EXCERPT_BYTES = 160 };

void callback_ask_open(struct callback_ask *ask, const char *server, const char *method,
                       const char *path, int64_t timeout_ms)
{
    struct marathon_request request;
    callback_ask_close(ask);
    buf_clear(&ask->body);
    marathon_request_init(&request, ask->settings, server, path, "application/json", NULL);
    request.http.method = method;
    if (request.http.connect_timeout_ms > timeout_ms)
        request.http.connect_timeout_ms = (int)timeout_ms;
    ask->http = http_stream_open(&request.http);
    ask->server = server;
    ask->until_ms = clock_mono_ms() + timeout_ms;
    marathon_request_fini(&request);
}

void callback_ask_close(struct callback_ask *ask)
{
    http_stream_close(&ask->http);
}

void callback_ask_fini(struct callback_ask *ask)
{
    callback_ask_close(ask);
    buf_fini(&ask->body);
}

static bool says(struct str text, const char *what)
{
    return text.p != NULL && memmem(text.p, text.len, what, strlen(what)) != NULL;
}

/* Marathon 1.4: api/v2/EventSubscriptionsResource.scala, validateSubscriptionService. */
static enum callback_answer refused(struct callback_ask *ask, struct err *err)
{
    int status = http_stream_status(ask->http);
    struct str text = http_stream_refusal(ask->http);
    struct marathon_refusal refusal = {
        .status = status,
        .wants = http_stream_header(ask->http, "WWW-Authenticate"),
        .text = text,
        .trusted = marathon_leader_is_configured(ask->settings, ask->server),
    };
    if (status / 100 == 2)
        return CALLBACK_SAID;
    if (says(text, "event_subscriber"))
        err_set(err, ERR_RETRY,
                "callbacks are off in this Marathon (%d): start it with --event_subscriber "
                "http_callback",
                status);
    else if (status == 404 || status == 405)
        err_set(err, ERR_RETRY,
                "no callbacks there (%d): a Marathon from 1.5 on has none, use `type: marathon`; "
                "else check `servers`",
                status);
    else if (status == 400 || status == 403 || status / 100 == 3)
        err_set(err, ERR_RETRY, "refused (%d): %.*s", status,
                STR_ARG(str_cut(text, EXCERPT_BYTES)));
    else
        marathon_refusal_status(ask->settings, &refusal, err);
    return CALLBACK_REFUSED;
}

static enum callback_answer look(struct callback_ask *ask, struct err *err)
{
    for (;;) {
        struct str bytes;
        switch (http_stream_read(ask->http, 0, &bytes, err)) {
        case HTTP_DATA:
            if (ask->body.len + bytes.len > CALLBACK_ANSWER_MAX) {
                err_set(err, ERR_RETRY, "an answer of more than %d bytes", CALLBACK_ANSWER_MAX);
                return CALLBACK_FAILED;
            }
            buf_append_str(&ask->body, bytes);
            break;
        case HTTP_CLOSED:
            return CALLBACK_SAID;
        case HTTP_REFUSED:
            return refused(ask, err);
        case HTTP_FAILED:
        case HTTP_STOPPED:
            return CALLBACK_FAILED;
        case HTTP_IDLE:
            if (clock_mono_ms() < ask->until_ms)
                return CALLBACK_ASKING;
            err_set(err, ERR_RETRY, "no whole answer in time");
            return CALLBACK_FAILED;
        }
    }
}

enum callback_answer callback_ask_poll(struct callback_ask *ask, struct err *err)
{
    enum callback_answer answer = look(ask, err);
    if (answer != CALLBACK_ASKING)
        callback_ask_close(ask);
    return answer;
}
