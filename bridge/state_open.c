/* state_open.c - the state table's files: opening, distrusting, putting aside; and its room.
 *
 * LMDB trusts its file: a damaged page can make it read where nothing is. So a table is read once
 * before it is used, every entry's checksum compared, and the file `suspect` beside it gets a byte
 * before it is opened and goes away after that: where it has two, the process died of the table
 * twice in a row, and the next open puts it aside. An error that only damage explains does the
 * same. */
#include "bridge/state_internal.h"

#include "bridge/base/hash.h"
#include "bridge/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUSPECT_MAX = 2, SAMPLE = 4096, CHECK_STOP_EVERY = 1024 };

/* ---- files ---- */

/* "DIR/name" or, with `name` NULL, "DIR.damaged". */
static char *path_of(const struct state *st, const char *dir_suffix, const char *name)
{
    struct buf b = {0};
    buf_printf(&b, "%s%s", st->o.dir, dir_suffix);
    if (name != NULL)
        buf_printf(&b, "/%s", name);
    buf_cstr(&b);
    return b.p;
}

static void suspect_add(const struct state *st, size_t n)
{
    char *path = path_of(st, "", "suspect");
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    for (size_t i = 0; i < n && fd >= 0; i++)
        if (write(fd, "?", 1) != 1)
            break;
    if (fd >= 0)
        close(fd);
    free(path);
}

static bool is_suspect(const struct state *st)
{
    struct stat file;
    char *path = path_of(st, "", "suspect");
    bool suspect = stat(path, &file) == 0 && file.st_size >= SUSPECT_MAX;
    free(path);
    return suspect;
}

static void suspect_clear(const struct state *st)
{
    char *path = path_of(st, "", "suspect");
    unlink(path);
    free(path);
}

static void remove_aside(const struct state *st)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "suspect"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_of(st, ".damaged", names[i]);
        unlink(path);
        free(path);
    }
    char *dir = path_of(st, ".damaged", NULL);
    rmdir(dir);
    free(dir);
}

static int put_aside(const struct state *st, const char *why, struct err *err)
{
    remove_aside(st);
    char *aside = path_of(st, ".damaged", NULL);
    int rc = rename(st->o.dir, aside);
    log_error("state_damaged", LOG_STR("source", st->o.source), LOG_STR("dir", st->o.dir),
              LOG_STR("err", why), LOG_STR("aside", rc == 0 ? aside : NULL),
              LOG_STR("note", "begun anew from the journal; a resync follows"));
    if (rc != 0)
        err_set(err, ERR_FATAL, "rename %s to %s: %s", st->o.dir, aside, strerror(errno));
    free(aside);
    return rc;
}

/* ---- errors ---- */

static bool is_damage(int rc)
{
    return rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID ||
           rc == MDB_VERSION_MISMATCH || rc == MDB_CURSOR_FULL || rc == MDB_INCOMPATIBLE ||
           rc == MDB_BAD_VALSIZE;
}

int state_fail(struct state *st, int rc, const char *what, struct err *err)
{
    if (is_damage(rc) && !st->damaged)
        suspect_add(st, SUSPECT_MAX);
    st->damaged = st->damaged || is_damage(rc);
    st->broken = true;
    return err_set(err, is_damage(rc) ? ERR_INPUT : ERR_RETRY, "state table: %s %s: %s", what,
                   st->o.dir, mdb_strerror(rc));
}

bool state_is_broken(const struct state *st)
{
    return st->broken;
}

/* ---- opening ---- */

/* A file that was cut is filled up with zeros, which LMDB can tell from a page, while reading
 * behind the end of a mapped file ends the process. (It may rightly be shorter: pages that are
 * free need not have been written.) */
static int fill_up(struct state *st)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct stat file;
    mdb_filehandle_t fd;
    int rc = mdb_env_info(st->env, &info);
    if (rc == 0)
        rc = mdb_env_stat(st->env, &stat);
    if (rc == 0)
        rc = mdb_env_get_fd(st->env, &fd);
    if (rc != 0)
        return rc;
    if (fstat(fd, &file) != 0)
        return errno;
    uint64_t pages = info.me_last_pgno + 1;
    if (pages > info.me_mapsize / stat.ms_psize)
        return MDB_CORRUPTED;
    uint64_t size = pages * stat.ms_psize;
    return (uint64_t)file.st_size >= size || ftruncate(fd, (off_t)size) == 0 ? 0 : errno;
}

