/* test_settings.c - rows: what they take, what they refuse, and in which words. */
#include "tests/unit/settings_kit.h"

struct all {
    const char *text;
    const char *secret;
    bool flag;
    int64_t number;
    uint64_t size;
    int64_t time_ms;
    int choice;
    struct setting_list list;
    struct setting_map map;
};

static const char *const colours[] = {"red", "green", "blue", NULL};

static const char *check_word(const char *value)
{
    return strchr(value, ' ') != NULL ? "one word" : NULL;
}

#define AT(field) offsetof(struct all, field)

static const struct setting rows[] = {
    {.name = "text",
     .type = SETTING_STRING,
     .offset = AT(text),
     .fallback = "none",
     .check = check_word,
     .help = "A word."},
    {.name = "secret",
     .type = SETTING_SECRET,
     .offset = AT(secret),
     .check = check_word,
     .help = "A password."},
    {.name = "flag",
     .type = SETTING_BOOL,
     .offset = AT(flag),
     .fallback = "true",
     .help = "On or off."},
    {.name = "number",
     .type = SETTING_INT,
     .offset = AT(number),
     .fallback = "7",
     .min = 1,
     .max = 65535,
     .help = "A port."},
    {.name = "size",
     .type = SETTING_SIZE,
     .offset = AT(size),
     .fallback = "4GiB",
     .min = 1024 * 1024,
     .help = "Room | space."},
    {.name = "time",
     .type = SETTING_DURATION,
     .offset = AT(time_ms),
     .fallback = "100ms",
     .max = 60000,
     .help = "A while."},
    {.name = "choice",
     .type = SETTING_CHOICE,
     .offset = AT(choice),
     .fallback = "green",
     .choices = colours,
     .help = "A colour."},
    {.name = "list",
     .type = SETTING_LIST,
     .offset = AT(list),
     .fallback = "a,b",
     .check = check_word,
     .help = "Words."},
    {.name = "map", .type = SETTING_MAP, .offset = AT(map), .check = check_word, .help = "Pairs."},
    {.name = "section", .type = SETTING_CUSTOM, .help = "Another table."},
    {.name = NULL},
};

struct fixture {
    struct settings *settings;
    struct all all;
    int result;
    char *problems;
};

static struct fixture apply_rows(const char *yaml, const struct setting *table, const char *what)
{
    struct fixture f = {.settings = settings_parse("b.yaml", yaml, strlen(yaml))};
    memset(&f.all, 0x5a, sizeof f.all);
    f.result = settings_apply(f.settings, settings_root(f.settings), what, table, NULL, &f.all);
    f.problems = problems_of(f.settings);
    return f;
}

static struct fixture apply(const char *yaml)
{
    return apply_rows(yaml, rows, "sink lake");
}

static void done(struct fixture *f)
{
    settings_free(&f->settings);
    free(f->problems);
}

static struct fixture apply_well(const char *yaml)
{
    struct fixture f = apply(yaml);
    assert_string_equal(f.problems, "");
    assert_int_equal(f.result, 0);
    return f;
}

static void refuse(const char *yaml, const char *problems)
{
    struct fixture f = apply(yaml);
    assert_string_equal(f.problems, problems);
    assert_int_equal(f.result, -1);
    done(&f);
}

/* ---- what is taken ---- */

static void gives_defaults_where_the_file_says_nothing(void **state)
{
    (void)state;
    struct fixture f = apply_well("");
    assert_string_equal(f.all.text, "none");
    assert_null(f.all.secret);
    assert_true(f.all.flag);
    assert_int_equal(f.all.number, 7);
    assert_int_equal(f.all.size, UINT64_C(4) << 30);
    assert_int_equal(f.all.time_ms, 100);
    assert_int_equal(f.all.choice, 1);
    assert_int_equal(f.all.list.n, 2);
    assert_string_equal(f.all.list.items[1], "b");
    assert_int_equal(f.all.map.n, 0);
    done(&f);
}

