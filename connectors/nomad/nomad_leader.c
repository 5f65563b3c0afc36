/* nomad_leader.c - what the leader says: how far its state is, and whether there is one.
 *
 * One GET for each list, in Nomad's default consistency mode (answered by the leader), of which
 * only the head is read; per_page keeps the rest small where the server knows it. Seen on 1.5.0:
 * a table that was never changed says 0 or 1; a list that the version does not know yet is 404, or
 * 500 where its path is read as that of one object (/v1/node/pools), or 200 without an index (host
 * volumes); the lists of ACLs are 400 where ACLs are off.
 *
 * A server that was restarted applies its raft log anew, for minutes where there is much of it, and
 * tells its old events again meanwhile. A leader gives no list then: Nomad holds the request back
 * for 5 s, then refuses it (500, "Not ready to serve consistent reads"; nomad/leader.go,
 * establishLeadership). Never ask with `stale`: that is answered from the half-applied state.
 * applied_index of /v1/agent/self says nothing about it, it jumps to the end at once;
 * last_log_index is the old one from the start. */
#include "connectors/nomad/nomad_leader.h"

#include "bridge/base/clock.h"
#include "connectors/http_stream.h"
#include "connectors/nomad/nomad_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

enum {
    HEAD_TIMEOUT_MS = 11000, /* Nomad looks for a leader for 5 s, which then holds back for 5 s */
    ALL_TIMEOUT_MS = 15000,
    ASK_AGAIN_MS = 2000, /* raft's leader lease is 500 ms by default */
    EXCERPT_BYTES = 120,
    ANSWER_MAX = 64 * 1024,
    SELF_TIMEOUT_MS = 3000,
    SELF_MAX = 1024 * 1024, /* /v1/agent/self tells the whole configuration */
};

/* A list, and the topic that its changes are told in. NULL: events of several topics change it (a
 * plan's result, say), so it must be known whatever is subscribed to; every version has it. */
struct table {
    const char *path;
    const char *topic;
};

static const struct table tables[] = {
    {"/v1/jobs?", NULL},
    {"/v1/allocations?", NULL},
    {"/v1/evaluations?", NULL},
    {"/v1/deployments?", NULL},
    {"/v1/nodes?", "Node"},
    {"/v1/services?", "Service"},
    {"/v1/node/pools?", "NodePool"},
    {"/v1/acl/policies?", "ACLPolicy"},
    {"/v1/acl/tokens?", "ACLToken"},
    {"/v1/acl/roles?", "ACLRole"},
    {"/v1/acl/auth-methods?", "ACLAuthMethod"},
    {"/v1/acl/binding-rules?", "ACLBindingRule"},
    {"/v1/volumes?type=csi&", "CSIVolume"},
    {"/v1/volumes?type=host&", "HostVolume"},
    {"/v1/plugins?type=csi&", "CSIPlugin"},
    {"/v1/vars?", "Variable"},
};

struct question {
    const struct nomad_settings *settings;
    const char *server;
    struct stop *stop;
    int64_t until_ms;
    bool replays; /* the leader refused because it still applies its log */
};

static bool is_wanted(const struct nomad_settings *settings, const struct table *table)
{
    if (table->topic == NULL || settings->filter_at == NOMAD_FILTER_AT_BRIDGE)
        return true;
    for (size_t i = 0; i < settings->topics.n; i++) {
        const char *topic = settings->topics.items[i];
        struct str name = {topic, strcspn(topic, ":")};
        if (str_is(name, "*") || str_is(name, table->topic))
            return true;
    }
    return false;
}

/* ---- one list ---- */

static struct http_stream *ask(const struct question *q, const struct table *table)
{
    struct nomad_request request;
    struct buf *url = &request.url;
    bool at_server = q->settings->filter_at == NOMAD_FILTER_AT_SERVER;
    nomad_request_init(&request, q->settings, q->server, table->path, q->stop);
    buf_append_cstr(url, "per_page=1&namespace=");
    http_url_encode(url, at_server ? q->settings->ns : "*");
    if (q->settings->region != NULL && q->settings->region[0] != '\0') {
        buf_append_cstr(url, "&region=");
        http_url_encode(url, q->settings->region);
    }
    request.http.url = buf_cstr(url);
    struct http_stream *http = http_stream_open(&request.http);
    nomad_request_fini(&request);
    return http;
}

