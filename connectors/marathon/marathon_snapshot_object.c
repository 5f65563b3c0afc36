/* marathon_snapshot_object.c - an object of Marathon's HTTP API made a Snapshot. */
#include "connectors/marathon/marathon_snapshot_object.h"

#include "bridge/base/clock.h"
#include "connectors/json_scan.h"

#include <stdlib.h>

enum { MEMORY_KEPT = 1 << 20, GROUPS_MAX = 1 << 20 };

static const int64_t clock_ahead_max_us = INT64_C(86400) * 1000000;

/* Pods last: they are what an old Marathon has not, and that is then said once. The members that
 * are embedded in one app unasked are asked for in the list too, so that both look the same. */
const struct marathon_topic marathon_topics[] = {
    {.name = "App",
     .member = "appDefinition",
     .version = "version",
     .list = "/v2/apps?embed=apps.tasks&embed=apps.counts&embed=apps.deployments"
             "&embed=apps.lastTaskFailure",
     .array = "apps",
     .one = "/v2/apps",
     .one_after = "?embed=app.tasks&embed=app.counts&embed=app.deployments"
                  "&embed=app.lastTaskFailure",
     .one_member = "app"},
    {.name = "Deployment", .member = "plan", .version = "version", .list = "/v2/deployments"},
    {.name = "Group",
     .member = "group",
     .version = "version",
     .list = "/v2/groups?embed=group.groups",
     .array = "",
     .one = "/v2/groups",
     .one_after = "?embed=group.groups"},
    {.name = "Pod",
     .member = "pod",
     .version = "lastChanged",
     .list = "/v2/pods::status",
     .list_too = "/v2/pods/::status",
     .one = "/v2/pods",
     .one_after = "::status"},
    {.name = NULL},
};

void marathon_object_fini(struct marathon_object *o)
{
    buf_fini(&o->key);
    buf_fini(&o->scratch);
    buf_fini(&o->data);
    *o = (struct marathon_object){0};
}

static void clear(struct marathon_object *o)
{
    if (o->data.cap > MEMORY_KEPT)
        buf_fini(&o->data);
    buf_clear(&o->key);
    buf_clear(&o->data);
    o->event = (struct found_event){.topic = STR("")};
}

/* ---- reading ---- */

static int fail(struct json_scan *scan, struct err *err)
{
    json_scan_fail(scan, err);
    err->kind = ERR_RETRY;
    return err_wrap(err, "not JSON");
}

static bool is_named(struct buf *scratch, const struct json_scan_string *name, const char *wanted)
{
    if (!name->escaped)
        return str_is(name->raw, wanted);
    buf_clear(scratch);
    json_scan_unescape(scratch, name->raw);
    return str_is(buf_str(scratch), wanted);
}

/* The string that is next, unescaped into `to`; left empty where it is something else. */
static struct str take_string(struct json_scan *scan, struct buf *to)
{
    struct json_scan_string string = {.raw = STR("")};
    buf_clear(to);
    if (json_scan_peek(scan) == JSON_SCAN_STRING)
        json_scan_string(scan, &string);
    else
        json_scan_skip(scan, NULL);
    json_scan_unescape(to, string.raw);
    return to->len > 0 ? buf_str(to) : STR("");
}

/* As the stream's: what is far ahead of this machine's clock counts as none. */
static uint64_t index_of(struct str version)
{
    int64_t us;
    if (!clock_parse(version, &us) || us < 0 || us > clock_wall_us() + clock_ahead_max_us)
        return 0;
    return (uint64_t)us / 1000;
}

int marathon_object_read(struct marathon_object *o, const struct marathon_topic *topic,
                         struct str raw, struct err *err)
{
    struct json_scan scan;
    struct json_scan_string name;
    clear(o);
    o->topic = topic;
    o->raw = raw;
    json_scan_init(&scan, raw);
    bool is_object = json_scan_peek(&scan) == JSON_SCAN_OBJECT;
    if (!is_object)
        json_scan_skip(&scan, NULL);
    else
        json_scan_object(&scan);
    while (is_object && json_scan_member(&scan, &name)) {
        if (is_named(&o->scratch, &name, "id"))
            o->event.key = take_string(&scan, &o->key);
        else if (is_named(&o->scratch, &name, topic->version))
            o->event.index = index_of(take_string(&scan, &o->scratch));
        else
            json_scan_skip(&scan, NULL);
    }
    if (!json_scan_end(&scan))
        return fail(&scan, err);
    if (o->event.key.len == 0)
        return err_set(err, ERR_INPUT, "%s", is_object ? "no \"id\" in it" : "not an object");
    o->event.topic = str_from(topic->name);
    o->event.type = STR("Snapshot");
    o->event.ns = o->event.filter_keys = STR("");
    return 0;
}

/* ---- groups ---- */

static bool is_of_members(struct buf *scratch, const struct json_scan_string *name)
{
    return is_named(scratch, name, "groups") || is_named(scratch, name, "apps") ||
           is_named(scratch, name, "pods");
}

