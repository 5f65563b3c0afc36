/* settings_yaml.c - from libyaml's events to the tree.
 *
 * Events, not libyaml's documents, because only they keep the line of a key, tell a second
 * document apart, and can be refused half-way. An alias shares the node of its anchor, nothing is
 * copied, so "billion laughs" costs nothing; `<<` copies references and counts them as nodes. An
 * anchor exists from the end of its node on: there are no cycles. Merge keys and anchors: YAML 1.1,
 * sections 3.2.2.2 and the type repository's "merge". */
#include "config/settings_tree.h"
#include "config/settings_yaml_error.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct anchor {
    const char *name;
    const struct settings_node *node;
};

struct reader {
    yaml_parser_t parser;
    struct settings *settings;
    const char *text;
    size_t len;
    struct settings_replaced replaced;
    struct anchor anchors[SETTINGS_ANCHORS_MAX];
    size_t n_anchors;
    size_t nodes;
    int depth;
};

/* What a mapping or sequence has while it is read. */
struct children {
    struct settings_entry *entries; /* a sequence leaves their keys empty */
    size_t n, cap;
    const struct settings_node **merged; /* values of `<<` */
    size_t n_merged;
};

static const struct settings_node *read_node(struct reader *r, const yaml_event_t *event);

static int line_of(const yaml_event_t *event)
{
    return (int)event->start_mark.line + 1;
}

/* False at the end of what can be read, with its problem. */
static bool next_event(struct reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event) == 1)
        return true;
    settings_yaml_error(r->settings, &r->parser, r->text, r->len);
    return false;
}

static const char *text_of(const yaml_char_t *text)
{
    return (const char *)text;
}

static bool count_nodes(struct reader *r, size_t n, int line)
{
    r->nodes += n;
    if (r->nodes <= SETTINGS_NODES_MAX)
        return true;
    settings_problem_at(r->settings, line, "more than %d values: expected a smaller file",
                        SETTINGS_NODES_MAX);
    return false;
}

/* ---- scalars ---- */

static bool is_null_word(const char *text)
{
    return text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0 ||
           strcmp(text, "Null") == 0 || strcmp(text, "NULL") == 0;
}

static bool check_tag(struct reader *r, const yaml_char_t *tag, int line)
{
    if (tag == NULL || strcmp(text_of(tag), "!") == 0 || strcmp(text_of(tag), YAML_STR_TAG) == 0)
        return true;
    char quote[SETTINGS_QUOTE_TEXT_MAX];
    settings_quote_text(text_of(tag), quote);
    settings_problem_at(r->settings, line, "tag %s: expected a value without a tag", quote);
    return false;
}

static const struct settings_node *read_scalar(struct reader *r, const yaml_event_t *event)
{
    struct settings_node *node = settings_keep(r->settings, sizeof *node);
    const char *text = text_of(event->data.scalar.value);
    size_t len = event->data.scalar.length;
    node->kind = SETTINGS_SCALAR;
    node->line = line_of(event);
    node->text = settings_keep_text(r->settings, text, len);
    node->quoted =
        event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE || event->data.scalar.tag != NULL;
    if (!check_tag(r, event->data.scalar.tag, node->line)) {
        node->broken = true;
    } else if (strlen(node->text) != len) {
        settings_problem_at(r->settings, node->line, "a NUL character: expected text");
        node->broken = true;
    } else if (!node->quoted && is_null_word(node->text)) {
        node->null = true;
    } else {
        settings_replace(r->settings, &r->replaced, node);
        node->null = !node->quoted && node->text[0] == '\0';
    }
    return node;
}

/* ---- anchors ---- */

static bool add_anchor(struct reader *r, const yaml_char_t *name, const struct settings_node *node)
{
    if (name == NULL)
        return true;
    if (r->n_anchors == SETTINGS_ANCHORS_MAX) {
        settings_problem_at(r->settings, node->line, "more than %d anchors: expected fewer",
                            SETTINGS_ANCHORS_MAX);
        return false;
    }
    const char *kept = settings_keep_text(r->settings, text_of(name), strlen(text_of(name)));
    r->anchors[r->n_anchors++] = (struct anchor){.name = kept, .node = node};
    return true;
}

static const struct settings_node *find_anchor(struct reader *r, const yaml_event_t *event)
{
    const char *name = text_of(event->data.alias.anchor);
    for (size_t i = r->n_anchors; i > 0; i--) {
        if (strcmp(r->anchors[i - 1].name, name) == 0)
            return r->anchors[i - 1].node;
    }
    char quote[SETTINGS_QUOTE_TEXT_MAX];
    settings_quote_text(name, quote);
    settings_problem_at(r->settings, line_of(event),
                        "alias %s without an anchor before it: expected an anchor (&), or quotes "
                        "around a text that starts with \"*\"",
                        quote);
    return NULL;
}

