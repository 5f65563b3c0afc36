/* redis_sink.c - the Redis sink: connection, ownership, checkpoint. */
#include "connectors/redis/redis_sink.h"

#include "bridge/base/log.h"
#include "connectors/redis/redis_error.h"
#include "connectors/redis/redis_internal.h"
#include "connectors/redis/redis_script.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REDIRECTS_MAX = 5 };

/* ---- making ---- */

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
    (void)url_rc;
    (void)template_rc;
    if (sink->settings->password != NULL) {
        free(sink->url.password);
        sink->url.password = mem_strdup(sink->settings->password);
    }
    sink->checkpoint_key = redis_owner_key(pair, sink->settings->prefix, "checkpoint");
    redis_owner_init(&sink->owner, pair, sink->settings->prefix);
    return sink;
}

void redis_sink_close(struct redis_sink *sink)
{
    redis_conn_close(&sink->conn);
    sink->checkpoint_known = false;
    redis_transaction_forget(&sink->tx);
}

/* ---- calling ---- */

redisReply *redis_sink_call(struct redis_sink *sink, struct err *err)
{
    if (sink->conn == NULL) {
        err_set(err, ERR_RETRY, "the connection to Redis broke");
        return NULL;
    }
    redisReply *reply = redis_conn_call(sink->conn, &sink->command, err);
    if (reply == NULL)
        redis_sink_close(sink);
    return reply;
}

