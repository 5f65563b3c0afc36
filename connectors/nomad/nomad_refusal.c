/* nomad_refusal.c - puts into words why a server did not give its stream, and what to do about it.
 *
 * Each message has what happened, then, behind a colon, what an operator can do. The texts looked
 * for are Nomad 1.5.0's own (nomad/event_endpoint.go, nomad/stream/event_broker.go,
 * nomad/structs/errors.go, and net/http's for a plain request to a TLS port). */
#include "connectors/nomad/nomad_refusal.h"

#include "connectors/nomad/nomad_access.h"
#include "connectors/nomad/nomad_request.h"

#include <string.h>

#include <jansson.h>

enum {
    EXCERPT_BYTES = 120,
    ASK_TIMEOUT_MS = 3000,
    ANSWER_MAX = 1024 * 1024, /* /v1/agent/self tells the whole configuration */
};

/* The beginning of what a server said, fit for one line of a log. */
struct excerpt {
    char text[EXCERPT_BYTES + 4];
};

static struct excerpt excerpt(struct str from)
{
    struct excerpt e;
    size_t n = 0;
    for (size_t i = 0; i < from.len && n < EXCERPT_BYTES; i++) {
        unsigned char c = (unsigned char)from.p[i];
        bool blank = c <= ' ' || c == 0x7f;
        if (blank && (n == 0 || e.text[n - 1] == ' '))
            continue;
        e.text[n++] = (char)(blank ? ' ' : c);
    }
    while (n > 0 && e.text[n - 1] == ' ')
        n--;
    memcpy(e.text + n, from.len > EXCERPT_BYTES ? "..." : "", from.len > EXCERPT_BYTES ? 4 : 1);
    return e;
}

static bool says(struct str text, const char *what)
{
    return text.p != NULL && memmem(text.p, text.len, what, strlen(what)) != NULL;
}

/* ---- which topic needs what ---- */

/* What a token must have for a topic (1.5.0: nomad/stream/event_broker.go, aclAllowsSubscription;
 * newer: nomad/event_endpoint.go, validateNsOp, which for namespace * asks it of each namespace).
 * Whatever stands in no row, `*` and what is still unknown included, needs a management token. */
enum right { READ_JOB, READ_CSI, READ_HOST_VOLUME, READ_NODE, MANAGEMENT, N_RIGHTS };

static const struct {
    const char *topic;
    enum right right;
} needs[] = {
    {"Job", READ_JOB},        {"Allocation", READ_JOB},
    {"Evaluation", READ_JOB}, {"Deployment", READ_JOB},
    {"Service", READ_JOB},    {"CSIPlugin", READ_JOB},
    {"CSIVolume", READ_CSI},  {"HostVolume", READ_HOST_VOLUME},
    {"Node", READ_NODE},
};

static const char *const right_names[N_RIGHTS] = {
    [READ_JOB] = "the capability read-job",
    [READ_CSI] = "the capability csi-read-volume",
    [READ_HOST_VOLUME] = "the capability host-volume-read",
    [READ_NODE] = "node { policy = \"read\" }",
    [MANAGEMENT] = "a management token",
};

static enum right right_for(struct str topic)
{
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (str_is(topic, needs[i].topic))
            return needs[i].right;
    return MANAGEMENT;
}

static struct str topic_name(const char *topic)
{
    return (struct str){topic, strcspn(topic, ":")};
}

/* "Job, Evaluation"; each once. */
static void append_topics(struct buf *out, const struct setting_list *topics, enum right right)
{
    size_t before = out->len;
    for (size_t i = 0; i < topics->n; i++) {
        struct str topic = topic_name(topics->items[i]);
        bool told = right_for(topic) != right;
        for (size_t k = 0; k < i && !told; k++)
            told = str_eq(topic_name(topics->items[k]), topic);
        if (!told)
            buf_printf(out, "%s%.*s", out->len > before ? ", " : "", STR_ARG(topic));
    }
}

