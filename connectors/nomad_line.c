/* nomad_line.c - reads one line of Nomad's event stream without building a tree.
 *
 * Strings are views into the raw line wherever they stand there as they are. The few that need
 * unescaping, and the packed FilterKeys, go into one buffer whose room is reserved before the first
 * of them, so that it never moves under a view: a string's value is never longer than its text, and
 * n filter keys of L bytes stand in L + 3n + 1 bytes of the line at least and take L + 4n packed.
 */
#include "connectors/nomad_line.h"

#include "connectors/json_scan.h"

#include <assert.h>
#include <stdlib.h>

enum { MEMORY_KEPT = 4 << 20, EVENTS_FIRST = 16 };

/* One line being read. */
struct reader {
    struct nomad_line *line;
    struct json_scan scan;
    struct err *err;
};

void nomad_line_init(struct nomad_line *line)
{
    *line = (struct nomad_line){0};
}

void nomad_line_fini(struct nomad_line *line)
{
    free(line->events);
    buf_fini(&line->text);
    buf_fini(&line->scratch);
    nomad_line_init(line);
}

/* Forgets the last line; gives memory back where that one was huge. */
static void clear(struct nomad_line *line)
{
    size_t bytes = line->text.cap + line->scratch.cap + line->events_cap * sizeof *line->events;
    if (bytes > MEMORY_KEPT)
        nomad_line_fini(line);
    line->heartbeat = line->not_json = false;
    line->index = 0;
    line->n_events = 0;
    buf_clear(&line->text);
}

static struct found_event *add_event(struct nomad_line *line)
{
    if (line->n_events == line->events_cap) {
        line->events_cap = line->events_cap > 0 ? line->events_cap * 2 : EVENTS_FIRST;
        line->events = mem_realloc(line->events, line->events_cap * sizeof *line->events);
    }
    struct found_event *event = &line->events[line->n_events++];
    *event = (struct found_event){.ns = STR(""), .filter_keys = STR("")};
    return event;
}

static int wrong_json(struct reader *r)
{
    return json_scan_fail(&r->scan, r->err);
}

/* The value at the cursor is not what it should be: or not even JSON. */
static int wrong_type(struct reader *r, const char *name, const char *what)
{
    if (r->scan.wrong != NULL)
        return wrong_json(r);
    return err_set(r->err, ERR_INPUT, "\"%s\" is not %s", name, what);
}

static int skip(struct reader *r)
{
    return json_scan_skip(&r->scan, NULL) ? 0 : wrong_json(r);
}

/* The value of a string just read; stays where it is, or goes behind what `room` holds. */
static struct str value_of(const struct json_scan_string *string, struct buf *room)
{
    if (!string->escaped)
        return string->raw;
    size_t from = room->len;
    json_scan_unescape(room, string->raw);
    return (struct str){room->p + from, room->len - from};
}

/* A member's name; valid until the next one is read. */
static struct str name_of(struct reader *r, const struct json_scan_string *name)
{
    buf_clear(&r->line->scratch);
    return value_of(name, &r->line->scratch);
}

static int take_string(struct reader *r, const char *name, struct str *out)
{
    struct json_scan_string string;
    if (json_scan_peek(&r->scan) != JSON_SCAN_STRING)
        return wrong_type(r, name, "a string");
    if (!json_scan_string(&r->scan, &string))
        return wrong_json(r);
    *out = value_of(&string, &r->line->text);
    return 0;
}

static int take_namespace(struct reader *r, struct str *out)
{
    if (json_scan_peek(&r->scan) != JSON_SCAN_NULL)
        return take_string(r, "Namespace", out);
    *out = STR("");
    return skip(r);
}

static int take_index(struct reader *r, uint64_t *out)
{
    if (!json_scan_u64(&r->scan, out))
        return wrong_type(r, "Index", "an unsigned integer");
    return 0;
}

static int take_filter_keys(struct reader *r, struct str *out)
{
    struct buf *text = &r->line->text;
    *out = STR("");
    enum json_scan_type type = json_scan_peek(&r->scan);
    if (type == JSON_SCAN_NULL)
        return skip(r);
    if (type != JSON_SCAN_ARRAY)
        return wrong_type(r, "FilterKeys", "an array of strings");
    json_scan_array(&r->scan);
    size_t from = text->len;
    while (json_scan_element(&r->scan)) {
        struct json_scan_string key;
        if (json_scan_peek(&r->scan) != JSON_SCAN_STRING)
            return wrong_type(r, "FilterKeys", "an array of strings");
        if (!json_scan_string(&r->scan, &key))
            return wrong_json(r);
        buf_clear(&r->line->scratch);
        event_pack_filter_key(text, value_of(&key, &r->line->scratch));
    }
    *out = (struct str){text->p + from, text->len - from};
    return r->scan.wrong == NULL ? 0 : wrong_json(r);
}

