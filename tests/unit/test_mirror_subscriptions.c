/* test_mirror_subscriptions.c - /v2/eventSubscriptions: who may ask, what for, and what is
 * answered.
 */
#include "tests/unit/mirror_subscribers_kit.h"

/* In the first source's folder; the caller frees it. */
static char *path_of(const struct rig *r, const char *name)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", r->bridge->dirs[0], name);
    buf_cstr(&path);
    return path.p;
}

static void answers_as_marathon_did(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    receiver_open(&r->a, 0);
    struct buf list = {0}, query = {0};
    buf_printf(&list, "{\"callbackUrls\":[\"%s\"]}", r->a.url);
    buf_printf(&query, "?callbackUrl=%s", r->a.url);
    expect(r, "GET", "", "200", "{\"callbackUrls\":[]}");
    char *answer = ask(r, "POST", buf_cstr(&query), "Content-Length: 0\r\n");
    struct buf event = {0};
    buf_printf(&event,
               "\r\n\r\n{\"clientIp\":\"127.0.0.1\",\"callbackUrl\":\"%s\",\"eventType\":"
               "\"subscribe_event\",\"timestamp\":\"20",
               r->a.url);
    assert_non_null(strstr(answer, buf_cstr(&event)));
    assert_non_null(strstr(answer, "\r\nContent-Type: application/json\r\n"));
    assert_string_equal(strstr(answer, "\r\n\r\n") + 4, receiver_body(&r->a, 0));
    free(answer);
    subscribe(r, r->a.url); /* once more: there once */
    expect(r, "GET", "", "200", buf_cstr(&list));
    expect(r, "DELETE", buf_cstr(&query), "200", "\"unsubscribe_event\"");
    expect(r, "DELETE", buf_cstr(&query), "200", "\"unsubscribe_event\"");
    expect(r, "GET", "", "200", "{\"callbackUrls\":[]}");
    buf_fini(&event);
    buf_fini(&query);
    buf_fini(&list);
}

static void tells_all_of_those_who_come_and_go(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    subscribe_receiver(r, &r->a);
    say_numbers(r, 1, 1);
    subscribe_receiver(r, &r->b);
    say_numbers(r, 2, 2);
    receiver_wait(&r->b, 2);
    struct buf query = {0};
    buf_printf(&query, "?callbackUrl=%s", r->b.url);
    expect(r, "DELETE", buf_cstr(&query), "200", r->b.url);
    buf_fini(&query);
    say_numbers(r, 3, 3);
    expect_numbers(&r->a, 1, 1, 1);
    assert_non_null(strstr(receiver_body(&r->a, 2), r->b.url));
    assert_non_null(strstr(receiver_body(&r->a, 2), "\"subscribe_event\""));
    expect_numbers(&r->a, 3, 2, 2);
    assert_non_null(strstr(receiver_body(&r->a, 4), "\"unsubscribe_event\""));
    expect_numbers(&r->a, 5, 3, 3);
    expect_numbers(&r->b, 1, 2, 2);
    assert_int_equal(2, receiver_count(&r->b));
    assert_null(strstr(r->a.posts[2].head, "Busbar-Event"));
}

static void refuses_what_is_no_url(void **state)
{
    struct rig *r = *state;
    static const char *const queries[] = {
        "",
        "?callbackUrl=",
        "?callbackUrl",
        "?callbackurl=http://a/",
        "?callbackUrl=nonsense",
        "?callbackUrl=ftp://a/",
        "?callbackUrl=file:///etc/passwd",
        "?callbackUrl=http://",
        "?callbackUrl=http:///path",
        "?callbackUrl=http://user@/",
        "?callbackUrl=http://a:/",
        "?callbackUrl=http://a:0/",
        "?callbackUrl=http://a:70000/",
        "?callbackUrl=http://a:8x/",
        "?callbackUrl=http://[::1/",
        "?callbackUrl=http://[::1]x/",
        "?callbackUrl=http://a/%0d%0aX:%20y",
        "?callbackUrl=http://a/%00",
        "?callbackUrl=http://a/+b",
        "?callbackUrl=http://a/%C3%A9",
    };
    open_rig(r);
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++)
        expect(
            r, "POST", queries[i], "422",
            "{\"message\":\"Object is not valid\",\"details\":[{\"path\":\"/\",\"errors\":[\"exp");
    struct buf long_one = {0};
    buf_append_cstr(&long_one, "?callbackUrl=http://a/");
    for (int i = 0; i < 2048; i++)
        buf_append_char(&long_one, 'x');
    expect(r, "POST", buf_cstr(&long_one), "422", "at most 2048");
    buf_fini(&long_one);
    expect(r, "GET", "", "200", "{\"callbackUrls\":[]}");
    expect(r, "PUT", "?callbackUrl=http://a/", "405", "");
}

