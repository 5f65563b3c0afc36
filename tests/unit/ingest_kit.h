/* ingest_kit.h - a bench with a journal and an ingest on it. Include it in one .c only. */
#ifndef BUSBAR_TESTS_INGEST_KIT_H
#define BUSBAR_TESTS_INGEST_KIT_H

#include "bridge/ingest.h"
#include "bridge/seen.h"
#include "tests/unit/scratch.h"

#include <inttypes.h>
#include <string.h>

struct bench {
    char *dir;
    struct journal *journal;
    struct arrival arrival;
    struct metrics_all *all;
    struct metrics *metrics;
    struct stop *stop;
    struct ingest *ingest;
    enum source_start start;
    bool no_replay, by_bytes;
    source_digest *digest;
    struct known_checkpoint known;
    size_t news;
    struct err err;
};

static inline bool checkpoints(void *arg, struct known_checkpoint *known)
{
    *known = ((struct bench *)arg)->known;
    return true;
}

static inline void news(void *arg)
{
    ((struct bench *)arg)->news++;
}

static inline uint64_t passed(void *arg)
{
    (void)arg;
    return 0;
}

static inline void make_ingest(struct bench *b, struct filter *filter)
{
    struct ingest_options o = {
        .source = "prod",
        .journal = b->journal,
        .arrival = &b->arrival,
        .metrics = b->metrics,
        .filter = filter,
        .stop = b->stop,
        .start = b->start,
        .no_replay = b->no_replay,
        .by_bytes = b->by_bytes,
        .digest = b->digest,
        .checkpoints = checkpoints,
        .news = news,
        .passed = passed,
        .arg = b,
    };
    assert_int_equal(ingest_new(&b->ingest, &o, &b->err), 0);
}

static inline void bench_setup(struct bench *b, struct filter *filter)
{
    *b = (struct bench){.dir = scratch_dir(), .start = SOURCE_START_OLDEST};
    b->journal = scratch_journal(b->dir, 1 << 24);
    b->all = metrics_all_new();
    b->metrics = metrics_new(b->all, METRICS_SOURCE, "prod", NULL);
    b->stop = stop_new();
    arrival_init(&b->arrival, 1);
    make_ingest(b, filter);
}

static inline void restart(struct bench *b)
{
    ingest_free(&b->ingest);
    journal_close(&b->journal);
    b->journal = scratch_journal(b->dir, 1 << 24);
    make_ingest(b, NULL);
}

static inline void bench_teardown(struct bench *b)
{
    ingest_free(&b->ingest);
    journal_close(&b->journal);
    metrics_all_free(&b->all);
    stop_free(&b->stop);
    arrival_fini(&b->arrival);
    scratch_remove(b->dir);
}

static inline void connect_again(struct bench *b)
{
    ingest_state(b->ingest, SOURCE_BACKOFF, "s", "cut");
    ingest_state(b->ingest, SOURCE_ATTACHED, "s", NULL);
}

/* A line with `n` events of these keys, all Job/T, at one index. */
static inline void line(struct bench *b, uint64_t index, const char *const *keys, size_t n)
{
    struct found_event found[8];
    struct str raw = STR("{\"a\":1}");
    for (size_t i = 0; i < n; i++)
        found[i] = (struct found_event){.topic = STR("Job"),
                                        .type = STR("T"),
                                        .key = str_from(keys[i]),
                                        .index = index,
                                        .data = raw};
    assert_int_equal(ingest_message(b->ingest, raw, found, n, &b->err), 0);
    assert_int_equal(ingest_flush(b->ingest, &b->err), 0);
}

static inline void one(struct bench *b, uint64_t index, const char *key)
{
    line(b, index, &key, 1);
}

/* All that exits would publish, as "INDEX key/occurrence type POSITION" joined by ", ". */
static inline void journal_text(struct bench *b, struct buf *out)
{
    struct journal_reader *reader = journal_reader_new(b->journal);
    struct block *block;
    while (journal_reader_next(reader, 0, &block, &b->err) == JOURNAL_BLOCK) {
        for (size_t i = 0; i < block->n_events; i++) {
            const struct event *e = &block->events[i];
            if (e->repeat)
                continue;
            buf_printf(out, "%s%" PRIu64 " %.*s/%" PRIu32 " %.*s ", out->len > 0 ? ", " : "",
                       e->index, STR_ARG(e->key), e->occurrence, STR_ARG(e->type));
            event_append_position(out, e);
        }
        block_unref(&block);
    }
    journal_reader_free(&reader);
}

static inline void journal_is(struct bench *b, const char *expected)
{
    struct buf text = {0};
    journal_text(b, &text);
    assert_string_equal(buf_cstr(&text), expected);
    buf_fini(&text);
}

#endif
