/* test_state_files.c - the state table's files: versions, damage, lack of room. */
#include "tests/unit/state_kit.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- files ---- */

/* Opens LMDB's own file beside the table, which is closed. */
static MDB_txn *doctor(struct bench *b, MDB_env **env, const char *db, MDB_dbi *dbi)
{
    MDB_txn *txn;
    state_close(&b->state);
    assert_int_equal(mdb_env_create(env), 0);
    mdb_env_set_maxdbs(*env, 4);
    assert_int_equal(mdb_env_open(*env, buf_cstr(&b->dir), MDB_NOLOCK, 0666), 0);
    assert_int_equal(mdb_txn_begin(*env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, db, 0, dbi), 0);
    return txn;
}

static void a_newer_version_is_refused(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    apply(&b, job("web", 0, 9));
    commit(&b);
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn = doctor(&b, &env, "meta", &dbi);
    uint32_t newer[4] = {2};
    MDB_val key = {4, (void *)"meta"}, value = {sizeof newer, newer};
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    struct state_options o = {.dir = buf_cstr(&b.dir), .source = "prod", .bytes_max = 1 << 20};
    assert_int_equal(state_open(&b.state, &o, &b.err), -1);
    assert_int_equal(b.err.kind, ERR_FATAL);
    assert_non_null(strstr(b.err.msg, "newer than this busbar knows"));
    assert_null(b.state);
    teardown(&b);
}

/* Puts the entry of `from` under the hash of `to`, as if the two had the same. */
static void collide(struct bench *b, const char *from, const char *to)
{
    MDB_env *env;
    MDB_dbi dbi;
    MDB_val key, value, at[2];
    MDB_cursor *cursor;
    MDB_txn *txn = doctor(b, &env, "objects", &dbi);
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0)
        for (int i = 0; i < 2; i++) {
            const char *name = i == 0 ? from : to;
            if (memmem(value.mv_data, value.mv_size, name, strlen(name)) != NULL)
                at[i] = key;
        }
    char copy[256];
    assert_int_equal(mdb_get(txn, dbi, &at[0], &value), 0);
    memcpy(copy, value.mv_data, value.mv_size);
    value.mv_data = copy;
    mdb_cursor_close(cursor);
    assert_int_equal(mdb_put(txn, dbi, &at[1], &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    struct state_options o = {.dir = buf_cstr(&b->dir), .source = "prod", .bytes_max = 1 << 20};
    assert_int_equal(state_open(&b->state, &o, &b->err), 0);
}

static void of_two_objects_with_one_hash_the_last_is_known(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    apply(&b, job("alpha", 0, 9));
    apply(&b, job("omega", 0, 7));
    commit(&b);
    collide(&b, "alpha", "omega");
    is_unknown(&b, "omega");
    apply(&b, job("omega", 0, 8)); /* not 9: that is the other's */
    is_at(&b, "omega", 0, 8);
    assert_true(state_forgotten(b.state) > 0);
    commit(&b);
    reopen(&b); /* and all is sound again */
    teardown(&b);
}

static void fill(struct bench *b, uint64_t from, uint64_t n)
{
    char key[32];
    for (uint64_t i = from; i < from + n; i++) {
        snprintf(key, sizeof key, "job-%06" PRIu64, i);
        apply(b, job(key, 0, i + 1));
        if (state_is_due(b->state))
            commit(b);
    }
    commit(b);
}

/* They are counted before and after a commit that forgets some. */
static void what_is_forgotten_is_not_counted(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    b.bytes_max = 1 << 20;
    reopen(&b);
    fill(&b, 0, 5000);
    for (uint64_t n = 5000; state_forgotten(b.state) == 0; n += 100) {
        assert_int_equal(state_objects(b.state), n);
        fill(&b, n, 100);
        assert_int_equal(state_objects(b.state), n + 100 - state_forgotten(b.state));
    }
    teardown(&b);
}

static void without_room_the_objects_told_longest_ago_are_forgotten(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    b.bytes_max = 1 << 20;
    reopen(&b);
    fill(&b, 0, 60000);
    uint64_t left = state_objects(b.state);
    assert_true(left > 5000 && left < 15000); /* of about 100 bytes */
    assert_int_equal(left + state_forgotten(b.state), 60000);
    is_at(&b, "job-059999", 0, 60000);
    is_unknown(&b, "job-000000");
    struct state_cursor at = {.begun = false};
    struct state_object object;
    while (state_walk(b.state, &at, &object, &b.err) == 1)
        assert_true(object.index > 40000);
    struct stat file;
    struct buf path = {0};
    buf_printf(&path, "%s/data.mdb", buf_cstr(&b.dir));
    assert_int_equal(stat(buf_cstr(&path), &file), 0);
    assert_true(file.st_size < 8 << 20);
    buf_fini(&path);
    reopen(&b);
    teardown(&b);
}

static void without_room_and_all_as_old_some_are_forgotten_not_all(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    b.bytes_max = 1 << 20;
    reopen(&b);
    char key[32];
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "job-%d", i);
        apply(&b, job(key, 0, 7));
    }
    commit(&b);
    assert_true(state_objects(b.state) > 5000);
    assert_true(state_forgotten(b.state) > 5000);
    teardown(&b);
}

