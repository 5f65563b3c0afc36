/* settings_apply.c - one mapping of the tree into one struct, by a table of rows.
 *
 * Each row first gets its default, then what the file has, if that is right: a field never holds
 * something its row does not allow. Nodes that have their problem already are passed over. */
#include "config/settings_tree.h"

#include "config/settings_row.h"
#include "config/settings_value.h"

#include <stdlib.h>
#include <string.h>

struct apply {
    struct settings *settings;
    const struct settings_node *mapping; /* NULL: nothing is given */
    const char *what;
    const struct setting *row; /* the one at hand */
    void *out;
    bool failed;
};

static void *field(const struct apply *a)
{
    return (char *)a->out + a->row->offset;
}

/* ---- saying what is wrong ---- */

static bool names_section(const struct apply *a)
{
    return a->what != NULL && a->what[0] != '\0';
}

/* `expected` NULL: what the row wants. */
static void mistake(struct apply *a, const struct settings_node *node, const char *found,
                    const char *expected)
{
    struct buf wanted = {0};
    if (expected != NULL)
        buf_append_cstr(&wanted, expected);
    else
        settings_row_append_expected(a->row, &wanted);
    settings_problem(a->settings, node, "%s: expected %s for \"%s\"%s%s", found, buf_cstr(&wanted),
                     a->row->name, names_section(a) ? " of " : "", names_section(a) ? a->what : "");
    buf_fini(&wanted);
    a->failed = true;
}

static void wrong_kind(struct apply *a, const struct settings_node *node)
{
    if (node->kind == SETTINGS_SCALAR)
        mistake(a, node, "single value found", NULL);
    else
        mistake(a, node, node->kind == SETTINGS_MAPPING ? "mapping found" : "sequence found", NULL);
}

static void missing(struct apply *a)
{
    struct buf wanted = {0};
    settings_row_append_expected(a->row, &wanted);
    settings_problem(a->settings, a->mapping, "missing \"%s\": expected %s%s%s", a->row->name,
                     buf_cstr(&wanted), names_section(a) ? " in " : "",
                     names_section(a) ? a->what : "");
    buf_fini(&wanted);
    a->failed = true;
}

/* ---- single values ---- */

static enum value_result in_range(const struct apply *a, int64_t number)
{
    struct settings_range range = settings_row_range(a->row);
    return number >= range.min && number <= range.max ? VALUE_OK : VALUE_OVERFLOW;
}

static enum value_result set_number(const struct apply *a, const char *text)
{
    int64_t number = 0;
    enum value_result result;
    if (a->row->type == SETTING_INT)
        result = value_parse_int(text, &number);
    else if (a->row->type == SETTING_SIZE)
        result = value_parse_size(text, &number);
    else
        result = value_parse_duration(text, &number);
    if (result == VALUE_OK)
        result = in_range(a, number);
    if (result != VALUE_OK)
        return result;
    if (a->row->type == SETTING_SIZE)
        *(uint64_t *)field(a) = (uint64_t)number;
    else
        *(int64_t *)field(a) = number;
    return VALUE_OK;
}

static enum value_result set_choice(const struct apply *a, const char *text)
{
    for (int i = 0; a->row->choices[i] != NULL; i++) {
        if (strcmp(a->row->choices[i], text) == 0) {
            *(int *)field(a) = i;
            return VALUE_OK;
        }
    }
    return VALUE_MALFORMED;
}

static enum value_result set_bool(const struct apply *a, const char *text)
{
    bool value;
    if (!value_parse_bool(text, &value))
        return VALUE_MALFORMED;
    *(bool *)field(a) = value;
    return VALUE_OK;
}

/* `text` lives as long as the settings, or is the row's own. */
static enum value_result set_scalar(const struct apply *a, const char *text)
{
    switch (a->row->type) {
    case SETTING_STRING:
    case SETTING_SECRET:
        *(const char **)field(a) = text;
        return VALUE_OK;
    case SETTING_BOOL:
        return set_bool(a, text);
    case SETTING_INT:
    case SETTING_SIZE:
    case SETTING_DURATION:
        return set_number(a, text);
    case SETTING_CHOICE:
        return set_choice(a, text);
    case SETTING_LIST:
    case SETTING_MAP:
    case SETTING_CUSTOM:
        break;
    }
    return VALUE_MALFORMED;
}

