/* test_nomad_namespaces.c - which namespaces are fresh, what of them is late; what Nomad tells
 * twice. */
#include "tests/unit/fake_ingest.h"

#include "connectors/nomad/nomad_doubles.h"
#include "connectors/nomad/nomad_namespaces.h"
#include "tests/unit/check.h"

#define DEFAULT "{\"Name\":\"default\",\"CreateIndex\":1}"
#define APPS(created) "{\"Name\":\"apps\",\"CreateIndex\":" #created ",\"Meta\":{\"a\":\"b\"}}"
#define DB "{\"Name\":\"db\",\"CreateIndex\":40}"

struct bench {
    struct nomad_settings settings;
    struct nomad_namespaces ns;
    struct err err;
};

static int set_up(void **state)
{
    struct bench *b = mem_zalloc(sizeof *b);
    b->settings.ns = "*";
    b->ns.settings = &b->settings;
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    nomad_namespaces_fini(&b->ns);
    free(b);
    return 0;
}

static void take(struct bench *b, const char *list, uint64_t index, uint64_t newest)
{
    assert_int_equal(nomad_namespaces_take(&b->ns, str_from(list), index, newest, &b->err), 0);
}

static enum found_late judge(struct bench *b, const char *name, uint64_t index, uint64_t begins_at)
{
    struct found_event event = {.ns = str_from(name), .index = index};
    return nomad_namespaces_judge(&b->ns, &event, begins_at);
}

static void what_was_not_on_the_last_list_is_fresh(void **state)
{
    struct bench *b = *state;
    take(b, "[" DEFAULT "]", 1, 0);
    assert_int_equal(nomad_namespaces_created(&b->ns), UINT64_MAX);
    take(b, "[" APPS(30) "," DB "," DEFAULT "]", 40, 50);
    assert_int_equal(nomad_namespaces_created(&b->ns), 30);
    assert_int_equal(judge(b, "apps", 31, 29), FOUND_LATE);
    assert_int_equal(judge(b, "apps", 31, 31), FOUND_MAYBE_LATE); /* what is before 31? */
    assert_int_equal(judge(b, "apps", 29, 1), FOUND_IN_TIME);     /* an older one of the name */
    assert_int_equal(judge(b, "default", 31, 1), FOUND_IN_TIME);
    assert_int_equal(judge(b, "", 31, 1), FOUND_IN_TIME);
    take(b, "[" APPS(30) "," DEFAULT "]", 45, 50);
    assert_int_equal(b->ns.n_fresh, 2);
}

static void a_subscription_that_begins_behind_a_creation_misses_something_once(void **state)
{
    struct bench *b = *state;
    take(b, "[" DEFAULT "]", 1, 0);
    take(b, "[" DEFAULT "," APPS(30) "," DB "]", 40, 50);
    assert_int_equal(nomad_namespaces_missed(&b->ns, 30), 0);
    assert_int_equal(nomad_namespaces_missed(&b->ns, 35), 30);
    assert_int_equal(nomad_namespaces_missed(&b->ns, 60), 40);
    assert_int_equal(nomad_namespaces_missed(&b->ns, 70), 0);
}

static void one_that_was_deleted_and_created_again_is_fresh(void **state)
{
    struct bench *b = *state;
    take(b, "[" DEFAULT "," APPS(30) "]", 30, 0);
    take(b, "[" DEFAULT "," APPS(30) "]", 31, 31);
    assert_int_equal(b->ns.n_fresh, 0);
    take(b, "[" DEFAULT "," APPS(35) "]", 35, 36);
    assert_int_equal(nomad_namespaces_created(&b->ns), 35);
}

static void on_the_first_list_what_is_young_may_be_fresh(void **state)
{
    struct bench *b = *state;
    take(b, "[" DEFAULT "," APPS(3000) "," DB "]", 3000, 3500);
    assert_int_equal(b->ns.n_fresh, 1);
    assert_int_equal(judge(b, "apps", 3001, 5), FOUND_MAYBE_LATE);
}

static void on_the_first_list_of_all_nothing_is_fresh(void **state)
{
    struct bench *b = *state;
    take(b, "[" DEFAULT "," APPS(30) "]", 30, 0);
    assert_int_equal(b->ns.n_fresh, 0);
}

static void without_a_list_before_the_subscription_all_are_fresh(void **state)
{
    struct bench *b = *state;
    b->ns.began_ms = 1;
    take(b, "[" DEFAULT "," APPS(30) "]", 30, 0);
    assert_int_equal(b->ns.n_fresh, 1);
}

static void a_list_from_behind_makes_nothing_fresh_until_it_catches_up(void **state)
{
    struct bench *b = *state;
    take(b, "[" DEFAULT "," DB "]", 40, 0);
    take(b, "[" DEFAULT "," APPS(20) "]", 20, 50); /* a rebuilt cluster, or a server that lags */
    assert_int_equal(b->ns.n_fresh, 0);
    take(b, "[" DEFAULT "," APPS(20) "," DB "]", 40, 50);
    assert_int_equal(nomad_namespaces_created(&b->ns), 40);
}

