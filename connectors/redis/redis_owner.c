/* redis_owner.c - who may publish. */
#include "connectors/redis/redis_owner.h"

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "connectors/redis/redis_conn.h"
#include "connectors/redis/redis_script.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *redis_owner_key(const struct sink_pair *pair, const char *prefix, const char *what)
{
    struct buf key = {0};
    buf_printf(&key, "%s:{%s}:%s.%s:%s", prefix, pair->source, pair->bridge, pair->sink, what);
    char *text = mem_strdup(buf_cstr(&key));
    buf_fini(&key);
    return text;
}

void redis_owner_init(struct redis_owner *owner, const struct sink_pair *pair, const char *prefix)
{
    *owner = (struct redis_owner){.pair = pair};
    owner->owner_key = redis_owner_key(pair, prefix, "owner");
    owner->lease_key = redis_owner_key(pair, prefix, "lease");
    snprintf(owner->token, sizeof owner->token, "%016" PRIx64, hash_random());
}

void redis_owner_fini(struct redis_owner *owner)
{
    free(owner->owner_key);
    free(owner->lease_key);
    buf_fini(&owner->text);
}

static void note_holder(struct redis_owner *owner, struct str instance)
{
    snprintf(owner->holder, sizeof owner->holder, "%.*s",
             (int)(instance.len < 64 ? instance.len : 64), instance.p);
}

/* ---- claiming ---- */

void redis_owner_claim(struct redis_owner *owner, struct redis_command *cmd)
{
    redis_command_begin(cmd, 10);
    redis_command_add_cstr(cmd, "EVAL");
    redis_command_add_cstr(cmd, redis_script_claim);
    redis_command_add_u64(cmd, 2);
    redis_command_add_cstr(cmd, owner->owner_key);
    redis_command_add_cstr(cmd, owner->lease_key);
    redis_command_add_u64(cmd, owner->epoch);
    redis_command_add_cstr(cmd, owner->token);
    redis_command_add_cstr(cmd, owner->pair->instance);
    redis_command_add_u64(cmd, REDIS_LEASE_MS);
    redis_command_add_cstr(cmd, owner->pair->standby ? "wait" : "force");
    owner->asked_ms = clock_mono_ms();
}

static void became_owner(struct redis_owner *owner, struct str text)
{
    buf_clear(&owner->text);
    buf_append_str(&owner->text, text);
    owner->epoch = strtoull(buf_cstr(&owner->text), NULL, 10);
    owner->is_ours = true;
    note_holder(owner, str_from(owner->pair->instance));
    redis_owner_renewed(owner);
}

/* For the log: who it is that has the pair. */
static const char *who(const struct redis_owner *owner)
{
    if (*owner->holder == '\0')
        return "another instance";
    if (strcmp(owner->holder, owner->pair->instance) == 0)
        return "another process with this instance's id (was the journal's folder copied? give "
               "each instance a folder of its own)";
    return owner->holder;
}

enum sink_result redis_owner_claimed(struct redis_owner *owner, const redisReply *reply,
                                     struct err *err)
{
    struct str word = redis_reply_str(reply, 0), found = redis_reply_str(reply, 1);
    if (str_is(word, "OK")) {
        became_owner(owner, found);
        return SINK_DONE;
    }
    owner->is_ours = false;
    note_holder(owner, redis_reply_str(reply, 2));
    if (str_is(word, "HELD")) {
        err_set(err, ERR_FENCED, "%s owns it and is alive", who(owner));
        return SINK_STANDBY;
    }
    if (str_is(word, "FENCED")) {
        err_set(err, ERR_FENCED, "%s is the owner: %s holds \"%.*s\", ours was \"%s\"", who(owner),
                owner->owner_key, STR_ARG(found), buf_cstr(&owner->text));
        return SINK_FENCED;
    }
    err_set(err, ERR_FATAL, "key %s holds \"%.*s\", not an owner: delete it or set prefix",
            owner->owner_key, (int)(found.len < 80 ? found.len : 80), found.p);
    return SINK_FATAL;
}

/* ---- keeping ---- */

int64_t redis_owner_term(struct redis_owner *owner)
{
    owner->asked_ms = clock_mono_ms();
    return owner->asked_ms - owner->renewed_ms >= REDIS_LEASE_MS / 3 ? REDIS_LEASE_MS : 0;
}

void redis_owner_keep(struct redis_owner *owner, int64_t term_ms, struct redis_command *cmd)
{
    redis_command_begin(cmd, 8);
    redis_command_add_cstr(cmd, "EVAL");
    redis_command_add_cstr(cmd, redis_script_keep);
    redis_command_add_u64(cmd, 2);
    redis_command_add_cstr(cmd, owner->owner_key);
    redis_command_add_cstr(cmd, owner->lease_key);
    redis_command_add(cmd, buf_str(&owner->text));
    redis_command_add_cstr(cmd, owner->pair->instance);
    redis_command_add_u64(cmd, (uint64_t)term_ms);
    owner->asked_ms = clock_mono_ms();
}

void redis_owner_renewed(struct redis_owner *owner)
{
    owner->renewed_ms = owner->asked_ms;
}

enum sink_result redis_owner_lost(struct redis_owner *owner, const redisReply *reply,
                                  struct err *err)
{
    struct str found = redis_reply_str(reply, 1);
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)(found.len < 63 ? found.len : 63), found.p);
    owner->is_ours = false;
    note_holder(owner, redis_reply_str(reply, 2));
    if (strtoull(text, NULL, 10) >= owner->epoch) {
        err_set(err, ERR_FENCED, "%s took over: %s holds \"%s\", ours is epoch %" PRIu64,
                who(owner), owner->owner_key, text, owner->epoch);
        return SINK_FENCED;
    }
    err_set(err, ERR_RETRY, "%s holds \"%s\", we wrote epoch %" PRIu64 ": Redis lost data",
            owner->owner_key, text, owner->epoch);
    return SINK_UNKNOWN;
}
