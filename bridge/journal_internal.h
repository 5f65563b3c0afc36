/* journal_internal.h - what the files journal_*.c share: the journal itself and its segments.
 *
 * One mutex guards what the writer, the readers and the syncer share. It is never held over I/O
 * other than opening or looking for a segment file. The writer changes shared fields under it and
 * may read them without, as nobody else changes them. */
#ifndef BUSBAR_JOURNAL_INTERNAL_H
#define BUSBAR_JOURNAL_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/journal.h"
#include "bridge/journal_block.h"
#include "bridge/journal_format.h"
#include "bridge/journal_meta.h"
#include "bridge/journal_ring.h"

/* An open segment file, shared by the readers in it; the mutex guards the count. */
struct journal_file {
    uint64_t segment; /* its first_seq */
    int fd;
    unsigned refs;
};

struct journal_segment {
    uint64_t first_seq;
    uint64_t size;             /* bytes that readers may see */
    struct journal_mark last;  /* of its last block, else of what came before */
    struct journal_file *file; /* NULL while nobody has it open; holds no reference */
    bool warned;               /* an unreadable place in it was logged */
};

/* So many finished segments may wait for their sync before the writer does. */
enum { JOURNAL_FINISHED_MAX = 16 };

/* The thread that makes things durable while the writer goes on. It runs where `sync` is an
 * interval: an fdatasync takes 5 ms, seconds on a busy disk, and a stream that is not read for so
 * long is cut by its source. */
struct journal_syncer {
    pthread_t thread;
    bool running, stop;
    bool dirty;     /* something was written since the last sync began */
    bool dir_dirty; /* a file was made */
    int error;      /* errno of a sync that failed: the journal is no longer to be trusted */
    pthread_cond_t wake;
    pthread_cond_t room; /* the finished files were synced */
    struct journal_file *finished[JOURNAL_FINISHED_MAX];
    size_t n_finished;
};

struct journal {
    /* Fixed from open on. */
    char *dir;
    char boot[JOURNAL_BOOT_MAX];
    uint64_t id;
    uint64_t max_size, segment_size;
    int64_t max_age_us;
    int sync_ms;
    int dirfd; /* the number stays when the directory is made anew */

    /* The writer's own. */
    int lockfd;
    struct journal_build build;
    int64_t arrival_us; /* of the last event appended */
    int64_t checked_ms; /* when the files were last seen to be there */
    void (*on_commit)(void *arg);
    void *on_commit_arg;

    pthread_mutex_t mutex;
    pthread_cond_t news;
    unsigned waiting; /* readers that wait for news */
    bool stopped;
    struct journal_segment *segments; /* oldest first; the last is written to, its file open */
    size_t n_segments, segments_cap;
    struct journal_index index; /* of the last segment */
    struct journal_mark tail;
    uint64_t bytes;
    uint64_t passed;
    struct journal_ring ring;
    struct journal_syncer syncer;
};

/* ---- journal_list.c: the list of segments; all with the mutex held ---- */

/* A segment as a reader may see it at this moment. */
struct journal_extent {
    uint64_t first_seq;
    uint64_t limit_seq; /* the first that lies in a later segment, or is not there yet */
    uint64_t end;       /* bytes that may be read */
    bool active;        /* the writer's: its index is in memory */
};

struct journal_segment *journal_list_active(struct journal *journal);
/* Appends to the list; `fd` < 0: the file is not open. The reference to its file is the caller's.
 */
void journal_list_add(struct journal *journal, const struct journal_segment *segment, int fd);
/* Takes the segment out of the list; its file, if open, lives on with its users. */
void journal_list_remove(struct journal *journal, size_t i);
struct journal_extent journal_list_extent(const struct journal *journal, size_t i);
/* The segment that holds, or lies where, the target would be; n_segments where none reaches it. */
size_t journal_list_find(const struct journal *journal, const struct journal_target *target);
/* NULL with errno. */
struct journal_file *journal_list_open(struct journal *journal, size_t i);
/* Gives a reference back; NULL inside is fine. */
void journal_list_close(struct journal *journal, struct journal_file **file);

/* ---- journal_recover.c ---- */

/* What is in the directory becomes the list; a new journal id where the old one can't go on. */
int journal_recover(struct journal *journal, struct err *err);

/* ---- journal_write.c: the writer's thread ---- */

/* Makes a segment that goes on after the tail and writes there from now on. -1 with errno. */
int journal_write_segment(struct journal *journal);
/* Deletes finished segments, oldest first, until so many bytes more fit into max_size. */
void journal_write_prune(struct journal *journal, uint64_t more);

/* ---- journal_sync.c: the writer's thread ---- */

void journal_sync_start(struct journal *journal);
/* With the mutex held: something was written. */
void journal_sync_dirty(struct journal *journal);
/* A finished segment's file, with the writer's reference, will not be written to any more. */
int journal_sync_finished(struct journal *journal, struct journal_file *file, struct err *err);
/* ERR_FATAL where a sync in the background failed. */
int journal_sync_check(struct journal *journal, struct err *err);
/* Ends the thread; syncs all that was written, gives up finished files. */
int journal_sync_stop(struct journal *journal, struct err *err);

#endif
