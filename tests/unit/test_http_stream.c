/* test_http_stream.c - what goes out over HTTP, against a server that says what the test wrote. */
#include "connectors/http_stream.h"

#include "bridge/base/clock.h"
#include "connectors/http_stream_access.h"
#include "tests/unit/stopwatch.h"
#include "tests/unit/stub_server.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

struct fixture {
    struct stop *stop;
    struct stub_server *server;
    struct http_stream *stream;
    struct str bytes;
    struct err err;
};

static int set_up(void **state)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    f->stop = stop_new();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    http_stream_close(&f->stream);
    if (f->server != NULL)
        stub_stop(&f->server);
    stop_free(&f->stop);
    free(f);
    return 0;
}

static void ask(struct fixture *f, const struct stub_answer *answer)
{
    f->server = stub_start(answer, 1);
    f->stream = http_stream_open(&(struct http_request){.url = f->server->url, .stop = f->stop});
}

static enum http_read read_for(struct fixture *f, int ms)
{
    return http_stream_read(f->stream, ms, &f->bytes, &f->err);
}

static void gives_the_body_then_the_close(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR(OK_HEAD "hello")};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_DATA);
    assert_true(str_is(f->bytes, "hello"));
    assert_int_equal(http_stream_status(f->stream), 200);
    assert_string_equal(http_stream_header(f->stream, "content-type"), "application/json");
    assert_string_equal(http_stream_header(f->stream, "x-none"), "");
    assert_int_equal(read_for(f, 20000), HTTP_CLOSED);
}

static void gives_chunks_that_came_together_as_one(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR(CHUNKED "3\r\nabc\r\n3\r\ndef\r\n"),
                            .wait = true,
                            .then = STR("3\r\nghi\r\n0\r\n\r\n")};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_DATA);
    assert_true(str_is(f->bytes, "abcdef"));
    assert_false(http_stream_more(f->stream));
    assert_int_equal(read_for(f, 20), HTTP_IDLE);
    stub_go_on(f->server);
    assert_int_equal(read_for(f, 20000), HTTP_DATA);
    assert_true(str_is(f->bytes, "ghi"));
    assert_int_equal(read_for(f, 20000), HTTP_CLOSED);
}

static void collects_no_more_than_its_ceiling_at_a_time(void **state)
{
    struct fixture *f = *state;
    enum { SIZE = 4 << 20 };
    struct buf all = {0};
    buf_append_cstr(&all, OK_HEAD);
    size_t head = all.len, got = 0;
    memset(buf_reserve(&all, SIZE), 'x', SIZE);
    all.len += SIZE;
    struct stub_answer a = {.first = buf_str(&all)};
    ask(f, &a);
    bool said_more = false;
    enum http_read what;
    while ((what = read_for(f, 20000)) == HTTP_DATA) {
        assert_in_range(f->bytes.len, 1, HTTP_COLLECT_MAX);
        said_more = said_more || http_stream_more(f->stream);
        got += f->bytes.len;
    }
    assert_int_equal(what, HTTP_CLOSED);
    assert_int_equal(got, all.len - head);
    assert_true(said_more);
    stub_stop(&f->server);
    buf_fini(&all);
}

static void keeps_the_beginning_of_a_refusal(void **state)
{
    struct fixture *f = *state;
    static char body[9000];
    memset(body, 'r', sizeof body);
    struct stub_answer a = {.first = STR("HTTP/1.1 500 Oops\r\nContent-Length: 9000\r\n\r\n"),
                            .then = {body, sizeof body}};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_REFUSED);
    assert_int_equal(http_stream_status(f->stream), 500);
    assert_int_equal(http_stream_refusal(f->stream).len, HTTP_REFUSAL_MAX);
    stub_stop(&f->server);
}

static void does_not_follow_a_redirect(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first =
                                STR("HTTP/1.1 302 Found\r\nLocation: http://elsewhere:4646/x\r\n"
                                    "Content-Length: 0\r\n\r\n")};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_REFUSED);
    assert_int_equal(http_stream_status(f->stream), 302);
    assert_string_equal(http_stream_header(f->stream, "Location"), "http://elsewhere:4646/x");
    assert_int_equal(f->server->n_requests, 1);
}

