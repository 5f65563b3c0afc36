/* settings.h - the configuration file: read, checked and documented by rows that each part
 * declares.
 *
 * settings_load reads YAML (libyaml) into a tree whose scalars know their line, with ${VAR} and
 * ${file:PATH} replaced. settings_apply fills a struct from one mapping of the tree by a table of
 * rows. Every mistake becomes one problem, "FILE:LINE: what was found: what was expected"; all are
 * collected, none stops the reading. */
#ifndef BUSBAR_SETTINGS_H
#define BUSBAR_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- the tree ---- */

struct settings;      /* one loaded file: owns all nodes and all strings that rows were given */
struct settings_node; /* a scalar, a sequence or a mapping */

/* Never NULL: a file that can't be read or is not YAML gives a tree with problems and an empty
 * mapping as root. */
struct settings *settings_load(const char *path);
/* The same from memory; `name` stands for the path in problems. */
struct settings *settings_parse(const char *name, const char *text, size_t len);
void settings_free(struct settings **settings);
const struct settings_node *settings_root(const struct settings *settings);

/* NULL where the mapping has no such key (or is none). */
const struct settings_node *settings_get(const struct settings_node *mapping, const char *key);
size_t settings_count(const struct settings_node *sequence); /* 0 for NULL and for other kinds */
const struct settings_node *settings_item(const struct settings_node *sequence, size_t i);
bool settings_is_mapping(const struct settings_node *node);
bool settings_is_sequence(const struct settings_node *node);
const char *
settings_text(const struct settings_node *node); /* a scalar's value after replacing; else NULL */
int settings_line(const struct settings_node *node); /* from 1 */

/* ---- problems ---- */

/* "what was found: what was expected" at the node's line (NULL: the file as a whole). Secrets never
 * appear. */
void settings_problem(struct settings *settings, const struct settings_node *node, const char *fmt,
                      ...) __attribute__((format(printf, 3, 4)));
size_t settings_problems(const struct settings *settings); /* how many */
/* In the order of their lines, without doubles, one a line. */
void settings_print_problems(const struct settings *settings, FILE *to);

/* ---- rows ---- */

enum setting_type {
    SETTING_STRING,   /* const char *; NULL where missing without default */
    SETTING_SECRET,   /* const char *; its value never appears in messages */
    SETTING_BOOL,     /* bool; true | false */
    SETTING_INT,      /* int64_t; min..max */
    SETTING_SIZE,     /* uint64_t bytes; 512, 64KiB, 4GiB, 10MB */
    SETTING_DURATION, /* int64_t ms; 100ms, 15s, 5m, 2h, 7d */
    SETTING_CHOICE,   /* int: place in `choices` */
    SETTING_LIST,   /* struct setting_list: a sequence of strings; a lone string counts as a list of
                       one */
    SETTING_MAP,    /* struct setting_map: a free mapping of strings */
    SETTING_CUSTOM, /* left to its owner (a nested section); only counted as known */
};

struct setting_list {
    const char *const *items;
    size_t n;
};

struct setting_pair {
    const char *key;
    const char *value;
    int line;
};

struct setting_map {
    const struct setting_pair *pairs;
    size_t n;
};

struct setting {
    const char *name; /* NULL ends the table, or goes on in `rest` */
    enum setting_type type;
    size_t offset;        /* into the struct */
    const char *fallback; /* as it would stand in the file ("a,b" for lists); NULL: none */
    bool required;
    int64_t min, max;           /* INT, SIZE, DURATION; both 0: no limits but >= 0 */
    const char *const *choices; /* CHOICE: NULL-terminated */
    /* Extra check of the value as text (each item of a list); returns what was expected, or NULL
     * where it is fine. */
    const char *(*check)(const char *value);
    const char *help;           /* one line */
    const struct setting *rest; /* of the last row: rows that several tables share; NULL: none */
};

/* Walks a table: `for (row = setting_first(rows); row != NULL; row = setting_first(row + 1))`. */
const struct setting *setting_first(const struct setting *rows); /* NULL at the end */

/* Fills `out` by the rows (defaults first). `what` names the section in problems ("sink lake"). A
 * key of the mapping that stands in no row of `rows` nor in `more` (may be NULL: rows that another
 * call applies to the same mapping) is a problem that offers the nearest known name. Returns 0, or
 * -1 where it added a problem. */
int settings_apply(struct settings *settings, const struct settings_node *mapping, const char *what,
                   const struct setting *rows, const struct setting *more, void *out);

/* Prints the rows as a reference: name, type, default, range, help; the README's tables come from
 * here. */
void settings_document(const struct setting *rows, const char *title, FILE *to);

/* ---- checks that several parts share (for `check` above) ---- */

const char *check_name(const char *value); /* [a-z0-9_-]+ */
const char *check_http_url(
    const char *value); /* http:// or https://, a host, a port of 1..65535 if any, no path but / */
const char *check_host_port(const char *value); /* HOST:PORT, [::1]:PORT; PORT 0..65535 */

#endif
