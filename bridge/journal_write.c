/* journal_write.c - the writer's side: blocks into segments, segments one after another, the oldest
 * away.
 *
 * A block is written by one pwritev behind the last one and shown to readers only then. Where that
 * fails for want of room, what was written of it is cut off, the block stays under construction and
 * the next commit tries again: before that, segments that every sink has passed are given up.
 *
 * When somebody deletes the files of a running journal, what readers have open and what the ring
 * holds can still be read; the directory, lock and meta are made anew and a new segment goes on
 * with the next sequence number. A sink that wanted what is gone is told by JOURNAL_LOST, like
 * after pruning; nothing goes on being written to files that have no name. */
#include "bridge/journal_internal.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/journal_segment.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PARTS = 4, TRIM_AT_ONCE = 64, CHECK_FILES_MS = 1000 };

static int failed(const struct journal *journal, const char *what, int why, struct err *err)
{
    if (journal_segment_is_full(why))
        return err_set(err, ERR_RETRY, "journal %s: %s: %s", journal->dir, what, strerror(why));
    return err_set(err, ERR_FATAL, "journal %s: %s: %s", journal->dir, what, strerror(why));
}

static void delete_files(const struct journal *journal, uint64_t first_seq)
{
    char name[JOURNAL_NAME_MAX];
    journal_segment_name(name, first_seq, ".seg");
    unlinkat(journal->dirfd, name, 0);
    journal_segment_name(name, first_seq, ".idx");
    unlinkat(journal->dirfd, name, 0);
}

static void drop_oldest(struct journal *journal)
{
    uint64_t first_seq = journal->segments[0].first_seq;
    pthread_mutex_lock(&journal->mutex);
    journal_list_remove(journal, 0);
    pthread_mutex_unlock(&journal->mutex);
    delete_files(journal, first_seq);
    log_debug("journal_pruned", LOG_STR("dir", journal->dir), LOG_INT("segment", first_seq));
}

void journal_write_prune(struct journal *journal, uint64_t more)
{
    while (journal->n_segments > 1 && journal->bytes + more > journal->max_size)
        drop_oldest(journal);
}

static bool oldest_is_passed(struct journal *journal)
{
    pthread_mutex_lock(&journal->mutex);
    bool passed = journal->n_segments > 1 && journal->segments[1].first_seq <= journal->passed;
    pthread_mutex_unlock(&journal->mutex);
    return passed;
}

/* A full disk is no error of what is tried again anyway. */
static int unless_full(int result, const struct err *mine, struct err *err)
{
    if (result == 0 || mine->kind == ERR_RETRY)
        return 0;
    return err_set(err, mine->kind, "%s", mine->msg);
}

/* ---- segments ---- */

int journal_write_segment(struct journal *journal)
{
    struct journal_segment_header header = {
        .format = JOURNAL_FORMAT,
        .journal_id = journal->id,
        .first_seq = journal->tail.seq + 1,
        .before = journal->tail,
        .made_us = clock_wall_us(),
    };
    int fd;
    if (journal_segment_create(journal->dirfd, &header, &fd) < 0)
        return -1;
    struct journal_segment segment = {
        .first_seq = header.first_seq,
        .size = JOURNAL_SEGMENT_HEADER,
        .last = journal->tail,
    };
    pthread_mutex_lock(&journal->mutex);
    journal_list_add(journal, &segment, fd);
    journal_index_fini(&journal->index);
    pthread_mutex_unlock(&journal->mutex);
    return 0;
}

/* ---- files that are gone ---- */

static bool is_gone(const struct journal *journal, const struct journal_segment *segment)
{
    char name[JOURNAL_NAME_MAX];
    journal_segment_name(name, segment->first_seq, ".seg");
    struct stat there, held;
    if (fstatat(journal->dirfd, name, &there, 0) < 0)
        return errno == ENOENT;
    return segment->file != NULL && fstat(segment->file->fd, &held) == 0 &&
           (held.st_ino != there.st_ino || held.st_dev != there.st_dev);
}

static int renew_dir(struct journal *journal, struct err *err)
{
    int dirfd;
    if (journal_meta_open_dir(journal->dir, &dirfd, err) < 0)
        return -1;
    /* Readers use the number at any time: it stays. */
    dup3(dirfd, journal->dirfd, O_CLOEXEC);
    close(dirfd);
    if (journal_meta_holds_lock(journal->dirfd, journal->lockfd))
        return 0;
    int lockfd;
    if (journal_meta_lock(journal->dir, journal->dirfd, &lockfd, err) < 0)
        return -1;
    close(journal->lockfd);
    journal->lockfd = lockfd;
    return 0;
}

