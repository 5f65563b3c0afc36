/* sheets.c - what the followers of one source who want the same are told. */
#include "connectors/mirror/sheets.h"

#include "bridge/base/log.h"
#include "connectors/mirror/seek.h"

#include <stdlib.h>

enum {
    SHEET_BYTES = 256 * 1024, /* more only for a line that is longer alone */
    SHEET_EVENTS = 8192,      /* looked at */
    SHEETS_BYTES = 8 << 20,
};

static size_t cost(const struct sheet *sheet)
{
    return sizeof *sheet + sheet->text.cap + sheet->cap * sizeof *sheet->lines;
}

static void drop(struct sheets *sheets, struct sheet *sheet)
{
    struct sheet **at = &sheet->crowd->sheets;
    while (*at != sheet)
        at = &(*at)->next;
    *at = sheet->next;
    list_remove(&sheets->used, &sheet->used);
    sheets->bytes -= cost(sheet);
    buf_fini(&sheet->text);
    free(sheet->lines);
    free(sheet);
}

void sheets_drop(struct sheets *sheets, struct crowd *crowd)
{
    while (crowd->sheets != NULL)
        drop(sheets, crowd->sheets);
}

static void use(struct sheets *sheets, struct sheet *sheet)
{
    list_remove(&sheets->used, &sheet->used);
    list_add(&sheets->used, &sheet->used, sheet);
}

static struct sheet *begin(struct sheets *sheets, struct crowd *crowd, uint64_t seq)
{
    struct sheet *sheet = mem_zalloc(sizeof *sheet);
    while (sheets->bytes > SHEETS_BYTES)
        drop(sheets, list_first(&sheets->used));
    *sheet = (struct sheet){.crowd = crowd, .from_seq = seq, .end_seq = seq};
    sheet->next = crowd->sheets;
    crowd->sheets = sheet;
    sheets->bytes += cost(sheet);
    use(sheets, sheet);
    return sheet;
}

struct sheet *sheets_find(struct sheets *sheets, struct crowd *crowd, uint64_t seq)
{
    struct sheet *sheet = crowd->sheets;
    while (sheet != NULL && (seq < sheet->from_seq || seq >= sheet->end_seq))
        sheet = sheet->next;
    if (sheet != NULL)
        use(sheets, sheet);
    return sheet;
}

size_t sheet_place(const struct sheet *sheet, uint64_t seq)
{
    size_t low = 0, high = sheet->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sheet->lines[middle].seq >= seq)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

size_t sheet_line_end(const struct sheet *sheet, size_t line)
{
    return line + 1 < sheet->n ? sheet->lines[line + 1].start : sheet->text.len;
}

/* ---- filling ---- */

static bool is_full(const struct sheet *sheet, const struct journal_message *message)
{
    return (sheet->n > 0 && sheet->text.len + message->raw.len > SHEET_BYTES) ||
           sheet->end_seq - sheet->from_seq > SHEET_EVENTS;
}

static void put_line(struct sheet *sheet, struct sheet_line line)
{
    if (sheet->n == sheet->cap) {
        sheet->cap = sheet->cap > 0 ? 2 * sheet->cap : 8;
        sheet->lines = mem_realloc(sheet->lines, sheet->cap * sizeof *sheet->lines);
    }
    sheet->lines[sheet->n++] = line;
}

static void put(struct sheets *sheets, struct sheet *sheet, const struct block *block,
                const struct journal_message *message)
{
    const struct event *told = seek_told(block, message);
    const struct event *first = &block->events[message->first_event];
    const struct crowd *crowd = sheet->crowd;
    size_t start = sheet->text.len, n = 0;
    sheets->bytes -= cost(sheet);
    if (told != NULL)
        n = crowd->compose(&sheet->text, sheets->feed, crowd->group->wish.filter, block, message);
    if (n > 0)
        put_line(sheet, (struct sheet_line){first->seq, start, told->arrival_us, told->index,
                                            told->epoch, (uint32_t)n});
    sheet->end_seq = first->seq + message->n_events;
    sheet->to_us = first[message->n_events - 1].arrival_us;
    sheets->bytes += cost(sheet);
}

/* ---- the newest ---- */

/* That which ends there, where it is of use: who waits needs one, and who is on it needs no other.
 */
static struct sheet *growing(struct sheets *sheets, struct crowd *crowd, uint64_t seq,
                             const struct journal_message *message)
{
    struct sheet *sheet = crowd->sheets;
    while (sheet != NULL && sheet->end_seq != seq)
        sheet = sheet->next;
    if (sheet != NULL && !is_full(sheet, message))
        return sheet;
    return crowd->asleep > 0 ? begin(sheets, crowd, seq) : NULL;
}

void sheets_tell(struct sheets *sheets, struct crowd *crowd, const struct block *block)
{
    for (size_t i = 0; i < block->n_messages; i++) {
        const struct journal_message *message = &block->messages[i];
        uint64_t seq = block->events[message->first_event].seq;
        struct sheet *sheet = growing(sheets, crowd, seq, message);
        if (sheet == NULL)
            return;
        size_t before = sheet->n;
        put(sheets, sheet, block, message);
        if (sheet->n > before && crowd->asleep > 0 && crowd->news_seq == 0)
            crowd->news_seq = seq;
    }
}

/* ---- what lies behind ---- */

/* The next stretch that is held begins there, or later. */
static uint64_t end_of_load(const struct crowd *crowd, uint64_t seq, uint64_t end_seq)
{
    for (const struct sheet *sheet = crowd->sheets; sheet != NULL; sheet = sheet->next)
        if (sheet->from_seq > seq && sheet->from_seq < end_seq)
            end_seq = sheet->from_seq;
    return end_seq;
}

/* False where the sheet ends. */
static bool put_block(struct sheets *sheets, struct sheet *sheet, const struct block *block,
                      uint64_t end_seq)
{
    for (size_t i = 0; i < block->n_messages; i++) {
        const struct journal_message *message = &block->messages[i];
        uint64_t seq = block->events[message->first_event].seq;
        if (seq < sheet->end_seq)
            continue;
        if (seq >= end_seq || is_full(sheet, message))
            return false;
        put(sheets, sheet, block, message);
    }
    return true;
}

enum sheets_loaded sheets_load(struct sheets *sheets, struct crowd *crowd, uint64_t *seq,
                               uint64_t end_seq)
{
    struct journal *journal = sheets->feed->sources[crowd->source].journal;
    struct journal_reader *reader = journal_reader_new(journal);
    struct sheet *sheet = begin(sheets, crowd, *seq);
    struct block *block;
    struct err err;
    enum journal_read read = JOURNAL_NOTHING;
    bool more = true;
    end_seq = end_of_load(crowd, *seq, end_seq);
    journal_reader_seek(reader, *seq);
    while (more && sheet->end_seq < end_seq &&
           (read = journal_reader_next(reader, 0, &block, &err)) == JOURNAL_BLOCK) {
        more = put_block(sheets, sheet, block, end_seq);
        block_unref(&block);
    }
    uint64_t behind = journal_reader_seq(reader);
    journal_reader_free(&reader);
    if (sheet->end_seq > *seq)
        return SHEETS_LOADED;
    drop(sheets, sheet);
    *seq = behind;
    if (read == JOURNAL_ERROR)
        log_error("mirror_journal", LOG_STR("err", err.msg));
    return read == JOURNAL_LOST ? SHEETS_LOST : SHEETS_FAILED;
}