static int open_env(struct state *st)
{
    int rc = mdb_env_create(&st->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(st->env, 2);
    if (rc == 0)
        rc = mdb_env_set_mapsize(st->env, (size_t)(st->o.bytes_max * 4 + (UINT64_C(64) << 20)));
    /* One process (the journal's lock), one thread: LMDB's own locks are not needed. Without the
     * sync of its last page a crash of the machine may take back the last commit, no more. */
    if (rc == 0)
        rc = mdb_env_open(st->env, st->o.dir, MDB_NOLOCK | MDB_NOMETASYNC, 0666);
    return rc == 0 ? fill_up(st) : rc;
}

static int open_databases(struct state *st)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(st->env, NULL, 0, &txn);
    if (rc != 0)
        return rc;
    rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &st->meta_db);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "objects", MDB_CREATE, &st->objects_db);
    if (rc == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

/* *version: what stands there, 0 where nothing does. */
static int read_meta(struct state *st, uint32_t *version)
{
    MDB_txn *txn;
    *version = 0;
    int rc = mdb_txn_begin(st->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return rc;
    MDB_val key = {4, (void *)"meta"}, value;
    rc = mdb_get(txn, st->meta_db, &key, &value);
    if (rc == 0 && value.mv_size < sizeof *version)
        rc = MDB_CORRUPTED;
    if (rc == 0)
        memcpy(version, value.mv_data, sizeof *version);
    if (rc == 0 && *version <= STATE_VERSION) {
        bool sound = *version == STATE_VERSION && value.mv_size == sizeof st->meta;
        if (sound)
            memcpy(&st->meta, value.mv_data, sizeof st->meta);
        rc = sound && st->meta.crc == state_meta_crc(&st->meta) ? 0 : MDB_CORRUPTED;
    }
    mdb_txn_abort(txn);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static void close_env(struct state *st)
{
    if (st->txn != NULL) {
        mdb_cursor_close(st->cursor);
        mdb_txn_abort(st->txn);
    }
    st->txn = NULL;
    if (st->env != NULL)
        mdb_env_close(st->env);
    st->env = NULL;
}

/* 0, -1, or the code of LMDB that tells of damage. */
static int try_open(struct state *st, struct err *err)
{
    if (mkdir(st->o.dir, 0777) != 0 && errno != EEXIST)
        return err_set(err, ERR_FATAL, "state table %s: %s", st->o.dir, strerror(errno));
    uint32_t version = 0;
    if (is_suspect(st))
        return MDB_CORRUPTED;
    suspect_add(st, 1);
    int rc = open_env(st);
    if (rc == 0)
        rc = open_databases(st);
    if (rc == 0)
        rc = read_meta(st, &version);
    if (rc == 0 && version > STATE_VERSION)
        return err_set(err, ERR_FATAL,
                       "state table %s: its format is %" PRIu32
                       ", newer than this busbar knows (%d): use the newer one, or remove the "
                       "directory",
                       st->o.dir, version, (int)STATE_VERSION);
    if (rc != 0 && !is_damage(rc))
        return err_set(err, ERR_FATAL, "state table %s: %s", st->o.dir, mdb_strerror(rc));
    return rc;
}

static int begin_anew(struct state *st, int rc, struct err *err)
{
    close_env(st);
    if (put_aside(st, mdb_strerror(rc), err) != 0)
        return -1;
    memset(&st->meta, 0, sizeof st->meta);
    rc = try_open(st, err);
    if (rc != 0)
        return rc == -1 ? -1 : state_fail(st, rc, "open", err);
    if (state_want(st, "the state table was damaged, and has been begun anew", err) != 0)
        return -1;
    return state_commit(st, NULL, err);
}

int state_open(struct state **out, const struct state_options *options, struct err *err)
{
    struct state *st = mem_zalloc(sizeof *st);
    st->o = *options;
    int rc = try_open(st, err);
    if (rc != 0 && rc != -1)
        rc = begin_anew(st, rc, err);
    if (rc != 0)
        state_close(&st);
    *out = st;
    return rc;
}

void state_close(struct state **state)
{
    struct state *st = *state;
    if (st == NULL)
        return;
    close_env(st);
    if (!st->damaged)
        suspect_clear(st);
    buf_fini(&st->value);
    free(st);
    *state = NULL;
}

/* ---- reading all of it ---- */

static bool is_sound(MDB_val key, MDB_val value)
{
    struct state_entry entry;
    struct str strings[4];
    if (key.mv_size != STATE_KEY || !state_parse(value, &entry, strings))
        return false;
    const char *p = value.mv_data;
    size_t skip = sizeof entry.crc;
    if (entry.crc != crc32c(0, p + skip, value.mv_size - skip))
        return false;
    unsigned char hash[STATE_KEY];
    struct state_id id = {strings[0], strings[1], strings[2]};
    state_hash(&id, hash);
    return (entry.flags & STATE_BARE) != 0 || memcmp(hash, key.mv_data, STATE_KEY) == 0;
}

/* LMDB's list of free pages, in its database 0: each value a count, then as many page numbers. */
static int check_free_list(MDB_txn *txn, size_t last_page)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int rc = mdb_cursor_open(txn, 0, &cursor);
    if (rc != 0)
        return rc;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        size_t n = 0, page;
        if (value.mv_size >= sizeof n)
            memcpy(&n, value.mv_data, sizeof n);
        if (n == 0 || n >= value.mv_size / sizeof n)
            break;
        for (size_t i = 1; i <= n; i++) {
            memcpy(&page, (char *)value.mv_data + i * sizeof page, sizeof page);
            if (page < 2 || page > last_page)
                n = 0;
        }
        if (n == 0)
            break;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc == 0 ? MDB_CORRUPTED : rc;
}

static int check_free_pages(struct state *st)
{
    MDB_envinfo info;
    MDB_txn *txn; /* the free list can only be read in one that only reads */
    int rc = mdb_env_info(st->env, &info);
    if (rc == 0)
        rc = mdb_txn_begin(st->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return rc;
    rc = check_free_list(txn, info.me_last_pgno);
    mdb_txn_abort(txn);
    return rc;
}

static int check_objects(struct state *st, struct stop *stop)
{
    MDB_val key, value;
    int rc = mdb_cursor_get(st->cursor, &key, &value, MDB_FIRST);
    for (size_t i = 1; rc == 0; i++) {
        if (!is_sound(key, value))
            return MDB_CORRUPTED;
        if (i % CHECK_STOP_EVERY == 0 && stop != NULL && stop_requested(stop))
            return 0;
        rc = mdb_cursor_get(st->cursor, &key, &value, MDB_NEXT);
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int state_verify(struct state *st, struct stop *stop, struct err *err)
{
    int rc = check_free_pages(st);
    if (rc == 0 && state_begin(st, err) != 0)
        return -1;
    if (rc == 0)
        rc = check_objects(st, stop);
    if (rc != 0)
        return state_fail(st, rc, "verify", err);
    suspect_clear(st);
    return st->dirty ? 0 : state_end(st, err);
}

/* ---- room ---- */

struct when {
    uint32_t epoch;
    uint64_t index;
};

static int compare_when(const void *a, const void *b)
{
    const struct when *x = a, *y = b;
    if (x->epoch != y->epoch)
        return x->epoch < y->epoch ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* What is to be left. */
static uint64_t room(const struct state *st)
{
    return st->o.bytes_max - st->o.bytes_max / 8;
}

/* Below or at which those lie that are too many: estimated from the first entries, which are as
 * good as drawn by lot because they stand in the order of their hashes. */
static int find_limit(struct state *st, struct when *limit, struct err *err)
{
    struct when *sample = mem_alloc(SAMPLE * sizeof *sample);
    struct state_cursor at = {.begun = false};
    struct state_object object;
    size_t n = 0;
    int rc = 1;
    while (n < SAMPLE && (rc = state_walk(st, &at, &object, err)) == 1)
        sample[n++] = (struct when){object.epoch, object.index};
    qsort(sample, n, sizeof *sample, compare_when);
    if (n > 0)
        *limit =
            sample[(size_t)((double)(n - 1) * (1 - (double)room(st) / (double)st->meta.bytes))];
    free(sample);
    return rc < 0 ? -1 : 0;
}

/* Forgets the object that the walk stands on. */
static int forget(struct state *st, struct err *err)
{
    MDB_val key, value;
    int rc = mdb_cursor_get(st->cursor, &key, &value, MDB_GET_CURRENT);
    if (rc == 0)
        rc = mdb_cursor_del(st->cursor, 0);
    if (rc != 0)
        return state_fail(st, rc, "forget", err);
    st->meta.bytes -= value.mv_size + STATE_KEY;
    st->counted = false;
    st->writes++;
    st->forgotten++;
    st->dirty = true;
    return 0;
}

static int forget_up_to(struct state *st, const struct when *limit, struct stop *stop,
                        struct err *err)
{
    struct state_cursor at = {.begun = false};
    struct state_object object;
    uint64_t enough = room(st) - room(st) / 16; /* where many are equal */
    int rc;
    while (st->meta.bytes > enough && (rc = state_walk(st, &at, &object, err)) != 0) {
        if (rc < 0)
            return -1;
        struct when when = {object.epoch, object.index};
        if (compare_when(&when, limit) <= 0 && forget(st, err) != 0)
            return -1;
        if (state_is_due(st) && state_end(st, err) != 0)
            return -1;
        if (stop != NULL && stop_requested(stop))
            break;
    }
    return state_end(st, err);
}

int state_make_room(struct state *st, struct stop *stop, struct err *err)
{
    if (st->meta.bytes <= st->o.bytes_max)
        return 0;
    if (!st->told_full)
        log_warn("state_full", LOG_STR("source", st->o.source), LOG_INT("bytes", st->meta.bytes),
                 LOG_INT("objects", state_objects(st)),
                 LOG_STR("note", "the objects told longest ago are forgotten: a resync does not "
                                 "tell that they have vanished"));
    st->told_full = true;
    struct when limit = {0};
    return find_limit(st, &limit, err) != 0 ? -1 : forget_up_to(st, &limit, stop, err);
}
