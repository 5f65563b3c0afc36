/* test_settings_replace.c - ${VAR}, ${VAR:-default}, ${file:PATH} and $$ in values. */
#include "tests/unit/settings_kit.h"

static char folder[] = P_tmpdir "/test_settings.XXXXXX";

static void replaces_variables_in_values(void **state)
{
    (void)state;
    expect_x("x: ${BUSBAR_ONE}\n", "one");
    expect_x("x: a${BUSBAR_ONE}b${BUSBAR_ONE}c\n", "aonebonec");
    expect_x("x: '${BUSBAR_ONE}'\n", "one");
    expect_x("x: \"${BUSBAR_ONE}\"\n", "one");
    expect_x("x: ${BUSBAR_NONE:-two words}\n", "two words");
    expect_x("x: ${BUSBAR_EMPTY:-two}\n", "two");
    expect_x("x: ${BUSBAR_ONE:-two}\n", "one");
    expect_x("x: '${BUSBAR_EMPTY}'\n", "");
    expect_x("x: $$ $${BUSBAR_ONE} $$$$ $x 5$\n", "$ ${BUSBAR_ONE} $$ $x 5$");
    expect_x("x: \"%{source}.%{topic}\"\n", "%{source}.%{topic}");
}

static void replaces_nothing_in_keys(void **state)
{
    (void)state;
    struct settings *s = parse("${BUSBAR_ONE}: z # ${BUSBAR_NONE}\n");
    assert_int_equal(settings_problems(s), 0);
    assert_string_equal(at(s, "${BUSBAR_ONE}"), "z");
    settings_free(&s);
}

static void takes_an_empty_replacement_as_nothing_unless_quoted(void **state)
{
    (void)state;
    struct settings *s = parse("x: ${BUSBAR_EMPTY}\ny: ${BUSBAR_NONE:-}\nz: \"${BUSBAR_EMPTY}\"\n");
    assert_int_equal(settings_problems(s), 0);
    assert_null(at(s, "x"));
    assert_null(at(s, "y"));
    assert_string_equal(at(s, "z"), "");
    settings_free(&s);
}

static void lets_no_variable_change_the_structure(void **state)
{
    (void)state;
    setenv("BUSBAR_TRICK", "a: b\n  - [c, ${BUSBAR_ONE}] # d", 1);
    expect_x("x: ${BUSBAR_TRICK}\n", "a: b\n  - [c, ${BUSBAR_ONE}] # d");
}

static void reads_secrets_from_files(void **state)
{
    (void)state;
    char yaml[512];
    write_file(folder, "secret", "s3cret: x\r\n\n", 12);
    snprintf(yaml, sizeof yaml, "x: a ${file:%s/secret} b\n", folder);
    expect_x(yaml, "a s3cret: x b");
}

static void expect_file_reference(const char *name, const char *problem)
{
    char yaml[512], whole[1024];
    snprintf(yaml, sizeof yaml, "a: b\nx: ${file:%s/%s}\n", folder, name);
    snprintf(whole, sizeof whole, "b.yaml:2: ${file:%s/%s} %s\n", folder, name, problem);
    expect(yaml, whole);
}

