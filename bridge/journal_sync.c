/* journal_sync.c - making durable what was written, beside the writer.
 *
 * With an interval, a thread of the journal's own sleeps while there is nothing new; the first
 * commit after that wakes it, and one interval later it syncs all that has come, finished segments
 * first. A commit only sets a flag. With `always` the writer syncs itself before readers see a
 * block; with `never` nobody does until the journal is closed. A sync that failed is not tried
 * again, as the kernel may have dropped the pages: the writer is told by its next call. */
#include "bridge/journal_internal.h"

#include "bridge/base/clock.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct timespec after_ms(int ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

/* With the mutex held, and let go of meanwhile. */
static void sync_all(struct journal *journal)
{
    struct journal_syncer *syncer = &journal->syncer;
    struct journal_file *finished[JOURNAL_FINISHED_MAX];
    size_t n = syncer->n_finished;
    memcpy(finished, syncer->finished, sizeof finished);
    struct journal_file *active = journal_list_active(journal)->file;
    active->refs++;
    bool dir = syncer->dir_dirty;
    syncer->dirty = syncer->dir_dirty = false;
    syncer->n_finished = 0;
    pthread_mutex_unlock(&journal->mutex);

    int error = 0;
    for (size_t i = 0; i < n; i++)
        if (fdatasync(finished[i]->fd) < 0)
            error = errno;
    if (fdatasync(active->fd) < 0)
        error = errno;
    if (dir && fsync(journal->dirfd) < 0)
        error = errno;

    pthread_mutex_lock(&journal->mutex);
    for (size_t i = 0; i < n; i++)
        journal_list_close(journal, &finished[i]);
    journal_list_close(journal, &active);
    if (error != 0)
        syncer->error = error;
    pthread_cond_signal(&syncer->room);
}

static void *run(void *arg)
{
    struct journal *journal = arg;
    struct journal_syncer *syncer = &journal->syncer;
    pthread_mutex_lock(&journal->mutex);
    while (!syncer->stop) {
        if (!syncer->dirty) {
            pthread_cond_wait(&syncer->wake, &journal->mutex);
            continue;
        }
        struct timespec due = after_ms(journal->sync_ms);
        while (!syncer->stop &&
               pthread_cond_timedwait(&syncer->wake, &journal->mutex, &due) != ETIMEDOUT)
            continue;
        sync_all(journal);
    }
    pthread_mutex_unlock(&journal->mutex);
    return NULL;
}

void journal_sync_start(struct journal *journal)
{
    struct journal_syncer *syncer = &journal->syncer;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&syncer->wake, &attr);
    pthread_cond_init(&syncer->room, &attr);
    pthread_condattr_destroy(&attr);
    if (journal->sync_ms > 0)
        syncer->running = pthread_create(&syncer->thread, NULL, run, journal) == 0;
    /* Without a thread the writer syncs, as with `always`: slower, not less safe. */
    if (journal->sync_ms > 0 && !syncer->running)
        journal->sync_ms = JOURNAL_SYNC_ALWAYS;
}

void journal_sync_dirty(struct journal *journal)
{
    struct journal_syncer *syncer = &journal->syncer;
    if (syncer->running && !syncer->dirty)
        pthread_cond_signal(&syncer->wake);
    syncer->dirty = true;
}

int journal_sync_finished(struct journal *journal, struct journal_file *file, struct err *err)
{
    struct journal_syncer *syncer = &journal->syncer;
    int result = 0;
    if (journal->sync_ms == JOURNAL_SYNC_ALWAYS)
        result = fsync(journal->dirfd); /* the file's own bytes are synced already */
    int why = errno;
    pthread_mutex_lock(&journal->mutex);
    while (syncer->running && syncer->n_finished == JOURNAL_FINISHED_MAX)
        pthread_cond_wait(&syncer->room, &journal->mutex);
    if (syncer->running) {
        syncer->finished[syncer->n_finished++] = file;
        syncer->dir_dirty = true;
        journal_sync_dirty(journal);
    } else {
        journal_list_close(journal, &file);
    }
    pthread_mutex_unlock(&journal->mutex);
    return result == 0
               ? 0
               : err_set(err, ERR_FATAL, "journal %s: fsync: %s", journal->dir, strerror(why));
}

int journal_sync_check(struct journal *journal, struct err *err)
{
    pthread_mutex_lock(&journal->mutex);
    int error = journal->syncer.error;
    pthread_mutex_unlock(&journal->mutex);
    if (error == 0)
        return 0;
    return err_set(err, ERR_FATAL, "journal %s: fdatasync: %s", journal->dir, strerror(error));
}

/* With the mutex held, when nobody wants it any more: all segments but the last. */
static void sync_finished(struct journal *journal)
{
    for (size_t i = 0; i + 1 < journal->n_segments; i++) {
        struct journal_file *file = journal_list_open(journal, i);
        if (file == NULL || fdatasync(file->fd) < 0)
            journal->syncer.error = errno;
        journal_list_close(journal, &file);
    }
}

int journal_sync_stop(struct journal *journal, struct err *err)
{
    struct journal_syncer *syncer = &journal->syncer;
    pthread_mutex_lock(&journal->mutex);
    syncer->stop = true;
    pthread_cond_signal(&syncer->wake);
    pthread_mutex_unlock(&journal->mutex);
    if (syncer->running)
        pthread_join(syncer->thread, NULL);
    syncer->running = false;
    pthread_mutex_lock(&journal->mutex);
    sync_all(journal);
    if (journal->sync_ms == JOURNAL_SYNC_NEVER)
        sync_finished(journal);
    pthread_mutex_unlock(&journal->mutex);
    pthread_cond_destroy(&syncer->wake);
    pthread_cond_destroy(&syncer->room);
    return journal_sync_check(journal, err);
}
