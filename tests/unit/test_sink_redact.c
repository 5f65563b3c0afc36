/* test_sink_redact.c - a sink with a redaction: what it gets, however often, and what is counted.
 */
#include "tests/unit/sink_kit.h"

#define SECRET "s3cret"
#define WHOLE "{\"Payload\":{\"Env\":\"" SECRET "\"}}"

static void setup(struct bench *b)
{
    static const char *const paths[] = {"$..Env"};
    bench_setup(b, 1 << 20);
    assert_int_equal(redact_new(&b->redact, &(struct setting_list){paths, 1}, NULL), 0);
    far.secret = SECRET;
}

static void counts(struct bench *b, const char *line)
{
    struct buf text = {0};
    metrics_render(b->all, &text);
    if (strstr(buf_cstr(&text), line) == NULL)
        fail_msg("no %s in %s", line, buf_cstr(&text));
    buf_fini(&text);
}

/* What has to arrive. */
struct wanted_bytes {
    size_t n;
    uint64_t digest;
};

static void put_numbered(struct bench *b, uint64_t i, struct wanted_bytes *wanted_bytes)
{
    struct buf data = {0}, redacted = {0};
    buf_printf(&data, "{\"Env\":\"" SECRET "\",\"N\":%" PRIu64 "}", i);
    buf_printf(&redacted, "{\"Env\":\"[redacted]\",\"N\":%" PRIu64 "}", i);
    put_event(b, i, 0, buf_cstr(&data), false);
    wanted_bytes->n += redacted.len;
    wanted_bytes->digest += hash64(0, redacted.p, redacted.len);
    buf_fini(&data);
    buf_fini(&redacted);
}

static void publishes_redacted_bytes_through_every_retry(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    far.script[0].result = SINK_RETRY;
    far.script[1].result = SINK_UNKNOWN;
    far.script[2].result = SINK_UNKNOWN;
    far.script[2].happens = true;
    far.n_script = 3;
    struct wanted_bytes bytes = {0};
    for (uint64_t i = 1; i <= 10; i++)
        put_numbered(&b, i, &bytes);
    start_loop(&b);
    wait_for(10);
    for (size_t i = 0; i < 10; i++)
        holds(i, i + 1, 0);
    assert_int_equal(far.bytes, bytes.n);
    assert_int_equal(far.digest, bytes.digest);
    stop_loop(&b);
    bench_teardown(&b);
}

static void counts_what_left_redacted(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    for (uint64_t i = 1; i <= 11; i++) /* three batches */
        put_event(&b, i, 0, i % 5 == 0 ? "{}" : WHOLE, false);
    start_loop(&b);
    wait_for(11);
    stop_loop(&b);
    counts(&b, "busbar_redacted_total{source=\"prod\",sink=\"far\"} 9\n");
    bench_teardown(&b);
}

static void finds_in_another_journal_what_it_published_redacted(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    for (uint64_t i = 1; i <= 3; i++)
        put_event(&b, i, 0, WHOLE, false);
    start_loop(&b);
    wait_for(3);
    stop_loop(&b);
    fresh_journal(&b);
    for (uint64_t i = 2; i <= 5; i++)
        put_event(&b, i, 0, WHOLE, false);
    start_loop(&b);
    wait_for(5);
    holds(3, 4, 0);
    holds(4, 5, 0);
    stop_loop(&b);
    bench_teardown(&b);
}

/* An event with a secret of so many bytes in the middle, and others beside it. */
static void put_padded(struct bench *b, uint64_t index, int secret, int other)
{
    struct buf data = {0};
    buf_printf(&data, "{\"Env\":\"" SECRET "%*s\",\"Other\":\"%*s\"}", secret, "", other, "");
    put_event(b, index, 0, buf_cstr(&data), false);
    buf_fini(&data);
}

static void refuses_by_the_size_that_leaves(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    far.refuse_larger_than = 600;
    put_padded(&b, 1, 2000, 10);
    put_padded(&b, 2, 10, 2000);
    put_padded(&b, 3, 10, 10);
    start_loop(&b);
    wait_for(3);
    holds(0, 1, 0);
    assert_string_equal(far.ids[1], "Rejected");
    holds(2, 3, 0);
    stop_loop(&b);
    counts(&b, "busbar_rejected_total{source=\"prod\",sink=\"far\"} 1\n");
    bench_teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publishes_redacted_bytes_through_every_retry),
        cmocka_unit_test(counts_what_left_redacted),
        cmocka_unit_test(finds_in_another_journal_what_it_published_redacted),
        cmocka_unit_test(refuses_by_the_size_that_leaves),
    };
    int failed;
    RUN_BOTH_WAYS(failed, tests);
    return failed;
}