/* ---- mappings and sequences ---- */

static void add_child(struct children *c, const char *key, int line,
                      const struct settings_node *value)
{
    if (c->n == c->cap) {
        c->cap = c->cap > 0 ? c->cap * 2 : 8;
        c->entries = mem_realloc(c->entries, c->cap * sizeof *c->entries);
    }
    c->entries[c->n++] = (struct settings_entry){.key = key, .line = line, .value = value};
}

static const struct settings_entry *find_child(const struct children *c, const char *key)
{
    for (size_t i = 0; i < c->n; i++) {
        if (strcmp(c->entries[i].key, key) == 0)
            return &c->entries[i];
    }
    return NULL;
}

static bool has_room(struct reader *r, const struct children *c, int line)
{
    if (c->n < SETTINGS_KEYS_MAX)
        return true;
    settings_problem_at(r->settings, line, "more than %d keys: expected a smaller mapping",
                        SETTINGS_KEYS_MAX);
    return false;
}

static bool merge_mapping(struct reader *r, struct children *c, const struct settings_node *from,
                          int line)
{
    if (!settings_is_mapping(from)) {
        settings_problem_at(r->settings, line,
                            "no mapping behind \"<<\": expected an alias of a mapping, or a "
                            "sequence of them");
        return true;
    }
    if (!count_nodes(r, from->n, line))
        return false;
    for (size_t i = 0; i < from->n; i++) {
        if (find_child(c, from->entries[i].key) != NULL)
            continue;
        if (!has_room(r, c, line))
            return false;
        add_child(c, from->entries[i].key, from->entries[i].line, from->entries[i].value);
    }
    return true;
}

/* Keys of the mapping itself win over those that `<<` brings, the first that brings one over later
 * ones. */
static bool merge(struct reader *r, struct children *c, const struct settings_node *from, int line)
{
    if (!settings_is_sequence(from))
        return merge_mapping(r, c, from, line);
    for (size_t i = 0; i < from->n; i++) {
        if (!merge_mapping(r, c, from->items[i], line))
            return false;
    }
    return true;
}

/* The key as text, NULL where it is none: then a problem tells, and the reading goes on only for a
 * scalar. */
static const char *read_key(struct reader *r, const yaml_event_t *event)
{
    if (event->type == YAML_SCALAR_EVENT) {
        const char *text = text_of(event->data.scalar.value);
        size_t len = event->data.scalar.length;
        if (len > 0 && strlen(text) == len)
            return settings_keep_text(r->settings, text, len);
    }
    settings_problem_at(r->settings, line_of(event),
                        "a key that is no plain word: expected \"key: value\"");
    return NULL;
}

static bool is_merge_key(const yaml_event_t *event)
{
    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           strcmp(text_of(event->data.scalar.value), "<<") == 0;
}

static const struct settings_node *read_value(struct reader *r)
{
    yaml_event_t event;
    if (!next_event(r, &event))
        return NULL;
    const struct settings_node *value = read_node(r, &event);
    yaml_event_delete(&event);
    return value;
}

static bool add_entry(struct reader *r, struct children *c, const char *key, int line,
                      const struct settings_node *value)
{
    const struct settings_entry *first = find_child(c, key);
    if (first != NULL) {
        char quote[SETTINGS_QUOTE_TEXT_MAX];
        settings_quote_text(key, quote);
        settings_problem_at(r->settings, line,
                            "key %s a second time (first in line %d): expected it once", quote,
                            first->line);
        return true;
    }
    if (!has_room(r, c, line))
        return false;
    add_child(c, key, line, value);
    return true;
}

static bool read_entry(struct reader *r, const yaml_event_t *event, struct children *c)
{
    const char *key = read_key(r, event);
    if (key == NULL)
        return false;
    bool merges = is_merge_key(event);
    const struct settings_node *value = read_value(r);
    if (value == NULL)
        return false;
    if (!merges)
        return add_entry(r, c, key, line_of(event), value);
    c->merged = mem_realloc(c->merged, (c->n_merged + 1) * sizeof *c->merged);
    c->merged[c->n_merged++] = value;
    return true;
}

static bool read_item(struct reader *r, const yaml_event_t *event, struct children *c)
{
    const struct settings_node *item = read_node(r, event);
    if (item != NULL)
        add_child(c, "", 0, item);
    return item != NULL;
}

/* Reads up to the event that ends it. */
static bool read_children(struct reader *r, bool mapping, struct children *c)
{
    for (;;) {
        yaml_event_t event;
        if (!next_event(r, &event))
            return false;
        bool end = event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT;
        bool fine = end || (mapping ? read_entry(r, &event, c) : read_item(r, &event, c));
        yaml_event_delete(&event);
        if (end || !fine)
            return fine;
    }
}