/* How a problem shows the value. */
static void show(const struct apply *a, const struct settings_node *node,
                 char out[SETTINGS_QUOTE_MAX])
{
    if (a->row->type == SETTING_SECRET)
        snprintf(out, SETTINGS_QUOTE_MAX, "a value that is not shown");
    else
        settings_quote(node, out);
}

/* Whether the row's own check takes the text. */
static bool passes(struct apply *a, const struct settings_node *node, const char *shown)
{
    const char *expected = a->row->check != NULL ? a->row->check(node->text) : NULL;
    if (expected != NULL)
        mistake(a, node, shown, expected);
    return expected == NULL;
}

static bool is_string_type(const struct setting *row)
{
    return row->type == SETTING_STRING || row->type == SETTING_SECRET;
}

/* Quotes make a string of what would be a number or a truth; around a variable they are needed
 * within { }. */
static bool is_quoted_number(const struct setting *row, const struct settings_node *node)
{
    return (row->type == SETTING_INT || row->type == SETTING_BOOL) && node->quoted &&
           node->written == NULL;
}

static void mistaken_number(struct apply *a, const struct settings_node *node,
                            enum value_result result)
{
    char shown[SETTINGS_QUOTE_MAX], found[SETTINGS_QUOTE_MAX + 16];
    show(a, node, shown);
    const char *how = result == VALUE_UNITLESS         ? " without unit"
                      : is_quoted_number(a->row, node) ? " in quotes"
                                                       : "";
    snprintf(found, sizeof found, "%s%s", shown, how);
    mistake(a, node, found, NULL);
}

static void apply_scalar(struct apply *a, const struct settings_node *node)
{
    if (node->kind != SETTINGS_SCALAR) {
        wrong_kind(a, node);
        return;
    }
    char shown[SETTINGS_QUOTE_MAX];
    show(a, node, shown);
    if (is_string_type(a->row)) {
        if (a->row->required && node->text[0] == '\0')
            mistake(a, node, "empty string found", "a string that is not empty");
        else if (passes(a, node, shown))
            set_scalar(a, node->text);
        return;
    }
    enum value_result result = is_quoted_number(a->row, node) ? VALUE_MALFORMED : VALUE_OK;
    if (result == VALUE_OK && a->row->check != NULL && !passes(a, node, shown))
        return;
    if (result == VALUE_OK)
        result = set_scalar(a, node->text);
    if (result != VALUE_OK)
        mistaken_number(a, node, result);
}

/* ---- lists and maps ---- */

/* A scalar that is a string; else a problem. `shown` names it there. */
static bool is_string(struct apply *a, const struct settings_node *node, const char *shown)
{
    if (node->broken)
        a->failed = true;
    else if (node->kind != SETTINGS_SCALAR)
        mistake(a, node, node->kind == SETTINGS_MAPPING ? "mapping found" : "sequence found",
                "a string in each item");
    else if (node->null)
        mistake(a, node, "empty item found", "a string in each item");
    else
        return passes(a, node, shown);
    return false;
}

static bool list_item(struct apply *a, const struct settings_node *node)
{
    char shown[SETTINGS_QUOTE_MAX] = "";
    if (node->kind == SETTINGS_SCALAR)
        settings_quote(node, shown);
    return is_string(a, node, shown);
}

static void apply_list(struct apply *a, const struct settings_node *node)
{
    if (node->kind == SETTINGS_MAPPING) {
        wrong_kind(a, node);
        return;
    }
    size_t n = node->kind == SETTINGS_SEQUENCE ? node->n : 1;
    if (n == 0 && a->row->required) {
        mistake(a, node, "empty sequence found", "at least one string");
        return;
    }
    const char **items = settings_keep(a->settings, n * sizeof *items);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        const struct settings_node *item = node->kind == SETTINGS_SEQUENCE ? node->items[i] : node;
        if (list_item(a, item))
            items[kept++] = item->text;
    }
    if (kept == n)
        *(struct setting_list *)field(a) = (struct setting_list){.items = items, .n = n};
}

