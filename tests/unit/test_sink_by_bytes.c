/* test_sink_by_bytes.c - the sink loop of a source whose events are known by their bytes: two
 * instances that get another order each, and windows. */
#include "bridge/own.h"
#include "tests/unit/sink_kit.h"

#include <stdlib.h>

enum { SECOND = 1000000 };

static void setup(struct bench *b)
{
    bench_setup(b, 1 << 20);
    b->by_bytes = true;
    b->arrival = clock_wall_us() - INT64_C(600) * SECOND;
    far.events_max = 64;
}

/* The number n, told at its time. */
static void tell(struct bench *b, unsigned n)
{
    char data[32];
    snprintf(data, sizeof data, "{\"n\":%u}", n);
    put_told(b, 1000000 + n * 10, data);
}

static size_t times_told(unsigned n)
{
    char data[32], id[96];
    snprintf(data, sizeof data, "{\"n\":%u}", n);
    uint64_t time_ms = 1000000 + n * 10;
    uint64_t ident = event_hash_bytes(time_ms, STR("T"), str_from(data), 0);
    snprintf(id, sizeof id, "prod/%" PRIu64 "/Task///web/T/%" PRIu32, time_ms, (uint32_t)ident);
    size_t times = 0;
    for (size_t i = 0; i < far.n; i++)
        times += strcmp(far.ids[i], id) == 0;
    return times;
}

static size_t count_of(const char *type)
{
    size_t n = 0;
    for (size_t i = 0; i < far.n; i++)
        n += strcmp(far.ids[i], type) == 0;
    return n;
}

static void publish_all(struct bench *b, size_t n)
{
    start_loop(b);
    wait_for(n);
    stop_loop(b);
}

static void each_once(unsigned from, unsigned to)
{
    for (unsigned n = from; n < to; n++) {
        if (times_told(n) != 1)
            print_message("%u: %zu times\n", n, times_told(n));
        assert_int_equal(times_told(n), 1);
    }
}

static void goes_on_by_seq_though_times_go_back(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    tell(&b, 5);
    tell(&b, 3);
    publish_all(&b, 2);
    tell(&b, 1);
    tell(&b, 4);
    reopen(&b);
    publish_all(&b, 4);
    each_once(3, 6);
    assert_int_equal(count_of("Gap"), 0);
    bench_teardown(&b);
}

/* The numbers from..to at 50 a second, each told up to 16 places away from where it belongs. */
static void tell_shuffled(struct bench *b, unsigned from, unsigned to)
{
    unsigned order[4096], place[4096], n = 0;
    assert_in_range(to - from, 1, 4096);
    for (unsigned i = from; i < to; i++) {
        unsigned mine = i + (unsigned)rand() % 16, at = n++;
        for (; at > 0 && place[at - 1] > mine; at--) {
            place[at] = place[at - 1];
            order[at] = order[at - 1];
        }
        place[at] = mine;
        order[at] = i;
    }
    b->hold = true;
    for (unsigned i = 0; i < to - from; i++, b->arrival += SECOND / 50)
        tell(b, order[i]);
    b->hold = false;
    struct err err;
    assert_int_equal(journal_commit(b->journal, &err), 0);
}

static void takes_over_from_one_with_another_order(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 20; seed++) {
        struct bench b;
        setup(&b);
        srand(seed);
        int64_t began = b.arrival;
        tell_shuffled(&b, 0, 400 + seed * 60); /* with and without a window that has forgotten */
        unsigned published = 400 + seed * 60;
        publish_all(&b, published);
        fresh_journal(&b);
        b.arrival = began + (rand() % 100 - 50) * SECOND; /* clocks differ */
        tell_shuffled(&b, 0, published + 100);
        publish_all(&b, published + 100);
        each_once(0, published + 100);
        assert_int_equal(count_of("Gap"), 0);
        bench_teardown(&b);
    }
}

/* Marathon tells a stream its own attachment first, and to no stream of before. */
static void what_a_standby_was_told_before_the_other_began_is_not_owed(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    int64_t began = b.arrival;
    tell_shuffled(&b, 1, 200);
    publish_all(&b, 199);
    fresh_journal(&b);
    b.arrival = began;
    tell(&b, 0);
    tell_shuffled(&b, 1, 210);
    publish_all(&b, 209);
    each_once(1, 210);
    assert_int_equal(count_of("Gap"), 0);
    bench_teardown(&b);
}