static void tells_what_cannot_be_replaced(void **state)
{
    (void)state;
    expect("a: b\nx: ${BUSBAR_NONE}\ny: ${BUSBAR_NONE}\n",
           "b.yaml:2: undefined variable ${BUSBAR_NONE}: expected it in the environment, or a "
           "default as in ${BUSBAR_NONE:-default}\n"
           "b.yaml:3: undefined variable ${BUSBAR_NONE}: expected it in the environment, or a "
           "default as in ${BUSBAR_NONE:-default}\n");
    expect("x: pa${ss\n", "b.yaml:1: \"${\" without \"}\": expected ${VAR}, ${VAR:-default} or "
                          "${file:PATH}, or $$ for a plain \"$\"\n");
    static const char *const odd[] = {
        "x: ${}", "x: ${a b}", "x: ${1A}", "x: ${A-b}", "x: ${A:-${BUSBAR_ONE}}", "x: ${:-b}"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        expect(odd[i], "b.yaml:1: \"${...}\" that is no replacement: expected ${VAR}, "
                       "${VAR:-default} or ${file:PATH}, or $$ for a plain \"$\"\n");
    expect_file_reference("none",
                          "cannot be read (No such file or directory): expected a readable file");
    expect_file_reference(".", "cannot be read (Is a directory): expected a readable file");
    char *large = mem_alloc(65537);
    memset(large, 'x', 65537);
    write_file(folder, "large", large, 65537);
    free(large);
    expect_file_reference("large", "cannot be read (larger than 64 KiB): expected a readable file");
    write_file(folder, "binary", "a\0b", 3);
    expect_file_reference("binary", "is not UTF-8 text: expected text");
}

static void bounds_what_all_replacements_bring(void **state)
{
    (void)state;
    char *large = mem_alloc(65536);
    memset(large, 'x', 65536);
    write_file(folder, "full", large, 65536);
    free(large);
    struct buf yaml = {0};
    for (int i = 0; i < 16; i++)
        buf_printf(&yaml, "k%d: ${file:%s/full}\n", i, folder);
    expect(buf_cstr(&yaml), "");
    buf_append_cstr(&yaml, "x: ${BUSBAR_ONE}\n");
    expect(buf_cstr(&yaml), "b.yaml:17: ${BUSBAR_ONE} is more than all replacements together may "
                            "bring: expected at most 1 MiB\n");
    buf_fini(&yaml);
}

static void takes_only_utf8_from_outside(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xff",
                                      "\xc3",
                                      "\xc0\x80",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\x80",
                                      "a\xe2\x82"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        setenv("BUSBAR_BYTES", bad[i], 1);
        expect("x: ${BUSBAR_BYTES}\n",
               "b.yaml:1: ${BUSBAR_BYTES} is not UTF-8 text: expected text\n");
    }
    setenv("BUSBAR_BYTES", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\x8c", 1);
    expect_x("x: ${BUSBAR_BYTES}\n", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\x8c");
}

/* ---- replaced values in rows ---- */

struct ported {
    int64_t port;
    const char *token;
    bool flag;
};

static const struct setting ported_rows[] = {
    {.name = "port",
     .type = SETTING_INT,
     .offset = offsetof(struct ported, port),
     .min = 1,
     .max = 65535},
    {.name = "token", .type = SETTING_SECRET, .offset = offsetof(struct ported, token)},
    {.name = "flag", .type = SETTING_BOOL, .offset = offsetof(struct ported, flag)},
    {.name = NULL}};

/* What is refused leaves the default. */
static void refuse_ported(const char *yaml, const char *problems)
{
    struct settings *s = parse(yaml);
    struct ported out;
    assert_int_equal(settings_apply(s, settings_root(s), "", ported_rows, NULL, &out), -1);
    assert_int_equal(out.port, 0);
    expect_of(s, problems);
}

static void take_ported(const char *yaml)
{
    struct settings *s = parse(yaml);
    struct ported out;
    assert_int_equal(settings_apply(s, settings_root(s), "", ported_rows, NULL, &out), 0);
    assert_int_equal(out.port, 8484);
    assert_true(out.flag);
    assert_string_equal(out.token, "hunter2");
    expect_of(s, "");
}

static void checks_values_after_replacing(void **state)
{
    (void)state;
    setenv("BUSBAR_PORT", "8484", 1);
    setenv("BUSBAR_TOKEN", "hunter2", 1);
    take_ported("{port: \"${BUSBAR_PORT}\", flag: true, token: \"${BUSBAR_TOKEN}\"}\n");
    take_ported("port: ${BUSBAR_PORT}\nflag: '${BUSBAR_NONE:-true}'\ntoken: hunter2\n");
    setenv("BUSBAR_PORT", "many", 1);
    refuse_ported("port: ${BUSBAR_PORT}\n", "b.yaml:1: \"many\" (from \"${BUSBAR_PORT}\"): "
                                            "expected a whole number of 1..65535 for \"port\"\n");
}

static void tells_a_failed_replacement_only_once(void **state)
{
    (void)state;
    refuse_ported("port: ${BUSBAR_NONE}\n",
                  "b.yaml:1: undefined variable ${BUSBAR_NONE}: expected it in the environment, "
                  "or a default as in ${BUSBAR_NONE:-default}\n");
}

static void drops_what_others_say_about_a_failed_replacement(void **state)
{
    (void)state;
    struct settings *s = parse("name: ${BUSBAR_NONE}\n");
    const struct settings_node *name = settings_get(settings_root(s), "name");
    assert_string_equal(settings_text(name), "${BUSBAR_NONE}");
    settings_problem(s, name, "\"%s\": expected a name", settings_text(name));
    assert_int_equal(settings_problems(s), 1);
    settings_free(&s);
}

static void never_shows_what_came_from_a_secret_place(void **state)
{
    (void)state;
    char yaml[512], problem[1024];
    setenv("BUSBAR_TOKEN", "hunter2", 1);
    refuse_ported("port: ${BUSBAR_TOKEN}\n",
                  "b.yaml:1: the value of \"${BUSBAR_TOKEN}\": expected a whole number of 1..65535 "
                  "for \"port\"\n");
    write_file(folder, "pw", "hunter2\n", 8);
    snprintf(yaml, sizeof yaml, "port: ${file:%s/pw}\n", folder);
    snprintf(problem, sizeof problem,
             "b.yaml:1: the value of \"${file:%s/pw}\": expected a whole number of 1..65535 for "
             "\"port\"\n",
             folder);
    refuse_ported(yaml, problem);
}

static int make_folder(void **state)
{
    (void)state;
    setenv("BUSBAR_ONE", "one", 1);
    setenv("BUSBAR_EMPTY", "", 1);
    unsetenv("BUSBAR_NONE");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return remove_files(folder,
                        (const char *const[]){"secret", "large", "binary", "full", "pw", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaces_variables_in_values),
        cmocka_unit_test(replaces_nothing_in_keys),
        cmocka_unit_test(takes_an_empty_replacement_as_nothing_unless_quoted),
        cmocka_unit_test(lets_no_variable_change_the_structure),
        cmocka_unit_test(reads_secrets_from_files),
        cmocka_unit_test(tells_what_cannot_be_replaced),
        cmocka_unit_test(bounds_what_all_replacements_bring),
        cmocka_unit_test(takes_only_utf8_from_outside),
        cmocka_unit_test(checks_values_after_replacing),
        cmocka_unit_test(tells_a_failed_replacement_only_once),
        cmocka_unit_test(drops_what_others_say_about_a_failed_replacement),
        cmocka_unit_test(never_shows_what_came_from_a_secret_place),
    };
    return cmocka_run_group_tests_name("settings_replace", tests, make_folder, remove_folder);
}
