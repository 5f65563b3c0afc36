/* nomad_snapshot_object.c - an object of Nomad's HTTP API made an event of its stream's shape.
 *
 * One pass over the object's members notes where the few stand that matter; the event is then put
 * together from pieces of the text. Nothing is decoded and encoded again, so that 64-bit integers,
 * unknown members and their order stay as Nomad wrote them. */
#include "connectors/nomad/nomad_snapshot_object.h"

#include "bridge/event.h"
#include "connectors/json_scan.h"

enum { MEMORY_KEPT = 1 << 20 };

struct reader {
    struct snapshot_object *object;
    struct json_scan scan;
    struct err *err;
};

void snapshot_object_fini(struct snapshot_object *object)
{
    buf_fini(&object->key);
    buf_fini(&object->ns);
    buf_fini(&object->filter_keys);
    buf_fini(&object->scratch);
    buf_fini(&object->data);
    *object = (struct snapshot_object){0};
}

/* Forgets the last object; gives memory back where that one was huge. */
static void clear(struct snapshot_object *object)
{
    if (object->data.cap + object->scratch.cap > MEMORY_KEPT)
        snapshot_object_fini(object);
    struct snapshot_object kept = *object;
    *object = (struct snapshot_object){.key = kept.key,
                                       .ns = kept.ns,
                                       .filter_keys = kept.filter_keys,
                                       .scratch = kept.scratch,
                                       .data = kept.data};
    buf_clear(&object->key);
    buf_clear(&object->ns);
    buf_clear(&object->filter_keys);
    buf_clear(&object->data);
}

/* ---- reading ---- */

static int wrong(struct reader *r, const char *name, const char *what)
{
    if (r->scan.wrong != NULL)
        return json_scan_fail(&r->scan, r->err);
    return err_set(r->err, ERR_INPUT, "\"%s\" is not %s", name, what);
}

/* null stands for the empty string. */
static int take_string(struct reader *r, const char *name, struct str *raw)
{
    struct json_scan_string string = {.raw = STR("")};
    enum json_scan_type type = json_scan_peek(&r->scan);
    if (type == JSON_SCAN_NULL)
        json_scan_skip(&r->scan, NULL);
    else if (type != JSON_SCAN_STRING || !json_scan_string(&r->scan, &string))
        return wrong(r, name, "a string");
    *raw = string.raw;
    return r->scan.wrong == NULL ? 0 : wrong(r, name, "a string");
}

static int take_index(struct reader *r, const char *name)
{
    uint64_t index;
    if (!json_scan_u64(&r->scan, &index))
        return wrong(r, name, "an unsigned integer");
    if (index > r->object->event.index)
        r->object->event.index = index;
    return 0;
}

static int take_modify_index(struct reader *r)
{
    uint64_t before = r->object->event.index;
    r->object->event.index = 0;
    int rc = take_index(r, "ModifyIndex");
    r->object->modify_index = r->object->event.index;
    if (r->object->event.index < before)
        r->object->event.index = before;
    return rc;
}

