/* test_json_scan.c - json_scan accepts what jansson accepts, gives what stands there, stops where
 * it is wrong. */
#include "connectors/json_scan.h"
#include "tests/fuzz/json_oracle.h"
#include "tests/unit/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* Skips the whole text; the copy is as long as the text, so that ASan sees a load past its end. */
static bool valid(struct str text, char wrong[512])
{
    char *exact = mem_alloc(text.len);
    memcpy(exact, text.p, text.len);
    struct json_scan scan;
    struct err err = {0};
    json_scan_init(&scan, (struct str){exact, text.len});
    bool good = json_scan_skip(&scan, NULL) && json_scan_end(&scan);
    if (!good)
        json_scan_fail(&scan, &err);
    if (wrong != NULL)
        memcpy(wrong, err.msg, sizeof err.msg);
    free(exact);
    return good;
}

static void accepts_what_the_grammar_allows(void **state)
{
    (void)state;
    const struct str texts[] = {
        STR("{}"),
        STR("[]"),
        STR(" [ ] "),
        STR("{\"a\":1}"),
        STR("\t{\r\n\"a\" : [ 1 , 2 ] }\n"),
        STR("0"),
        STR("-0"),
        STR("-1.5e+10"),
        STR("1E5"),
        STR("0.0"),
        STR("true"),
        STR("false"),
        STR("null"),
        STR("\"\""),
        STR("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83d\\uDe00\""),
        STR("\"\x7f\""),
        STR("\"\xc3\xa9 \xe2\x80\xa8 \xf0\x9f\x98\x80\""),
        STR("{\"a\":1,\"a\":2}"),
        STR("[\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"]"),
        /* and what jansson would refuse: nobody computes with it here */
        STR("123456789012345678901234567890"),
        STR("-99999999999999999999"),
        STR("1e999"),
        STR("{\"a\\u0000b\":0}"),
        STR("\"\\u0000\""),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!valid(texts[i], NULL))
            fail_msg("refused: %.*s", STR_ARG(texts[i]));
}

static void says_what_is_wrong_and_where(void **state)
{
    (void)state;
    const struct {
        struct str text;
        const char *wrong;
    } rows[] = {
        {STR(""), "byte 0: the text ends before a value"},
        {STR("  "), "byte 2: the text ends before a value"},
        {STR("{} x"), "byte 3: more text behind the value"},
        {STR("{}{}"), "byte 2: more text behind the value"},
        {STR("{\"a\":1,}"), "byte 7: a member without a name"},
        {STR("{a:1}"), "byte 1: a member without a name"},
        {STR("{\"a\" 1}"), "byte 5: a member without a colon"},
        {STR("[1,]"), "byte 3: not a value"},
        {STR("[,1]"), "byte 1: not a value"},
        {STR("[1 2]"), "byte 3: neither a comma nor the closing bracket"},
        {STR("[1}"), "byte 2: neither a comma nor the closing bracket"},
        {STR("{\"a\":[1}"), "byte 7: neither a comma nor the closing bracket"},
        {STR("[1"), "byte 2: neither a comma nor the closing bracket"},
        {STR("]"), "byte 0: not a value"},
        {STR("01"), "byte 1: more text behind the value"},
        {STR("-"), "byte 1: a digit is missing"},
        {STR("-x"), "byte 1: a digit is missing"},
        {STR("1."), "byte 2: a digit is missing"},
        {STR("1.e5"), "byte 2: a digit is missing"},
        {STR("1e+"), "byte 3: a digit is missing"},
        {STR("+1"), "byte 0: not a value"},
        {STR(".5"), "byte 0: not a value"},
        {STR("NaN"), "byte 0: not a value"},
        {STR("nul"), "byte 0: not a value"},
        {STR("truE"), "byte 0: not a value"},
        {STR("nulll"), "byte 4: more text behind the value"},
        {STR("\"a"), "byte 2: the text ends in a string"},
        {STR("\"\\"), "byte 1: the text ends in an escape"},
        {STR("\"\\x\""), "byte 1: an unknown escape"},
        {STR("\"\\\0\""), "byte 1: an unknown escape"},
        {STR("\"\\u12\""), "byte 1: \\u without four hex digits"},
        {STR("\"\\u00g0\""), "byte 1: \\u without four hex digits"},
        {STR("\"\\ude00\""), "byte 1: a low surrogate without a high one"},
        {STR("\"\\ud83d\""), "byte 1: a high surrogate without a low one"},
        {STR("\"\\ud83d\\u0041\""), "byte 1: a high surrogate without a low one"},
        {STR("\"a\nb\""), "byte 2: a control character in a string"},
        {STR("\"a\0b\""), "byte 2: a control character in a string"},
        {STR("\"a\xff\""), "byte 2: bytes that are not UTF-8"},
        {STR("\xef\xbb\xbf{}"), "byte 0: not a value"},
        {STR("[\x0b]"), "byte 1: not a value"},
        {STR("[1,\0]"), "byte 3: not a value"},
    };
    char wrong[512];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_false(valid(rows[i].text, wrong));
        assert_string_equal(wrong, rows[i].wrong);
    }
}

