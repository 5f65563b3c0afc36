/* json_oracle.h - holds json_scan against jansson: one verdict, one value.
 *
 * The cursor's walk is turned into a tree of jansson's and compared with the tree jansson reads
 * itself. Where jansson refuses for a reason that json_scan.h names as a difference, nothing is
 * compared. */
#ifndef BUSBAR_TESTS_JSON_ORACLE_H
#define BUSBAR_TESTS_JSON_ORACLE_H

#include "bridge/base/buf.h"
#include "connectors/json_scan.h"

#include <jansson.h>

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

static json_t *json_oracle_walk(struct json_scan *scan);

static inline json_t *json_oracle_string(const struct json_scan_string *string)
{
    struct buf value = {0};
    json_scan_unescape(&value, string->raw);
    bool same = value.len == string->raw.len && memcmp(value.p, string->raw.p, value.len) == 0;
    json_t *json = json_stringn_nocheck(value.p, value.len);
    buf_fini(&value);
    /* A string that says it has no escapes has to be its own value. */
    if (!string->escaped && !same) {
        json_decref(json);
        return json_string("escaped is wrong");
    }
    return json;
}

static inline json_t *json_oracle_object(struct json_scan *scan)
{
    json_t *object = json_object();
    struct json_scan_string name;
    json_scan_object(scan);
    while (json_scan_member(scan, &name)) {
        struct buf value = {0};
        json_scan_unescape(&value, name.raw);
        json_object_setn_new_nocheck(object, value.p, value.len, json_oracle_walk(scan));
        buf_fini(&value);
    }
    return object;
}

static inline json_t *json_oracle_array(struct json_scan *scan)
{
    json_t *array = json_array();
    json_scan_array(scan);
    while (json_scan_element(scan))
        json_array_append_new(array, json_oracle_walk(scan));
    return array;
}

/* Never NULL; after a mistake the tree means nothing. */
static inline json_t *json_oracle_walk(struct json_scan *scan)
{
    enum json_scan_type type = json_scan_peek(scan);
    struct json_scan_string string;
    struct str raw;
    json_t *json = NULL;
    if (type == JSON_SCAN_OBJECT)
        return json_oracle_object(scan);
    if (type == JSON_SCAN_ARRAY)
        return json_oracle_array(scan);
    if (type == JSON_SCAN_STRING && json_scan_string(scan, &string))
        return json_oracle_string(&string);
    if (type != JSON_SCAN_STRING && json_scan_skip(scan, &raw))
        json = json_loadb(raw.p, raw.len, JSON_DECODE_ANY, NULL);
    return json != NULL ? json : json_null();
}

static inline size_t json_oracle_depth(const json_t *json)
{
    size_t deepest = 0, i;
    const char *key;
    json_t *value;
    if (json_is_array(json)) {
        json_array_foreach(json, i, value)
        {
            size_t depth = json_oracle_depth(value);
            deepest = depth > deepest ? depth : deepest;
        }
        return deepest + 1;
    }
    if (!json_is_object(json))
        return 0;
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        size_t depth = json_oracle_depth(value);
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + 1;
}

/* jansson 2.14 loses a NUL byte behind a number or a word: it puts it back into a buffer that it
 * takes for empty then. */
static inline bool json_oracle_is_lost_nul(const struct json_scan *scan)
{
    return scan->p > scan->start && scan->p < scan->end && *scan->p == '\0' &&
           isalnum((unsigned char)scan->p[-1]);
}

/* NULL where both agree, else what is wrong. */
static inline const char *json_oracle_compare(struct str text)
{
    struct json_scan skipping, walking;
    json_scan_init(&skipping, text);
    json_scan_init(&walking, text);
    bool skipped = json_scan_skip(&skipping, NULL) && json_scan_end(&skipping);
    json_t *ours = json_oracle_walk(&walking);
    bool walked = json_scan_end(&walking);
    const char *wrong = skipped == walked ? NULL : "skipping and walking differ";
    json_error_t error;
    json_t *theirs = json_loadb(text.p, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (theirs != NULL && !walked && !json_oracle_is_lost_nul(&walking) &&
        json_oracle_depth(theirs) <= JSON_SCAN_DEPTH_MAX)
        wrong = "jansson accepts it";
    if (theirs != NULL && walked && !json_equal(ours, theirs))
        wrong = "the values differ";
    if (theirs == NULL && walked) {
        enum json_error_code code = json_error_code(&error);
        if (code != json_error_numeric_overflow && code != json_error_null_byte_in_key)
            wrong = "jansson refuses it";
    }
    json_decref(ours);
    json_decref(theirs);
    return wrong;
}

#endif