static void takes_over_from_one_who_took_over(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    int64_t began = b.arrival;
    tell_shuffled(&b, 0, 2000);
    publish_all(&b, 2000);
    for (unsigned published = 2000; published < 2050; published += 10) {
        fresh_journal(&b);
        b.arrival = began;
        tell_shuffled(&b, 0, published + 10);
        publish_all(&b, published + 10);
    }
    each_once(0, 2050);
    bench_teardown(&b);
}

static void takes_over_where_the_other_had_published_more(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    int64_t began = b.arrival;
    tell_shuffled(&b, 0, 300);
    publish_all(&b, 300);
    fresh_journal(&b);
    b.arrival = began;
    tell_shuffled(&b, 0, 250); /* the standby's stream lags */
    start_loop(&b);
    wait_open(&b);
    wait_for(300);
    b.arrival += SECOND;
    tell_shuffled(&b, 250, 350); /* what comes late is known, the rest is new */
    wait_for(350);
    stop_loop(&b);
    each_once(0, 350);
    assert_int_equal(count_of("Gap"), 0);
    bench_teardown(&b);
}

/* All that was told, up to so many events ago, at the same moment: a stream that had stood still.
 */
static void tell_at_once(struct bench *b, unsigned from, unsigned to)
{
    b->hold = true;
    for (unsigned n = from; n < to; n++)
        tell(b, n);
    b->hold = false;
    struct err err;
    assert_int_equal(journal_commit(b->journal, &err), 0);
}

static void a_standby_whose_stream_had_stood_still_loses_nothing(void **state)
{
    (void)state;
    for (int late = 0; late < 3; late++) {
        struct bench b;
        setup(&b);
        int64_t began = b.arrival;
        tell_shuffled(&b, 0, 1800);
        publish_all(&b, 1800);
        fresh_journal(&b);
        b.arrival = began;
        tell_at_once(&b, 0, 20);
        b.arrival = began + INT64_C(40) * SECOND;
        if (late < 2)
            tell_at_once(&b, 20, late == 0 ? 1900 : 700); /* before it takes over */
        start_loop(&b);
        wait_open(&b);
        wait_for(late == 0 ? 1900 : 1800);
        b.arrival = clock_wall_us() + INT64_C(20) * SECOND; /* and after it has */
        if (late > 0)
            tell_at_once(&b, late == 1 ? 700 : 20, 1900);
        wait_for(1900);
        stop_loop(&b);
        each_once(0, 1900);
        assert_int_equal(count_of("Gap"), 0);
        bench_teardown(&b);
    }
}

/* Marathon to 1.7 drops events for a slow reader, and says nothing. */
static void what_is_later_than_all_that_was_published_is_new(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    int64_t began = b.arrival;
    tell_shuffled(&b, 0, 1500);
    publish_all(&b, 1500);
    fresh_journal(&b);
    b.arrival = began;
    tell_at_once(&b, 0, 20);
    tell_at_once(&b, 1510, 1520);
    publish_all(&b, 1511); /* with a Gap: nothing shows that they follow */
    each_once(0, 1500);
    each_once(1510, 1520);
    assert_int_equal(count_of("Gap"), 1);
    bench_teardown(&b);
}

/* At a time before all that was told so far: the new leader's clock is behind. */
static void tell_earlier(struct bench *b, unsigned n)
{
    char data[32];
    snprintf(data, sizeof data, "{\"early\":%u}", n);
    put_told(b, 5000 + n, data);
}

