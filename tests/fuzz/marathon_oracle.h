/* marathon_oracle.h - holds marathon_event_read against jansson's tree of the same event, and
 * against the table of topics and keys written down a second time, as text. */
#ifndef BUSBAR_TESTS_MARATHON_ORACLE_H
#define BUSBAR_TESTS_MARATHON_ORACLE_H

#include "connectors/json_scan.h"
#include "connectors/marathon_event.h"

#include <jansson.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* topic, types, where the key stands: first of those that are there */
static const char *const marathon_oracle_table[][3] = {
    {"App", "api_post_event app_terminated_event", "appDefinition.id appId"},
    {"Pod", "pod_created_event pod_updated_event pod_deleted_event", "uri"},
    {"Task", "status_update_event unhealthy_task_kill_event unknown_task_terminated_event",
     "appId runSpecId"},
    {"Instance",
     "instance_changed_event instance_health_changed_event unknown_instance_terminated_event "
     "unhealthy_instance_kill_event",
     "runSpecId appId"},
    {"HealthCheck",
     "add_health_check_event remove_health_check_event failed_health_check_event "
     "health_status_changed_event",
     "appId"},
    {"Deployment",
     "deployment_info deployment_success deployment_failed deployment_step_success "
     "deployment_step_failure",
     "plan.id id"},
    {"Group", "group_change_success group_change_failed", "groupId"},
    {"Scheduler",
     "scheduler_registered_event scheduler_reregistered_event scheduler_disconnected_event",
     "frameworkId"},
    {"FrameworkMessage", "framework_message_event", "executorId"},
    {"Subscription",
     "subscribe_event unsubscribe_event event_stream_attached event_stream_detached",
     "callbackUrl remoteAddress"},
    {"Other", "", "appId runSpecId groupId id"},
};
enum { MARATHON_ORACLE_OTHER = sizeof marathon_oracle_table / sizeof *marathon_oracle_table - 1 };

static inline struct str marathon_oracle_text(const json_t *string)
{
    return json_is_string(string)
               ? (struct str){json_string_value(string), json_string_length(string)}
               : STR("");
}

/* Takes the next of several words apart by spaces; false where there is none. */
static inline bool marathon_oracle_word(const char **words, struct str *word)
{
    *words += strspn(*words, " ");
    *word = (struct str){*words, strcspn(*words, " ")};
    *words += word->len;
    return word->len > 0;
}

static inline size_t marathon_oracle_row(struct str type)
{
    for (size_t i = 0; i < MARATHON_ORACLE_OTHER; i++) {
        const char *types = marathon_oracle_table[i][1];
        struct str word;
        while (marathon_oracle_word(&types, &word))
            if (str_eq(word, type))
                return i;
    }
    return MARATHON_ORACLE_OTHER;
}

/* The key of a pod's uri, into `key`: character by character. */
static inline struct str marathon_oracle_pod(struct str uri, struct buf *key)
{
    size_t at = 0;
    buf_clear(key);
    while (at + 8 <= uri.len && memcmp(uri.p + at, "/v2/pods", 8) != 0)
        at++;
    for (at += 8; at < uri.len && uri.p[at] != '?' && uri.p[at] != '#'; at++) {
        if (key->len == 0 && uri.p[at] != '/')
            break;
        if (uri.p[at] == ':' && at + 1 < uri.len && uri.p[at + 1] == ':')
            break;
        if (key->len != 1 || uri.p[at] != '/')
            buf_append_char(key, uri.p[at]);
    }
    while (key->len > 0 && key->p[key->len - 1] == '/')
        key->len--;
    return buf_str(key);
}

static inline struct str marathon_oracle_key(const json_t *tree, size_t row, struct buf *pod)
{
    const char *paths = marathon_oracle_table[row][2];
    struct str path;
    while (marathon_oracle_word(&paths, &path)) {
        const char *dot = memchr(path.p, '.', path.len);
        size_t outer = dot != NULL ? (size_t)(dot - path.p) : path.len;
        const json_t *value = json_object_getn(tree, path.p, outer);
        if (dot != NULL)
            value = json_object_get(value, "id");
        struct str text = marathon_oracle_text(value);
        if (str_is(path, "uri"))
            text = marathon_oracle_pod(text, pod);
        if (text.len > 0)
            return text;
    }
    return STR("");
}