/* Reads until the answer's head is there, and the body of one that is not 200. */
static int wait_head(const struct question *q, struct http_stream *http, struct err *err)
{
    int64_t now_ms = clock_mono_ms(), until_ms = now_ms + HEAD_TIMEOUT_MS;
    if (until_ms > q->until_ms)
        until_ms = q->until_ms;
    for (struct str body; now_ms < until_ms; now_ms = clock_mono_ms()) {
        switch (http_stream_read(http, (int)(until_ms - now_ms), &body, err)) {
        case HTTP_DATA:
        case HTTP_CLOSED:
        case HTTP_REFUSED:
            return 0;
        case HTTP_IDLE:
            break;
        case HTTP_FAILED:
            return -1;
        case HTTP_STOPPED:
            return err_set(err, ERR_RETRY, "stopped");
        }
    }
    return err_set(err, ERR_RETRY, "no answer in time");
}

/* Does this refusal say that the server's version, or its settings, have no such table? */
static bool is_no_such_table(int status, struct str said)
{
    static const char *const words[] = {
        "UUID must be",      /* read as one object's id */
        "can't find method", /* a client agent newer than its servers (net/rpc) */
        "can't find service",
    };
    if (status == 400 || status == 404 || status == 501)
        return true;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (said.len > 0 && memmem(said.p, said.len, words[i], strlen(words[i])) != NULL)
            return true;
    return false;
}

static bool is_replaying(struct str said)
{
    static const char text[] = "Not ready to serve consistent reads";
    return said.len > 0 && memmem(said.p, said.len, text, sizeof text - 1) != NULL;
}

static int say_refused(int status, struct str said, struct err *err)
{
    if (is_replaying(said))
        return err_set(err, ERR_RETRY,
                       "it was restarted and still applies its log: waiting for that");
    if (status == 401 || status == 403)
        return err_set(err, ERR_RETRY, "the token may not list it (%d): let it, by its policy",
                       status);
    int len = said.len < EXCERPT_BYTES ? (int)said.len : EXCERPT_BYTES;
    return err_set(err, ERR_RETRY, "answered %d: %.*s", status, len, said.len > 0 ? said.p : "");
}

/* *index: as the list's head says; 0 where there is no such table. */
static int read_index(struct http_stream *http, const struct table *table, uint64_t *index,
                      struct err *err)
{
    int status = http_stream_status(http);
    struct str said = http_stream_refusal(http);
    bool may_be_missing = table->topic != NULL;
    *index = 0;
    if (status != 200 && !(may_be_missing && is_no_such_table(status, said)))
        return say_refused(status, said, err);
    const char *text = http_stream_header(http, "X-Nomad-Index");
    if (text[0] == '\0')
        return may_be_missing ? 0 : err_set(err, ERR_RETRY, "no X-Nomad-Index: is it a Nomad?");
    char *end;
    errno = 0;
    *index = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || text[0] < '0' || text[0] > '9')
        return err_set(err, ERR_RETRY, "X-Nomad-Index is no number");
    return 0;
}

static int ask_table(struct question *q, const struct table *table, uint64_t *index,
                     struct err *err)
{
    struct http_stream *http = ask(q, table);
    int rc = wait_head(q, http, err) == 0 ? read_index(http, table, index, err) : -1;
    q->replays = rc != 0 && is_replaying(http_stream_refusal(http));
    http_stream_close(&http);
    return rc;
}

/* ---- all ---- */