/* The same; NULL also where the reply is an error, and *result says why. */
static redisReply *call(struct redis_sink *sink, enum sink_result *result, struct err *err)
{
    redisReply *reply = redis_sink_call(sink, err);
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
    redis_sink_close(sink);
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

static enum sink_result claim(struct redis_sink *sink, struct place *place, struct err *err)
{
    redis_owner_claim(&sink->owner, &sink->command);
    redisReply *reply = redis_sink_call(sink, err);
    if (reply == NULL)
        return SINK_UNKNOWN;
    enum sink_result result = reply->type == REDIS_REPLY_ERROR
                                  ? claim_error(sink, reply->str, place, err)
                                  : redis_owner_claimed(&sink->owner, reply, err);
    freeReplyObject(reply);
    return result;
}

enum sink_result redis_sink_load_script(struct redis_sink *sink, struct err *err)
{
    redis_command_begin(&sink->command, 3);
    redis_command_add_cstr(&sink->command, "SCRIPT");
    redis_command_add_cstr(&sink->command, "LOAD");
    redis_command_add_cstr(&sink->command, redis_script_publish);
    enum sink_result result;
    redisReply *reply = call(sink, &result, err);
    if (reply == NULL)
        return result;
    bool loaded = reply->type == REDIS_REPLY_STRING && reply->len == REDIS_SHA_LEN;
    if (loaded)
        memcpy(sink->sha, reply->str, REDIS_SHA_LEN + 1);
    freeReplyObject(reply);
    if (loaded)
        return SINK_DONE;
    err_set(err, ERR_FATAL, "SCRIPT LOAD gave no SHA1: is this a Redis?");
    return SINK_FATAL;
}

/* A Redis that evicts any key when it is full can evict checkpoints, and then everything is
 * published again: worth a warning, once. Users who may not ask are not warned. */
static enum sink_result warn_of_eviction(struct redis_sink *sink, struct err *err)
{
    redis_command_begin(&sink->command, 2);
    redis_command_add_cstr(&sink->command, "INFO");
    redis_command_add_cstr(&sink->command, "memory");
    redisReply *reply = redis_sink_call(sink, err);
    if (reply == NULL)
        return SINK_UNKNOWN;
    if (reply->type == REDIS_REPLY_STRING && strstr(reply->str, "\nmaxmemory:0\r") == NULL &&
        strstr(reply->str, "\nmaxmemory_policy:allkeys") != NULL)
        log_warn("redis_may_evict", LOG_STR("source", sink->pair->source),
                 LOG_STR("sink", sink->pair->sink),
                 LOG_STR("what", "maxmemory-policy is allkeys-*: Redis may evict the checkpoint, "
                                 "and all is published again; set noeviction or volatile-*"));
    freeReplyObject(reply);
    sink->eviction_told = true;
    return SINK_DONE;
}

/* Connects, to another node where a Cluster says so, and claims. */
static enum sink_result connect_and_claim(struct redis_sink *sink, struct err *err)
{
    struct place place = {.moved = false};
    enum sink_result result = SINK_RETRY;
    sink->owner.holder[0] = '\0';
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
    return result;
}

/* A standby asks again and again: on the connection it has, as long as that is good. */
enum sink_result redis_sink_open(void *self, struct err *err)
{
    struct redis_sink *sink = self;
    struct place unused = {.moved = false};
    enum sink_result result = SINK_UNKNOWN;
    if (sink->conn != NULL)
        result = claim(sink, &unused, err);
    if (result != SINK_DONE && result != SINK_STANDBY)
        result = connect_and_claim(sink, err);
    if (result == SINK_STANDBY)
        return SINK_STANDBY;
    if (result == SINK_DONE && !sink->eviction_told)
        result = warn_of_eviction(sink, err);
    if (result == SINK_DONE)
        result = redis_sink_load_script(sink, err);
    if (result == SINK_DONE)
        return SINK_DONE;
    redis_sink_close(sink);
    return result == SINK_UNKNOWN ? SINK_RETRY : result;
}

/* ---- the checkpoint ---- */

/* The checkpoint, and into `text` its bytes; empty where there is none. */
static enum sink_result fetch_checkpoint(struct redis_sink *sink, struct buf *text,
                                         struct checkpoint *cp, struct err *err)
{
    redis_command_begin(&sink->command, 2);
    redis_command_add_cstr(&sink->command, "GET");
    redis_command_add_cstr(&sink->command, sink->checkpoint_key);
    enum sink_result result;
    redisReply *reply = call(sink, &result, err);
    if (reply == NULL)
        return result;
    buf_clear(text);
    if (reply->type == REDIS_REPLY_STRING)
        buf_append(text, reply->str, reply->len);
    freeReplyObject(reply);
    if (text->len > 0 && checkpoint_decode(cp, buf_str(text), err) != 0) {
        err_wrap(err, "key %s", sink->checkpoint_key);
        return SINK_FATAL;
    }
    return SINK_DONE;
}

static enum sink_result read_checkpoint(void *self, struct checkpoint *cp, bool *found,
                                        struct err *err)
{
    struct redis_sink *sink = self;
    enum sink_result result = fetch_checkpoint(sink, &sink->expected, cp, err);
    *found = result == SINK_DONE && sink->expected.len > 0;
    sink->checkpoint_known = result == SINK_DONE;
    return result;
}

static enum sink_result peek(void *self, struct checkpoint *cp, bool *found, struct err *err)
{
    struct redis_sink *sink = self;
    struct buf text = {0};
    enum sink_result result = fetch_checkpoint(sink, &text, cp, err);
    *found = result == SINK_DONE && text.len > 0;
    buf_fini(&text);
    return result == SINK_DONE ? SINK_DONE : SINK_RETRY;
}

/* ---- holding on and letting go ---- */

static enum sink_result renew(struct redis_sink *sink, int64_t term_ms, struct err *err)
{
    redis_owner_keep(&sink->owner, term_ms, &sink->command);
    enum sink_result result;
    redisReply *reply = call(sink, &result, err);
    if (reply == NULL)
        return result;
    bool renewed = str_is(redis_reply_str(reply, 0), "OK");
    if (renewed)
        redis_owner_renewed(&sink->owner);
    else
        result = redis_owner_lost(&sink->owner, reply, err);
    freeReplyObject(reply);
    return result;
}

/* A Redis that cannot now is opened anew, so that the reason is told while nothing is published. */
static enum sink_result keep(void *self, struct err *err)
{
    struct redis_sink *sink = self;
    if (redis_owner_term(&sink->owner) == 0)
        return SINK_DONE;
    enum sink_result result = renew(sink, REDIS_LEASE_MS, err);
    return result == SINK_RETRY ? SINK_UNKNOWN : result;
}

static const char *holder(void *self)
{
    const struct redis_sink *sink = self;
    return sink->owner.holder;
}

/* Where it can't be told to Redis, a standby waits until the lease is over. */
static void let_go(void *self)
{
    struct redis_sink *sink = self;
    redis_publish_forget(sink);
    if (sink->conn != NULL && sink->owner.is_ours && stop_requested(sink->pair->stop) &&
        renew(sink, 1, NULL) == SINK_DONE) {
        sink->owner.is_ours = false;
        sink->owner.holder[0] = '\0';
    }
    redis_sink_close(sink);
}

static void destroy(void *self)
{
    struct redis_sink *sink = self;
    if (sink == NULL)
        return;
    let_go(sink);
    redis_url_fini(&sink->url);
    template_free(&sink->stream);
    free(sink->checkpoint_key);
    redis_owner_fini(&sink->owner);
    buf_fini(&sink->expected);
    for (size_t i = 0; i < REDIS_BEGUN_MAX; i++)
        buf_fini(&sink->begun[i].next);
    redis_command_fini(&sink->command);
    redis_batch_fini(&sink->plan);
    redis_transaction_fini(&sink->tx);
    free(sink);
}

const struct sink_ops redis_sink = {
    .type = "redis",
    .rows = redis_settings_rows,
    .settings_size = sizeof(struct redis_settings),
    .check = redis_settings_check,
    .create = create,
    .destroy = destroy,
    .open = redis_sink_open,
    .read_checkpoint = read_checkpoint,
    .publish = redis_publish,
    .begin = redis_publish_begin,
    .end = redis_publish_end,
    .peek = peek,
    .keep = keep,
    .owner = holder,
    .close = let_go,
};
