/* test_marathon_callback.c - whom a call is for, and what Marathon's answers say of the callback.
 */
#include "connectors/marathon/marathon_callback_answer.h"
#include "connectors/marathon/marathon_callback_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SECRET "/cb/0123456789abcdef"

/* ---- callback_url ---- */

static void takes_urls_that_marathon_can_call(void **state)
{
    (void)state;
    static const char *const fine[] = {
        "http://bus.example.org:8485/cb/x",
        "https://[::1]:8485/",
        "http://10.0.0.7/a/b?c=d&e",
        "http://h:1/%7Ebus?x=%20+y",
    };
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
        assert_null(callback_url_expected(fine[i]));
}

static void refuses_what_would_arrive_otherwise(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "http://h:1",       "http://h:1?x=y",      "h:1/x",
        "ftp://h:1/x",      "http://u:p@h:1/x",    "http://h:1/x#top",
        "http://h:1/ x",    "http://h:1/\xc3\xbc", "http://h:1/%zz",
        "http://h:1/%0",    "http://h:1/%00",      "http://h:0/x",
        "http://h:65536/x", "http:///x",           "",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_non_null(callback_url_expected(wrong[i]));
    char large[CALLBACK_URL_MAX + 32] = "http://h:1/";
    memset(large + strlen(large), 'x', CALLBACK_URL_MAX);
    assert_non_null(callback_url_expected(large));
}

static void counts_what_has_to_be_guessed(void **state)
{
    (void)state;
    assert_int_equal(callback_url_secret("http://long-name-of-a-host.example.org:8485/"), 0);
    assert_int_equal(callback_url_secret("http://h:1/a/b?c=d"), 4);
    assert_true(callback_url_secret("http://h:1" SECRET) >= CALLBACK_SECRET_MIN);
}

static void shows_the_origin_only(void **state)
{
    (void)state;
    assert_int_equal(callback_url_origin("http://h:1" SECRET), strlen("http://h:1"));
    assert_int_equal(callback_url_origin("https://[::1]:1/?x"), strlen("https://[::1]:1"));
}

/* ---- targets ---- */

/* `query`: "name=value&…", already decoded. */
static bool is_for(const char *url, const char *path, const char *query)
{
    struct callback_target target;
    struct buf parameters = {0};
    callback_target_init(&target, url);
    for (const char *p = query; *p != '\0';) {
        size_t len = strcspn(p, "&"), name = strcspn(p, "=&");
        size_t value = name < len ? name + 1 : len;
        callback_target_add(&parameters, (struct str){p, name},
                            (struct str){p + value, len - value});
        p += len + (p[len] == '&');
    }
    bool is = callback_target_is(&target, str_from(path), buf_str(&parameters));
    buf_fini(&parameters);
    callback_target_fini(&target);
    return is;
}

static void a_call_is_for_the_whole_path(void **state)
{
    (void)state;
    assert_true(is_for("http://h:1" SECRET, SECRET, ""));
    assert_false(is_for("http://h:1" SECRET, SECRET "/", ""));
    assert_false(is_for("http://h:1" SECRET, "/cb/0123456789abcdeF", ""));
    assert_false(is_for("http://h:1" SECRET, "/cb/0123456789abcde", ""));
    assert_false(is_for("http://h:1" SECRET, "/", ""));
    assert_false(is_for("http://h:1" SECRET, "", ""));
}

static void a_call_is_for_the_whole_query(void **state)
{
    (void)state;
    const char *url = "http://h:1/x?k=a%20b+c&empty=&bare";
    assert_true(is_for(url, "/x", "k=a b c&empty=&bare="));
    assert_false(is_for(url, "/x", "k=a b c&empty="));
    assert_false(is_for(url, "/x", "k=a b c&empty=&bare=&more=1"));
    assert_false(is_for(url, "/x", "empty=&k=a b c&bare="));
    assert_false(is_for(url, "/x", ""));
    assert_false(is_for("http://h:1/x", "/x", "k=v"));
}

