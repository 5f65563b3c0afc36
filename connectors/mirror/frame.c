/* frame.c - what an event looks like on GET /events, and its id. */
#include "connectors/mirror/frame.h"

#include "bridge/own.h"

#include <inttypes.h>
#include <string.h>

uint64_t frame_index(const struct event *event)
{
    if (event->epoch == 0)
        return event->pos_index;
    return event->origin == EVENT_SNAPSHOT ? 0 : event->index;
}

/* 16 digits, hexadecimal. */
static void append_journal(struct buf *out, uint64_t id)
{
    char *to = buf_reserve(out, 16);
    for (int shift = 60; shift >= 0; shift -= 4)
        *to++ = "0123456789abcdef"[id >> shift & 15];
    out->len += 16;
}

void frame_append_id(struct buf *out, const struct frame_id *id)
{
    buf_append_str(out, id->source);
    buf_append_char(out, ':');
    buf_append_u64(out, id->index);
    if (id->epoch > 0)
        buf_printf(out, "~%" PRIu32, id->epoch);
    buf_append_char(out, '.');
    buf_append_u64(out, id->ordinal);
    buf_append_char(out, '@');
    buf_append_u64(out, (uint64_t)id->arrival_us);
    buf_append_char(out, '.');
    append_journal(out, id->journal_id);
}

void frame_append_id_line(struct buf *out, const char *source, uint64_t journal_id,
                          const struct event *event)
{
    struct frame_id id = {
        .source = str_from(source),
        .index = frame_index(event),
        .epoch = event->epoch,
        .ordinal = event->ordinal,
        .arrival_us = event->arrival_us,
        .journal_id = journal_id,
    };
    buf_append(out, "id: ", 4);
    frame_append_id(out, &id);
    buf_append_char(out, '\n');
}

/* A field of one line: what would end it becomes a space. `end` ends a line. */
static void append_field(struct buf *out, const char *name, struct str value, struct str end)
{
    buf_append_cstr(out, name);
    size_t start = out->len;
    buf_append_str(out, value);
    for (size_t i = start; i < out->len; i++)
        if (out->p[i] == '\n' || out->p[i] == '\r')
            out->p[i] = ' ';
    buf_append_str(out, end);
}

static size_t line_length(struct str rest)
{
    const char *lf = memchr(rest.p, '\n', rest.len);
    size_t len = lf != NULL ? (size_t)(lf - rest.p) : rest.len;
    const char *cr = memchr(rest.p, '\r', len);
    return cr != NULL ? (size_t)(cr - rest.p) : len;
}

/* \n, \r and \r\n all end a line for the reader, so each line gets its own `data:`. */
static void append_data(struct buf *out, struct str data, struct str end)
{
    struct str rest = data;
    for (;;) {
        size_t len = rest.len > 0 ? line_length(rest) : 0;
        buf_append(out, "data: ", 6);
        buf_append(out, rest.p, len);
        buf_append_str(out, end);
        if (len == rest.len)
            return;
        bool crlf = rest.p[len] == '\r' && len + 1 < rest.len && rest.p[len + 1] == '\n';
        size_t skip = len + (crlf ? 2 : 1);
        rest = (struct str){rest.p + skip, rest.len - skip};
    }
}

void frame_append_event(struct buf *out, const char *source, uint64_t journal_id,
                        const struct event *event)
{
    frame_append_id_line(out, source, journal_id, event);
    if (event->type.len > 0)
        append_field(out, "event: ", event->type, STR("\n"));
    append_data(out, event->data, STR("\n"));
    buf_append_char(out, '\n');
}

/* As Jetty's EventSourceServlet writes it (EventSourceEmitter.event). */
void frame_append_marathon(struct buf *out, struct str type, struct str data)
{
    append_field(out, "event: ", type, STR("\r\n"));
    append_data(out, data, STR("\r\n"));
    buf_append_str(out, STR("\r\n"));
}

void frame_append_gap(struct buf *out, const char *source, uint64_t journal_id,
                      const struct frame_gap *gap)
{
    struct buf payload = {0};
    struct buf data = {0};
    own_gap_payload(&payload, gap->from, gap->to, gap->reason);
    own_render(&data, "Gap", str_from(source), gap->to, buf_str(&payload));
    struct event event = own_event("Gap", str_from(source), buf_str(&data));
    event.pos_index = event.index = gap->to;
    event.epoch = gap->epoch;
    event.ordinal = gap->ordinal;
    event.arrival_us = gap->arrival_us;
    frame_append_event(out, source, journal_id, &event);
    buf_fini(&data);
    buf_fini(&payload);
}

/* ---- parsing ---- */

/* Takes a decimal number and the character behind it off `rest` ('\0': the end). */
static bool take_number(struct str *rest, uint64_t max, char end, uint64_t *out)
{
    uint64_t value = 0;
    size_t i = 0;
    for (; i < rest->len && rest->p[i] >= '0' && rest->p[i] <= '9'; i++) {
        unsigned digit = (unsigned)(rest->p[i] - '0');
        if (value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (i == 0 || i == rest->len || rest->p[i] != end)
        return false;
    *rest = (struct str){rest->p + i + 1, rest->len - i - 1};
    *out = value;
    return true;
}

static bool take_journal(struct str rest, uint64_t *out)
{
    uint64_t value = 0;
    if (rest.len != 16)
        return false;
    for (size_t i = 0; i < rest.len; i++) {
        char c = rest.p[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && (c < 'a' || c > 'f'))
            return false;
        value = value << 4 | (unsigned)(digit ? c - '0' : c - 'a' + 10);
    }
    *out = value;
    return true;
}

bool frame_parse_id(struct str text, struct frame_id *out)
{
    const char *colon = text.len > 0 ? memchr(text.p, ':', text.len) : NULL;
    if (colon == NULL || colon == text.p)
        return false;
    out->source = (struct str){text.p, (size_t)(colon - text.p)};
    struct str rest = {colon + 1, text.len - out->source.len - 1};
    uint64_t epoch = 0;
    uint64_t ordinal;
    uint64_t arrival;
    bool epochs = take_number(&rest, UINT64_MAX, '~', &out->index);
    if (!take_number(&rest, epochs ? UINT32_MAX : UINT64_MAX, '.', epochs ? &epoch : &out->index) ||
        !take_number(&rest, UINT32_MAX, '@', &ordinal) ||
        !take_number(&rest, INT64_MAX, '.', &arrival) || !take_journal(rest, &out->journal_id))
        return false;
    out->epoch = (uint32_t)epoch;
    out->ordinal = (uint32_t)ordinal;
    out->arrival_us = (int64_t)arrival;
    return true;
}