static void forget_gone(struct journal *journal)
{
    for (size_t i = journal->n_segments; i-- > 0;) {
        pthread_mutex_lock(&journal->mutex);
        if (is_gone(journal, &journal->segments[i]))
            journal_list_remove(journal, i);
        pthread_mutex_unlock(&journal->mutex);
    }
}

static int renew(struct journal *journal, struct err *err)
{
    struct journal_meta meta = {.id = journal->id, .next_seq = journal->tail.seq + 1};
    memcpy(meta.boot, journal->boot, sizeof meta.boot);
    if (renew_dir(journal, err) < 0 ||
        journal_meta_write(journal->dir, journal->dirfd, &meta, err) < 0)
        return -1;
    struct journal_file *file = NULL;
    if (is_gone(journal, journal_list_active(journal))) {
        file = journal_list_active(journal)->file;
        if (journal_write_segment(journal) < 0)
            return failed(journal, "new segment", errno, err);
    }
    forget_gone(journal);
    log_warn("journal_files_deleted", LOG_STR("dir", journal->dir),
             LOG_INT("next_seq", journal->tail.seq + 1),
             LOG_STR("hint",
                     "somebody deleted the journal while it was in use; a sink that had not "
                     "read it yet says a Gap. Its size is bounded by journal.max_size"));
    return file != NULL ? journal_sync_finished(journal, file, err) : 0;
}

/* Somebody may have deleted files under us. */
static int check_files(struct journal *journal, struct err *err)
{
    int64_t now = clock_mono_ms();
    if (now - journal->checked_ms < CHECK_FILES_MS)
        return 0;
    journal->checked_ms = now;
    if (!is_gone(journal, journal_list_active(journal)) &&
        journal_meta_holds_lock(journal->dirfd, journal->lockfd))
        return 0;
    struct err mine;
    return unless_full(renew(journal, &mine), &mine, err);
}

/* The active segment is done; another one follows. */
static int roll(struct journal *journal, struct err *err)
{
    pthread_mutex_lock(&journal->mutex);
    struct journal_segment done = *journal_list_active(journal);
    pthread_mutex_unlock(&journal->mutex);
    struct journal_index_summary summary = {done.first_seq, done.size, done.last};
    /* Before it is finished for readers: they look for the file then. Without one they walk. */
    if (journal_segment_save_index(journal->dirfd, &summary, &journal->index) < 0)
        log_debug("journal_index_not_saved", LOG_STR("dir", journal->dir),
                  LOG_STR("err", strerror(errno)));
    if (journal_write_segment(journal) < 0)
        return errno == ENOENT ? renew(journal, err) : failed(journal, "new segment", errno, err);
    return journal_sync_finished(journal, done.file, err);
}

/* ---- blocks ---- */