static void names_and_values_do_not_run_together(void **state)
{
    (void)state;
    assert_false(is_for("http://h:1/x?ab=c", "/x", "a=bc"));
    assert_false(is_for("http://h:1/x?a=b", "/x", "a=&b="));
}

static void paths_are_compared_decoded(void **state)
{
    (void)state;
    assert_true(is_for("http://h:1/%7e%2Bx+", "/~+x+", ""));
}

/* ---- answers ---- */

static bool reads_list(const char *text, struct callback_list *list)
{
    struct err err = {ERR_FATAL, ""};
    return callback_answer_list(str_from(text), "http://h:1/x", list, &err) == 0;
}

static void finds_itself_in_the_list(void **state)
{
    (void)state;
    struct callback_list list;
    assert_true(reads_list("{\"callbackUrls\":[\"http://h:1/y\",\"http://h:1/x\"]}", &list));
    assert_true(list.listed);
    assert_int_equal(list.n, 2);
    assert_true(reads_list("{\"callbackUrls\":[\"http://h:1/xx\",null,7]}", &list));
    assert_false(list.listed);
    assert_true(reads_list("{\"callbackUrls\":[]}", &list));
    assert_false(list.listed);
}

static void a_list_of_another_shape_is_none(void **state)
{
    (void)state;
    struct callback_list list;
    static const char *const wrong[] = {"", "{}", "[]", "{\"callbackUrls\":{}}", "<html>", "{\"a"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(reads_list(wrong[i], &list));
}

static void reads_who_leads(void **state)
{
    (void)state;
    char leader[CALLBACK_LEADER_MAX];
    callback_answer_leader(STR("{\"leader\":\"10.0.0.1:8080\"}"), leader);
    assert_string_equal(leader, "10.0.0.1:8080");
    callback_answer_leader(STR("{\"message\":\"There is no leader\"}"), leader);
    assert_string_equal(leader, "");
    callback_answer_leader((struct str){NULL, 0}, leader);
    assert_string_equal(leader, "");
}

#define METER "\"service.mesosphere.marathon.event.http.HttpEventActor."
static void adds_up_what_marathon_lost(void **state)
{
    (void)state;
    uint64_t losses;
    struct str both = STR(
        "{\"meters\":{" METER "failed-callbacks\" : {\"count\" : 7,\"m1_rate\":0}," METER
        "events\":{\"count\":99}," METER "skipped-callbacks\":{\"m1_rate\":1.5,\"count\":35}}}");
    assert_true(callback_answer_losses(both, &losses));
    assert_int_equal(losses, 42);
}

static void counts_nothing_where_the_meters_are_missing(void **state)
{
    (void)state;
    uint64_t losses;
    static const char *const wrong[] = {
        "",
        "{}",
        "{" METER "failed-callbacks\":{\"count\":7}}",
        "{" METER "failed-callbacks\":{}," METER "skipped-callbacks\":{\"count\":1}}",
        "{" METER "skipped-callbacks\":{\"count\":1}," METER "failed-callbacks\"",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(callback_answer_losses(str_from(wrong[i]), &losses));
    assert_false(callback_answer_losses((struct str){NULL, 0}, &losses));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_urls_that_marathon_can_call),
        cmocka_unit_test(refuses_what_would_arrive_otherwise),
        cmocka_unit_test(counts_what_has_to_be_guessed),
        cmocka_unit_test(shows_the_origin_only),
        cmocka_unit_test(a_call_is_for_the_whole_path),
        cmocka_unit_test(a_call_is_for_the_whole_query),
        cmocka_unit_test(names_and_values_do_not_run_together),
        cmocka_unit_test(paths_are_compared_decoded),
        cmocka_unit_test(finds_itself_in_the_list),
        cmocka_unit_test(a_list_of_another_shape_is_none),
        cmocka_unit_test(reads_who_leads),
        cmocka_unit_test(adds_up_what_marathon_lost),
        cmocka_unit_test(counts_nothing_where_the_meters_are_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