/* Values of free mappings may be passwords: they are named, not shown. */
static bool map_value(struct apply *a, const struct settings_entry *entry)
{
    char key[SETTINGS_QUOTE_TEXT_MAX], shown[SETTINGS_QUOTE_MAX];
    settings_quote_text(entry->key, key);
    snprintf(shown, sizeof shown, "the value of %s", key);
    return is_string(a, entry->value, shown);
}

static void apply_map(struct apply *a, const struct settings_node *node)
{
    if (node->kind != SETTINGS_MAPPING) {
        wrong_kind(a, node);
        return;
    }
    if (node->n == 0 && a->row->required) {
        mistake(a, node, "empty mapping found", "at least one \"key: value\"");
        return;
    }
    struct setting_pair *pairs = settings_keep(a->settings, node->n * sizeof *pairs);
    size_t kept = 0;
    for (size_t i = 0; i < node->n; i++) {
        const struct settings_entry *e = &node->entries[i];
        if (map_value(a, e))
            pairs[kept++] =
                (struct setting_pair){.key = e->key, .value = e->value->text, .line = e->line};
    }
    if (kept == node->n)
        *(struct setting_map *)field(a) = (struct setting_map){.pairs = pairs, .n = kept};
}

/* ---- defaults ---- */

static void zero_field(const struct apply *a)
{
    switch (a->row->type) {
    case SETTING_STRING:
    case SETTING_SECRET:
        *(const char **)field(a) = NULL;
        break;
    case SETTING_BOOL:
        *(bool *)field(a) = false;
        break;
    case SETTING_INT:
    case SETTING_DURATION:
        *(int64_t *)field(a) = 0;
        break;
    case SETTING_SIZE:
        *(uint64_t *)field(a) = 0;
        break;
    case SETTING_CHOICE:
        *(int *)field(a) = 0;
        break;
    case SETTING_LIST:
        *(struct setting_list *)field(a) = (struct setting_list){0};
        break;
    case SETTING_MAP:
        *(struct setting_map *)field(a) = (struct setting_map){0};
        break;
    case SETTING_CUSTOM:
        break;
    }
}

/* "a,b" */
static void set_fallback_list(const struct apply *a)
{
    const char *p = a->row->fallback;
    if (p[0] == '\0')
        return;
    size_t n = 1;
    for (const char *c = p; *c != '\0'; c++)
        n += *c == ',';
    const char **items = settings_keep(a->settings, n * sizeof *items);
    for (size_t i = 0; i < n; i++) {
        size_t len = strcspn(p, ",");
        items[i] = settings_keep_text(a->settings, p, len);
        p += len + 1;
    }
    *(struct setting_list *)field(a) = (struct setting_list){.items = items, .n = n};
}

static void set_fallback(const struct apply *a)
{
    const struct setting *row = a->row;
    zero_field(a);
    if (row->fallback == NULL || row->type == SETTING_CUSTOM)
        return;
    if (row->type == SETTING_LIST) {
        set_fallback_list(a);
        return;
    }
    bool fits = row->type == SETTING_MAP ? row->fallback[0] == '\0'
                                         : set_scalar(a, row->fallback) == VALUE_OK;
    if (!fits) {
        fprintf(stderr, "level=error event=bad_default setting=%s default=\"%s\"\n", row->name,
                row->fallback);
        abort();
    }
}

/* ---- rows ---- */

static void apply_node(struct apply *a, const struct settings_node *node)
{
    if (node->broken)
        a->failed = true;
    else if (a->row->type == SETTING_LIST)
        apply_list(a, node);
    else if (a->row->type == SETTING_MAP)
        apply_map(a, node);
    else if (a->row->type != SETTING_CUSTOM)
        apply_scalar(a, node);
}

