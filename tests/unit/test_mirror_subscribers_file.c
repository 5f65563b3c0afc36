/* test_mirror_subscribers_file.c - what of the callbacks outlives a process, and another journal;
 * what may be their URL. */
#include "bridge/base/clock.h"
#include "connectors/mirror/subscriber_url.h"
#include "connectors/mirror/subscribers_file.h"
#include "tests/unit/scratch.h"

#include <string.h>

/* ---- places ---- */

static void fill(struct journal *journal, int64_t first_arrival_us, int n)
{
    struct err err;
    for (int i = 0; i < n; i++) {
        struct event event = {
            .topic = STR("Task"), .type = STR("t"), .pos_index = 1, .data = STR("{}")};
        assert_int_equal(
            0, journal_append(journal, event.data, first_arrival_us + i, &event, 1, &err));
    }
    assert_int_equal(0, journal_commit(journal, &err));
}

struct made {
    char *dir;
    struct journal *journal;
};

static int open_journal(void **state)
{
    static struct made made;
    made.dir = scratch_dir();
    made.journal = scratch_journal(made.dir, 1 << 20);
    *state = &made;
    return 0;
}

static int close_journal(void **state)
{
    struct made *made = *state;
    journal_close(&made->journal);
    scratch_remove(made->dir);
    return 0;
}

static struct subscriber_place elsewhere(int64_t arrival_us)
{
    return (struct subscriber_place){
        .journal_id = 7, .seq = 9000, .arrival_us = arrival_us, .since_us = 5, .failing_ms = 6};
}

static void goes_on_by_seq_in_the_same_journal(void **state)
{
    struct made *made = *state;
    fill(made->journal, 1000, 10);
    struct subscriber_place now = subscriber_place_now(made->journal);
    assert_int_equal(11, now.seq);
    assert_int_equal(1009, now.arrival_us);
    fill(made->journal, 2000, 5);
    struct subscriber_place here = subscriber_place_in(made->journal, &now);
    assert_int_equal(11, here.seq);
    now.seq = 99; /* further than there is: not waited for */
    assert_int_equal(16, subscriber_place_in(made->journal, &now).seq);
}

static void goes_on_by_arrival_in_another_journal(void **state)
{
    struct made *made = *state;
    fill(made->journal, 1000, 10);
    struct subscriber_place place = elsewhere(1004);
    struct subscriber_place here = subscriber_place_in(made->journal, &place);
    assert_int_equal(6, here.seq); /* that of arrival 1005 */
    assert_true(here.journal_id == journal_id(made->journal));
    assert_int_equal(5, here.since_us);
    assert_int_equal(6, here.failing_ms);
    place = elsewhere(10);
    assert_int_equal(1, subscriber_place_in(made->journal, &place).seq); /* the oldest */
}

static void goes_on_from_now_where_the_other_journal_went_further(void **state)
{
    struct made *made = *state;
    struct subscriber_place place = elsewhere(5000);
    assert_int_equal(1, subscriber_place_in(made->journal, &place).seq);
    fill(made->journal, 1000, 10); /* it lost its end, or the clock went back */
    assert_int_equal(11, subscriber_place_in(made->journal, &place).seq);
}

/* ---- the file ---- */

static void put(const char *dir, const char *text)
{
    struct err err;
    assert_int_equal(0, subscribers_file_prepare(dir, str_from(text), true, &err));
    assert_int_equal(0, subscribers_file_replace(dir, true, &err));
}

static bool is_there(const char *dir, const char *name)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", dir, name);
    bool there = access(buf_cstr(&path), F_OK) == 0;
    buf_fini(&path);
    return there;
}

static void gives_back_what_was_kept(void **state)
{
    struct made *made = *state;
    struct kept_subscriber *kept;
    size_t n = 1;
    struct err err;
    assert_int_equal(0, subscribers_file_read(made->dir, &kept, &n, &err));
    assert_int_equal(0, n);
    struct subscriber_place one = {0xfedcba9876543210, 12, 34, 56, 179999}, two = elsewhere(8);
    struct buf text = {0};
    subscribers_file_begin(&text);
    subscribers_file_append(&text, "http://a/?\"x\"", &one);
    subscribers_file_append(&text, "https://u:p@b:1/", &two);
    subscribers_file_end(&text);
    put(made->dir, buf_cstr(&text));
    assert_int_equal(0, subscribers_file_read(made->dir, &kept, &n, &err));
    assert_int_equal(2, n);
    assert_string_equal("http://a/?\"x\"", kept[0].url);
    assert_string_equal("https://u:p@b:1/", kept[1].url);
    one.failing_ms = 120000; /* whole minutes */
    two.failing_ms = 0;
    assert_memory_equal(&one, &kept[0].place, sizeof one);
    assert_memory_equal(&two, &kept[1].place, sizeof two);
    subscribers_file_free(kept, n);
    buf_fini(&text);
}

