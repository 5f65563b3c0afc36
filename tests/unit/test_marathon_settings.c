/* test_marathon_settings.c - a Marathon's part of the configuration, as `check` reads it. */
#include "connectors/marathon/marathon_settings.h"

#include "tests/unit/settings_kit.h"

/* Applies the rows and the check to a mapping; its problems. To be freed. */
static char *problems(const char *yaml, struct marathon_settings *out)
{
    struct settings *s = parse(yaml);
    *out = (struct marathon_settings){0};
    settings_apply(s, settings_root(s), "source", marathon_rows, NULL, out);
    marathon_check(s, settings_root(s), out);
    char *text = problems_of(s);
    settings_free(&s);
    return text;
}

static void finds(const char *yaml, const char *expected)
{
    struct marathon_settings set;
    char *text = problems(yaml, &set);
    if (expected[0] == '\0' ? text[0] != '\0' : strstr(text, expected) == NULL)
        fail_msg("\"%s\": \"%s\", not \"%s\"", yaml, text, expected);
    free(text);
}

#define ONE "servers: [http://m:8080]\n"

static void says_what_stands_for_what_is_missing(void **state)
{
    (void)state;
    struct marathon_settings set;
    char *text = problems(ONE, &set);
    assert_string_equal(text, "");
    assert_int_equal(set.silence_ms, 32000);
    assert_int_equal(set.connect_timeout_ms, 5000);
    assert_int_equal(set.plan_format, MARATHON_PLAN_LIGHT);
    assert_int_equal(marathon_start(&set), SOURCE_START_SNAPSHOT);
    assert_int_equal(marathon_snapshot_rate(&set), 100);
    assert_false(marathon_is_filtered(&set));
    assert_null(marathon_filter(&set));
    free(text);
}

static void refuses_the_oldest_for_there_is_none(void **state)
{
    (void)state;
    finds(ONE "start: oldest\n", "b.yaml:2: start: oldest: expected snapshot or now, because "
                                 "Marathon keeps no event that it has told");
    finds(ONE "start: now\n", "");
    finds(ONE "start: latest\n", "b.yaml:2: ");
}

static void takes_addresses_of_servers(void **state)
{
    (void)state;
    finds("servers: [\"https://[::1]:8443\", http://m, unix:///run/m.sock]\n", "");
    finds("servers: [https://dcos/service/marathon, http://m:8080/]\n", "");
    finds("servers: [http://m:8080/a?b=c]\n", "b.yaml:1: ");
    finds("servers: [\"http://m:8080/a b\"]\n", "b.yaml:1: ");
    finds("servers: [http://joe:pw@m:8080/a]\n", "b.yaml:1: ");
    finds("servers: [m:8080]\n", "b.yaml:1: ");
    finds("servers: [http://m:0/a]\n", "b.yaml:1: ");
    finds("plan_format: light\n", "servers");
}

static void one_way_to_say_who_asks(void **state)
{
    (void)state;
    finds(ONE "token: a\nusername: joe\n", "b.yaml:3: username besides a token");
    finds(ONE "token: a\ntoken_file: /dev/null\n", "b.yaml:3: ");
    finds(ONE "token: a\nheaders: {authorization: b}\n", "header authorization");
    finds(ONE "headers: {Authorization: Bearer b}\n", "");
    finds(ONE "headers: {accept: b}\n", "expected none: Marathon wants exactly text/event-stream");
    finds(ONE "token: a b\n", "b.yaml:2: ");
}

static void filters_here_what_an_old_marathon_does_not(void **state)
{
    (void)state;
    struct marathon_settings set;
    struct settings *s = parse(ONE "event_types: [status_update_event, x]\n");
    settings_apply(s, settings_root(s), "source", marathon_rows, NULL, &set);
    struct filter *f = marathon_filter(&set);
    struct event e = {.topic = STR("Task"), .type = STR("status_update_event")};
    assert_true(filter_match(f, &e));
    e.type = STR("event_stream_attached");
    assert_false(filter_match(f, &e));
    e.type = STR("Snapshot"); /* what a resync tells */
    assert_true(filter_match(f, &e));
    filter_free(&f);
    settings_free(&s);
    finds(ONE "event_types: [\"a b\"]\n", "b.yaml:2: ");
    finds(ONE "event_types: [\"\"]\n", "b.yaml:2: ");
}

static void a_star_is_all_types(void **state)
{
    (void)state;
    struct marathon_settings set;
    struct settings *s = parse(ONE "event_types: [\"*\"]\n");
    settings_apply(s, settings_root(s), "source", marathon_rows, NULL, &set);
    assert_false(marathon_is_filtered(&set));
    settings_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_stands_for_what_is_missing),
        cmocka_unit_test(refuses_the_oldest_for_there_is_none),
        cmocka_unit_test(takes_addresses_of_servers),
        cmocka_unit_test(one_way_to_say_who_asks),
        cmocka_unit_test(filters_here_what_an_old_marathon_does_not),
        cmocka_unit_test(a_star_is_all_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
