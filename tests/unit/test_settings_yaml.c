/* test_settings_yaml.c - from a file to the tree: YAML's own mistakes, sharing, limits. */
#include "tests/unit/settings_kit.h"

#include <sys/stat.h>
#include <time.h>

static char folder[] = P_tmpdir "/test_settings.XXXXXX";

static void expect_file(const char *name, const char *problem)
{
    char path[256], whole[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(whole, sizeof whole, "%s:1: cannot be read (%s): expected a readable YAML file\n",
             path, problem);
    expect_of(settings_load(path), whole);
}

/* ---- files ---- */

static void loads_a_file(void **state)
{
    (void)state;
    char path[256];
    const char *text = "\xef\xbb\xbf# comment: ${NOT_LOOKED_AT}\r\na: b\r\n";
    write_file(folder, "good.yaml", text, strlen(text));
    snprintf(path, sizeof path, "%s/good.yaml", folder);
    struct settings *s = settings_load(path);
    assert_int_equal(settings_problems(s), 0);
    assert_string_equal(at(s, "a"), "b");
    assert_int_equal(settings_line(settings_get(settings_root(s), "a")), 2);
    settings_free(&s);
    assert_null(s);
    settings_free(&s);
}

static void tells_why_a_file_cannot_be_read(void **state)
{
    (void)state;
    char *large = mem_alloc(1024 * 1024 + 1);
    memset(large, '#', 1024 * 1024 + 1);
    write_file(folder, "large.yaml", large, 1024 * 1024 + 1);
    expect_file("large.yaml", "larger than 1 MiB");
    expect_of(settings_parse("b.yaml", large, 1024 * 1024 + 1),
              "b.yaml:1: cannot be read (larger than 1 MiB): expected a readable YAML file\n");
    expect_of(settings_parse("b.yaml", large, 1024 * 1024), "");
    free(large);
    expect_file("missing.yaml", "No such file or directory");
    expect_file(".", "Is a directory");
    write_file(folder, "closed.yaml", "a: b\n", 5);
    char path[256];
    snprintf(path, sizeof path, "%s/closed.yaml", folder);
    chmod(path, 0);
    if (geteuid() != 0)
        expect_file("closed.yaml", "Permission denied");
}

static void keeps_quiet_about_what_an_unusable_file_lacks(void **state)
{
    (void)state;
    static const struct setting rows[] = {
        {.name = "name", .type = SETTING_STRING, .required = true}, {.name = NULL}};
    struct settings *s = parse("a: b: c\n");
    const char *name = "";
    assert_true(settings_is_mapping(settings_root(s)));
    assert_int_equal(settings_apply(s, settings_root(s), "", rows, NULL, &name), -1);
    assert_int_equal(settings_apply(s, NULL, "", rows, NULL, &name), -1);
    assert_null(name);
    settings_problem(s, settings_root(s), "no exit: expected one");
    settings_problem(s, NULL, "no exit: expected one");
    assert_int_equal(settings_problems(s), 1);
    settings_free(&s);
}

/* ---- the tree ---- */

static void gives_a_tree_that_knows_its_lines(void **state)
{
    (void)state;
    struct settings *s = parse("a:\n  - x\n  - {y: z,\n     w: }\nb: |\n  two\n  lines\n");
    const struct settings_node *root = settings_root(s), *a = settings_get(root, "a");
    assert_int_equal(settings_problems(s), 0);
    assert_int_equal(settings_count(a), 2);
    assert_string_equal(settings_text(settings_item(a, 0)), "x");
    const struct settings_node *item = settings_item(a, 1);
    assert_true(settings_is_mapping(item));
    assert_int_equal(settings_line(item), 3);
    assert_int_equal(settings_line(settings_get(item, "w")), 4);
    assert_null(settings_text(settings_get(item, "w")));
    assert_string_equal(at(s, "b"), "two\nlines\n");
    settings_free(&s);
}

static void answers_for_what_is_not_there(void **state)
{
    (void)state;
    struct settings *s = parse("a: b\n");
    const struct settings_node *a = settings_get(settings_root(s), "a");
    assert_null(settings_get(settings_root(s), "b"));
    assert_null(settings_get(a, "b"));
    assert_null(settings_get(NULL, "b"));
    assert_int_equal(settings_count(a), 0);
    assert_int_equal(settings_count(NULL), 0);
    assert_null(settings_item(a, 0));
    assert_null(settings_text(settings_root(s)));
    assert_null(settings_text(NULL));
    assert_false(settings_is_mapping(NULL));
    assert_false(settings_is_sequence(NULL));
    assert_int_equal(settings_line(NULL), 1);
    settings_free(&s);
}

static void takes_nothing_as_an_empty_mapping(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "# only a comment\n", "---\n", "---\n...\n", "~\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct settings *s = parse(texts[i]);
        assert_int_equal(settings_problems(s), 0);
        assert_true(settings_is_mapping(settings_root(s)));
        settings_free(&s);
    }
}

