/* journal_meta.h - what a journal knows of itself besides its events: the directory, the lock, and
 * `meta`.
 *
 * `meta` is text, one KEY=VALUE a line, replaced as a whole (written beside, synced, renamed):
 *
 *     format=2                 1 is read too
 *     id=0123456789abcdef      64 bits, hexadecimal
 *     boot=…                   the machine's boot id when it was opened
 *     closed=yes               or no: in use, or not closed cleanly
 *     next_seq=123             exact where closed, else a lower bound
 *     crc=0123abcd             CRC-32C of all bytes before this line */
#ifndef BUSBAR_JOURNAL_META_H
#define BUSBAR_JOURNAL_META_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/err.h"

enum { JOURNAL_BOOT_MAX = 64 };

struct journal_meta {
    uint64_t id;
    uint64_t next_seq;
    bool closed;
    char boot[JOURNAL_BOOT_MAX];
};

/* Opens the directory, made with its parents where missing. ERR_FATAL names the path. */
int journal_meta_open_dir(const char *dir, int *dirfd, struct err *err);
/* Locks DIR/lock for this process and writes its pid there. ERR_FATAL where another one (or this
 * one) has it. */
int journal_meta_lock(const char *dir, int dirfd, int *lockfd, struct err *err);
/* True where the lock file that `lockfd` holds still is the one in the directory. */
bool journal_meta_holds_lock(int dirfd, int lockfd);

/* *found false where there is none, or a damaged one (logged). ERR_FATAL for a newer format. */
int journal_meta_read(const char *dir, int dirfd, struct journal_meta *meta, bool *found,
                      struct err *err);
/* ERR_RETRY where the disk is full, else ERR_FATAL. */
int journal_meta_write(const char *dir, int dirfd, const struct journal_meta *meta,
                       struct err *err);

/* The kernel's boot id; random where it tells none, so that nothing is taken for granted. */
void journal_meta_boot(char out[JOURNAL_BOOT_MAX]);

/* "written by a newer busbar (format N, this one reads up to 2)", and what to do. */
int journal_meta_newer(const char *dir, const char *file, uint64_t format, struct err *err);

#endif
