/* test_ingest_by_bytes.c - a source whose index is a time that goes back, and whose events are
 * known again by their bytes only. */
#include "tests/unit/ingest_kit.h"

static void setup(struct bench *b)
{
    bench_setup(b, NULL);
    b->no_replay = b->by_bytes = true;
    ingest_free(&b->ingest);
    make_ingest(b, NULL);
    ingest_state(b->ingest, SOURCE_ATTACHED, "s", NULL);
}

/* One event of the type T and the key k, at a time, with these bytes. */
static void tell(struct bench *b, uint64_t time_ms, const char *data)
{
    struct found_event found = {.topic = STR("Task"),
                                .type = STR("T"),
                                .key = STR("k"),
                                .index = time_ms,
                                .data = str_from(data)};
    assert_int_equal(ingest_message(b->ingest, found.data, &found, 1, &b->err), 0);
    assert_int_equal(ingest_flush(b->ingest, &b->err), 0);
}

/* All events of the source in the journal: how many, how many of them repeats, and whether no two
 * have the same identity. */
static void count(struct bench *b, size_t *n, size_t *repeats)
{
    uint64_t idents[64];
    struct journal_reader *reader = journal_reader_new(b->journal);
    struct block *block;
    *n = *repeats = 0;
    while (journal_reader_next(reader, 0, &block, &b->err) == JOURNAL_BLOCK) {
        for (size_t i = 0; i < block->n_events; i++) {
            const struct event *e = &block->events[i];
            if (e->origin != EVENT_SOURCE && e->origin != EVENT_MALFORMED)
                continue;
            for (size_t k = 0; k < *n; k++)
                assert_true(idents[k] != e->ident);
            assert_in_range(*n, 0, 63);
            idents[(*n)++] = e->ident;
            *repeats += e->repeat;
        }
        block_unref(&block);
    }
    journal_reader_free(&reader);
}

static void nothing_that_is_told_is_a_repeat(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    tell(&b, 1000, "{\"a\":1}");
    tell(&b, 1000, "{\"a\":2}");
    tell(&b, 900, "{\"a\":1}");  /* times go back */
    tell(&b, 1000, "{\"a\":1}"); /* equal byte for byte: another one */
    tell(&b, 0, "{\"a\":1}");    /* it tells no time */
    tell(&b, 0, "{\"a\":1}");
    size_t n, repeats;
    count(&b, &n, &repeats);
    assert_int_equal(n, 6);
    assert_int_equal(repeats, 0);
    connect_again(&b);
    tell(&b, 1000, "{\"a\":1}");
    restart(&b);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    tell(&b, 1000, "{\"a\":1}");
    tell(&b, 0, "{\"a\":1}");
    count(&b, &n, &repeats);
    assert_int_equal(n, 9);
    assert_int_equal(repeats, 0);
    bench_teardown(&b);
}

static void positions_never_fall(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    tell(&b, 1000, "{\"a\":1}");
    tell(&b, 900, "{\"a\":1}");
    tell(&b, 1001, "{\"a\":1}");
    struct buf text = {0};
    journal_text(&b, &text);
    const char *at[] = {" 1000.0", " 1000.1", " 1001.0"};
    for (size_t i = 0; i < 3; i++)
        assert_non_null(strstr(buf_cstr(&text), at[i]));
    buf_fini(&text);
    bench_teardown(&b);
}

static void an_event_has_the_same_identity_in_whatever_order_it_comes(void **state)
{
    (void)state;
    static const char *const told[] = {"{\"a\":1}", "{\"a\":2}", "{\"a\":3}"};
    uint64_t idents[2][3] = {{0}};
    for (size_t way = 0; way < 2; way++) {
        struct bench b;
        setup(&b);
        for (size_t i = 0; i < 3; i++)
            tell(&b, 1000, told[way == 0 ? i : 2 - i]);
        struct journal_reader *reader = journal_reader_new(b.journal);
        struct block *block;
        while (journal_reader_next(reader, 0, &block, &b.err) == JOURNAL_BLOCK) {
            for (size_t i = 0; i < block->n_events; i++)
                idents[way][block->events[i].data.p[5] - '1'] = block->events[i].ident;
            block_unref(&block);
        }
        journal_reader_free(&reader);
        bench_teardown(&b);
    }
    assert_memory_equal(idents[0], idents[1], sizeof idents[0]);
}

static void what_cannot_be_read_is_told_each_time(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ingest_malformed(b.ingest, STR("{"), 1, "cut", &b.err), 0);
    assert_int_equal(ingest_flush(b.ingest, &b.err), 0);
    size_t n, repeats;
    count(&b, &n, &repeats);
    assert_int_equal(n, 3);
    connect_again(&b);
    assert_int_equal(ingest_malformed(b.ingest, STR("}"), 1, "cut", &b.err), 0);
    struct buf text = {0};
    assert_int_equal(ingest_flush(b.ingest, &b.err), 0);
    journal_text(&b, &text);
    const char *gap = strstr(buf_cstr(&text), "Gap");
    assert_non_null(gap);
    assert_non_null(strstr(gap, "Malformed")); /* what was missed lies before it */
    buf_fini(&text);
    bench_teardown(&b);
}

static void a_detachment_is_a_gap_though_no_event_had_a_time(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    tell(&b, 0, "{\"a\":1}");
    connect_again(&b);
    assert_int_equal(ingest_flush(b.ingest, &b.err), 0);
    assert_int_equal(metrics_get(b.metrics, METRIC_GAPS), 1);
    bench_teardown(&b);
}

static void a_capture_is_told_without_a_gap(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    b.no_replay = false;
    ingest_free(&b.ingest);
    make_ingest(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    tell(&b, 1000, "{\"a\":1}");
    restart(&b);
    assert_int_equal(ingest_next_seq(b.ingest), 2); /* so many less one need not be told again */
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    tell(&b, 900, "{\"a\":2}");
    assert_int_equal(metrics_get(b.metrics, METRIC_GAPS), 0);
    size_t n, repeats;
    count(&b, &n, &repeats);
    assert_int_equal(n, 2);
    assert_int_equal(repeats, 0);
    bench_teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_that_is_told_is_a_repeat),
        cmocka_unit_test(positions_never_fall),
        cmocka_unit_test(an_event_has_the_same_identity_in_whatever_order_it_comes),
        cmocka_unit_test(what_cannot_be_read_is_told_each_time),
        cmocka_unit_test(a_detachment_is_a_gap_though_no_event_had_a_time),
        cmocka_unit_test(a_capture_is_told_without_a_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