/* Overlong, surrogates, past U+10FFFF, cut short (RFC 3629, section 4). */
static void refuses_bytes_that_are_not_utf8(void **state)
{
    (void)state;
    const struct str texts[] = {STR("\"\xc0\x80\""),         STR("\"\xe0\x9f\xbf\""),
                                STR("\"\xed\xa0\x80\""),     STR("\"\xf0\x8f\xbf\xbf\""),
                                STR("\"\xf4\x90\x80\x80\""), STR("\"\xf5\x80\x80\x80\""),
                                STR("\"\xe2\x80\""),         STR("\"\xe2\x80")};
    char wrong[512];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_false(valid(texts[i], wrong));
        assert_string_equal(wrong, "byte 1: bytes that are not UTF-8");
    }
}

/* Whatever the length of a string, and wherever in it the odd byte is: no step of the search may
 * pass it, none may read behind the text. */
static void finds_the_odd_byte_at_every_place_in_a_string(void **state)
{
    (void)state;
    static const char odd[] = {'"', '\\', '\x1f', '\0', '\x80', '\xff'};
    char text[80];
    for (size_t len = 0; len < 70; len++)
        for (size_t at = 0; at < len; at++)
            for (size_t i = 0; i < sizeof odd; i++) {
                memset(text, 'x', sizeof text);
                text[0] = '"';
                text[at + 1] = odd[i];
                text[len + 1] = '"';
                assert_false(valid((struct str){text, len + 2}, NULL));
                text[at + 1] = '~';
                assert_true(valid((struct str){text, len + 2}, NULL));
                assert_false(valid((struct str){text, len + 1}, NULL));
            }
}

static bool walk_nested(struct str text)
{
    struct json_scan scan;
    json_scan_init(&scan, text);
    while (json_scan_peek(&scan) == JSON_SCAN_ARRAY && json_scan_array(&scan))
        if (!json_scan_element(&scan))
            break;
    while (scan.depth > 0 && scan.wrong == NULL)
        json_scan_element(&scan);
    return json_scan_end(&scan);
}

static void nests_to_the_limit_and_no_deeper(void **state)
{
    (void)state;
    char wrong[512], text[2 * JSON_SCAN_DEPTH_MAX + 2];
    for (size_t depth = JSON_SCAN_DEPTH_MAX; depth <= JSON_SCAN_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        struct str nested = {text, 2 * depth};
        assert_int_equal(valid(nested, wrong), depth == JSON_SCAN_DEPTH_MAX);
        assert_int_equal(walk_nested(nested), depth == JSON_SCAN_DEPTH_MAX);
    }
    assert_string_equal(wrong, "byte 512: nested too deeply");
    /* What was entered by the cursor counts too. */
    struct json_scan scan;
    json_scan_init(&scan, (struct str){text, sizeof text});
    assert_true(json_scan_array(&scan) && json_scan_element(&scan));
    assert_false(json_scan_skip(&scan, NULL));
    assert_string_equal(scan.wrong, "nested too deeply");
}

static void a_million_brackets_need_no_stack(void **state)
{
    (void)state;
    size_t n = 1000000;
    char *text = mem_alloc(n);
    memset(text, '[', n);
    assert_false(valid((struct str){text, n}, NULL));
    free(text);
}

