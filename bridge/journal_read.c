/* journal_read.c - readers: from the ring while they keep up, from segment files when they lag.
 *
 * A reader is a sequence number. In a file it also knows where that is: the offset of a block
 * boundary and the number expected there, so that it can tell a hole. Reading a block brings the
 * header of the next one along: one pread a block. Whatever can't be read is stepped over to the
 * next sound block and told as JOURNAL_LOST. */
#include "bridge/journal_internal.h"

#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "bridge/journal_segment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct journal_reader {
    struct journal *journal;
    uint64_t next; /* the first seq wanted */
    struct journal_file *file;
    uint64_t offset; /* of a block in it */
    uint64_t at_seq; /* expected there */
    bool has_ahead;
    struct journal_block_header ahead; /* the header at `offset` */
};

struct journal_reader *journal_reader_new(struct journal *journal)
{
    struct journal_reader *reader = mem_zalloc(sizeof *reader);
    reader->journal = journal;
    reader->next = journal_first_seq(journal);
    return reader;
}

/* With the mutex held. */
static void leave_file(struct journal_reader *reader)
{
    journal_list_close(reader->journal, &reader->file);
    reader->has_ahead = false;
}

void journal_reader_free(struct journal_reader **reader)
{
    struct journal_reader *gone = *reader;
    *reader = NULL;
    if (gone == NULL)
        return;
    pthread_mutex_lock(&gone->journal->mutex);
    leave_file(gone);
    pthread_mutex_unlock(&gone->journal->mutex);
    free(gone);
}

uint64_t journal_reader_seq(const struct journal_reader *reader)
{
    return reader->next;
}

void journal_reader_seek(struct journal_reader *reader, uint64_t seq)
{
    reader->next = seq > 0 ? seq : 1;
    if (reader->next != reader->at_seq)
        reader->at_seq = UINT64_MAX; /* the index is nearer than a walk from here */
}

/* ---- in a file ---- */

static void stand(struct journal_reader *reader, uint64_t offset, uint64_t seq)
{
    reader->offset = offset;
    reader->at_seq = seq;
    reader->has_ahead = false;
}

static uint64_t end_of(const struct journal_block_header *header)
{
    return header->offset + JOURNAL_BLOCK_HEADER + journal_format_body_size(header);
}

/* With the mutex held: stands in segment `i` at or before the target. False with errno where the
 * file can't be opened. *finished is true where its index should be looked at. */
static bool enter(struct journal_reader *reader, size_t i, const struct journal_target *target,
                  bool *finished)
{
    struct journal *journal = reader->journal;
    struct journal_extent extent = journal_list_extent(journal, i);
    *finished = false;
    bool inside = reader->file != NULL && reader->file == journal->segments[i].file;
    if (inside && target->by == JOURNAL_BY_SEQ && reader->at_seq <= target->seq)
        return true;
    if (!inside) {
        leave_file(reader);
        reader->file = journal_list_open(journal, i);
        if (reader->file == NULL)
            return false;
    }
    stand(reader, JOURNAL_SEGMENT_HEADER, extent.first_seq);
    if (target->by == JOURNAL_BY_SEQ && target->seq == extent.first_seq)
        return true;
    *finished = !extent.active;
    const struct journal_index_entry *entry =
        extent.active ? journal_index_find(&journal->index, target) : NULL;
    if (entry != NULL)
        stand(reader, entry->offset, entry->first_seq);
    return true;
}

/* Without the mutex: goes nearer to the target by the index of a finished segment. */
static void jump(struct journal_reader *reader, const struct journal_target *target)
{
    struct journal_index index = {0};
    struct journal_index_summary summary;
    const struct journal_index_entry *entry = NULL;
    if (journal_segment_load_index(reader->journal->dirfd, reader->file->segment, &summary, &index))
        entry = journal_index_find(&index, target);
    if (entry != NULL)
        stand(reader, entry->offset, entry->first_seq);
    journal_index_fini(&index);
}

/* Goes on to the block that reaches the target; its header. BAD: no sound one at reader->offset. */
static enum journal_found walk(struct journal_reader *reader, const struct journal_extent *extent,
                               const struct journal_target *target,
                               struct journal_block_header *header)
{
    for (;;) {
        enum journal_found found = JOURNAL_FOUND;
        if (reader->has_ahead)
            *header = reader->ahead;
        else
            found = journal_segment_header(reader->file->fd, reader->offset, extent->end, header);
        if (found == JOURNAL_FOUND && header->first_seq < reader->at_seq)
            found = JOURNAL_BAD;
        if (found != JOURNAL_FOUND || journal_mark_reaches(&header->last, target))
            return found;
        stand(reader, end_of(header), header->last.seq + 1);
    }
}

/* The block of this header, which is where the reader stands; the reader then stands behind it.
 * NULL where the body is bad. */
