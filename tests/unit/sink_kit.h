/* sink_kit.h - a sink in memory that can be told to misbehave, and a bench with a journal and a
 * sink loop on it. Include it in one .c only. */
#ifndef BUSBAR_TESTS_SINK_KIT_H
#define BUSBAR_TESTS_SINK_KIT_H

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "bridge/sink_loop.h"
#include "tests/unit/scratch.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

/* What the other side holds: it survives the sink's close, as a Kafka or a Redis would. */
struct far_side {
    pthread_mutex_t lock;
    char ids[4096][96];
    size_t n;
    struct buf checkpoint;
    /* What the next publishes do; 0 ends the list (DONE from then on). */
    struct {
        enum sink_result result;
        bool happens; /* UNKNOWN that did happen */
    } script[16];
    size_t at, n_script;
    size_t refuse_larger_than;
    const char *secret; /* may not be in any event's bytes; NULL: nothing is */
    size_t bytes;       /* of all that it took, */
    uint64_t digest;    /* and the sum of their hashes */
    size_t opens, publishes, empty_publishes;
    size_t events_max;
    bool taken;     /* opens answer STANDBY, */
    size_t refused; /* so many did; */
    size_t keeps;   /* every keep is counted, */
    bool fenced;    /* and answers FENCED once */
    /* What is begun (far_overlapping), and how it went: "bebe". */
    struct {
        struct batch *batch;
        const struct checkpoint *next;
    } begun[2];
    size_t n_begun;
    struct buf calls;
    struct buf gap; /* the last Gap it took */
    void (*on_begin)(void *arg);
    void *arg;
};

static struct far_side far;
static bool far_overlaps; /* the sink of the bench has begin and end */

/* What was asked of the resync. */
static struct {
    size_t n;
    uint64_t after_seq;
} wanted;

static inline void want_resync(void *arg, uint64_t after_seq, const char *reason)
{
    (void)arg;
    assert_true(reason[0] != '\0');
    wanted.n++;
    wanted.after_seq = after_seq;
}

static inline void *far_create(const struct sink_pair *pair, struct sink_limits *limits)
{
    (void)pair;
    *limits =
        (struct sink_limits){.events_max = far.events_max, .bytes_max = 1 << 20, .interval_ms = 0};
    return &far;
}

static inline void far_destroy(void *self)
{
    (void)self;
}

static inline enum sink_result far_open(void *self, struct err *err)
{
    struct far_side *f = self;
    pthread_mutex_lock(&f->lock);
    bool taken = f->taken;
    f->opens++;
    f->refused += taken;
    pthread_mutex_unlock(&f->lock);
    err_set(err, ERR_RETRY, "another has it");
    return taken ? SINK_STANDBY : SINK_DONE;
}

static inline enum sink_result far_keep(void *self, struct err *err)
{
    struct far_side *f = self;
    assert_int_equal(f->n_begun, 0);
    pthread_mutex_lock(&f->lock);
    f->keeps++;
    bool fenced = f->fenced;
    f->fenced = false;
    pthread_mutex_unlock(&f->lock);
    err_set(err, ERR_FENCED, "taken");
    return fenced ? SINK_FENCED : SINK_DONE;
}

static inline const char *far_owner(void *self)
{
    struct far_side *f = self;
    pthread_mutex_lock(&f->lock);
    bool taken = f->taken;
    pthread_mutex_unlock(&f->lock);
    return taken ? "other" : "me";
}

static inline enum sink_result far_read(void *self, struct checkpoint *cp, bool *found,
                                        struct err *err)
{
    struct far_side *f = self;
    *found = f->checkpoint.len > 0;
    if (*found && checkpoint_decode(cp, buf_str(&f->checkpoint), err) != 0)
        return SINK_FATAL;
    return SINK_DONE;
}

static inline void assert_no_secret(const struct far_side *f, struct str data)
{
    if (f->secret != NULL)
        assert_null(memmem(data.p, data.len, f->secret, strlen(f->secret)));
}