static void apply_row(struct apply *a)
{
    const struct settings_node *node = settings_get(a->mapping, a->row->name);
    bool null = node != NULL && node->kind == SETTINGS_SCALAR && node->null;
    set_fallback(a);
    if (node != NULL && !null)
        apply_node(a, node);
    else if (a->row->required && null)
        mistake(a, node, "nothing found", NULL);
    else if (a->row->required)
        missing(a);
}

/* ---- unknown keys ---- */

struct names {
    const char **names; /* sorted, each once */
    size_t n;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_names(struct names *names, const struct setting *rows)
{
    for (rows = setting_first(rows); rows != NULL; rows = setting_first(rows + 1)) {
        names->names = mem_realloc(names->names, (names->n + 1) * sizeof *names->names);
        names->names[names->n++] = rows->name;
    }
}

static struct names collect_names(const struct setting *rows, const struct setting *more)
{
    struct names names = {0};
    add_names(&names, rows);
    add_names(&names, more);
    if (names.n > 0)
        qsort(names.names, names.n, sizeof *names.names, compare_names);
    size_t kept = 0;
    for (size_t i = 0; i < names.n; i++) {
        if (kept == 0 || strcmp(names.names[kept - 1], names.names[i]) != 0)
            names.names[kept++] = names.names[i];
    }
    names.n = kept;
    return names;
}

static bool has_name(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++) {
        if (strcmp(names->names[i], name) == 0)
            return true;
    }
    return false;
}

static void unknown_key(struct apply *a, const struct settings_entry *entry,
                        const struct names *names)
{
    char quote[SETTINGS_QUOTE_TEXT_MAX];
    settings_quote_text(entry->key, quote);
    struct buf text = {0};
    settings_row_append_words(names->names, names->n, &text);
    if (names_section(a))
        buf_printf(&text, " in %s", a->what);
    const char *meant = value_nearest(entry->key, names->names, names->n);
    if (meant != NULL)
        buf_printf(&text, " (did you mean \"%s\"?)", meant);
    settings_problem_at(a->settings, entry->line, "unknown key %s: expected %s%s", quote,
                        names->n > 1 ? "one of " : "", buf_cstr(&text));
    buf_fini(&text);
    a->failed = true;
}

static void find_unknown_keys(struct apply *a, const struct names *names)
{
    if (!settings_is_mapping(a->mapping))
        return;
    for (size_t i = 0; i < a->mapping->n; i++) {
        const struct settings_entry *entry = &a->mapping->entries[i];
        if (!has_name(names, entry->key))
            unknown_key(a, entry, names);
    }
}

/* A section with nothing in it ("http:") is an empty mapping. */
static bool is_section(struct apply *a)
{
    const struct settings_node *node = a->mapping;
    if (node == NULL || (node->kind == SETTINGS_SCALAR && node->null))
        return true;
    if (!node->broken && node->kind == SETTINGS_MAPPING)
        return true;
    settings_problem(a->settings, node, "%s found: expected a mapping%s%s",
                     node->kind == SETTINGS_SEQUENCE ? "sequence" : "single value",
                     names_section(a) ? " for " : "", names_section(a) ? a->what : "");
    a->failed = true;
    return false;
}

int settings_apply(struct settings *settings, const struct settings_node *mapping, const char *what,
                   const struct setting *rows, const struct setting *more, void *out)
{
    struct apply a = {.settings = settings, .mapping = mapping, .what = what, .out = out};
    if (!is_section(&a)) {
        for (a.row = setting_first(rows); a.row != NULL; a.row = setting_first(a.row + 1))
            set_fallback(&a);
        return -1;
    }
    for (a.row = setting_first(rows); a.row != NULL; a.row = setting_first(a.row + 1))
        apply_row(&a);
    struct names names = collect_names(rows, more);
    find_unknown_keys(&a, &names);
    free(names.names);
    return a.failed ? -1 : 0;
}
