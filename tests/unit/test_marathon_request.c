/* test_marathon_request.c - what a Marathon is shown, where redirects lead, and who gets
 * credentials. */
#include "connectors/marathon/marathon_request.h"

#include "connectors/marathon/marathon_leader.h"

#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

static const char *const servers[] = {"https://One.example", "http://two:8080", "http://[::1]:80",
                                      "unix:///run/m.sock", "https://gate/service/marathon/"};
static const struct marathon_settings settings = {
    .servers = {servers, 5},
    .token = "s3cret",
};

static void is_normal(const char *server, const char *expected)
{
    char out[MARATHON_SERVER_MAX];
    bool fine = marathon_leader_normal(server, out);
    assert_string_equal(fine ? out : "", expected);
}

static void writes_the_same_server_in_one_way(void **state)
{
    (void)state;
    is_normal("http://Host", "http://host:80");
    is_normal("HTTPS://host/", "https://host:443");
    is_normal("http://joe:pw@h:8080", "http://h:8080");
    is_normal("http://[FE80::1]:8080//", "http://[fe80::1]:8080");
    is_normal("https://[::1]/a/", "https://[::1]:443/a");
    is_normal("http://h:", "http://h:80");
    is_normal("unix:///run/m.sock", "unix:///run/m.sock");
    is_normal("ftp://h", "");
    is_normal("http://", "");
    is_normal("http://h:0", "");
    is_normal("http://h:65536", "");
    is_normal("http://h:99999999999999999999", "");
    is_normal("http://a b", "");
    is_normal("http://evil\\@two:8080", "http://two:8080");
    is_normal("http://two:8080\\@evil:1", "http://evil:1");
    is_normal("http://a\r\nX: y", "");
}

static void leads_to(const char *from, const char *location, const char *expected)
{
    char out[MARATHON_SERVER_MAX] = "";
    struct err err;
    bool fine = marathon_leader_follow(from, location, out, &err) == 0;
    assert_string_equal(fine ? out : "", expected);
}

static void follows_to_event_streams_only(void **state)
{
    (void)state;
    leads_to("http://a:1", "http://b:2/v2/events", "http://b:2");
    leads_to("http://a:1", "http://b:2/v2/events/?plan-format=light#x", "http://b:2");
    leads_to("http://a:1", "https://b/marathon/v2/events?a=/v2/events", "https://b:443/marathon");
    leads_to("https://a:1", "//b:2/v2/events", "https://b:2");
    leads_to("https://a:1/m", "/other/v2/events", "https://a:1/other");
    leads_to("http://a:1", "", "");
    leads_to("http://a:1", "events", "");
    leads_to("http://a:1", "http://b:2/login?to=/v2/events", "");
    leads_to("http://a:1", "http://b:2", "");
    leads_to("http://a:1", "http://b:2?x=/v2/events", "");
    leads_to("http://a:1", "file:///v2/events", "");
    leads_to("http://a:1", "http://b:2/\x01/v2/events", "");
    leads_to("unix:///run/m.sock", "http://b:2/v2/events", "http://b:2");
    leads_to("unix:///run/m.sock", "/v2/events", "");
}

static void does_not_run_over(void **state)
{
    (void)state;
    char location[2000];
    memset(location, 'a', sizeof location - 1);
    location[sizeof location - 1] = '\0';
    memcpy(location, "http://", 7);
    leads_to("http://a:1", location, "");
    memcpy(location + sizeof location - 12, "/v2/events", 11);
    leads_to("http://a:1", location, "");
    memcpy(location + 10, ":80/", 4);
    leads_to("http://a:1", location, "");
}

