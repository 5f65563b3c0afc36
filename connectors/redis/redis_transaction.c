/* redis_transaction.c - the cheaper way to publish where much comes: MULTI, XADD …, EXEC. */
#include "connectors/redis/redis_transaction.h"

#include "connectors/redis/redis_conn.h"
#include "connectors/redis/redis_script.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Others that write to the same streams touch them again and again: the wait doubles. */
enum { CALM_LEAST = 4, CALM_DOUBLINGS = 8, ID_TEXT_MAX = 48 };
/* Redis holds all of it at once; far below what it takes as one entry. */
enum { BYTES_MAX = 8 * REDIS_BATCH_BYTES_MAX };

void redis_transaction_fini(struct redis_transaction *tx)
{
    buf_fini(&tx->names);
}

void redis_transaction_forget(struct redis_transaction *tx)
{
    tx->proven = tx->foreseen = tx->as_foreseen = false;
}

/* ---- the watched streams ---- */

static struct str watched_name(const struct redis_transaction *tx, size_t i)
{
    return (struct str){tx->names.p + tx->streams[i].name_at, tx->streams[i].name_len};
}

/* Its number, n_streams where it is not watched. */
static size_t find(const struct redis_transaction *tx, struct str name)
{
    size_t i = 0;
    while (i < tx->n_streams && !str_eq(watched_name(tx, i), name))
        i++;
    return i;
}

static bool add(struct redis_transaction *tx, struct str name)
{
    if (find(tx, name) < tx->n_streams)
        return true;
    if (tx->n_streams == REDIS_WATCHED_MAX)
        return false;
    tx->streams[tx->n_streams++] =
        (struct redis_watched){.name_at = tx->names.len, .name_len = name.len};
    buf_append_str(&tx->names, name);
    return true;
}

static bool add_all(struct redis_transaction *tx, const struct redis_batch *plan)
{
    size_t i = 0;
    while (i < plan->n_streams && add(tx, redis_batch_stream(plan, i)))
        i++;
    return i == plan->n_streams;
}

static void clear(struct redis_transaction *tx)
{
    tx->n_streams = 0;
    buf_clear(&tx->names);
}

/* ---- publishing ---- */

bool redis_transaction_fits(struct redis_transaction *tx, struct redis_batch *plan,
                            const struct batch *batch)
{
    if (!(tx->proven || tx->foreseen) || batch->n < REDIS_TRANSACTION_EVENTS_MIN ||
        batch->bytes > BYTES_MAX)
        return false;
    for (size_t i = 0; i < plan->n_streams; i++) {
        size_t at = find(tx, redis_batch_stream(plan, i));
        if (at == tx->n_streams || tx->streams[at].ms == UINT64_MAX)
            return false;
        redis_batch_number(plan, i, batch, tx->streams[at].ms, tx->streams[at].seq);
    }
    return true;
}

static void add_words(struct redis_command *cmd, const char *const *words, size_t n)
{
    redis_command_another(cmd, n);
    for (size_t i = 0; i < n; i++)
        redis_command_add_cstr(cmd, words[i]);
}

static void add_word(struct redis_command *cmd, const char *word)
{
    add_words(cmd, &word, 1);
}

static void add_reply_mode(struct redis_command *cmd, const char *mode)
{
    add_words(cmd, (const char *[]){"CLIENT", "REPLY", mode}, 3);
}

static void add_proof(struct redis_transaction *tx, const struct redis_publish *publish,
                      struct redis_command *cmd)
{
    add_reply_mode(cmd, "ON");
    add_word(cmd, "MULTI");
    add_word(cmd, "EXEC");
    redis_command_another(cmd, 3 + tx->n_streams);
    redis_command_add_cstr(cmd, "WATCH");
    redis_command_add_cstr(cmd, publish->checkpoint_key);
    redis_command_add_cstr(cmd, publish->owner_key);
    for (size_t i = 0; i < tx->n_streams; i++)
        redis_command_add(cmd, watched_name(tx, i));
    redis_command_another(cmd, 8 + tx->n_streams);
    redis_command_add_cstr(cmd, "EVAL");
    redis_command_add_cstr(cmd, redis_script_check);
    redis_command_add_u64(cmd, 3 + tx->n_streams);
    redis_command_add_cstr(cmd, publish->checkpoint_key);
    redis_command_add_cstr(cmd, publish->owner_key);
    redis_command_add_cstr(cmd, publish->lease_key);
    for (size_t i = 0; i < tx->n_streams; i++)
        redis_command_add(cmd, watched_name(tx, i));
    redis_command_add(cmd, publish->owner);
    redis_command_add(cmd, publish->next);
}

static void add_last_id(const struct redis_transaction *tx, size_t i, struct redis_command *cmd)
{
    char id[ID_TEXT_MAX];
    snprintf(id, sizeof id, "%" PRIu64 "-%" PRIu64, tx->streams[i].ms, tx->streams[i].seq);
    redis_command_another(cmd, 3);
    redis_command_add_cstr(cmd, "XSETID");
    redis_command_add(cmd, watched_name(tx, i));
    redis_command_add_cstr(cmd, id);
}

static void add_move(const struct redis_batch *plan, const struct redis_publish *publish,
                     struct redis_command *cmd)
{
    redis_command_another(cmd, 5 + plan->n_streams);
    redis_command_add_cstr(cmd, "EVAL");
    redis_command_add_cstr(cmd, redis_script_move);
    redis_command_add_u64(cmd, 1 + plan->n_streams);
    redis_command_add_cstr(cmd, publish->checkpoint_key);
    for (size_t i = 0; i < plan->n_streams; i++)
        redis_command_add(cmd, redis_batch_stream(plan, i));
    redis_command_add_ref(cmd, publish->next);
}