static void a_leader_whose_clock_is_behind_hides_nothing(void **state)
{
    (void)state;
    for (int gap = 0; gap < 2; gap++) {
        struct bench b;
        setup(&b);
        int64_t began = b.arrival;
        tell_shuffled(&b, 0, 1500);
        publish_all(&b, 1500);
        int64_t later = b.arrival + INT64_C(2) * SECOND;
        fresh_journal(&b);
        b.arrival = began;
        if (gap) { /* it had stood still, and missed the rest of the old leader's */
            tell_at_once(&b, 0, 20);
            b.arrival = later;
            put_own(&b, 0, "Gap");
        } else {
            tell_shuffled(&b, 0, 1500);
        }
        for (unsigned n = 0; n < 5; n++)
            tell_earlier(&b, n);
        publish_all(&b, (size_t)(1505 + gap));
        assert_int_equal(count_of("Gap"), gap);
        bench_teardown(&b);
    }
}

static void a_batch_that_has_to_be_tried_again_is_judged_the_same(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    int64_t began = b.arrival;
    tell_shuffled(&b, 0, 1500);
    publish_all(&b, 1500);
    fresh_journal(&b);
    b.arrival = began;
    tell_shuffled(&b, 0, 1600);
    far.script[0].result = far.script[1].result = SINK_RETRY;
    far.script[2].result = SINK_UNKNOWN;
    far.at = 0;
    far.n_script = 3;
    publish_all(&b, 1600);
    each_once(0, 1600);
    bench_teardown(&b);
}

static void a_journal_that_begins_behind_the_checkpoint_is_a_gap(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    tell_shuffled(&b, 0, 50);
    publish_all(&b, 50);
    int64_t later = b.arrival + INT64_C(30) * SECOND;
    fresh_journal(&b);
    b.arrival = later;
    tell(&b, 60);
    tell(&b, 59);
    publish_all(&b, 53);
    each_once(0, 50);
    each_once(59, 61);
    assert_string_equal(far.ids[50], "Gap");
    assert_int_equal(count_of("Gap"), 1);
    bench_teardown(&b);
}

static void what_comes_after_the_takeover_is_new_whatever_the_clock_says(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    tell(&b, 1);
    publish_all(&b, 1);
    int64_t earlier = b.arrival - INT64_C(300) * SECOND; /* the clock was set back */
    fresh_journal(&b);
    b.arrival = earlier;
    start_loop(&b);
    wait_open(&b);
    put_own(&b, 1000010, "ResyncStarted");
    tell(&b, 2);
    wait_for(4); /* with the Gap before them */
    stop_loop(&b);
    each_once(1, 3);
    assert_string_equal(far.ids[1], "Gap");
    assert_string_equal(far.ids[2], "ResyncStarted");
    bench_teardown(&b);
}

static void a_time_from_the_future_hides_nothing(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    int64_t began = b.arrival;
    tell(&b, 1);
    tell(&b, 8000000); /* a Marathon whose clock was a day ahead, for a moment */
    tell(&b, 2);
    publish_all(&b, 3);
    fresh_journal(&b);
    b.arrival = began;
    tell(&b, 1);
    tell(&b, 8000000);
    tell(&b, 2);
    tell(&b, 3);
    publish_all(&b, 4);
    each_once(1, 4);
    assert_int_equal(count_of("Gap"), 0);
    bench_teardown(&b);
}

/* The Gap of this instance's own that stands behind the number `from` and before `to`. */
static void put_gap(struct bench *b, unsigned from, unsigned to)
{
    struct buf payload = {0}, data = {0};
    own_gap_payload(&payload, 1000000 + from * 10, 1000000 + to * 10, "cut");
    own_render(&data, "Gap", STR("prod"), 1, buf_str(&payload));
    put(b, own_event("Gap", STR("prod"), buf_str(&data)));
    buf_fini(&payload);
    buf_fini(&data);
}

static void what_a_gap_has_told_to_be_missing_does_not_come_late(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    int64_t began = b.arrival;
    tell_shuffled(&b, 0, 1500);
    put_gap(&b, 1499, 1600);
    tell_shuffled(&b, 1600, 1700); /* 1500 to 1599 were told while it was detached */
    publish_all(&b, 1601);
    for (int turn = 0; turn < 2; turn++) { /* the second takes over from one that took over */
        fresh_journal(&b);
        b.arrival = began;
        tell_shuffled(&b, 0, 1720 + (unsigned)turn); /* it was not */
        publish_all(&b, 1621 + (size_t)turn);
    }
    each_once(0, 1500);
    each_once(1600, 1721);
    assert_int_equal(times_told(1550), 0);
    assert_int_equal(count_of("Gap"), 1);
    bench_teardown(&b);
}

