/* test_nomad_blocking_order.c - which changes of polled tables are told, and in which order: single
 * cases, and a model. In the model a cluster goes on changing between any two questions; whatever
 * its history, the reader must tell each object's last state, nothing twice, no index below the
 * last.
 */
#include "connectors/nomad/nomad_blocking_order.h"
#include "tests/unit/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- single cases ---- */

static void list(struct order *o, uint32_t table, const char *key, uint64_t index, const char *full)
{
    order_listed(o, &(struct order_entry){.table = table,
                                          .ns = STR("default"),
                                          .key = str_from(key),
                                          .filter_keys = STR(""),
                                          .index = index,
                                          .full = str_from(full)});
}

/* "web@7 api@8 -old@9 " of all that is to be told; all of it is. */
static const char *tell_all(struct order *o)
{
    static char text[4096];
    size_t n = 0;
    struct order_todo *todo;
    text[0] = '\0';
    while ((todo = order_next(o)) != NULL) {
        struct str key = order_key(order_known_of(o, todo));
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%.*s@%llu ", todo->deleted ? "-" : "",
                              STR_ARG(key), (unsigned long long)order_index(o, todo));
        order_told(o, true, STR(""));
    }
    order_end(o);
    return text;
}

static void changes_are_told_by_index_whatever_their_table(void **state)
{
    struct order o = {0};
    (void)state;
    order_begin(&o, 9);
    list(&o, 1, "eval", 7, NULL);
    list(&o, 0, "web", 8, NULL);
    list(&o, 0, "api", 7, NULL);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "api@7 eval@7 web@8 ");
    order_begin(&o, 12);
    list(&o, 0, "web", 8, NULL);
    list(&o, 0, "api", 11, NULL);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "api@11 ");
    order_fini(&o);
}

static void what_is_above_the_limit_waits(void **state)
{
    struct order o = {0};
    (void)state;
    order_begin(&o, 9);
    list(&o, 0, "web", 10, NULL);
    list(&o, 0, "api", 9, NULL);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "api@9 ");
    order_begin(&o, 10);
    list(&o, 0, "web", 10, NULL);
    list(&o, 0, "api", 9, NULL);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "web@10 ");
    order_fini(&o);
}

static void an_entry_that_two_pages_have_is_told_once(void **state)
{
    struct order o = {0};
    (void)state;
    order_begin(&o, 9);
    list(&o, 0, "web", 8, NULL);
    list(&o, 0, "web", 8, NULL);
    list(&o, 0, "api", 7, NULL);
    list(&o, 0, "api", 9, NULL); /* changed between the two */
    order_sort(&o);
    assert_string_equal(tell_all(&o), "api@7 web@8 api@9 ");
    order_fini(&o);
}

static void what_comes_late_to_an_index_is_told_at_it(void **state)
{
    struct order o = {0};
    (void)state;
    order_begin(&o, 9);
    list(&o, 0, "web", 9, NULL);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "web@9 ");
    order_begin(&o, 10);
    list(&o, 1, "eval", 9, NULL);
    list(&o, 1, "older", 4, NULL); /* a listing that lagged: never below the last */
    order_sort(&o);
    assert_string_equal(tell_all(&o), "older@9 eval@9 ");
    order_fini(&o);
}

static void what_is_gone_is_told_as_deleted_once_at_the_limit(void **state)
{
    struct order o = {0};
    (void)state;
    order_begin(&o, 9);
    list(&o, 0, "web", 8, NULL);
    list(&o, 0, "api", 9, NULL);
    list(&o, 1, "other", 3, NULL);
    order_whole(&o, 0);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "other@3 web@8 api@9 ");
    order_begin(&o, 20);
    list(&o, 0, "api", 15, NULL);
    order_whole(&o, 0);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "api@15 -web@20 ");
    order_begin(&o, 30);
    list(&o, 0, "api", 15, NULL);
    order_whole(&o, 0);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "");
    assert_int_equal(o.n_objects, 2);
    order_fini(&o);
}

static void what_was_never_told_is_not_told_as_deleted(void **state)
{
    struct order o = {0};
    (void)state;
    order_begin(&o, 9);
    list(&o, 0, "web", 10, NULL);
    order_whole(&o, 0);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "");
    order_begin(&o, 20);
    order_whole(&o, 0);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "");
    assert_int_equal(o.n_objects, 0);
    order_fini(&o);
}

