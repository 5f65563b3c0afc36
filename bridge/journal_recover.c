/* journal_recover.c - what is in the directory becomes the list of segments.
 *
 * Finished segments are taken by their indexes (made again by a walk over the headers where they
 * are missing or don't fit); the last one is read whole. Behind its last sound block everything is
 * cut. A bad block with sound ones behind it stays where it is: readers are told JOURNAL_LOST
 * there.
 *
 * When does the journal keep its id, that is, when are its sequence numbers still exact? While the
 * machine did not go down, what a write() has completed is there; what a kill broke off is shorter
 * than it should be, and no reader has seen it. So the id changes where the boot id did and the
 * journal was not closed, where what was cut is no such short tail, where something is missing that
 * was there at a clean close, and where `meta` does not tell.
 *
 * What a killed process had written but not yet made durable is made so here: nobody else would.
 *
 * Nothing is written to a segment of an older format: it is finished, and a new one follows. */
#include "bridge/journal_internal.h"

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "bridge/journal_segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct names {
    uint64_t *seqs;
    size_t n, cap;
};

struct opened {
    int fd;
    uint64_t size;
    uint32_t format; /* 0 where its header can't tell */
    struct journal_mark before;
};

/* What is known of all segments while they are taken. */
struct taking {
    bool closed;     /* cleanly, so what was written is durable */
    bool intact;     /* false where a reader may have seen what was cut */
    uint32_t format; /* of the last segment */
};

static int failed(const struct journal *journal, uint64_t seq, struct err *err)
{
    return err_set(err, ERR_FATAL, "journal %s/%020" PRIu64 ".seg: %s", journal->dir, seq,
                   strerror(errno));
}

