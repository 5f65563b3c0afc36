/* settings_tree.h - the tree behind settings.h, for the files of this room only.
 *
 * Everything a tree holds is kept in one list of allocations, freed together: strings that rows
 * were given live exactly as long as their `struct settings`. After the reading nothing in a tree
 * changes but its problems. Limits: settings_limits. */
#ifndef BUSBAR_SETTINGS_TREE_H
#define BUSBAR_SETTINGS_TREE_H

#include "bridge/base/buf.h"
#include "config/settings.h"

enum settings_limits {
    SETTINGS_FILE_MAX = 1024 * 1024,     /* bytes of the configuration */
    SETTINGS_DEPTH_MAX = 32,             /* mappings and sequences within each other */
    SETTINGS_NODES_MAX = 65536,          /* values in all, those that `<<` brings included */
    SETTINGS_KEYS_MAX = 4096,            /* keys of one mapping */
    SETTINGS_ANCHORS_MAX = 256,          /* anchors of one file */
    SETTINGS_SECRET_MAX = 64 * 1024,     /* bytes that one ${file:PATH} brings */
    SETTINGS_REPLACED_MAX = 1024 * 1024, /* bytes that all ${…} of one file bring */
    SETTINGS_PROBLEMS_MAX = 1000,        /* problems that are kept; the others are counted */
    SETTINGS_PROBLEM_TEXT_MAX = 2048,    /* bytes of one problem */
    SETTINGS_QUOTE_TEXT_MAX = 96,        /* bytes that settings_quote_text writes */
    SETTINGS_QUOTE_MAX = 256,            /* bytes that settings_quote writes */
};

enum settings_kind { SETTINGS_SCALAR, SETTINGS_SEQUENCE, SETTINGS_MAPPING };

struct settings_entry {
    const char *key;
    int line; /* of the key */
    const struct settings_node *value;
};

struct settings_node {
    enum settings_kind kind;
    int line;
    /* scalars */
    const char *text;    /* after replacing; as written where that failed */
    const char *written; /* as it stands in the file; NULL where nothing was replaced */
    bool quoted;         /* 'so', "so" or a block: a string, whatever it looks like */
    bool null;           /* nothing, ~ or null: as if the key were not there */
    bool hidden;         /* came from a secret's file or variable: problems show what is written */
    bool broken;         /* has its problem already; later ones at this node are dropped */
    /* sequences and mappings */
    const struct settings_node **items;
    struct settings_entry *entries;
    size_t n;
};

/* ---- settings.c ---- */

void *settings_keep(struct settings *settings, size_t size); /* zeroed */
const char *settings_keep_text(struct settings *settings, const char *p, size_t len);
/* A problem at a line, where there is no node (yet). */
void settings_problem_at(struct settings *settings, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The value as problems show it: in quotes, cut, without what must not be seen (passwords in URLs,
 * the content of secrets). */
void settings_quote(const struct settings_node *node, char out[SETTINGS_QUOTE_MAX]);
void settings_quote_text(const char *text, char out[SETTINGS_QUOTE_TEXT_MAX]);
/* Reads a file of at most `max` bytes. Returns NULL, or why it can't be read. */
const char *settings_read_file(const char *path, size_t max, struct buf *out);

/* ---- settings_yaml.c ---- */

/* The root, a mapping; NULL where the text is no usable YAML, with its problem added. */
const struct settings_node *settings_read_yaml(struct settings *settings, const char *text,
                                               size_t len);

/* ---- settings_replace.c ---- */

/* Bytes brought by ${…} so far, over a whole file. */
struct settings_replaced {
    size_t bytes;
};
/* Replaces ${VAR}, ${VAR:-default}, ${file:PATH} and $$ in a scalar; adds a problem and marks the
 * node as broken where it can't. */
void settings_replace(struct settings *settings, struct settings_replaced *so_far,
                      struct settings_node *scalar);

#endif