static void write_at(struct bench *b, const char *name, off_t at, const char *bytes)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", buf_cstr(&b->dir), name);
    int fd = open(buf_cstr(&path), O_WRONLY | O_CREAT, 0666);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, strlen(bytes), at), strlen(bytes));
    close(fd);
    buf_fini(&path);
}

static void has_begun_anew(struct bench *b)
{
    assert_int_equal(state_objects(b->state), 0);
    assert_int_equal(state_next_seq(b->state), 0);
    assert_true(state_resync(b->state)->wanted);
    struct buf aside = {0};
    buf_printf(&aside, "%s.damaged/data.mdb", buf_cstr(&b->dir));
    assert_int_equal(access(buf_cstr(&aside), F_OK), 0);
    buf_fini(&aside);
}

static void garbage_is_put_aside(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    for (int round = 0; round < 2; round++) { /* one that was put aside before gives way */
        apply(&b, job("web", 0, 9));
        commit(&b);
        state_close(&b.state);
        write_at(&b, "data.mdb", 0, "this is not what LMDB writes, nor ever was");
        write_at(&b, "data.mdb", 4096, "this is not what LMDB writes, nor ever was");
        open_it(&b);
        has_begun_anew(&b);
        b.seq = 0;
    }
    teardown(&b);
}

static void an_entry_that_flipped_is_found_and_the_table_put_aside(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    apply(&b, job("web", 0, 9));
    commit(&b);
    MDB_env *env;
    MDB_dbi dbi;
    MDB_val key, value;
    MDB_cursor *cursor;
    MDB_txn *txn = doctor(&b, &env, "objects", &dbi);
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    assert_int_equal(mdb_cursor_get(cursor, &key, &value, MDB_FIRST), 0);
    char copy[256];
    memcpy(copy, value.mv_data, value.mv_size);
    copy[9] ^= 1; /* its index */
    value.mv_data = copy;
    assert_int_equal(mdb_cursor_put(cursor, &key, &value, MDB_CURRENT), 0);
    mdb_cursor_close(cursor);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    struct state_options o = {.dir = buf_cstr(&b.dir), .source = "prod", .bytes_max = 1 << 20};
    assert_int_equal(state_open(&b.state, &o, &b.err), 0);
    assert_int_equal(state_verify(b.state, NULL, &b.err), -1);
    assert_int_equal(b.err.kind, ERR_INPUT);
    assert_true(state_is_broken(b.state));
    reopen(&b);
    has_begun_anew(&b);
    teardown(&b);
}

static void a_file_that_was_cut_is_put_aside(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    fill(&b, 0, 2000);
    state_close(&b.state);
    struct buf path = {0};
    buf_printf(&path, "%s/data.mdb", buf_cstr(&b.dir));
    assert_int_equal(truncate(buf_cstr(&path), 3 * 4096), 0);
    buf_fini(&path);
    struct state_options o = {.dir = buf_cstr(&b.dir), .source = "prod", .bytes_max = 1 << 20};
    if (state_open(&b.state, &o, &b.err) == 0) {
        if (state_verify(b.state, NULL, &b.err) != 0)
            reopen(&b);
    }
    has_begun_anew(&b);
    teardown(&b);
}

static void a_table_that_ends_the_process_twice_is_put_aside(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    apply(&b, job("web", 0, 9));
    commit(&b);
    state_close(&b.state);
    write_at(&b, "suspect", 0, "?"); /* once: may have been a kill */
    open_it(&b);
    is_at(&b, "web", 0, 9);
    state_close(&b.state);
    write_at(&b, "suspect", 0, "??");
    open_it(&b);
    has_begun_anew(&b);
    teardown(&b);
}