static struct block *load(struct journal_reader *reader, const struct journal_extent *extent,
                          const struct journal_block_header *header)
{
    size_t body = journal_format_body_size(header);
    uint64_t next = end_of(header);
    bool more = extent->end > next && extent->end - next >= JOURNAL_BLOCK_HEADER;
    size_t size = body + (more ? JOURNAL_BLOCK_HEADER : 0);
    char *memory = mem_alloc(size);
    ssize_t n = journal_segment_pread(reader->file->fd, memory, size,
                                      header->offset + JOURNAL_BLOCK_HEADER);
    stand(reader, next, header->last.seq + 1);
    struct block *block = NULL;
    if (n >= (ssize_t)body && crc32c(0, memory, body) == header->body_crc)
        block = journal_block_from_body(header, memory, size);
    if (block == NULL) {
        free(memory);
        return NULL;
    }
    const unsigned char *ahead = (const unsigned char *)memory + body;
    reader->has_ahead = more && n == (ssize_t)size &&
                        journal_format_get_block(ahead, next, &reader->ahead) &&
                        end_of(&reader->ahead) <= extent->end;
    return block;
}

static void warn_once(struct journal_reader *reader, const struct journal_extent *extent,
                      uint64_t offset)
{
    struct journal *journal = reader->journal;
    bool warned = true;
    pthread_mutex_lock(&journal->mutex);
    for (size_t i = 0; i < journal->n_segments; i++)
        if (journal->segments[i].first_seq == extent->first_seq) {
            warned = journal->segments[i].warned;
            journal->segments[i].warned = true;
        }
    pthread_mutex_unlock(&journal->mutex);
    char name[JOURNAL_NAME_MAX];
    journal_segment_name(name, extent->first_seq, ".seg");
    if (!warned)
        log_warn("journal_bad_block", LOG_STR("dir", journal->dir), LOG_STR("file", name),
                 LOG_INT("offset", offset), LOG_INT("seq", reader->next),
                 LOG_STR("hint", "a sink that had not read it yet says a Gap; check the disk"));
}

static enum journal_read lost(struct journal_reader *reader, uint64_t next, const char *why,
                              struct err *err)
{
    err_set(err, ERR_INPUT, "journal %s: events %" PRIu64 " to %" PRIu64 ": %s",
            reader->journal->dir, reader->next, next - 1, why);
    reader->next = next;
    return JOURNAL_LOST;
}

/* Steps over what is bad where the reader stands, to the next sound block or the end. */
static void step_over(struct journal_reader *reader, const struct journal_extent *extent)
{
    struct journal_block_header header;
    warn_once(reader, extent, reader->offset);
    if (journal_segment_resync(reader->file->fd, reader->offset + 1, extent->end, reader->at_seq,
                               &header) == JOURNAL_FOUND)
        stand(reader, header.offset, header.first_seq);
    else
        stand(reader, extent->end, extent->limit_seq);
}

static enum journal_read read_here(struct journal_reader *reader,
                                   const struct journal_extent *extent, struct block **block,
                                   struct err *err)
{
    struct journal_target target = {.by = JOURNAL_BY_SEQ, .seq = reader->next};
    struct journal_block_header header;
    enum journal_found found;
    const char *why = "missing";
    while ((found = walk(reader, extent, &target, &header)) == JOURNAL_BAD ||
           found == JOURNAL_FAILED) {
        step_over(reader, extent);
        why = "unreadable";
    }
    if (found != JOURNAL_FOUND)
        return lost(reader, extent->limit_seq, why, err);
    if (header.first_seq > reader->next) {
        stand(reader, header.offset, header.first_seq);
        return lost(reader, header.first_seq, why, err);
    }
    *block = load(reader, extent, &header);
    if (*block == NULL) {
        warn_once(reader, extent, header.offset);
        return lost(reader, header.last.seq + 1, "unreadable", err);
    }
    reader->next = header.last.seq + 1;
    return JOURNAL_BLOCK;
}

/* With the mutex held, without afterwards. */
static enum journal_read read_file(struct journal_reader *reader, struct block **block,
                                   struct err *err)
{
    struct journal *journal = reader->journal;
    struct journal_target target = {.by = JOURNAL_BY_SEQ, .seq = reader->next};
    size_t i = journal_list_find(journal, &target);
    struct journal_extent extent = journal_list_extent(journal, i);
    bool finished;
    bool entered = enter(reader, i, &target, &finished);
    int why = errno;
    pthread_mutex_unlock(&journal->mutex);
    if (!entered && why == ENOENT)
        return lost(reader, extent.limit_seq, "the segment was deleted", err);
    if (!entered) {
        err_set(err, ERR_RETRY, "journal %s: open segment %" PRIu64 ": %s", journal->dir,
                extent.first_seq, strerror(why));
        return JOURNAL_ERROR;
    }
    if (finished)
        jump(reader, &target);
    return read_here(reader, &extent, block, err);
}

/* ---- the next block ---- */

static struct timespec after_ms(int ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    int64_t ns = at.tv_nsec + (int64_t)ms * 1000000;
    at.tv_sec += ns / 1000000000;
    at.tv_nsec = ns % 1000000000;
    return at;
}