static void what_is_older_than_the_start_is_known_and_its_deletion_told(void **state)
{
    struct order o = {0};
    (void)state;
    order_start(&o, 9, 0);
    order_begin(&o, 9);
    list(&o, 0, "web", 8, NULL);
    list(&o, 0, "api", 9, NULL);
    order_whole(&o, 0);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "api@9 ");
    order_begin(&o, 12);
    list(&o, 0, "api", 9, NULL);
    order_whole(&o, 0);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "-web@12 ");
    order_fini(&o);
}

static void an_object_newer_than_its_listing_is_told_in_its_turn(void **state)
{
    struct order o = {0};
    (void)state;
    order_begin(&o, 9);
    list(&o, 0, "web", 5, NULL);
    list(&o, 0, "api", 6, NULL);
    list(&o, 0, "db", 7, NULL);
    order_sort(&o);
    assert_int_equal(order_next(&o)->index, 5);
    order_newer(&o, 9, STR("web at 9")); /* applied in two steps */
    assert_int_equal(order_next(&o)->index, 6);
    order_newer(&o, 11, STR("api at 11"));
    assert_string_equal(tell_all(&o), "db@7 web@9 ");
    order_begin(&o, 12);
    list(&o, 0, "web", 9, NULL);
    list(&o, 0, "api", 12, NULL); /* changed once more */
    order_sort(&o);
    assert_string_equal(order_next(&o)->data, "api at 11");
    assert_string_equal(tell_all(&o), "api@11 api@12 ");
    order_fini(&o);
}

static void a_restored_state_is_told_again(void **state)
{
    struct order o = {0};
    (void)state;
    order_begin(&o, 9);
    list(&o, 0, "web", 9, NULL);
    order_sort(&o);
    tell_all(&o);
    order_begin(&o, 12);
    list(&o, 0, "web", 5, NULL); /* nomad operator snapshot restore */
    order_sort(&o);
    assert_string_equal(tell_all(&o), "web@9 ");
    order_begin(&o, 13);
    list(&o, 0, "web", 5, NULL);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "");
    order_fini(&o);
}

static void a_round_that_broke_off_is_made_good_by_the_next(void **state)
{
    struct order o = {0};
    (void)state;
    order_begin(&o, 9);
    list(&o, 0, "web", 5, NULL);
    list(&o, 0, "api", 6, NULL);
    order_sort(&o);
    order_next(&o);
    order_told(&o, true, STR(""));
    order_end(&o);
    order_begin(&o, 9);
    list(&o, 0, "web", 5, NULL);
    list(&o, 0, "api", 6, NULL);
    order_sort(&o);
    assert_string_equal(tell_all(&o), "api@6 ");
    order_fini(&o);
}

static void too_much_at_once_is_told_in_several_rounds(void **state)
{
    enum { EACH = 1 << 20, N = 100 };
    struct order o = {0};
    char *full = mem_alloc(EACH + 1), key[16];
    uint64_t told = 0;
    int rounds = 0;
    (void)state;
    memset(full, 'x', EACH);
    full[EACH] = '\0';
    for (size_t done = 0; done < N; rounds++) {
        order_begin(&o, N);
        for (unsigned i = N; i > 0; i--) {
            snprintf(key, sizeof key, "k%u", i);
            list(&o, 0, key, i, full);
            assert_true(o.bytes <= ORDER_BYTES_MAX + EACH);
        }
        order_whole(&o, 0);
        order_sort(&o);
        for (struct order_todo *todo; (todo = order_next(&o)) != NULL; done++) {
            assert_int_equal(todo->index, ++told);
            order_told(&o, true, STR(""));
        }
        assert_true(o.limit == told || done == N);
        order_end(&o);
        assert_int_equal(o.bytes, 0);
    }
    assert_in_range(rounds, 2, 6);
    free(full);
    order_fini(&o);
}

/* ---- the model ---- */

enum { TABLES = 3, KEYS = 5, STEPS = 60 };

struct world {
    unsigned seed;
    bool still;
    uint64_t raft;
    uint64_t index[TABLES];        /* of each table */
    uint64_t object[TABLES][KEYS]; /* ModifyIndex; 0: none */
    int late_table;                /* the second half of an index that is being applied; -1: none */
};

