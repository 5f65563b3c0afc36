/* settings_value.h - words of the configuration as numbers and back. Pure. */
#ifndef BUSBAR_SETTINGS_VALUE_H
#define BUSBAR_SETTINGS_VALUE_H

#include "bridge/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum value_result {
    VALUE_OK,
    VALUE_MALFORMED,
    VALUE_UNITLESS, /* a duration that is a bare number, or a size with an ambiguous unit */
    VALUE_OVERFLOW, /* past int64_t */
};

bool value_parse_bool(const char *text, bool *out); /* true | false */
/* Decimal digits, a sign if any. */
enum value_result value_parse_int(const char *text, int64_t *out);
/* Whole bytes: 512, 512B; KiB MiB GiB TiB by 1024; kB (KB) MB GB TB by 1000. */
enum value_result value_parse_size(const char *text, int64_t *out);
/* Whole ms, s, m, h or d, in ms; 0 needs no unit. */
enum value_result value_parse_duration(const char *text, int64_t *out);

/* Append the shortest exact form: "4GiB", "90s". */
void value_format_size(struct buf *out, int64_t bytes);
void value_format_duration(struct buf *out, int64_t ms);

/* The name that was likely meant by `word`, NULL where none is near. */
const char *value_nearest(const char *word, const char *const *names, size_t n);

#endif
