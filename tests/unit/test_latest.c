/* test_latest.c - what was told last of each object says the same to the state table as all that
 * was told. */
#include "tests/unit/check.h"

#include "bridge/latest.h"
#include "tests/unit/state_kit.h"

enum { NAMES = 40, EVENTS = 3000, HISTORIES = 30 };

/* ---- by hand ---- */

static struct event typed(const char *key, uint64_t index, const char *type)
{
    struct event e = job(key, 0, index);
    e.type = str_from(type);
    return e;
}

static void an_object_is_held_once_as_told_last(void **state)
{
    (void)state;
    struct latest l;
    latest_init(&l, 7);
    struct event filtered = typed("a", 30, "A type that is much longer than the one before");
    filtered.filter_keys = STR("\1\0\0\0x");
    struct event events[] = {typed("a", 20, "T"), typed("b", 40, "T"), filtered,
                             typed("a", 25, "U")};
    for (size_t i = 0; i < 4; i++)
        latest_note(&l, &events[i]);
    assert_int_equal(l.from, 7);
    assert_int_equal(l.to, 11);
    assert_int_equal(l.n, 2);
    struct latest_object a = latest_object(&l, 0), b = latest_object(&l, 1);
    assert_true(str_is(a.last.key, "a") && str_is(a.last.topic, "Job"));
    assert_true(str_is(a.last.ns, "default") && str_is(a.last.type, "U"));
    assert_int_equal(a.last.filter_keys.len, 0);
    assert_int_equal(a.last.index, 25);
    assert_int_equal(a.index_max, 30);
    assert_true(str_is(b.last.key, "b"));
    assert_int_equal(b.index_max, 40);
    latest_fini(&l);
}

static void neighbours_are_not_mistaken_for_each_other(void **state)
{
    (void)state;
    struct latest l;
    latest_init(&l, 1);
    struct event e = job("ab", 0, 1), f = job("b", 0, 1);
    e.ns = STR("c");
    f.ns = STR("ca");
    struct event g = job("", 0, 1), h = job("cab", 0, 1);
    g.ns = STR("cab");
    h.ns = STR("");
    const struct event *events[] = {&e, &f, &g, &h};
    for (size_t i = 0; i < 4; i++)
        latest_note(&l, events[i]);
    assert_int_equal(l.n, 4);
    latest_fini(&l);
}

static void it_ends_where_the_order_counts(void **state)
{
    (void)state;
    struct event ends[] = {gap(), snapshot("a", 1, "Snapshot"), snapshot("a", 1, "Vanished")};
    struct event malformed = job("bad", 0, 1), repeat = job("a", 0, 1), e = job("b", 0, 2);
    malformed.origin = EVENT_MALFORMED;
    repeat.repeat = true;
    for (size_t i = 0; i < 3; i++) {
        struct latest l;
        latest_init(&l, 1);
        latest_note(&l, &repeat);
        latest_note(&l, &malformed);
        assert_int_equal(l.to, 3);
        assert_int_equal(l.n, 0);
        assert_int_equal(l.end, LATEST_GOES_ON);
        latest_note(&l, &ends[i]);
        latest_note(&l, &e);
        assert_int_equal(l.end, LATEST_ORDER);
        assert_int_equal(l.to, 3);
        assert_int_equal(l.n, 0);
        latest_fini(&l);
    }
}

static void it_is_bounded_by_objects(void **state)
{
    (void)state;
    struct latest l;
    char key[32];
    latest_init(&l, 1);
    for (int i = 0; i < LATEST_OBJECTS_MAX + 10; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        struct event e = job(key, 0, 1);
        latest_note(&l, &e);
        assert_int_equal(l.end, i < LATEST_OBJECTS_MAX ? LATEST_GOES_ON : LATEST_FULL);
    }
    struct event known = job("key-1", 0, 9), end = gap();
    latest_note(&l, &known); /* behind its end */
    assert_int_equal(l.to, LATEST_OBJECTS_MAX + 1);
    assert_int_equal(latest_object(&l, 1).last.index, 1);
    latest_note(&l, &end);
    assert_int_equal(l.end, LATEST_ORDER);
    assert_int_equal(l.to, LATEST_OBJECTS_MAX + 1);
    latest_fini(&l);
}

static void it_is_bounded_by_bytes(void **state)
{
    (void)state;
    struct latest l;
    latest_init(&l, 1);
    char *long_one = mem_zalloc(LATEST_TEXT_MAX);
    struct event e = job("a", 0, 1);
    latest_note(&l, &e);
    for (int i = 1; i < 10 && l.end == LATEST_GOES_ON; i++) {
        e.filter_keys = (struct str){long_one, (size_t)i * 20000};
        e.index++;
        latest_note(&l, &e);
        assert_true(l.text.len <= LATEST_TEXT_MAX);
    }
    assert_int_equal(l.end, LATEST_FULL);
    struct latest_object last = latest_object(&l, 0); /* as it was before the one without room */
    assert_int_equal(last.last.index, l.to - 1);
    assert_int_equal(last.last.filter_keys.len, (l.to - 2) * 20000);
    latest_fini(&l);
    free(long_one);
}

/* ---- by a model: any history, applied one by one and by what was told last ---- */

static uint64_t drawn;

