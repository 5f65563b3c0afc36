/* settings_row.h - what a row says about itself to people, for problems and for the reference. */
#ifndef BUSBAR_SETTINGS_ROW_H
#define BUSBAR_SETTINGS_ROW_H

#include "bridge/base/buf.h"
#include "config/settings.h"

struct settings_range {
    int64_t min, max; /* max INT64_MAX: none */
};

struct settings_range settings_row_range(const struct setting *row);
/* Appends "1..65535", "at least 1MiB" or nothing, in the unit of the row's type. */
void settings_row_append_range(const struct setting *row, struct buf *out);
/* Appends what the row wants: "a whole number of 1..65535". */
void settings_row_append_expected(const struct setting *row, struct buf *out);
/* Appends "a, b, c". */
void settings_row_append_words(const char *const *words, size_t n, struct buf *out);
size_t settings_row_choices(const struct setting *row); /* how many */

#endif