/* Where the batch leaves the streams. */
static void note_after(struct redis_transaction *tx, const struct redis_batch *plan)
{
    for (size_t i = 0; i < tx->n_streams; i++) {
        tx->streams[i].after_ms = tx->streams[i].ms;
        tx->streams[i].after_seq = tx->streams[i].seq;
    }
    for (size_t i = 0; i < plan->n_streams; i++) {
        struct redis_watched *stream = &tx->streams[find(tx, redis_batch_stream(plan, i))];
        stream->after_ms = plan->streams[i].ms;
        stream->after_seq = plan->streams[i].seq;
    }
}

void redis_transaction_queue(struct redis_transaction *tx, struct redis_batch *plan,
                             const struct redis_publish *publish, const struct batch *batch,
                             struct redis_command *cmd)
{
    assert(tx->proven || tx->foreseen);
    add_reply_mode(cmd, "OFF");
    add_word(cmd, "MULTI");
    for (size_t i = 0; i < tx->n_streams; i++)
        add_last_id(tx, i, cmd);
    redis_batch_xadds(plan, publish, batch, cmd);
    add_move(plan, publish, cmd);
    if (publish->lease_ms > 0) {
        redis_command_another(cmd, 5);
        redis_command_add_cstr(cmd, "SET");
        redis_command_add_cstr(cmd, publish->lease_key);
        redis_command_add_cstr(cmd, publish->instance);
        redis_command_add_cstr(cmd, "PX");
        redis_command_add_u64(cmd, (uint64_t)publish->lease_ms);
    }
    note_after(tx, plan);
}

void redis_transaction_commit(struct redis_transaction *tx, const struct redis_publish *publish,
                              struct redis_command *cmd)
{
    assert(tx->proven);
    add_word(cmd, "EXEC");
    add_proof(tx, publish, cmd);
    for (size_t i = 0; i < tx->n_streams; i++) {
        tx->streams[i].ms = tx->streams[i].after_ms;
        tx->streams[i].seq = tx->streams[i].after_seq;
    }
    tx->proven = tx->as_foreseen = false;
    tx->foreseen = tx->sent = true;
}

/* ---- proving ---- */

bool redis_transaction_is_wanted(struct redis_transaction *tx, const struct redis_batch *plan,
                                 const struct batch *batch)
{
    if (tx->refused || batch->n < REDIS_TRANSACTION_EVENTS_MIN ||
        plan->n_streams > REDIS_WATCHED_MAX)
        return false;
    if (tx->calm > 0)
        tx->calm--;
    return tx->calm == 0;
}

void redis_transaction_prove(struct redis_transaction *tx, const struct redis_batch *plan,
                             const struct redis_publish *publish, struct redis_command *cmd)
{
    if (!add_all(tx, plan)) { /* too many by now: those that are written to */
        clear(tx);
        add_all(tx, plan);
    }
    redis_command_clear(cmd);
    add_proof(tx, publish, cmd);
    tx->sent = tx->foreseen = false;
}

static bool is_status_ok(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "OK") == 0;
}

/* "MS-SEQ". */
static bool read_id(struct str text, struct redis_watched *stream)
{
    char copy[ID_TEXT_MAX], *dash, *end;
    if (text.len == 0 || text.len >= sizeof copy)
        return false;
    memcpy(copy, text.p, text.len);
    copy[text.len] = '\0';
    stream->ms = strtoull(copy, &dash, 10);
    if (*dash != '-')
        return false;
    stream->seq = strtoull(dash + 1, &end, 10);
    return *end == '\0';
}

/* CLIENT, MULTI, EXEC and WATCH are there, and this user may. EXEC answers nil where a script wrote
 * to what was watched before. */
static bool is_allowed(redisReply *const *replies)
{
    return is_status_ok(replies[0]) && is_status_ok(replies[1]) &&
           replies[2]->type != REDIS_REPLY_ERROR && is_status_ok(replies[3]);
}

static void note_streams(struct redis_transaction *tx, const redisReply *found)
{
    tx->proven = !tx->refused && found->elements == tx->n_streams + 1;
    tx->as_foreseen = tx->proven && tx->sent;
    for (size_t i = 0; i < tx->n_streams && tx->proven; i++) {
        struct redis_watched *stream = &tx->streams[i], was = *stream;
        tx->proven = read_id(redis_reply_str(found, i + 1), stream);
        if (stream->ms != was.ms || stream->seq != was.seq)
            tx->as_foreseen = false;
    }
    tx->as_foreseen = tx->as_foreseen && tx->proven;
    if (!tx->proven) /* not a stream, perhaps: the script tells */
        clear(tx);
}

enum redis_proof redis_transaction_judge(struct redis_transaction *tx, struct str before,
                                         redisReply *const replies[REDIS_PROOF_REPLIES])
{
    const redisReply *found = replies[REDIS_PROOF_REPLIES - 1];
    struct str word = redis_reply_str(found, 0);
    redis_transaction_forget(tx);
    tx->refused = !is_allowed(replies) || str_is(word, "OLD");
    if (str_is(word, "OK") || str_is(word, "OLD")) {
        if (tx->sent)
            tx->failed = 0;
        note_streams(tx, found);
        return REDIS_PROOF_HOLDS;
    }
    if (str_is(word, "OWNER"))
        return REDIS_PROOF_OWNER;
    if (!str_is(word, "CHECKPOINT") || !str_eq(redis_reply_str(found, 1), before))
        return REDIS_PROOF_OTHER;
    tx->calm = (unsigned)CALM_LEAST << tx->failed;
    if (tx->failed < CALM_DOUBLINGS)
        tx->failed++;
    return REDIS_PROOF_BEFORE;
}