/* With the mutex held: true when there is something to read, or to stop for. */
static bool wait_for_news(struct journal_reader *reader, int timeout_ms)
{
    struct journal *journal = reader->journal;
    if (timeout_ms <= 0 || journal->stopped || reader->next <= journal->tail.seq)
        return journal->stopped || reader->next <= journal->tail.seq;
    struct timespec until = after_ms(timeout_ms);
    int result = 0;
    journal->waiting++;
    while (!journal->stopped && reader->next > journal->tail.seq && result != ETIMEDOUT)
        result = pthread_cond_timedwait(&journal->news, &journal->mutex, &until);
    journal->waiting--;
    return journal->stopped || reader->next <= journal->tail.seq;
}

/* With the mutex held. */
static enum journal_read read_ring(struct journal_reader *reader, struct block **block)
{
    struct journal_target target = {.by = JOURNAL_BY_SEQ, .seq = reader->next};
    struct block *found = journal_ring_find(&reader->journal->ring, &target);
    if (found == NULL)
        return JOURNAL_NOTHING;
    leave_file(reader);
    *block = block_ref(found);
    reader->next = found->first_seq + found->n_events;
    return JOURNAL_BLOCK;
}

enum journal_read journal_reader_next(struct journal_reader *reader, int timeout_ms,
                                      struct block **block, struct err *err)
{
    struct journal *journal = reader->journal;
    *block = NULL;
    pthread_mutex_lock(&journal->mutex);
    bool news = wait_for_news(reader, timeout_ms);
    enum journal_read result = journal->stopped ? JOURNAL_STOPPED : JOURNAL_NOTHING;
    if (news && !journal->stopped)
        result = read_ring(reader, block);
    uint64_t oldest = journal->segments[0].first_seq;
    if (news && result == JOURNAL_NOTHING && reader->next >= oldest)
        return read_file(reader, block, err);
    pthread_mutex_unlock(&journal->mutex);
    if (news && result == JOURNAL_NOTHING)
        return lost(reader, oldest, "no longer held", err);
    return result;
}

/* ---- seeking ---- */

/* Without the mutex, in a file: the first event there that reaches the target. */
static uint64_t find_here(struct journal_reader *reader, const struct journal_extent *extent,
                          const struct journal_target *target)
{
    struct journal_block_header header;
    /* Where something can't be read, it might have been there: the next read says so. */
    if (walk(reader, extent, target, &header) != JOURNAL_FOUND || header.first_seq > reader->at_seq)
        return reader->at_seq;
    if (target->by != JOURNAL_BY_ARRIVAL)
        return header.first_seq;
    struct block *block = load(reader, extent, &header);
    if (block == NULL)
        return header.first_seq;
    size_t i = 0;
    while (i + 1 < block->n_events && block->events[i].arrival_us < target->arrival_us)
        i++;
    uint64_t seq = block->events[i].seq;
    block_unref(&block);
    return seq;
}

/* With the mutex held: the answer, or 0 where no block in memory has it. */
static uint64_t find_in_memory(const struct journal *journal, const struct journal_target *target)
{
    if (!journal_mark_reaches(&journal->tail, target))
        return journal->tail.seq + 1;
    const struct block *block = journal_ring_find(&journal->ring, target);
    if (block == NULL)
        return 0;
    size_t i = 0;
    if (target->by == JOURNAL_BY_ARRIVAL)
        while (block->events[i].arrival_us < target->arrival_us)
            i++;
    return block->events[i].seq;
}

/* False where nothing that is gone can reach the target. */
static bool seek(struct journal_reader *reader, const struct journal_target *target)
{
    struct journal *journal = reader->journal;
    pthread_mutex_lock(&journal->mutex);
    uint64_t seq = find_in_memory(journal, target);
    if (seq > 0) {
        bool none_ever = journal->tail.arrival_us == 0;
        reader->next = seq;
        pthread_mutex_unlock(&journal->mutex);
        return none_ever;
    }
    size_t i = journal_list_find(journal, target);
    struct journal_extent extent = journal_list_extent(journal, i);
    bool finished;
    bool entered = enter(reader, i, target, &finished);
    pthread_mutex_unlock(&journal->mutex);
    reader->next = extent.first_seq;
    if (!entered)
        return i == 0; /* the next read says why */
    if (finished)
        jump(reader, target);
    reader->next = find_here(reader, &extent, target);
    return i == 0 && reader->next == extent.first_seq;
}

bool journal_reader_seek_arrival(struct journal_reader *reader, int64_t arrival_us)
{
    struct journal_target target = {.by = JOURNAL_BY_ARRIVAL, .arrival_us = arrival_us};
    return seek(reader, &target);
}

void journal_reader_seek_index(struct journal_reader *reader, uint64_t pos_index)
{
    struct journal_target target = {.by = JOURNAL_BY_INDEX, .pos_index = pos_index};
    seek(reader, &target);
}