static void walks_objects_and_arrays(void **state)
{
    (void)state;
    struct str text = STR(" { \"a\" : { \"x\":[1,{}] } , \"b\":[ \"p\" , -2 ] ,\"n\":7 } ");
    struct json_scan scan;
    struct json_scan_string name, string;
    struct str raw;
    uint64_t n;
    json_scan_init(&scan, text);
    assert_int_equal(json_scan_peek(&scan), JSON_SCAN_OBJECT);
    assert_true(json_scan_object(&scan));
    assert_true(json_scan_member(&scan, &name) && str_is(name.raw, "a"));
    assert_true(json_scan_skip(&scan, &raw) && str_is(raw, "{ \"x\":[1,{}] }"));
    assert_true(json_scan_member(&scan, &name) && str_is(name.raw, "b"));
    assert_true(json_scan_array(&scan) && json_scan_element(&scan));
    assert_true(json_scan_string(&scan, &string) && str_is(string.raw, "p"));
    assert_true(json_scan_element(&scan));
    assert_true(json_scan_skip(&scan, &raw) && str_is(raw, "-2"));
    assert_false(json_scan_element(&scan));
    assert_true(json_scan_member(&scan, &name) && str_is(name.raw, "n"));
    assert_true(json_scan_u64(&scan, &n) && n == 7);
    assert_false(json_scan_member(&scan, &name));
    assert_true(json_scan_end(&scan));
}

static void a_mistake_stays(void **state)
{
    (void)state;
    struct json_scan scan;
    struct json_scan_string string;
    uint64_t n;
    json_scan_init(&scan, STR("[1,?]"));
    assert_true(json_scan_array(&scan) && json_scan_element(&scan));
    assert_false(json_scan_string(&scan, &string));
    assert_string_equal(scan.wrong, "not a string");
    assert_int_equal(scan.p - scan.start, 1);
    assert_int_equal(json_scan_peek(&scan), JSON_SCAN_NONE);
    assert_false(json_scan_object(&scan) || json_scan_array(&scan) || json_scan_element(&scan));
    assert_false(json_scan_member(&scan, &string) || json_scan_skip(&scan, NULL));
    assert_false(json_scan_u64(&scan, &n) || json_scan_end(&scan));
    assert_string_equal(scan.wrong, "not a string");
    assert_int_equal(scan.p - scan.start, 1);
}

static void an_open_container_is_no_end(void **state)
{
    (void)state;
    struct json_scan scan;
    json_scan_init(&scan, STR("["));
    assert_true(json_scan_array(&scan));
    assert_false(json_scan_end(&scan));
}

static void reads_unsigned_integers_of_64_bits(void **state)
{
    (void)state;
    struct json_scan scan;
    uint64_t n;
    json_scan_init(&scan, STR("18446744073709551615"));
    assert_true(json_scan_u64(&scan, &n) && n == UINT64_MAX);
    const struct str others[] = {STR("18446744073709551616"),
                                 STR("99999999999999999999"),
                                 STR("-1"),
                                 STR("1.0"),
                                 STR("1e3"),
                                 STR("\"1\""),
                                 STR("null"),
                                 STR("[1]")};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        json_scan_init(&scan, others[i]);
        assert_false(json_scan_u64(&scan, &n));
        assert_null(scan.wrong);
        assert_true(json_scan_end(&scan));
    }
}

static void unescapes_to_utf8(void **state)
{
    (void)state;
    struct buf out = {0};
    buf_append_cstr(&out, "before:");
    json_scan_unescape(&out, STR("a\\\"\\\\\\/\\b\\f\\n\\r\\tz\\u0041\\u00e9\\u20AC\\uD83D\\uDE00"
                                 "\\u0000\\u003c\xc3\xa9"));
    struct str want =
        STR("before:a\"\\/\b\f\n\r\tzA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\0<\xc3\xa9");
    assert_true(str_eq(buf_str(&out), want));
    buf_fini(&out);
}

/* ---- random texts ---- */

static uint64_t random_state = 20211;

static unsigned random_below(unsigned n)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(random_state >> 33) % n;
}

static void put_one_of(struct buf *out, const char *const *list, unsigned n)
{
    buf_append_cstr(out, list[random_below(n)]);
}

static void put_string(struct buf *out)
{
    static const char *const parts[] = {
        "a",
        "plain text of some length",
        "\\n",
        "\\\"",
        "\\\\",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\\ud83d",
        "\\udc00",
        "\xc3\xa9",
        "\xe2\x80\xa8",
        "\xf0\x9f\x98\x80",
        "\xed\xa0\x80",
        "\xc3",
        "\\u0000",
        "\t",
        "\x7f",
        "/",
        "0123456789abcdef0123456789abcdef",
        "",
        "{\"",
        "\\u12",
        "}",
    };
    buf_append_char(out, '"');
    for (unsigned n = random_below(4); n > 0; n--)
        put_one_of(out, parts, random_below(3) > 0 ? 7 : sizeof parts / sizeof *parts);
    buf_append_char(out, '"');
}

