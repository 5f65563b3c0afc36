/* test_ingest_late.c - events that come late: told below the last index, and new all the same. */
#include "tests/unit/ingest_kit.h"

static void late(struct bench *b, uint64_t index, const char *key, enum found_late how)
{
    struct found_event f = {.topic = STR("Job"),
                            .type = STR("T"),
                            .key = str_from(key),
                            .ns = STR("apps"),
                            .index = index,
                            .data = STR("{\"a\":1}"),
                            .late = how};
    assert_false(ingest_is_out_of_place(b->ingest, &f, 1));
    assert_int_equal(ingest_message(b->ingest, f.data, &f, 1, &b->err), 0);
    assert_int_equal(ingest_flush(b->ingest, &b->err), 0);
}

static void what_comes_late_is_told_once_and_is_no_gap(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 8, "a");
    one(&b, 9, "a");
    for (int i = 0; i < 2; i++) {
        connect_again(&b);
        late(&b, 6, "new", FOUND_LATE);
        late(&b, 7, "new", FOUND_LATE);
        one(&b, 8, "a");
        one(&b, 9, "a");
    }
    one(&b, 10, "a");
    journal_is(&b, "5 a/0 T 5.0, 8 a/0 T 8.0, 9 a/0 T 9.0, 6 new/0 T 9.1, 7 new/0 T 9.2, "
                   "10 a/0 T 10.0");
    bench_teardown(&b);
}

static void what_comes_late_proves_nothing(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 9, "a");
    connect_again(&b);
    late(&b, 7, "new", FOUND_LATE);
    one(&b, 12, "a");
    journal_is(&b, "5 a/0 T 5.0, 9 a/0 T 9.0, 7 new/0 T 9.1, 9 prod/0 Gap 9.2, 12 a/0 T 12.0");
    bench_teardown(&b);
}

static void late_with_something_missing_before_it_is_a_gap(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 9, "a");
    connect_again(&b);
    late(&b, 7, "new", FOUND_MAYBE_LATE);
    journal_is(&b, "5 a/0 T 5.0, 9 a/0 T 9.0, 9 prod/0 Gap 9.1, 7 new/0 T 9.2");
    bench_teardown(&b);
}

static void what_may_be_late_is_a_repeat_where_nothing_so_old_is_known(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 9, "a");
    connect_again(&b);
    late(&b, 3, "new", FOUND_MAYBE_LATE);
    late(&b, 4, "new", FOUND_LATE);
    journal_is(&b, "5 a/0 T 5.0, 9 a/0 T 9.0, 4 new/0 T 9.1");
    bench_teardown(&b);
}

static void late_is_late_from_a_server_that_lags(void **state)
{
    (void)state;
    struct bench b;
    bench_setup(&b, NULL);
    ingest_state(b.ingest, SOURCE_ATTACHED, "s", NULL);
    one(&b, 5, "a");
    one(&b, 9, "a");
    connect_again(&b);
    ingest_lags(b.ingest);
    one(&b, 6, "b");
    late(&b, 7, "new", FOUND_LATE);
    journal_is(&b, "5 a/0 T 5.0, 9 a/0 T 9.0, 7 new/0 T 9.1");
    bench_teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_late_is_told_once_and_is_no_gap),
        cmocka_unit_test(what_comes_late_proves_nothing),
        cmocka_unit_test(late_with_something_missing_before_it_is_a_gap),
        cmocka_unit_test(what_may_be_late_is_a_repeat_where_nothing_so_old_is_known),
        cmocka_unit_test(late_is_late_from_a_server_that_lags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
