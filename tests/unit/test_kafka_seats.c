/* test_kafka_seats.c - what the member of a group knows, and what it says when it does not. The
 * group itself is tested with real brokers (tests/integration/test_kafka_standby.py). */
#include "bridge/base/clock.h"
#include "connectors/kafka/kafka_seats.h"
#include "tests/unit/check.h"

#include <pthread.h>

struct rig {
    struct kafka_seats seats;
    struct kafka_seat *a, *b;
    struct stop *stop;
    struct kafka_seat_view view;
};

static void rig_start(struct rig *rig)
{
    *rig = (struct rig){.stop = stop_new()};
    kafka_seats_init(&rig->seats);
    rig->a = kafka_seats_add(&rig->seats, "control.a");
    rig->b = kafka_seats_add(&rig->seats, "control.b");
}

static void rig_stop(struct rig *rig)
{
    kafka_seats_fini(&rig->seats);
    stop_free(&rig->stop);
}

static enum kafka_seat_state ask(struct rig *rig, const struct kafka_seat *seat)
{
    kafka_seats_ask(&rig->seats, seat, 0, rig->stop, &rig->view);
    return rig->view.state;
}

static void join(struct rig *rig, const char *topic)
{
    kafka_seats_give(&rig->seats, topic);
    kafka_seats_set_joined(&rig->seats, true);
}

static void nothing_is_known_before_the_group_has_spoken(void **state)
{
    (void)state;
    struct rig rig;
    rig_start(&rig);
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_UNSURE);
    kafka_seats_give(&rig.seats, "control.a");
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_UNSURE);
    rig_stop(&rig);
}

static void each_seat_is_given_and_taken_back_alone(void **state)
{
    (void)state;
    struct rig rig;
    rig_start(&rig);
    join(&rig, "control.a");
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_OURS);
    assert_int_equal(ask(&rig, rig.b), KAFKA_SEAT_OTHERS);
    kafka_seats_give(&rig.seats, "control.b");
    kafka_seats_give(&rig.seats, "control.of a pair that has left");
    kafka_seats_take_back(&rig.seats, "control.a");
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_OTHERS);
    assert_int_equal(ask(&rig, rig.b), KAFKA_SEAT_OURS);
    rig_stop(&rig);
}

static void a_turn_is_counted_when_a_seat_becomes_ours_again(void **state)
{
    (void)state;
    struct rig rig;
    rig_start(&rig);
    join(&rig, "control.a");
    ask(&rig, rig.a);
    assert_int_equal(rig.view.turn, 1);
    kafka_seats_give(&rig.seats, "control.a");
    ask(&rig, rig.a);
    assert_int_equal(rig.view.turn, 1);
    kafka_seats_take_back(&rig.seats, "control.a");
    kafka_seats_give(&rig.seats, "control.a");
    ask(&rig, rig.a);
    assert_int_equal(rig.view.turn, 2);
    rig_stop(&rig);
}

static void one_that_was_thrown_out_knows_nothing(void **state)
{
    (void)state;
    struct rig rig;
    rig_start(&rig);
    join(&rig, "control.a");
    kafka_seats_set_joined(&rig.seats, false);
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_UNSURE);
    assert_int_equal(ask(&rig, rig.b), KAFKA_SEAT_UNSURE);
    kafka_seats_set_joined(&rig.seats, true);
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_OTHERS);
    rig_stop(&rig);
}

static void after_a_pause_nothing_is_ours_until_the_group_could_object(void **state)
{
    (void)state;
    struct rig rig;
    rig_start(&rig);
    join(&rig, "control.a");
    kafka_seats_alive(&rig.seats);
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_OURS);
    rig.seats.alive_ms -= 5000; /* nobody ran */
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_UNSURE);
    assert_int_equal(ask(&rig, rig.b), KAFKA_SEAT_OTHERS);
    kafka_seats_alive(&rig.seats);
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_UNSURE);
    rig.seats.doubtful_ms = clock_mono_ms(); /* the group did not object */
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_OURS);
    rig_stop(&rig);
}

static void a_trouble_is_told_until_all_is_well(void **state)
{
    (void)state;
    struct rig rig;
    struct err err = {ERR_FATAL, "no right"};
    rig_start(&rig);
    kafka_seats_trouble(&rig.seats, SINK_FATAL, &err);
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_UNSURE);
    assert_int_equal(rig.view.trouble, SINK_FATAL);
    assert_string_equal(rig.view.err.msg, "no right");
    join(&rig, "control.a");
    ask(&rig, rig.a);
    assert_int_equal(rig.view.trouble, SINK_DONE);
    rig_stop(&rig);
}

static void a_seat_that_is_left_is_gone(void **state)
{
    (void)state;
    struct rig rig;
    rig_start(&rig);
    unsigned changes = rig.seats.changes;
    kafka_seats_remove(&rig.seats, rig.b);
    assert_int_equal(rig.seats.n, 1);
    assert_true(rig.seats.changes > changes);
    join(&rig, "control.b");
    assert_int_equal(ask(&rig, rig.a), KAFKA_SEAT_OTHERS);
    rig_stop(&rig);
}

/* ---- waiting ---- */

static void *join_soon(void *arg)
{
    struct rig *rig = arg;
    stop_wait(rig->stop, 60);
    join(rig, "control.a");
    return NULL;
}

static void one_who_waits_hears_it_at_once(void **state)
{
    (void)state;
    struct rig rig;
    pthread_t thread;
    rig_start(&rig);
    pthread_create(&thread, NULL, join_soon, &rig);
    int64_t start = clock_mono_ms();
    kafka_seats_ask(&rig.seats, rig.a, 20000, rig.stop, &rig.view);
    assert_int_equal(rig.view.state, KAFKA_SEAT_OURS);
    assert_true(clock_mono_ms() - start < 10000);
    pthread_join(thread, NULL);
    rig_stop(&rig);
}

static void nobody_waits_longer_than_asked_nor_when_stopping(void **state)
{
    (void)state;
    struct rig rig;
    rig_start(&rig);
    int64_t start = clock_mono_ms();
    kafka_seats_ask(&rig.seats, rig.a, 60, rig.stop, &rig.view);
    assert_true(clock_mono_ms() - start >= 60);
    stop_request(rig.stop);
    start = clock_mono_ms();
    kafka_seats_ask(&rig.seats, rig.a, 20000, rig.stop, &rig.view);
    assert_true(clock_mono_ms() - start < 10000);
    assert_int_equal(rig.view.state, KAFKA_SEAT_UNSURE);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_known_before_the_group_has_spoken),
        cmocka_unit_test(each_seat_is_given_and_taken_back_alone),
        cmocka_unit_test(a_turn_is_counted_when_a_seat_becomes_ours_again),
        cmocka_unit_test(one_that_was_thrown_out_knows_nothing),
        cmocka_unit_test(after_a_pause_nothing_is_ours_until_the_group_could_object),
        cmocka_unit_test(a_trouble_is_told_until_all_is_well),
        cmocka_unit_test(a_seat_that_is_left_is_gone),
        cmocka_unit_test(one_who_waits_hears_it_at_once),
        cmocka_unit_test(nobody_waits_longer_than_asked_nor_when_stopping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