static void reads_every_type(void **state)
{
    (void)state;
    struct fixture f = apply_well("text: lake\nsecret: 's3cret'\nflag: false\nnumber: 65535\n"
                                  "size: 64MiB\ntime: 1m\nchoice: blue\nlist: [x, 'y', true]\n"
                                  "map:\n  compression.type: lz4\n  acks: 1\nsection: {a: [b]}\n");
    assert_string_equal(f.all.text, "lake");
    assert_string_equal(f.all.secret, "s3cret");
    assert_false(f.all.flag);
    assert_int_equal(f.all.number, 65535);
    assert_int_equal(f.all.size, 64 << 20);
    assert_int_equal(f.all.time_ms, 60000);
    assert_int_equal(f.all.choice, 2);
    assert_int_equal(f.all.list.n, 3);
    assert_string_equal(f.all.list.items[2], "true");
    assert_int_equal(f.all.map.n, 2);
    assert_string_equal(f.all.map.pairs[1].key, "acks");
    assert_string_equal(f.all.map.pairs[1].value, "1");
    assert_int_equal(f.all.map.pairs[1].line, 11);
    done(&f);
}

static void takes_plain_words_and_quoted_ones_as_strings(void **state)
{
    (void)state;
    struct fixture f = apply_well("text: true\nsecret: \"~\"\nlist: 'null'\n");
    assert_string_equal(f.all.text, "true");
    assert_string_equal(f.all.secret, "~");
    assert_int_equal(f.all.list.n, 1);
    assert_string_equal(f.all.list.items[0], "null");
    done(&f);
}

static void takes_null_as_if_the_key_were_not_there(void **state)
{
    (void)state;
    struct fixture f = apply_well("text:\nnumber: ~\nlist: null\nmap:\nsection:\n");
    assert_string_equal(f.all.text, "none");
    assert_int_equal(f.all.number, 7);
    assert_int_equal(f.all.list.n, 2);
    assert_null(settings_text(settings_get(settings_root(f.settings), "text")));
    done(&f);
}

static void takes_a_lone_string_as_a_list_of_one(void **state)
{
    (void)state;
    struct fixture f = apply_well("list: a,b\n");
    assert_int_equal(f.all.list.n, 1);
    assert_string_equal(f.all.list.items[0], "a,b");
    done(&f);
    f = apply_well("list: []\nmap: {}\n");
    assert_int_equal(f.all.list.n, 0);
    done(&f);
}

static void takes_an_empty_section_as_an_empty_mapping(void **state)
{
    (void)state;
    const char *yaml = "http:\n";
    struct settings *s = settings_parse("b.yaml", yaml, strlen(yaml));
    struct all all;
    const struct settings_node *http = settings_get(settings_root(s), "http");
    assert_int_equal(settings_apply(s, http, "http", rows, NULL, &all), 0);
    assert_int_equal(settings_apply(s, NULL, "journal", rows, NULL, &all), 0);
    assert_int_equal(all.number, 7);
    assert_int_equal(settings_problems(s), 0);
    settings_free(&s);
}

static void reads_sizes_in_their_units(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        uint64_t bytes;
    } cases[] = {
        {"size: 1048576", 1 << 20},
        {"size: 1048577B", (1 << 20) + 1},
        {"size: 2048KiB", 2 << 20},
        {"size: 3MiB", 3 << 20},
        {"size: 4GiB", UINT64_C(4) << 30},
        {"size: 5TiB", UINT64_C(5) << 40},
        {"size: 2000kB", 2000000},
        {"size: 2000KB", 2000000},
        {"size: 10MB", 10000000},
        {"size: 10GB", UINT64_C(10000000000)},
        {"size: 1TB", UINT64_C(1000000000000)},
        {"size: 9223372036854775807", INT64_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f = apply_well(cases[i].yaml);
        assert_int_equal(f.all.size, cases[i].bytes);
        done(&f);
    }
}