struct reader {
    struct order order;
    uint64_t seen[TABLES], listed[TABLES], read[TABLES];
    /* What was told. */
    uint64_t last, told[TABLES][KEYS];
    bool deleted[TABLES][KEYS];
    uint64_t pairs; /* told in all */
};

static unsigned dice(struct world *w, unsigned sides)
{
    w->seed = w->seed * 1103515245u + 12345u;
    return (w->seed >> 16) % sides;
}

static void change_one(struct world *w, unsigned table)
{
    uint64_t *object = &w->object[table][dice(w, KEYS)];
    w->index[table] = w->raft;
    *object = dice(w, 4) == 0 ? 0 : w->raft;
}

/* The cluster goes on. */
static void tick(struct world *w)
{
    if (w->late_table >= 0) {
        change_one(w, (unsigned)w->late_table);
        w->late_table = -1;
    }
    for (unsigned n = w->still ? 0 : dice(w, 3); n > 0; n--) {
        unsigned table = dice(w, TABLES);
        w->raft++;
        change_one(w, table);
        if (dice(w, 3) == 0)
            w->late_table = (int)((table + 1) % TABLES);
        if (w->late_table >= 0 && n == 1)
            return; /* half-applied, and somebody looks */
        if (w->late_table >= 0)
            change_one(w, (unsigned)w->late_table);
        w->late_table = -1;
    }
}

static uint64_t max_seen(const struct reader *r)
{
    uint64_t max = 1;
    for (size_t t = 0; t < TABLES; t++)
        max = r->seen[t] > max ? r->seen[t] : max;
    return max;
}

/* In two pages, between which the cluster goes on. */
static void list_table(struct world *w, struct reader *r, uint32_t t)
{
    r->read[t] = w->index[t] > 0 ? w->index[t] : 1;
    for (unsigned k = 0; k < KEYS; k++) {
        char key[2] = {(char)('a' + k), '\0'};
        if (k == KEYS / 2)
            tick(w);
        if (w->object[t][k] > 0)
            list(&r->order, t, key, w->object[t][k], t == 0 ? "full" : NULL);
    }
    order_whole(&r->order, t);
}

static void note_told(struct reader *r, uint32_t t, size_t k, uint64_t index, bool deleted)
{
    assert_true(index >= r->last);
    if (!deleted)
        assert_true(index > r->told[t][k] || (index == r->told[t][k] && r->deleted[t][k]));
    else
        assert_false(r->deleted[t][k]);
    r->last = index;
    r->told[t][k] = index;
    r->deleted[t][k] = deleted;
    r->pairs++;
}

/* After a restart what was told at the last index comes again: a repeat, by its identity. */
static bool is_repeat(const struct reader *r, uint32_t t, size_t k, uint64_t index)
{
    return index == r->told[t][k] && !r->deleted[t][k];
}

static void tell_one(struct world *w, struct reader *r, const struct order_todo *todo)
{
    const struct order_known *known = order_known_of(&r->order, todo);
    uint32_t t = known->table;
    size_t k = (size_t)(order_key(known).p[0] - 'a');
    uint64_t now = w->object[t][k];
    if (!todo->deleted && todo->data == NULL) {
        tick(w);
        now = w->object[t][k];
        if (now == 0) {
            order_gone(&r->order);
            return;
        }
        if (now > todo->index) {
            order_newer(&r->order, now, STR("full"));
            return;
        }
    }
    uint64_t index = order_index(&r->order, todo);
    if (todo->deleted || !is_repeat(r, t, k, index))
        note_told(r, t, k, index, todo->deleted);
    order_told(&r->order, true, STR(""));
}

/* `patience`: so many are told, then the server dies. */
static void go_round(struct world *w, struct reader *r, unsigned patience)
{
    const struct order_todo *todo;
    order_begin(&r->order, max_seen(r));
    for (uint32_t t = 0; t < TABLES; t++) {
        r->read[t] = 0;
        if (r->seen[t] <= r->listed[t]) {
            tick(w);
            r->seen[t] = w->index[t] > 0 ? w->index[t] : 1;
        }
        if (r->seen[t] > r->listed[t])
            list_table(w, r, t);
    }
    order_sort(&r->order);
    while (patience-- > 0 && (todo = order_next(&r->order)) != NULL)
        tell_one(w, r, todo);
    bool whole = order_next(&r->order) == NULL;
    order_end(&r->order);
    for (size_t t = 0; t < TABLES; t++) {
        if (whole && r->read[t] > 0) {
            r->seen[t] = r->read[t] > r->seen[t] ? r->read[t] : r->seen[t];
            r->listed[t] = r->read[t] < r->order.limit ? r->read[t] : r->order.limit;
        } else if (!whole) {
            r->listed[t] = 0; /* a new connection */
        }
    }
}