static void only_the_namespace_that_is_wanted_counts(void **state)
{
    struct bench *b = *state;
    b->settings.ns = "db";
    take(b, "[" DEFAULT "]", 1, 0);
    take(b, "[" DEFAULT "," APPS(30) "," DB "]", 40, 50);
    assert_int_equal(b->ns.n_fresh, 1);
    assert_int_equal(nomad_namespaces_created(&b->ns), 40);
    nomad_namespaces_forget(&b->ns);
    assert_int_equal(nomad_namespaces_created(&b->ns), UINT64_MAX);
}

static void what_is_no_list_changes_nothing(void **state)
{
    static const char broken_item[] = "[" DEFAULT ",{\"Name\":7}]", no_end[] = "[" DEFAULT;
    static const char *const texts[] = {
        "", "{}", "null", "[1]", "[{\"Name\":\"a\",\"CreateIndex\":-1}]", broken_item, no_end,
    };
    struct bench *b = *state;
    take(b, "[" DEFAULT "]", 1, 0);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_int_equal(nomad_namespaces_take(&b->ns, str_from(texts[i]), 9, 9, &b->err), -1);
    assert_int_equal(b->ns.n_known, 1);
    assert_int_equal(b->ns.n_fresh, 0);
}

/* ---- doubles ---- */

static struct found_event event(const char *key, const char *data)
{
    return (struct found_event){.topic = STR("Job"),
                                .type = STR("T"),
                                .key = str_from(key),
                                .ns = STR("default"),
                                .filter_keys = STR(""),
                                .index = 7,
                                .data = str_from(data)};
}

#define PAYLOAD(x) "{\"Key\":\"a\",\"Payload\":{\"Job\":" x "},\"Topic\":\"Job\"}"

static void a_double_is_one_whatever_the_order_of_its_members(void **state)
{
    (void)state;
    struct found_event events[] = {
        event("a", PAYLOAD("{\"Meta\":{\"k\":\"1\",\"l\":\"2\"},\"ModifyIndex\":12}")),
        event("a", PAYLOAD("{\"Meta\":{\"l\":\"2\",\"k\":\"1\"},\"ModifyIndex\":12}")),
        event("a", PAYLOAD("{\"Meta\":{\"k\":\"1\",\"l\":\"2\"},\"ModifyIndex\":12}")),
        event("b", PAYLOAD("{\"Meta\":{\"k\":\"1\",\"l\":\"2\"},\"ModifyIndex\":12}")),
    };
    assert_int_equal(nomad_drop_doubles(events, 4), 2);
    assert_true(str_is(events[0].key, "a") && str_is(events[1].key, "b"));
    assert_int_equal(nomad_drop_doubles(events, 0), 0);
}

static void what_differs_in_anything_is_no_double(void **state)
{
    (void)state;
    static const char *const others[] = {
        PAYLOAD("{\"Meta\":{\"k\":\"2\",\"l\":\"1\"},\"ModifyIndex\":12}"), /* values swapped */
        PAYLOAD("{\"Meta\":{\"k\":\"1\",\"l\":\"2\"},\"ModifyIndex\":13}"),
        PAYLOAD("{\"Meta\":{\"k\":\"1\",\"l\":\"2\"},\"ModifyIndex\":12,\"S\":0}"),
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct found_event events[] = {
            event("a", PAYLOAD("{\"Meta\":{\"k\":\"1\",\"l\":\"2\"},\"ModifyIndex\":12}")),
            event("a", others[i]),
        };
        assert_int_equal(nomad_drop_doubles(events, 2), 2);
    }
}

static void doubles_stand_next_to_each_other(void **state)
{
    (void)state;
    struct found_event events[] = {event("a", PAYLOAD("1")), event("b", PAYLOAD("1")),
                                   event("a", PAYLOAD("1"))};
    assert_int_equal(nomad_drop_doubles(events, 3), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_not_on_the_last_list_is_fresh, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_subscription_that_begins_behind_a_creation_misses_something_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_was_deleted_and_created_again_is_fresh, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(on_the_first_list_what_is_young_may_be_fresh, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(on_the_first_list_of_all_nothing_is_fresh, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(without_a_list_before_the_subscription_all_are_fresh,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_list_from_behind_makes_nothing_fresh_until_it_catches_up,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_the_namespace_that_is_wanted_counts, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_list_changes_nothing, set_up, tear_down),
        cmocka_unit_test(a_double_is_one_whatever_the_order_of_its_members),
        cmocka_unit_test(what_differs_in_anything_is_no_double),
        cmocka_unit_test(doubles_stand_next_to_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