static unsigned draw(unsigned n)
{
    drawn = drawn * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(drawn >> 33) % n;
}

static const char *name(unsigned i)
{
    static char names[NAMES][16];
    snprintf(names[i], sizeof names[i], "key-%u", i);
    return names[i];
}

static struct event any_event(bool order)
{
    static const char *const types[] = {"T", "Deleted", "app_terminated_event", "Longer type"};
    static const struct str filter_keys[] = {{"", 0}, {"\1\0\0\0a", 5}, {"\6\0\0\0longer", 10}};
    struct event e = job(name(draw(NAMES)), draw(20) == 0, draw(100));
    e.type = str_from(types[draw(4)]);
    e.filter_keys = filter_keys[draw(3)];
    e.repeat = draw(10) == 0;
    if (draw(20) == 0)
        e.origin = EVENT_MALFORMED;
    if (!order || draw(12) != 0)
        return e;
    static const char *const own_types[] = {"Gap", "ResyncStarted", "ResyncFinished"};
    if (draw(2) == 0)
        return own(own_types[draw(3)], "{\"Payload\":{\"Reason\":\"cut\"}}");
    e.origin = EVENT_SNAPSHOT;
    e.type = draw(3) == 0 ? STR("Vanished") : STR("Snapshot");
    return e;
}

static uint64_t walk_all(struct bench *b)
{
    struct state_cursor at = {.begun = false};
    struct state_object object;
    uint64_t n = 0;
    while (state_walk(b->state, &at, &object, &b->err) == 1)
        n++;
    return n;
}

static void are_alike(struct bench *a, struct bench *b)
{
    assert_int_equal(state_next_seq(a->state), state_next_seq(b->state));
    assert_int_equal(state_objects(a->state), walk_all(a));
    assert_int_equal(state_objects(b->state), walk_all(a));
    assert_int_equal(state_resync(a->state)->number, state_resync(b->state)->number);
    for (unsigned i = 0; i < NAMES; i++) {
        struct state_object x = {0}, y = {0};
        assert_int_equal(find(a, name(i), &x), find(b, name(i), &y));
        assert_int_equal(x.epoch, y.epoch);
        assert_int_equal(x.index, y.index);
        assert_int_equal(x.mark, y.mark);
        assert_int_equal(x.deleted, y.deleted);
        assert_true(str_eq(x.filter_keys, y.filter_keys));
    }
}

static uint64_t next_of(const struct bench *b)
{
    uint64_t next = state_next_seq(b->state);
    return next > 0 ? next : 1;
}

/* Brings `b` up to date as the resync's thread does: what lies before, what was told last, what
 * lies behind its end; sometimes it has read some of it already. */
static void catch_up(struct bench *b, struct latest *l, const struct event *events, uint64_t n)
{
    uint64_t first = l->from;
    if (draw(3) == 0)
        first += draw((unsigned)(n - first + 2));
    for (uint64_t seq = next_of(b); seq < first; seq++)
        apply(b, events[seq - 1]);
    assert_int_equal(state_apply_latest(b->state, l, NULL, &b->err), 0);
    for (uint64_t seq = next_of(b); seq <= n; seq++)
        apply(b, events[seq - 1]);
    latest_fini(l);
    latest_init(l, n + 1);
}

static void history(unsigned number)
{
    static struct event events[EVENTS];
    struct bench a, b;
    struct latest l;
    drawn = number + 1;
    setup(&a);
    setup(&b);
    latest_init(&l, 1);
    for (uint64_t n = 1; n <= EVENTS; n++) {
        struct event *e = &events[n - 1];
        *e = any_event(number % 2 == 0);
        e->seq = n;
        apply(&a, *e);
        latest_note(&l, e);
        if (draw(100) == 0) {
            catch_up(&b, &l, events, n);
            are_alike(&a, &b);
        }
    }
    catch_up(&b, &l, events, EVENTS);
    are_alike(&a, &b);
    latest_fini(&l);
    teardown(&a);
    teardown(&b);
}

static void it_says_the_same_as_all_that_was_told(void **state)
{
    (void)state;
    for (unsigned i = 0; i < HISTORIES; i++)
        history(i);
}

static void nothing_older_than_the_table_is_applied(void **state)
{
    (void)state;
    struct bench b;
    struct latest l;
    setup(&b);
    latest_init(&l, 1);
    struct event told = job("a", 0, 5), gone = snapshot("a", 9, "Vanished");
    told.seq = 1;
    latest_note(&l, &told);
    apply(&b, told);
    gone.seq = 2;
    apply(&b, gone);
    assert_int_equal(state_apply_latest(b.state, &l, NULL, &b.err), 0);
    is_unknown(&b, "a");
    assert_int_equal(state_next_seq(b.state), 3);
    latest_fini(&l);
    teardown(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_object_is_held_once_as_told_last),
        cmocka_unit_test(neighbours_are_not_mistaken_for_each_other),
        cmocka_unit_test(it_ends_where_the_order_counts),
        cmocka_unit_test(it_is_bounded_by_objects),
        cmocka_unit_test(it_is_bounded_by_bytes),
        cmocka_unit_test(it_says_the_same_as_all_that_was_told),
        cmocka_unit_test(nothing_older_than_the_table_is_applied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
