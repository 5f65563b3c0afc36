/* nomad_blocking_line.c - events put together to a line as Nomad's event stream has them. */
#include "connectors/nomad/nomad_blocking_line.h"

void blocking_line_fini(struct blocking_line *line)
{
    buf_fini(&line->text);
    buf_fini(&line->strings);
    line->n = 0;
}

static struct str take(const char **at, size_t len)
{
    struct str s = {*at, len};
    *at += len;
    return s;
}

int blocking_line_send(struct blocking_line *line, struct ingest *ingest, struct err *err)
{
    struct found_event events[LINE_EVENTS_MAX];
    if (line->n == 0)
        return 0;
    buf_append_cstr(&line->text, "],\"Index\":");
    buf_append_u64(&line->text, line->index);
    buf_append_char(&line->text, '}');
    for (size_t i = 0; i < line->n; i++) {
        const char *at = line->strings.p + line->events[i].string;
        events[i] = (struct found_event){
            .topic = take(&at, line->events[i].topic_len),
            .type = take(&at, line->events[i].type_len),
            .key = take(&at, line->events[i].key_len),
            .ns = take(&at, line->events[i].ns_len),
            .filter_keys = take(&at, line->events[i].filter_keys_len),
            .index = line->index,
            .data = {line->text.p + line->events[i].data, line->events[i].data_len},
        };
    }
    int rc = ingest_message(ingest, buf_str(&line->text), events, line->n, err);
    line->n = 0;
    buf_clear(&line->text);
    buf_clear(&line->strings);
    return rc;
}

int blocking_line_add(struct blocking_line *line, struct ingest *ingest,
                      const struct found_event *event, struct err *err)
{
    bool full = line->n == LINE_EVENTS_MAX || line->text.len + event->data.len > LINE_BYTES_MAX;
    if (line->n > 0 && (full || line->index != event->index) &&
        blocking_line_send(line, ingest, err) != 0)
        return -1;
    line->index = event->index;
    buf_append_cstr(&line->text, line->n == 0 ? "{\"Events\":[" : ",");
    size_t i = line->n++;
    line->events[i].string = line->strings.len;
    line->events[i].topic_len = event->topic.len;
    line->events[i].type_len = event->type.len;
    line->events[i].key_len = event->key.len;
    line->events[i].ns_len = event->ns.len;
    line->events[i].filter_keys_len = event->filter_keys.len;
    line->events[i].data = line->text.len;
    line->events[i].data_len = event->data.len;
    buf_append_str(&line->strings, event->topic);
    buf_append_str(&line->strings, event->type);
    buf_append_str(&line->strings, event->key);
    buf_append_str(&line->strings, event->ns);
    buf_append_str(&line->strings, event->filter_keys);
    buf_append_str(&line->text, event->data);
    return 0;
}

void blocking_line_deleted(struct buf *out, const struct found_event *event)
{
    struct str rest = event->filter_keys, key;
    char before = '[';
    buf_append_cstr(out, "{\"FilterKeys\":");
    if (rest.len == 0)
        buf_append_cstr(out, "null");
    while (event_next_filter_key(&rest, &key)) {
        buf_append_char(out, before);
        buf_append_json(out, key);
        before = ',';
    }
    if (before == ',')
        buf_append_char(out, ']');
    buf_append_cstr(out, ",\"Index\":");
    buf_append_u64(out, event->index);
    buf_append_cstr(out, ",\"Key\":");
    buf_append_json(out, event->key);
    buf_append_cstr(out, ",\"Namespace\":");
    buf_append_json(out, event->ns);
    buf_append_cstr(out, ",\"Payload\":{},\"Topic\":");
    buf_append_json(out, event->topic);
    buf_append_cstr(out, ",\"Type\":\"Deleted\"}");
}
