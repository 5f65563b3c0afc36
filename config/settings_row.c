/* settings_row.c - what a row says about itself to people. */
#include "config/settings_row.h"

#include "config/settings_value.h"

const struct setting *setting_first(const struct setting *rows)
{
    while (rows != NULL && rows->name == NULL)
        rows = rows->rest;
    return rows;
}

struct settings_range settings_row_range(const struct setting *row)
{
    struct settings_range range = {.min = row->min, .max = row->max};
    /* A table that gives only a least value leaves max 0. */
    if (range.max == 0 && range.min >= 0)
        range.max = INT64_MAX;
    return range;
}

static void append_number(const struct setting *row, int64_t number, struct buf *out)
{
    if (row->type == SETTING_SIZE)
        value_format_size(out, number);
    else if (row->type == SETTING_DURATION)
        value_format_duration(out, number);
    else
        buf_printf(out, "%lld", (long long)number);
}

void settings_row_append_range(const struct setting *row, struct buf *out)
{
    struct settings_range range = settings_row_range(row);
    if (range.max != INT64_MAX) {
        append_number(row, range.min, out);
        buf_append_cstr(out, "..");
        append_number(row, range.max, out);
    } else if (range.min != 0 || row->type == SETTING_INT) {
        buf_append_cstr(out, "at least ");
        append_number(row, range.min, out);
    }
}

void settings_row_append_words(const char *const *words, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        buf_append_cstr(out, i > 0 ? ", " : "");
        buf_append_cstr(out, words[i]);
    }
}

size_t settings_row_choices(const struct setting *row)
{
    size_t n = 0;
    while (row->choices[n] != NULL)
        n++;
    return n;
}

static void append_number_expected(const struct setting *row, const char *what, struct buf *out)
{
    struct buf range = {0};
    settings_row_append_range(row, &range);
    buf_append_cstr(out, what);
    if (range.len > 0)
        buf_printf(out, " of %s", buf_cstr(&range));
    buf_fini(&range);
}

void settings_row_append_expected(const struct setting *row, struct buf *out)
{
    switch (row->type) {
    case SETTING_STRING:
    case SETTING_SECRET:
        buf_append_cstr(out, "a string");
        break;
    case SETTING_BOOL:
        buf_append_cstr(out, "true or false");
        break;
    case SETTING_INT:
        append_number_expected(row, "a whole number", out);
        break;
    case SETTING_SIZE:
        append_number_expected(row, "a size (512, 64KiB, 4GiB, 10MB)", out);
        break;
    case SETTING_DURATION:
        append_number_expected(row, "a time with its unit (ms, s, m, h, d)", out);
        break;
    case SETTING_CHOICE:
        buf_append_cstr(out, "one of ");
        settings_row_append_words(row->choices, settings_row_choices(row), out);
        break;
    case SETTING_LIST:
        buf_append_cstr(out, "a string or a sequence of strings");
        break;
    case SETTING_MAP:
        buf_append_cstr(out, "a mapping of strings");
        break;
    case SETTING_CUSTOM:
        buf_append_cstr(out, "a value");
        break;
    }
}