static void tells_a_break_in_the_middle_from_an_end(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR(CHUNKED "5\r\nabc")};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_DATA);
    assert_int_equal(read_for(f, 20000), HTTP_FAILED);
    assert_int_equal(f->err.kind, ERR_RETRY);
    assert_non_null(strstr(f->err.msg, "broke off"));
}

static void takes_no_broken_head_for_an_answer(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR("HTTP/1.1 200 OK\r\nContent-Type: text/pl")};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_FAILED);
    assert_int_equal(f->err.kind, ERR_RETRY);
    assert_non_null(strstr(f->err.msg, "broke off"));
}

static void tells_a_reset(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR(OK_HEAD "x"), .wait = true, .reset = true};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_DATA);
    stub_go_on(f->server);
    assert_int_equal(read_for(f, 20000), HTTP_FAILED);
    assert_non_null(strstr(f->err.msg, "broke off: Connection reset"));
}

/* A port that is taken, so that nobody else comes by it, and on which nobody listens. */
static int take_port(char *url, size_t size)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(0, bind(fd, (struct sockaddr *)&at, sizeof at));
    assert_int_equal(0, getsockname(fd, (struct sockaddr *)&at, &len));
    snprintf(url, size, "http://127.0.0.1:%d", ntohs(at.sin_port));
    return fd;
}

static void says_that_nobody_listens(void **state)
{
    struct fixture *f = *state;
    char url[64];
    int fd = take_port(url, sizeof url);
    f->stream = http_stream_open(&(struct http_request){.url = url, .stop = f->stop});
    assert_int_equal(read_for(f, 20000), HTTP_FAILED);
    assert_non_null(strstr(f->err.msg, "Connection refused"));
    close(fd);
}

static void says_that_a_name_is_unknown(void **state)
{
    struct fixture *f = *state;
    f->stream = http_stream_open(&(struct http_request){.url = "http://no-such-host.invalid:4646"});
    assert_int_equal(read_for(f, 15000), HTTP_FAILED);
    assert_non_null(strstr(f->err.msg, "resolved"));
}

static void says_that_a_port_is_silent_to_tls(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR("HTTP/1.1 400 Bad Request\r\n\r\n")};
    f->server = stub_start(&a, 1);
    char url[80];
    snprintf(url, sizeof url, "https%s", f->server->url + strlen("http"));
    f->stream = http_stream_open(&(struct http_request){.url = url, .connect_timeout_ms = 3000});
    assert_int_equal(read_for(f, 20000), HTTP_FAILED);
    assert_non_null(strstr(f->err.msg, "TLS handshake got no answer"));
}

static void says_that_the_tls_handshake_failed(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR("HTTP/1.1 400 Bad Request\r\n\r\n")};
    f->server = stub_start(&a, 1);
    atomic_store(&f->server->any_bytes, true);
    char url[80];
    snprintf(url, sizeof url, "https%s", f->server->url + strlen("http"));
    f->stream = http_stream_open(&(struct http_request){.url = url});
    assert_int_equal(read_for(f, 20000), HTTP_FAILED);
    assert_non_null(strstr(f->err.msg, "TLS handshake failed"));
    assert_non_null(strstr(f->err.msg, "http://"));
}

static void says_that_a_port_speaks_no_http(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR("220 mail.example.org ESMTP\r\n")};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_FAILED);
    assert_non_null(strstr(f->err.msg, "HTTP"));
}

static void refuses_an_endless_head(void **state)
{
    struct fixture *f = *state;
    struct buf head = {0};
    buf_append_cstr(&head, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 2000; i++)
        buf_printf(&head, "X-Header-%d: a value of some more bytes than need be\r\n", i);
    struct stub_answer a = {.first = buf_str(&head)};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_FAILED);
    assert_non_null(strstr(f->err.msg, "head is longer"));
    stub_stop(&f->server);
    buf_fini(&head);
}

