/* journal_segment.h - segment files and their indexes: names, making, reading, scanning.
 *
 * Nothing here locks or keeps state: files are given as descriptors, and below the size that the
 * journal has committed they never change. */
#ifndef BUSBAR_JOURNAL_SEGMENT_H
#define BUSBAR_JOURNAL_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bridge/base/err.h"
#include "bridge/journal_format.h"

enum { JOURNAL_NAME_MAX = 32, JOURNAL_FILE_MODE = 0640 };

/* SEQ.seg or SEQ.idx. */
void journal_segment_name(char out[JOURNAL_NAME_MAX], uint64_t first_seq, const char *suffix);
/* False where the name is not of that form. */
bool journal_segment_parse(const char *name, const char *suffix, uint64_t *first_seq);

/* pread and pwrite that go on after a partial success. Bytes read (less at the file's end), or -1
 * with errno. */
ssize_t journal_segment_pread(int fd, void *out, size_t len, uint64_t offset);
/* 0, or -1 with errno: then some of the bytes may have been written. */
int journal_segment_pwrite(int fd, const void *p, size_t len, uint64_t offset);

/* True for the errnos of a disk, a quota or a file size limit that is full: it may pass. */
bool journal_segment_is_full(int why);

/* Makes a file with its header; *fd is open for reading and writing. -1 with errno, and nothing
 * was made. */
int journal_segment_create(int dirfd, const struct journal_segment_header *header, int *fd);

enum journal_found {
    JOURNAL_FOUND,
    JOURNAL_END,    /* nothing more before `end` */
    JOURNAL_BAD,    /* something is there, but no sound block */
    JOURNAL_FAILED, /* errno says why it can't be read */
};

/* The header at `offset` of a block that ends at or before `end`. */
enum journal_found journal_segment_header(int fd, uint64_t offset, uint64_t end,
                                          struct journal_block_header *header);
/* The next sound header at or after `from` of a block whose events come at or after `least_seq`;
 * END where there is none. For going on behind a bad block. */
enum journal_found journal_segment_resync(int fd, uint64_t from, uint64_t end, uint64_t least_seq,
                                          struct journal_block_header *header);

/* What a walk over a whole segment found. */
struct journal_scan {
    struct journal_mark last; /* of the last sound block, else what was given */
    uint64_t end;             /* behind the last sound block */
    uint64_t skipped;         /* bytes before `end` that are no sound blocks */
    bool short_tail;          /* what follows `end` is the beginning of one block, as a write that
                                 was broken off leaves it */
    struct journal_index index;
};

/* Walks `size` bytes of a segment; `before` is what its header says of its predecessor. With
 * `bodies` their CRCs are checked too, else only the headers'. -1 with errno where the file can't
 * be read. The caller gives scan->index back by journal_index_fini. */
int journal_segment_scan(int fd, uint64_t size, const struct journal_mark *before, bool bodies,
                         struct journal_scan *scan);

/* Writes SEQ.idx in place of what is there. -1 with errno; a missing one is no harm but time. */
int journal_segment_save_index(int dirfd, const struct journal_index_summary *summary,
                               const struct journal_index *index);
/* False where it is missing, damaged or of another segment. `index` may be NULL, else was empty. */
bool journal_segment_load_index(int dirfd, uint64_t first_seq,
                                struct journal_index_summary *summary, struct journal_index *index);

#endif
