/* scratch.h - a journal in a directory of its own, for tests that need a real one. */
#ifndef BUSBAR_TESTS_SCRATCH_H
#define BUSBAR_TESTS_SCRATCH_H

#include "bridge/base/buf.h"
#include "bridge/event.h"
#include "bridge/journal.h"
#include "tests/unit/check.h"

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static inline char *scratch_dir(void)
{
    const char *base = getenv("TMPDIR");
    struct buf path = {0};
    buf_printf(&path, "%s/busbar-test-XXXXXX", base != NULL ? base : P_tmpdir);
    buf_cstr(&path);
    assert_non_null(mkdtemp(path.p));
    return path.p;
}

static inline int scratch_unlink(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static inline void scratch_remove(char *dir)
{
    nftw(dir, scratch_unlink, 16, FTW_DEPTH | FTW_PHYS);
    free(dir);
}

/* Writing past it fails as on a full disk; RLIM_INFINITY ends that. */
static inline void scratch_limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static inline struct journal *scratch_journal(const char *dir, uint64_t max_size)
{
    struct journal *journal = NULL;
    struct err err = {ERR_FATAL, ""};
    struct journal_options options = {
        .dir = dir, .max_size = max_size, .sync_ms = JOURNAL_SYNC_NEVER};
    if (journal_open(&journal, &options, &err) != 0)
        fail_msg("%s", err.msg);
    return journal;
}

#endif