static void shares_what_an_alias_names(void **state)
{
    (void)state;
    expect_x("y: &a hello\nx: *a\n", "hello");
    expect_x("y: &a one\nz: &a two\nx: *a\n", "two");
    struct settings *s = parse("a: &a [x, y]\nb: *a\n");
    assert_ptr_equal(settings_get(settings_root(s), "a"), settings_get(settings_root(s), "b"));
    settings_free(&s);
}

static void merges_mappings_by_the_merge_key(void **state)
{
    (void)state;
    struct settings *s = parse("a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\n"
                               "c:\n  <<: *a\n  y: 3\nd: {<<: [*a, *b], w: 4}\n");
    assert_int_equal(settings_problems(s), 0);
    const struct settings_node *c = settings_get(settings_root(s), "c");
    assert_string_equal(settings_text(settings_get(c, "x")), "1");
    assert_string_equal(settings_text(settings_get(c, "y")), "3");
    const struct settings_node *d = settings_get(settings_root(s), "d");
    assert_string_equal(settings_text(settings_get(d, "x")), "1");
    assert_string_equal(settings_text(settings_get(d, "z")), "2");
    assert_string_equal(settings_text(settings_get(d, "w")), "4");
    static const struct setting rows[] = {{.name = "c", .type = SETTING_MAP},
                                          {.name = "d", .type = SETTING_CUSTOM},
                                          {.name = "a", .type = SETTING_CUSTOM},
                                          {.name = "b", .type = SETTING_CUSTOM},
                                          {.name = NULL}};
    struct setting_map map;
    assert_int_equal(settings_apply(s, settings_root(s), "", rows, NULL, &map), 0);
    assert_int_equal(map.n, 2);
    settings_free(&s);
    expect("a: 1\n<<: x\n",
           "b.yaml:1: no mapping behind \"<<\": expected an alias of a mapping, or "
           "a sequence of them\n");
}

/* ---- mistakes ---- */

struct mistake {
    const char *yaml, *problem;
};

