/* event.c - identity and position of an event, in text and as a hash. */
#include "bridge/event.h"

#include "bridge/base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void event_append_id(struct buf *out, struct str source, uint64_t journal_id,
                     const struct event *event)
{
    buf_append_str(out, source);
    switch (event->origin) {
    case EVENT_MALFORMED:
        buf_printf(out, "/malformed/%016" PRIx64, event->ident);
        return;
    case EVENT_OWN:
    case EVENT_SNAPSHOT:
        buf_printf(out, "/%016" PRIx64 "/%" PRIu64, journal_id, event->seq);
        if (event->occurrence >
            0) /* a sink's own events share the seq of the event that they stand before */
            buf_printf(out, "/%" PRIu32, event->occurrence);
        return;
    case EVENT_SOURCE:
        break;
    }
    buf_append_char(out, '/');
    buf_append_u64(out, event->index);
    if (event->epoch > 0)
        buf_printf(out, "~%" PRIu32, event->epoch);
    buf_append_char(out, '/');
    buf_append_str(out, event->topic);
    buf_append_char(out, '/');
    buf_append_str(out, event->ns);
    buf_append_char(out, '/');
    buf_append_str(out, event->key);
    buf_append_char(out, '/');
    buf_append_str(out, event->type);
    buf_append_char(out, '/');
    buf_append_u64(out, event->occurrence);
}

void event_append_position(struct buf *out, const struct event *event)
{
    buf_append_u64(out, event->pos_index);
    buf_append_char(out, '.');
    buf_append_u64(out, event->ordinal);
}

static uint64_t hash_str(uint64_t hash, struct str s)
{
    return hash64(hash64_u32(hash, (uint32_t)s.len), s.p, s.len);
}

uint64_t event_hash(uint64_t index, struct str topic, struct str ns, struct str key,
                    struct str type, uint32_t occurrence)
{
    uint64_t hash = hash64_u64(HASH64_START, index);
    hash = hash_str(hash, topic);
    hash = hash_str(hash, ns);
    hash = hash_str(hash, key);
    hash = hash_str(hash, type);
    return hash64_u32(hash, occurrence);
}

uint64_t event_hash_bytes(uint64_t index, struct str type, struct str data, uint32_t occurrence)
{
    uint64_t hash = hash64_u64(HASH64_START, index);
    hash = hash_str(hash_str(hash, type), data);
    return hash64_u32(hash, occurrence);
}

bool event_next_filter_key(struct str *rest, struct str *key)
{
    uint32_t len;
    if (rest->len < sizeof len)
        return false;
    memcpy(&len, rest->p, sizeof len);
    if (rest->len - sizeof len < len)
        return false;
    *key = (struct str){rest->p + sizeof len, len};
    *rest = (struct str){key->p + len, rest->len - sizeof len - len};
    return true;
}

void event_pack_filter_key(struct buf *packed, struct str key)
{
    uint32_t len = (uint32_t)key.len;
    buf_append(packed, &len, sizeof len);
    buf_append_str(packed, key);
}

void event_describe(const struct event *event, char *out, size_t size)
{
    snprintf(out, size, "%.*s/%.*s/%.*s %.*s at %" PRIu64, STR_ARG(event->topic),
             STR_ARG(event->ns), STR_ARG(event->key), STR_ARG(event->type), event->index);
}