static void reads_the_stream_of_a_nomad_that_says_http_0_0(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR("HTTP/0.0 200 OK\r\nConnec"),
                            .pause_ms = 150,
                            .then = STR("tion: close\r\n\r\n{}\n")};
    f->server = stub_start(&a, 1);
    char url[96];
    snprintf(url, sizeof url, "http://me:pw@%s/v1/x?index=7", f->server->url + strlen("http://"));
    const char *const headers[] = {"user-agent: we", "X-Nomad-Token: secret", NULL};
    f->stream =
        http_stream_open(&(struct http_request){.url = url, .headers = headers, .stop = f->stop});
    enum http_read what;
    while ((what = read_for(f, 20)) == HTTP_IDLE)
        assert_int_equal(http_stream_status(f->stream), 0);
    assert_int_equal(what, HTTP_DATA);
    assert_true(str_is(f->bytes, "{}\n"));
    assert_int_equal(http_stream_status(f->stream), 200);
    assert_int_equal(read_for(f, 20000), HTTP_CLOSED);
    assert_int_equal(f->server->n_requests, 2);
    assert_non_null(
        strstr(f->server->requests[1], "GET /v1/x?index=7 HTTP/1.1\r\nHost: 127.0.0.1:"));
    assert_non_null(strstr(f->server->requests[1], "\r\nX-Nomad-Token: secret\r\n\r\n"));
    assert_null(strstr(f->server->requests[1], "User-Agent: busbar"));
}

static void collects_no_more_than_its_ceiling_of_http_0_0(void **state)
{
    struct fixture *f = *state;
    enum { SIZE = 2 << 20 };
    struct buf all = {0};
    buf_append_cstr(&all, "HTTP/0.0 200 OK\r\n\r\n");
    memset(buf_reserve(&all, SIZE), 'x', SIZE);
    size_t got = 0, head = all.len;
    all.len += SIZE;
    struct stub_answer a = {.first = buf_str(&all)};
    ask(f, &a);
    enum http_read what;
    while ((what = read_for(f, 20000)) == HTTP_DATA) {
        assert_in_range(f->bytes.len, 1, HTTP_COLLECT_MAX);
        got += f->bytes.len;
    }
    assert_int_equal(what, HTTP_CLOSED);
    assert_int_equal(got, all.len - head);
    stub_stop(&f->server);
    buf_fini(&all);
}

static void gives_up_on_a_chunked_http_0_0(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {
        .first = STR("HTTP/0.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_FAILED);
    assert_non_null(strstr(f->err.msg, "does not answer in HTTP/1"));
}

static void *request_stop_soon(void *stop)
{
    poll(NULL, 0, 100);
    stop_request(stop);
    return NULL;
}

static void wakes_up_when_stopped(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR(OK_HEAD), .hold = true};
    ask(f, &a);
    assert_int_equal(read_for(f, 300), HTTP_IDLE); /* libcurl's own timers are over by then */
    pthread_t thread;
    pthread_create(&thread, NULL, request_stop_soon, f->stop);
    struct stopwatch before = stopwatch_start();
    assert_int_equal(read_for(f, 20000), HTTP_STOPPED);
    assert_took(&before, 0, 5000);
    pthread_join(thread, NULL);
}

static void sends_the_headers_it_was_given(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR(OK_HEAD "[]")};
    f->server = stub_start(&a, 1);
    char url[96];
    snprintf(url, sizeof url, "%s/v1/x?index=7", f->server->url);
    const char *const headers[] = {"X-Nomad-Token: secret", NULL};
    struct http_request request = {.url = url, .headers = headers, .stop = f->stop};
    struct http_answer answer = {0};
    assert_int_equal(http_ask(&request, 20000, 100, &answer, &f->err), 0);
    assert_int_equal(answer.status, 200);
    assert_true(str_is(buf_str(&answer.body), "[]"));
    assert_non_null(strstr(f->server->requests[0], "GET /v1/x?index=7 HTTP/1.1\r\n"));
    assert_non_null(strstr(f->server->requests[0], "\r\nX-Nomad-Token: secret\r\n"));
    assert_null(strstr(f->server->requests[0], "Accept-Encoding"));
    http_answer_fini(&answer);
}

static void bounds_a_short_answer_in_size_and_time(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR(OK_HEAD "0123456789"), .hold = true};
    f->server = stub_start(&a, 1);
    struct http_request request = {.url = f->server->url, .stop = f->stop};
    struct http_answer answer = {0};
    assert_int_equal(http_ask(&request, 20000, 9, &answer, &f->err), -1);
    assert_int_equal(f->err.kind, ERR_INPUT);
    http_answer_fini(&answer);
    assert_int_equal(http_ask(&request, 100, 10, &answer, &f->err), -1);
    assert_int_equal(f->err.kind, ERR_RETRY);
    http_answer_fini(&answer);
}