static int compare(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static int list(struct journal *journal, struct names *names, struct err *err)
{
    int fd = openat(journal->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        err_set(err, ERR_FATAL, "journal %s: %s", journal->dir, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        uint64_t seq;
        if (!journal_segment_parse(entry->d_name, ".seg", &seq) || seq >= UINT64_MAX / 2)
            continue;
        if (names->n == names->cap) {
            names->cap = names->cap > 0 ? names->cap * 2 : 32;
            names->seqs = mem_realloc(names->seqs, names->cap * sizeof *names->seqs);
        }
        names->seqs[names->n++] = seq;
    }
    closedir(dir);
    if (names->n > 1)
        qsort(names->seqs, names->n, sizeof *names->seqs, compare);
    return 0;
}

/* Opens a segment; what its header can't tell is taken from the segments before. */
static int open_segment(struct journal *journal, uint64_t seq, struct opened *opened,
                        struct err *err)
{
    char name[JOURNAL_NAME_MAX];
    journal_segment_name(name, seq, ".seg");
    opened->fd = openat(journal->dirfd, name, O_RDWR | O_CLOEXEC);
    struct stat st;
    unsigned char bytes[JOURNAL_SEGMENT_HEADER];
    ssize_t n = -1;
    if (opened->fd >= 0 && fstat(opened->fd, &st) == 0)
        n = journal_segment_pread(opened->fd, bytes, sizeof bytes, 0);
    if (n < 0)
        return failed(journal, seq, err);
    opened->size = (uint64_t)st.st_size;
    opened->before = journal->tail;
    struct journal_segment_header header;
    bool sound = n == (ssize_t)sizeof bytes && journal_format_get_segment(bytes, &header);
    if (sound && header.format > JOURNAL_FORMAT)
        return journal_meta_newer(journal->dir, name, header.format, err);
    if (sound && header.first_seq == seq) {
        opened->before = header.before;
        opened->format = header.format;
    } else {
        log_warn("journal_segment_header_bad", LOG_STR("dir", journal->dir), LOG_STR("file", name));
    }
    opened->before.seq = seq - 1;
    return 0;
}

static int make_durable(struct journal *journal, uint64_t seq, const struct opened *opened,
                        const struct taking *taking, struct err *err)
{
    if (taking->closed || journal->sync_ms == JOURNAL_SYNC_NEVER)
        return 0;
    return fdatasync(opened->fd) < 0 ? failed(journal, seq, err) : 0;
}

static int cut(struct journal *journal, uint64_t seq, const struct opened *opened, uint64_t end,
               struct err *err)
{
    char name[JOURNAL_NAME_MAX];
    journal_segment_name(name, seq, ".seg");
    log_warn("journal_cut", LOG_STR("dir", journal->dir), LOG_STR("file", name),
             LOG_INT("offset", end), LOG_INT("bytes", opened->size - end));
    return ftruncate(opened->fd, (off_t)end) < 0 ? failed(journal, seq, err) : 0;
}

static void warn_skipped(const struct journal *journal, uint64_t seq, uint64_t bytes)
{
    char name[JOURNAL_NAME_MAX];
    journal_segment_name(name, seq, ".seg");
    if (bytes > 0)
        log_warn("journal_bad_block", LOG_STR("dir", journal->dir), LOG_STR("file", name),
                 LOG_INT("bytes", bytes),
                 LOG_STR("hint", "a sink that had not read them yet says a Gap; check the disk"));
}

static int rebuild_index(struct journal *journal, uint64_t seq, const struct opened *opened,
                         struct journal_index_summary *summary, struct err *err)
{
    struct journal_scan scan;
    int result = journal_segment_scan(opened->fd, opened->size, &opened->before, false, &scan);
    if (result < 0)
        failed(journal, seq, err);
    else if (scan.end < opened->size)
        result = cut(journal, seq, opened, scan.end, err);
    if (result == 0) {
        warn_skipped(journal, seq, scan.skipped);
        *summary = (struct journal_index_summary){seq, scan.end, scan.last};
        journal_segment_save_index(journal->dirfd, summary, &scan.index);
        log_info("journal_index_rebuilt", LOG_STR("dir", journal->dir), LOG_INT("segment", seq));
    }
    journal_index_fini(&scan.index);
    return result;
}

static int take_finished(struct journal *journal, uint64_t seq, const struct taking *taking,
                         struct err *err)
{
    struct opened opened = {.fd = -1};
    int result = open_segment(journal, seq, &opened, err);
    struct journal_index_summary summary = {0};
    if (result == 0 && (!journal_segment_load_index(journal->dirfd, seq, &summary, NULL) ||
                        summary.size != opened.size))
        result = rebuild_index(journal, seq, &opened, &summary, err);
    if (result == 0 && taking != NULL)
        result = make_durable(journal, seq, &opened, taking, err);
    if (opened.fd >= 0)
        close(opened.fd);
    if (result < 0)
        return -1;
    struct journal_segment segment = {
        .first_seq = seq,
        .size = summary.size,
        .last = summary.last,
    };
    journal_list_add(journal, &segment, -1);
    journal->tail = summary.last;
    return 0;
}

static int take_last(struct journal *journal, uint64_t seq, struct taking *taking, struct err *err)
{
    struct opened opened = {.fd = -1};
    struct journal_scan scan = {0};
    int result = open_segment(journal, seq, &opened, err);
    if (result == 0 &&
        journal_segment_scan(opened.fd, opened.size, &opened.before, true, &scan) < 0)
        result = failed(journal, seq, err);
    if (result == 0 && opened.size > scan.end)
        result = cut(journal, seq, &opened, scan.end, err);
    if (result == 0)
        result = make_durable(journal, seq, &opened, taking, err);
    if (result < 0) {
        journal_index_fini(&scan.index);
        if (opened.fd >= 0)
            close(opened.fd);
        return -1;
    }
    warn_skipped(journal, seq, scan.skipped);
    taking->intact = scan.end >= opened.size || scan.short_tail;
    taking->format = opened.format;
    struct journal_segment segment = {.first_seq = seq, .size = scan.end, .last = scan.last};
    journal_list_add(journal, &segment, opened.fd);
    journal->index = scan.index;
    journal->tail = scan.last;
    return 0;
}

/* A kill in the middle of making a segment leaves less than its header: away with it. */
static int drop_unborn(struct journal *journal, struct names *names, struct err *err)
{
    if (names->n == 0)
        return 0;
    char name[JOURNAL_NAME_MAX];
    journal_segment_name(name, names->seqs[names->n - 1], ".seg");
    struct stat st;
    if (fstatat(journal->dirfd, name, &st, 0) < 0)
        return failed(journal, names->seqs[names->n - 1], err);
    if (st.st_size >= JOURNAL_SEGMENT_HEADER)
        return 0;
    names->n--;
    log_info("journal_cut", LOG_STR("dir", journal->dir), LOG_STR("file", name));
    return unlinkat(journal->dirfd, name, 0) < 0 ? failed(journal, names->seqs[names->n], err) : 0;
}

static int take_all(struct journal *journal, struct taking *taking, struct err *err)
{
    struct names names = {0};
    int result = list(journal, &names, err);
    if (result == 0)
        result = drop_unborn(journal, &names, err);
    for (size_t i = 0; result == 0 && i < names.n; i++) {
        bool may_be_new = i + JOURNAL_FINISHED_MAX + 2 >= names.n;
        result = i + 1 < names.n
                     ? take_finished(journal, names.seqs[i], may_be_new ? taking : NULL, err)
                     : take_last(journal, names.seqs[i], taking, err);
    }
    free(names.seqs);
    return result;
}

static const char *why_new_id(const struct journal *journal, const struct journal_meta *meta,
                              bool intact)
{
    if (!meta->closed && strcmp(meta->boot, journal->boot) != 0)
        return "the machine went down";
    if (!intact)
        return "damaged at its end";
    if (journal->tail.seq + 1 < meta->next_seq)
        return "its end is missing";
    return NULL;
}

static void choose_id(struct journal *journal, const struct journal_meta *meta, bool found,
                      bool intact)
{
    const char *why = "new";
    if (found)
        why = why_new_id(journal, meta, intact);
    journal->id = why == NULL ? meta->id : hash_random();
    if (found && why != NULL)
        log_warn("journal_new_id", LOG_STR("dir", journal->dir), LOG_STR("why", why),
                 LOG_STR("hint", "sinks go on by identity; what the source no longer has becomes a "
                                 "Gap"));
    if (found && journal->tail.seq + 1 < meta->next_seq)
        journal->tail.seq = meta->next_seq - 1;
}

/* The last segment is of an older format: what follows goes into one of this format. -1 with errno.
 */
static int leave_old_format(struct journal *journal)
{
    struct journal_segment old = *journal_list_active(journal);
    if (old.size <= JOURNAL_SEGMENT_HEADER) {
        struct journal_segment_header header = {
            .format = JOURNAL_FORMAT,
            .journal_id = journal->id,
            .first_seq = old.first_seq,
            .before = old.last,
            .made_us = clock_wall_us(),
        };
        unsigned char bytes[JOURNAL_SEGMENT_HEADER];
        journal_format_put_segment(bytes, &header);
        return journal_segment_pwrite(old.file->fd, bytes, sizeof bytes, 0);
    }
    struct journal_index_summary summary = {old.first_seq, old.size, old.last};
    journal_segment_save_index(journal->dirfd, &summary, &journal->index);
    if (journal_write_segment(journal) < 0)
        return -1;
    journal_list_close(journal, &old.file);
    log_info("journal_format_raised", LOG_STR("dir", journal->dir), LOG_INT("to", JOURNAL_FORMAT),
             LOG_INT("next_seq", journal->tail.seq + 1));
    return 0;
}

/* There is a segment that can be written to. */
static int have_segment(struct journal *journal, const struct taking *taking, struct err *err)
{
    int result = 0;
    if (journal->n_segments == 0)
        result = journal_write_segment(journal);
    else if (taking->format > 0 && taking->format < JOURNAL_FORMAT)
        result = leave_old_format(journal);
    if (result < 0)
        return err_set(err, ERR_FATAL, "journal %s: new segment: %s", journal->dir,
                       strerror(errno));
    return 0;
}

int journal_recover(struct journal *journal, struct err *err)
{
    struct journal_meta meta;
    bool found;
    if (journal_meta_read(journal->dir, journal->dirfd, &meta, &found, err) < 0)
        return -1;
    struct taking taking = {.closed = found && meta.closed, .intact = true};
    if (take_all(journal, &taking, err) < 0)
        return -1;
    choose_id(journal, &meta, found, taking.intact);
    meta = (struct journal_meta){.id = journal->id, .next_seq = journal->tail.seq + 1};
    memcpy(meta.boot, journal->boot, sizeof meta.boot);
    if (journal_meta_write(journal->dir, journal->dirfd, &meta, err) < 0 ||
        have_segment(journal, &taking, err) < 0)
        return -1;
    if (fsync(journal->dirfd) < 0)
        return err_set(err, ERR_FATAL, "journal %s: fsync: %s", journal->dir, strerror(errno));
    journal_write_prune(journal, 0);
    return 0;
}
