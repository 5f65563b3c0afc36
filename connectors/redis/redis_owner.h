/* redis_owner.h - who may publish: the owner key and the lease of one (source, sink).
 *
 * The owner key, "EPOCH TOKEN", is the fence: every script compares it, and each claim counts the
 * epoch up and brings its process' own token. The lease, the owner's instance id with a term, only
 * tells the waiting ones that the owner is alive; nothing is published because of it. Time is
 * Redis' own: an instance's clock may say what it likes.
 *
 * Here commands are made and answers judged; redis_sink.c sends them. The pair's thread. */
#ifndef BUSBAR_REDIS_OWNER_H
#define BUSBAR_REDIS_OWNER_H

#include <hiredis/hiredis.h>

#include "bridge/sink.h"
#include "connectors/redis/redis_command.h"

/* The lease's term; it is renewed when a third of it is over. A standby asks every half second, so
 * it takes over some 5 s after the owner was last heard of. */
enum { REDIS_LEASE_MS = 5000 };

struct redis_owner {
    const struct sink_pair *pair;
    char *owner_key, *lease_key;
    char token[17];     /* tells this process from others of the same epoch */
    uint64_t epoch;     /* the last one that was ours, 0: none */
    struct buf text;    /* what the owner key must hold while we publish */
    bool is_ours;       /* as far as we know */
    char holder[65];    /* whose the pair is: an instance; "": not known */
    int64_t asked_ms;   /* monotonic: when the command that is under way renews the lease */
    int64_t renewed_ms; /* monotonic: when the last one that succeeded was made */
};

void redis_owner_init(struct redis_owner *owner, const struct sink_pair *pair, const char *prefix);
void redis_owner_fini(struct redis_owner *owner);

/* PREFIX:{SOURCE}:BRIDGE.SINK:WHAT, the caller's to free. */
char *redis_owner_key(const struct sink_pair *pair, const char *prefix, const char *what);

/* Asks for the pair: waits for others with `standby: true`, else by force. */
void redis_owner_claim(struct redis_owner *owner, struct redis_command *cmd);
/* Its answer, which is no error: DONE, STANDBY (err says who has it), FENCED or FATAL. */
enum sink_result redis_owner_claimed(struct redis_owner *owner, const redisReply *reply,
                                     struct err *err);

/* The term that a publish made now has to set; 0: the lease is young enough. */
int64_t redis_owner_term(struct redis_owner *owner);
/* Renews the lease (REDIS_LEASE_MS) or gives it up (1). */
void redis_owner_keep(struct redis_owner *owner, int64_t term_ms, struct redis_command *cmd);
/* A command that set the term was carried out. */
void redis_owner_renewed(struct redis_owner *owner);
/* The answer "OWNER found instance" of any script: FENCED by a successor; UNKNOWN where the owner
 * key went back, since then Redis lost data: open again. */
enum sink_result redis_owner_lost(struct redis_owner *owner, const redisReply *reply,
                                  struct err *err);

#endif