static void a_gap_of_the_standbys_own_is_published_if_it_is_the_last(void **state)
{
    (void)state;
    struct bench b;
    setup(&b);
    int64_t began = b.arrival;
    tell_shuffled(&b, 0, 20);
    publish_all(&b, 20);
    fresh_journal(&b);
    b.arrival = began;
    tell_shuffled(&b, 0, 10);
    put_own(&b, 0, "Gap"); /* what the other told meanwhile is known: no news */
    tell_shuffled(&b, 10, 20);
    put_own(&b, 0, "Gap"); /* nobody has what lies behind this one */
    tell_shuffled(&b, 20, 30);
    publish_all(&b, 31);
    each_once(0, 30);
    assert_int_equal(count_of("Gap"), 1);
    assert_string_equal(far.ids[20], "Gap");
    bench_teardown(&b);
}

static void the_window_is_bounded_and_survives_being_written_down(void **state)
{
    (void)state;
    struct checkpoint cp = {0}, back = {0};
    struct buf text = {0};
    struct err err;
    for (uint64_t i = 1; i <= 40000; i++) { /* 100 a second, then all at once */
        struct event e = {.seq = i,
                          .index = 1000 + (i % 7),
                          .ident = i,
                          .arrival_us = (int64_t)(i < 20000 ? i * 10000 : 200000000 + i)};
        checkpoint_pass_window(&cp, &e);
        assert_true(checkpoint_has(&cp, i));
        assert_true(i <= CHECKPOINT_WINDOW_MIN ||
                    checkpoint_has(&cp, i - CHECKPOINT_WINDOW_MIN + 1));
        assert_in_range(cp.n_hashes, 1, CHECKPOINT_WINDOW_MAX + 256);
        if (i == 19000)
            assert_in_range(cp.n_hashes, CHECKPOINT_WINDOW_MIN, CHECKPOINT_WINDOW_MIN + 256);
        if (i == 25000) /* all of the last two seconds */
            assert_in_range(cp.n_hashes, 5000, 5200 + 256 + CHECKPOINT_WINDOW_MIN);
    }
    assert_int_equal(cp.index, 1006);
    checkpoint_encode(&cp, &text);
    assert_int_equal(checkpoint_decode(&back, buf_str(&text), &err), 0);
    assert_true(back.window);
    assert_int_equal(back.n_hashes, cp.n_hashes);
    assert_memory_equal(back.hashes, cp.hashes, cp.n_hashes * sizeof *cp.hashes);
    assert_int_equal(back.from_us, cp.from_us);
    assert_int_equal(back.until_us, cp.until_us);
    assert_true(cp.from_us > 0);
    buf_fini(&text);
    checkpoint_fini(&cp);
    checkpoint_fini(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_on_by_seq_though_times_go_back),
        cmocka_unit_test(takes_over_from_one_with_another_order),
        cmocka_unit_test(what_a_standby_was_told_before_the_other_began_is_not_owed),
        cmocka_unit_test(takes_over_from_one_who_took_over),
        cmocka_unit_test(takes_over_where_the_other_had_published_more),
        cmocka_unit_test(a_standby_whose_stream_had_stood_still_loses_nothing),
        cmocka_unit_test(what_is_later_than_all_that_was_published_is_new),
        cmocka_unit_test(a_leader_whose_clock_is_behind_hides_nothing),
        cmocka_unit_test(a_batch_that_has_to_be_tried_again_is_judged_the_same),
        cmocka_unit_test(a_journal_that_begins_behind_the_checkpoint_is_a_gap),
        cmocka_unit_test(what_comes_after_the_takeover_is_new_whatever_the_clock_says),
        cmocka_unit_test(a_time_from_the_future_hides_nothing),
        cmocka_unit_test(what_a_gap_has_told_to_be_missing_does_not_come_late),
        cmocka_unit_test(a_gap_of_the_standbys_own_is_published_if_it_is_the_last),
        cmocka_unit_test(the_window_is_bounded_and_survives_being_written_down),
    };
    far_overlaps = true;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