static const struct mistake mistakes[] = {
    {"a: 1\nb: 2\n\"a\": 3\n",
     "b.yaml:3: key \"a\" a second time (first in line 1): expected it once\n"},
    {"a: 1\n---\nb: 2\n", "b.yaml:2: a second document: expected one document in a file\n"},
    {"- a\n", "b.yaml:1: sequence found: expected a mapping (lines of \"key: value\")\n"},
    {"\nhello\n", "b.yaml:2: single value found: expected a mapping (lines of \"key: value\")\n"},
    {"? [a]\n: b\n", "b.yaml:1: a key that is no plain word: expected \"key: value\"\n"},
    {"a: &x b\n*x : c\n", "b.yaml:2: a key that is no plain word: expected \"key: value\"\n"},
    {"a: b\n\"\": c\n", "b.yaml:2: a key that is no plain word: expected \"key: value\"\n"},
    {"\"a\\0b\": c\n", "b.yaml:1: a key that is no plain word: expected \"key: value\"\n"},
    {"a: \"b\\0c\"\n", "b.yaml:1: a NUL character: expected text\n"},
    {"a:\n\tb: c\n", "b.yaml:2: a tab as indentation: expected spaces\n"},
    {"a: b\n\tc: d\n", "b.yaml:2: a tab as indentation: expected spaces\n"},
    {"a: |\n\tb\n", "b.yaml:2: a tab as indentation: expected spaces\n"},
    {"a: b\nc: %{source}\n",
     "b.yaml:2: \"%\" without quotes: expected quotes around a text that starts with \"%\"\n"},
    {"a: \xc3\xa9\nc: `x`\n",
     "b.yaml:2: \"`\" without quotes: expected quotes around a text that starts with \"`\"\n"},
    {"a: @x\n",
     "b.yaml:1: \"@\" without quotes: expected quotes around a text that starts with \"@\"\n"},
    {"a:\n  - *\n",
     "b.yaml:2: \"*\" without quotes: expected quotes around a text that starts with \"*\"\n"},
    {"a: &\n",
     "b.yaml:1: \"&\" without quotes: expected quotes around a text that starts with \"&\"\n"},
    {"a: *x\n", "b.yaml:1: alias \"x\" without an anchor before it: expected an anchor (&), or "
                "quotes around a text that starts with \"*\"\n"},
    {"a: &x [*x]\n", "b.yaml:1: alias \"x\" without an anchor before it: expected an anchor (&), "
                     "or quotes around a text that starts with \"*\"\n"},
    {"a: b: c\n", "b.yaml:1: \": \" where no key can stand: expected \"key: value\" with the "
                  "indentation of its neighbours, or quotes around a text with \": \"\n"},
    {"a: b\nc\nd: e\n", "b.yaml:2: a line without \":\": expected \"key: value\"\n"},
    {"a: b\nc: \"d\ne: f\n", "b.yaml:2: a quote that is not closed: expected its end\n"},
    {"a: {b: ${C}}\n", "b.yaml:1: no \",\" or \"}\" where one should be: expected the end of the "
                       "\"{\", or quotes around a text with brackets\n"},
    {"a: [b\nc: d\n", "b.yaml:2: no \",\" or \"]\" where one should be: expected the end of the "
                      "\"[\", or quotes around a text with brackets\n"},
    {"a:\n  - b\n - c\n", "b.yaml:3: no key where the next one should be: expected \"key: value\" "
                          "with the indentation of its neighbours\n"},
    {"- a\nb: c\n", "b.yaml:2: no \"- \" where the next item should be: expected \"- value\" with "
                    "the indentation of its neighbours\n"},
    {"a: - b\n", "b.yaml:1: \"- \" behind a key: expected it in a line of its own, or quotes "
                 "around the text\n"},
    {"a: b\nc: ]\n", "b.yaml:2: did not find expected node content while parsing a block node in "
                     "line 2: expected well-formed YAML\n"},
    {"a: b\n\rc: \xff\n", "b.yaml:3: 0xff (invalid leading UTF-8 octet): expected UTF-8 text\n"},
    {"a: b\nc: \x01\n", "b.yaml:2: 0x01 (control characters are not allowed): expected UTF-8 "
                        "text\n"},
    {"a: \xc3\n", "b.yaml:1: 0x0a (invalid trailing UTF-8 octet): expected UTF-8 text\n"},
    {"a: !vault b\n", "b.yaml:1: tag \"!vault\": expected a value without a tag\n"},
    {"a: !!map [b]\n", "b.yaml:1: tag \"tag:yaml.org,2002:map\": expected a value without a tag\n"},
};

static void tells_each_mistake_in_one_clear_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
        expect(mistakes[i].yaml, mistakes[i].problem);
}

static void reads_on_after_a_duplicate_or_a_second_document(void **state)
{
    (void)state;
    struct settings *s = parse("a: 1\na: 2\n---\nb: 2\n");
    assert_int_equal(settings_problems(s), 2);
    assert_string_equal(at(s, "a"), "1");
    assert_null(at(s, "b"));
    settings_free(&s);
}

/* ---- limits ---- */