static bool merge_all(struct reader *r, struct children *c, int line)
{
    for (size_t i = 0; i < c->n_merged; i++) {
        if (!merge(r, c, c->merged[i], line))
            return false;
    }
    return true;
}

static void keep_children(struct reader *r, const struct children *c, struct settings_node *node)
{
    node->n = c->n;
    if (node->kind == SETTINGS_MAPPING) {
        node->entries = settings_keep(r->settings, c->n * sizeof *node->entries);
        if (c->n > 0)
            memcpy(node->entries, c->entries, c->n * sizeof *node->entries);
        return;
    }
    node->items = settings_keep(r->settings, c->n * sizeof *node->items);
    for (size_t i = 0; i < c->n; i++)
        node->items[i] = c->entries[i].value;
}

static const struct settings_node *read_collection(struct reader *r, const yaml_event_t *event)
{
    bool mapping = event->type == YAML_MAPPING_START_EVENT;
    int line = line_of(event);
    if (r->depth == SETTINGS_DEPTH_MAX) {
        settings_problem_at(r->settings, line, "more than %d levels: expected a flatter file",
                            SETTINGS_DEPTH_MAX);
        return NULL;
    }
    struct settings_node *node = settings_keep(r->settings, sizeof *node);
    node->kind = mapping ? SETTINGS_MAPPING : SETTINGS_SEQUENCE;
    node->line = line;
    node->broken = !check_tag(
        r, mapping ? event->data.mapping_start.tag : event->data.sequence_start.tag, line);
    struct children c = {0};
    r->depth++;
    bool fine = read_children(r, mapping, &c) && merge_all(r, &c, line);
    r->depth--;
    if (fine)
        keep_children(r, &c, node);
    free(c.entries);
    free(c.merged);
    return fine ? node : NULL;
}

/* The node that starts with this event, read to its end; NULL where the file can't be read on. */
static const struct settings_node *read_node(struct reader *r, const yaml_event_t *event)
{
    if (!count_nodes(r, 1, line_of(event)))
        return NULL;
    if (event->type == YAML_ALIAS_EVENT)
        return find_anchor(r, event);
    if (event->type == YAML_SCALAR_EVENT) {
        const struct settings_node *scalar = read_scalar(r, event);
        return add_anchor(r, event->data.scalar.anchor, scalar) ? scalar : NULL;
    }
    const struct settings_node *node = read_collection(r, event);
    const yaml_char_t *anchor = event->type == YAML_MAPPING_START_EVENT
                                    ? event->data.mapping_start.anchor
                                    : event->data.sequence_start.anchor;
    return node != NULL && add_anchor(r, anchor, node) ? node : NULL;
}

/* ---- documents ---- */

static const struct settings_node *as_root(struct reader *r, const struct settings_node *node)
{
    if (node == NULL || node->kind == SETTINGS_MAPPING)
        return node;
    if (node->kind == SETTINGS_SCALAR && node->null) {
        struct settings_node *empty = settings_keep(r->settings, sizeof *empty);
        *empty = (struct settings_node){.kind = SETTINGS_MAPPING, .line = node->line};
        return empty;
    }
    settings_problem_at(r->settings, node->line,
                        "%s found: expected a mapping (lines of \"key: value\")",
                        node->kind == SETTINGS_SEQUENCE ? "sequence" : "single value");
    return NULL;
}

static const struct settings_node *read_document(struct reader *r)
{
    static const struct settings_node nothing = {
        .kind = SETTINGS_SCALAR, .line = 1, .text = "", .null = true};
    const struct settings_node *root = &nothing;
    bool seen = false;
    for (;;) {
        yaml_event_t event;
        if (!next_event(r, &event))
            return NULL;
        yaml_event_type_t type = event.type;
        int line = line_of(&event);
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT)
            return as_root(r, root);
        if (type != YAML_DOCUMENT_START_EVENT)
            continue;
        if (seen) {
            settings_problem_at(r->settings, line,
                                "a second document: expected one document in a file");
            return as_root(r, root);
        }
        seen = true;
        root = read_value(r);
        if (root == NULL)
            return NULL;
    }
}

const struct settings_node *settings_read_yaml(struct settings *settings, const char *text,
                                               size_t len)
{
    struct reader *r = mem_zalloc(sizeof *r);
    r->settings = settings;
    r->text = text;
    r->len = len;
    if (yaml_parser_initialize(&r->parser) != 1)
        abort();
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)(len > 0 ? text : ""), len);
    const struct settings_node *root = read_document(r);
    yaml_parser_delete(&r->parser);
    free(r);
    return root;
}