static int ask_all(struct question *q, uint64_t *index, struct err *err)
{
    q->until_ms = clock_mono_ms() + ALL_TIMEOUT_MS;
    *index = 0;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        uint64_t one;
        if (!is_wanted(q->settings, &tables[i]))
            continue;
        if (ask_table(q, &tables[i], &one, err) != 0)
            return err_wrap(err, "asking the leader, %.*s", (int)strcspn(tables[i].path, "?"),
                            tables[i].path);
        if (one > *index)
            *index = one;
    }
    if (*index == 0)
        return err_set(err, ERR_RETRY, "asking the leader: no list was ever changed");
    return 0;
}

int nomad_leader_index(const struct nomad_settings *settings, const char *server, struct stop *stop,
                       uint64_t *index, struct err *err)
{
    struct question q = {.settings = settings, .server = server, .stop = stop};
    return ask_all(&q, index, err);
}

/* ---- has the index started over ---- */

/* stats.raft.last_log_index of /v1/agent/self; 0 where there is none (a client agent). */
static uint64_t find_log_index(struct str self)
{
    json_t *root = json_loadb(self.p, self.len, 0, NULL);
    json_t *raft = json_object_get(json_object_get(root, "stats"), "raft");
    const char *text = json_string_value(json_object_get(raft, "last_log_index"));
    uint64_t index =
        text != NULL && text[0] >= '0' && text[0] <= '9' ? strtoull(text, NULL, 10) : 0;
    json_decref(root);
    return index;
}

/* How far the raft log of the server itself reaches, applied or not; 0 where it doesn't say. */
static uint64_t ask_log_index(const struct question *q)
{
    struct nomad_request request;
    struct http_answer answer = {0};
    uint64_t index = 0;
    nomad_request_init(&request, q->settings, q->server, "/v1/agent/self", q->stop);
    if (http_ask(&request.http, SELF_TIMEOUT_MS, SELF_MAX, &answer, NULL) == 0 &&
        answer.status == 200)
        index = find_log_index(buf_str(&answer.body));
    nomad_request_fini(&request);
    http_answer_fini(&answer);
    return index;
}

/* One look; -1 with *verdict. A refusal that came at once must not make a busy loop. */
static int look(struct question *q, uint64_t *index, enum leader_verdict *verdict, struct err *err)
{
    int64_t before_ms = clock_mono_ms();
    if (ask_all(q, index, err) == 0)
        return 0;
    *verdict = q->replays ? LEADER_REPLAYS : LEADER_UNKNOWN;
    int64_t left_ms = before_ms + ASK_AGAIN_MS - clock_mono_ms();
    if (q->replays && left_ms > 0)
        stop_wait(q->stop, (int)left_ms);
    return -1;
}

int nomad_leader_judge(const struct nomad_settings *settings, const char *server, struct stop *stop,
                       uint64_t last, enum leader_verdict *verdict, struct err *err)
{
    struct question q = {.settings = settings, .server = server, .stop = stop};
    uint64_t index;
    for (int looks = 0; looks < 2; looks++) {
        *verdict = LEADER_UNKNOWN;
        if (looks > 0 && stop_wait(stop, ASK_AGAIN_MS))
            return err_set(err, ERR_RETRY, "asking the leader: stopped");
        if (look(&q, &index, verdict, err) != 0)
            return -1;
        *verdict = LEADER_IS_AHEAD;
        if (index >= last)
            return 0;
    }
    if (ask_log_index(&q) < last)
        *verdict = LEADER_STARTED_OVER;
    return 0;
}

/* ---- is there one ---- */

int nomad_leader_is_known(const struct nomad_settings *settings, const char *server,
                          struct stop *stop, int timeout_ms, struct err *err)
{
    struct nomad_request request;
    struct http_answer answer = {0};
    nomad_request_init(&request, settings, server, "/v1/status/leader", stop);
    int rc = http_ask(&request.http, timeout_ms, ANSWER_MAX, &answer, err);
    if (rc != 0)
        err_wrap(err, "quiet, and does not answer");
    else if (answer.status == 200 && str_is(buf_str(&answer.body), "\"\""))
        rc = err_set(err, ERR_RETRY,
                     "quiet, and it knows no leader: is it cut off from the other "
                     "servers?");
    nomad_request_fini(&request);
    http_answer_fini(&answer);
    return rc;
}
