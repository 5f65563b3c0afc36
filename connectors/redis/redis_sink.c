/* redis_sink.c - the Redis sink: connection, ownership, checkpoint, batches. */
#include "connectors/redis/redis_sink.h"

#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "connectors/redis/redis_batch.h"
#include "connectors/redis/redis_command.h"
#include "connectors/redis/redis_conn.h"
#include "connectors/redis/redis_error.h"
#include "connectors/redis/redis_script.h"
#include "connectors/redis/redis_settings.h"
#include "connectors/redis/redis_url.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REDIRECTS_MAX = 5, SHA_LEN = 40 };

struct redis_sink {
    const struct sink_pair *pair;
    const struct redis_settings *settings;
    struct redis_url url;
    struct template *stream;
    char *checkpoint_key;
    char *owner_key;
    char token[17];      /* tells this instance from others of the same epoch */
    uint64_t epoch;      /* the last one that was ours, 0: none */
    struct buf owner;    /* what the owner key must hold while we publish */
    struct buf expected; /* the checkpoint as it is there, byte for byte; empty: none */
    struct buf next;
    bool eviction_told;
    bool checkpoint_known;   /* `expected` was read since the last open */
    char sha[SHA_LEN + 1];   /* of the publish script */
    struct redis_conn *conn; /* NULL while closed */
    struct redis_command command;
    struct redis_batch plan;
};

/* ---- making and ending ---- */

static char *own_key(const struct sink_pair *pair, const char *prefix, const char *what)
{
    struct buf key = {0};
    buf_printf(&key, "%s:{%s}:%s.%s:%s", prefix, pair->source, pair->bridge, pair->sink, what);
    char *text = mem_strdup(buf_cstr(&key));
    buf_fini(&key);
    return text;
}

static void *create(const struct sink_pair *pair, struct sink_limits *limits)
{
    struct redis_sink *sink = mem_zalloc(sizeof *sink);
    sink->pair = pair;
    sink->settings = pair->settings;
    *limits = (struct sink_limits){.events_max = REDIS_BATCH_EVENTS_MAX,
                                   .bytes_max = REDIS_BATCH_BYTES_MAX};
    /* Both were checked with the configuration. */
    int url_rc = redis_url_parse(&sink->url, sink->settings->url, NULL);
    int template_rc = template_new(&sink->stream, sink->settings->stream,
                                   (unsigned)sink->settings->buckets, NULL);
    assert(url_rc == 0 && template_rc == 0);
    if (sink->settings->password != NULL) {
        free(sink->url.password);
        sink->url.password = mem_strdup(sink->settings->password);
    }
    sink->checkpoint_key = own_key(pair, sink->settings->prefix, "checkpoint");
    sink->owner_key = own_key(pair, sink->settings->prefix, "owner");
    snprintf(sink->token, sizeof sink->token, "%016" PRIx64, hash_random());
    return sink;
}

static void close_conn(void *self)
{
    struct redis_sink *sink = self;
    redis_conn_close(&sink->conn);
    sink->checkpoint_known = false;
}

static void destroy(void *self)
{
    struct redis_sink *sink = self;
    if (sink == NULL)
        return;
    close_conn(sink);
    redis_url_fini(&sink->url);
    template_free(&sink->stream);
    free(sink->checkpoint_key);
    free(sink->owner_key);
    buf_fini(&sink->owner);
    buf_fini(&sink->expected);
    buf_fini(&sink->next);
    redis_command_fini(&sink->command);
    redis_batch_fini(&sink->plan);
    free(sink);
}

/* ---- calling ---- */

/* Sends sink->command and returns its reply; NULL where there is none or it is an error, and
 * *result says why. */
static redisReply *call(struct redis_sink *sink, enum sink_result *result, struct err *err)
{
    redisReply *reply = redis_conn_call(sink->conn, &sink->command, err);
    *result = SINK_UNKNOWN;
    if (reply == NULL)
        return NULL;
    *result = SINK_DONE;
    if (reply->type != REDIS_REPLY_ERROR)
        return reply;
    *result = redis_error(reply->str, err);
    freeReplyObject(reply);
    return NULL;
}

/* A command of plain words whose reply does not matter. */
static enum sink_result call_words(struct redis_sink *sink, const char *const *words, size_t n,
                                   struct err *err)
{
    redis_command_begin(&sink->command, n);
    for (size_t i = 0; i < n; i++)
        redis_command_add_cstr(&sink->command, words[i]);
    enum sink_result result;
    freeReplyObject(call(sink, &result, err));
    return result;
}

/* The i-th string of an answer of ours; empty where there is none. */
static struct str answer(const redisReply *reply, size_t i)
{
    if (reply->type != REDIS_REPLY_ARRAY || i >= reply->elements ||
        reply->element[i]->type != REDIS_REPLY_STRING)
        return (struct str){"", 0};
    return (struct str){reply->element[i]->str, reply->element[i]->len};
}