static bool is_named(struct reader *r, const struct json_scan_string *name, const char *wanted)
{
    if (!name->escaped)
        return str_is(name->raw, wanted);
    buf_clear(&r->object->scratch);
    json_scan_unescape(&r->object->scratch, name->raw);
    return str_is(buf_str(&r->object->scratch), wanted);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Widens a member's value to all of the member, and the comma that belongs to it. */
static void widen(const struct reader *r, const struct json_scan_string *name, struct str *at)
{
    const char *from = name->raw.p - 1, *end = r->scan.p;
    while (end < r->scan.end && is_blank(*end))
        end++;
    if (end < r->scan.end && *end == ',') {
        end++;
    } else {
        end = r->scan.p;
        while (is_blank(from[-1]))
            from--;
        if (from[-1] == ',')
            from--;
    }
    *at = (struct str){from, (size_t)(end - from)};
}

/* Notes that the value of member `name`, which is next, is to be replaced; NULL: the member is to
 * be left out. */
static int cut(struct reader *r, const struct json_scan_string *name, const char *value)
{
    struct snapshot_object *object = r->object;
    for (size_t i = 0; i < object->n_cuts; i++)
        if (value == NULL && object->cuts[i].value[0] == '\0')
            return err_set(r->err, ERR_INPUT, "a member stands there twice");
    if (object->n_cuts == SNAPSHOT_CUTS_MAX)
        return err_set(r->err, ERR_INPUT, "a member stands there too often");
    struct snapshot_cut *at = &object->cuts[object->n_cuts++];
    at->value = value != NULL ? value : "";
    if (!json_scan_skip(&r->scan, &at->at))
        return wrong(r, "", "a value");
    if (value == NULL)
        widen(r, name, &at->at);
    return 0;
}

/* The members of `outer`, of which one is to be replaced. */
static int cut_within(struct reader *r, const struct snapshot_edit *edit)
{
    struct json_scan_string name;
    if (json_scan_peek(&r->scan) != JSON_SCAN_OBJECT)
        return json_scan_skip(&r->scan, NULL) ? 0 : wrong(r, edit->outer, "a value");
    json_scan_object(&r->scan);
    while (json_scan_member(&r->scan, &name)) {
        if (is_named(r, &name, edit->name)) {
            if (cut(r, &name, edit->value) != 0)
                return -1;
        } else {
            json_scan_skip(&r->scan, NULL);
        }
    }
    return r->scan.wrong == NULL ? 0 : wrong(r, edit->outer, "an object");
}

/* A node's Events have an index of their own, and are not counted in its ModifyIndex. */
static int take_node_events(struct reader *r)
{
    struct json_scan_string name;
    if (json_scan_peek(&r->scan) != JSON_SCAN_ARRAY)
        return json_scan_skip(&r->scan, NULL) ? 0 : wrong(r, "Events", "a value");
    json_scan_array(&r->scan);
    while (json_scan_element(&r->scan)) {
        if (!json_scan_object(&r->scan))
            break;
        while (json_scan_member(&r->scan, &name)) {
            if (!is_named(r, &name, "CreateIndex"))
                json_scan_skip(&r->scan, NULL);
            else if (take_index(r, "CreateIndex") != 0)
                return -1;
        }
    }
    return r->scan.wrong == NULL ? 0 : wrong(r, "Events", "an array of objects");
}

/* 1: it was one of these; 0: another; -1. */
static int take_edited(struct reader *r, const struct json_scan_string *name)
{
    const struct snapshot_edit *edit = r->object->topic->edits;
    for (size_t i = 0; i < SNAPSHOT_EDITS_MAX && edit[i].name != NULL; i++)
        if (is_named(r, name, edit[i].outer != NULL ? edit[i].outer : edit[i].name)) {
            int done =
                edit[i].outer != NULL ? cut_within(r, &edit[i]) : cut(r, name, edit[i].value);
            return done == 0 ? 1 : -1;
        }
    return 0;
}

/* The same. Members may be several of these at once: a key that is a filter key too. */
static int take_text(struct reader *r, const struct json_scan_string *name)
{
    struct snapshot_object *object = r->object;
    struct str *to[SNAPSHOT_FILTER_KEYS_MAX + 3];
    size_t n = 0;
    if (is_named(r, name, object->topic->key))
        to[n++] = &object->key_json;
    if (object->topic->namespaced && is_named(r, name, "Namespace"))
        to[n++] = &object->ns_json;
    if (is_named(r, name, "NodeID"))
        to[n++] = &object->node;
    for (size_t i = 0; i < SNAPSHOT_FILTER_KEYS_MAX && object->topic->filter_keys[i] != NULL; i++)
        if (is_named(r, name, object->topic->filter_keys[i]))
            to[n++] = &object->filter_keys_json[i];
    struct str raw;
    if (n > 0 && take_string(r, object->topic->key, &raw) != 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        *to[i] = raw;
    return n > 0;
}

static int take_member(struct reader *r, const struct json_scan_string *name)
{
    bool late = r->object->topic->index_is_late;
    int taken = take_edited(r, name);
    if (taken == 0)
        taken = take_text(r, name);
    if (taken != 0)
        return taken > 0 ? 0 : -1;
    if (is_named(r, name, "ModifyIndex"))
        return take_modify_index(r);
    if (late && is_named(r, name, "LastAllocUpdateIndex"))
        return take_index(r, "LastAllocUpdateIndex");
    if (late && is_named(r, name, "LastMissedHeartbeatIndex"))
        return take_index(r, "LastMissedHeartbeatIndex");
    if (late && is_named(r, name, "Events"))
        return take_node_events(r);
    return json_scan_skip(&r->scan, NULL) ? 0 : wrong(r, "", "a value");
}

static struct str unescaped(struct buf *to, struct str raw)
{
    json_scan_unescape(to, raw);
    return to->len > 0 ? buf_str(to) : STR("");
}

/* Turns what stands there into what it means. */
static void finish(struct snapshot_object *object)
{
    const struct snapshot_topic *topic = object->topic;
    object->event.topic = str_from(topic->name);
    object->event.type = STR("Snapshot");
    object->event.key = unescaped(&object->key, object->key_json);
    object->event.ns = unescaped(&object->ns, object->ns_json);
    for (size_t i = 0; i < SNAPSHOT_FILTER_KEYS_MAX && topic->filter_keys[i] != NULL; i++) {
        buf_clear(&object->scratch);
        event_pack_filter_key(&object->filter_keys,
                              unescaped(&object->scratch, object->filter_keys_json[i]));
    }
    object->event.filter_keys =
        object->filter_keys.len > 0 ? buf_str(&object->filter_keys) : STR("");
}

int snapshot_object_read(struct snapshot_object *object, const struct snapshot_topic *topic,
                         struct str raw, struct err *err)
{
    struct reader r = {.object = object, .err = err};
    struct json_scan_string name;
    clear(object);
    object->topic = topic;
    object->raw = raw;
    object->ns_json = object->node = STR("");
    for (size_t i = 0; i < SNAPSHOT_FILTER_KEYS_MAX; i++)
        object->filter_keys_json[i] = STR("");
    json_scan_init(&r.scan, raw);
    if (json_scan_peek(&r.scan) != JSON_SCAN_OBJECT)
        return err_set(err, ERR_INPUT, "not an object");
    json_scan_object(&r.scan);
    while (json_scan_member(&r.scan, &name))
        if (take_member(&r, &name) != 0)
            return -1;
    if (!json_scan_end(&r.scan))
        return json_scan_fail(&r.scan, err);
    if (object->key_json.len == 0)
        return err_set(err, ERR_INPUT, "no \"%s\" in it", topic->key);
    finish(object);
    return 0;
}

/* ---- the event ---- */

static void append_object(struct buf *out, const struct snapshot_object *object)
{
    const char *from = object->raw.p, *end = object->raw.p + object->raw.len;
    for (size_t i = 0; i < object->n_cuts; i++) {
        const struct snapshot_cut *at = &object->cuts[i];
        buf_append(out, from, (size_t)(at->at.p - from));
        buf_append_cstr(out, at->value);
        from = at->at.p + at->at.len;
    }
    buf_append(out, from, (size_t)(end - from));
}

static void append_quoted(struct buf *out, struct str raw)
{
    buf_append_char(out, '"');
    buf_append_str(out, raw);
    buf_append_char(out, '"');
}

static void append_filter_keys(struct buf *out, const struct snapshot_object *object)
{
    const char *const *names = object->topic->filter_keys;
    if (names[0] == NULL) {
        buf_append_cstr(out, "null");
        return;
    }
    for (size_t i = 0; i < SNAPSHOT_FILTER_KEYS_MAX && names[i] != NULL; i++) {
        buf_append_char(out, i == 0 ? '[' : ',');
        append_quoted(out, object->filter_keys_json[i]);
    }
    buf_append_char(out, ']');
}

void snapshot_object_event_of(struct snapshot_object *object, const char *type)
{
    struct buf *out = &object->data;
    buf_clear(out);
    buf_append_cstr(out, "{\"FilterKeys\":");
    append_filter_keys(out, object);
    buf_append_cstr(out, ",\"Index\":");
    buf_append_u64(out, object->event.index);
    buf_append_cstr(out, ",\"Key\":");
    append_quoted(out, object->key_json);
    buf_append_cstr(out, ",\"Namespace\":");
    append_quoted(out, object->ns_json);
    buf_append_cstr(out, ",\"Payload\":");
    buf_append_cstr(out, object->topic->before);
    append_object(out, object);
    buf_append_cstr(out, "},\"Topic\":\"");
    buf_append_cstr(out, object->topic->name);
    buf_append_cstr(out, "\",\"Type\":\"");
    buf_append_cstr(out, type);
    buf_append_cstr(out, "\"}");
    object->event.type = str_from(type);
    object->event.data = buf_str(out);
}

void snapshot_object_event(struct snapshot_object *object)
{
    snapshot_object_event_of(object, "Snapshot");
}
