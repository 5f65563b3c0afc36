/* marathon_refusal.c - puts into words why a server did not give its stream, and what to do about
 * it.
 *
 * Each message has what happened, then, behind a colon, what an operator can do. What is told by
 * which status: Marathon 1.11, api/LeaderProxyFilter.scala, plugin/auth, and Jetty's
 * EventSourceServlet, which falls through to 405 where no Accept header is exactly
 * text/event-stream. */
#include "connectors/marathon/marathon_refusal.h"

#include "connectors/marathon/marathon_settings.h"

#include <string.h>

enum { EXCERPT_BYTES = 120 };

/* The beginning of what a server said, fit for one line of a log, without the tags of HTML. */
struct excerpt {
    char text[EXCERPT_BYTES + 4];
};

static struct excerpt excerpt(struct str from)
{
    struct excerpt e;
    size_t n = 0;
    bool in_tag = false;
    for (size_t i = 0; i < from.len && n < EXCERPT_BYTES; i++) {
        unsigned char c = (unsigned char)from.p[i];
        in_tag = in_tag || c == '<';
        bool blank = in_tag || c <= ' ' || c == 0x7f;
        in_tag = in_tag && c != '>';
        if (!blank)
            e.text[n++] = (char)c;
        else if (n > 0 && e.text[n - 1] != ' ')
            e.text[n++] = ' ';
    }
    while (n > 0 && e.text[n - 1] == ' ')
        n--;
    memcpy(e.text + n, n >= EXCERPT_BYTES ? "..." : "", n >= EXCERPT_BYTES ? 4 : 1);
    return e;
}

static bool is_set(const char *value)
{
    return value != NULL && value[0] != '\0';
}

static bool has_credentials(const struct marathon_settings *settings)
{
    return marathon_has_token(settings) || is_set(settings->access.username) ||
           settings->access.headers.n > 0;
}

static int say_unauthorized(const struct marathon_settings *settings,
                            const struct marathon_refusal *r, struct err *err)
{
    const char *token = is_set(settings->token_file) ? "token_file" : "token";
    if (!r->trusted && has_credentials(settings))
        return err_set(err, ERR_RETRY,
                       "wants credentials (401), which are shown to the addresses in `servers` "
                       "only: add this one there if it is yours");
    if (marathon_has_token(settings))
        return err_set(err, ERR_RETRY,
                       "does not accept this `%s` (401): expired, or of another cluster; set a "
                       "valid one",
                       token);
    if (is_set(settings->access.username))
        return err_set(err, ERR_RETRY,
                       "does not accept this `username` and `password` (401): set those of "
                       "Marathon's --http_credentials, or of the proxy before it");
    if (strncasecmp(r->wants, "basic", 5) == 0)
        return err_set(err, ERR_RETRY,
                       "wants basic authentication (401): set `username` and "
                       "`password`");
    return err_set(err, ERR_RETRY,
                   "unauthorized (401): set `token` (DC/OS), or `username` and "
                   "`password`");
}

static int say_forbidden(const struct marathon_settings *settings, const struct marathon_refusal *r,
                         struct err *err)
{
    if (!r->trusted && has_credentials(settings))
        return err_set(err, ERR_RETRY,
                       "forbidden (403), without credentials, which are shown to the addresses in "
                       "`servers` only: add this one there if it is yours");
    if (!has_credentials(settings))
        return err_set(err, ERR_RETRY,
                       "forbidden (403), and no credentials are set: set `token` "
                       "(DC/OS), or `username` and `password`");
    return err_set(err, ERR_RETRY,
                   "forbidden (403): these credentials may not read the event stream; Marathon's "
                   "authorization has to allow them to view events");
}

static int say_accept(int status, struct err *err)
{
    return err_set(err, ERR_RETRY,
                   "does not take the request as one for an event stream (%d): a proxy before "
                   "Marathon must pass GET, and the header Accept: text/event-stream as it is",
                   status);
}

static int say_other(const struct marathon_refusal *r, struct err *err)
{
    struct excerpt said = excerpt(r->text);
    return err_set(err, ERR_RETRY, "the server answered %d: %s", r->status,
                   said.text[0] != '\0' ? said.text : "(nothing)");
}

static int say_no_leader(const struct marathon_refusal *r, struct err *err)
{
    struct excerpt said = excerpt(r->text);
    return err_set(
        err, ERR_RETRY,
        "no leader (%d: %s): none is elected at the moment; if that lasts, is Marathon's "
        "ZooKeeper there, or do `servers` name a proxy that reaches no Marathon?",
        r->status, said.text[0] != '\0' ? said.text : "nothing said");
}

int marathon_refusal_status(const struct marathon_settings *settings,
                            const struct marathon_refusal *r, struct err *err)
{
    switch (r->status) {
    case 400:
        err_set(err, ERR_RETRY,
                "the server can't read the request (400: %s): does it speak TLS on that port? Then "
                "write https:// in `servers`; else check `event_types`",
                excerpt(r->text).text);
        return -1;
    case 401:
        return say_unauthorized(settings, r, err);
    case 403:
        return say_forbidden(settings, r, err);
    case 404:
        return err_set(
            err, ERR_RETRY,
            "no event stream there (404): not a Marathon, one before 0.9 (for which there "
            "is `type: marathon_callback`), or a proxy that does not pass /v2/events; "
            "check `servers`");
    case 405:
    case 406:
        return say_accept(r->status, err);
    case 407:
        return err_set(err, ERR_RETRY,
                       "the proxy wants other credentials (407): set them in `proxy`, as "
                       "http://USER:PASSWORD@HOST:PORT");
    case 502:
    case 503:
    case 504:
        return say_no_leader(r, err);
    default:
        return say_other(r, err);
    }
}

int marathon_refusal_type(const char *content_type, struct err *err)
{
    struct excerpt type = excerpt(str_from(content_type));
    return err_set(err, ERR_RETRY,
                   "answers, but not with an event stream (Content-Type: %s): not a Marathon, or a "
                   "proxy in between; check `servers`",
                   type.text[0] != '\0' ? type.text : "none");
}

int marathon_refusal_not_ready(struct err *err)
{
    return err_set(err, ERR_RETRY,
                   "accepted and closed at once: elected as leader, and not ready yet; if that "
                   "lasts, its log says what it waits for");
}