static inline void take(struct far_side *f, const struct batch *batch,
                        const struct checkpoint *next)
{
    for (size_t i = 0; i < batch->n; i++) {
        struct buf id = {0};
        event_append_id(&id, batch->source, batch->journal_id, batch->events[i]);
        assert_in_range(f->n, 0, sizeof f->ids / sizeof *f->ids - 1);
        assert_no_secret(f, batch->events[i]->data);
        f->digest += hash64(0, batch->events[i]->data.p, batch->events[i]->data.len);
        if (batch->events[i]->origin == EVENT_OWN && str_is(batch->events[i]->type, "Gap")) {
            buf_clear(&f->gap);
            buf_append_str(&f->gap, batch->events[i]->data);
        }
        if (batch->events[i]->origin == EVENT_OWN || batch->events[i]->origin == EVENT_SNAPSHOT) {
            buf_clear(&id);
            buf_append_str(&id, batch->events[i]->type);
        }
        snprintf(f->ids[f->n++], sizeof f->ids[0], "%s", buf_cstr(&id));
        buf_fini(&id);
    }
    f->bytes += batch->bytes;
    buf_clear(&f->checkpoint);
    checkpoint_encode(next, &f->checkpoint);
}

static inline enum sink_result carry_out(struct far_side *f, struct batch *batch,
                                         const struct checkpoint *next, struct err *err)
{
    enum sink_result r = SINK_DONE;
    bool happens = true;
    pthread_mutex_lock(&f->lock);
    f->publishes++;
    f->empty_publishes += batch->n == 0;
    if (f->at < f->n_script) {
        r = f->script[f->at].result;
        happens = f->script[f->at++].happens;
    }
    for (size_t i = 0; i < batch->n && r == SINK_DONE && f->refuse_larger_than > 0; i++) {
        if (batch->events[i]->data.len > f->refuse_larger_than) {
            batch->refused = i;
            err_set(err, ERR_INPUT, "too large");
            r = SINK_REFUSED;
            happens = false;
        }
    }
    if (happens)
        take(f, batch, next);
    if (r != SINK_DONE && r != SINK_REFUSED)
        err_set(err, ERR_RETRY, "scripted");
    pthread_mutex_unlock(&f->lock);
    return r;
}

static inline enum sink_result far_publish(void *self, struct batch *batch,
                                           const struct checkpoint *next, struct err *err)
{
    struct far_side *f = self;
    assert_int_equal(f->n_begun, 0);
    buf_append_char(&f->calls, 'p');
    return carry_out(f, batch, next, err);
}

static inline void far_begin(void *self, struct batch *batch, const struct checkpoint *next)
{
    struct far_side *f = self;
    assert_in_range(f->n_begun, 0, 1);
    f->begun[f->n_begun].batch = batch;
    f->begun[f->n_begun++].next = next;
    buf_append_char(&f->calls, 'b');
    if (f->on_begin != NULL)
        f->on_begin(f->arg);
}

static inline enum sink_result far_end(void *self, struct err *err)
{
    struct far_side *f = self;
    assert_in_range(f->n_begun, 1, 2);
    buf_append_char(&f->calls, 'e');
    enum sink_result r = carry_out(f, f->begun[0].batch, f->begun[0].next, err);
    f->begun[0] = f->begun[1];
    f->n_begun = r == SINK_DONE ? f->n_begun - 1 : 0;
    return r;
}

static inline void far_close(void *self)
{
    assert_int_equal(((struct far_side *)self)->n_begun, 0);
}

static const struct setting no_rows[] = {{.name = NULL}};

/* It takes a batch while it publishes another. */
static const struct sink_ops far_overlapping = {
    .type = "far",
    .rows = no_rows,
    .create = far_create,
    .destroy = far_destroy,
    .open = far_open,
    .read_checkpoint = far_read,
    .publish = far_publish,
    .begin = far_begin,
    .end = far_end,
    .keep = far_keep,
    .owner = far_owner,
    .close = far_close,
};

