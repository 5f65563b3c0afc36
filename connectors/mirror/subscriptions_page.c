/* subscriptions_page.c - /v2/eventSubscriptions, as Marathon answered it. */
#include "connectors/mirror/subscriptions_page.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/mirror/marathon_page.h"
#include "connectors/mirror/subscriber_url.h"

#include <stdlib.h>
#include <string.h>

static const char JSON[] = "application/json";
static const char SUBSCRIBE[] = "subscribe_event", UNSUBSCRIBE[] = "unsubscribe_event";

/* As Marathon says what is wrong (MarathonExceptionMapper). */
static void refuse(struct http_answer *answer, unsigned status, const char *message)
{
    answer->status = status;
    answer->content_type = JSON;
    buf_append_cstr(&answer->body, "{\"message\":");
    buf_append_json(&answer->body, str_from(message));
    buf_append_char(&answer->body, '}');
}

/* As it says so of a value (Validation.failureWrites, RestResource.withValid). */
static void refuse_url(struct http_answer *answer, const char *why)
{
    answer->status = 422;
    answer->content_type = JSON;
    buf_append_cstr(&answer->body, "{\"message\":\"Object is not valid\",\"details\":"
                                   "[{\"path\":\"/\",\"errors\":[");
    buf_append_json(&answer->body, str_from(why));
    buf_append_cstr(&answer->body, "]}]}");
}

/* ---- GET ---- */

static void answer_list(struct routes *r, size_t source, struct http_answer *answer)
{
    answer->content_type = JSON;
    buf_append_cstr(&answer->body, "{\"callbackUrls\":");
    subscribers_list(r->subscribers, source, &answer->body);
    buf_append_char(&answer->body, '}');
}

/* ---- POST, DELETE ---- */

/* The first `callbackUrl`; p NULL: none yet. */
static bool take_url(void *arg, struct str name, struct str value)
{
    struct str *url = arg;
    if (!str_is(name, "callbackUrl"))
        return true;
    *url = (struct str){mem_strndup(value.p, value.len), value.len};
    return false;
}

/* The caller frees it; NULL where the request has been answered. */
static char *asked_url(const struct http_request *request, struct http_answer *answer)
{
    struct str url = {0};
    http_request_query(request, take_url, &url);
    const char *wrong = subscriber_url_check(url);
    if (wrong == NULL)
        return (char *)url.p;
    refuse_url(answer, wrong);
    free((char *)url.p);
    return NULL;
}

/* To the callbacks, to those who listen to /v2/events, and to the one who asked. */
static void tell(struct routes *r, size_t source, const struct http_request *request,
                 const char *type, const char *url, struct http_answer *answer)
{
    char when[CLOCK_TEXT_MAX], address[MARATHON_ADDRESS_MAX];
    struct buf *event = &answer->body;
    clock_format(clock_wall_us() / 1000 * 1000, when);
    marathon_page_address(request, address);
    buf_printf(event, "{\"clientIp\":\"%s\",\"callbackUrl\":", address);
    buf_append_json(event, str_from(url));
    buf_printf(event, ",\"eventType\":\"%s\",\"timestamp\":\"%s\"}", type, when);
    answer->content_type = JSON;
    subscribers_tell(r->subscribers, source, buf_str(event));
    marathon_streams_tell(r->marathon_streams, source, type, buf_str(event));

    struct buf label = {0};
    subscriber_url_label(&label, url);
    log_info(type == SUBSCRIBE ? "callback_subscribed" : "callback_unsubscribed",
             LOG_STR("source", r->feed->sources[source].name), LOG_STR("url", buf_cstr(&label)),
             LOG_STR("client", address));
    buf_fini(&label);
}

static void answer_refused(const struct routes *r, enum subscribers_answer got,
                           const struct err *err, struct http_answer *answer)
{
    struct buf text = {0};
    if (got == SUBSCRIBERS_FULL) {
        buf_printf(&text, "there are as many callbacks as there may be (max_subscribers: %zu)",
                   r->subscribers_max);
        http_answer_header(answer, "Retry-After", "60");
    } else {
        log_error("callback_not_subscribed", LOG_STR("err", err->msg));
        buf_append_cstr(&text, "the callback could not be kept");
    }
    refuse(answer, 503, buf_cstr(&text));
    buf_fini(&text);
}

static void change(struct routes *r, size_t source, const struct http_request *request,
                   struct http_answer *answer)
{
    bool adds = strcmp(http_request_method(request), "POST") == 0;
    struct err err = {ERR_RETRY, ""};
    if (http_request_header(request, "Origin") != NULL) {
        refuse(answer, 403, "not for pages in a browser");
        return;
    }
    char *url = asked_url(request, answer);
    if (url == NULL)
        return;
    enum subscribers_answer got = adds ? subscribers_add(r->subscribers, source, url, &err)
                                       : subscribers_remove(r->subscribers, source, url);
    if (got == SUBSCRIBERS_DONE)
        tell(r, source, request, adds ? SUBSCRIBE : UNSUBSCRIBE, url, answer);
    else
        answer_refused(r, got, &err, answer);
    free(url);
}

static bool is_one_of(const char *method, const char *const *methods)
{
    while (*methods != NULL && strcmp(method, *methods) != 0)
        methods++;
    return *methods != NULL;
}

void subscriptions_page(struct routes *r, struct str name, const struct http_request *request,
                        struct http_answer *answer)
{
    static const char *const reads[] = {"GET", "HEAD", NULL};
    static const char *const changes[] = {"POST", "DELETE", NULL};
    const char *method = http_request_method(request);
    size_t source;
    if (!marathon_page_may_ask(r, request, answer) ||
        !marathon_page_choose(r, name, answer, &source))
        return;
    marathon_page_headers(request, answer);
    if (!is_one_of(method, reads) && !is_one_of(method, changes)) {
        http_answer_header(answer, "Allow", "GET, HEAD, POST, DELETE, OPTIONS");
        answer->status = strcmp(method, "OPTIONS") == 0 ? 200 : 405;
    } else if (!subscribers_are_on(r->subscribers)) {
        refuse(answer, 400,
               "http event callback system is not running on this Marathon instance. "
               "It is a busbar: set http.max_subscribers");
    } else if (is_one_of(method, reads)) {
        answer_list(r, source, answer);
    } else {
        change(r, source, request, answer);
    }
}