static void knows_its_own_servers(void **state)
{
    (void)state;
    assert_true(marathon_leader_is_configured(&settings, "https://one.example:443"));
    assert_true(marathon_leader_is_configured(&settings, "http://TWO:8080/x"));
    assert_true(marathon_leader_is_configured(&settings, "https://two:8080"));
    assert_true(marathon_leader_is_configured(&settings, "http://[::1]:80"));
    assert_true(marathon_leader_is_configured(&settings, "unix:///run/m.sock"));
    assert_true(marathon_leader_is_configured(&settings, "https://gate:443/other"));
    /* what was to be secret stays so */
    assert_false(marathon_leader_is_configured(&settings, "http://one.example:443"));
    assert_false(marathon_leader_is_configured(&settings, "http://one.example"));
    assert_false(marathon_leader_is_configured(&settings, "http://two:8081"));
    assert_false(marathon_leader_is_configured(&settings, "http://two.evil:8080"));
    assert_false(marathon_leader_is_configured(&settings, "unix:///run/other"));
    assert_false(marathon_leader_is_configured(&settings, "two:8080"));
}

/* The headers, one a line. */
static void shows(const struct marathon_settings *set, const char *server, const char *expected)
{
    struct marathon_request request;
    struct buf text = {0};
    marathon_request_init(&request, set, server, "/v2/apps?a=b", "application/json", NULL);
    for (const char *const *header = request.http.headers; *header != NULL; header++)
        buf_printf(&text, "%s\n", *header);
    assert_string_equal(buf_cstr(&text), expected);
    marathon_request_fini(&request);
    buf_fini(&text);
}

static void shows_credentials_to_its_own_only(void **state)
{
    (void)state;
    struct setting_pair pair = {.key = "X-Key", .value = "v"};
    struct marathon_settings set = settings;
    set.access.headers = (struct setting_map){&pair, 1};
    shows(&set, "http://two:8080",
          "Accept: application/json\nAuthorization: token=s3cret\nX-Key: v\n");
    shows(&set, "http://three:8080", "Accept: application/json\n");
    set.token = "";
    shows(&set, "http://two:8080", "Accept: application/json\nX-Key: v\n");
}

static void asks_the_right_place(void **state)
{
    (void)state;
    struct marathon_request request;
    struct marathon_settings set = settings;
    set.access.username = "joe";
    set.access.password = "pw";
    set.access.tls_cert = "c";
    marathon_request_init(&request, &set, "https://gate/service/marathon/", "/v2/apps", "a", NULL);
    assert_string_equal(request.http.url, "https://gate/service/marathon/v2/apps");
    assert_string_equal(request.access.user, "joe");
    assert_string_equal(request.access.cert, "c");
    marathon_request_fini(&request);
    marathon_request_init(&request, &set, "unix:///run/m.sock", "/v2/apps", "a", NULL);
    assert_string_equal(request.http.url, "http://localhost/v2/apps");
    assert_string_equal(request.access.unix_socket, "/run/m.sock");
    marathon_request_fini(&request);
    marathon_request_init(&request, &set, "https://stranger:1", "/v2/apps", "a", NULL);
    assert_null(request.access.user);
    assert_null(request.access.password);
    assert_null(request.access.cert);
    marathon_request_fini(&request);
}

static void asks_for(struct marathon_settings set, const char *expected)
{
    struct buf path = {0};
    marathon_request_events(&path, &set);
    assert_string_equal(buf_cstr(&path), expected);
    buf_fini(&path);
}

static void asks_for_what_is_wanted(void **state)
{
    (void)state;
    static const char *const types[] = {"event_stream_attached", "a&b"}, *const all[] = {"a", "*"};
    asks_for((struct marathon_settings){0}, "/v2/events?plan-format=light");
    asks_for((struct marathon_settings){.plan_format = MARATHON_PLAN_HEAVY}, "/v2/events");
    asks_for((struct marathon_settings){.event_types = {all, 2}}, "/v2/events?plan-format=light");
    asks_for((struct marathon_settings){.event_types = {types, 2}},
             "/v2/events?plan-format=light&event_type=event_stream_attached&event_type=a%26b");
    asks_for((struct marathon_settings){.event_types = {all, 1}},
             "/v2/events?plan-format=light&event_type=a&event_type=event_stream_attached");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_same_server_in_one_way),
        cmocka_unit_test(follows_to_event_streams_only),
        cmocka_unit_test(does_not_run_over),
        cmocka_unit_test(knows_its_own_servers),
        cmocka_unit_test(shows_credentials_to_its_own_only),
        cmocka_unit_test(asks_the_right_place),
        cmocka_unit_test(asks_for_what_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
