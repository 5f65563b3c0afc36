/* redis_internal.h - what redis_sink.c (connection, ownership, checkpoint) and redis_publish.c
 * (batches) share. */
#ifndef BUSBAR_REDIS_INTERNAL_H
#define BUSBAR_REDIS_INTERNAL_H

#include "connectors/redis/redis_batch.h"
#include "connectors/redis/redis_command.h"
#include "connectors/redis/redis_conn.h"
#include "connectors/redis/redis_owner.h"
#include "connectors/redis/redis_settings.h"
#include "connectors/redis/redis_transaction.h"
#include "connectors/redis/redis_url.h"

enum { REDIS_SHA_LEN = 40, REDIS_BEGUN_MAX = 2 };

enum redis_begun_state {
    REDIS_WAITING, /* nothing of it was sent */
    REDIS_QUEUED,  /* all but its EXEC was: Redis does nothing with it yet */
    REDIS_SENT,    /* all of it, and the proof behind it, whose answers are not read yet */
};

/* A batch that was begun and is not ended. */
struct redis_begun {
    enum redis_begun_state state;
    struct batch *batch;
    struct buf next;  /* the checkpoint to set */
    int64_t lease_ms; /* 0: no need to renew the lease */
    int64_t asked_ms; /* when that was asked */
};

struct redis_sink {
    const struct sink_pair *pair;
    const struct redis_settings *settings;
    struct redis_url url;
    struct template *stream;
    char *checkpoint_key;
    struct redis_owner owner;
    struct buf expected; /* the checkpoint as it is there, byte for byte; empty: none */
    bool eviction_told;
    bool checkpoint_known;       /* `expected` was read since the last open */
    char sha[REDIS_SHA_LEN + 1]; /* of the publish script */
    struct redis_conn *conn;     /* NULL while closed */
    struct err broke;            /* why, where it closed while something was sent */
    struct redis_command command;
    struct redis_transaction tx;
    struct redis_begun begun[REDIS_BEGUN_MAX]; /* a ring */
    size_t first, n_begun;
    struct redis_batch plan;
    const struct redis_begun *planned; /* whose the plan is, NULL: nobody's */
};

/* ---- redis_sink.c ---- */

/* Sends sink->command and returns its reply, which may be an error. NULL where there is none: then
 * the connection is closed, for it could give this reply to a later command. */
redisReply *redis_sink_call(struct redis_sink *sink, struct err *err);
/* As in sink_ops: `self` is a redis_sink. */
enum sink_result redis_sink_open(void *self, struct err *err);
void redis_sink_close(struct redis_sink *sink); /* the connection */
enum sink_result redis_sink_load_script(struct redis_sink *sink, struct err *err);

/* ---- redis_publish.c ---- */

enum sink_result redis_publish(void *self, struct batch *batch, const struct checkpoint *next,
                               struct err *err);
void redis_publish_begin(void *self, struct batch *batch, const struct checkpoint *next);
enum sink_result redis_publish_end(void *self, struct err *err);
/* Drops what was begun. */
void redis_publish_forget(struct redis_sink *sink);

#endif