/* Whatever is flipped: at most two processes die of it, the third one works. */
static bool opens_in_a_child(struct bench *b)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGBUS, SIG_DFL); /* cmocka's would go on with the next test */
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        struct state_options o = {.dir = buf_cstr(&b->dir), .source = "prod", .bytes_max = 1 << 20};
        for (int i = 0; i < 2; i++) {
            if (state_open(&b->state, &o, &b->err) == 0 &&
                state_verify(b->state, NULL, &b->err) == 0)
                _exit(0);
            state_close(&b->state);
        }
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void no_flipped_byte_ends_the_process_for_ever(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    fill(&b, 0, 1000);
    state_close(&b.state);
    struct buf path = {0}, sound = {0};
    buf_printf(&path, "%s/data.mdb", buf_cstr(&b.dir));
    int fd = open(buf_cstr(&path), O_RDONLY);
    struct stat file;
    assert_int_equal(fstat(fd, &file), 0);
    char *p = buf_reserve(&sound, (size_t)file.st_size);
    assert_int_equal(read(fd, p, (size_t)file.st_size), file.st_size);
    close(fd);
    srandom(4);
    for (int round = 0; round < 60; round++) {
        assert_int_equal(mkdir(buf_cstr(&b.dir), 0777) == 0 || errno == EEXIST, 1);
        fd = open(buf_cstr(&path), O_WRONLY | O_CREAT | O_TRUNC, 0666);
        assert_int_equal(write(fd, sound.p, (size_t)file.st_size), file.st_size);
        for (int i = 0; i < 8; i++) {
            /* Mostly where a page's own fields are. */
            long page = random() % (file.st_size / 4096);
            long at = page * 4096 + random() % (i % 2 ? 4096 : 48);
            char byte = (char)random();
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
        close(fd);
        bool opened = opens_in_a_child(&b) || opens_in_a_child(&b) || opens_in_a_child(&b);
        assert_true(opened);
    }
    buf_fini(&path);
    free(p);
    teardown(&b);
}

/* Files can't grow past this; 0: as far as they like. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes > 0 ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void without_disk_the_commit_fails_and_is_tried_again(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    fill(&b, 0, 100);
    char key[32];
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "more-%d", i);
        apply(&b, job(key, 0, 1000));
    }
    limit_files(64 * 1024);
    int rc = state_commit(b.state, NULL, &b.err);
    limit_files(0);
    assert_int_equal(rc, -1);
    assert_int_equal(b.err.kind, ERR_RETRY);
    assert_true(state_is_broken(b.state));
    reopen(&b);
    assert_int_equal(state_objects(b.state), 100); /* as it was before, and not put aside */
    assert_int_equal(state_next_seq(b.state), 101);
    b.seq = 100;
    fill(&b, 100, 5000);
    assert_int_equal(state_objects(b.state), 5100);
    teardown(&b);
}

/* A process that applies and commits until it is killed; says when it has begun. */
static void apply_for_ever(struct bench *b, int said)
{
    open_it(b);
    if (write(said, "!", 1) != 1)
        _exit(1);
    uint64_t next = state_next_seq(b->state);
    for (uint64_t i = next > 0 ? next : 1;; i++) {
        char key[32];
        snprintf(key, sizeof key, "job-%" PRIu64, i % 1000);
        struct event e = job(key, 0, i);
        e.seq = i;
        if (state_apply(b->state, &e, &b->err) != 0 ||
            (i % 50 == 0 && state_commit(b->state, NULL, &b->err) != 0))
            _exit(1);
    }
}

static void a_kill_at_any_moment_leaves_a_sound_table(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    srandom(5);
    uint64_t last = 0;
    /* On a slow disk some live longer: until something was committed at all. */
    for (int round = 0; round < 15 || (last <= 1 && round < 45); round++) {
        int said[2];
        char c;
        state_close(&b.state);
        assert_int_equal(pipe(said), 0);
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            apply_for_ever(&b, said[1]);
        assert_int_equal(read(said[0], &c, 1), 1);
        usleep((useconds_t)(random() % (round < 15 ? 30000 : 1000000)));
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(said[0]);
        close(said[1]);
        open_it(&b);
        uint64_t next = state_next_seq(b.state);
        assert_true(next >= last);
        last = next;
        if (next > 1) { /* the entries are those of that moment */
            char key[32];
            snprintf(key, sizeof key, "job-%" PRIu64, (next - 1) % 1000);
            is_at(&b, key, 0, next - 1);
        }
    }
    assert_true(last > 1);
    assert_false(state_resync(b.state)->wanted);
    teardown(&b);
}

static void a_directory_that_cannot_be_made_is_an_error(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    state_close(&b.state);
    struct buf path = {0};
    buf_printf(&path, "%s/not/there", b.parent);
    struct state_options o = {.dir = buf_cstr(&path), .source = "prod", .bytes_max = 1 << 20};
    assert_int_equal(state_open(&b.state, &o, &b.err), -1);
    assert_int_equal(b.err.kind, ERR_FATAL);
    buf_fini(&path);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_newer_version_is_refused),
        cmocka_unit_test(of_two_objects_with_one_hash_the_last_is_known),
        cmocka_unit_test(what_is_forgotten_is_not_counted),
        cmocka_unit_test(without_room_the_objects_told_longest_ago_are_forgotten),
        cmocka_unit_test(without_room_and_all_as_old_some_are_forgotten_not_all),
        cmocka_unit_test(garbage_is_put_aside),
        cmocka_unit_test(an_entry_that_flipped_is_found_and_the_table_put_aside),
        cmocka_unit_test(a_file_that_was_cut_is_put_aside),
        cmocka_unit_test(a_table_that_ends_the_process_twice_is_put_aside),
        cmocka_unit_test(no_flipped_byte_ends_the_process_for_ever),
        cmocka_unit_test(without_disk_the_commit_fails_and_is_tried_again),
        cmocka_unit_test(a_kill_at_any_moment_leaves_a_sound_table),
        cmocka_unit_test(a_directory_that_cannot_be_made_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