/* A long poll comes back, or does not yet. */
static void look(struct world *w, struct reader *r)
{
    for (size_t t = 0; t < TABLES; t++)
        if ((w->still || dice(w, 2) == 0) && w->index[t] > r->seen[t])
            r->seen[t] = w->index[t];
}

/* All memory is lost but that of the journal; a resync finds out what was deleted meanwhile. */
static void restart(struct world *w, struct reader *r)
{
    order_fini(&r->order);
    for (size_t t = 0; t < TABLES; t++) {
        r->seen[t] = w->index[t] > 0 ? w->index[t] : 1;
        r->listed[t] = 0;
        for (size_t k = 0; k < KEYS; k++)
            if (r->told[t][k] > 0 && w->object[t][k] == 0)
                r->deleted[t][k] = true;
    }
    order_start(&r->order, r->last, r->last);
}

static void check_end(const struct world *w, const struct reader *r)
{
    for (size_t t = 0; t < TABLES; t++)
        for (size_t k = 0; k < KEYS; k++) {
            bool is = w->object[t][k] > 0, told = r->told[t][k] > 0 && !r->deleted[t][k];
            if (is != told || (is && r->told[t][k] != w->object[t][k]))
                fail_msg("seed %u: table %zu key %zu is %llu, told %llu%s", w->seed, t, k,
                         (unsigned long long)w->object[t][k], (unsigned long long)r->told[t][k],
                         r->deleted[t][k] ? " deleted" : "");
        }
}

static uint64_t run_history(unsigned seed, bool restarts)
{
    struct world w = {.seed = seed, .late_table = -1, .raft = 10};
    struct reader r = {.last = 0};
    for (size_t i = 0; i < STEPS; i++) {
        tick(&w);
        look(&w, &r);
        if (restarts && dice(&w, 20) == 0) {
            restart(&w, &r);
            /* What is deleted while the first round reads, the resync has told, or the stream will:
             * here the world stands still for a moment. */
            w.still = true;
            tick(&w);
            restart(&w, &r);
            go_round(&w, &r, UINT32_MAX);
            w.still = false;
        }
        go_round(&w, &r, dice(&w, 10) == 0 ? dice(&w, 4) : UINT32_MAX);
    }
    w.still = true;
    tick(&w);
    for (size_t i = 0; i < 4; i++) {
        look(&w, &r);
        go_round(&w, &r, UINT32_MAX);
    }
    check_end(&w, &r);
    order_fini(&r.order);
    return r.pairs;
}

static void each_history_ends_with_its_last_states_told_once_in_order(void **state)
{
    uint64_t told = 0;
    (void)state;
    for (unsigned seed = 1; seed <= 3000; seed++)
        told += run_history(seed, false);
    assert_true(told > 100000);
}

static void so_does_one_with_restarts(void **state)
{
    uint64_t told = 0;
    (void)state;
    for (unsigned seed = 1; seed <= 3000; seed++)
        told += run_history(seed, true);
    assert_true(told > 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_are_told_by_index_whatever_their_table),
        cmocka_unit_test(what_is_above_the_limit_waits),
        cmocka_unit_test(an_entry_that_two_pages_have_is_told_once),
        cmocka_unit_test(what_comes_late_to_an_index_is_told_at_it),
        cmocka_unit_test(what_is_gone_is_told_as_deleted_once_at_the_limit),
        cmocka_unit_test(what_was_never_told_is_not_told_as_deleted),
        cmocka_unit_test(what_is_older_than_the_start_is_known_and_its_deletion_told),
        cmocka_unit_test(an_object_newer_than_its_listing_is_told_in_its_turn),
        cmocka_unit_test(a_restored_state_is_told_again),
        cmocka_unit_test(a_round_that_broke_off_is_made_good_by_the_next),
        cmocka_unit_test(too_much_at_once_is_told_in_several_rounds),
        cmocka_unit_test(each_history_ends_with_its_last_states_told_once_in_order),
        cmocka_unit_test(so_does_one_with_restarts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