static void moves_aside_what_it_does_not_understand(void **state)
{
    struct made *made = *state;
    static const char *const texts[] = {
        "",
        "nonsense",
        "[]",
        "{\"version\":1}",
        "{\"version\":0,\"subscribers\":[]}",
        "{\"version\":1,\"subscribers\":[{\"url\":\"http://a/\"}]}",
        "{\"version\":1,\"subscribers\":[{\"url\":\"nonsense\",\"journal\":\"7\",\"seq\":1,"
        "\"arrival_us\":1,\"since_us\":1,\"failing_s\":0}]}",
        "{\"version\":1,\"subscribers\":[{\"url\":\"http://a/\",\"journal\":\"x\",\"seq\":1,"
        "\"arrival_us\":1,\"since_us\":1,\"failing_s\":0}]}",
        "{\"version\":1,\"subscribers\":[{\"url\":\"http://a/\",\"journal\":\"7\",\"seq\":0,"
        "\"arrival_us\":1,\"since_us\":1,\"failing_s\":0}]}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct kept_subscriber *kept;
        size_t n = 1;
        struct err err;
        put(made->dir, texts[i]);
        assert_int_equal(0, subscribers_file_read(made->dir, &kept, &n, &err));
        assert_int_equal(0, n);
        assert_false(is_there(made->dir, "subscribers"));
        assert_true(is_there(made->dir, "subscribers.bad"));
        subscribers_file_free(kept, n);
    }
}

static void refuses_a_newer_version(void **state)
{
    struct made *made = *state;
    struct kept_subscriber *kept;
    size_t n;
    struct err err;
    put(made->dir, "{\"version\":2,\"callbacks\":[]}");
    assert_int_equal(-1, subscribers_file_read(made->dir, &kept, &n, &err));
    assert_int_equal(ERR_FATAL, err.kind);
    assert_non_null(strstr(err.msg, "version 2"));
    assert_true(is_there(made->dir, "subscribers"));
}

static void keeps_the_old_one_until_the_new_one_is_whole(void **state)
{
    struct made *made = *state;
    struct kept_subscriber *kept;
    size_t n;
    struct err err;
    put(made->dir, "{\"version\":1,\"subscribers\":[]}");
    assert_int_equal(0, subscribers_file_prepare(made->dir, STR("{\"vers"), true, &err));
    assert_int_equal(0, subscribers_file_prepare(made->dir, STR("{\"vers"), false, &err));
    assert_int_equal(0, subscribers_file_read(made->dir, &kept, &n, &err));
    assert_false(is_there(made->dir, "subscribers.bad"));
    subscribers_file_free(kept, n);
}

/* ---- URLs ---- */

static void takes_urls_that_can_be_called(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "http://a",        "HTTP://a/",       "https://a.b:443/", "http://[::1]:8080/x?y#z",
        "http://u:p@a:1/", "http://a/%0d%0a", "http://a?b",       "http://10.0.0.1:65535",
    };
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
        if (subscriber_url_check(str_from(urls[i])) != NULL)
            fail_msg("%s", urls[i]);
}

static void shows_urls_without_what_may_be_secret(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"http://a:1/b/c", "http://a:1/b/c"}, {"http://u:p@a/b?c=d", "http://a/b?…"},
        {"https://u:p@@a?c", "https://a?…"},  {"http://a/b#c", "http://a/b"},
        {"http://a/b@c", "http://a/b@c"},     {"ftp://u:p@a", "?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf label = {0};
        subscriber_url_label(&label, cases[i][0]);
        assert_string_equal(cases[i][1], buf_cstr(&label));
        buf_fini(&label);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_journal, close_journal)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(goes_on_by_seq_in_the_same_journal),
        TEST(goes_on_by_arrival_in_another_journal),
        TEST(goes_on_from_now_where_the_other_journal_went_further),
        TEST(gives_back_what_was_kept),
        TEST(moves_aside_what_it_does_not_understand),
        TEST(refuses_a_newer_version),
        TEST(keeps_the_old_one_until_the_new_one_is_whole),
        cmocka_unit_test(takes_urls_that_can_be_called),
        cmocka_unit_test(shows_urls_without_what_may_be_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
