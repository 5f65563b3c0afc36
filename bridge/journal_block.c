/* journal_block.c - blocks in memory: the one under construction, and the shared, immutable ones.
 *
 * The data area of the block under construction is the memory of the block later: a message is
 * copied once on its way from the connector to every sink. Strings that stand in the message as
 * they are cost nothing but their record; of the others (topics, types, namespaces, unescaped keys)
 * each is kept once a block, as far as a small direct-mapped table remembers. */
#include "bridge/journal_block.h"

#include "bridge/base/hash.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SHARED_LEN_MAX = 256 };
/* A block of so little data is copied out, and the memory that it was built in stays. */
enum { COPIED_OUT_MAX = JOURNAL_BLOCK_TARGET / 4 };
/* A block spans no more time than its arrival deltas can tell (µs in 32 bits). */
enum { SPAN_S_MAX = 3600 };

struct counted {
    struct block block; /* first: struct block * is converted back */
    atomic_uint refs;
    char *memory;
    struct journal_message *messages;
    struct event *events;
};

static struct counted *counted_of(struct block *block)
{
    return (struct counted *)(void *)block;
}

static struct counted *counted_new(size_t n_messages, size_t n_events)
{
    static_assert(sizeof(struct counted) % _Alignof(struct event) == 0, "events follow");
    static_assert(sizeof(struct event) % _Alignof(struct journal_message) == 0, "messages follow");
    size_t size = sizeof(struct counted) + n_events * sizeof(struct event) +
                  n_messages * sizeof(struct journal_message);
    struct counted *c = mem_alloc(size);
    c->events = (struct event *)(void *)(c + 1);
    c->messages = (struct journal_message *)(void *)(c->events + n_events);
    c->block = (struct block){
        .events = c->events,
        .n_events = n_events,
        .messages = c->messages,
        .n_messages = n_messages,
        .bytes = size,
    };
    atomic_init(&c->refs, 1);
    return c;
}

static bool fill_events(struct counted *c, const struct journal_image *image, size_t first,
                        const struct journal_place *place)
{
    size_t size = journal_format_event_size(place->format);
    const unsigned char *in = image->events + first * size;
    for (size_t i = 0; i < place->message.n_events; i++, in += size) {
        struct event *event = &c->events[first + i];
        if (!journal_format_get_event(in, place, event))
            return false;
        event->seq = image->header.first_seq + first + i;
        event->arrival_us = image->header.arrival_us + place->message.arrival_delta + (int64_t)i;
    }
    return true;
}

static bool fill(struct counted *c, const struct journal_image *image)
{
    const struct journal_block_header *header = &image->header;
    struct journal_place place = {header->format, {image->data, header->data_len}, {0}};
    size_t first = 0;
    for (size_t i = 0; i < header->n_messages; i++) {
        struct journal_message_record *record = &place.message;
        journal_format_get_message(image->messages + i * JOURNAL_MESSAGE_RECORD, record);
        if (record->raw_offset > header->data_len ||
            record->raw_len > header->data_len - record->raw_offset ||
            record->n_events > header->n_events - first || !fill_events(c, image, first, &place))
            return false;
        c->messages[i] = (struct journal_message){
            .raw = {image->data + record->raw_offset, record->raw_len},
            .first_event = first,
            .n_events = record->n_events,
        };
        first += record->n_events;
    }
    return first == header->n_events;
}

struct block *journal_block_new(const struct journal_image *image, char *memory, size_t size)
{
    struct counted *c = counted_new(image->header.n_messages, image->header.n_events);
    if (!fill(c, image)) {
        free(c);
        return NULL;
    }
    c->memory = memory;
    c->block.bytes += size;
    c->block.first_seq = image->header.first_seq;
    c->block.arrival_us = image->header.arrival_us;
    return &c->block;
}

struct block *journal_block_from_body(const struct journal_block_header *header, char *memory,
                                      size_t len)
{
    const unsigned char *records = (const unsigned char *)memory + header->data_len;
    struct journal_image image = {
        .header = *header,
        .data = memory,
        .messages = records,
        .events = records + (size_t)header->n_messages * JOURNAL_MESSAGE_RECORD,
    };
    return journal_block_new(&image, memory, len);
}

struct block *block_ref(struct block *block)
{
    atomic_fetch_add_explicit(&counted_of(block)->refs, 1, memory_order_relaxed);
    return block;
}

void block_unref(struct block **block)
{
    if (block == NULL || *block == NULL)
        return;
    struct counted *c = counted_of(*block);
    *block = NULL;
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
        return;
    free(c->memory);
    free(c);
}

void journal_build_fini(struct journal_build *build)
{
    buf_fini(&build->data);
    buf_fini(&build->messages);
    buf_fini(&build->events);
}

bool journal_build_is_full(const struct journal_build *build, size_t bytes, int64_t arrival_us)
{
    return build->n_messages > 0 &&
           (build->data.len + bytes > JOURNAL_BLOCK_TARGET ||
            arrival_us - build->arrival_us > (int64_t)SPAN_S_MAX * 1000000);
}

static void begin(struct journal_build *build, int64_t arrival_us)
{
    build->arrival_us = arrival_us;
    memset(build->shared, 0, sizeof build->shared);
    if (build->data.p == NULL)
        buf_reserve(&build->data, (size_t)JOURNAL_BLOCK_TARGET);
}

static struct journal_ref append_string(struct journal_build *build, struct str s)
{
    struct journal_ref ref = {(uint32_t)build->data.len, (uint32_t)s.len};
    buf_append_str(&build->data, s);
    return ref;
}

