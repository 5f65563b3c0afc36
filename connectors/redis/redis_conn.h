/* redis_conn.h - one connection to a Redis: a command goes out, its reply comes back.
 *
 * The socket is our own and never blocks, so that every wait ends when Redis is silent for too long
 * or the bridge stops; hiredis parses the replies (its own sending copies each event twice and
 * cannot be interrupted). One thread. Memory: what the replies need; ours are small, a checkpoint
 * of 65,536 hashes (1.3 MB) being the largest. */
#ifndef BUSBAR_REDIS_CONN_H
#define BUSBAR_REDIS_CONN_H

#include <hiredis/hiredis.h>

#include "bridge/base/err.h"
#include "bridge/base/stop.h"
#include "connectors/redis/redis_command.h"

struct redis_conn;

/* Where to: `path` (a unix socket) or host and port. */
struct redis_endpoint {
    const char *host;
    int port;
    const char *path;
};

/* Connects; tries each address of the host, each for `timeout_ms` at most, and ends at once with an
 * error when `stop` is requested. (Only the resolver's own wait for a name can't be cut short.)
 * ERR_RETRY where nobody answers. */
int redis_conn_open(struct redis_conn **out, const struct redis_endpoint *to, int timeout_ms,
                    struct stop *stop, struct err *err);
/* NULL inside is fine. */
void redis_conn_close(struct redis_conn **conn);

/* Sends the command and returns its reply, which the caller frees with freeReplyObject; an error
 * reply is a reply. NULL, ERR_RETRY where the connection broke or Redis neither took nor gave a
 * byte for `timeout_ms` (a second once stop is requested): then nobody knows whether the command
 * was carried out, and the connection is only good for closing. */
redisReply *redis_conn_call(struct redis_conn *conn, struct redis_command *cmd, struct err *err);

/* Sends the command and waits for no reply; what comes meanwhile is kept for redis_conn_next. -1,
 * ERR_RETRY as above. */
int redis_conn_send(struct redis_conn *conn, struct redis_command *cmd, struct err *err);

/* The reply to the next of several commands that were sent. */
redisReply *redis_conn_next(struct redis_conn *conn, struct err *err);

/* The i-th string of a script's answer (an array); empty where there is none. Lives as the reply.
 */
struct str redis_reply_str(const redisReply *reply, size_t i);

#endif
