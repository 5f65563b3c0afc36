/* test_sink.c - the loop that drives a sink, against a sink in memory that can be told to
 * misbehave. */
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
    size_t opens, publishes, empty_publishes;
    size_t events_max;
};

static struct far_side far;

static void *far_create(const struct sink_pair *pair, struct sink_limits *limits)
{
    (void)pair;
    *limits =
        (struct sink_limits){.events_max = far.events_max, .bytes_max = 1 << 20, .interval_ms = 0};
    return &far;
}

static void far_destroy(void *self)
{
    (void)self;
}

static enum sink_result far_open(void *self, struct err *err)
{
    (void)err;
    struct far_side *f = self;
    f->opens++;
    return SINK_DONE;
}

static enum sink_result far_read(void *self, struct checkpoint *cp, bool *found, struct err *err)
{
    struct far_side *f = self;
    *found = f->checkpoint.len > 0;
    if (*found && checkpoint_decode(cp, buf_str(&f->checkpoint), err) != 0)
        return SINK_FATAL;
    return SINK_DONE;
}

static void take(struct far_side *f, const struct batch *batch, const struct checkpoint *next)
{
    for (size_t i = 0; i < batch->n; i++) {
        struct buf id = {0};
        event_append_id(&id, batch->source, batch->journal_id, batch->events[i]);
        assert_in_range(f->n, 0, sizeof f->ids / sizeof *f->ids - 1);
        if (batch->events[i]->origin == EVENT_OWN) {
            buf_clear(&id);
            buf_append_str(&id, batch->events[i]->type);
        }
        snprintf(f->ids[f->n++], sizeof f->ids[0], "%s", buf_cstr(&id));
        buf_fini(&id);
    }
    buf_clear(&f->checkpoint);
    checkpoint_encode(next, &f->checkpoint);
}

