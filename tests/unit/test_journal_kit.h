/* test_journal_kit.h - what the tests of the journal share: directories, and events whose every
 * byte follows from their sequence number. */
#ifndef BUSBAR_TEST_JOURNAL_KIT_H
#define BUSBAR_TEST_JOURNAL_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "bridge/journal.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIT __attribute__((unused)) static
#define KIT_MIB UINT64_C(1048576)

enum { KIT_EVENTS_MAX = 4, KIT_RAW_MAX = 64 * 1024 };

KIT size_t kit_pad = 40; /* bytes of filling in each event */
KIT int64_t kit_first_us = INT64_C(1700000000000000);

/* ---- files ---- */

struct kit_dir {
    char path[128];
};

KIT void kit_dir_make(struct kit_dir *dir)
{
    /* Memory where there is: hundreds of journals are opened, each with its fsyncs. */
    const char *tmp = getenv("TMPDIR");
    if (access("/dev/shm", W_OK) == 0)
        tmp = "/dev/shm";
    snprintf(dir->path, sizeof dir->path, "%s/busbar-journal-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir->path));
}

KIT void kit_dir_empty(const struct kit_dir *dir)
{
    DIR *d = opendir(dir->path);
    if (d == NULL)
        return;
    const struct dirent *entry;
    while ((entry = readdir(d)) != NULL)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
}

KIT void kit_dir_remove(const struct kit_dir *dir)
{
    kit_dir_empty(dir);
    rmdir(dir->path);
}

KIT void kit_file_copy(const char *from, const char *to)
{
    static char bytes[1 << 16];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(in >= 0 && out >= 0);
    ssize_t n;
    while ((n = read(in, bytes, sizeof bytes)) > 0)
        assert_int_equal(write(out, bytes, (size_t)n), n);
    close(in);
    close(out);
}

/* What a kill at this moment would leave. */
KIT void kit_dir_copy(const struct kit_dir *from, const struct kit_dir *to)
{
    kit_dir_empty(to);
    DIR *d = opendir(from->path);
    assert_non_null(d);
    const struct dirent *entry;
    while ((entry = readdir(d)) != NULL) {
        char a[512], b[512];
        snprintf(a, sizeof a, "%s/%s", from->path, entry->d_name);
        snprintf(b, sizeof b, "%s/%s", to->path, entry->d_name);
        if (entry->d_name[0] != '.')
            kit_file_copy(a, b);
    }
    closedir(d);
}

static int kit_compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Sorted names of the files that end in `suffix`. */
KIT size_t kit_dir_list(const struct kit_dir *dir, const char *suffix, char names[][64], size_t max)
{
    DIR *d = opendir(dir->path);
    assert_non_null(d);
    size_t n = 0;
    const struct dirent *entry;
    while ((entry = readdir(d)) != NULL) {
        size_t len = strlen(entry->d_name), tail = strlen(suffix);
        if (len < tail || len >= 64 || strcmp(entry->d_name + len - tail, suffix) != 0)
            continue;
        assert_true(n < max);
        memcpy(names[n++], entry->d_name, len + 1);
    }
    closedir(d);
    qsort(names, n, sizeof names[0], kit_compare);
    return n;
}

/* The path of the newest segment. */
KIT void kit_last_segment(const struct kit_dir *dir, char out[512])
{
    char names[256][64];
    size_t n = kit_dir_list(dir, ".seg", names, 256);
    assert_true(n > 0);
    snprintf(out, 512, "%s/%.63s", dir->path, names[n - 1]);
}

KIT off_t kit_file_size(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

KIT void kit_file_flip(const char *path, off_t offset)
{
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

/* ---- events ---- */

struct kit_message {
    struct str raw;
    size_t n;
    struct event events[KIT_EVENTS_MAX];
    int64_t arrival_us;
    char bytes[KIT_RAW_MAX];
    char keys[KIT_EVENTS_MAX][32];
    struct buf packed;
};

KIT int64_t kit_arrival(uint64_t seq)
{
    return kit_first_us + (int64_t)seq * 10;
}

KIT uint64_t kit_mix(uint64_t seq)
{
    return hash64(HASH64_START, &seq, sizeof seq);
}

/* The event's topic and data lie in the raw bytes, its type and key do not, its filter keys come
 * and go. */
KIT void kit_event(struct kit_message *m, size_t i, uint64_t seq, size_t *len)
{
    static const char *types[] = {"JobRegistered", "AllocationUpdated", "NodeDrain", ""};
    uint64_t mix = kit_mix(seq);
    struct event *e = &m->events[i];
    *e = (struct event){0};
    size_t pad = mix % (kit_pad + 1);
    int head = snprintf(m->bytes + *len, sizeof m->bytes - *len,
                        "{\"Topic\":\"T%" PRIu64 "\",\"n\":%" PRIu64 ",\"pad\":\"", mix % 3, seq);
    e->topic = (struct str){m->bytes + *len + 10, 2};
    e->data.p = m->bytes + *len;
    *len += (size_t)head;
    memset(m->bytes + *len, 'a' + (int)(mix % 26), pad);
    memcpy(m->bytes + *len + pad, "\"}", 2);
    *len += pad + 2;
    e->data.len = (size_t)(m->bytes + *len - e->data.p);
    e->type = str_from(types[mix % 4]);
    snprintf(m->keys[i], sizeof m->keys[i], "key-%" PRIu64, mix % 100);
    e->key = str_from(m->keys[i]);
    e->ns = mix % 2 == 0 ? STR("default") : STR("");
    e->index = 100 + seq / 3;
    e->pos_index = e->index;
    e->ordinal = (uint32_t)(seq % 3);
    e->occurrence = (uint32_t)(mix % 2);
    e->ident = mix;
    e->time_us = mix % 5 == 0 ? 0 : (int64_t)mix / 2;
    e->origin = (enum event_origin)(mix % 4);
    e->epoch = mix % 5 == 0 ? (uint32_t)(mix >> 8) : 0;
    e->repeat = mix % 7 == 0;
}

/* The message that begins with event `seq`. */
KIT void kit_message(struct kit_message *m, uint64_t seq)
{
    m->n = 1 + kit_mix(seq ^ 0x5555) % KIT_EVENTS_MAX;
    size_t len = 0;
    m->bytes[len++] = '[';
    for (size_t i = 0; i < m->n; i++)
        kit_event(m, i, seq + i, &len);
    m->bytes[len++] = ']';
    m->raw = (struct str){m->bytes, len};
    m->arrival_us = kit_arrival(seq);
    buf_clear(&m->packed);
    if (kit_mix(seq) % 3 == 0) {
        uint32_t size = 5;
        buf_append(&m->packed, &size, sizeof size);
        buf_append(&m->packed, "fkey1", 5);
    }
    m->events[0].filter_keys = buf_str(&m->packed);
}

/* How many events it has, or 0 with *err. */
KIT size_t kit_append(struct journal *journal, uint64_t seq, struct err *err)
{
    static _Thread_local struct kit_message m;
    kit_message(&m, seq);
    int result = journal_append(journal, m.raw, m.arrival_us, m.events, m.n, err);
    buf_fini(&m.packed);
    return result == 0 ? m.n : 0;
}

KIT void kit_check_str(struct str a, struct str b)
{
    assert_int_equal(a.len, b.len);
    if (a.len > 0)
        assert_memory_equal(a.p, b.p, a.len);
}

KIT void kit_check_event(const struct event *a, const struct event *b)
{
    kit_check_str(a->topic, b->topic);
    kit_check_str(a->type, b->type);
    kit_check_str(a->key, b->key);
    kit_check_str(a->ns, b->ns);
    kit_check_str(a->filter_keys, b->filter_keys);
    kit_check_str(a->data, b->data);
    assert_int_equal(a->index, b->index);
    assert_int_equal(a->pos_index, b->pos_index);
    assert_int_equal(a->ordinal, b->ordinal);
    assert_int_equal(a->occurrence, b->occurrence);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->ident, b->ident);
    assert_int_equal(a->time_us, b->time_us);
    assert_int_equal(a->origin, b->origin);
    assert_int_equal(a->repeat, b->repeat);
}

/* Every byte of it is what its sequence numbers say. */
KIT void kit_check_block(const struct block *block)
{
    static _Thread_local struct kit_message m;
    uint64_t seq = block->first_seq;
    size_t at = 0;
    assert_int_equal(block->arrival_us, kit_arrival(seq));
    for (size_t k = 0; k < block->n_messages; k++) {
        const struct journal_message *message = &block->messages[k];
        kit_message(&m, seq);
        kit_check_str(message->raw, m.raw);
        assert_int_equal(message->first_event, at);
        assert_int_equal(message->n_events, m.n);
        for (size_t i = 0; i < m.n; i++, at++, seq++) {
            const struct event *e = &block->events[at];
            kit_check_event(e, &m.events[i]);
            assert_int_equal(e->seq, seq);
            assert_int_equal(e->arrival_us, m.arrival_us + (int64_t)i);
            assert_ptr_equal(e->data.p, message->raw.p + (m.events[i].data.p - m.raw.p));
        }
        buf_fini(&m.packed);
    }
    assert_int_equal(at, block->n_events);
}

/* ---- journals ---- */

KIT struct journal_options kit_options(const struct kit_dir *dir)
{
    return (struct journal_options){
        .dir = dir->path,
        .max_size = 64 * KIT_MIB,
        .sync_ms = JOURNAL_SYNC_NEVER,
        .boot_id = "boot-1",
    };
}

KIT struct journal *kit_open_with(const struct journal_options *options)
{
    struct journal *journal = NULL;
    struct err err = {0};
    if (journal_open(&journal, options, &err) != 0)
        fail_msg("open: %s", err.msg);
    return journal;
}

KIT struct journal *kit_open(const struct kit_dir *dir)
{
    struct journal_options options = kit_options(dir);
    return kit_open_with(&options);
}

/* Appends messages until `n` events more are there, in blocks of `per_block` messages; committed.
 */
KIT void kit_write(struct journal *journal, uint64_t n, unsigned per_block)
{
    struct err err = {0};
    uint64_t seq = journal_next_seq(journal), end = seq + n;
    for (unsigned in_block = 0; seq < end;) {
        size_t added = kit_append(journal, seq, &err);
        if (added == 0)
            fail_msg("append: %s", err.msg);
        seq += added;
        if (++in_block == per_block) {
            assert_int_equal(journal_commit(journal, &err), 0);
            in_block = 0;
        }
    }
    assert_int_equal(journal_commit(journal, &err), 0);
    assert_int_equal(journal_next_seq(journal), seq);
}

/* Reads on to the end and checks all; how many events. Nothing may be lost. */
KIT uint64_t kit_drain(struct journal_reader *reader)
{
    struct block *block = NULL;
    struct err err = {0};
    uint64_t n = 0;
    enum journal_read result;
    while ((result = journal_reader_next(reader, 0, &block, &err)) == JOURNAL_BLOCK) {
        kit_check_block(block);
        n += block->n_events;
        block_unref(&block);
    }
    if (result != JOURNAL_NOTHING)
        fail_msg("read: %d %s", (int)result, err.msg);
    return n;
}

KIT uint64_t kit_drain_all(struct journal *journal)
{
    struct journal_reader *reader = journal_reader_new(journal);
    uint64_t n = kit_drain(reader);
    journal_reader_free(&reader);
    return n;
}

KIT int kit_setup(void **state)
{
    struct kit_dir *dir = malloc(sizeof *dir);
    kit_dir_make(dir);
    kit_pad = 40;
    *state = dir;
    return 0;
}

KIT int kit_teardown(void **state)
{
    kit_dir_remove(*state);
    free(*state);
    return 0;
}

#define KIT_TEST(fn) cmocka_unit_test_setup_teardown(fn, kit_setup, kit_teardown)

#endif