static size_t shared_slot(struct str s)
{
    /* Topics, types and keys of one kind differ in length and at their ends. */
    const unsigned char *p = (const unsigned char *)s.p;
    size_t h = s.len * 31 + p[0];
    h = h * 31 + p[s.len / 2];
    h = h * 31 + p[s.len - 1];
    return (h ^ h >> 6) % JOURNAL_BUILD_SHARED;
}

/* `raw` is where the message came from, `at` where it stands in the data area. */
static struct journal_ref refer(struct journal_build *build, struct str s, struct str raw,
                                size_t at)
{
    uintptr_t p = (uintptr_t)s.p, from = (uintptr_t)raw.p;
    if (s.len == 0)
        return (struct journal_ref){(uint32_t)at, 0};
    if (p >= from && p - from <= raw.len && s.len <= raw.len - (p - from))
        return (struct journal_ref){(uint32_t)(at + (p - from)), (uint32_t)s.len};
    if (s.len > SHARED_LEN_MAX)
        return append_string(build, s);
    struct journal_ref *slot = &build->shared[shared_slot(s)];
    if (slot->len != s.len || memcmp(build->data.p + slot->offset, s.p, s.len) != 0)
        *slot = append_string(build, s);
    return *slot;
}

static void add_event(struct journal_build *build, const struct event *event, struct str raw,
                      size_t at)
{
    uintptr_t p = (uintptr_t)event->data.p, from = (uintptr_t)raw.p;
    assert(event->data.len == 0 || (p >= from && p - from + event->data.len <= raw.len));
    (void)p;
    (void)from;
    struct journal_refs refs = {
        .data = refer(build, event->data, raw, at),
        .topic = refer(build, event->topic, raw, at),
        .type = refer(build, event->type, raw, at),
        .key = refer(build, event->key, raw, at),
        .ns = refer(build, event->ns, raw, at),
        .filter_keys = refer(build, event->filter_keys, raw, at),
    };
    unsigned char *out = (unsigned char *)buf_reserve(&build->events, (size_t)JOURNAL_EVENT_RECORD);
    journal_format_put_event(out, event, &refs);
    build->events.len += JOURNAL_EVENT_RECORD;
}

void journal_build_add(struct journal_build *build, struct str raw, int64_t arrival_us,
                       const struct event *events, size_t n_events)
{
    if (build->n_messages == 0)
        begin(build, arrival_us);
    struct journal_message_record record = {
        .raw_offset = (uint32_t)build->data.len,
        .raw_len = (uint32_t)raw.len,
        .n_events = (uint32_t)n_events,
        .arrival_delta = (uint32_t)(arrival_us - build->arrival_us),
    };
    unsigned char *out =
        (unsigned char *)buf_reserve(&build->messages, (size_t)JOURNAL_MESSAGE_RECORD);
    journal_format_put_message(out, &record);
    build->messages.len += JOURNAL_MESSAGE_RECORD;
    buf_append_str(&build->data, raw);
    for (size_t i = 0; i < n_events; i++)
        add_event(build, &events[i], raw, record.raw_offset);
    build->n_messages++;
    build->n_events += (uint32_t)n_events;
    build->last.arrival_us = arrival_us + (int64_t)n_events - 1;
    build->last.pos_index = events[n_events - 1].pos_index;
    build->last.ordinal = events[n_events - 1].ordinal;
}

size_t journal_build_size(const struct journal_build *build)
{
    if (build->n_messages == 0)
        return 0;
    return JOURNAL_BLOCK_HEADER + build->data.len + build->messages.len + build->events.len;
}

void journal_build_image(const struct journal_build *build, uint64_t first_seq, uint64_t offset,
                         struct journal_image *image)
{
    image->data = build->data.p;
    image->messages = (const unsigned char *)build->messages.p;
    image->events = (const unsigned char *)build->events.p;
    image->header = (struct journal_block_header){
        .format = JOURNAL_FORMAT,
        .data_len = (uint32_t)build->data.len,
        .n_messages = build->n_messages,
        .n_events = build->n_events,
        .first_seq = first_seq,
        .arrival_us = build->arrival_us,
        .last = build->last,
        .offset = offset,
    };
    image->header.last.seq = first_seq + build->n_events - 1;
    uint32_t crc = crc32c(0, build->data.p, build->data.len);
    crc = crc32c(crc, build->messages.p, build->messages.len);
    image->header.body_crc = crc32c(crc, build->events.p, build->events.len);
}

/* The data for the block to keep; sets how much memory that takes. */
static char *take_data(struct buf *data, size_t *size)
{
    *size = data->len;
    if (data->len <= COPIED_OUT_MAX) {
        char *copy = mem_alloc(data->len);
        memcpy(copy, data->p, data->len);
        buf_clear(data);
        return copy;
    }
    char *whole = data->p;
    if (data->cap - data->len > data->len / 4)
        whole = mem_realloc(whole, data->len);
    else
        *size = data->cap;
    *data = (struct buf){0};
    return whole;
}

struct block *journal_build_take(struct journal_build *build, const struct journal_image *image)
{
    struct journal_image mine = *image;
    size_t size;
    char *memory = take_data(&build->data, &size);
    mine.data = memory;
    struct block *block = journal_block_new(&mine, memory, size);
    assert(block != NULL);
    buf_clear(&build->messages);
    buf_clear(&build->events);
    build->n_messages = build->n_events = 0;
    return block;
}
