/* redis_transaction.h - the cheaper way to publish where much comes: MULTI, XADD …, EXEC.
 *
 * A script makes a Lua string of every argument, which Redis copies twice and hashes byte by byte:
 * half of what an event of 2 KB costs it. A transaction has no such cost but asks nothing before it
 * writes. WATCH does: EXEC carries nothing out where a watched key was touched since. So each batch
 * is followed by a *proof* for the next one, in the same call:
 *
 *     CLIENT REPLY OFF  MULTI  XSETID …  XADD …  XTRIM …  EVAL move  EXEC         (the batch)
 *     CLIENT REPLY ON  MULTI  EXEC  WATCH checkpoint owner streams  EVAL check    (the proof)
 *
 * The check compares owner and checkpoint (and so tells whether the batch was carried out) and
 * tells the last id of each stream. As long as the watch holds, all that the publishing script
 * would look at is known, and no XADD can fail. What else Redis may refuse (memory, a replica, a
 * disk) it refuses before EXEC or at it, and then nothing is written. Rights alone are looked at
 * for each command: those to XADD that are taken away between a batch's queueing and its EXEC leave
 * nothing added, and `move` sets no checkpoint then. (Rights to some of the streams only, or to
 * EVAL and not to XADD, taken away in that moment, can let a part of the batch be published twice.)
 * XSETID alone touches no watch: so it is undone, by setting each stream's last id to the one that
 * was found.
 * The empty transaction shows that this user may MULTI, else each XADD would stand alone. Redis 7
 * or newer (t_stream.c, multi.c): an older SWAPDB touches nothing.
 *
 * Redis need not rest between two batches: the next one is sent, and queued there, while the one
 * before is carried out. Redis gets the same commands in the same order; only its EXEC waits here,
 * until the answers to the proof before it were read:
 *
 *     ours:   … EXEC 1, proof 1, MULTI XADD … move 2      EXEC 2, proof 2, MULTI XADD … move 3
 *     Redis:                                   answer 1 ─┘                          answer 2 …
 *
 * What is queued without an EXEC is nothing: it goes when the connection goes. Ids of the queued
 * batch are given behind those that the batch before it leaves; the proof says whether it left just
 * these (as_foreseen), and XSETID in the queued batch names them, so that all else is as above: the
 * watch of proof 1 was set behind EXEC 1, holds from the check on, and ends at EXEC 2. Where the
 * proof does not hold, or tells other ids, the connection is given up with what is queued on it,
 * and both batches go anew, the older one first.
 *
 * Whatever does not fit (the first batch, a stream that is not watched, a touched key, a refusal)
 * is published by the script, which says why. Replies of the batch are off because Redis would send
 * them in dozens of small packets: 2 µs an event on its side, 1 on ours.
 *
 * Here commands are made and answers judged; redis_sink.c sends them. The pair's thread. */
#ifndef BUSBAR_REDIS_TRANSACTION_H
#define BUSBAR_REDIS_TRANSACTION_H

#include <hiredis/hiredis.h>

#include "connectors/redis/redis_batch.h"
#include "connectors/redis/redis_command.h"

enum {
    /* So many events make a proof worth its cost: Redis pays 10 µs for each watched stream. */
    REDIS_TRANSACTION_EVENTS_MIN = 16,
    REDIS_WATCHED_MAX = 16,
    REDIS_PROOF_REPLIES = 5,
};

struct redis_watched {
    size_t name_at, name_len; /* in `names` */
    uint64_t ms, seq;         /* the last id it gave, before the batch that is not committed yet */
    uint64_t after_ms, after_seq; /* and after that one */
};

struct redis_transaction {
    bool proven;      /* `streams` are watched and as told here; so are owner and checkpoint */
    bool foreseen;    /* the proof that is under way is to tell this */
    bool as_foreseen; /* the last proof told it */
    bool refused;     /* this Redis, or this user, has no transactions as we need them */
    bool sent;        /* a batch stands before the proof that is under way */
    unsigned calm;    /* so many batches go by script before the next try, */
    unsigned failed;  /* after so many batches in a row that were not carried out */
    struct buf names;
    size_t n_streams;
    struct redis_watched streams[REDIS_WATCHED_MAX];
};

void redis_transaction_fini(struct redis_transaction *tx);

/* The connection is gone, or a script wrote. */
void redis_transaction_forget(struct redis_transaction *tx);

/* True where the planned batch can go as a transaction: its entries then have their ids, behind
 * the last of their streams. */
bool redis_transaction_fits(struct redis_transaction *tx, struct redis_batch *plan,
                            const struct batch *batch);
/* Adds the batch, all but its EXEC; points into the events and `publish`. Nothing comes of it
 * unless the commit follows on the same connection. */
void redis_transaction_queue(struct redis_transaction *tx, struct redis_batch *plan,
                             const struct redis_publish *publish, const struct batch *batch,
                             struct redis_command *cmd);
/* Adds what carries the batch out, and the proof for the next one. Only where tx->proven; of a
 * batch that was queued while that was only foreseen, where the proof was as_foreseen too. */
void redis_transaction_commit(struct redis_transaction *tx, const struct redis_publish *publish,
                              struct redis_command *cmd);

/* After a batch that went by script: true where a proof alone is worth a call. */
bool redis_transaction_is_wanted(struct redis_transaction *tx, const struct redis_batch *plan,
                                 const struct batch *batch);
/* The proof alone, that the checkpoint is publish->next. */
void redis_transaction_prove(struct redis_transaction *tx, const struct redis_batch *plan,
                             const struct redis_publish *publish, struct redis_command *cmd);

enum redis_proof {
    REDIS_PROOF_HOLDS,  /* owner and checkpoint are as expected; whether tx->proven or not */
    REDIS_PROOF_OWNER,  /* the last reply says who */
    REDIS_PROOF_BEFORE, /* the checkpoint is still `before`: the batch was not carried out */
    REDIS_PROOF_OTHER,  /* it is another one, or nobody knows */
};
/* Judges the answers to a proof, none of which is NULL. */
enum redis_proof redis_transaction_judge(struct redis_transaction *tx, struct str before,
                                         redisReply *const replies[REDIS_PROOF_REPLIES]);

#endif
