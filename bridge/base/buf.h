/* buf.h - strings that are seen (str), bytes that grow (buf), memory that is there (mem_). */
#ifndef BUSBAR_BASE_BUF_H
#define BUSBAR_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A view of bytes that somebody else owns; not terminated, may hold NUL. */
struct str {
    const char *p;
    size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
/* For printf: printf("%.*s", STR_ARG(s)). */
#define STR_ARG(s) (int)(s).len, (s).p

struct str str_from(const char *cstr); /* NULL gives the empty string */
bool str_eq(struct str a, struct str b);
bool str_is(struct str a, const char *cstr);
/* At most the first `max` bytes, cut between two characters of UTF-8. */
struct str str_cut(struct str s, size_t max);

/* Memory: never NULL; out of memory aborts (crashing is safe by design). */
void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);
void *mem_realloc(void *p, size_t size);
char *mem_strdup(const char *cstr);
char *mem_strndup(const char *p, size_t len);

/* Growable bytes. Its owner states the ceiling where it appends. `p` may be NULL while `cap` is 0.
 */
struct buf {
    char *p;
    size_t len;
    size_t cap;
};

void buf_fini(struct buf *b);
void buf_wipe(struct buf *b);  /* the same, of what was secret */
void buf_clear(struct buf *b); /* len = 0, keeps the memory */
/* Makes room for `more` bytes behind len and returns where they start; len does not move. */
char *buf_reserve(struct buf *b, size_t more);
void buf_append(struct buf *b, const void *p, size_t len);
void buf_append_str(struct buf *b, struct str s);
void buf_append_cstr(struct buf *b, const char *cstr);
void buf_append_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Decimal; for where printf would cost too much. */
void buf_append_u64(struct buf *b, uint64_t value);
/* Appends `s` as a JSON string with its quotes; bytes that are not UTF-8 are kept as they are. */
void buf_append_json(struct buf *b, struct str s);
/* Writes the UTF-8 of a code point (RFC 3629) to `to`: returns how many bytes, at most 4. */
size_t utf8_encode(char *to, uint32_t code);
/* Drops the first `n` bytes. */
void buf_consume(struct buf *b, size_t n);
/* The content as a C string; the terminator is not counted in len. */
const char *buf_cstr(struct buf *b);
struct str buf_str(const struct buf *b);

#endif
