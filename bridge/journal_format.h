/* journal_format.h - the bytes of a journal on disk, and their encoding.
 *
 * All numbers are little-endian and unaligned; CRC is CRC-32C. Nothing here reads files. Decoders
 * take bytes from anywhere: what they accept is consistent and within bounds, whatever it says.
 *
 * A segment file `SEQ.seg` is one segment header and then blocks, back to back.
 *
 * This is format 2. Format 1 is read too: there a block's magic ends in '1' and an event record has
 * no epoch. Each block says by its magic how its records are read, whatever segment it is in.
 *
 *   segment header, 64 bytes
 *    0  8  "BUSBARJ\n"
 *    8  4  CRC of bytes 12 to 63
 *   12  4  format (2; 1: none of its blocks is newer)
 *   16  8  journal id when it was made (told for people; `meta` has the one that counts)
 *   24  8  first sequence number, as in the file's name
 *   32  8  arrival_us  \
 *   40  8  pos_index    > of the last event before this segment, zeros where there was none
 *   48  4  ordinal     /
 *   52  4  0
 *   56  8  when it was made, µs since 1970
 *
 *   block header, 64 bytes, followed by the body
 *    0  4  FE 'B' 'B' '2' (FE occurs in no UTF-8 text)
 *    4  4  CRC of bytes 8 to 63
 *    8  4  CRC of the body
 *   12  4  length of the data area, at most 512 MiB
 *   16  4  number of messages, at least 1
 *   20  4  number of events, at least 1
 *   24  8  sequence number of its first event, from 1
 *   32  8  arrival_us of its first event
 *   40  8  pos_index of its last event
 *   48  4  ordinal of its last event
 *   52  4  arrival_us of its last event, minus that of the first
 *   56  8  offset of this header in its file: a block elsewhere is not one
 *
 *   body: data area, message records, event records, without gaps
 *
 *   data area: the raw bytes of each message, and in between the strings that do not stand in a
 *   message as they are. Offsets below count from its start; strings may share bytes.
 *
 *   message record, 16 bytes
 *    0  4  offset of its raw bytes
 *    4  4  their length
 *    8  4  number of its events; they follow those of the message before
 *   12  4  arrival_us of its first event, minus the block's; the others follow by 1 µs each
 *
 *   event record, 93 bytes (format 1: 89)
 *    0  8  offset and length (4 each) of data, within the raw bytes of its message
 *    8 40  offset and length of topic, type, key, namespace, filter_keys (packed as in event.h,
 *          so in the order of the host's bytes)
 *   48  8  index
 *   56  8  pos_index
 *   64  4  ordinal
 *   68  4  occurrence
 *   72  8  ident
 *   80  8  time_us
 *   88  1  bits 0 and 1: origin (enum event_origin; format 1: not 3); bit 2: repeat
 *   89  4  epoch (format 1: 0)
 *
 * An index file `SEQ.idx` belongs to a finished segment: 64 bytes, then entries of 32.
 *
 *    0  8  "BUSBARI\n"
 *    8  4  CRC of everything from byte 12
 *   12  4  format (1 or 2, the same)
 *   16  8  first sequence number
 *   24  8  size of the segment file
 *   32  8  last sequence number (first - 1 where there is no block)
 *   40  8  arrival_us  \
 *   48  8  pos_index    > of its last event
 *   56  4  ordinal     /
 *   60  4  number of entries
 *
 *   entry: a block that starts 64 KiB or more after the one of the entry before
 *    0  8  offset of the block
 *    8  8  its first sequence number
 *   16  8  arrival_us of the last event before it
 *   24  8  pos_index of the last event before it */
#ifndef BUSBAR_JOURNAL_FORMAT_H
#define BUSBAR_JOURNAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/event.h"

enum {
    JOURNAL_FORMAT = 2,        /* written */
    JOURNAL_FORMAT_OLDEST = 1, /* read */
    JOURNAL_SEGMENT_HEADER = 64,
    JOURNAL_BLOCK_HEADER = 64,
    JOURNAL_MESSAGE_RECORD = 16,
    JOURNAL_EVENT_RECORD = 93,
    JOURNAL_EVENT_RECORD_1 = 89, /* of format 1 */
    JOURNAL_INDEX_HEADER = 64,
    JOURNAL_INDEX_ENTRY = 32,
    JOURNAL_INDEX_EVERY = 64 * 1024,      /* bytes of segment from entry to entry, at least */
    JOURNAL_DATA_MAX = 512 * 1024 * 1024, /* of one block, so of one message */
};

/* How a block of any format begins; the digit of its format follows. */
#define JOURNAL_BLOCK_MAGIC \
    "\xfe"                  \
    "BB"
enum { JOURNAL_BLOCK_MAGIC_LEN = 3 };