/* ---- opening ---- */

static enum sink_result log_in(struct redis_sink *sink, struct err *err)
{
    const struct redis_url *url = &sink->url;
    if (url->password != NULL) {
        const char *named[] = {"AUTH", url->user, url->password};
        const char *unnamed[] = {"AUTH", url->password};
        enum sink_result result =
            url->user != NULL ? call_words(sink, named, 3, err) : call_words(sink, unnamed, 2, err);
        if (result != SINK_DONE)
            return result;
    }
    if (url->db == 0)
        return SINK_DONE;
    char db[16];
    snprintf(db, sizeof db, "%d", url->db);
    const char *words[] = {"SELECT", db};
    return call_words(sink, words, 2, err);
}

/* Where to connect: what `url:` says, or where a MOVED led. */
struct place {
    char host[256];
    int port;
    bool moved; /* in: host and port count; out: there is another hop to make */
};

static enum sink_result connect_to(struct redis_sink *sink, const struct place *place,
                                   struct err *err)
{
    struct redis_endpoint to = {sink->url.host, sink->url.port, sink->url.path};
    if (place->moved)
        to = (struct redis_endpoint){.host = place->host, .port = place->port};
    close_conn(sink);
    if (redis_conn_open(&sink->conn, &to, (int)sink->settings->timeout_ms, sink->pair->stop, err) !=
        0)
        return err != NULL && err->kind == ERR_FATAL ? SINK_FATAL : SINK_RETRY;
    return log_in(sink, err);
}

/* An error reply to the claim: a Cluster says which of its nodes has our keys. */
static enum sink_result claim_error(struct redis_sink *sink, const char *text, struct place *place,
                                    struct err *err)
{
    char host[sizeof place->host];
    if (!redis_error_moved(text, host, sizeof host, &place->port))
        return redis_error(text, err);
    if (!sink->settings->cluster) {
        err_set(err, ERR_FATAL,
                "this is a Redis Cluster: set cluster: true and begin stream with {%%{source}}");
        return SINK_FATAL;
    }
    if (host[0] != '\0')
        snprintf(place->host, sizeof place->host, "%s", host);
    else if (!place->moved) /* "the host you asked", which over a unix socket is this one */
        snprintf(place->host, sizeof place->host, "%s",
                 sink->url.host != NULL ? sink->url.host : "127.0.0.1");
    place->moved = true;
    return SINK_RETRY;
}

static enum sink_result claimed(struct redis_sink *sink, const redisReply *reply, struct err *err)
{
    struct str word = answer(reply, 0), owner = answer(reply, 1);
    if (str_is(word, "OK")) {
        buf_clear(&sink->owner);
        buf_append_str(&sink->owner, owner);
        sink->epoch = strtoull(buf_cstr(&sink->owner), NULL, 10);
        return SINK_DONE;
    }
    if (str_is(word, "FENCED")) {
        err_set(err, ERR_FENCED,
                "another instance is the owner: %s holds \"%.*s\", ours was \"%s\"",
                sink->owner_key, STR_ARG(owner), buf_cstr(&sink->owner));
        return SINK_FENCED;
    }
    err_set(err, ERR_FATAL, "key %s holds \"%.*s\", not an owner: delete it or set prefix",
            sink->owner_key, (int)(owner.len < 80 ? owner.len : 80), owner.p);
    return SINK_FATAL;
}

static enum sink_result claim(struct redis_sink *sink, struct place *place, struct err *err)
{
    redis_command_begin(&sink->command, 6);
    redis_command_add_cstr(&sink->command, "EVAL");
    redis_command_add_cstr(&sink->command, redis_script_claim);
    redis_command_add_u64(&sink->command, 1);
    redis_command_add_cstr(&sink->command, sink->owner_key);
    redis_command_add_u64(&sink->command, sink->epoch);
    redis_command_add_cstr(&sink->command, sink->token);
    redisReply *reply = redis_conn_call(sink->conn, &sink->command, err);
    if (reply == NULL)
        return SINK_UNKNOWN;
    enum sink_result result = reply->type == REDIS_REPLY_ERROR
                                  ? claim_error(sink, reply->str, place, err)
                                  : claimed(sink, reply, err);
    freeReplyObject(reply);
    return result;
}

