/* nomad_namespaces.c - notices namespaces that the present subscription does not cover.
 *
 * The list is asked for with `stale`: the agent that the stream comes from answers from its own
 * state, which is what it expands `*` from. Looked at before a subscription begins, the list holds
 * no more than that subscription covers; what a later one holds besides is fresh. Where the agent
 * is a client, or forwards to another region, two servers may answer, one of them some moments
 * behind: a fresh namespace that stays silent is therefore subscribed to once more after
 * NOMAD_SETTLE_MS.
 *
 * Watching is a long poll (Nomad's HTTP API documentation, "Blocking Queries") on a connection of
 * its own, looked at some times a second by the stream's thread, which never waits for it. */
#include "connectors/nomad/nomad_namespaces.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/http_stream.h"
#include "connectors/nomad/nomad_request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include <jansson.h>

enum {
    LOOK_MS = 1000,
    LIST_MAX = 8 * 1024 * 1024,
    POLL_EVERY_MS = 50,
    WAIT_S = 60, /* of the long poll; Nomad adds up to a sixteenth */
    ANSWER_MS = 90000,
    ASK_AGAIN_MS = 5000, /* after a failure, or where nothing had changed */
    REFUSED_AGAIN_MS = 60000,
    SUBSCRIBE_EVERY_MS = 1000, /* at most, however fast namespaces come */
    EXCERPT_BYTES = 120,
};

/* ---- lists ---- */

static void list_fini(struct nomad_namespace **list, size_t *n)
{
    for (size_t i = 0; i < *n; i++)
        buf_fini(&(*list)[i].name);
    free(*list);
    *list = NULL;
    *n = 0;
}

static struct nomad_namespace *list_add(struct nomad_namespace **list, size_t *n, struct str name,
                                        uint64_t created)
{
    *list = mem_realloc(*list, (*n + 1) * sizeof **list);
    struct nomad_namespace *one = &(*list)[(*n)++];
    *one = (struct nomad_namespace){.created = created};
    buf_append_str(&one->name, name);
    return one;
}

static struct nomad_namespace *list_find(struct nomad_namespace *list, size_t n, struct str name)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(buf_str(&list[i].name), name))
            return &list[i];
    return NULL;
}

void nomad_namespaces_fini(struct nomad_namespaces *ns)
{
    nomad_namespaces_rest(ns);
    list_fini(&ns->known, &ns->n_known);
    list_fini(&ns->fresh, &ns->n_fresh);
    buf_fini(&ns->body);
}

void nomad_namespaces_forget(struct nomad_namespaces *ns)
{
    list_fini(&ns->fresh, &ns->n_fresh);
}

/* ---- what is new on a list ---- */

static bool is_wanted(const struct nomad_namespaces *ns, struct str name)
{
    return str_is(STR("*"), ns->settings->ns) || str_is(name, ns->settings->ns);
}

static void add_fresh(struct nomad_namespaces *ns, struct str name, uint64_t created,
                      int64_t noticed_ms)
{
    struct nomad_namespace *one = list_find(ns->fresh, ns->n_fresh, name);
    if (one == NULL)
        one = list_add(&ns->fresh, &ns->n_fresh, name, created);
    one->created = created;
    one->noticed_ms = noticed_ms;
    one->is_young = !ns->is_known;
    one->missed = false;
    one->told = false;
    log_info("namespace_new", LOG_STR("source", ingest_source(ns->ingest).p),
             LOG_STR("namespace", buf_cstr(&one->name)), LOG_INT("created", created));
}

/* On the first list of a process nothing is new, but what is young may be. */
static void judge_first(struct nomad_namespaces *ns, struct str name, uint64_t created,
                        uint64_t newest)
{
    bool before_subscription = ns->began_ms == 0;
    if (str_is(name, "default") || created + NOMAD_YOUNG_INDEXES <= newest ||
        (before_subscription && newest == 0))
        return;
    int64_t now_ms = clock_mono_ms();
    add_fresh(ns, name, created, before_subscription ? now_ms - NOMAD_SETTLE_MS : now_ms);
}

static void judge(struct nomad_namespaces *ns, const struct nomad_namespace *one, uint64_t newest)
{
    struct str name = buf_str(&one->name);
    struct nomad_namespace *before = list_find(ns->known, ns->n_known, name);
    if (!is_wanted(ns, name))
        return;
    if (!ns->is_known)
        judge_first(ns, name, one->created, newest);
    else if (before == NULL || before->created != one->created)
        add_fresh(ns, name, one->created, clock_mono_ms());
}