/* Where something ends: its last event. */
struct journal_mark {
    uint64_t seq;
    int64_t arrival_us;
    uint64_t pos_index;
    uint32_t ordinal;
};

/* What a reader looks for: the first event whose seq, arrival or pos_index is at least this. */
struct journal_target {
    enum journal_by { JOURNAL_BY_SEQ, JOURNAL_BY_ARRIVAL, JOURNAL_BY_INDEX } by;
    uint64_t seq;
    int64_t arrival_us;
    uint64_t pos_index;
};

/* True where what ends at the mark holds such an event, or something before it does. */
bool journal_mark_reaches(const struct journal_mark *last, const struct journal_target *target);

struct journal_segment_header {
    uint32_t format;
    uint64_t journal_id;
    uint64_t first_seq;
    struct journal_mark before; /* seq is first_seq - 1 */
    int64_t made_us;
};

struct journal_block_header {
    uint32_t format; /* of its records */
    uint32_t body_crc;
    uint32_t data_len;
    uint32_t n_messages;
    uint32_t n_events;
    uint64_t first_seq;
    int64_t arrival_us;
    struct journal_mark last;
    uint64_t offset;
};

struct journal_message_record {
    uint32_t raw_offset, raw_len;
    uint32_t n_events;
    uint32_t arrival_delta;
};

struct journal_index_entry {
    uint64_t offset;
    uint64_t first_seq;
    int64_t arrival_before_us;
    uint64_t pos_index_before;
};

/* The sparse index of one segment; at most one entry per JOURNAL_INDEX_EVERY bytes of it. */
struct journal_index {
    struct journal_index_entry *entries;
    size_t n;
    size_t cap;
};

void journal_index_fini(struct journal_index *index);
/* Notes a block, if it is far enough from the last one noted. */
void journal_index_add(struct journal_index *index, const struct journal_block_header *block,
                       const struct journal_mark *before);
/* The last entry that has no event to find before it; NULL where there is none. */
const struct journal_index_entry *journal_index_find(const struct journal_index *index,
                                                     const struct journal_target *target);

void journal_format_put_segment(unsigned char out[JOURNAL_SEGMENT_HEADER],
                                const struct journal_segment_header *header);
/* False where it is damaged. A newer format is decoded no further than its number: look there. */
bool journal_format_get_segment(const unsigned char in[JOURNAL_SEGMENT_HEADER],
                                struct journal_segment_header *header);

void journal_format_put_block(unsigned char out[JOURNAL_BLOCK_HEADER],
                              const struct journal_block_header *header);
/* The same without the magic (but for its digit) and CRC: for fuzzing what lies behind them. */
bool journal_format_get_block_unchecked(const unsigned char in[JOURNAL_BLOCK_HEADER],
                                        struct journal_block_header *header);
/* False where it is damaged, says what no block can say, or belongs elsewhere than `offset`. */
bool journal_format_get_block(const unsigned char in[JOURNAL_BLOCK_HEADER], uint64_t offset,
                              struct journal_block_header *header);
size_t journal_format_body_size(const struct journal_block_header *header);
/* Bytes of one event record. */
size_t journal_format_event_size(uint32_t format);

void journal_format_put_message(unsigned char out[JOURNAL_MESSAGE_RECORD],
                                const struct journal_message_record *record);
void journal_format_get_message(const unsigned char in[JOURNAL_MESSAGE_RECORD],
                                struct journal_message_record *record);

/* A piece of the data area. */
struct journal_ref {
    uint32_t offset;
    uint32_t len;
};

/* The strings of an event record, in its order. */
struct journal_refs {
    struct journal_ref data, topic, type, key, ns, filter_keys;
};

/* Of `event` all is taken but strings, seq and arrival; in the newest format. */
void journal_format_put_event(unsigned char out[JOURNAL_EVENT_RECORD], const struct event *event,
                              const struct journal_refs *refs);
/* Where an event record stands. */
struct journal_place {
    uint32_t format;
    struct str area; /* the data area */
    struct journal_message_record message;
};

/* Fills all of `event` but seq and arrival from a record of journal_format_event_size bytes. False
 * where a string leaves the data area, `data` the raw bytes of its message, or the origin is
 * unknown. */
bool journal_format_get_event(const unsigned char *in, const struct journal_place *place,
                              struct event *event);

struct journal_index_summary {
    uint64_t first_seq;
    uint64_t size; /* of the segment file */
    struct journal_mark last;
};

/* Appends the whole file to `out`. */
void journal_format_put_index(struct buf *out, const struct journal_index_summary *summary,
                              const struct journal_index *index);
/* False where the bytes are no whole and sound index; `index` may be NULL, else it was empty. */
bool journal_format_get_index(struct str in, struct journal_index_summary *summary,
                              struct journal_index *index);

#endif
