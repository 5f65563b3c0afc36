/* redact_oracle.h - holds redact_apply against the plain reading of RFC 9535: each value is asked,
 * by all of its place in the text, whether a path names it.
 *
 * Recursive and slow; it shares the reading of paths with what it judges, and nothing else. */
#ifndef BUSBAR_TESTS_REDACT_ORACLE_H
#define BUSBAR_TESTS_REDACT_ORACLE_H

#include "bridge/redact.h"
#include "bridge/redact_path.h"
#include "connectors/json_scan.h"

#include <stdlib.h>
#include <string.h>

struct redact_oracle_path {
    struct redact_step steps[REDACT_STEPS_MAX];
    size_t n;
};

/* One step from a container to a child. */
struct redact_oracle_place {
    bool is_member;
    uint64_t index;
    struct buf name;
};

struct redact_oracle {
    const struct redact_oracle_path *paths;
    size_t n_paths;
    struct redact_oracle_place places[JSON_SCAN_DEPTH_MAX + 1];
    size_t depth;
    struct json_scan scan;
    const char *kept;
    struct buf *out;
};

static inline bool redact_oracle_takes(const struct redact_step *step,
                                       const struct redact_oracle_place *place)
{
    if (step->select == REDACT_ANY)
        return true;
    if (step->select == REDACT_INDEX)
        return !place->is_member && place->index == step->index;
    return place->is_member && place->name.len == step->len &&
           memcmp(place->name.p, step->name, step->len) == 0;
}

/* How many of the path's steps may have been taken on the way to each place in turn. */
static inline bool redact_oracle_matches(const struct redact_oracle *o,
                                         const struct redact_oracle_path *path)
{
    bool taken[REDACT_STEPS_MAX + 1] = {true};
    for (size_t at = 0; at < o->depth; at++) {
        bool next[REDACT_STEPS_MAX + 1] = {false};
        for (size_t i = 0; i < path->n; i++) {
            bool takes = taken[i] && redact_oracle_takes(&path->steps[i], &o->places[at]);
            next[i + 1] = next[i + 1] || takes;
            next[i] = next[i] || (taken[i] && path->steps[i].deep);
        }
        memcpy(taken, next, sizeof taken);
    }
    return taken[path->n];
}

static inline bool redact_oracle_is_named(const struct redact_oracle *o)
{
    for (size_t i = 0; i < o->n_paths; i++)
        if (redact_oracle_matches(o, &o->paths[i]))
            return true;
    return false;
}

static inline void redact_oracle_value(struct redact_oracle *o);

static inline void redact_oracle_object(struct redact_oracle *o)
{
    struct json_scan_string name;
    json_scan_object(&o->scan);
    while (json_scan_member(&o->scan, &name)) {
        struct redact_oracle_place *place = &o->places[o->depth++];
        *place = (struct redact_oracle_place){.is_member = true};
        buf_reserve(&place->name, 1);
        json_scan_unescape(&place->name, name.raw);
        redact_oracle_value(o);
        buf_fini(&place->name);
        o->depth--;
    }
}

static inline void redact_oracle_array(struct redact_oracle *o)
{
    json_scan_array(&o->scan);
    for (uint64_t i = 0; json_scan_element(&o->scan); i++) {
        o->places[o->depth++] = (struct redact_oracle_place){.index = i};
        redact_oracle_value(o);
        o->depth--;
    }
}

static inline void redact_oracle_value(struct redact_oracle *o)
{
    struct str raw;
    enum json_scan_type type = json_scan_peek(&o->scan);
    if (redact_oracle_is_named(o)) {
        json_scan_skip(&o->scan, &raw);
        buf_append(o->out, o->kept, (size_t)(raw.p - o->kept));
        buf_append_cstr(o->out, "\"[redacted]\"");
        o->kept = raw.p + raw.len;
    } else if (type == JSON_SCAN_OBJECT) {
        redact_oracle_object(o);
    } else if (type == JSON_SCAN_ARRAY) {
        redact_oracle_array(o);
    } else {
        json_scan_skip(&o->scan, NULL);
    }
}

/* False where a path can't be read. */
static inline bool redact_oracle_read(struct redact_oracle_path *paths,
                                      const struct setting_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const char *rest = list->items[i];
        const char *wrong = redact_path_begin(&rest);
        for (paths[i].n = 0; wrong == NULL && *rest != '\0'; paths[i].n++) {
            if (paths[i].n == REDACT_STEPS_MAX)
                return false;
            wrong = redact_path_next(&rest, &paths[i].steps[paths[i].n]);
        }
        if (wrong != NULL)
            return false;
    }
    return true;
}

/* What redacting a valid text gives, appended to `out`. */
static inline void redact_oracle_apply(const struct setting_list *list, struct str data,
                                       struct buf *out)
{
    struct redact_oracle_path *paths = mem_zalloc((list->n + 1) * sizeof *paths);
    struct redact_oracle *o = mem_zalloc(sizeof *o);
    if (redact_oracle_read(paths, list)) {
        o->paths = paths;
        o->n_paths = list->n;
        o->kept = data.p;
        o->out = out;
        json_scan_init(&o->scan, data);
        redact_oracle_value(o);
        buf_append(out, o->kept, (size_t)(data.p + data.len - o->kept));
    }
    free(o);
    free(paths);
}

static inline bool redact_oracle_is_json(struct str data)
{
    struct json_scan scan;
    json_scan_init(&scan, data);
    return json_scan_skip(&scan, NULL) && json_scan_end(&scan);
}

/* NULL where the redaction of `data`, anything, is what it has to be; else what is wrong. */
static inline const char *redact_oracle_compare(const struct redact *redact,
                                                const struct setting_list *paths, struct str data)
{
    struct buf got = {0}, again = {0}, wanted = {0};
    const char *wrong = NULL;
    bool replaced = redact_apply(redact, data, &got);
    struct str leaves = replaced ? buf_str(&got) : data;
    if (redact_apply(redact, leaves, &again) && !str_eq(buf_str(&again), leaves))
        wrong = "a second time gives something else";
    if (redact_oracle_is_json(data)) {
        redact_oracle_apply(paths, data, &wanted);
        if (!str_eq(leaves, buf_str(&wanted)))
            wrong = "something else was replaced";
    }
    buf_fini(&got);
    buf_fini(&again);
    buf_fini(&wanted);
    return wrong;
}

#endif