static enum sink_result far_publish(void *self, struct batch *batch, const struct checkpoint *next,
                                    struct err *err)
{
    struct far_side *f = self;
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

static void far_close(void *self)
{
    (void)self;
}

static const struct setting no_rows[] = {{.name = NULL}};

static const struct sink_ops far_sink = {
    .type = "far",
    .rows = no_rows,
    .create = far_create,
    .destroy = far_destroy,
    .open = far_open,
    .read_checkpoint = far_read,
    .publish = far_publish,
    .close = far_close,
};

/* ---- a bench with a journal and a loop on it ---- */

struct bench {
    char *dir;
    struct journal *journal;
    struct metrics_all *all;
    struct stop *stop;
    struct filter *filter;
    struct sink_loop *loop;
    pthread_t thread;
    uint64_t position;
    int64_t arrival;
};

static void bench_setup(struct bench *b, uint64_t max_size)
{
    *b = (struct bench){.dir = scratch_dir(), .all = metrics_all_new(), .stop = stop_new()};
    far = (struct far_side){.events_max = 4};
    pthread_mutex_init(&far.lock, NULL);
    b->journal = scratch_journal(b->dir, max_size);
    b->arrival = 1000;
}

/* One message with one event: Job web at index, told for the nth time. */
static void put_event(struct bench *b, uint64_t index, uint32_t nth, const char *data, bool repeat)
{
    struct str raw = str_from(data);
    struct event e = {
        .topic = STR("Job"),
        .type = STR("T"),
        .key = STR("web"),
        .data = raw,
        .index = index,
        .pos_index = index,
        .ordinal = (uint32_t)b->position++,
        .occurrence = nth,
        .repeat = repeat,
    };
    e.ident = event_hash(index, e.topic, e.ns, e.key, e.type, nth);
    struct err err;
    assert_int_equal(journal_append(b->journal, raw, b->arrival++, &e, 1, &err), 0);
    assert_int_equal(journal_commit(b->journal, &err), 0);
}

static void *loop_thread(void *arg)
{
    sink_loop_run(arg);
    return NULL;
}

static void start_loop(struct bench *b)
{
    stop_free(&b->stop);
    b->stop = stop_new();
    struct sink_loop_options options = {
        .ops = &far_sink,
        .pair = {.bridge = "b", .source = "prod", .sink = "far", .stop = b->stop},
        .journal = b->journal,
        .filter = b->filter,
        .metrics = metrics_new(b->all, METRICS_SINK, "prod", "far"),
    };
    b->loop = sink_loop_new(&options);
    assert_int_equal(pthread_create(&b->thread, NULL, loop_thread, b->loop), 0);
}

/* Stops the loop; the journal has to be reopened for another one. */
static void stop_loop(struct bench *b)
{
    stop_request(b->stop);
    journal_wake_stop(b->journal);
    pthread_join(b->thread, NULL);
    sink_loop_free(&b->loop);
}

static void reopen(struct bench *b)
{
    journal_close(&b->journal);
    b->journal = scratch_journal(b->dir, 1 << 20);
}

/* The same machine's next life, or another machine: a journal that knows nothing. */
static void fresh_journal(struct bench *b)
{
    journal_close(&b->journal);
    scratch_remove(b->dir);
    b->dir = scratch_dir();
    b->journal = scratch_journal(b->dir, 1 << 20);
}

static void bench_teardown(struct bench *b)
{
    journal_close(&b->journal);
    scratch_remove(b->dir);
    metrics_all_free(&b->all);
    stop_free(&b->stop);
    filter_free(&b->filter);
    buf_fini(&far.checkpoint);
    pthread_mutex_destroy(&far.lock);
}

static size_t far_count(void)
{
    pthread_mutex_lock(&far.lock);
    size_t n = far.n;
    pthread_mutex_unlock(&far.lock);
    return n;
}

static void wait_for(size_t n)
{
    int64_t until = clock_mono_ms() + 10000;
    while (far_count() < n && clock_mono_ms() < until)
        usleep(1000);
    usleep(20000); /* what must not come would come now */
    assert_int_equal(far_count(), n);
}

static void holds(size_t i, uint64_t index, uint32_t nth)
{
    char id[96];
    snprintf(id, sizeof id, "prod/%" PRIu64 "/Job//web/T/%" PRIu32, index, nth);
    assert_string_equal(far.ids[i], id);
}

/* ---- the tests ---- */

static void publishes_everything_once_in_order_and_leaves_repeats_out(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    for (uint64_t i = 1; i <= 10; i++)
        put_event(&b, i, 0, "{}", false);
    put_event(&b, 10, 0, "{}", true);
    start_loop(&b);
    wait_for(10);
    for (uint64_t i = 11; i <= 30; i++)
        put_event(&b, i, 0, "{}", false);
    wait_for(30);
    for (size_t i = 0; i < 30; i++)
        holds(i, i + 1, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

static void goes_on_behind_its_checkpoint_after_a_restart(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    for (uint64_t i = 1; i <= 7; i++)
        put_event(&b, i, 0, "{}", false);
    start_loop(&b);
    wait_for(7);
    stop_loop(&b);
    reopen(&b);
    put_event(&b, 7, 1, "{}", false);
    put_event(&b, 8, 0, "{}", false);
    start_loop(&b);
    wait_for(9);
    holds(7, 7, 1);
    holds(8, 8, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

static void compares_by_identity_in_another_journal(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    put_event(&b, 5, 0, "{}", false);
    put_event(&b, 6, 0, "{}", false);
    put_event(&b, 6, 1, "{}", false);
    start_loop(&b);
    wait_for(3);
    stop_loop(&b);
    fresh_journal(&b);
    put_event(&b, 5, 0, "{}", false); /* passed: an older index */
    put_event(&b, 6, 2, "{}",
              false); /* new, told before what is known: the order within an index differs */
    put_event(&b, 6, 1, "{}", false);
    put_event(&b, 6, 0, "{}", false);
    put_event(&b, 7, 0, "{}", false);
    far.events_max = 1; /* each its own batch: the comparison must survive the checkpoint's moves */
    start_loop(&b);
    wait_for(5);
    holds(3, 6, 2);
    holds(4, 7, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

/* Stopped between two batches of one index in a journal that told it in another order. */
static void compares_by_identity_through_a_restart_within_one_index(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    put_event(&b, 6, 0, "{}", false);
    start_loop(&b);
    wait_for(1);
    stop_loop(&b);
    fresh_journal(&b);
    put_event(&b, 6, 1, "{}", false);
    far.events_max = 1;
    start_loop(&b);
    wait_for(3); /* a Gap, as nothing known came before, and 6/1 */
    assert_string_equal(far.ids[1], "Gap");
    stop_loop(&b);
    reopen(&b);
    put_event(&b, 6, 0, "{}", false);
    put_event(&b, 7, 0, "{}", false);
    start_loop(&b);
    wait_for(4);
    holds(2, 6, 1);
    holds(3, 7, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

static void says_a_gap_where_another_journal_starts_too_late(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    put_event(&b, 5, 0, "{}", false);
    start_loop(&b);
    wait_for(1);
    stop_loop(&b);
    fresh_journal(&b);
    put_event(&b, 9, 0, "{}", false);
    start_loop(&b);
    wait_for(3);
    assert_string_equal(far.ids[1], "Gap");
    holds(2, 9, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

static void tries_again_after_retry_and_asks_after_unknown(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    far.script[0].result = SINK_RETRY;
    far.script[1].result = SINK_UNKNOWN;
    far.script[1].happens = true;
    far.script[2].result = SINK_UNKNOWN;
    far.script[3].result = SINK_DONE;
    far.script[3].happens = true;
    far.n_script = 4;
    for (uint64_t i = 1; i <= 10; i++)
        put_event(&b, i, 0, "{}", false);
    start_loop(&b);
    wait_for(10);
    for (size_t i = 0; i < 10; i++)
        holds(i, i + 1, 0);
    assert_int_equal(far.opens, 3);
    stop_loop(&b);
    bench_teardown(&b);
}

static void replaces_what_the_sink_refuses_and_nothing_else(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    far.refuse_larger_than = 600; /* a Rejected event is smaller */
    char large[1000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    put_event(&b, 1, 0, "{}", false);
    put_event(&b, 2, 0, "{}", false);
    put_event(&b, 3, 0, large, false);
    put_event(&b, 4, 0, "{}", false);
    put_event(&b, 5, 0, large, false);
    start_loop(&b);
    wait_for(5);
    holds(0, 1, 0);
    holds(1, 2, 0);
    assert_string_equal(far.ids[2], "Rejected");
    holds(3, 4, 0);
    assert_string_equal(far.ids[4], "Rejected");
    stop_loop(&b);
    bench_teardown(&b);
}

static void says_a_gap_when_the_journal_dropped_what_it_wanted(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    put_event(&b, 1, 0, "{}", false);
    start_loop(&b);
    wait_for(1);
    stop_loop(&b);
    reopen(&b);
    char *fill = mem_zalloc(60001);
    memset(fill, 'y', 60000);
    for (uint64_t i = 2; i <= 60; i++)
        put_event(&b, i, 0, fill, false); /* 3.5 MB into 1 MiB */
    reopen(&b); /* what is pruned from the disk may still be had from memory */
    uint64_t first = journal_first_seq(b.journal);
    assert_true(first > 2);
    start_loop(&b);
    wait_for(1 + 1 + 60 - (size_t)first + 1);
    assert_string_equal(far.ids[1], "Gap");
    holds(2, first, 0);
    stop_loop(&b);
    bench_teardown(&b);
    free(fill);
}

static void a_fenced_pair_ends(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    far.script[0].result = SINK_FENCED;
    far.n_script = 1;
    put_event(&b, 1, 0, "{}", false);
    start_loop(&b);
    pthread_join(b.thread, NULL);
    struct sink_status status;
    sink_loop_get_status(b.loop, &status);
    assert_int_equal(status.state, SINK_ENDED);
    sink_loop_free(&b.loop);
    bench_teardown(&b);
}

static void moves_the_checkpoint_though_the_filter_matches_nothing(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, 1 << 20);
    b.filter = filter_new();
    filter_add_topic(b.filter, STR("Node"));
    put_event(&b, 1, 0, "{}", false);
    put_event(&b, 2, 0, "{}", false);
    start_loop(&b);
    int64_t until = clock_mono_ms() + 8000;
    struct sink_status status = {0};
    while (status.seq < 2 && clock_mono_ms() < until) {
        usleep(10000);
        sink_loop_get_status(b.loop, &status);
    }
    assert_int_equal(status.seq, 2);
    assert_int_equal(status.index, 2);
    assert_int_equal(far_count(), 0);
    stop_loop(&b);
    bench_teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publishes_everything_once_in_order_and_leaves_repeats_out),
        cmocka_unit_test(goes_on_behind_its_checkpoint_after_a_restart),
        cmocka_unit_test(compares_by_identity_in_another_journal),
        cmocka_unit_test(compares_by_identity_through_a_restart_within_one_index),
        cmocka_unit_test(says_a_gap_where_another_journal_starts_too_late),
        cmocka_unit_test(tries_again_after_retry_and_asks_after_unknown),
        cmocka_unit_test(replaces_what_the_sink_refuses_and_nothing_else),
        cmocka_unit_test(says_a_gap_when_the_journal_dropped_what_it_wanted),
        cmocka_unit_test(a_fenced_pair_ends),
        cmocka_unit_test(moves_the_checkpoint_though_the_filter_matches_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
