/* test_mirror.c - the mirror's pages other than streams, and who may ask for them. */
#include "tests/unit/mirror_kit.h"

#include <signal.h>

static void open_kit(struct kit *kit)
{
    kit->mirror = kit_mirror(kit->bridge, &kit->settings);
    kit->address = mirror_address(kit->mirror);
}

static int setup(void **state)
{
    struct kit *kit = mem_zalloc(sizeof *kit);
    kit->bridge = kit_bridge(2, 1 << 20);
    kit->settings = kit_settings();
    *state = kit;
    return 0;
}

static void expect_answer(const struct kit *kit, const char *head, const char *status,
                          const char *part)
{
    char *answer = kit_ask(kit->address, head);
    if (strncmp(answer + strlen("HTTP/1.1 "), status, 3) != 0 || strstr(answer, part) == NULL)
        fail_msg("%s: expected %s and \"%s\", got %s", head, status, part, answer);
    free(answer);
}

static void answers_its_pages(void **state)
{
    struct kit *kit = *state;
    open_kit(kit);
    expect_answer(kit, "GET /healthz HTTP/1.1\r\n", "200", "\r\n\r\nok\n");
    expect_answer(kit, "GET /readyz HTTP/1.1\r\n", "200", "\r\n\r\nready\n");
    expect_answer(kit, "GET /metrics HTTP/1.1\r\n", "200", "text/plain; version=0.0.4");
    expect_answer(kit, "GET /metrics HTTP/1.1\r\n", "200", "\nbusbar_clients 0\n");
    expect_answer(kit, "GET /status HTTP/1.1\r\n", "200", "application/json");
    expect_answer(kit, "GET /status HTTP/1.1\r\n", "200", "{\"sources\":2}");
    expect_answer(kit, "GET / HTTP/1.1\r\n", "200", "GET /events");
    expect_answer(kit, "GET / HTTP/1.0\r\n", "200", "GET /events");
    expect_answer(kit, "HEAD /status HTTP/1.1\r\n", "200", "Content-Length: 13\r\n");
}

static void says_why_it_is_not_ready(void **state)
{
    struct kit *kit = *state;
    kit->bridge->unready = true;
    open_kit(kit);
    expect_answer(kit, "GET /readyz HTTP/1.1\r\n", "503", "source prod: connecting");
    expect_answer(kit, "GET /healthz HTTP/1.1\r\n", "200", "ok");
}

static void tells_what_there_is_where_it_is_asked_for_something_else(void **state)
{
    struct kit *kit = *state;
    open_kit(kit);
    expect_answer(kit, "GET /nope HTTP/1.1\r\n", "404", "GET /events");
    expect_answer(kit, "GET /events/ HTTP/1.1\r\n", "404", "GET /events");
    expect_answer(kit, "POST /events HTTP/1.1\r\nContent-Length: 3\r\n", "405",
                  "Allow: GET, HEAD\r\n");
    expect_answer(kit, "DELETE /status HTTP/1.1\r\n", "405", "Allow: GET, HEAD\r\n");
    expect_answer(kit, "OPTIONS /status HTTP/1.1\r\n", "405", "Allow: GET, HEAD\r\n");
}

static void head_of_events_ends_at_once(void **state)
{
    struct kit *kit = *state;
    open_kit(kit);
    expect_answer(kit, "HEAD /events HTTP/1.1\r\n", "200", "Content-Type: text/event-stream\r\n");
    assert_int_equal(0, kit_metric(kit->bridge, "busbar_clients_total"));
}

