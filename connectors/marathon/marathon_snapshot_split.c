/* marathon_snapshot_split.c - takes the array of an answer apart while the answer arrives. */
#include "connectors/marathon/marathon_snapshot_split.h"

#include "connectors/json_scan.h"

void marathon_split_init(struct marathon_split *s, const char *member, size_t element_max)
{
    *s = (struct marathon_split){.member = member};
    bounded_init(&s->element, element_max);
}

void marathon_split_fini(struct marathon_split *s)
{
    bounded_fini(&s->element);
    buf_fini(&s->outer);
    buf_fini(&s->name);
}

/* ---- elements ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct str trimmed(const struct buf *b)
{
    struct str s = b->len > 0 ? buf_str(b) : STR("");
    while (s.len > 0 && is_blank(s.p[0]))
        s.p++, s.len--;
    while (s.len > 0 && is_blank(s.p[s.len - 1]))
        s.len--;
    return s;
}

/* `more`: a comma stands behind it. */
static int end_element(struct marathon_split *s, bool more, struct err *err)
{
    struct str text = trimmed(&s->element.bytes);
    int rc = 0;
    if (text.len == 0 && !s->element.cut) {
        s->broken = s->broken || more || s->elements > 0;
    } else {
        if (s->elements++ == 0)
            buf_append_char(&s->outer, '0');
        if (s->element.cut)
            s->too_long++;
        else
            rc = s->take(s->arg, text, err);
    }
    bounded_clear(&s->element);
    return rc;
}

/* A byte of the array's own: not within an element's brackets or quotes. */
static int take_separator(struct marathon_split *s, char c, struct err *err)
{
    if (end_element(s, c == ',', err) != 0)
        return -1;
    if (c == ',')
        return 0;
    s->broken = s->broken || c == '}';
    s->in_array = false;
    s->depth--;
    buf_append_char(&s->outer, c);
    return 0;
}

/* ---- the text around them ---- */

static bool is_the_array(const struct marathon_split *s)
{
    if (s->has_array)
        return false;
    if (s->member == NULL)
        return s->depth == 0;
    return s->depth == 1 && s->after_name && str_is(buf_str(&s->name), s->member);
}

static void open_bracket(struct marathon_split *s, char c)
{
    if (c == '[' && is_the_array(s)) {
        s->in_array = s->has_array = true;
        s->array_depth = s->depth + 1;
    }
    s->depth++;
}

static void take_outer(struct marathon_split *s, char c)
{
    if (s->in_string) {
        if (s->depth == 1 && !s->after_name && (c != '"' || s->escaped))
            buf_append_char(&s->name, c);
    } else if (s->depth == 1) {
        if (c == '"' && !s->after_name)
            buf_clear(&s->name);
        else if (c == ':' || c == ',')
            s->after_name = c == ':';
    }
    buf_append_char(&s->outer, c);
}

/* ---- both ---- */

static void note_string(struct marathon_split *s, char c)
{
    if (s->escaped)
        s->escaped = false;
    else if (c == '\\')
        s->escaped = true;
    else
        s->in_string = c != '"';
}

/* Brackets and quotes; true where the byte is the array's own. */
static bool is_separator(const struct marathon_split *s, char c)
{
    return s->in_array && s->depth == s->array_depth && !s->in_string &&
           (c == ',' || c == ']' || c == '}');
}

static void note_byte(struct marathon_split *s, char c)
{
    if (s->in_string)
        note_string(s, c);
    else if (c == '"')
        s->in_string = true;
    else if (c == '[' || c == '{')
        open_bracket(s, c);
    else if ((c == ']' || c == '}') && s->depth > 0)
        s->depth--;
}

/* Up to where an element goes on; all of it was noted. */
static size_t take_run(struct marathon_split *s, struct str bytes)
{
    size_t i = 0;
    while (i < bytes.len && !is_separator(s, bytes.p[i]))
        note_byte(s, bytes.p[i++]);
    if (i > 0)
        bounded_append(&s->element, (struct str){bytes.p, i});
    return i;
}

static int feed(struct marathon_split *s, struct str bytes, struct err *err)
{
    for (size_t i = 0; i < bytes.len && !s->broken;) {
        if (!s->in_array) {
            if (s->outer.len >= MARATHON_SPLIT_OUTER_MAX)
                return err_set(err, ERR_RETRY, "more than %d bytes around what was asked for",
                               MARATHON_SPLIT_OUTER_MAX);
            take_outer(s, bytes.p[i]);
            note_byte(s, bytes.p[i++]);
            continue;
        }
        i += take_run(s, (struct str){bytes.p + i, bytes.len - i});
        if (i < bytes.len && take_separator(s, bytes.p[i++], err) != 0)
            return -1;
    }
    return 0;
}

static int fail_broken(struct err *err)
{
    return err_set(err, ERR_RETRY, "not JSON: elements and commas don't fit");
}

int marathon_split_feed(struct marathon_split *s, struct str bytes, struct err *err)
{
    if (feed(s, bytes, err) != 0)
        return -1;
    return s->broken ? fail_broken(err) : 0;
}

int marathon_split_end(struct marathon_split *s, struct err *err)
{
    struct json_scan scan;
    if (s->in_array)
        return err_set(err, ERR_RETRY, "it ends in the middle of a list");
    json_scan_init(&scan, s->outer.len > 0 ? buf_str(&s->outer) : STR(""));
    json_scan_skip(&scan, NULL);
    if (!json_scan_end(&scan)) {
        json_scan_fail(&scan, err);
        err->kind = ERR_RETRY;
        return err_wrap(err, "not JSON");
    }
    if (!s->has_array && s->member != NULL)
        return err_set(err, ERR_RETRY, "not an object with a list \"%s\"", s->member);
    return s->has_array ? 0 : err_set(err, ERR_RETRY, "not a list");
}
