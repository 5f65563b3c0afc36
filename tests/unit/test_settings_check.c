/* test_settings_check.c - names, URLs and addresses that are taken and refused. */
#include "tests/unit/settings_kit.h"

typedef const char *check_fn(const char *value);

static void expect_checks(check_fn *check, const char *const *good, const char *const *bad)
{
    for (; *good != NULL; good++) {
        if (check(*good) != NULL)
            fail_msg("refuses %s", *good);
    }
    for (; *bad != NULL; bad++) {
        if (check(*bad) == NULL)
            fail_msg("takes %s", *bad);
    }
}

static void checks_names(void **state)
{
    (void)state;
    expect_checks(check_name, (const char *const[]){"a", "prod-1_b", NULL},
                  (const char *const[]){"", "A", "a b", "a.b", "\xc3\xa9", NULL});
}

static void checks_http_urls(void **state)
{
    (void)state;
    expect_checks(check_http_url,
                  (const char *const[]){"http://a", "https://a.b:1/", "http://127.0.0.1:65535",
                                        "http://[::1]:4646", "http://[fe80::1%eth0]", NULL},
                  (const char *const[]){"",
                                        "a",
                                        "ftp://a",
                                        "http://",
                                        "http:///",
                                        "http://a:0",
                                        "http://a:65536",
                                        "http://a:",
                                        "http://a:99999999999999999",
                                        "http://a/b",
                                        "http://a?b",
                                        "http://u:p@a",
                                        "http://::1",
                                        "http://[::1",
                                        "http://[x]",
                                        "http://[]",
                                        "http://a b",
                                        "HTTP//a",
                                        "http://a:x",
                                        "http://[::1]x:80",
                                        NULL});
}

static void checks_host_and_port(void **state)
{
    (void)state;
    expect_checks(check_host_port,
                  (const char *const[]){"127.0.0.1:8484", "localhost:0", "[::1]:65535", NULL},
                  (const char *const[]){"", ":8484", "a", "a:", "a:65536", "::1:80", "[::1]",
                                        "a:1:2", "a:b", "a :1", NULL});
}

static void goes_on_in_the_rows_that_tables_share(void **state)
{
    (void)state;
    static const struct setting shared[] = {
        {.name = "shared", .type = SETTING_BOOL, .offset = 8, .fallback = "true"},
        {.name = NULL},
    };
    static const struct setting only_shared[] = {{.name = NULL, .rest = shared}};
    static const struct setting own[] = {
        {.name = "own", .type = SETTING_INT, .offset = 0, .fallback = "7"},
        {.name = NULL, .rest = only_shared},
    };
    struct {
        int64_t own;
        bool shared;
    } out = {0};
    static const char yaml[] = "own: 8\nshered: false\n";
    struct settings *s = settings_parse("a.yaml", yaml, strlen(yaml));
    assert_int_equal(settings_apply(s, settings_root(s), "a", own, NULL, &out), -1);
    assert_int_equal(out.own, 8);
    assert_true(out.shared);
    assert_int_equal(settings_problems(s), 1); /* shered */
    settings_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_names),
        cmocka_unit_test(checks_http_urls),
        cmocka_unit_test(checks_host_and_port),
        cmocka_unit_test(goes_on_in_the_rows_that_tables_share),
    };
    return cmocka_run_group_tests_name("settings_check", tests, NULL, NULL);
}
