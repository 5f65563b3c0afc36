/* settings_value.c - words of the configuration as numbers and back. */
#include "config/settings_value.h"

#include <string.h>

struct unit {
    const char *name;
    int64_t factor;
};

/* The first of the same factor is the one that is printed. */
static const struct unit size_units[] = {
    {"TiB", INT64_C(1) << 40},
    {"GiB", INT64_C(1) << 30},
    {"MiB", INT64_C(1) << 20},
    {"KiB", INT64_C(1) << 10},
    {"TB", INT64_C(1000000000000)},
    {"GB", INT64_C(1000000000)},
    {"MB", INT64_C(1000000)},
    {"kB", INT64_C(1000)},
    {"KB", INT64_C(1000)},
    {"B", INT64_C(1)},
    {"", INT64_C(1)},
    {NULL, 0},
};

static const struct unit duration_units[] = {
    {"d", INT64_C(86400000)}, {"h", INT64_C(3600000)}, {"m", INT64_C(60000)},
    {"s", INT64_C(1000)},     {"ms", INT64_C(1)},      {NULL, 0},
};

bool value_parse_bool(const char *text, bool *out)
{
    *out = strcmp(text, "true") == 0;
    return *out || strcmp(text, "false") == 0;
}

/* Reads digits and moves past them. A number past int64_t is read to its end. */
static enum value_result parse_digits(const char **text, int64_t *out)
{
    const char *p = *text;
    enum value_result result = *p >= '0' && *p <= '9' ? VALUE_OK : VALUE_MALFORMED;
    *out = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, *p - '0', out)) {
            result = VALUE_OVERFLOW;
            *out = 0;
        }
    }
    *text = p;
    return result;
}

enum value_result value_parse_int(const char *text, int64_t *out)
{
    bool negative = *text == '-';
    if (*text == '-' || *text == '+')
        text++;
    enum value_result result = parse_digits(&text, out);
    if (*text != '\0')
        return VALUE_MALFORMED;
    if (negative)
        *out = -*out;
    return result;
}

static enum value_result parse_with_unit(const char *text, const struct unit *units, int64_t *out)
{
    enum value_result result = parse_digits(&text, out);
    if (result == VALUE_MALFORMED)
        return result;
    const struct unit *unit = units;
    while (unit->name != NULL && strcmp(unit->name, text) != 0)
        unit++;
    if (unit->name == NULL) {
        bool zero = *text == '\0' && *out == 0 && result == VALUE_OK;
        return zero ? VALUE_OK : *text == '\0' ? VALUE_UNITLESS : VALUE_MALFORMED;
    }
    if (result == VALUE_OK && __builtin_mul_overflow(*out, unit->factor, out))
        result = VALUE_OVERFLOW;
    return result;
}

enum value_result value_parse_size(const char *text, int64_t *out)
{
    return parse_with_unit(text, size_units, out);
}

enum value_result value_parse_duration(const char *text, int64_t *out)
{
    return parse_with_unit(text, duration_units, out);
}

static void format(struct buf *out, int64_t value, const struct unit *units)
{
    const struct unit *unit = units;
    while (unit->name != NULL && unit->factor > 1 && value % unit->factor != 0)
        unit++;
    buf_printf(out, "%lld%s", (long long)(value / unit->factor), unit->name);
}

void value_format_size(struct buf *out, int64_t bytes)
{
    if (bytes == 0)
        buf_append_char(out, '0');
    else
        format(out, bytes, size_units);
}

void value_format_duration(struct buf *out, int64_t ms)
{
    if (ms == 0)
        buf_append_char(out, '0');
    else
        format(out, ms, duration_units);
}

/* ---- the nearest name ---- */

enum { WORD_MAX = 64, NEAR_MAX = 3 };

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edits (change, add, drop, swap of neighbours) from `a` to `b`, both at most WORD_MAX long
 * (Damerau and Levenshtein, the restricted distance). */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][WORD_MAX + 1];
    size_t len_a = strlen(a), len_b = strlen(b);
    for (size_t j = 0; j <= len_b; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= len_a; i++) {
        size_t *row = rows[i % 3];
        const size_t *last = rows[(i + 2) % 3], *last_but_one = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= len_b; j++) {
            bool same = a[i - 1] == b[j - 1];
            row[j] = least(least(last[j], row[j - 1]) + 1, last[j - 1] + !same);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], last_but_one[j - 2] + 1);
        }
    }
    return rows[len_a % 3][len_b];
}

const char *value_nearest(const char *word, const char *const *names, size_t n)
{
    const char *nearest = NULL;
    size_t len = strlen(word);
    /* A third of a word may be wrong; of a short one, one letter. */
    size_t best = least(NEAR_MAX, len < 6 ? 1 : len / 3) + 1;
    if (len < 2 || len > WORD_MAX)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (strlen(names[i]) > WORD_MAX)
            continue;
        size_t d = distance(word, names[i]);
        if (d < best) {
            best = d;
            nearest = names[i];
        }
    }
    return nearest;
}
