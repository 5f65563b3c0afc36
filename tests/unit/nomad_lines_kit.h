/* nomad_lines_kit.h - messages of a Nomad, as its connector journals them: lines of events. */
#ifndef BUSBAR_TESTS_NOMAD_LINES_KIT_H
#define BUSBAR_TESTS_NOMAD_LINES_KIT_H

#include "bridge/base/buf.h"
#include "bridge/event.h"

#include <inttypes.h>
#include <string.h>

enum { LINE_EVENTS_MAX = 8 };

/* What an event of a line is; what is NULL gets a default. */
struct line_event {
    const char *topic, *key, *ns, *filter_key;
    bool repeat;
    enum event_origin origin;
    size_t padding; /* its payload is about so long */
};

struct line_message {
    struct buf raw;
    struct buf packed;
    struct event events[LINE_EVENTS_MAX];
    size_t n;
};

static inline const char *line_or(const char *text, const char *fallback)
{
    return text != NULL ? text : fallback;
}

static inline void line_append(struct line_message *m, uint64_t index, uint32_t epoch,
                               const struct line_event *of, size_t *starts)
{
    struct event *e = &m->events[m->n];
    *e = (struct event){
        .topic = str_from(line_or(of->topic, "Job")),
        .type = STR("JobRegistered"),
        .key = str_from(line_or(of->key, "web")),
        .ns = str_from(line_or(of->ns, "default")),
        .index = index,
        .epoch = epoch,
        .repeat = of->repeat,
        .origin = of->origin,
    };
    starts[m->n] = m->raw.len;
    buf_printf(&m->raw, "{\"Index\":%" PRIu64 ",\"Key\":\"%.*s\",\"Payload\":{\"x\":\"", index,
               STR_ARG(e->key));
    for (size_t i = 0; i < of->padding; i++)
        buf_append_char(&m->raw, (char)('a' + i % 23));
    buf_printf(&m->raw, "\"},\"Topic\":\"%.*s\"}", STR_ARG(e->topic));
    e->data.len = m->raw.len - starts[m->n];
    if (of->filter_key != NULL)
        event_pack_filter_key(&m->packed, str_from(of->filter_key));
    m->n++;
}

/* {"Events":[…],"Index":N}; positions are the caller's. */
static inline void line_make(struct line_message *m, uint64_t index, uint32_t epoch,
                             const struct line_event *events, size_t n)
{
    size_t starts[LINE_EVENTS_MAX], packed = 0;
    *m = (struct line_message){0};
    buf_append_cstr(&m->raw, "{\"Events\":[");
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_append_char(&m->raw, ',');
        line_append(m, index, epoch, &events[i], starts);
    }
    buf_printf(&m->raw, "],\"Index\":%" PRIu64 "}", index);
    for (size_t i = 0; i < n; i++) {
        m->events[i].data.p = m->raw.p + starts[i];
        if (events[i].filter_key == NULL)
            continue;
        m->events[i].filter_keys =
            (struct str){m->packed.p + packed, sizeof(uint32_t) + strlen(events[i].filter_key)};
        packed += m->events[i].filter_keys.len;
    }
}

static inline void line_free(struct line_message *m)
{
    buf_fini(&m->raw);
    buf_fini(&m->packed);
}

#endif