/* It does not. */
static inline const struct sink_ops *far_plain(void)
{
    static struct sink_ops plain;
    plain = far_overlapping;
    plain.begin = NULL;
    plain.end = NULL;
    return &plain;
}

/* ---- a bench with a journal and a loop on it ---- */

struct bench {
    char *dir;
    struct journal *journal;
    struct metrics_all *all;
    struct stop *stop;
    struct filter *filter;
    struct redact *redact;
    bool standby;
    bool by_bytes;
    bool hold; /* what is put goes into one block, until it is taken back */
    struct sink_loop *loop;
    pthread_t thread;
    uint64_t position, pos_index;
    uint32_t epoch;
    int64_t arrival;
};

static inline void bench_setup(struct bench *b, uint64_t max_size)
{
    *b = (struct bench){.dir = scratch_dir(), .all = metrics_all_new(), .stop = stop_new()};
    far = (struct far_side){.events_max = 4};
    wanted.n = 0;
    pthread_mutex_init(&far.lock, NULL);
    b->journal = scratch_journal(b->dir, max_size);
    b->arrival = 1000;
}

/* One message with one event, whose position is the bench's business. */
static inline void put(struct bench *b, struct event e)
{
    struct err err;
    b->pos_index = e.index > b->pos_index && e.origin != EVENT_SNAPSHOT ? e.index : b->pos_index;
    e.pos_index = b->pos_index;
    e.ordinal = (uint32_t)b->position++;
    e.epoch = b->epoch;
    assert_int_equal(journal_append(b->journal, e.data, b->arrival++, &e, 1, &err), 0);
    if (!b->hold)
        assert_int_equal(journal_commit(b->journal, &err), 0);
}

/* Job web at index, told for the nth time. */
static inline void put_event(struct bench *b, uint64_t index, uint32_t nth, const char *data,
                             bool repeat)
{
    put(b, (struct event){
               .topic = STR("Job"),
               .type = STR("T"),
               .key = STR("web"),
               .data = str_from(data),
               .index = index,
               .occurrence = nth,
               .ident = event_hash(index, STR("Job"), STR(""), STR("web"), STR("T"), nth),
               .repeat = repeat,
           });
}

/* Of a source whose events are known by their bytes: at a time in ms. */
static inline void put_told(struct bench *b, uint64_t time_ms, const char *data)
{
    uint64_t ident = event_hash_bytes(time_ms, STR("T"), str_from(data), 0);
    put(b, (struct event){.topic = STR("Task"),
                          .type = STR("T"),
                          .key = STR("/web"),
                          .data = str_from(data),
                          .index = time_ms,
                          .occurrence = (uint32_t)ident,
                          .ident = ident});
}

/* What Busbar itself says. */
static inline void put_own(struct bench *b, uint64_t index, const char *type)
{
    put(b, (struct event){.topic = STR("Busbar"),
                          .type = str_from(type),
                          .key = STR("prod"),
                          .data = STR("{}"),
                          .index = index,
                          .ident = 1,
                          .origin = EVENT_OWN});
}

/* What a resync tells: `key` at that index. */
static inline void put_snapshot(struct bench *b, uint64_t index, const char *key)
{
    put(b, (struct event){.topic = STR("Job"),
                          .type = STR("Snapshot"),
                          .key = str_from(key),
                          .data = STR("{}"),
                          .index = index,
                          .ident = 2,
                          .origin = EVENT_SNAPSHOT});
}

static inline void *loop_thread(void *arg)
{
    sink_loop_run(arg);
    return NULL;
}

static inline void start_loop(struct bench *b)
{
    stop_free(&b->stop);
    b->stop = stop_new();
    struct sink_loop_options options = {
        .ops = far_overlaps ? &far_overlapping : far_plain(),
        .pair = {.bridge = "b",
                 .source = "prod",
                 .sink = "far",
                 .standby = b->standby,
                 .stop = b->stop},
        .journal = b->journal,
        .filter = b->filter,
        .redact = b->redact,
        .by_bytes = b->by_bytes,
        .metrics = metrics_new(b->all, METRICS_SINK, "prod", "far"),
        .want_resync = want_resync,
    };
    b->loop = sink_loop_new(&options);
    assert_int_equal(pthread_create(&b->thread, NULL, loop_thread, b->loop), 0);
}

