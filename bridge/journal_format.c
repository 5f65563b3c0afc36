/* journal_format.c - the bytes of a journal on disk, and their encoding. */
#include "bridge/journal_format.h"

#include "bridge/base/hash.h"

#include <stdlib.h>
#include <string.h>

/* The latest arrival that is believed: past it sums could overflow. */
#define ARRIVAL_MAX (INT64_MAX / 2)

static const char segment_magic[8] = "BUSBARJ\n";
static const char index_magic[8] = "BUSBARI\n";

static void put32(unsigned char *out, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        out[i] = (unsigned char)(v >> (8 * i));
}

static void put64(unsigned char *out, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get32(const unsigned char *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

static uint64_t get64(const unsigned char *in)
{
    return (uint64_t)get32(in) | (uint64_t)get32(in + 4) << 32;
}

void journal_index_fini(struct journal_index *index)
{
    free(index->entries);
    *index = (struct journal_index){0};
}

static struct journal_index_entry *index_more(struct journal_index *index)
{
    if (index->n == index->cap) {
        index->cap = index->cap > 0 ? index->cap * 2 : 16;
        index->entries = mem_realloc(index->entries, index->cap * sizeof *index->entries);
    }
    return &index->entries[index->n++];
}

void journal_index_add(struct journal_index *index, const struct journal_block_header *block,
                       const struct journal_mark *before)
{
    if (index->n > 0 && block->offset - index->entries[index->n - 1].offset < JOURNAL_INDEX_EVERY)
        return;
    *index_more(index) = (struct journal_index_entry){
        .offset = block->offset,
        .first_seq = block->first_seq,
        .arrival_before_us = before->arrival_us,
        .pos_index_before = before->pos_index,
    };
}

bool journal_mark_reaches(const struct journal_mark *last, const struct journal_target *target)
{
    switch (target->by) {
    case JOURNAL_BY_SEQ:
        return last->seq >= target->seq;
    case JOURNAL_BY_ARRIVAL:
        return last->arrival_us >= target->arrival_us;
    case JOURNAL_BY_INDEX:
        return last->pos_index >= target->pos_index;
    }
    return true;
}

const struct journal_index_entry *journal_index_find(const struct journal_index *index,
                                                     const struct journal_target *target)
{
    size_t low = 0, high = index->n; /* entries before `low` fit, from `high` on they don't */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct journal_index_entry *entry = &index->entries[middle];
        struct journal_mark before = {
            .seq = entry->first_seq - 1,
            .arrival_us = entry->arrival_before_us,
            .pos_index = entry->pos_index_before,
        };
        if (journal_mark_reaches(&before, target))
            high = middle;
        else
            low = middle + 1;
    }
    return low > 0 ? &index->entries[low - 1] : NULL;
}

void journal_format_put_segment(unsigned char out[JOURNAL_SEGMENT_HEADER],
                                const struct journal_segment_header *header)
{
    memcpy(out, segment_magic, sizeof segment_magic);
    put32(out + 12, header->format);
    put64(out + 16, header->journal_id);
    put64(out + 24, header->first_seq);
    put64(out + 32, (uint64_t)header->before.arrival_us);
    put64(out + 40, header->before.pos_index);
    put32(out + 48, header->before.ordinal);
    put32(out + 52, 0);
    put64(out + 56, (uint64_t)header->made_us);
    put32(out + 8, crc32c(0, out + 12, JOURNAL_SEGMENT_HEADER - 12));
}

bool journal_format_get_segment(const unsigned char in[JOURNAL_SEGMENT_HEADER],
                                struct journal_segment_header *header)
{
    *header = (struct journal_segment_header){0};
    if (memcmp(in, segment_magic, sizeof segment_magic) != 0 ||
        get32(in + 8) != crc32c(0, in + 12, JOURNAL_SEGMENT_HEADER - 12))
        return false;
    header->format = get32(in + 12);
    if (header->format > JOURNAL_FORMAT)
        return true;
    header->journal_id = get64(in + 16);
    header->first_seq = get64(in + 24);
    header->before.seq = header->first_seq - 1;
    header->before.arrival_us = (int64_t)get64(in + 32);
    header->before.pos_index = get64(in + 40);
    header->before.ordinal = get32(in + 48);
    header->made_us = (int64_t)get64(in + 56);
    return header->format >= JOURNAL_FORMAT_OLDEST && header->first_seq > 0 &&
           header->before.arrival_us >= 0 && header->before.arrival_us <= ARRIVAL_MAX;
}

void journal_format_put_block(unsigned char out[JOURNAL_BLOCK_HEADER],
                              const struct journal_block_header *header)
{
    memcpy(out, JOURNAL_BLOCK_MAGIC, JOURNAL_BLOCK_MAGIC_LEN);
    out[JOURNAL_BLOCK_MAGIC_LEN] = (unsigned char)('0' + header->format);
    put32(out + 8, header->body_crc);
    put32(out + 12, header->data_len);
    put32(out + 16, header->n_messages);
    put32(out + 20, header->n_events);
    put64(out + 24, header->first_seq);
    put64(out + 32, (uint64_t)header->arrival_us);
    put64(out + 40, header->last.pos_index);
    put32(out + 48, header->last.ordinal);
    put32(out + 52, (uint32_t)(header->last.arrival_us - header->arrival_us));
    put64(out + 56, header->offset);
    put32(out + 4, crc32c(0, out + 8, JOURNAL_BLOCK_HEADER - 8));
}

bool journal_format_get_block_unchecked(const unsigned char in[JOURNAL_BLOCK_HEADER],
                                        struct journal_block_header *header)
{
    header->format = (uint32_t)in[JOURNAL_BLOCK_MAGIC_LEN] - '0';
    header->body_crc = get32(in + 8);
    header->data_len = get32(in + 12);
    header->n_messages = get32(in + 16);
    header->n_events = get32(in + 20);
    header->first_seq = get64(in + 24);
    uint64_t arrival = get64(in + 32);
    header->last.pos_index = get64(in + 40);
    header->last.ordinal = get32(in + 48);
    header->offset = get64(in + 56);
    if (header->format < JOURNAL_FORMAT_OLDEST || header->format > JOURNAL_FORMAT ||
        header->data_len > JOURNAL_DATA_MAX || header->n_messages == 0 || header->n_events == 0 ||
        header->first_seq == 0 || header->first_seq > UINT64_MAX / 2 || arrival > ARRIVAL_MAX)
        return false;
    header->arrival_us = (int64_t)arrival;
    header->last.arrival_us = header->arrival_us + get32(in + 52);
    header->last.seq = header->first_seq + header->n_events - 1;
    return true;
}

bool journal_format_get_block(const unsigned char in[JOURNAL_BLOCK_HEADER], uint64_t offset,
                              struct journal_block_header *header)
{
    return memcmp(in, JOURNAL_BLOCK_MAGIC, JOURNAL_BLOCK_MAGIC_LEN) == 0 &&
           get32(in + 4) == crc32c(0, in + 8, JOURNAL_BLOCK_HEADER - 8) &&
           journal_format_get_block_unchecked(in, header) && header->offset == offset;
}

size_t journal_format_event_size(uint32_t format)
{
    return format == 1 ? JOURNAL_EVENT_RECORD_1 : JOURNAL_EVENT_RECORD;
}

size_t journal_format_body_size(const struct journal_block_header *header)
{
    return (size_t)header->data_len + (size_t)header->n_messages * JOURNAL_MESSAGE_RECORD +
           (size_t)header->n_events * journal_format_event_size(header->format);
}

void journal_format_put_message(unsigned char out[JOURNAL_MESSAGE_RECORD],
                                const struct journal_message_record *record)
{
    put32(out, record->raw_offset);
    put32(out + 4, record->raw_len);
    put32(out + 8, record->n_events);
    put32(out + 12, record->arrival_delta);
}

void journal_format_get_message(const unsigned char in[JOURNAL_MESSAGE_RECORD],
                                struct journal_message_record *record)
{
    record->raw_offset = get32(in);
    record->raw_len = get32(in + 4);
    record->n_events = get32(in + 8);
    record->arrival_delta = get32(in + 12);
}

static void put_ref(unsigned char *out, struct journal_ref ref)
{
    put32(out, ref.offset);
    put32(out + 4, ref.len);
}

void journal_format_put_event(unsigned char out[JOURNAL_EVENT_RECORD], const struct event *event,
                              const struct journal_refs *refs)
{
    put_ref(out, refs->data);
    put_ref(out + 8, refs->topic);
    put_ref(out + 16, refs->type);
    put_ref(out + 24, refs->key);
    put_ref(out + 32, refs->ns);
    put_ref(out + 40, refs->filter_keys);
    put64(out + 48, event->index);
    put64(out + 56, event->pos_index);
    put32(out + 64, event->ordinal);
    put32(out + 68, event->occurrence);
    put64(out + 72, event->ident);
    put64(out + 80, (uint64_t)event->time_us);
    out[88] = (unsigned char)((unsigned)event->origin | (event->repeat ? 4U : 0U));
    put32(out + 89, event->epoch);
}

static bool get_str(const unsigned char *in, struct str area, struct str *out)
{
    size_t offset = get32(in), len = get32(in + 4);
    if (offset > area.len || len > area.len - offset)
        return false;
    *out = (struct str){area.p + offset, len};
    return true;
}

bool journal_format_get_event(const unsigned char *in, const struct journal_place *place,
                              struct event *event)
{
    const struct journal_message_record *message = &place->message;
    struct str area = place->area;
    if (!get_str(in, area, &event->data) || !get_str(in + 8, area, &event->topic) ||
        !get_str(in + 16, area, &event->type) || !get_str(in + 24, area, &event->key) ||
        !get_str(in + 32, area, &event->ns) || !get_str(in + 40, area, &event->filter_keys))
        return false;
    size_t start = get32(in);
    if (start < message->raw_offset ||
        start + event->data.len > (size_t)message->raw_offset + message->raw_len)
        return false;
    unsigned flags = in[88];
    bool is_oldest = place->format == 1; /* it knew neither snapshots nor epochs */
    if (flags > 7 || (is_oldest && (flags & 3U) > EVENT_OWN))
        return false;
    event->index = get64(in + 48);
    event->pos_index = get64(in + 56);
    event->ordinal = get32(in + 64);
    event->occurrence = get32(in + 68);
    event->ident = get64(in + 72);
    event->time_us = (int64_t)get64(in + 80);
    event->epoch = is_oldest ? 0 : get32(in + 89);
    event->origin = (enum event_origin)(flags & 3U);
    event->repeat = (flags & 4U) != 0;
    return true;
}

static void put_entry(unsigned char *out, const struct journal_index_entry *entry)
{
    put64(out, entry->offset);
    put64(out + 8, entry->first_seq);
    put64(out + 16, (uint64_t)entry->arrival_before_us);
    put64(out + 24, entry->pos_index_before);
}

void journal_format_put_index(struct buf *out, const struct journal_index_summary *summary,
                              const struct journal_index *index)
{
    size_t size = JOURNAL_INDEX_HEADER + index->n * JOURNAL_INDEX_ENTRY;
    unsigned char *at = (unsigned char *)buf_reserve(out, size);
    memcpy(at, index_magic, sizeof index_magic);
    put32(at + 12, JOURNAL_FORMAT);
    put64(at + 16, summary->first_seq);
    put64(at + 24, summary->size);
    put64(at + 32, summary->last.seq);
    put64(at + 40, (uint64_t)summary->last.arrival_us);
    put64(at + 48, summary->last.pos_index);
    put32(at + 56, summary->last.ordinal);
    put32(at + 60, (uint32_t)index->n);
    for (size_t i = 0; i < index->n; i++)
        put_entry(at + JOURNAL_INDEX_HEADER + i * JOURNAL_INDEX_ENTRY, &index->entries[i]);
    put32(at + 8, crc32c(0, at + 12, size - 12));
    out->len += size;
}

static void get_entries(const unsigned char *in, size_t n, struct journal_index *index)
{
    for (size_t i = 0; i < n; i++, in += JOURNAL_INDEX_ENTRY)
        *index_more(index) = (struct journal_index_entry){
            .offset = get64(in),
            .first_seq = get64(in + 8),
            .arrival_before_us = (int64_t)get64(in + 16),
            .pos_index_before = get64(in + 24),
        };
}

bool journal_format_get_index(struct str in, struct journal_index_summary *summary,
                              struct journal_index *index)
{
    const unsigned char *at = (const unsigned char *)in.p;
    if (in.len < JOURNAL_INDEX_HEADER || memcmp(at, index_magic, sizeof index_magic) != 0 ||
        get32(at + 12) < JOURNAL_FORMAT_OLDEST || get32(at + 12) > JOURNAL_FORMAT ||
        get32(at + 8) != crc32c(0, at + 12, in.len - 12))
        return false;
    size_t n = get32(at + 60);
    if (in.len != JOURNAL_INDEX_HEADER + n * JOURNAL_INDEX_ENTRY)
        return false;
    summary->first_seq = get64(at + 16);
    summary->size = get64(at + 24);
    summary->last.seq = get64(at + 32);
    summary->last.arrival_us = (int64_t)get64(at + 40);
    summary->last.pos_index = get64(at + 48);
    summary->last.ordinal = get32(at + 56);
    if (index != NULL)
        get_entries(at + JOURNAL_INDEX_HEADER, n, index);
    return true;
}
