/* buf.c - strings, growable bytes, memory that is there. */
#include "bridge/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct str str_from(const char *cstr)
{
    return cstr == NULL ? (struct str){"", 0} : (struct str){cstr, strlen(cstr)};
}

bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

bool str_is(struct str a, const char *cstr)
{
    return str_eq(a, str_from(cstr));
}

struct str str_cut(struct str s, size_t max)
{
    if (s.len <= max)
        return s;
    while (max > 0 && ((unsigned char)s.p[max] & 0xc0) == 0x80)
        max--;
    return (struct str){s.p, max};
}

static void *there(void *p)
{
    if (p == NULL) {
        fputs("level=error event=out_of_memory\n", stderr);
        abort();
    }
    return p;
}

void *mem_alloc(size_t size)
{
    return there(malloc(size > 0 ? size : 1));
}

void *mem_zalloc(size_t size)
{
    return there(calloc(1, size > 0 ? size : 1));
}

void *mem_realloc(void *p, size_t size)
{
    return there(realloc(p, size > 0 ? size : 1));
}

char *mem_strdup(const char *cstr)
{
    return mem_strndup(cstr, strlen(cstr));
}

char *mem_strndup(const char *p, size_t len)
{
    char *copy = mem_alloc(len + 1);
    if (len > 0)
        memcpy(copy, p, len);
    copy[len] = '\0';
    return copy;
}

void buf_fini(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}

void buf_wipe(struct buf *b)
{
    if (b->p != NULL)
        explicit_bzero(b->p, b->cap);
    buf_fini(b);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
}

char *buf_reserve(struct buf *b, size_t more)
{
    if (b->cap - b->len < more || b->p == NULL) {
        size_t cap = b->cap > 0 ? b->cap : 256;
        while (cap - b->len < more)
            cap += cap / 2 + 1;
        b->p = mem_realloc(b->p, cap);
        b->cap = cap;
    }
    return b->p + b->len;
}

void buf_append(struct buf *b, const void *p, size_t len)
{
    if (len == 0)
        return;
    memcpy(buf_reserve(b, len), p, len);
    b->len += len;
}

void buf_append_str(struct buf *b, struct str s)
{
    buf_append(b, s.p, s.len);
}

void buf_append_cstr(struct buf *b, const char *cstr)
{
    buf_append(b, cstr, strlen(cstr));
}

void buf_append_char(struct buf *b, char c)
{
    *buf_reserve(b, 1) = c;
    b->len++;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n <= 0)
        return;
    char *at = buf_reserve(b, (size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(at, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void buf_append_u64(struct buf *b, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    buf_append(b, digits + at, sizeof digits - at);
}

static void append_json_char(struct buf *b, unsigned char c)
{
    switch (c) {
    case '"':
        buf_append_cstr(b, "\\\"");
        break;
    case '\\':
        buf_append_cstr(b, "\\\\");
        break;
    case '\n':
        buf_append_cstr(b, "\\n");
        break;
    case '\r':
        buf_append_cstr(b, "\\r");
        break;
    case '\t':
        buf_append_cstr(b, "\\t");
        break;
    default:
        if (c < 0x20)
            buf_printf(b, "\\u%04x", c);
        else
            buf_append_char(b, (char)c);
    }
}

void buf_append_json(struct buf *b, struct str s)
{
    buf_append_char(b, '"');
    for (size_t i = 0; i < s.len; i++)
        append_json_char(b, (unsigned char)s.p[i]);
    buf_append_char(b, '"');
}

void buf_consume(struct buf *b, size_t n)
{
    if (n < b->len)
        memmove(b->p, b->p + n, b->len - n);
    b->len -= n;
}

const char *buf_cstr(struct buf *b)
{
    *buf_reserve(b, 1) = '\0';
    return b->p;
}

struct str buf_str(const struct buf *b)
{
    return (struct str){b->p != NULL ? b->p : "", b->len};
}

size_t utf8_encode(char *to, uint32_t code)
{
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        to[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    to[0] = (char)((0xf00 >> len) | code);
    return len;
}