static void refuses_what_it_does_not_understand(void **state)
{
    struct kit *kit = *state;
    open_kit(kit);
    expect_answer(kit, "GET /events?source=nope HTTP/1.1\r\n", "400",
                  "source=nope: unknown, here are: prod test\n");
    expect_answer(kit, "GET /events?sauce=prod HTTP/1.1\r\n", "400", "sauce: unknown parameter");
    expect_answer(kit, "GET /events?topic= HTTP/1.1\r\n", "400", "topic=: empty");
    expect_answer(kit, "GET /events?type= HTTP/1.1\r\n", "400", "type=: empty");
    expect_answer(kit, "GET /events?since=yesterday HTTP/1.1\r\n", "400", "RFC 3339");
    expect_answer(kit, "GET /events?last_event_id=42 HTTP/1.1\r\n", "400", "last event id 42");
    expect_answer(kit, "GET /events HTTP/1.1\r\nLast-Event-ID: 42\r\n", "400", "last event id 42");
    assert_int_equal(0, kit_metric(kit->bridge, "busbar_clients_total"));
}

static void asks_for_the_token_everywhere_but_in_healthz(void **state)
{
    struct kit *kit = *state;
    kit->settings.token = "s3cret";
    open_kit(kit);
    static const char *const paths[] = {"/", "/events", "/readyz", "/metrics", "/status", "/nope"};
    static const char *const wrong[] = {
        "",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer s3cre\r\n",
        "Authorization: Bearer s3crett\r\n",
        "Authorization: Bearer s3cres\r\n",
        "Authorization: Basic s3cret\r\n",
        "Authorization: s3cret\r\n",
    };
    char head[128];
    for (size_t p = 0; p < sizeof paths / sizeof paths[0]; p++)
        for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
            snprintf(head, sizeof head, "GET %s HTTP/1.1\r\n%s", paths[p], wrong[w]);
            expect_answer(kit, head, "401", "WWW-Authenticate: Bearer");
        }
    expect_answer(kit, "GET /healthz HTTP/1.1\r\n", "200", "ok");
    expect_answer(kit, "GET /status HTTP/1.1\r\nAuthorization: Bearer s3cret\r\n", "200",
                  "sources");
    expect_answer(kit, "GET /status HTTP/1.1\r\nauthorization: bearer s3cret\r\n", "200",
                  "sources");
}

static void tells_browsers_which_pages_may_read_it(void **state)
{
    struct kit *kit = *state;
    static const char *const origins[] = {"https://board.example.org"};
    kit->settings.allow_origin = (struct setting_list){origins, 1};
    kit->settings.token = "t";
    open_kit(kit);
    expect_answer(kit, "GET /healthz HTTP/1.1\r\nOrigin: https://board.example.org\r\n", "200",
                  "Access-Control-Allow-Origin: https://board.example.org\r\n");
    expect_answer(kit, "OPTIONS /events HTTP/1.1\r\nOrigin: https://board.example.org\r\n", "204",
                  "Access-Control-Allow-Headers: Authorization");
    char *other = kit_ask(kit->address, "GET /healthz HTTP/1.1\r\nOrigin: https://evil.org\r\n");
    assert_null(strstr(other, "Access-Control-Allow-Origin"));
    assert_non_null(strstr(other, "Vary: Origin"));
    free(other);
}

static void says_nothing_of_origins_unless_told_to(void **state)
{
    struct kit *kit = *state;
    open_kit(kit);
    char *answer = kit_ask(kit->address, "GET /healthz HTTP/1.1\r\nOrigin: https://a.org\r\n");
    assert_null(strstr(answer, "Access-Control"));
    free(answer);
}

static void says_so_where_the_port_is_taken(void **state)
{
    struct kit *kit = *state;
    open_kit(kit);
    struct mirror_settings settings = kit->settings;
    settings.listen = kit->address;
    struct mirror *second = NULL;
    struct err err;
    struct bridge *other = kit_bridge(1, 1 << 20);
    assert_int_equal(-1, mirror_open(&second, &settings, "busbar", other, &err));
    assert_null(second);
    assert_non_null(strstr(err.msg, "mirror: listen 127.0.0.1:"));
    assert_non_null(strstr(err.msg, "in use"));
    assert_int_equal(ERR_FATAL, err.kind);
    kit_bridge_free(&other);
}

/* ---- settings ---- */

