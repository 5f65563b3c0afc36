/* journal.c - the durable log between a connector and the sinks: opening, closing, what is in it.
 *
 * The parts: journal_format (bytes), journal_block (blocks in memory), journal_segment (files),
 * journal_meta (directory, lock, identity), journal_recover (opening), journal_list (what is
 * there), journal_write (appending, pruning), journal_sync (durability), journal_ring and
 * journal_read (readers). */
#include "bridge/journal.h"

#include "bridge/journal_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MIB UINT64_C(1048576)
enum { SEGMENTS = 16 };

static uint64_t segment_size(uint64_t max_size)
{
    uint64_t size = max_size / SEGMENTS;
    if (size > 64 * MIB)
        return 64 * MIB;
    return size < MIB / 4 ? MIB / 4 : size;
}

static size_t ring_bytes(uint64_t given)
{
    if (given == 0 || given > JOURNAL_RING_BYTES)
        return JOURNAL_RING_BYTES;
    return given < JOURNAL_RING_BYTES_LEAST ? JOURNAL_RING_BYTES_LEAST : (size_t)given;
}

static struct journal *journal_new(const struct journal_options *options)
{
    struct journal *journal = mem_zalloc(sizeof *journal);
    journal->dir = mem_strdup(options->dir);
    journal->max_size = options->max_size < MIB ? MIB : options->max_size;
    journal->segment_size = segment_size(journal->max_size);
    journal->max_age_us = options->max_age_ms * 1000;
    journal->sync_ms = options->sync_ms < 0 ? JOURNAL_SYNC_NEVER : options->sync_ms;
    journal->dirfd = journal->lockfd = -1;
    journal->ring.bytes_max = ring_bytes(options->ring_bytes);
    if (options->boot_id != NULL)
        snprintf(journal->boot, sizeof journal->boot, "%s", options->boot_id);
    else
        journal_meta_boot(journal->boot);
    pthread_mutex_init(&journal->mutex, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&journal->news, &attr);
    pthread_condattr_destroy(&attr);
    return journal;
}

static void journal_free(struct journal **journal)
{
    struct journal *gone = *journal;
    *journal = NULL;
    if (gone->n_segments > 0 && journal_list_active(gone)->file != NULL) {
        struct journal_file *file = journal_list_active(gone)->file;
        journal_list_close(gone, &file);
    }
    if (gone->lockfd >= 0)
        close(gone->lockfd);
    if (gone->dirfd >= 0)
        close(gone->dirfd);
    journal_build_fini(&gone->build);
    journal_ring_fini(&gone->ring);
    journal_index_fini(&gone->index);
    pthread_cond_destroy(&gone->news);
    pthread_mutex_destroy(&gone->mutex);
    free(gone->segments);
    free(gone->dir);
    free(gone);
}

int journal_open(struct journal **out, const struct journal_options *options, struct err *err)
{
    *out = NULL;
    struct journal *journal = journal_new(options);
    if (journal_meta_open_dir(journal->dir, &journal->dirfd, err) < 0 ||
        journal_meta_lock(journal->dir, journal->dirfd, &journal->lockfd, err) < 0 ||
        journal_recover(journal, err) < 0) {
        journal_free(&journal);
        if (err != NULL)
            err->kind = ERR_FATAL; /* a full disk too */
        return -1;
    }
    journal->arrival_us = journal->tail.arrival_us;
    journal_sync_start(journal);
    *out = journal;
    return 0;
}

void journal_close(struct journal **journal)
{
    struct journal *open = *journal;
    if (open == NULL)
        return;
    bool whole = journal_commit(open, NULL) == 0;
    bool synced = journal_sync_stop(open, NULL) == 0;
    struct journal_meta meta = {
        .id = open->id,
        .next_seq = open->tail.seq + 1,
        .closed = true,
    };
    snprintf(meta.boot, sizeof meta.boot, "%s", open->boot);
    if (whole && synced)
        journal_meta_write(open->dir, open->dirfd, &meta, NULL);
    journal_free(journal);
}

const char *journal_dir(const struct journal *journal)
{
    return journal->dir;
}

uint64_t journal_id(const struct journal *journal)
{
    return journal->id;
}

uint64_t journal_first_seq(struct journal *journal)
{
    pthread_mutex_lock(&journal->mutex);
    uint64_t seq = journal->segments[0].first_seq;
    pthread_mutex_unlock(&journal->mutex);
    return seq;
}

uint64_t journal_next_seq(struct journal *journal)
{
    pthread_mutex_lock(&journal->mutex);
    uint64_t seq = journal->tail.seq + 1;
    pthread_mutex_unlock(&journal->mutex);
    return seq;
}

uint64_t journal_bytes(struct journal *journal)
{
    pthread_mutex_lock(&journal->mutex);
    uint64_t bytes = journal->bytes;
    pthread_mutex_unlock(&journal->mutex);
    return bytes;
}

struct journal_tail journal_tail(struct journal *journal)
{
    pthread_mutex_lock(&journal->mutex);
    struct journal_mark mark = journal->tail;
    pthread_mutex_unlock(&journal->mutex);
    return (struct journal_tail){mark.pos_index, mark.ordinal, mark.arrival_us};
}

void journal_set_passed(struct journal *journal, uint64_t seq)
{
    pthread_mutex_lock(&journal->mutex);
    journal->passed = seq;
    pthread_mutex_unlock(&journal->mutex);
}

void journal_on_commit(struct journal *journal, void (*fn)(void *arg), void *arg)
{
    journal->on_commit = fn;
    journal->on_commit_arg = arg;
}

void journal_wake_stop(struct journal *journal)
{
    pthread_mutex_lock(&journal->mutex);
    journal->stopped = true;
    pthread_cond_broadcast(&journal->news);
    pthread_mutex_unlock(&journal->mutex);
}
