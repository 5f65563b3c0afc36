/* redis_publish.c - batches: by script, by transaction, the next one while Redis works.
 *
 * Two are under way at most. The older one is sent whole; of the younger one all but its EXEC,
 * which follows when the older one's proof was read (redis_transaction.h). A batch that cannot go
 * so waits here until it is the oldest, and goes by script. Where the older one fails, nothing
 * happens of the younger. */
#include "connectors/redis/redis_internal.h"

#include "connectors/redis/redis_error.h"
#include "connectors/redis/redis_script.h"

#include <assert.h>

/* The i-th that was begun, 0 the oldest. */
static struct redis_begun *begun(struct redis_sink *sink, size_t i)
{
    return &sink->begun[(sink->first + i) % REDIS_BEGUN_MAX];
}

/* Part of a transaction lies in Redis, and of no other command will it answer before its end. */
static bool is_queued(struct redis_sink *sink)
{
    return sink->n_begun > 0 && begun(sink, sink->n_begun - 1)->state == REDIS_QUEUED;
}

/* A new connection: what was queued on the old one is gone, and the batch can follow at once. All
 * we know stays true, for nothing was written. */
static enum sink_result reconnect(struct redis_sink *sink, struct err *err)
{
    for (size_t i = 0; i < sink->n_begun; i++)
        begun(sink, i)->state = REDIS_WAITING;
    redis_sink_close(sink);
    enum sink_result result = redis_sink_open(sink, err);
    sink->checkpoint_known = result == SINK_DONE;
    if (result != SINK_DONE)
        redis_sink_close(sink);
    if (result == SINK_STANDBY)
        return SINK_FENCED;
    return result == SINK_RETRY ? SINK_UNKNOWN : result;
}