static void sends_credentials_unasked(void **state)
{
    struct fixture *f = *state;
    static const char *const passwords[] = {"", "s", "s3", "s3c", "s3cret\xc3\xa9"};
    static const char *const sent[] = {"bWU6", "bWU6cw==", "bWU6czM=", "bWU6czNj",
                                       "bWU6czNjcmV0w6k="}; /* by coreutils' base64 */
    struct stub_answer a = {.first = STR(OK_HEAD)};
    f->server = stub_start(&a, 1);
    for (size_t i = 0; i < 5; i++) {
        struct http_access access = {.user = "me", .password = passwords[i], .proxy = ""};
        struct http_request request = {.url = f->server->url, .access = &access};
        struct http_answer answer = {0};
        char line[80];
        assert_int_equal(http_ask(&request, 20000, 100, &answer, &f->err), 0);
        snprintf(line, sizeof line, "\r\nAuthorization: Basic %s\r\n", sent[i]);
        assert_non_null(strstr(f->server->requests[i], line));
        http_answer_fini(&answer);
    }
}

/* The stub stands for an HTTP proxy: what is asked for does not exist. */
static void asks_through_a_proxy(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR(OK_HEAD "by proxy")};
    f->server = stub_start(&a, 1);
    char proxy[96];
    snprintf(proxy, sizeof proxy, "http://me:p%%40w@%s", f->server->url + strlen("http://"));
    struct http_access access = {.proxy = proxy, .server_name = "not.for.plain.http"};
    struct http_request request = {.url = "http://nomad.invalid:4646/v1", .access = &access};
    struct http_answer answer = {0};
    setenv("no_proxy", "*", 1);
    assert_int_equal(http_ask(&request, 20000, 100, &answer, &f->err), 0);
    unsetenv("no_proxy");
    assert_true(str_is(buf_str(&answer.body), "by proxy"));
    assert_non_null(strstr(f->server->requests[0], "GET http://nomad.invalid:4646/v1 HTTP/1.1\r\n"
                                                   "Host: nomad.invalid:4646\r\n"));
    assert_non_null(strstr(f->server->requests[0], "Proxy-Authorization: Basic bWU6cEB3\r\n"));
    http_answer_fini(&answer);
}

static void expect_failure(struct fixture *f, const struct http_request *request, const char *words)
{
    f->stream = http_stream_open(request);
    assert_int_equal(read_for(f, 20000), HTTP_FAILED);
    if (strstr(f->err.msg, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", f->err.msg, words);
    http_stream_close(&f->stream);
}

static void says_what_a_proxy_refuses(void **state)
{
    struct fixture *f = *state;
    struct stub_answer answers[] = {
        {.first = STR("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")},
        {.first = STR("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")}};
    f->server = stub_start(answers, 2);
    struct http_access access = {.proxy = f->server->url};
    struct http_request request = {.url = "https://nomad.invalid:4646", .access = &access};
    expect_failure(f, &request, "the proxy wants other credentials (407)");
    expect_failure(f, &request, "the proxy does not let through, or finds no server (");
    assert_non_null(strstr(f->server->requests[1], "CONNECT nomad.invalid:4646 HTTP/1.1\r\n"));
    char gone[64];
    int fd = take_port(gone, sizeof gone);
    access.proxy = gone;
    expect_failure(f, &request, "can't connect to the proxy: Connection refused");
    close(fd);
}

static void connects_to_the_address_and_names_the_server(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.hold = true};
    f->server = stub_start(&a, 1);
    atomic_store(&f->server->any_bytes, true);
    char url[80];
    snprintf(url, sizeof url, "https%s/v1", f->server->url + strlen("http"));
    struct http_access access = {.server_name = "server.global.nomad", .proxy = ""};
    struct http_request request = {.url = url, .access = &access, .connect_timeout_ms = 3000};
    expect_failure(f, &request, "no connection within 3000 ms");
    for (int i = 0; i < 20000 && atomic_load(&f->server->n_requests) == 0; i++)
        poll(NULL, 0, 1); /* its thread may be late */
    stub_join(f->server);
    const char *hello = f->server->requests[0]; /* its extension server_name, RFC 6066 */
    assert_non_null(memmem(hello, STUB_REQUEST_BYTES, "server.global.nomad", 19));
}

static void leaves_the_host_header_as_configured(void **state)
{
    (void)state;
    struct http_access access = {.server_name = "server.global.nomad"};
    struct http_request request = {.url = "https://[::1]:4646/v1?a=b", .access = &access};
    struct curl_slist *headers = http_access_headers(&request);
    assert_string_equal(headers->data, "Host: [::1]:4646");
    assert_null(headers->next);
    http_access_free_headers(headers);
    CURL *easy = curl_easy_init();
    struct curl_slist *to = http_access_apply(easy, &request);
    char *url = NULL;
    assert_string_equal(to->data, "::[::1]:4646");
    curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &url);
    assert_string_equal(url, "https://server.global.nomad:4646/v1?a=b");
    curl_slist_free_all(to);
    request.url = "https://a/v1";
    to = http_access_apply(easy, &request);
    assert_string_equal(to->data, "::a:");
    curl_slist_free_all(to);
    curl_easy_cleanup(easy);
}