/* Marathon's own spelling of a time, yyyy-MM-ddTHH:mm:ss.SSSZ, to ms; -1 where it is another. */
static inline int64_t marathon_oracle_ms(struct str time)
{
    const char *shape = "0000-00-00T00:00:00.000Z";
    char text[25] = {0};
    int y, mo, d, h, mi, s, ms;
    if (time.len != 24)
        return -1;
    for (size_t i = 0; i < 24; i++)
        if (shape[i] == '0' ? time.p[i] < '0' || time.p[i] > '9' : time.p[i] != shape[i])
            return -1;
    memcpy(text, time.p, 24);
    sscanf(text, "%d-%d-%dT%d:%d:%d.%dZ", &y, &mo, &d, &h, &mi, &s, &ms);
    if (mo < 1 || mo > 12 || d < 1 || d > 28 || h > 23 || mi > 59 || s > 59 || y < 1971 || y > 2025)
        return -1;
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int64_t days = (int64_t)(y - 1970) * 365 + (y - 1969) / 4 - (y - 1901) / 100 +
                   (y - 1601) / 400 + before[mo - 1] + d - 1;
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    days += leap && mo > 2;
    return (((days * 24 + h) * 60 + mi) * 60 + s) * 1000 + ms;
}

static inline const char *marathon_oracle_tree(const json_t *tree, const struct found_event *found,
                                               struct str named, struct str data)
{
    struct str type =
        named.len > 0 ? named : marathon_oracle_text(json_object_get(tree, "eventType"));
    struct str time = marathon_oracle_text(json_object_get(tree, "timestamp"));
    size_t row = marathon_oracle_row(type);
    int64_t ms = marathon_oracle_ms(time);
    struct buf pod = {0};
    const char *wrong = NULL;
    if (!str_eq(found->type, type))
        wrong = "type";
    else if (!str_is(found->topic, marathon_oracle_table[row][0]))
        wrong = "topic";
    else if (!str_eq(found->key, marathon_oracle_key(tree, row, &pod)))
        wrong = "key";
    else if (found->data.p != data.p || found->data.len != data.len)
        wrong = "data";
    else if (ms >= 0 ? found->index != (uint64_t)ms || found->time_us != ms * 1000
                     : (uint64_t)found->time_us / 1000 != found->index)
        wrong = "time";
    else if (time.len == 0 && found->time_us != 0)
        wrong = "a time from nowhere";
    else if (found->ns.p == NULL || found->filter_keys.p == NULL || found->ns.len > 0 ||
             found->filter_keys.len > 0)
        wrong = "namespace";
    buf_fini(&pod);
    return wrong;
}

/* Whether a type that was refused beside a whole object is one that may be. */
static inline bool marathon_oracle_refuses(const json_t *tree, struct str named)
{
    struct str told = marathon_oracle_text(json_object_get(tree, "eventType"));
    bool plain = true;
    for (size_t i = 0; i < named.len; i++)
        plain = plain && named.p[i] >= 0x20 && named.p[i] < 0x7f;
    return named.len == 0 ? told.len == 0 : !plain && !str_eq(named, told);
}

static inline const char *marathon_oracle_verdict(const json_t *tree, enum json_error_code code,
                                                  struct str named, struct str data, bool read)
{
    struct json_scan scan;
    json_scan_init(&scan, data);
    bool valid = json_scan_skip(&scan, NULL) && json_scan_end(&scan);
    if (read && tree == NULL)
        return code == json_error_numeric_overflow || code == json_error_null_byte_in_key
                   ? NULL
                   : "jansson refuses it";
    if (read)
        return json_is_object(tree) ? NULL : "not an object";
    /* What json_scan refuses where jansson does not is json_oracle.h's to judge. */
    if (tree == NULL || !valid || !json_is_object(tree))
        return NULL;
    return marathon_oracle_refuses(tree, named) ? NULL : "jansson accepts it";
}

/* NULL where `found` (NULL: nothing, it was refused) is what jansson and the table say; else what
 * differs. json_scan.h names where jansson can't be asked. */
static inline const char *marathon_oracle_compare(const struct found_event *found, struct str named,
                                                  struct str data)
{
    json_error_t error = {0};
    json_t *tree = json_loadb(data.p, data.len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    const char *wrong = marathon_oracle_verdict(tree, tree != NULL ? 0 : json_error_code(&error),
                                                named, data, found != NULL);
    if (wrong == NULL && found != NULL && tree != NULL)
        wrong = marathon_oracle_tree(tree, found, named, data);
    json_decref(tree);
    return wrong;
}

#endif