/* The object that is next: only its id. */
static void append_id(struct marathon_object *o, struct json_scan *scan)
{
    struct json_scan_string name;
    struct str id = STR("null");
    if (json_scan_peek(scan) != JSON_SCAN_OBJECT) {
        json_scan_skip(scan, &id);
        buf_append_str(&o->data, id);
        return;
    }
    json_scan_object(scan);
    while (json_scan_member(scan, &name))
        json_scan_skip(scan, is_named(&o->scratch, &name, "id") ? &id : NULL);
    buf_append_cstr(&o->data, "{\"id\":");
    buf_append_str(&o->data, id);
    buf_append_char(&o->data, '}');
}

static void append_ids(struct marathon_object *o, struct json_scan *scan)
{
    bool first = true;
    buf_append_char(&o->data, '[');
    json_scan_array(scan);
    while (json_scan_element(scan)) {
        if (!first)
            buf_append_char(&o->data, ',');
        first = false;
        append_id(o, scan);
    }
    buf_append_char(&o->data, ']');
}

/* The bytes of the group, but for the lists of its members. It was read before, so it is JSON. */
static void append_group(struct marathon_object *o)
{
    struct json_scan scan;
    struct json_scan_string name;
    const char *from = o->raw.p;
    json_scan_init(&scan, o->raw);
    json_scan_object(&scan);
    while (json_scan_member(&scan, &name)) {
        if (!is_of_members(&o->scratch, &name) || json_scan_peek(&scan) != JSON_SCAN_ARRAY) {
            json_scan_skip(&scan, NULL);
            continue;
        }
        buf_append(&o->data, from, (size_t)(scan.p - from));
        append_ids(o, &scan);
        from = scan.p;
    }
    buf_append(&o->data, from, (size_t)(o->raw.p + o->raw.len - from));
}

/* ---- the event ---- */

static bool is_tree(const struct marathon_topic *topic)
{
    return topic->array != NULL && *topic->array == '\0';
}

void marathon_object_event(struct marathon_object *o, int64_t asked_us)
{
    char text[CLOCK_TEXT_MAX];
    asked_us -= asked_us % 1000; /* as Marathon's have it: milliseconds */
    clock_format(asked_us, text);
    buf_clear(&o->data);
    buf_printf(&o->data, "{\"%s\":", o->topic->member);
    if (is_tree(o->topic))
        append_group(o);
    else
        buf_append_str(&o->data, o->raw);
    buf_printf(&o->data, ",\"eventType\":\"Snapshot\",\"timestamp\":\"%s\"}", text);
    o->event.time_us = asked_us;
    o->event.data = buf_str(&o->data);
}

/* ---- finding objects ---- */

struct groups {
    struct str *items;
    size_t n, cap;
};

static void push(struct groups *groups, struct str group)
{
    if (groups->n == groups->cap) {
        groups->cap += groups->cap / 2 + 16;
        groups->items = mem_realloc(groups->items, groups->cap * sizeof *groups->items);
    }
    groups->items[groups->n++] = group;
}

/* Adds those in the member "groups". */
static int push_children(struct groups *groups, struct str group, struct err *err)
{
    struct json_scan scan;
    struct json_scan_string name;
    struct str child;
    json_scan_init(&scan, group);
    if (json_scan_peek(&scan) != JSON_SCAN_OBJECT)
        return err_set(err, ERR_RETRY, "not a group");
    json_scan_object(&scan);
    while (json_scan_member(&scan, &name)) {
        if (!str_is(name.raw, "groups") || json_scan_peek(&scan) != JSON_SCAN_ARRAY) {
            json_scan_skip(&scan, NULL);
            continue;
        }
        json_scan_array(&scan);
        while (json_scan_element(&scan) && json_scan_skip(&scan, &child))
            push(groups, child);
    }
    if (!json_scan_end(&scan))
        return fail(&scan, err);
    return groups->n <= GROUPS_MAX ? 0 : err_set(err, ERR_RETRY, "more than %d groups", GROUPS_MAX);
}

int marathon_groups_walk(struct str tree, int (*take)(void *arg, struct str group, struct err *err),
                         void *arg, struct err *err)
{
    struct groups groups = {.items = NULL};
    int rc = 0;
    push(&groups, tree);
    for (size_t i = 0; i < groups.n && rc == 0; i++) {
        rc = push_children(&groups, groups.items[i], err);
        if (rc == 0)
            rc = take(arg, groups.items[i], err);
    }
    free(groups.items);
    return rc;
}

int marathon_member(struct str text, const char *member, struct str *value, struct err *err)
{
    struct json_scan scan;
    struct json_scan_string name;
    bool found = false;
    json_scan_init(&scan, text);
    if (json_scan_peek(&scan) != JSON_SCAN_OBJECT)
        return err_set(err, ERR_RETRY, "not an object with \"%s\"", member);
    json_scan_object(&scan);
    while (json_scan_member(&scan, &name)) {
        bool is_it = str_is(name.raw, member);
        json_scan_skip(&scan, is_it ? value : NULL);
        found = found || is_it;
    }
    if (!json_scan_end(&scan))
        return fail(&scan, err);
    return found ? 0 : err_set(err, ERR_RETRY, "not an object with \"%s\"", member);
}