/* What the script found before it would have written. */
static enum sink_result refused(struct redis_sink *sink, const redisReply *reply, struct err *err)
{
    struct str word = redis_reply_str(reply, 0);
    struct str a = redis_reply_str(reply, 1), b = redis_reply_str(reply, 2);
    if (str_is(word, "OWNER"))
        return redis_owner_lost(&sink->owner, reply, err);
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
 * connection over it. */
static enum sink_result too_long(struct redis_sink *sink, struct batch *batch, struct err *err)
{
    enum sink_result result = reconnect(sink, err);
    if (result != SINK_DONE)
        return result;
    batch->refused = 0;
    for (size_t i = 1; i < batch->n; i++)
        if (batch->events[i]->data.len > batch->events[batch->refused]->data.len)
            batch->refused = i;
    err_set(err, ERR_INPUT, "Redis takes no argument of %zu bytes (proto-max-bulk-len)",
            batch->events[batch->refused]->data.len);
    return SINK_REFUSED;
}

static struct redis_publish to_publish(const struct redis_sink *sink, const struct redis_begun *b)
{
    return (struct redis_publish){
        .sha = sink->sha,
        .checkpoint_key = sink->checkpoint_key,
        .owner_key = sink->owner.owner_key,
        .lease_key = sink->owner.lease_key,
        .instance = sink->pair->instance,
        .lease_ms = b->lease_ms,
        .owner = buf_str(&sink->owner.text),
        .expected = buf_str(&sink->expected),
        .next = buf_str(&b->next),
        .max_entries = (uint64_t)sink->settings->max_entries,
    };
}

static void plan(struct redis_sink *sink, const struct redis_begun *b)
{
    if (sink->planned != b)
        redis_batch_plan(&sink->plan, sink->stream, b->batch);
    sink->planned = b;
}

/* ---- by script ---- */

/* Sends the planned batch; the reply may be an error, NULL where there is none. */
static redisReply *call_script(struct redis_sink *sink, const struct redis_begun *b,
                               struct err *err)
{
    struct redis_publish what = to_publish(sink, b);
    redis_batch_command(&sink->plan, &what, b->batch, &sink->command);
    redisReply *reply = redis_sink_call(sink, err);
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
    return str_is(redis_reply_str(reply, 0), "OK") ? SINK_DONE : refused(sink, reply, err);
}

static enum sink_result by_script(struct redis_sink *sink, const struct redis_begun *b,
                                  struct err *err)
{
    redis_transaction_forget(&sink->tx);
    plan(sink, b);
    redisReply *reply = call_script(sink, b, err);
    if (reply != NULL && is_error(reply, "NOSCRIPT")) { /* SCRIPT FLUSH, or a failover */
        freeReplyObject(reply);
        enum sink_result loaded = redis_sink_load_script(sink, err);
        if (loaded != SINK_DONE)
            return loaded;
        reply = call_script(sink, b, err);
    }
    if (reply == NULL)
        return SINK_UNKNOWN;
    enum sink_result result = judge(sink, reply, b->batch, err);
    freeReplyObject(reply);
    return result;
}

/* ---- by transaction ---- */

/* Sends sink->command; the answers are read later. */
static void send_command(struct redis_sink *sink)
{
    if (sink->conn != NULL && redis_conn_send(sink->conn, &sink->command, &sink->broke) != 0)
        redis_sink_close(sink);
    redis_command_shrink(&sink->command);
}

/* All of the planned batch where nothing is before it, else all but what carries it out. */
static void send_transaction(struct redis_sink *sink, struct redis_begun *b, bool commit)
{
    struct redis_publish what = to_publish(sink, b);
    redis_command_clear(&sink->command);
    redis_transaction_queue(&sink->tx, &sink->plan, &what, b->batch, &sink->command);
    if (commit)
        redis_transaction_commit(&sink->tx, &what, &sink->command);
    b->state = commit ? REDIS_SENT : REDIS_QUEUED;
    send_command(sink);
}

static void commit(struct redis_sink *sink, struct redis_begun *b)
{
    struct redis_publish what = to_publish(sink, b);
    redis_command_clear(&sink->command);
    redis_transaction_commit(&sink->tx, &what, &sink->command);
    b->state = REDIS_SENT;
    send_command(sink);
}

/* Sends what can go as a transaction by now. */
static void advance(struct redis_sink *sink)
{
    for (size_t i = 0; i < sink->n_begun; i++) {
        struct redis_begun *b = begun(sink, i);
        if (b->state != REDIS_WAITING)
            continue;
        if (sink->conn == NULL || b->batch->refused < b->batch->n)
            return;
        plan(sink, b);
        if (!redis_transaction_fits(&sink->tx, &sink->plan, b->batch))
            return;
        send_transaction(sink, b, i == 0);
    }
}

static redisReply *next_reply(struct redis_sink *sink, struct err *err)
{
    if (sink->conn == NULL) {
        if (err != NULL)
            *err = sink->broke;
        return NULL;
    }
    redisReply *reply = redis_conn_next(sink->conn, err);
    if (reply == NULL)
        redis_sink_close(sink);
    return reply;
}

/* Reads and judges a proof that was sent. UNKNOWN where the answers don't come, and where they are
 * not as expected; RETRY: the checkpoint has not moved. */
static enum sink_result read_proof(struct redis_sink *sink, struct err *err)
{
    redisReply *replies[REDIS_PROOF_REPLIES];
    size_t n = 0;
    while (n < REDIS_PROOF_REPLIES && (replies[n] = next_reply(sink, err)) != NULL)
        n++;
    enum sink_result result = SINK_UNKNOWN;
    if (n == REDIS_PROOF_REPLIES) {
        const redisReply *found = replies[n - 1];
        enum redis_proof proof =
            redis_transaction_judge(&sink->tx, buf_str(&sink->expected), replies);
        if (proof == REDIS_PROOF_HOLDS)
            result = SINK_DONE;
        else if (proof == REDIS_PROOF_BEFORE)
            result = SINK_RETRY;
        else if (found->type == REDIS_REPLY_ERROR)
            redis_error(found->str, err);
        else
            result = refused(sink, found, err);
    }
    for (size_t i = 0; i < n; i++)
        freeReplyObject(replies[i]);
    return result;
}

/* What was published by script is there; this only looks whether the next batch can go otherwise.
 */
static void prove(struct redis_sink *sink, const struct redis_begun *b)
{
    struct redis_publish what = to_publish(sink, b);
    redis_transaction_prove(&sink->tx, &sink->plan, &what, &sink->command);
    send_command(sink);
    if (read_proof(sink, NULL) != SINK_DONE)
        redis_sink_close(sink); /* whatever it is: opening finds out */
}

/* ---- one after the other ---- */

static void start(struct redis_sink *sink, struct batch *batch, const struct checkpoint *next)
{
    assert(sink->n_begun < REDIS_BEGUN_MAX);
    assert(sink->conn == NULL || sink->checkpoint_known);
    struct redis_begun *b = begun(sink, sink->n_begun++);
    b->state = REDIS_WAITING;
    b->batch = batch;
    batch->refused = redis_batch_oversized(batch);
    buf_clear(&b->next);
    checkpoint_encode(next, &b->next);
    b->lease_ms = redis_owner_term(&sink->owner);
    b->asked_ms = sink->owner.asked_ms;
    if (sink->planned == b)
        sink->planned = NULL;
}

void redis_publish_begin(void *self, struct batch *batch, const struct checkpoint *next)
{
    struct redis_sink *sink = self;
    start(sink, batch, next);
    advance(sink);
}

/* What becomes of the oldest one. */
static enum sink_result outcome(struct redis_sink *sink, struct redis_begun *b, struct err *err)
{
    enum sink_result result = SINK_RETRY;
    if (b->batch->refused < b->batch->n) {
        err_set(err, ERR_INPUT, "Redis takes no argument of more than 512 MiB");
        return SINK_REFUSED;
    }
    advance(sink);
    if (b->state == REDIS_SENT)
        result = read_proof(sink, err);
    b->state = REDIS_WAITING;
    if (result != SINK_RETRY)
        return result;
    if (is_queued(sink) && (result = reconnect(sink, err)) != SINK_DONE)
        return result;
    result = by_script(sink, b, err); /* nothing was written yet, and the script will say why */
    if (result == SINK_DONE && redis_transaction_is_wanted(&sink->tx, &sink->plan, b->batch))
        prove(sink, b);
    return result;
}

/* The one before it is there. */
static void go_on(struct redis_sink *sink)
{
    if (is_queued(sink)) {
        if (sink->tx.as_foreseen)
            commit(sink, begun(sink, 0));
        else
            reconnect(sink, &sink->broke); /* its ids are not what they have to be */
    }
    advance(sink);
}

enum sink_result redis_publish_end(void *self, struct err *err)
{
    struct redis_sink *sink = self;
    struct redis_begun *b = begun(sink, 0);
    assert(sink->n_begun > 0);
    enum sink_result result = outcome(sink, b, err);
    if (result != SINK_DONE) {
        redis_publish_forget(sink);
        return result;
    }
    if (b->lease_ms > 0) {
        sink->owner.asked_ms = b->asked_ms;
        redis_owner_renewed(&sink->owner);
    }
    struct buf was = sink->expected;
    sink->expected = b->next;
    b->next = was;
    sink->first = (sink->first + 1) % REDIS_BEGUN_MAX;
    sink->n_begun--;
    go_on(sink);
    return SINK_DONE;
}

enum sink_result redis_publish(void *self, struct batch *batch, const struct checkpoint *next,
                               struct err *err)
{
    start(self, batch, next);
    return redis_publish_end(self, err);
}

void redis_publish_forget(struct redis_sink *sink)
{
    for (size_t i = 0; i < sink->n_begun; i++)
        if (begun(sink, i)->state != REDIS_WAITING)
            redis_sink_close(sink);
    sink->n_begun = 0;
}