static enum sink_result load_script(struct redis_sink *sink, struct err *err)
{
    redis_command_begin(&sink->command, 3);
    redis_command_add_cstr(&sink->command, "SCRIPT");
    redis_command_add_cstr(&sink->command, "LOAD");
    redis_command_add_cstr(&sink->command, redis_script_publish);
    enum sink_result result;
    redisReply *reply = call(sink, &result, err);
    if (reply == NULL)
        return result;
    bool loaded = reply->type == REDIS_REPLY_STRING && reply->len == SHA_LEN;
    if (loaded)
        memcpy(sink->sha, reply->str, SHA_LEN + 1);
    freeReplyObject(reply);
    if (loaded)
        return SINK_DONE;
    err_set(err, ERR_FATAL, "SCRIPT LOAD gave no SHA1: is this a Redis?");
    return SINK_FATAL;
}

/* A Redis that evicts any key when it is full can evict checkpoints, and then everything is
 * published again: worth a warning, once. Users who may not ask are not warned. */
static void warn_of_eviction(struct redis_sink *sink)
{
    redis_command_begin(&sink->command, 2);
    redis_command_add_cstr(&sink->command, "INFO");
    redis_command_add_cstr(&sink->command, "memory");
    enum sink_result result;
    redisReply *reply = call(sink, &result, NULL);
    if (reply != NULL && reply->type == REDIS_REPLY_STRING &&
        strstr(reply->str, "\nmaxmemory:0\r") == NULL &&
        strstr(reply->str, "\nmaxmemory_policy:allkeys") != NULL)
        log_warn("redis_may_evict", LOG_STR("source", sink->pair->source),
                 LOG_STR("sink", sink->pair->sink),
                 LOG_STR("what", "maxmemory-policy is allkeys-*: Redis may evict the checkpoint, "
                                 "and all is published again; set noeviction or volatile-*"));
    freeReplyObject(reply);
    sink->eviction_told = true;
}

static enum sink_result open_conn(void *self, struct err *err)
{
    struct redis_sink *sink = self;
    struct place place = {.moved = false};
    enum sink_result result = SINK_RETRY;
    for (int hop = 0; hop <= REDIRECTS_MAX; hop++) {
        struct place before = place;
        result = connect_to(sink, &place, err);
        if (result == SINK_DONE)
            result = claim(sink, &place, err);
        bool again = place.moved && (!before.moved || before.port != place.port ||
                                     strcmp(before.host, place.host) != 0);
        if (result != SINK_RETRY || !again)
            break;
    }
    if (result == SINK_DONE && !sink->eviction_told)
        warn_of_eviction(sink);
    if (result == SINK_DONE)
        result = load_script(sink, err);
    if (result == SINK_DONE)
        return SINK_DONE;
    close_conn(sink);
    return result == SINK_UNKNOWN ? SINK_RETRY : result;
}

/* ---- the checkpoint ---- */

static enum sink_result read_checkpoint(void *self, struct checkpoint *cp, bool *found,
                                        struct err *err)
{
    struct redis_sink *sink = self;
    assert(sink->conn != NULL);
    redis_command_begin(&sink->command, 2);
    redis_command_add_cstr(&sink->command, "GET");
    redis_command_add_cstr(&sink->command, sink->checkpoint_key);
    enum sink_result result;
    redisReply *reply = call(sink, &result, err);
    if (reply == NULL)
        return result;
    buf_clear(&sink->expected);
    *found = reply->type == REDIS_REPLY_STRING && reply->len > 0;
    if (*found)
        buf_append(&sink->expected, reply->str, reply->len);
    freeReplyObject(reply);
    if (*found && checkpoint_decode(cp, buf_str(&sink->expected), err) != 0) {
        err_wrap(err, "key %s", sink->checkpoint_key);
        return SINK_FATAL;
    }
    sink->checkpoint_known = true;
    return SINK_DONE;
}

/* ---- publishing ---- */

/* Someone else stands in the owner key: a successor, unless the key lost what it held. */
static enum sink_result not_owner(const struct redis_sink *sink, struct str found, struct err *err)
{
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)(found.len < 63 ? found.len : 63), found.p);
    if (strtoull(text, NULL, 10) > sink->epoch) {
        err_set(err, ERR_FENCED,
                "another instance took over: %s holds \"%s\", ours is epoch %" PRIu64,
                sink->owner_key, text, sink->epoch);
        return SINK_FENCED;
    }
    err_set(err, ERR_RETRY, "%s holds \"%s\", we wrote epoch %" PRIu64 ": Redis lost data",
            sink->owner_key, text, sink->epoch);
    return SINK_UNKNOWN;
}