/* "Job, Service: the capability read-job in namespace apps; Node: node { policy = "read" }" */
static void append_needs(struct buf *out, const struct nomad_settings *settings)
{
    bool everywhere = strcmp(settings->ns, "*") == 0;
    for (enum right right = 0; right < N_RIGHTS; right++) {
        struct buf topics = {0};
        append_topics(&topics, &settings->topics, right);
        if (topics.len > 0) {
            buf_printf(out, "%s%s: %s", out->len > 0 ? "; " : "", buf_cstr(&topics),
                       right_names[right]);
            if (right < READ_NODE)
                buf_printf(out, " in %s", everywhere ? "every namespace" : "namespace ");
            if (right < READ_NODE && !everywhere)
                buf_append_cstr(out, settings->ns);
        }
        buf_fini(&topics);
    }
}

/* How the configuration calls the token. */
static const char *token_setting(const struct nomad_settings *settings)
{
    return settings->token_file != NULL && settings->token_file[0] != '\0' ? "token_file" : "token";
}

static int say_denied(const struct nomad_settings *settings, const char *what, struct err *err)
{
    if (!nomad_access_has_token(settings))
        return err_set(err, ERR_RETRY,
                       "%s, and no `token` is set: set one that may read the event "
                       "stream",
                       what);
    if (settings->filter_at == NOMAD_FILTER_AT_BRIDGE)
        return err_set(err, ERR_RETRY,
                       "%s: reading all topics needs a management token; with a smaller one set "
                       "`filter_at: server` and name the `topics` and the `namespace` it may read",
                       what);
    struct buf needed = {0};
    append_needs(&needed, settings);
    err_set(err, ERR_RETRY, "%s: the token may not read one of `topics`; needed are, %s", what,
            buf_cstr(&needed));
    buf_fini(&needed);
    return -1;
}

static int say_broker_off(struct err *err)
{
    return err_set(err, ERR_RETRY,
                   "this agent's event broker is off: set `enable_event_broker = true` in its "
                   "`server` block and restart it, name other `servers`, or poll instead: "
                   "`type: nomad_blocking`");
}

static int say_unknown_token(const struct nomad_settings *settings, struct err *err)
{
    return err_set(err, ERR_RETRY,
                   "the server does not accept this `%s`: unknown there (expired, deleted, of "
                   "another cluster), or without any right to events; set a valid one",
                   token_setting(settings));
}

/* Never Nomad's own: its servers answer 403. */
static int say_unauthorized(const struct nomad_settings *settings, struct err *err)
{
    bool given = settings->access.username != NULL && settings->access.username[0] != '\0';
    return err_set(err, ERR_RETRY, "unauthorized (401), as a reverse proxy before Nomad says: %s",
                   given ? "it does not accept this `username` and `password`"
                         : "set `username` and `password`");
}

static int say_redirect(int status, const char *location, struct err *err)
{
    struct buf label = {0};
    http_url_label(&label, location);
    err_set(err, ERR_RETRY,
            "redirected (%d) to %.200s: not followed, so that the token goes nowhere else; name "
            "that address in `servers` if it is a Nomad",
            status, label.len > 0 ? buf_cstr(&label) : "nowhere");
    buf_fini(&label);
    return -1;
}

int nomad_refusal_status(const struct nomad_settings *settings, int status, const char *location,
                         struct str text, struct err *err)
{
    struct excerpt said = excerpt(text);
    if (status >= 300 && status < 400)
        return say_redirect(status, location, err);
    if (says(text, "EventBroker not configured"))
        return say_broker_off(err);
    if (status == 401)
        return say_unauthorized(settings, err);
    if (status == 407)
        return err_set(err, ERR_RETRY,
                       "the proxy wants other credentials (407): set them in `proxy`, as "
                       "http://USER:PASSWORD@HOST:PORT");
    if (status == 403 && nomad_access_has_token(settings))
        return say_unknown_token(settings, err);
    if (status == 403 || says(text, "Permission denied"))
        return say_denied(settings, "Permission denied", err);
    if (says(text, "HTTP request to an HTTPS server"))
        return err_set(err, ERR_RETRY, "the port speaks TLS: write https:// in `servers`");
    if (status == 400)
        return err_set(err, ERR_RETRY,
                       "the server can't read the request (400: %s): check "
                       "`topics`, `namespace`, `region`",
                       said.text);
    if (status == 404)
        return err_set(err, ERR_RETRY,
                       "no event stream there (404): not a Nomad, one before 1.0, or a proxy that "
                       "does not pass /v1/event/stream; check `servers`");
    if (says(text, "No path to region"))
        return err_set(err, ERR_RETRY, "the server knows no such region (%d: %s): check `region`",
                       status, said.text);
    return err_set(err, ERR_RETRY, "the server answered %d: %s", status,
                   said.text[0] != '\0' ? said.text : "(nothing)");
}

