/* own.c - what Busbar itself says. */
#include "bridge/own.h"

#include "bridge/base/clock.h"

#include <inttypes.h>
#include <string.h>

enum { MALFORMED_RAW_MAX = 1 << 20, REJECTED_ID_MAX = 1024 };

void own_render(struct buf *out, const char *type, struct str source, uint64_t index,
                struct str payload)
{
    buf_printf(out, "{\"Topic\":\"" OWN_TOPIC "\",\"Type\":\"%s\",\"Key\":", type);
    buf_append_json(out, source);
    buf_printf(out, ",\"Namespace\":\"\",\"Index\":%" PRIu64 ",\"Payload\":", index);
    buf_append_str(out, payload);
    buf_append_char(out, '}');
}

void own_gap_payload(struct buf *out, uint64_t from, uint64_t to, const char *reason)
{
    buf_printf(out, "{\"From\":%" PRIu64 ",\"To\":%" PRIu64 ",\"Reason\":", from, to);
    buf_append_json(out, str_from(reason));
    buf_append_char(out, '}');
}

void own_gap_widen(uint64_t *from, uint64_t *to)
{
    *from = *from > EVENT_APART_MS ? *from - EVENT_APART_MS : 0;
    *to += EVENT_APART_MS;
}

/* The digits behind `name`; false where it is not there, or no number follows. */
static bool number_behind(struct str data, const char *name, uint64_t *out)
{
    const char *at = memmem(data.p, data.len, name, strlen(name));
    const char *end = data.p + data.len;
    if (at == NULL)
        return false;
    const char *first = at + strlen(name);
    *out = 0;
    for (at = first; at < end && *at >= '0' && *at <= '9'; at++)
        *out = *out * 10 + (uint64_t)(*at - '0');
    return at > first;
}

bool own_gap_range(struct str data, uint64_t *from, uint64_t *to)
{
    return number_behind(data, "\"Payload\":{\"From\":", from) &&
           number_behind(data, ",\"To\":", to);
}

void own_resync_payload(struct buf *out, const char *reason)
{
    buf_append_cstr(out, "{\"Reason\":");
    buf_append_json(out, str_from(reason));
    buf_append_char(out, '}');
}

static void append_base64(struct buf *out, struct str raw)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < raw.len; i += 3) {
        size_t left = raw.len - i;
        uint32_t w = (uint32_t)(unsigned char)raw.p[i] << 16;
        w |= left > 1 ? (uint32_t)(unsigned char)raw.p[i + 1] << 8 : 0;
        w |= left > 2 ? (uint32_t)(unsigned char)raw.p[i + 2] : 0;
        char *at = buf_reserve(out, 4);
        at[0] = digits[w >> 18];
        at[1] = digits[w >> 12 & 63];
        at[2] = (char)(left > 1 ? digits[w >> 6 & 63] : '=');
        at[3] = (char)(left > 2 ? digits[w & 63] : '=');
        out->len += 4;
    }
}

void own_malformed_payload(struct buf *out, struct str raw, uint64_t size, const char *reason)
{
    if (raw.len > MALFORMED_RAW_MAX)
        raw.len = MALFORMED_RAW_MAX;
    buf_append_cstr(out, "{\"Reason\":");
    buf_append_json(out, str_from(reason));
    buf_printf(out, ",\"Size\":%" PRIu64 ",\"Truncated\":%s,\"Base64\":\"", size,
               raw.len < size ? "true" : "false");
    append_base64(out, raw);
    buf_append_cstr(out, "\"}");
}

void own_rejected_payload(struct buf *out, struct str source, uint64_t journal_id,
                          const struct event *event, const char *reason)
{
    struct buf id = {0};
    event_append_id(&id, source, journal_id, event);
    char since[CLOCK_TEXT_MAX];
    clock_format(event->arrival_us, since);
    buf_append_cstr(out, "{\"Event\":");
    buf_append_json(out, str_cut(buf_str(&id), REJECTED_ID_MAX));
    buf_printf(out, ",\"Size\":%zu,\"Reason\":", event->data.len);
    buf_append_json(out, str_from(reason));
    buf_printf(out,
               ",\"Read\":\"GET /events?source=%.*s&since=%s\",\"Journal\":\"%016" PRIx64
               "\",\"Seq\":%" PRIu64 "}",
               STR_ARG(source), since, journal_id, event->seq);
    buf_fini(&id);
}

struct event own_event(const char *type, struct str source, struct str data)
{
    return (struct event){
        .topic = STR(OWN_TOPIC),
        .type = str_from(type),
        .key = source,
        .data = data,
        .origin = EVENT_OWN,
    };
}