/* Stops the loop; the journal has to be reopened for another one. */
static inline void stop_loop(struct bench *b)
{
    stop_request(b->stop);
    journal_wake_stop(b->journal);
    pthread_join(b->thread, NULL);
    sink_loop_free(&b->loop);
}

static inline void reopen(struct bench *b)
{
    journal_close(&b->journal);
    b->journal = scratch_journal(b->dir, 1 << 20);
}

/* The same machine's next life, or another machine: a journal that knows nothing. */
static inline void fresh_journal(struct bench *b)
{
    journal_close(&b->journal);
    scratch_remove(b->dir);
    b->dir = scratch_dir();
    b->journal = scratch_journal(b->dir, 1 << 20);
    b->pos_index = 0;
}

static inline void bench_teardown(struct bench *b)
{
    journal_close(&b->journal);
    scratch_remove(b->dir);
    metrics_all_free(&b->all);
    stop_free(&b->stop);
    filter_free(&b->filter);
    redact_free(&b->redact);
    buf_fini(&far.checkpoint);
    buf_fini(&far.calls);
    buf_fini(&far.gap);
    pthread_mutex_destroy(&far.lock);
}

static inline size_t far_count(void)
{
    pthread_mutex_lock(&far.lock);
    size_t n = far.n;
    pthread_mutex_unlock(&far.lock);
    return n;
}

/* What is put from here on comes after the sink was opened. */
static inline void wait_open(struct bench *b)
{
    struct sink_status status = {0};
    int64_t until = clock_mono_ms() + 30000;
    while (!status.checkpoint_known && clock_mono_ms() < until) {
        usleep(1000);
        sink_loop_get_status(b->loop, &status);
    }
    assert_true(status.checkpoint_known);
}

/* Until one of the far side's counts has come to n. */
static inline void far_wait(const size_t *count, size_t n)
{
    int64_t until = clock_mono_ms() + 30000;
    size_t now = 0;
    while (now < n && clock_mono_ms() < until) {
        usleep(1000);
        pthread_mutex_lock(&far.lock);
        now = *count;
        pthread_mutex_unlock(&far.lock);
    }
    assert_true(now >= n);
}

static inline void wait_for(size_t n)
{
    int64_t until = clock_mono_ms() + 30000;
    while (far_count() < n && clock_mono_ms() < until)
        usleep(1000);
    usleep(20000); /* what must not come would come now */
    assert_int_equal(far_count(), n);
}

/* As at a takeover: one event, of this index, was published, and the journal is another, empty. */
static inline void bench_setup_takeover(struct bench *b, uint64_t index)
{
    bench_setup(b, 1 << 20);
    put_event(b, index, 0, "{}", false);
    start_loop(b);
    wait_for(1);
    stop_loop(b);
    fresh_journal(b);
}

/* All tests with a sink that publishes one batch after the other, then with one that overlaps: how
 * many failed. The count of tests is that of the array itself, so this can't be a function. */
#define RUN_BOTH_WAYS(failed, tests)                                               \
    do {                                                                           \
        far_overlaps = false;                                                      \
        (failed) = cmocka_run_group_tests(tests, NULL, NULL);                      \
        far_overlaps = true;                                                       \
        (failed) += cmocka_run_group_tests_name("overlapping", tests, NULL, NULL); \
    } while (0)

static inline void holds(size_t i, uint64_t index, uint32_t nth)
{
    char id[96];
    snprintf(id, sizeof id, "prod/%" PRIu64 "/Job//web/T/%" PRIu32, index, nth);
    assert_string_equal(far.ids[i], id);
}

#endif