int nomad_refusal_not_nomad(struct str text, struct err *err)
{
    return err_set(err, ERR_RETRY,
                   "answers, but not with Nomad's event stream (\"%s\"): not a Nomad, or a proxy "
                   "in between; check `servers`",
                   excerpt(text).text);
}

/* ---- a 200 with nothing in it ---- */

/* Asks that server; the status, or 0 where it gave no whole answer. */
static int ask(const struct nomad_settings *settings, const char *server, const char *path,
               struct stop *stop, struct buf *body)
{
    struct nomad_request request;
    struct http_answer answer = {0};
    nomad_request_init(&request, settings, server, path, stop);
    int status = 0;
    if (http_ask(&request.http, ASK_TIMEOUT_MS, ANSWER_MAX, &answer, NULL) == 0)
        status = answer.status;
    nomad_request_fini(&request);
    *body = answer.body;
    return status;
}

/* What /v1/agent/self says of config.Server.EnableEventBroker: 1, 0, or -1 for no word of it. */
static int broker_setting(struct str self)
{
    json_t *root = json_loadb(self.p, self.len, 0, NULL);
    json_t *config = json_object_get(root, "config");
    json_t *value = json_object_get(json_object_get(config, "Server"), "EnableEventBroker");
    int on = json_is_boolean(value) ? json_is_true(value) : -1;
    json_decref(root);
    return on;
}

int nomad_refusal_empty(const struct nomad_settings *settings, const char *server,
                        struct stop *stop, struct err *err)
{
    static const char *const what = "closed without a word, as the newest Nomad refuses";
    struct buf token = {0}, self = {0};
    int token_status = ask(settings, server, "/v1/acl/token/self", stop, &token);
    int self_status = ask(settings, server, "/v1/agent/self", stop, &self);
    int broker = self_status == 200 ? broker_setting(buf_str(&self)) : -1;
    bool acl_off = token_status == 400 && says(buf_str(&token), "ACL support disabled");
    if (broker == 0)
        say_broker_off(err);
    else if (token_status == 403 && nomad_access_has_token(settings))
        say_unknown_token(settings, err);
    else if (acl_off || (token_status == 200 && says(buf_str(&token), "\"management\"")))
        err_set(err, ERR_RETRY,
                "%s, and the token is not why: is `enable_event_broker` off in the "
                "`server` block of this agent or of its servers?",
                what);
    else if (token_status == 200 || token_status == 403)
        say_denied(settings, what, err);
    else
        err_set(err, ERR_RETRY,
                "%s, and it does not answer /v1/acl/token/self (%d): check the "
                "`token`, and `enable_event_broker` in the agent",
                what, token_status);
    buf_fini(&token);
    buf_fini(&self);
    return -1;
}

int nomad_refusal_last_words(struct str text, struct err *err)
{
    if (says(text, "event dropped from buffer"))
        return err_set(err, ERR_RETRY,
                       "cut off by Nomad as too slow a reader (event dropped from buffer): its "
                       "`event_buffer_size` may be too small for the load");
    if (says(text, "Permission denied") || says(text, "subscription closed") ||
        says(text, "token expired"))
        return err_set(err, ERR_RETRY,
                       "Nomad ended the stream (%s): was the token or its policy "
                       "changed?",
                       excerpt(text).text);
    return err_set(err, ERR_RETRY, "the stream ended with \"%s\"", excerpt(text).text);
}