static int take_member(struct reader *r, struct found_event *event, struct str name,
                       bool *has_index)
{
    if (str_eq(name, STR("Topic")))
        return take_string(r, "Topic", &event->topic);
    if (str_eq(name, STR("Type")))
        return take_string(r, "Type", &event->type);
    if (str_eq(name, STR("Key")))
        return take_string(r, "Key", &event->key);
    if (str_eq(name, STR("Namespace")))
        return take_namespace(r, &event->ns);
    if (str_eq(name, STR("FilterKeys")))
        return take_filter_keys(r, &event->filter_keys);
    if (str_eq(name, STR("Index"))) {
        *has_index = true;
        return take_index(r, &event->index);
    }
    return skip(r);
}

/* The cursor is at an event's opening bracket. */
static int take_event(struct reader *r, struct found_event *event)
{
    struct json_scan *scan = &r->scan;
    struct json_scan_string name;
    bool has_index = false;
    if (json_scan_peek(scan) != JSON_SCAN_OBJECT)
        return scan->wrong != NULL ? wrong_json(r) : err_set(r->err, ERR_INPUT, "not an object");
    const char *from = scan->p;
    json_scan_object(scan);
    while (json_scan_member(scan, &name))
        if (take_member(r, event, name_of(r, &name), &has_index) < 0)
            return -1;
    if (scan->wrong != NULL)
        return wrong_json(r);
    event->data = (struct str){from, (size_t)(scan->p - from)};
    const char *missing = event->topic.p == NULL  ? "Topic"
                          : event->type.p == NULL ? "Type"
                          : event->key.p == NULL  ? "Key"
                          : !has_index            ? "Index"
                                                  : NULL;
    if (missing != NULL)
        return err_set(r->err, ERR_INPUT, "\"%s\" is missing", missing);
    return 0;
}

static int take_events(struct reader *r)
{
    struct nomad_line *line = r->line;
    if (line->n_events > 0)
        return err_set(r->err, ERR_INPUT, "\"Events\" stands twice");
    enum json_scan_type type = json_scan_peek(&r->scan);
    if (type == JSON_SCAN_NULL)
        return skip(r);
    if (type != JSON_SCAN_ARRAY)
        return wrong_type(r, "Events", "an array");
    json_scan_array(&r->scan);
    while (json_scan_element(&r->scan)) {
        struct found_event *event = add_event(line);
        if (take_event(r, event) < 0)
            return err_wrap(r->err, "event %zu", line->n_events);
    }
    return r->scan.wrong == NULL ? 0 : wrong_json(r);
}

/* The cursor is at the line's opening bracket. */
static int take_line(struct reader *r)
{
    struct json_scan_string string;
    bool known = false, unknown = false, has_index = false;
    json_scan_object(&r->scan);
    while (json_scan_member(&r->scan, &string)) {
        struct str name = name_of(r, &string);
        bool is_index = str_eq(name, STR("Index")), is_events = str_eq(name, STR("Events"));
        int got = is_index ? take_index(r, &r->line->index) : is_events ? take_events(r) : skip(r);
        if (got < 0)
            return -1;
        has_index |= is_index;
        known |= is_index || is_events;
        unknown |= !is_index && !is_events;
    }
    if (!json_scan_end(&r->scan))
        return wrong_json(r);
    if (unknown && !known)
        return err_set(r->err, ERR_INPUT, "neither \"Events\" nor \"Index\" in it");
    if (!has_index && r->line->n_events > 0)
        r->line->index = r->line->events[r->line->n_events - 1].index;
    r->line->heartbeat = r->line->n_events == 0 && r->line->index == 0;
    return 0;
}

static int read_line(struct reader *r)
{
    if (json_scan_peek(&r->scan) == JSON_SCAN_OBJECT)
        return take_line(r);
    if (r->scan.p == r->scan.end) {
        r->scan.wrong = NULL; /* nothing but whitespace: nothing said, nothing wrong */
        return 0;
    }
    if (!json_scan_skip(&r->scan, NULL) || !json_scan_end(&r->scan))
        return wrong_json(r);
    return err_set(r->err, ERR_INPUT, "not an object");
}

int nomad_line_parse(struct nomad_line *line, struct str raw, struct err *err)
{
    clear(line);
    const char *room = buf_reserve(&line->text, raw.len + raw.len / 2);
    struct reader r = {.line = line, .err = err};
    json_scan_init(&r.scan, raw);
    int got = read_line(&r);
    assert(line->text.p == room);
    (void)room;
    if (got < 0) {
        line->not_json = r.scan.wrong != NULL;
        line->index = 0;
        line->n_events = 0;
    }
    return got;
}
