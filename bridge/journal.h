/* journal.h - the durable log of one pipeline: append-only segments of blocks of whole messages.
 *
 * One writer at a time (the connector's thread, or a resync's), any number of readers, each with
 * its own thread. The journal never waits for a reader: past `max_size` the oldest segments go,
 * whoever still wanted them; the reader is told (JOURNAL_LOST).
 *
 * On disk, in DIR/: `lock` (flock: one process), `meta` (format version, journal id, boot id,
 * closed cleanly or not), and segments `SEQ.seg` (20 digits, the first sequence number in it) each
 * with its index `SEQ.idx` once it is finished (rebuilt from the segment where it is missing or
 * bad). The format is told in journal_format.h. */
#ifndef BUSBAR_JOURNAL_H
#define BUSBAR_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/event.h"

struct journal;
struct journal_reader;

enum { JOURNAL_SYNC_ALWAYS = 0, JOURNAL_SYNC_NEVER = -1 }; /* else: an interval in ms */

struct journal_options {
    const char *dir;     /* made if missing, with its parents */
    uint64_t max_size;   /* bytes of all segments; at least 1 MiB */
    int64_t max_age_ms;  /* 0: none. Segments older than this go, if journal_set_passed says nobody
                            wants them */
    int sync_ms;         /* JOURNAL_SYNC_… or interval */
    uint64_t ring_bytes; /* of the newest blocks stay in memory: 1 to 8 MiB; 0: 8 MiB */
    const char
        *boot_id; /* NULL: the kernel's (/proc/sys/kernel/random/boot_id); tests give their own */
};

/* ---- writing: one thread at a time ---- */

/* Opens or makes; recovers: cuts what a crash left half-written behind the last sound block (logged
 * with what was cut); a bad block with sound ones behind it stays and is told to readers as
 * JOURNAL_LOST. Takes a new journal id where readers may have seen what is gone: the machine
 * crashed (other boot id, not closed), `meta` or the end that a clean close had is missing. Errors:
 * ERR_FATAL, says what to do (locked by another process, newer format, no room, not writable). */
int journal_open(struct journal **out, const struct journal_options *options, struct err *err);
/* Syncs, marks as cleanly closed, frees. All readers must be closed before. NULL is fine. */
void journal_close(struct journal **journal);

/* Adds one whole message (raw bytes as received, without its terminator) to the block under
 * construction. The block is written by journal_commit, or by itself when it has reached about 256
 * KiB (a larger single message makes a larger block). Of each event the writer fills all but `seq`
 * and `arrival_us`; `data` must lie within `raw`, the other strings are copied. arrival_us is the
 * first event's, the others follow by 1 µs each; it must exceed all earlier ones; n_events > 0.
 * Errors: ERR_RETRY where the disk is full (nothing was appended), ERR_INPUT for a message of more
 * than 512 MiB, ERR_FATAL for other I/O errors. */
int journal_append(struct journal *journal, struct str raw, int64_t arrival_us,
                   const struct event *events, size_t n_events, struct err *err);
/* Writes the block under construction, if any; readers see it from then on. */
int journal_commit(struct journal *journal, struct err *err);
/* Tells of a sync that failed (ERR_FATAL), looks whether the files are still there, lets the aged
 * go; call at least every few hundred ms, also when idle. A full disk is no error here. */
int journal_tick(struct journal *journal, struct err *err);

/* ---- what is in it: any thread ---- */

uint64_t journal_id(const struct journal *journal);
const char *journal_dir(const struct journal *journal);
uint64_t journal_first_seq(struct journal *journal); /* oldest still held; == next where empty */
uint64_t journal_next_seq(struct journal *journal);  /* what the next committed event will get */
uint64_t journal_bytes(struct journal *journal);     /* on disk */
/* The last committed event's position and arrival, zeros where the journal never had one. */
struct journal_tail {
    uint64_t pos_index;
    uint32_t ordinal;
    int64_t arrival_us;
};
struct journal_tail journal_tail(struct journal *journal);
/* Everything before `seq` was passed by every sink (for max_age). */
void journal_set_passed(struct journal *journal, uint64_t seq);
/* `fn` is called after each commit on the writer's thread: it must not block. One at a time; set
 * before writing. */
void journal_on_commit(struct journal *journal, void (*fn)(void *arg), void *arg);

/* ---- blocks: shared, immutable, counted; any thread ---- */

struct journal_message {
    struct str raw;     /* the message as received */
    size_t first_event; /* into block->events */
    size_t n_events;
};

struct block {
    uint64_t first_seq;
    int64_t arrival_us; /* of its first event */
    const struct event *events;
    size_t n_events;
    const struct journal_message *messages;
    size_t n_messages;
    size_t bytes; /* its memory */
};

struct block *block_ref(struct block *block);
void block_unref(struct block **block); /* NULL inside is fine */

/* ---- reading: each reader by one thread at a time ---- */

enum journal_read {
    JOURNAL_BLOCK,   /* *block holds a reference that the caller gives back with block_unref */
    JOURNAL_NOTHING, /* nothing new within the time */
    JOURNAL_LOST,    /* what was wanted next is no longer (pruned) or can't be read (bad block): the
                        reader stands at    the oldest that can be had; journal_reader_seq tells it */
    JOURNAL_STOPPED, /* journal_wake_stop was called */
    JOURNAL_ERROR,   /* err says why (I/O) */
};

struct journal_reader *journal_reader_new(struct journal *journal); /* stands at the oldest */
void journal_reader_free(struct journal_reader **reader);
/* The next read returns the block that holds `seq` (its earlier events included: the caller skips
 * them). Past the end: waits there. Before the oldest: the next read says JOURNAL_LOST. */
void journal_reader_seek(struct journal_reader *reader, uint64_t seq);
/* Seeks to the first event with arrival_us >= the given, or to the end. True where that is the
 * oldest one held, so that such events may be gone. */
bool journal_reader_seek_arrival(struct journal_reader *reader, int64_t arrival_us);
/* Seeks to the first block that may hold pos_index >= the given, or to the end. */
void journal_reader_seek_index(struct journal_reader *reader, uint64_t pos_index);
uint64_t
journal_reader_seq(const struct journal_reader *reader); /* the first seq the next read will give */
/* timeout_ms 0: don't wait. Recent blocks come from memory (as many as ring_bytes tells), older
 * ones from disk. */
enum journal_read journal_reader_next(struct journal_reader *reader, int timeout_ms,
                                      struct block **block, struct err *err);
/* Wakes every waiting reader with JOURNAL_STOPPED, now and later. */
void journal_wake_stop(struct journal *journal);

#endif
