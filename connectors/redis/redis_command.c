/* redis_command.c - commands for Redis in their wire format, as pieces for writev. */
#include "connectors/redis/redis_command.h"

#include <stdlib.h>
#include <string.h>

enum {
    COPY_MAX = 512,       /* shorter arguments are cheaper to copy than to point at */
    HEAD_KEEP = 1 << 20,  /* larger buffers are given back */
    LENGTH_TEXT_MAX = 24, /* "$", 20 digits, CR, LF */
};

/* Writes the digits of `value` and returns how many; `out` has room for 20. */
static size_t put_u64(char *out, uint64_t value)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

static char *put_length(char *at, char mark, size_t len)
{
    *at++ = mark;
    at += put_u64(at, len);
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

void redis_command_clear(struct redis_command *cmd)
{
    buf_clear(&cmd->head);
    cmd->n_splices = 0;
}

void redis_command_another(struct redis_command *cmd, size_t argc)
{
    char *start = buf_reserve(&cmd->head, LENGTH_TEXT_MAX);
    cmd->head.len += (size_t)(put_length(start, '*', argc) - start);
}

void redis_command_begin(struct redis_command *cmd, size_t argc)
{
    redis_command_clear(cmd);
    redis_command_another(cmd, argc);
}

void redis_command_add_raw(struct redis_command *cmd, struct str bytes)
{
    buf_append_str(&cmd->head, bytes);
}

void redis_command_add(struct redis_command *cmd, struct str arg)
{
    char *start = buf_reserve(&cmd->head, arg.len + LENGTH_TEXT_MAX + 2);
    char *at = put_length(start, '$', arg.len);
    if (arg.len > 0)
        memcpy(at, arg.p, arg.len);
    at += arg.len;
    *at++ = '\r';
    *at++ = '\n';
    cmd->head.len += (size_t)(at - start);
}

void redis_command_add_cstr(struct redis_command *cmd, const char *arg)
{
    redis_command_add(cmd, str_from(arg));
}

void redis_command_add_u64(struct redis_command *cmd, uint64_t arg)
{
    char text[20];
    redis_command_add(cmd, (struct str){text, put_u64(text, arg)});
}

void redis_command_add_ref(struct redis_command *cmd, struct str arg)
{
    if (arg.len <= COPY_MAX) {
        redis_command_add(cmd, arg);
        return;
    }
    char *start = buf_reserve(&cmd->head, LENGTH_TEXT_MAX);
    cmd->head.len += (size_t)(put_length(start, '$', arg.len) - start);
    if (cmd->n_splices == cmd->splices_cap) {
        cmd->splices_cap = cmd->splices_cap > 0 ? cmd->splices_cap * 2 : 64;
        cmd->splices = mem_realloc(cmd->splices, cmd->splices_cap * sizeof *cmd->splices);
    }
    cmd->splices[cmd->n_splices++] = (struct redis_splice){cmd->head.len, arg};
    buf_append(&cmd->head, "\r\n", 2);
}

struct iovec *redis_command_pieces(struct redis_command *cmd, size_t *n)
{
    size_t most = 2 * cmd->n_splices + 1;
    if (cmd->pieces_cap < most) {
        cmd->pieces = mem_realloc(cmd->pieces, most * sizeof *cmd->pieces);
        cmd->pieces_cap = most;
    }
    size_t from = 0, k = 0;
    for (size_t i = 0; i < cmd->n_splices; i++) {
        const struct redis_splice *splice = &cmd->splices[i];
        cmd->pieces[k++] = (struct iovec){cmd->head.p + from, splice->after - from};
        /* iovec serves reading too, so it can't be const; sendmsg only reads. */
        cmd->pieces[k++] = (struct iovec){(void *)(uintptr_t)splice->bytes.p, splice->bytes.len};
        from = splice->after;
    }
    cmd->pieces[k++] = (struct iovec){cmd->head.p + from, cmd->head.len - from};
    *n = k;
    return cmd->pieces;
}

void redis_command_shrink(struct redis_command *cmd)
{
    if (cmd->head.cap > HEAD_KEEP)
        buf_fini(&cmd->head);
}

void redis_command_fini(struct redis_command *cmd)
{
    buf_fini(&cmd->head);
    free(cmd->splices);
    free(cmd->pieces);
    *cmd = (struct redis_command){0};
}