/* What the script found before it would have written. */
static enum sink_result refused(const struct redis_sink *sink, const redisReply *reply,
                                struct err *err)
{
    struct str word = answer(reply, 0), a = answer(reply, 1), b = answer(reply, 2);
    if (str_is(word, "OWNER"))
        return not_owner(sink, a, err);
    if (str_is(word, "CHECKPOINT")) {
        err_set(err, ERR_RETRY, "the checkpoint in Redis is %s: reading it again",
                a.len == 0 ? "gone" : "another than the last that was seen");
        return SINK_UNKNOWN;
    }
    a.len = a.len < 200 ? a.len : 200;
    if (str_is(word, "TYPE"))
        err_set(err, ERR_FATAL,
                "stream key \"%.*s\" holds a %.*s: delete or rename it, or change stream",
                STR_ARG(a), STR_ARG(b));
    else if (str_is(word, "ID"))
        err_set(err, ERR_FATAL,
                "stream \"%.*s\" has the last id %.*s, after which none can follow: rename or "
                "delete it, or change stream",
                STR_ARG(a), STR_ARG(b));
    else if (str_is(word, "PERM"))
        return redis_error(str_is(a, "SET") ? "NOPERM this user may not run SET"
                                            : "NOPERM this user may not run XTRIM",
                           err);
    else
        err_set(err, ERR_FATAL, "the script answered \"%.*s\"", STR_ARG(word));
    return SINK_FATAL;
}

/* An argument over Redis' own limit (proto-max-bulk-len): the longest it was. Redis ends the
 * connection over it; ours is made anew, so that the rest of the batch can follow at once. */
static enum sink_result too_long(struct redis_sink *sink, struct batch *batch, struct err *err)
{
    enum sink_result result = open_conn(sink, err);
    if (result != SINK_DONE)
        return result == SINK_RETRY ? SINK_UNKNOWN : result;
    sink->checkpoint_known = true; /* nothing was written: what we expect is there still */
    batch->refused = 0;
    for (size_t i = 1; i < batch->n; i++)
        if (batch->events[i]->data.len > batch->events[batch->refused]->data.len)
            batch->refused = i;
    err_set(err, ERR_INPUT, "Redis takes no argument of %zu bytes (proto-max-bulk-len)",
            batch->events[batch->refused]->data.len);
    return SINK_REFUSED;
}

/* Sends the planned batch; the reply may be an error, NULL where there is none. */
static redisReply *send_batch(struct redis_sink *sink, const struct batch *batch, struct err *err)
{
    struct redis_publish what = {
        .sha = sink->sha,
        .checkpoint_key = sink->checkpoint_key,
        .owner_key = sink->owner_key,
        .owner = buf_str(&sink->owner),
        .expected = buf_str(&sink->expected),
        .next = buf_str(&sink->next),
        .max_entries = (uint64_t)sink->settings->max_entries,
    };
    redis_batch_command(&sink->plan, &what, batch, &sink->command);
    redisReply *reply = redis_conn_call(sink->conn, &sink->command, err);
    redis_command_shrink(&sink->command);
    return reply;
}

static bool is_error(const redisReply *reply, const char *code)
{
    return reply->type == REDIS_REPLY_ERROR && redis_error_is(reply->str, code);
}

static enum sink_result judge(struct redis_sink *sink, const redisReply *reply, struct batch *batch,
                              struct err *err)
{
    if (batch->n > 0 && is_error(reply, "ERR Protocol error: invalid bulk length"))
        return too_long(sink, batch, err);
    if (reply->type == REDIS_REPLY_ERROR)
        return redis_error(reply->str, err);
    return str_is(answer(reply, 0), "OK") ? SINK_DONE : refused(sink, reply, err);
}

static enum sink_result publish(void *self, struct batch *batch, const struct checkpoint *next,
                                struct err *err)
{
    struct redis_sink *sink = self;
    assert(sink->conn != NULL && sink->checkpoint_known);
    batch->refused = redis_batch_oversized(batch);
    if (batch->refused < batch->n) {
        err_set(err, ERR_INPUT, "Redis takes no argument of more than 512 MiB");
        return SINK_REFUSED;
    }
    buf_clear(&sink->next);
    checkpoint_encode(next, &sink->next);
    redis_batch_plan(&sink->plan, sink->stream, batch);

    redisReply *reply = send_batch(sink, batch, err);
    if (reply != NULL && is_error(reply, "NOSCRIPT")) { /* SCRIPT FLUSH, or a failover */
        freeReplyObject(reply);
        enum sink_result loaded = load_script(sink, err);
        if (loaded != SINK_DONE)
            return loaded;
        reply = send_batch(sink, batch, err);
    }
    if (reply == NULL)
        return SINK_UNKNOWN;
    enum sink_result result = judge(sink, reply, batch, err);
    freeReplyObject(reply);
    if (result == SINK_DONE) {
        struct buf was = sink->expected;
        sink->expected = sink->next;
        sink->next = was;
    }
    return result;
}

const struct sink_ops redis_sink = {
    .type = "redis",
    .rows = redis_settings_rows,
    .settings_size = sizeof(struct redis_settings),
    .check = redis_settings_check,
    .create = create,
    .destroy = destroy,
    .open = open_conn,
    .read_checkpoint = read_checkpoint,
    .publish = publish,
    .close = close_conn,
};