static void refuses_more_than_32_levels(void **state)
{
    (void)state;
    struct buf yaml = {0};
    buf_append_cstr(&yaml, "a: ");
    for (int i = 0; i < 32; i++)
        buf_append_char(&yaml, '[');
    expect(buf_cstr(&yaml), "b.yaml:1: more than 32 levels: expected a flatter file\n");
    yaml.len--;
    for (int i = 0; i < 31; i++)
        buf_append_char(&yaml, ']');
    expect(buf_cstr(&yaml), "");
    buf_fini(&yaml);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Repeats a line up to the size limit; it must be refused with this problem, and soon. */
static void expect_bounded(const char *head, const char *line, const char *problem)
{
    struct buf yaml = {0};
    buf_append_cstr(&yaml, head);
    for (unsigned i = 0; yaml.len < 1000 * 1000; i++) {
        buf_append_cstr(&yaml, line);
        if (strchr(line, '#') != NULL)
            buf_printf(&yaml, "%u: x\n", i);
    }
    double start = cpu_seconds();
    struct settings *s = settings_parse("b.yaml", yaml.p, yaml.len);
    assert_true(cpu_seconds() - start < 20.0); /* under a sanitizer too; else minutes */
    char *problems = problems_of(s);
    if (strstr(problems, problem) == NULL)
        fail_msg("%.200s", problems);
    free(problems);
    settings_free(&s);
    buf_fini(&yaml);
}

static void stays_small_and_quick_whatever_it_is_given(void **state)
{
    (void)state;
    expect_bounded("a:\n", "- \n", "more than 65536 values: expected a smaller file");
    expect_bounded("a: b\n", "k#", "more than 4096 keys: expected a smaller mapping");
    expect_bounded("", "? a\n", "a second time");
    expect_bounded("a:\n", "- &a x\n", "more than 256 anchors: expected fewer");
    expect_bounded("a: [", "[", "more than 32 levels");
    expect_bounded("a: [", "x,", "more than 65536 values");
    expect_bounded("a: ", "x", "");
    expect_bounded("a: \"", "${HOME}", "");
    expect_bounded("a: &a {x: y, z: w}\nb:\n", "- <<: *a\n", "more than 65536 values");
    expect_bounded("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c "
                   "[*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne:\n",
                   "- *d\n", "more than 65536 values");
}

static void counts_what_merging_brings(void **state)
{
    (void)state;
    struct buf yaml = {0};
    buf_append_cstr(&yaml, "a: &a\n");
    for (int i = 0; i < 4000; i++)
        buf_printf(&yaml, "  k%d: x\n", i);
    buf_append_cstr(&yaml, "b:\n  <<: [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n");
    expect(buf_cstr(&yaml), "b.yaml:4003: more than 65536 values: expected a smaller file\n");
    buf_fini(&yaml);
}

static void shares_the_laughs_instead_of_copying_them(void **state)
{
    (void)state;
    struct buf yaml = {0};
    buf_append_cstr(&yaml, "a0: &a0 [ha, ha]\n");
    for (int i = 1; i < 200; i++)
        buf_printf(&yaml, "a%d: &a%d [*a%d, *a%d]\n", i, i, i - 1, i - 1);
    expect(buf_cstr(&yaml), "");
    buf_fini(&yaml);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return remove_files(folder,
                        (const char *const[]){"good.yaml", "large.yaml", "closed.yaml", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_a_file),
        cmocka_unit_test(tells_why_a_file_cannot_be_read),
        cmocka_unit_test(keeps_quiet_about_what_an_unusable_file_lacks),
        cmocka_unit_test(gives_a_tree_that_knows_its_lines),
        cmocka_unit_test(answers_for_what_is_not_there),
        cmocka_unit_test(takes_nothing_as_an_empty_mapping),
        cmocka_unit_test(shares_what_an_alias_names),
        cmocka_unit_test(merges_mappings_by_the_merge_key),
        cmocka_unit_test(tells_each_mistake_in_one_clear_line),
        cmocka_unit_test(reads_on_after_a_duplicate_or_a_second_document),
        cmocka_unit_test(refuses_more_than_32_levels),
        cmocka_unit_test(stays_small_and_quick_whatever_it_is_given),
        cmocka_unit_test(counts_what_merging_brings),
        cmocka_unit_test(shares_the_laughs_instead_of_copying_them),
    };
    return cmocka_run_group_tests_name("settings_yaml", tests, make_folder, remove_folder);
}
