/* journal_segment.c - segment files and their indexes: names, making, reading, scanning. */
#include "bridge/journal_segment.h"

#include "bridge/base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WINDOW = 256 * 1024, SEQ_DIGITS = 20 };
/* An index of a segment of 64 MiB has 1,024 entries; of one huge block, one. */
enum { INDEX_FILE_MAX = 16 * 1024 * 1024 };

void journal_segment_name(char out[JOURNAL_NAME_MAX], uint64_t first_seq, const char *suffix)
{
    snprintf(out, JOURNAL_NAME_MAX, "%020" PRIu64 "%s", first_seq, suffix);
}

bool journal_segment_parse(const char *name, const char *suffix, uint64_t *first_seq)
{
    uint64_t seq = 0;
    for (int i = 0; i < SEQ_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9')
            return false;
        seq = seq * 10 + (uint64_t)(name[i] - '0');
    }
    char again[JOURNAL_NAME_MAX]; /* refuses numbers past 64 bits too */
    journal_segment_name(again, seq, suffix);
    *first_seq = seq;
    return seq > 0 && strcmp(name, again) == 0;
}

ssize_t journal_segment_pread(int fd, void *out, size_t len, uint64_t offset)
{
    char *at = out;
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, at + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int journal_segment_pwrite(int fd, const void *p, size_t len, uint64_t offset)
{
    const char *at = p;
    size_t done = 0;
    while (done < len) {
        ssize_t n = pwrite(fd, at + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

bool journal_segment_is_full(int why)
{
    return why == ENOSPC || why == EDQUOT || why == EFBIG;
}

int journal_segment_create(int dirfd, const struct journal_segment_header *header, int *fd)
{
    char name[JOURNAL_NAME_MAX];
    journal_segment_name(name, header->first_seq, ".seg");
    *fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, JOURNAL_FILE_MODE);
    if (*fd < 0)
        return -1;
    unsigned char bytes[JOURNAL_SEGMENT_HEADER];
    journal_format_put_segment(bytes, header);
    if (journal_segment_pwrite(*fd, bytes, sizeof bytes, 0) == 0)
        return 0;
    int why = errno;
    close(*fd);
    unlinkat(dirfd, name, 0);
    *fd = -1;
    errno = why;
    return -1;
}

static bool fits(const struct journal_block_header *header, uint64_t end)
{
    uint64_t from = header->offset + JOURNAL_BLOCK_HEADER;
    return from <= end && journal_format_body_size(header) <= end - from;
}

enum journal_found journal_segment_header(int fd, uint64_t offset, uint64_t end,
                                          struct journal_block_header *header)
{
    if (offset >= end)
        return JOURNAL_END;
    if (end - offset < JOURNAL_BLOCK_HEADER)
        return JOURNAL_BAD;
    unsigned char bytes[JOURNAL_BLOCK_HEADER];
    ssize_t n = journal_segment_pread(fd, bytes, sizeof bytes, offset);
    if (n < 0)
        return JOURNAL_FAILED;
    if ((size_t)n < sizeof bytes || !journal_format_get_block(bytes, offset, header) ||
        !fits(header, end))
        return JOURNAL_BAD;
    return JOURNAL_FOUND;
}

/* The first sound header among `len` bytes that stand at `offset` of the file. */
static bool find_header(struct str bytes, uint64_t offset, uint64_t end, uint64_t least_seq,
                        struct journal_block_header *header)
{
    const unsigned char *p = (const unsigned char *)bytes.p, *at = p, *stop = p + bytes.len;
    while (stop - at >= JOURNAL_BLOCK_HEADER) {
        at = memmem(at, (size_t)(stop - at), JOURNAL_BLOCK_MAGIC, JOURNAL_BLOCK_MAGIC_LEN);
        if (at == NULL || stop - at < JOURNAL_BLOCK_HEADER)
            return false;
        if (journal_format_get_block(at, offset + (uint64_t)(at - p), header) &&
            fits(header, end) && header->first_seq >= least_seq)
            return true;
        at++;
    }
    return false;
}

enum journal_found journal_segment_resync(int fd, uint64_t from, uint64_t end, uint64_t least_seq,
                                          struct journal_block_header *header)
{
    char *window = mem_alloc(WINDOW);
    enum journal_found found = JOURNAL_END;
    while (found == JOURNAL_END && from < end) {
        size_t want = end - from < WINDOW ? (size_t)(end - from) : WINDOW;
        ssize_t n = journal_segment_pread(fd, window, want, from);
        if (n < 0)
            found = JOURNAL_FAILED;
        if (n < JOURNAL_BLOCK_HEADER)
            break;
        if (find_header((struct str){window, (size_t)n}, from, end, least_seq, header))
            found = JOURNAL_FOUND;
        from += (uint64_t)n - (JOURNAL_BLOCK_HEADER - 1);
    }
    free(window);
    return found;
}

/* 1 where the CRC of the body is right, 0 where not, -1 with errno. */
static int body_is_sound(int fd, const struct journal_block_header *header, char *window)
{
    uint64_t offset = header->offset + JOURNAL_BLOCK_HEADER;
    size_t left = journal_format_body_size(header);
    uint32_t crc = 0;
    while (left > 0) {
        size_t want = left < WINDOW ? left : WINDOW;
        ssize_t n = journal_segment_pread(fd, window, want, offset);
        if (n < 0)
            return -1;
        if (n == 0)
            return 0;
        crc = crc32c(crc, window, (size_t)n);
        left -= (size_t)n;
        offset += (uint64_t)n;
    }
    return crc == header->body_crc;
}

static uint64_t block_end(const struct journal_block_header *header)
{
    return header->offset + JOURNAL_BLOCK_HEADER + journal_format_body_size(header);
}

/* The next block behind scan->end whose header, and body where there is a window, is sound. */
static enum journal_found next_sound(int fd, uint64_t size, const struct journal_scan *scan,
                                     char *window, struct journal_block_header *header)
{
    uint64_t from = scan->end;
    enum journal_found found = journal_segment_header(fd, from, size, header);
    if (found == JOURNAL_FOUND && header->first_seq <= scan->last.seq)
        found = JOURNAL_BAD;
    while (found == JOURNAL_FOUND || found == JOURNAL_BAD) {
        int sound = 0;
        if (found == JOURNAL_FOUND)
            sound = window == NULL ? 1 : body_is_sound(fd, header, window);
        if (sound != 0)
            return sound > 0 ? JOURNAL_FOUND : JOURNAL_FAILED;
        from = found == JOURNAL_FOUND ? block_end(header) : from + 1;
        found = journal_segment_resync(fd, from, size, scan->last.seq + 1, header);
    }
    return found;
}

/* Is what lies between `offset` and `size` one block that was not written to its end? */
static bool is_short(int fd, uint64_t offset, uint64_t size)
{
    if (size - offset < JOURNAL_BLOCK_HEADER)
        return true;
    struct journal_block_header header;
    unsigned char bytes[JOURNAL_BLOCK_HEADER];
    ssize_t n = journal_segment_pread(fd, bytes, sizeof bytes, offset);
    return n == (ssize_t)sizeof bytes && journal_format_get_block(bytes, offset, &header) &&
           !fits(&header, size);
}

int journal_segment_scan(int fd, uint64_t size, const struct journal_mark *before, bool bodies,
                         struct journal_scan *scan)
{
    *scan = (struct journal_scan){.last = *before, .end = JOURNAL_SEGMENT_HEADER};
    char *window = bodies ? mem_alloc(WINDOW) : NULL;
    enum journal_found found;
    struct journal_block_header header;
    while ((found = next_sound(fd, size, scan, window, &header)) == JOURNAL_FOUND) {
        journal_index_add(&scan->index, &header, &scan->last);
        scan->skipped += header.offset - scan->end;
        scan->last = header.last;
        scan->end = block_end(&header);
    }
    int why = errno;
    scan->short_tail = found == JOURNAL_END && scan->end < size && is_short(fd, scan->end, size);
    free(window);
    errno = why;
    return found == JOURNAL_FAILED ? -1 : 0;
}

int journal_segment_save_index(int dirfd, const struct journal_index_summary *summary,
                               const struct journal_index *index)
{
    char name[JOURNAL_NAME_MAX];
    journal_segment_name(name, summary->first_seq, ".idx");
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, JOURNAL_FILE_MODE);
    if (fd < 0)
        return -1;
    struct buf bytes = {0};
    journal_format_put_index(&bytes, summary, index);
    int result = journal_segment_pwrite(fd, bytes.p, bytes.len, 0);
    int why = errno;
    buf_fini(&bytes);
    close(fd);
    if (result < 0)
        unlinkat(dirfd, name, 0);
    errno = why;
    return result;
}

bool journal_segment_load_index(int dirfd, uint64_t first_seq,
                                struct journal_index_summary *summary, struct journal_index *index)
{
    char name[JOURNAL_NAME_MAX];
    journal_segment_name(name, first_seq, ".idx");
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return false;
    bool ok = false;
    if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size <= INDEX_FILE_MAX) {
        size_t size = (size_t)st.st_size;
        char *bytes = mem_alloc(size);
        ok = journal_segment_pread(fd, bytes, size, 0) == (ssize_t)size &&
             journal_format_get_index((struct str){bytes, size}, summary, index) &&
             summary->first_seq == first_seq;
        free(bytes);
    }
    close(fd);
    return ok;
}