/* 0, or an errno: then part of it may have been written. */
static int write_parts(int fd, struct iovec *parts, uint64_t offset)
{
    for (int i = 0; i < PARTS;) {
        ssize_t n = pwritev(fd, parts + i, PARTS - i, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        offset += (uint64_t)n;
        for (; i < PARTS && (size_t)n >= parts[i].iov_len; i++)
            n -= (ssize_t)parts[i].iov_len;
        if (i < PARTS) {
            parts[i].iov_base = (char *)parts[i].iov_base + n;
            parts[i].iov_len -= (size_t)n;
        }
    }
    return 0;
}

static int write_image(struct journal *journal, const struct journal_image *image)
{
    unsigned char header[JOURNAL_BLOCK_HEADER];
    journal_format_put_block(header, &image->header);
    struct iovec parts[PARTS] = {
        {header, sizeof header},
        {(void *)(uintptr_t)image->data, image->header.data_len},
        {(void *)(uintptr_t)image->messages,
         (size_t)image->header.n_messages * JOURNAL_MESSAGE_RECORD},
        {(void *)(uintptr_t)image->events, (size_t)image->header.n_events * JOURNAL_EVENT_RECORD},
    };
    int fd = journal_list_active(journal)->file->fd;
    int why = write_parts(fd, parts, image->header.offset);
    if (why == 0 && journal->sync_ms == JOURNAL_SYNC_ALWAYS && fdatasync(fd) < 0)
        why = errno;
    /* Nobody has seen it. Where even that fails, recovery cuts it off. */
    if (why != 0 && ftruncate(fd, (off_t)image->header.offset) < 0)
        log_warn("journal_not_cut", LOG_STR("dir", journal->dir), LOG_STR("err", strerror(errno)));
    return why;
}

static void publish(struct journal *journal, const struct journal_image *image, size_t size)
{
    struct block *block = journal_build_take(&journal->build, image);
    struct block *old[TRIM_AT_ONCE];
    pthread_mutex_lock(&journal->mutex);
    struct journal_segment *active = journal_list_active(journal);
    journal_index_add(&journal->index, &image->header, &journal->tail);
    active->size += size;
    active->last = journal->tail = image->header.last;
    journal->bytes += size;
    journal_ring_push(&journal->ring, block);
    size_t n = journal_ring_trim(&journal->ring, old, TRIM_AT_ONCE);
    journal_sync_dirty(journal);
    if (journal->waiting > 0)
        pthread_cond_broadcast(&journal->news);
    pthread_mutex_unlock(&journal->mutex);
    while (n > 0) {
        for (size_t i = 0; i < n; i++)
            block_unref(&old[i]);
        if (n < TRIM_AT_ONCE)
            break;
        pthread_mutex_lock(&journal->mutex);
        n = journal_ring_trim(&journal->ring, old, TRIM_AT_ONCE);
        pthread_mutex_unlock(&journal->mutex);
    }
}

/* One try; errors as journal_commit. */
static int write_block(struct journal *journal, struct err *err)
{
    size_t size = journal_build_size(&journal->build);
    journal_write_prune(journal, size);
    struct journal_segment *active = journal_list_active(journal);
    if (active->size + size > journal->segment_size && active->size > JOURNAL_SEGMENT_HEADER &&
        roll(journal, err) < 0)
        return -1;
    struct journal_image image;
    journal_build_image(&journal->build, journal->tail.seq + 1, journal_list_active(journal)->size,
                        &image);
    int why = write_image(journal, &image);
    if (why != 0)
        return failed(journal, "write", why, err);
    publish(journal, &image, size);
    return 0;
}

int journal_commit(struct journal *journal, struct err *err)
{
    if (journal_sync_check(journal, err) < 0)
        return -1;
    if (journal_build_size(&journal->build) == 0)
        return 0;
    struct err mine;
    while (write_block(journal, &mine) < 0) {
        if (mine.kind != ERR_RETRY || !oldest_is_passed(journal))
            return err_set(err, mine.kind, "%s", mine.msg);
        drop_oldest(journal);
    }
    if (journal->on_commit != NULL)
        journal->on_commit(journal->on_commit_arg);
    return 0;
}

int journal_append(struct journal *journal, struct str raw, int64_t arrival_us,
                   const struct event *events, size_t n_events, struct err *err)
{
    assert(n_events > 0);
    assert(arrival_us > journal->arrival_us);
    size_t bytes = raw.len;
    for (size_t i = 0; i < n_events; i++)
        bytes += events[i].topic.len + events[i].type.len + events[i].key.len + events[i].ns.len +
                 events[i].filter_keys.len;
    if (bytes > JOURNAL_DATA_MAX)
        return err_set(err, ERR_INPUT, "journal %s: a message of %zu bytes: at most %d",
                       journal->dir, bytes, JOURNAL_DATA_MAX);
    if (journal_build_is_full(&journal->build, bytes, arrival_us) &&
        journal_commit(journal, err) < 0)
        return -1;
    journal_build_add(&journal->build, raw, arrival_us, events, n_events);
    journal->arrival_us = journal->build.last.arrival_us;
    return 0;
}

/* Segments past their age, as far as every sink has passed them. */
static int prune_aged(struct journal *journal, struct err *err)
{
    int64_t least = clock_wall_us() - journal->max_age_us;
    struct journal_segment *active = journal_list_active(journal);
    pthread_mutex_lock(&journal->mutex);
    bool all_passed = journal->passed > journal->tail.seq;
    pthread_mutex_unlock(&journal->mutex);
    struct err mine;
    if (all_passed && active->size > JOURNAL_SEGMENT_HEADER && active->last.arrival_us < least &&
        unless_full(roll(journal, &mine), &mine, err) < 0)
        return -1;
    while (oldest_is_passed(journal) && journal->segments[0].last.arrival_us < least)
        drop_oldest(journal);
    return 0;
}

int journal_tick(struct journal *journal, struct err *err)
{
    if (journal_sync_check(journal, err) < 0 || check_files(journal, err) < 0)
        return -1;
    return journal->max_age_us > 0 ? prune_aged(journal, err) : 0;
}