static void refuses_who_may_not_ask(void **state)
{
    struct rig *r = *state;
    static const char query[] = "?callbackUrl=http://127.0.0.1:1/";
    r->settings.token = "geheim";
    open_rig(r);
    static const struct {
        const char *headers, *status;
    } cases[] = {
        {"", "401"},
        {"Authorization: token=falsch\r\n", "401"},
        {"Authorization: token=geheim\r\nOrigin: http://evil.example\r\n", "403"},
        {"Authorization: token=geheim\r\nOrigin: null\r\n", "403"},
        {"Authorization: token=geheim\r\n", "200"},
        {"Authorization: Bearer geheim\r\n", "200"},
        {"Authorization: Basic YW55Ym9keTpnZWhlaW0=\r\n", "200"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *answer = ask(r, "POST", query, cases[i].headers);
        if (strncmp(answer + 9, cases[i].status, 3) != 0)
            fail_msg("%s: %s", cases[i].headers, answer);
        free(answer);
    }
}

static void has_as_many_as_it_may(void **state)
{
    struct rig *r = *state;
    r->settings.max_subscribers = 2;
    open_rig(r);
    subscribe(r, "http://127.0.0.1:1/a");
    subscribe(r, "http://127.0.0.1:1/b");
    expect(r, "POST", "?callbackUrl=http://127.0.0.1:1/c", "503", "max_subscribers: 2");
    subscribe(r, "http://127.0.0.1:1/b");
    expect(r, "DELETE", "?callbackUrl=http://127.0.0.1:1/a", "200", "");
    subscribe(r, "http://127.0.0.1:1/c");
    mirror_close(&r->mirror);
    r->settings.max_subscribers = 0;
    open_rig(r);
    expect(r, "GET", "", "400", "{\"message\":\"http event callback system is not running");
    expect(r, "POST", "?callbackUrl=http://127.0.0.1:1/a", "400", "max_subscribers");
    mirror_close(&r->mirror);
    r->settings.max_subscribers = 2;
    open_rig(r);
    expect(r, "GET", "", "200", "[\"http://127.0.0.1:1/b\",\"http://127.0.0.1:1/c\"]");
}

static void says_where_there_are_several_marathons(void **state)
{
    struct rig *r = *state;
    r->bridge->is_marathon[1] = true;
    open_rig(r);
    expect(r, "GET", "", "400", "several");
    char *answer = kit_ask(mirror_address(r->mirror),
                           "POST /sources/test" PATH "?callbackUrl=http://127.0.0.1:1/t "
                           "HTTP/1.1\r\n");
    assert_memory_equal("200", answer + 9, 3);
    free(answer);
    answer = kit_ask(mirror_address(r->mirror), "GET /sources/prod" PATH " HTTP/1.1\r\n");
    assert_non_null(strstr(answer, "{\"callbackUrls\":[]}"));
    free(answer);
    restart(r);
    answer = kit_ask(mirror_address(r->mirror), "GET /sources/test" PATH " HTTP/1.1\r\n");
    assert_non_null(strstr(answer, "{\"callbackUrls\":[\"http://127.0.0.1:1/t\"]}"));
    free(answer);
}

static void shows_no_secrets_on_status(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    subscribe(r, "http://user:geheim@127.0.0.1:1/path%3Fkey=geheim");
    assert_true(tells(r, "url", "http://127.0.0.1:1/path?…"));
    assert_false(tells(r, "url", "geheim"));
    wait_told(r, "state", "retrying");
    assert_false(tells(r, "last_error", "geheim"));
    struct stat st;
    char *path = path_of(r, "subscribers");
    assert_int_equal(0, stat(path, &st));
    assert_int_equal(0600, st.st_mode & 0777);
    free(path);
}

static void takes_none_that_it_can_not_keep(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    char *in_the_way = path_of(r, "subscribers.new");
    assert_int_equal(0, mkdir(in_the_way, 0700));
    expect(r, "POST", "?callbackUrl=http://127.0.0.1:1/a", "503", "could not be kept");
    expect(r, "GET", "", "200", "{\"callbackUrls\":[]}");
    assert_int_equal(0, rmdir(in_the_way));
    subscribe(r, "http://127.0.0.1:1/a");
    restart(r);
    expect(r, "GET", "", "200", "{\"callbackUrls\":[\"http://127.0.0.1:1/a\"]}");
    free(in_the_way);
}

static void does_not_start_on_a_newer_file(void **state)
{
    struct rig *r = *state;
    struct mirror *mirror = NULL;
    struct err err;
    char *path = path_of(r, "subscribers");
    FILE *file = fopen(path, "we");
    fputs("{\"version\":2}", file);
    fclose(file);
    assert_int_equal(-1, mirror_open(&mirror, &r->settings, "busbar", r->bridge, &err));
    assert_null(mirror);
    assert_non_null(strstr(err.msg, "version 2"));
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_as_marathon_did),        TEST(tells_all_of_those_who_come_and_go),
        TEST(refuses_what_is_no_url),         TEST(refuses_who_may_not_ask),
        TEST(has_as_many_as_it_may),          TEST(says_where_there_are_several_marathons),
        TEST(shows_no_secrets_on_status),     TEST(takes_none_that_it_can_not_keep),
        TEST(does_not_start_on_a_newer_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
