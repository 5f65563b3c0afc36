/* test_marathon_snapshot_split.c - an answer's array taken apart while it arrives, wherever the
 * network cuts it. */
#include "connectors/marathon/marathon_snapshot_split.h"
#include "tests/unit/check.h"

#include <stdio.h>
#include <string.h>

struct taken {
    struct buf text; /* each element with "|" */
    size_t n, refuse_at;
};

static int take(void *arg, struct str element, struct err *err)
{
    struct taken *t = arg;
    if (t->refuse_at > 0 && ++t->n == t->refuse_at)
        return err_set(err, ERR_FATAL, "refused");
    buf_append_str(&t->text, element);
    buf_append_char(&t->text, '|');
    return 0;
}

/* Feeds `text` in pieces of `piece` bytes. */
static int split(struct taken *t, const char *member, const char *text, size_t piece,
                 struct err *err)
{
    struct marathon_split s;
    struct str left = str_from(text);
    int rc = 0;
    marathon_split_init(&s, member, 32);
    s.take = take;
    s.arg = t;
    while (rc == 0 && left.len > 0) {
        size_t n = left.len < piece ? left.len : piece;
        rc = marathon_split_feed(&s, (struct str){left.p, n}, err);
        left = (struct str){left.p + n, left.len - n};
    }
    if (rc == 0)
        rc = marathon_split_end(&s, err);
    t->n = s.too_long;
    marathon_split_fini(&s);
    return rc;
}

static void gives(const char *member, const char *text, const char *expected)
{
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        struct taken t = {.n = 0};
        struct err err;
        if (split(&t, member, text, piece, &err) != 0)
            fail_msg("%s in pieces of %zu: %s", text, piece, err.msg);
        assert_string_equal(buf_cstr(&t.text), expected);
        buf_fini(&t.text);
    }
}

static void fails(const char *member, const char *text, const char *why)
{
    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        struct taken t = {.n = 0};
        struct err err;
        if (split(&t, member, text, piece, &err) == 0)
            fail_msg("%s in pieces of %zu: taken", text, piece);
        assert_int_equal(err.kind, ERR_RETRY);
        if (strstr(err.msg, why) == NULL)
            fail_msg("%s: \"%s\" does not say \"%s\"", text, err.msg, why);
        buf_fini(&t.text);
    }
}

static void elements_come_as_they_stand_there(void **state)
{
    (void)state;
    gives(NULL, "[]", "");
    gives(NULL, " [ \r\n] ", "");
    gives(NULL, "[{}]", "{}|");
    gives(NULL, "[ {\"a\": [1,{}]} ,\n[2,[3]],\"x\" , 4]", "{\"a\": [1,{}]}|[2,[3]]|\"x\"|4|");
    gives(NULL, "[{\"a\":\"],}[{\\\"\\\\\"},\"\\\\\"]", "{\"a\":\"],}[{\\\"\\\\\"}|\"\\\\\"|");
    gives(NULL, "[\"\xc3\xa4\xf0\x9f\x9a\x8c\"]", "\"\xc3\xa4\xf0\x9f\x9a\x8c\"|");
}

static void the_array_is_found_among_other_members(void **state)
{
    (void)state;
    gives("apps", "{\"apps\":[1,2]}", "1|2|");
    gives("apps", "{ \"x\" : [9,{\"apps\":[8]}], \"apps\" : [ 1 ] , \"y\":\"apps\" }", "1|");
    gives("apps", "{\"x\":\"apps\",\"apps\":[]}", "");
    gives("apps", "{\"\\\"apps\":[7],\"apps\":[1]}", "1|");
}

static void what_is_no_such_list_is_refused(void **state)
{
    (void)state;
    fails(NULL, "", "not JSON");
    fails(NULL, "null", "not a list");
    fails(NULL, "{\"message\":\"no\"}", "not a list");
    fails(NULL, "<html>[1]</html>", "not JSON");
    fails("apps", "[1]", "not an object with a list \"apps\"");
    fails("apps", "{\"apps\":null}", "not an object with a list \"apps\"");
    fails("apps", "{\"apps\":{\"apps\":[1]}}", "not an object with a list \"apps\"");
    fails("apps", "{\"x\":\"apps\",\"y\":[1]}", "not an object with a list \"apps\"");
}

static void what_ends_too_early_or_too_late_is_refused(void **state)
{
    (void)state;
    fails(NULL, "[", "ends in the middle");
    fails(NULL, "[{\"a\":1},", "ends in the middle");
    fails(NULL, "[{\"a\":\"", "ends in the middle");
    fails("apps", "{\"apps\":[1]", "not JSON");
    fails("apps", "{\"apps\":[1]}}", "not JSON");
    fails(NULL, "[1] [2]", "not JSON");
    fails(NULL, "[1,]", "not JSON");
    fails(NULL, "[,1]", "not JSON");
    fails(NULL, "[1,,2]", "not JSON");
    fails(NULL, "[1}", "not JSON");
}

static void what_is_too_long_is_left_out_and_counted(void **state)
{
    (void)state;
    struct taken t = {.n = 0};
    struct err err;
    const char *text = "[{\"a\":1},\"0123456789012345678901234567890123456789\",2]";
    assert_int_equal(split(&t, NULL, text, 7, &err), 0);
    assert_string_equal(buf_cstr(&t.text), "{\"a\":1}|2|");
    assert_int_equal(t.n, 1);
    buf_fini(&t.text);
}

static void an_error_of_the_taker_ends_it(void **state)
{
    (void)state;
    struct taken t = {.refuse_at = 2};
    struct err err;
    assert_int_equal(split(&t, NULL, "[1,2,3]", 3, &err), -1);
    assert_int_equal(err.kind, ERR_FATAL);
    assert_string_equal(buf_cstr(&t.text), "1|");
    buf_fini(&t.text);
}

static void endless_text_around_the_list_is_refused(void **state)
{
    (void)state;
    struct marathon_split s;
    struct err err;
    char junk[4096];
    int rc = 0;
    memset(junk, 'x', sizeof junk);
    marathon_split_init(&s, "apps", 32);
    size_t fed = 0;
    for (; rc == 0 && fed < 4 * MARATHON_SPLIT_OUTER_MAX; fed += sizeof junk)
        rc = marathon_split_feed(&s, (struct str){junk, sizeof junk}, &err);
    assert_int_equal(rc, -1);
    assert_true(fed <= MARATHON_SPLIT_OUTER_MAX + 2 * sizeof junk);
    marathon_split_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_come_as_they_stand_there),
        cmocka_unit_test(the_array_is_found_among_other_members),
        cmocka_unit_test(what_is_no_such_list_is_refused),
        cmocka_unit_test(what_ends_too_early_or_too_late_is_refused),
        cmocka_unit_test(what_is_too_long_is_left_out_and_counted),
        cmocka_unit_test(an_error_of_the_taker_ends_it),
        cmocka_unit_test(endless_text_around_the_list_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
