/* sse.c - finds the events in a text/event-stream that comes in chunks of any size.
 *
 * Two steps: next_line finds lines, whole within the chunk or assembled in `line`; take_line puts
 * their fields into the event. The first data line of an event stays a view into the chunk; when
 * the chunk is through (keep_view) or a second one comes, it moves to `data`. */
#include "connectors/sse.h"

#include <assert.h>
#include <string.h>

void sse_init(struct sse *framer, size_t event_max)
{
    if (event_max == 0)
        event_max = SSE_EVENT_MAX;
    *framer = (struct sse){.retry_ms = UINT64_MAX};
    bounded_init(&framer->line, event_max);
    bounded_init(&framer->data, event_max);
    bounded_init(&framer->type, SSE_NAME_MAX);
    bounded_init(&framer->id, SSE_NAME_MAX);
}

void sse_fini(struct sse *framer)
{
    bounded_fini(&framer->line);
    bounded_fini(&framer->data);
    bounded_fini(&framer->type);
    bounded_fini(&framer->id);
    framer->p = framer->end = framer->lf = NULL;
}

/* Begins a new event. */
static void clear_event(struct sse *framer)
{
    bounded_clear(&framer->data);
    bounded_clear(&framer->type);
    framer->view = (struct str){0};
    framer->n_data = 0;
    framer->type_cut = false;
    framer->given = false;
}

void sse_reset(struct sse *framer)
{
    clear_event(framer);
    bounded_clear(&framer->line);
    bounded_clear(&framer->id);
    framer->p = framer->end = framer->lf = NULL;
    framer->after_cr = framer->began = framer->line_taken = false;
}

/* Looked for once per LF, not once per line: lines may end in CR alone. */
static void find_lf(struct sse *framer)
{
    const char *lf = memchr(framer->p, '\n', (size_t)(framer->end - framer->p));
    framer->lf = lf != NULL ? lf : framer->end;
}

void sse_push(struct sse *framer, struct str chunk)
{
    assert(framer->p == framer->end);
    if (chunk.len == 0)
        return;
    framer->p = chunk.p;
    framer->end = chunk.p + chunk.len;
    find_lf(framer);
}

/* Moves behind a LF that is the second half of a CRLF. */
static void skip_second_half(struct sse *framer)
{
    if (framer->p == framer->end)
        return;
    if (framer->after_cr && *framer->p == '\n') {
        framer->p++;
        find_lf(framer);
    }
    framer->after_cr = false;
}

/* Cuts what stands before the next line end off the chunk; false where there is no line end. */
static bool cut_line(struct sse *framer, struct str *part)
{
    const char *cr = memchr(framer->p, '\r', (size_t)(framer->lf - framer->p));
    const char *stop = cr != NULL ? cr : framer->lf;
    bool ended = stop < framer->end;
    *part = (struct str){framer->p, (size_t)(stop - framer->p)};
    framer->p = ended ? stop + 1 : stop;
    framer->after_cr = cr != NULL;
    if (ended && cr == NULL)
        find_lf(framer);
    return ended;
}

/* The next whole line, a view into the chunk or into `line`. */
static bool next_line(struct sse *framer, struct str *line)
{
    if (framer->line_taken)
        bounded_clear(&framer->line);
    framer->line_taken = false;
    skip_second_half(framer);
    if (framer->p == framer->end)
        return false;
    bool ended = cut_line(framer, line);
    if (ended && framer->line.size == 0 && line->len <= framer->line.max)
        return true;
    bounded_append(&framer->line, *line);
    framer->line_taken = ended;
    *line = buf_str(&framer->line.bytes);
    return ended;
}

/* The chunk goes away: what points into it is copied. */
static void keep_view(struct sse *framer)
{
    if (framer->view.p != NULL)
        bounded_append(&framer->data, framer->view);
    framer->view = (struct str){0};
}

static bool line_was_cut(const struct sse *framer)
{
    return framer->line_taken && framer->line.cut;
}

static void take_data(struct sse *framer, struct str value)
{
    if (framer->n_data++ == 0 && !framer->line_taken) {
        framer->view = value;
        return;
    }
    keep_view(framer);
    if (framer->n_data > 1)
        bounded_append(&framer->data, STR("\n"));
    bounded_append(&framer->data, value);
    if (line_was_cut(framer))
        bounded_omit(&framer->data, framer->line.size - framer->line.bytes.len);
}

static void set(struct bounded *field, struct str value)
{
    bounded_clear(field);
    bounded_append(field, value);
}

static void take_id(struct sse *framer, struct str value)
{
    bool has_nul = value.len > 0 && memchr(value.p, '\0', value.len) != NULL;
    if (!line_was_cut(framer) && !has_nul && value.len <= SSE_NAME_MAX)
        set(&framer->id, value);
}

/* Only digits count; more than fits means "a very long time". */
static void take_retry(struct sse *framer, struct str value)
{
    uint64_t ms = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return;
        if (ms < UINT64_MAX / 100)
            ms = ms * 10 + (uint64_t)(value.p[i] - '0');
    }
    if (value.len > 0)
        framer->retry_ms = ms;
}

static void take_line(struct sse *framer, struct str line)
{
    const char *colon = memchr(line.p, ':', line.len);
    struct str name = {line.p, colon != NULL ? (size_t)(colon - line.p) : line.len};
    struct str value = STR("");
    if (colon != NULL)
        value = (struct str){colon + 1, line.len - name.len - 1};
    if (value.len > 0 && *value.p == ' ') {
        value.p++;
        value.len--;
    }
    if (str_eq(name, STR("data"))) {
        take_data(framer, value);
    } else if (str_eq(name, STR("event"))) {
        set(&framer->type, value);
        framer->type_cut = framer->type.cut || line_was_cut(framer);
    } else if (str_eq(name, STR("id"))) {
        take_id(framer, value);
    } else if (str_eq(name, STR("retry"))) {
        take_retry(framer, value);
    }
}

/* At a blank line: true where there is an event to give. */
static bool dispatch(struct sse *framer, struct sse_event *event)
{
    if (framer->n_data == 0) {
        clear_event(framer);
        return false;
    }
    framer->given = true;
    bool is_view = framer->view.p != NULL;
    *event = (struct sse_event){
        .type = buf_str(&framer->type.bytes),
        .data = is_view ? framer->view : buf_str(&framer->data.bytes),
        .id = buf_str(&framer->id.bytes),
        .size = is_view ? framer->view.len : framer->data.size,
        .oversized = framer->type_cut || framer->data.cut,
    };
    return true;
}

static struct str without_mark(struct sse *framer, struct str line)
{
    static const char mark[] = {'\xef', '\xbb', '\xbf'};
    bool first = !framer->began;
    framer->began = true;
    if (!first || line.len < sizeof mark || memcmp(line.p, mark, sizeof mark) != 0)
        return line;
    return (struct str){line.p + sizeof mark, line.len - sizeof mark};
}

bool sse_next(struct sse *framer, struct sse_event *event)
{
    if (framer->given)
        clear_event(framer);
    struct str line;
    while (next_line(framer, &line)) {
        line = without_mark(framer, line);
        if (line.len > 0)
            take_line(framer, line);
        else if (dispatch(framer, event))
            return true;
    }
    keep_view(framer);
    return false;
}

bool sse_is_partial(const struct sse *framer)
{
    bool in_line = framer->line.size > 0 && !framer->line_taken;
    bool in_event = (framer->n_data > 0 || framer->type.size > 0) && !framer->given;
    return in_line || in_event;
}
