/* redis_command.h - commands for Redis in their wire format (RESP2, "Sending commands to a Redis
 * server": an array of bulk strings), as pieces for writev.
 *
 * Short arguments are copied into one buffer, long ones (event bytes) are only pointed at, so that
 * they go from the journal's block to the kernel without a copy. Ceiling: what the caller adds; the
 * sink keeps a batch to 256 events and about 1 MiB, one event alone to 512 MiB. */
#ifndef BUSBAR_REDIS_COMMAND_H
#define BUSBAR_REDIS_COMMAND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "bridge/base/buf.h"

struct redis_splice {
    size_t after; /* behind so many bytes of `head` */
    struct str bytes;
};

struct redis_command {
    struct buf head;
    struct redis_splice *splices;
    size_t n_splices, splices_cap;
    struct iovec *pieces;
    size_t pieces_cap;
};

/* Starts a command of exactly `argc` arguments; what was there is gone, its memory is kept. */
void redis_command_begin(struct redis_command *cmd, size_t argc);
/* The same for commands that go out together: nothing is there; and one more, behind what is. */
void redis_command_clear(struct redis_command *cmd);
void redis_command_another(struct redis_command *cmd, size_t argc);
void redis_command_add(struct redis_command *cmd, struct str arg);
void redis_command_add_cstr(struct redis_command *cmd, const char *arg);
void redis_command_add_u64(struct redis_command *cmd, uint64_t arg);
/* Bytes that are in wire format already. */
void redis_command_add_raw(struct redis_command *cmd, struct str bytes);
/* The bytes must live until the command is sent. */
void redis_command_add_ref(struct redis_command *cmd, struct str arg);

/* The whole command; lives until the next begin or add. Sets *n. The receiver may change the array.
 */
struct iovec *redis_command_pieces(struct redis_command *cmd, size_t *n);

/* Gives memory back that only an unusually large command needed. */
void redis_command_shrink(struct redis_command *cmd);
void redis_command_fini(struct redis_command *cmd);

#endif
