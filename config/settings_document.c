/* settings_document.c - the rows as a Markdown table. */
#include "config/settings.h"

#include "config/settings_row.h"

#include <string.h>

static const char *type_name(enum setting_type type)
{
    switch (type) {
    case SETTING_STRING:
        return "string";
    case SETTING_SECRET:
        return "string (secret)";
    case SETTING_BOOL:
        return "true or false";
    case SETTING_INT:
        return "whole number";
    case SETTING_SIZE:
        return "size";
    case SETTING_DURATION:
        return "duration";
    case SETTING_CHOICE:
        return "choice";
    case SETTING_LIST:
        return "list of strings";
    case SETTING_MAP:
        return "mapping of strings";
    case SETTING_CUSTOM:
        return "section";
    }
    return "";
}

/* A bar would end the cell. */
static void append_cell(struct buf *line, const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '|')
            buf_append_char(line, '\\');
        buf_append_char(line, *c);
    }
}

static void append_default(struct buf *line, const struct setting *row)
{
    if (row->required) {
        buf_append_cstr(line, "required");
    } else if (row->fallback != NULL && row->fallback[0] != '\0') {
        buf_append_char(line, '`');
        append_cell(line, row->fallback);
        buf_append_char(line, '`');
    }
}

static void append_range(struct buf *line, const struct setting *row)
{
    bool is_number =
        row->type == SETTING_INT || row->type == SETTING_SIZE || row->type == SETTING_DURATION;
    if (row->type == SETTING_CHOICE)
        settings_row_append_words(row->choices, settings_row_choices(row), line);
    else if (is_number)
        settings_row_append_range(row, line);
}

static void print_row(const struct setting *row, FILE *to)
{
    struct buf line = {0};
    buf_printf(&line, "| `%s` | %s | ", row->name, type_name(row->type));
    append_default(&line, row);
    buf_append_cstr(&line, " | ");
    append_range(&line, row);
    buf_append_cstr(&line, " | ");
    append_cell(&line, row->help != NULL ? row->help : "");
    buf_append_cstr(&line, " |\n");
    fputs(buf_cstr(&line), to);
    buf_fini(&line);
}

void settings_document(const struct setting *rows, const char *title, FILE *to)
{
    fprintf(to, "### %s\n\n", title);
    fputs("| setting | type | default | allowed | what it does |\n", to);
    fputs("|---|---|---|---|---|\n", to);
    for (rows = setting_first(rows); rows != NULL; rows = setting_first(rows + 1))
        print_row(rows, to);
}