static int read_list(struct str text, struct nomad_namespace **list, size_t *n, struct err *err)
{
    json_error_t why;
    json_t *root = json_loadb(text.p, text.len, 0, &why), *item;
    int rc = json_is_array(root) ? 0 : err_set(err, ERR_INPUT, "not a list of namespaces");
    size_t i;
    json_array_foreach(root, i, item)
    {
        const json_t *name = json_object_get(item, "Name");
        json_int_t created = json_integer_value(json_object_get(item, "CreateIndex"));
        if (!json_is_string(name) || created < 0) {
            rc = err_set(err, ERR_INPUT, "not a list of namespaces: item %zu", i + 1);
            break;
        }
        struct str text_of = {json_string_value(name), json_string_length(name)};
        list_add(list, n, text_of, (uint64_t)created);
    }
    json_decref(root);
    return rc;
}

/* A list older than the last one (another server, that lags; a rebuilt cluster) only replaces it:
 * what it lacks is new again once it is there. */
int nomad_namespaces_take(struct nomad_namespaces *ns, struct str text, uint64_t index,
                          uint64_t newest, struct err *err)
{
    struct nomad_namespace *list = NULL;
    size_t n = 0;
    if (read_list(text, &list, &n, err) != 0) {
        list_fini(&list, &n);
        return -1;
    }
    for (size_t i = 0; i < n && index >= ns->index; i++)
        judge(ns, &list[i], newest);
    list_fini(&ns->known, &ns->n_known);
    ns->known = list;
    ns->n_known = n;
    ns->is_known = true;
    ns->index = index;
    return 0;
}

/* ---- asking ---- */

/* With filter_at: server and one namespace Nomad expands nothing. */
static bool matters(const struct nomad_namespaces *ns)
{
    return ns->settings->filter_at == NOMAD_FILTER_AT_BRIDGE || str_is(STR("*"), ns->settings->ns);
}

static struct http_stream *ask(const struct nomad_namespaces *ns, uint64_t index)
{
    struct nomad_request request;
    char query[64];
    snprintf(query, sizeof query, index > 0 ? "stale&index=%" PRIu64 "&wait=%ds" : "stale", index,
             WAIT_S);
    nomad_request_init(&request, ns->settings, ns->server, "/v1/namespaces",
                       ingest_stop(ns->ingest));
    nomad_request_api(&request, ns->settings, query);
    struct http_stream *question = http_stream_open(&request.http);
    nomad_request_fini(&request);
    return question;
}

static uint64_t index_of(struct http_stream *question)
{
    const char *text = http_stream_header(question, "X-Nomad-Index");
    return text[0] >= '0' && text[0] <= '9' ? strtoull(text, NULL, 10) : 0;
}

static void start_question(struct nomad_namespaces *ns, uint64_t index, int64_t now_ms)
{
    buf_clear(&ns->body);
    ns->question = ask(ns, index);
    ns->asked_ms = now_ms;
}

void nomad_namespaces_rest(struct nomad_namespaces *ns)
{
    http_stream_close(&ns->question);
}

static void end_question(struct nomad_namespaces *ns, int64_t ask_at_ms)
{
    nomad_namespaces_rest(ns);
    ns->ask_at_ms = ask_at_ms;
}

static void tell_refusal(struct nomad_namespaces *ns, const char *why)
{
    if (ns->refusal_told)
        return;
    ns->refusal_told = true;
    log_warn("namespaces_unknown", LOG_STR("source", ingest_source(ns->ingest).p),
             LOG_STR("err", why),
             LOG_STR("note", "a namespace created from now on is told from the next connection on "
                             "only, where Nomad is 1.9.6 or newer"));
}

static void take_refusal(struct nomad_namespaces *ns, int64_t now_ms)
{
    struct err why;
    struct str said = http_stream_refusal(ns->question);
    int len = said.len < EXCERPT_BYTES ? (int)said.len : EXCERPT_BYTES;
    err_set(&why, ERR_RETRY, "/v1/namespaces answered %d: %.*s", http_stream_status(ns->question),
            len, said.len > 0 ? said.p : "");
    tell_refusal(ns, why.msg);
    end_question(ns, now_ms + REFUSED_AGAIN_MS);
}

static void take_answer(struct nomad_namespaces *ns, uint64_t newest, int64_t now_ms)
{
    struct err why;
    uint64_t before = ns->index;
    if (nomad_namespaces_take(ns, buf_str(&ns->body), index_of(ns->question), newest, &why) != 0) {
        tell_refusal(ns, why.msg);
        end_question(ns, now_ms + REFUSED_AGAIN_MS);
        return;
    }
    /* One that answers at once though nothing has changed, or without an index, must not make a
     * busy loop. */
    bool early = ns->index == before && now_ms - ns->asked_ms < ASK_AGAIN_MS;
    end_question(ns, early ? now_ms + ASK_AGAIN_MS : now_ms);
}