static void put_value(struct buf *out, unsigned depth)
{
    static const char *const scalars[] = {
        "0",
        "-0",
        "1",
        "-12",
        "1.5",
        "1e5",
        "-1E-7",
        "true",
        "false",
        "null",
        "18446744073709551616",
        "1e400",
        "01",
        "1.",
        "-",
        "tru",
        ".5",
        "9223372036854775807",
        "-9223372036854775809",
        "\"\"",
    };
    static const char *const spaces[] = {"", "", "", "", " ", "\n", "\t\r\n  ", "\v"};
    unsigned kind = random_below(depth > 0 ? 8 : 4), n = random_below(4);
    unsigned n_spaces = random_below(20) > 0 ? 7 : 8;
    put_one_of(out, spaces, n_spaces);
    if (kind < 2) {
        put_string(out);
    } else if (kind < 4) {
        put_one_of(out, scalars, random_below(10) > 0 ? 10 : sizeof scalars / sizeof *scalars);
    } else {
        bool object = kind < 6;
        buf_append_char(out, object ? '{' : '[');
        for (unsigned i = 0; i < n; i++) {
            if (i > 0)
                buf_append_char(out, ',');
            if (object) {
                put_string(out);
                put_one_of(out, spaces, n_spaces);
                buf_append_char(out, ':');
            }
            put_value(out, depth - 1);
        }
        buf_append_char(out, object ? '}' : ']');
    }
    put_one_of(out, spaces, n_spaces);
}

/* One byte more, less or other. */
static void mutate(struct buf *text)
{
    static const char bytes[] = "\"\\{}[]:,0123456789-+.eEtfnu \t\n\r\0\x1f\x80\xc3\xe2\xff";
    unsigned at = random_below((unsigned)text->len);
    char byte = bytes[random_below(sizeof bytes - 1)];
    switch (random_below(3)) {
    case 0:
        text->p[at] = byte;
        break;
    case 1:
        buf_append_char(text, '\0');
        memmove(text->p + at + 1, text->p + at, text->len - 1 - at);
        text->p[at] = byte;
        break;
    default:
        memmove(text->p + at, text->p + at + 1, text->len - 1 - at);
        text->len--;
    }
}

static void agrees_with_jansson(struct str text)
{
    const char *wrong = json_oracle_compare(text);
    if (wrong != NULL)
        fail_msg("%s: %.*s", wrong, STR_ARG(text));
}

static void agrees_with_jansson_on_random_and_mutated_texts(void **state)
{
    (void)state;
    struct buf text = {0};
    for (int i = 0; i < 40000; i++) {
        buf_clear(&text);
        put_value(&text, 4);
        agrees_with_jansson(buf_str(&text));
        for (int j = 0; j < 3 && text.len > 0; j++) {
            mutate(&text);
            agrees_with_jansson(buf_str(&text));
        }
    }
    buf_fini(&text);
}

static void agrees_with_jansson_on_mutated_lines_of_nomad(void **state)
{
    (void)state;
    struct buf file = fixture_read("nomad/capture.ndjson"), text = {0};
    const char *p = file.p, *end = file.p + file.len, *lf;
    for (; p < end && (lf = memchr(p, '\n', (size_t)(end - p))) != NULL; p = lf + 1) {
        buf_clear(&text);
        buf_append(&text, p, (size_t)(lf - p));
        agrees_with_jansson(buf_str(&text));
        for (int j = 0; j < 5 && text.len > 0 && text.len < 8192; j++) {
            mutate(&text);
            agrees_with_jansson(buf_str(&text));
        }
    }
    buf_fini(&text);
    buf_fini(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_what_the_grammar_allows),
        cmocka_unit_test(says_what_is_wrong_and_where),
        cmocka_unit_test(refuses_bytes_that_are_not_utf8),
        cmocka_unit_test(finds_the_odd_byte_at_every_place_in_a_string),
        cmocka_unit_test(nests_to_the_limit_and_no_deeper),
        cmocka_unit_test(a_million_brackets_need_no_stack),
        cmocka_unit_test(walks_objects_and_arrays),
        cmocka_unit_test(a_mistake_stays),
        cmocka_unit_test(an_open_container_is_no_end),
        cmocka_unit_test(reads_unsigned_integers_of_64_bits),
        cmocka_unit_test(unescapes_to_utf8),
        cmocka_unit_test(agrees_with_jansson_on_random_and_mutated_texts),
        cmocka_unit_test(agrees_with_jansson_on_mutated_lines_of_nomad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
