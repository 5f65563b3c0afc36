/* test_redact_model.c - redaction held against the plain reading of the paths, on random and on
 * recorded texts. */
#include "bridge/redact.h"
#include "tests/fuzz/redact_oracle.h"
#include "tests/unit/check.h"
#include "tests/unit/fixture.h"

#include <jansson.h>

#include <string.h>

enum { PATHS_MAX = 8, ROUNDS = 40000 };

static uint64_t seed;

static size_t any(size_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)(seed % n);
}

static const char *any_of(const char *const *list, size_t n)
{
    return list[any(n)];
}
#define ANY_OF(...)                            \
    any_of((const char *const[]){__VA_ARGS__}, \
           sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void blank(struct buf *b)
{
    if (any(6) == 0)
        buf_append_cstr(b, ANY_OF(" ", "\n", "\t ", "\r\n"));
}

static void any_json(struct buf *b, unsigned depth)
{
    size_t kind = any(depth > 0 ? 6 : 2), n = any(5);
    if (kind < 2) {
        buf_append_cstr(b, ANY_OF("1", "-2.5e3", "\"a\"", "\"\\\"b\\\":1\"", "null", "true", "{}",
                                  "[]", "18446744073709551615", "\"\xc3\xa9 \\u00e9 {[\\\\\"",
                                  "\"0123456789abcdef0123456789\""));
        return;
    }
    buf_append_char(b, kind % 2 == 0 ? '{' : '[');
    for (size_t i = 0; i < n; i++) {
        buf_append_cstr(b, i > 0 ? "," : "");
        blank(b);
        if (kind % 2 == 0) {
            buf_append_cstr(b, ANY_OF("\"a\"", "\"b\"", "\"\\u0061\"", "\"c d\"", "\"\"",
                                      "\"\xc3\xa9\"", "\"\\u00e9\"", "\"Env\"", "\"a\\\\\""));
            blank(b);
            buf_append_char(b, ':');
            blank(b);
        }
        any_json(b, depth - 1);
        blank(b);
    }
    buf_append_char(b, kind % 2 == 0 ? '}' : ']');
}

static void any_path(struct buf *b)
{
    buf_append_char(b, '$');
    for (size_t n = 1 + any(4); n > 0; n--)
        buf_append_cstr(b, ANY_OF(".a", ".b", "['c d']", "['']", ".\xc3\xa9", "..a", "..Env", "..*",
                                  ".*", "[*]", "[0]", "[2]", "..[1]", "..['b']", "['a\\\\']"));
}

static void replaces_what_the_plain_reading_says(void **state)
{
    (void)state;
    size_t replaced = 0;
    seed = 88172645463325252u;
    for (size_t round = 0; round < ROUNDS; round++) {
        struct buf texts[PATHS_MAX] = {{0}}, data = {0}, out = {0};
        const char *items[PATHS_MAX];
        struct setting_list paths = {items, 1 + any(PATHS_MAX)};
        struct redact *redact = NULL;
        for (size_t i = 0; i < paths.n; i++) {
            any_path(&texts[i]);
            items[i] = buf_cstr(&texts[i]);
        }
        any_json(&data, 6);
        assert_int_equal(redact_new(&redact, &paths, NULL), 0);
        const char *wrong = redact_oracle_compare(redact, &paths, buf_str(&data));
        if (wrong != NULL)
            fail_msg("round %zu, %s: %s", round, buf_cstr(&data), wrong);
        replaced += redact_apply(redact, buf_str(&data), &out);
        for (size_t i = 0; i < paths.n; i++)
            buf_fini(&texts[i]);
        redact_free(&redact);
        buf_fini(&data);
        buf_fini(&out);
    }
    assert_in_range(replaced, ROUNDS / 4, ROUNDS);
}

/* What Nomad really sent, and jansson as a third opinion on what leaves. */
static void redacts_recorded_events(void **state)
{
    (void)state;
    static const char *const items[] = {"$..Env", "$..Meta.*",
                                        "$.Events[*].Payload.Job.TaskGroups[*].Tasks[0].Config",
                                        "$..['driver.raw_exec']"};
    const struct setting_list paths = {items, 4};
    struct buf file = fixture_read("nomad/capture.ndjson"), out = {0};
    struct redact *redact = NULL;
    size_t replaced = 0;
    assert_int_equal(redact_new(&redact, &paths, NULL), 0);
    for (const char *p = file.p, *end = p + file.len, *lf; p < end; p = lf + 1) {
        lf = memchr(p, '\n', (size_t)(end - p));
        assert_non_null(lf);
        struct str line = {p, (size_t)(lf - p)};
        assert_null(redact_oracle_compare(redact, &paths, line));
        if (!redact_apply(redact, line, &out))
            continue;
        json_t *tree = json_loadb(out.p, out.len, 0, NULL);
        assert_non_null(tree);
        json_decref(tree);
        replaced++;
    }
    assert_in_range(replaced, 20, 384);
    redact_free(&redact);
    buf_fini(&file);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaces_what_the_plain_reading_says),
        cmocka_unit_test(redacts_recorded_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