static void expect_problem(const char *text, const char *problem)
{
    struct settings *file = settings_parse("f.yaml", text, strlen(text));
    const struct settings_node *node = settings_get(settings_root(file), "http");
    struct mirror_settings settings = {0};
    if (settings_apply(file, node, "http", mirror_rows, NULL, &settings) == 0)
        mirror_check(file, node, &settings);
    char *told = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&told, &len);
    settings_print_problems(file, to);
    fclose(to);
    if (problem == NULL ? len > 0 : strstr(told, problem) == NULL)
        fail_msg("%s: expected \"%s\", got \"%s\"", text, problem != NULL ? problem : "", told);
    free(told);
    settings_free(&file);
}

static void listens_elsewhere_than_on_loopback_only_when_told_how(void **state)
{
    (void)state;
    expect_problem("http: {}\n", NULL);
    expect_problem("http: {listen: 127.8.9.1:80}\n", NULL);
    expect_problem("http: {listen: '[::1]:80'}\n", NULL);
    expect_problem("http: {listen: localhost:80}\n", NULL);
    expect_problem("http: {listen: 0.0.0.0:80, token: abc}\n", NULL);
    expect_problem("http: {listen: 0.0.0.0:80, allow_anonymous: true}\n", NULL);
    expect_problem("http: {listen: 0.0.0.0:80}\n", "f.yaml:1: listen 0.0.0.0:80 without a token");
    expect_problem("http: {listen: '[::]:80'}\n", "without a token");
    expect_problem("http: {listen: 10.0.0.1:80, allow_anonymous: false}\n", "without a token");
    expect_problem("http: {listen: example.org:80}\n", "without a token");
}

static void checks_its_settings(void **state)
{
    (void)state;
    expect_problem("http: {listen: nonsense}\n", "nonsense");
    expect_problem("http: {token: ''}\n", "token");
    expect_problem("http: {token: 'a b'}\n", "without spaces");
    expect_problem("http: {max_clients: 0}\n", "max_clients");
    expect_problem("http: {heartbeat: 1ms}\n", "heartbeat");
    expect_problem("http: {allow_origin: board.example.org}\n", "origin");
    expect_problem("http: {allow_origin: [https://a.org, http://b.org:8080]}\n", NULL);
    expect_problem("http: {allow_origin: '*'}\n", NULL);
    expect_problem("http: {listen: 127.0.0.1:0, max_cleints: 5}\n", "max_clients");
}

static void says_what_is_wrong_with_its_certificate_and_its_key(void **state)
{
    (void)state;
    const char *two = "http:\n  tls_certificate: /proc/none.pem\n  tls_key: /proc/version\n";
    expect_problem("http: {tls_key: /proc/version}\n", "f.yaml:1: tls_key alone: expected");
    expect_problem(two, "f.yaml:2: certificate /proc/none.pem: No such file");
    expect_problem(two, "f.yaml:3: key /proc/version: not a PEM file");
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_its_pages, setup, kit_teardown),
        cmocka_unit_test_setup_teardown(says_why_it_is_not_ready, setup, kit_teardown),
        cmocka_unit_test_setup_teardown(tells_what_there_is_where_it_is_asked_for_something_else,
                                        setup, kit_teardown),
        cmocka_unit_test_setup_teardown(head_of_events_ends_at_once, setup, kit_teardown),
        cmocka_unit_test_setup_teardown(refuses_what_it_does_not_understand, setup, kit_teardown),
        cmocka_unit_test_setup_teardown(asks_for_the_token_everywhere_but_in_healthz, setup,
                                        kit_teardown),
        cmocka_unit_test_setup_teardown(tells_browsers_which_pages_may_read_it, setup,
                                        kit_teardown),
        cmocka_unit_test_setup_teardown(says_nothing_of_origins_unless_told_to, setup,
                                        kit_teardown),
        cmocka_unit_test_setup_teardown(says_so_where_the_port_is_taken, setup, kit_teardown),
        cmocka_unit_test(listens_elsewhere_than_on_loopback_only_when_told_how),
        cmocka_unit_test(checks_its_settings),
        cmocka_unit_test(says_what_is_wrong_with_its_certificate_and_its_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
