/* err.c - what went wrong, told to the one who can act on it. */
#include "bridge/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, enum err_kind kind, const char *fmt, ...)
{
    if (err == NULL)
        return -1;
    va_list ap;
    va_start(ap, fmt);
    err->kind = kind;
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    return -1;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    if (err == NULL)
        return -1;
    char noun[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(noun, sizeof noun, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n + 3 > sizeof noun)
        return -1;
    size_t head = (size_t)n;
    memcpy(noun + head, ": ", 3);
    head += 2;
    size_t tail = strnlen(err->msg, sizeof err->msg - 1 - head);
    memcpy(noun + head, err->msg, tail);
    noun[head + tail] = '\0';
    memcpy(err->msg, noun, head + tail + 1);
    return -1;
}

const char *err_kind_name(enum err_kind kind)
{
    switch (kind) {
    case ERR_RETRY:
        return "retry";
    case ERR_INPUT:
        return "input";
    case ERR_FENCED:
        return "fenced";
    case ERR_FATAL:
        return "fatal";
    }
    return "unknown";
}