static void says_that_no_socket_is_there(void **state)
{
    struct fixture *f = *state;
    struct http_access access = {.unix_socket = "no-such.sock", .proxy = "http://127.0.0.1:1"};
    struct http_request request = {.url = "http://localhost/v1", .access = &access};
    expect_failure(f, &request, "is that path the socket of a running server?");
}

static void says_that_the_ca_is_unreadable(void **state)
{
    struct fixture *f = *state;
    struct http_access access = {.ca = "no-such.pem", .proxy = ""};
    struct stub_answer a = {.hold = true};
    f->server = stub_start(&a, 1);
    char url[80];
    snprintf(url, sizeof url, "https%s", f->server->url + strlen("http"));
    struct http_request request = {.url = url, .access = &access};
    expect_failure(f, &request, "`tls_ca` can't be read");
}

static void shows_urls_without_their_secrets(void **state)
{
    (void)state;
    struct buf out = {0};
    http_url_label(&out, "https://me:pw@nomad.example:4646/a@b");
    assert_string_equal(buf_cstr(&out), "https://nomad.example:4646/a@b");
    buf_clear(&out);
    http_url_label(&out, "http://[::1]:4646");
    assert_string_equal(buf_cstr(&out), "http://[::1]:4646");
    buf_clear(&out);
    http_url_encode(&out, "Job:my job/é*");
    assert_string_equal(buf_cstr(&out), "Job%3Amy%20job%2F%C3%A9%2A");
    buf_fini(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gives_the_body_then_the_close),
        TEST(gives_chunks_that_came_together_as_one),
        TEST(collects_no_more_than_its_ceiling_at_a_time),
        TEST(keeps_the_beginning_of_a_refusal),
        TEST(does_not_follow_a_redirect),
        TEST(tells_a_break_in_the_middle_from_an_end),
        TEST(takes_no_broken_head_for_an_answer),
        TEST(tells_a_reset),
        TEST(says_that_nobody_listens),
        TEST(says_that_a_name_is_unknown),
        TEST(says_that_a_port_is_silent_to_tls),
        TEST(says_that_the_tls_handshake_failed),
        TEST(says_that_a_port_speaks_no_http),
        TEST(refuses_an_endless_head),
        TEST(reads_the_stream_of_a_nomad_that_says_http_0_0),
        TEST(collects_no_more_than_its_ceiling_of_http_0_0),
        TEST(gives_up_on_a_chunked_http_0_0),
        TEST(wakes_up_when_stopped),
        TEST(sends_the_headers_it_was_given),
        TEST(bounds_a_short_answer_in_size_and_time),
        TEST(sends_credentials_unasked),
        TEST(asks_through_a_proxy),
        TEST(says_what_a_proxy_refuses),
        TEST(connects_to_the_address_and_names_the_server),
        TEST(leaves_the_host_header_as_configured),
        TEST(says_that_no_socket_is_there),
        TEST(says_that_the_ca_is_unreadable),
        TEST(shows_urls_without_their_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