/* Reads what is there of an answer; false once there is no more to be had now. */
static bool work(struct nomad_namespaces *ns, uint64_t newest, int64_t now_ms)
{
    struct str bytes;
    struct err ignored;
    switch (http_stream_read(ns->question, 0, &bytes, &ignored)) {
    case HTTP_DATA:
        buf_append_str(&ns->body, bytes);
        if (ns->body.len <= LIST_MAX)
            return true;
        tell_refusal(ns, "the list of namespaces is too long");
        end_question(ns, now_ms + REFUSED_AGAIN_MS);
        return false;
    case HTTP_CLOSED:
        take_answer(ns, newest, now_ms);
        return false;
    case HTTP_REFUSED:
        take_refusal(ns, now_ms);
        return false;
    case HTTP_FAILED:
        end_question(ns, now_ms + ASK_AGAIN_MS);
        return false;
    case HTTP_IDLE:
    case HTTP_STOPPED:
        break;
    }
    if (now_ms - ns->asked_ms > ANSWER_MS)
        end_question(ns, now_ms);
    return false;
}

void nomad_namespaces_look(struct nomad_namespaces *ns, const struct nomad_settings *settings,
                           struct ingest *ingest, const char *server, uint64_t newest)
{
    ns->settings = settings;
    ns->ingest = ingest;
    ns->server = server;
    int64_t now_ms = clock_mono_ms(), until_ms = now_ms + LOOK_MS;
    struct http_stream *question = matters(ns) ? ask(ns, 0) : NULL;
    struct err ignored;
    struct str bytes;
    enum http_read got = HTTP_DATA;
    for (buf_clear(&ns->body); question != NULL && got == HTTP_DATA && ns->body.len <= LIST_MAX;) {
        now_ms = clock_mono_ms();
        got = http_stream_read(question, now_ms < until_ms ? (int)(until_ms - now_ms) : 0, &bytes,
                               &ignored);
        if (got == HTTP_DATA)
            buf_append_str(&ns->body, bytes);
    }
    if (got == HTTP_CLOSED)
        nomad_namespaces_take(ns, buf_str(&ns->body), index_of(question), newest, &ignored);
    http_stream_close(&question);
    for (size_t i = 0; i < ns->n_fresh; i++)
        ns->fresh[i].told = false;
    ns->began_ms = clock_mono_ms();
}

/* ---- what is due ---- */

static bool is_settled(const struct nomad_namespaces *ns, const struct nomad_namespace *one)
{
    return one->told || ns->began_ms >= one->noticed_ms + NOMAD_SETTLE_MS;
}

static void drop_settled(struct nomad_namespaces *ns)
{
    size_t kept = 0;
    for (size_t i = 0; i < ns->n_fresh; i++) {
        if (is_settled(ns, &ns->fresh[i]))
            buf_fini(&ns->fresh[i].name);
        else
            ns->fresh[kept++] = ns->fresh[i];
    }
    ns->n_fresh = kept;
}

static bool is_due(const struct nomad_namespaces *ns, int64_t now_ms)
{
    if (now_ms - ns->began_ms < SUBSCRIBE_EVERY_MS)
        return false;
    for (size_t i = 0; i < ns->n_fresh; i++) {
        const struct nomad_namespace *one = &ns->fresh[i];
        if (!is_settled(ns, one) &&
            (ns->began_ms < one->noticed_ms || now_ms >= one->noticed_ms + NOMAD_SETTLE_MS))
            return true;
    }
    return false;
}

bool nomad_namespaces_poll(struct nomad_namespaces *ns, bool caught_up, uint64_t newest)
{
    int64_t now_ms = clock_mono_ms();
    if (now_ms - ns->polled_ms < POLL_EVERY_MS || !matters(ns))
        return false;
    ns->polled_ms = now_ms;
    if (ns->question == NULL && now_ms >= ns->ask_at_ms)
        start_question(ns, ns->index, now_ms);
    while (ns->question != NULL && work(ns, newest, now_ms))
        ;
    if (caught_up)
        drop_settled(ns);
    return is_due(ns, now_ms);
}

/* ---- late events ---- */

uint64_t nomad_namespaces_created(const struct nomad_namespaces *ns)
{
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < ns->n_fresh; i++)
        if (ns->fresh[i].created < first)
            first = ns->fresh[i].created;
    return first;
}

enum found_late nomad_namespaces_judge(struct nomad_namespaces *ns, const struct found_event *event,
                                       uint64_t begins_at)
{
    struct nomad_namespace *one =
        ns->n_fresh > 0 ? list_find(ns->fresh, ns->n_fresh, event->ns) : NULL;
    if (one == NULL || event->index < one->created)
        return FOUND_IN_TIME;
    one->told = true;
    return one->is_young || begins_at > one->created ? FOUND_MAYBE_LATE : FOUND_LATE;
}

uint64_t nomad_namespaces_missed(struct nomad_namespaces *ns, uint64_t begins_at)
{
    uint64_t first = 0;
    for (size_t i = 0; i < ns->n_fresh; i++) {
        struct nomad_namespace *one = &ns->fresh[i];
        if (one->is_young || one->missed || one->created >= begins_at)
            continue;
        one->missed = true;
        if (first == 0 || one->created < first)
            first = one->created;
    }
    return first;
}