static void reads_durations_in_their_units(void **state)
{
    (void)state;
    static const struct setting wide[] = {
        {.name = "time", .type = SETTING_DURATION, .offset = AT(time_ms)}, {.name = NULL}};
    static const struct {
        const char *yaml;
        int64_t ms;
    } cases[] = {
        {"time: 100ms", 100},    {"time: 15s", 15000},
        {"time: 5m", 300000},    {"time: 2h", 7200000},
        {"time: 7d", 604800000}, {"time: 0", 0},
        {"time: '0s'", 0},       {"time: 106751991167d", INT64_C(9223372036828800000)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f = apply_rows(cases[i].yaml, wide, NULL);
        assert_int_equal(f.result, 0);
        assert_int_equal(f.all.time_ms, cases[i].ms);
        done(&f);
    }
}

/* ---- what is refused ---- */

static void names_an_unknown_key_and_the_one_that_was_meant(void **state)
{
    (void)state;
    refuse("text: a\nnumbr: 3\n",
           "b.yaml:2: unknown key \"numbr\": expected one of choice, flag, list, map, number, "
           "secret, section, size, text, time in sink lake (did you mean \"number\"?)\n");
    refuse("1: a\n", "b.yaml:1: unknown key \"1\": expected one of choice, flag, list, map, "
                     "number, secret, section, size, text, time in sink lake\n");
}

static void offers_only_what_is_near(void **state)
{
    (void)state;
    static const struct setting table[] = {{.name = "brokers", .type = SETTING_CUSTOM},
                                           {.name = "key", .type = SETTING_CUSTOM},
                                           {.name = NULL}};
    static const struct {
        const char *yaml, *problems;
    } cases[] = {
        {"brokrs: 1",
         "b.yaml:1: unknown key \"brokrs\": expected one of brokers, key (did you mean "
         "\"brokers\"?)\n"},
        {"borkers: 1",
         "b.yaml:1: unknown key \"borkers\": expected one of brokers, key (did you mean "
         "\"brokers\"?)\n"},
        {"kye: 1",
         "b.yaml:1: unknown key \"kye\": expected one of brokers, key (did you mean \"key\"?)\n"},
        {"bro: 1", "b.yaml:1: unknown key \"bro\": expected one of brokers, key\n"},
        {"keys: 1",
         "b.yaml:1: unknown key \"keys\": expected one of brokers, key (did you mean \"key\"?)\n"},
        {"k: 1", "b.yaml:1: unknown key \"k\": expected one of brokers, key\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f = apply_rows(cases[i].yaml, table, "");
        assert_string_equal(f.problems, cases[i].problems);
        done(&f);
    }
}

static void knows_the_keys_of_the_other_table(void **state)
{
    (void)state;
    static const struct setting more[] = {{.name = "type", .type = SETTING_CUSTOM}, {.name = NULL}};
    const char *yaml = "type: kafka\nflag: true\ntpye: x\n";
    struct settings *s = settings_parse("b.yaml", yaml, strlen(yaml));
    struct all all;
    assert_int_equal(settings_apply(s, settings_root(s), "a", rows, more, &all), -1);
    assert_int_equal(settings_apply(s, settings_root(s), "a", more, rows, &all), -1);
    assert_int_equal(settings_problems(s), 1);
    settings_free(&s);
}

static void tells_a_missing_field(void **state)
{
    (void)state;
    static const struct setting table[] = {
        {.name = "brokers", .type = SETTING_STRING, .offset = AT(text), .required = true},
        {.name = "list", .type = SETTING_LIST, .offset = AT(list), .required = true},
        {.name = "map", .type = SETTING_MAP, .offset = AT(map), .required = true},
        {.name = NULL}};
    static const struct {
        const char *yaml, *problems;
    } cases[] = {
        {"\n\nlist: [a]\nmap: {a: b}", "b.yaml:3: missing \"brokers\": expected a string in s\n"},
        {"list: [a]\nbrokers: ~\nmap: {a: b}",
         "b.yaml:2: nothing found: expected a string for \"brokers\" of s\n"},
        {"list: [a]\nbrokers: ''\nmap: {a: b}",
         "b.yaml:2: empty string found: expected a string that is not empty for \"brokers\" of "
         "s\n"},
        {"brokers: a\nlist: []\nmap: {}",
         "b.yaml:2: empty sequence found: expected at least one string for \"list\" of s\n"
         "b.yaml:3: empty mapping found: expected at least one \"key: value\" for \"map\" of s\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f = apply_rows(cases[i].yaml, table, "s");
        assert_string_equal(f.problems, cases[i].problems);
        done(&f);
    }
}

static void tells_a_wrong_type(void **state)
{
    (void)state;
    refuse("text: [a]\n",
           "b.yaml:1: sequence found: expected a string for \"text\" of sink lake\n");
    refuse("secret: {a: b}\n",
           "b.yaml:1: mapping found: expected a string for \"secret\" of sink lake\n");
    refuse("flag: yes\n", "b.yaml:1: \"yes\": expected true or false for \"flag\" of sink lake\n");
    refuse("number: '8'\n", "b.yaml:1: \"8\" in quotes: expected a whole number of 1..65535 for "
                            "\"number\" of sink lake\n");
    refuse("number: 8x\n", "b.yaml:1: \"8x\": expected a whole number of 1..65535 for \"number\" "
                           "of sink lake\n");
    refuse("choice: [red]\n", "b.yaml:1: sequence found: expected one of red, green, blue for "
                              "\"choice\" of sink lake\n");
    refuse("list: {a: b}\n", "b.yaml:1: mapping found: expected a string or a sequence of strings "
                             "for \"list\" of sink lake\n");
    refuse("map: [a]\n", "b.yaml:1: sequence found: expected a mapping of strings for \"map\" of "
                         "sink lake\n");
    refuse("map: lz4\n", "b.yaml:1: single value found: expected a mapping of strings for \"map\" "
                         "of sink lake\n");
}

static void tells_a_wrong_section(void **state)
{
    (void)state;
    const char *yaml = "http: 127.0.0.1:8484\nsinks:\n  - [a]\n";
    struct settings *s = settings_parse("b.yaml", yaml, strlen(yaml));
    const struct settings_node *root = settings_root(s);
    struct all all;
    assert_int_equal(settings_apply(s, settings_get(root, "http"), "http", rows, NULL, &all), -1);
    assert_int_equal(all.number, 7);
    const struct settings_node *sink = settings_item(settings_get(root, "sinks"), 0);
    assert_int_equal(settings_apply(s, sink, NULL, rows, NULL, &all), -1);
    char *problems = problems_of(s);
    assert_string_equal(problems, "b.yaml:1: single value found: expected a mapping for http\n"
                                  "b.yaml:3: sequence found: expected a mapping\n");
    free(problems);
    settings_free(&s);
}

static void tells_the_range(void **state)
{
    (void)state;
    refuse("number: 70000\n", "b.yaml:1: \"70000\": expected a whole number of 1..65535 for "
                              "\"number\" of sink lake\n");
    refuse("number: -99999999999999999999\n",
           "b.yaml:1: \"-99999999999999999999\": expected a whole number of 1..65535 for "
           "\"number\" of sink lake\n");
    refuse("size: 5KiB\n", "b.yaml:1: \"5KiB\": expected a size (512, 64KiB, 4GiB, 10MB) of at "
                           "least 1MiB for \"size\" of sink lake\n");
    refuse("size: 9007199254740993KiB\n",
           "b.yaml:1: \"9007199254740993KiB\": expected a size (512, 64KiB, 4GiB, 10MB) of at "
           "least 1MiB for \"size\" of sink lake\n");
    refuse("time: 61s\n", "b.yaml:1: \"61s\": expected a time with its unit (ms, s, m, h, d) of "
                          "0..1m for \"time\" of sink lake\n");
    refuse("time: 99999999999999999d\n",
           "b.yaml:1: \"99999999999999999d\": expected a time with its unit (ms, s, m, h, d) of "
           "0..1m for \"time\" of sink lake\n");
}

static void is_not_fooled_by_numbers_that_wrap_around(void **state)
{
    (void)state;
    static const char *const texts[] = {"number: 18446744073709551696", "size: 16777217TiB",
                                        "size: 18446744073710551616", "time: 213503982335d"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct fixture f = apply(texts[i]);
        assert_int_equal(f.result, -1);
        assert_int_equal(settings_problems(f.settings), 1);
        done(&f);
    }
}

static void takes_only_what_is_not_negative_where_no_limits_are_given(void **state)
{
    (void)state;
    static const struct setting table[] = {
        {.name = "number", .type = SETTING_INT, .offset = AT(number)}, {.name = NULL}};
    struct fixture f = apply_rows("number: 9223372036854775807", table, NULL);
    assert_int_equal(f.all.number, INT64_MAX);
    done(&f);
    f = apply_rows("number: 9223372036854775808", table, NULL);
    assert_string_equal(f.problems, "b.yaml:1: \"9223372036854775808\": expected a whole number "
                                    "of at least 0 for \"number\"\n");
    done(&f);
    f = apply_rows("number: -1", table, NULL);
    assert_string_equal(f.problems, "b.yaml:1: \"-1\": expected a whole number of at least 0 for "
                                    "\"number\"\n");
    done(&f);
}

static void tells_the_units(void **state)
{
    (void)state;
    refuse("time: 100\n", "b.yaml:1: \"100\" without unit: expected a time with its unit (ms, s, "
                          "m, h, d) of 0..1m for \"time\" of sink lake\n");
    refuse("time: 1.5s\n", "b.yaml:1: \"1.5s\": expected a time with its unit (ms, s, m, h, d) of "
                           "0..1m for \"time\" of sink lake\n");
    refuse("size: 4G\n", "b.yaml:1: \"4G\": expected a size (512, 64KiB, 4GiB, 10MB) of at least "
                         "1MiB for \"size\" of sink lake\n");
    refuse("size: -4MiB\n", "b.yaml:1: \"-4MiB\": expected a size (512, 64KiB, 4GiB, 10MB) of at "
                            "least 1MiB for \"size\" of sink lake\n");
}

static void lists_the_choices(void **state)
{
    (void)state;
    refuse("choice: purple\n", "b.yaml:1: \"purple\": expected one of red, green, blue for "
                               "\"choice\" of sink lake\n");
}

static void asks_the_rows_own_check(void **state)
{
    (void)state;
    refuse("text: two words\n",
           "b.yaml:1: \"two words\": expected one word for \"text\" of sink lake\n");
    refuse("list:\n  - a\n  - b c\n  - [d]\n  -\n",
           "b.yaml:3: \"b c\": expected one word for \"list\" of sink lake\n"
           "b.yaml:4: sequence found: expected a string in each item for \"list\" of sink lake\n"
           "b.yaml:5: empty item found: expected a string in each item for \"list\" of sink "
           "lake\n");
}

static void never_shows_a_secret(void **state)
{
    (void)state;
    refuse("secret: hunter 2\n",
           "b.yaml:1: a value that is not shown: expected one word for \"secret\" of sink lake\n");
    refuse("map: {password: hunter 2}\n",
           "b.yaml:1: the value of \"password\": expected one word for \"map\" of sink lake\n");
    refuse("text: redis://me:hunter@2@h/ x\n",
           "b.yaml:1: \"redis://***@h/ x\": expected one word for \"text\" of sink lake\n");
    refuse("text: me:hunter2@h x\n",
           "b.yaml:1: \"***@h x\": expected one word for \"text\" of sink lake\n");
    refuse("secret: [hunter 2]\n",
           "b.yaml:1: sequence found: expected a string for \"secret\" of sink lake\n");
}

static void collects_all_problems_by_line_and_each_once(void **state)
{
    (void)state;
    const char *yaml = "text: a\nflag: 1\nnumber: x\n";
    struct settings *s = settings_parse("b.yaml", yaml, strlen(yaml));
    const struct settings_node *root = settings_root(s);
    struct all all;
    settings_problem(s, settings_get(root, "number"), "last: expected %s", "nothing");
    settings_apply(s, root, "", rows, NULL, &all);
    settings_apply(s, root, "", rows, NULL, &all);
    settings_problem(s, NULL, "as a whole\nwrong: expected better");
    char *problems = problems_of(s);
    assert_string_equal(problems,
                        "b.yaml:1: as a whole wrong: expected better\n"
                        "b.yaml:2: \"1\": expected true or false for \"flag\"\n"
                        "b.yaml:3: last: expected nothing\n"
                        "b.yaml:3: \"x\": expected a whole number of 1..65535 for \"number\"\n");
    assert_int_equal(settings_problems(s), 4);
    free(problems);
    settings_free(&s);
}

static void keeps_the_first_thousand_problems(void **state)
{
    (void)state;
    struct settings *s = settings_parse("b.yaml", "", 0);
    for (int i = 0; i < 1005; i++)
        settings_problem(s, NULL, "number %d", i);
    char *problems = problems_of(s);
    assert_int_equal(settings_problems(s), 1005);
    assert_non_null(strstr(problems, "b.yaml:1: number 999\n"));
    assert_non_null(strstr(problems, "b.yaml:1: 5 more mistakes: expected none\n"));
    free(problems);
    settings_free(&s);
}

static void cuts_what_is_long(void **state)
{
    (void)state;
    char yaml[400] = "flag: x";
    for (int i = 0; i < 100; i++)
        memcpy(yaml + 7 + 2 * i, "\xc3\xa9", 3);
    struct fixture f = apply(yaml);
    const char *end = strstr(f.problems, "\xc3\xa9...\": expected true or false");
    assert_non_null(end);
    assert_true(end - f.problems < 100);
    done(&f);
}

/* ---- the reference ---- */

static void documents_its_rows_as_a_table(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    settings_document(rows, "Sink", to);
    fclose(to);
    assert_string_equal(text, "### Sink\n\n"
                              "| setting | type | default | allowed | what it does |\n"
                              "|---|---|---|---|---|\n"
                              "| `text` | string | `none` |  | A word. |\n"
                              "| `secret` | string (secret) |  |  | A password. |\n"
                              "| `flag` | true or false | `true` |  | On or off. |\n"
                              "| `number` | whole number | `7` | 1..65535 | A port. |\n"
                              "| `size` | size | `4GiB` | at least 1MiB | Room \\| space. |\n"
                              "| `time` | duration | `100ms` | 0..1m | A while. |\n"
                              "| `choice` | choice | `green` | red, green, blue | A colour. |\n"
                              "| `list` | list of strings | `a,b` |  | Words. |\n"
                              "| `map` | mapping of strings |  |  | Pairs. |\n"
                              "| `section` | section |  |  | Another table. |\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_defaults_where_the_file_says_nothing),
        cmocka_unit_test(reads_every_type),
        cmocka_unit_test(takes_plain_words_and_quoted_ones_as_strings),
        cmocka_unit_test(takes_null_as_if_the_key_were_not_there),
        cmocka_unit_test(takes_a_lone_string_as_a_list_of_one),
        cmocka_unit_test(takes_an_empty_section_as_an_empty_mapping),
        cmocka_unit_test(reads_sizes_in_their_units),
        cmocka_unit_test(reads_durations_in_their_units),
        cmocka_unit_test(names_an_unknown_key_and_the_one_that_was_meant),
        cmocka_unit_test(offers_only_what_is_near),
        cmocka_unit_test(knows_the_keys_of_the_other_table),
        cmocka_unit_test(tells_a_missing_field),
        cmocka_unit_test(tells_a_wrong_type),
        cmocka_unit_test(tells_a_wrong_section),
        cmocka_unit_test(tells_the_range),
        cmocka_unit_test(is_not_fooled_by_numbers_that_wrap_around),
        cmocka_unit_test(takes_only_what_is_not_negative_where_no_limits_are_given),
        cmocka_unit_test(tells_the_units),
        cmocka_unit_test(lists_the_choices),
        cmocka_unit_test(asks_the_rows_own_check),
        cmocka_unit_test(never_shows_a_secret),
        cmocka_unit_test(collects_all_problems_by_line_and_each_once),
        cmocka_unit_test(keeps_the_first_thousand_problems),
        cmocka_unit_test(cuts_what_is_long),
        cmocka_unit_test(documents_its_rows_as_a_table),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
