/* nomad_oracle.h - holds nomad_line_parse against jansson's tree of the same line. */
#ifndef BUSBAR_TESTS_NOMAD_ORACLE_H
#define BUSBAR_TESTS_NOMAD_ORACLE_H

#include "bridge/event.h"
#include "connectors/nomad_line.h"

#include <jansson.h>

#include <stdbool.h>
#include <string.h>

/* The member is this string. */
static inline bool nomad_oracle_is(const json_t *event, const char *name, struct str value)
{
    const json_t *string = json_object_get(event, name);
    return json_is_string(string) &&
           str_eq((struct str){json_string_value(string), json_string_length(string)}, value);
}

static inline bool nomad_oracle_filter_keys(const json_t *event, struct str packed)
{
    const json_t *keys = json_object_get(event, "FilterKeys");
    struct str key;
    for (size_t i = 0; i < json_array_size(keys); i++) {
        const json_t *string = json_array_get(keys, i);
        if (!event_next_filter_key(&packed, &key) || !json_is_string(string) ||
            !str_eq((struct str){json_string_value(string), json_string_length(string)}, key))
            return false;
    }
    return packed.len == 0;
}

static inline bool nomad_oracle_data(const json_t *event, struct str data, struct str raw)
{
    if (data.p < raw.p || data.p + data.len > raw.p + raw.len)
        return false;
    json_t *same = json_loadb(data.p, data.len, JSON_ALLOW_NUL, NULL);
    bool equal = json_equal(same, event);
    json_decref(same);
    return equal;
}

static inline const char *nomad_oracle_event(const json_t *event, const struct found_event *found,
                                             struct str raw)
{
    const json_t *ns = json_object_get(event, "Namespace");
    if (!nomad_oracle_is(event, "Topic", found->topic))
        return "Topic";
    if (!nomad_oracle_is(event, "Type", found->type))
        return "Type";
    if (!nomad_oracle_is(event, "Key", found->key))
        return "Key";
    if (json_is_string(ns) ? !nomad_oracle_is(event, "Namespace", found->ns) : found->ns.len > 0)
        return "Namespace";
    if ((uint64_t)json_integer_value(json_object_get(event, "Index")) != found->index)
        return "Index";
    if (!nomad_oracle_filter_keys(event, found->filter_keys))
        return "FilterKeys";
    return nomad_oracle_data(event, found->data, raw) ? NULL : "data";
}

static inline const char *nomad_oracle_tree(const json_t *tree, const struct nomad_line *line,
                                            struct str raw)
{
    const json_t *events = json_object_get(tree, "Events");
    const json_t *index = json_object_get(tree, "Index");
    if (json_array_size(events) != line->n_events)
        return "the number of events";
    for (size_t i = 0; i < line->n_events; i++) {
        const char *wrong = nomad_oracle_event(json_array_get(events, i), &line->events[i], raw);
        if (wrong != NULL)
            return wrong;
    }
    if (index != NULL && (uint64_t)json_integer_value(index) != line->index)
        return "the line's Index";
    return line->heartbeat == (line->n_events == 0 && line->index == 0) ? NULL : "heartbeat";
}

/* NULL where a line that was parsed (0 was returned) holds what jansson reads in it, or where
 * jansson can't read it (json_scan.h names why); else what differs. */
static inline const char *nomad_oracle_compare(const struct nomad_line *line, struct str raw)
{
    json_t *tree = json_loadb(raw.p, raw.len, JSON_ALLOW_NUL, NULL);
    const char *wrong = tree != NULL ? nomad_oracle_tree(tree, line, raw) : NULL;
    json_decref(tree);
    return wrong;
}

#endif
