/* test_http_server.c - the server itself: bodies, limits, and peers that do not behave. */
#include "bridge/base/clock.h"
#include "bridge/base/stop.h"
#include "connectors/http_server.h"
#include "connectors/http_server_socket.h"
#include "tests/unit/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WAIT_MS = 30000, STREAM_BYTES = 300000 };

/* ---- a server that echoes ---- */

struct echo {
    struct http_server *server;
    struct stop *stop;
    pthread_t thread;
    atomic_int streams, ended, left, timed_out;
    atomic_int looks, reads;
    atomic_bool news; /* sleeping streams get one line when poked */
    struct http_stream *sleeper;
    bool told;
};

/* What a stream is at; all on the server's thread. */
struct client {
    struct echo *echo;
    size_t left;
    bool sleeps;
};

static void client_opened(void *arg, struct http_stream *stream)
{
    struct client *c = arg;
    atomic_fetch_add(&c->echo->streams, 1);
    if (c->sleeps)
        c->echo->sleeper = stream;
}

static ssize_t client_read(void *arg, char *out, size_t max)
{
    struct client *c = arg;
    atomic_fetch_add(&c->echo->reads, 1);
    if (max < HTTP_READ_MIN)
        abort();
    if (c->sleeps) {
        if (!c->echo->told)
            return 0;
        c->echo->told = false;
        memcpy(out, "news\n", 5);
        return 5;
    }
    size_t n = c->left < max ? c->left : max;
    memset(out, 's', n);
    c->left -= n;
    return n > 0 ? (ssize_t)n : HTTP_END;
}

static void client_closed(void *arg, enum http_closed why)
{
    struct client *c = arg;
    atomic_fetch_add(why == HTTP_CLOSED_ENDED  ? &c->echo->ended
                     : why == HTTP_CLOSED_PEER ? &c->echo->left
                                               : &c->echo->timed_out,
                     1);
    if (c->sleeps)
        c->echo->sleeper = NULL;
    free(c);
}

static const struct http_stream_ops client_ops = {
    .opened = client_opened,
    .read = client_read,
    .closed = client_closed,
};

/* Has one line when there are news, and knows when that was all. */
static size_t shared_look(void *arg, struct iovec *parts, size_t max)
{
    static char news[] = "news\n";
    struct client *c = arg;
    atomic_fetch_add(&c->echo->looks, 1);
    if (!c->echo->told || max == 0)
        return 0;
    parts[0] = (struct iovec){news, 5};
    return 1;
}

static bool shared_taken(void *arg, size_t bytes)
{
    struct client *c = arg;
    c->echo->told = bytes < 5;
    return c->echo->told;
}

static const struct http_stream_ops shared_ops = {
    .opened = client_opened,
    .read = client_read,
    .closed = client_closed,
    .look = shared_look,
    .taken = shared_taken,
};

static bool echo_parameter(void *arg, struct str name, struct str value)
{
    buf_printf(arg, "[%.*s=%.*s]", STR_ARG(name), STR_ARG(value));
    return true;
}

static void on_request(void *arg, const struct http_request *request, struct http_answer *answer)
{
    const char *path = http_request_path(request);
    bool shares = strcmp(path, "/share") == 0;
    if (shares || strcmp(path, "/stream") == 0 || strcmp(path, "/sleep") == 0) {
        struct client *c = mem_zalloc(sizeof *c);
        *c = (struct client){arg, STREAM_BYTES, strcmp(path, "/stream") != 0};
        answer->ops = shares ? &shared_ops : &client_ops;
        answer->client = c;
        return;
    }
    const char *header = http_request_header(request, "x-test");
    buf_printf(&answer->body, "%s %s ", http_request_method(request), path);
    http_request_query(request, echo_parameter, &answer->body);
    buf_printf(&answer->body, " %s ", header != NULL ? header : "-");
    buf_append_str(&answer->body, http_request_body(request));
    http_answer_header(answer, "X-Answer", "yes");
    answer->content_type = "text/plain";
}

static int on_turn(void *arg)
{
    struct echo *echo = arg;
    if (atomic_exchange(&echo->news, false) && echo->sleeper != NULL) {
        echo->told = true;
        http_stream_wake(echo->sleeper);
    }
    return 60000;
}

static void *run(void *arg)
{
    struct echo *echo = arg;
    http_server_run(echo->server, echo->stop);
    return NULL;
}

static struct echo *echo_start(struct http_server_options options)
{
    struct echo *echo = mem_zalloc(sizeof *echo);
    struct err err;
    options.listen = "127.0.0.1:0";
    options.connections_max = options.connections_max > 0 ? options.connections_max : 500;
    options.request_timeout_s = options.request_timeout_s > 0 ? options.request_timeout_s : 30;
    options.stream_timeout_s = options.stream_timeout_s > 0 ? options.stream_timeout_s : 30;
    options.handle = on_request;
    options.turn = on_turn;
    options.arg = echo;
    echo->stop = stop_new();
    if (http_server_open(&echo->server, &options, &err) != 0)
        fail_msg("%s", err.msg);
    assert_int_equal(0, pthread_create(&echo->thread, NULL, run, echo));
    return echo;
}

static void echo_end(struct echo *echo)
{
    stop_request(echo->stop);
    pthread_join(echo->thread, NULL);
    http_server_close(&echo->server);
    assert_int_equal(atomic_load(&echo->streams), atomic_load(&echo->ended) +
                                                      atomic_load(&echo->left) +
                                                      atomic_load(&echo->timed_out));
    stop_free(&echo->stop);
    free(echo);
}

/* ---- a peer ---- */

static int dial(const struct echo *echo)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *port = strrchr(http_server_address(echo->server), ':') + 1;
    at.sin_port = htons((uint16_t)strtol(port, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(0, connect(fd, (struct sockaddr *)&at, sizeof at));
    return fd;
}

static void say(int fd, const char *text)
{
    send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* Everything up to the end, or to `until`. */
static char *hear(int fd, const char *until)
{
    struct buf got = {0};
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (poll(&ready, 1, WAIT_MS) > 0) {
        ssize_t n = recv(fd, buf_reserve(&got, 65536), 65536, 0);
        if (n <= 0)
            break;
        got.len += (size_t)n;
        if (until != NULL && strstr(buf_cstr(&got), until) != NULL)
            break;
    }
    char *text = mem_strdup(buf_cstr(&got));
    buf_fini(&got);
    return text;
}

/* One that says nothing for a while, as on a machine that stands still, is ended in time: again. */
static void answers_one_of(const struct echo *echo, int tries)
{
    char *answer = NULL;
    do {
        free(answer);
        int fd = dial(echo);
        say(fd, "GET /alive HTTP/1.1\r\nHost: x\r\n\r\n");
        answer = hear(fd, "GET /alive");
        close(fd);
    } while (strstr(answer, "200") == NULL && --tries > 0);
    assert_non_null(strstr(answer, "GET /alive"));
    free(answer);
}

static void expect(const struct echo *echo, const char *request, const char *status,
                   const char *part)
{
    int fd = dial(echo);
    say(fd, request);
    char *answer = hear(fd, part);
    if (strncmp(answer, "HTTP/1.1 ", 9) != 0 || strncmp(answer + 9, status, 3) != 0 ||
        strstr(answer, part) == NULL)
        fail_msg("%.200s: expected %s \"%s\", got \"%.500s\"", request, status, part, answer);
    free(answer);
    close(fd);
}

static bool becomes(atomic_int *value, int wanted)
{
    int64_t until = clock_mono_ms() + WAIT_MS;
    while (atomic_load(value) != wanted && clock_mono_ms() < until)
        poll(NULL, 0, 5);
    return atomic_load(value) == wanted;
}

static void still_answers(const struct echo *echo)
{
    expect(echo, "GET /alive HTTP/1.1\r\nHost: x\r\n\r\n", "200", "GET /alive");
}

/* ---- tests ---- */

static void gives_its_handler_what_was_asked(void **state)
{
    (void)state;
    struct echo *echo = echo_start((struct http_server_options){.body_max = 1000});
    expect(echo, "GET /a%20b?x=1&y=a%26b&x=2+3&z HTTP/1.1\r\nHost: x\r\nX-Test: t\r\n\r\n", "200",
           "GET /a b [x=1][y=a&b][x=2 3][z=] t ");
    expect(echo, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200", "X-Answer: yes\r\n");
    expect(echo, "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "200",
           "POST /p  - hello");
    expect(echo,
           "PUT /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
           "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
           "200", "PUT /p  - hello");
    echo_end(echo);
}

static void keeps_connections_for_more_requests(void **state)
{
    (void)state;
    struct echo *echo = echo_start((struct http_server_options){.body_max = 1000});
    int fd = dial(echo);
    int64_t began_ms = clock_mono_ms();
    for (int i = 0; i < 100; i++) {
        say(fd, "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok");
        char *answer = hear(fd, "POST /p  - ok");
        assert_non_null(strstr(answer, "POST /p  - ok"));
        free(answer);
    }
    assert_true(clock_mono_ms() - began_ms < WAIT_MS); /* each is noticed at once */
    close(fd);
    echo_end(echo);
}

static void refuses_bodies_that_are_too_large(void **state)
{
    (void)state;
    struct echo *echo = echo_start((struct http_server_options){.body_max = 10});
    expect(echo, "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world", "413",
           "at most 10 bytes");
    expect(echo,
           "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
           "8\r\nhello wo\r\n8\r\nrld12345\r\n0\r\n\r\n",
           "413", "at most 10 bytes");
    still_answers(echo);
    echo_end(echo);
}

static void answers_without_reading_a_body_where_it_wants_none(void **state)
{
    (void)state;
    struct echo *echo = echo_start((struct http_server_options){.body_max = 0});
    expect(echo, "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhel", "200",
           "POST /p  - ");
    expect(echo, "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel", "200",
           "POST /p  - ");
    echo_end(echo);
}

static void streams_to_the_end(void **state)
{
    (void)state;
    struct echo *echo = echo_start((struct http_server_options){0});
    int fd = dial(echo);
    say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    char *answer = hear(fd, NULL);
    const char *body = strstr(answer, "\r\n\r\n");
    assert_non_null(body);
    assert_int_equal(STREAM_BYTES, strlen(body + 4));
    assert_null(strstr(answer, "chunked"));
    assert_non_null(strstr(answer, "Connection: close"));
    free(answer);
    close(fd);
    assert_true(becomes(&echo->ended, 1));
    expect(echo, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n", "200", "\r\n\r\n");
    assert_true(becomes(&echo->ended, 2));
    atomic_fetch_add(&echo->streams, 1); /* a HEAD opens none */
    echo_end(echo);
}

static void tell_news(struct echo *echo, int fd)
{
    atomic_store(&echo->news, true);
    http_server_poke(echo->server);
    char *answer = hear(fd, "news\n");
    assert_non_null(strstr(answer, "news\n"));
    free(answer);
}

static void wakes_a_sleeping_stream(void **state)
{
    (void)state;
    struct echo *echo = echo_start((struct http_server_options){0});
    int fd = dial(echo);
    say(fd, "GET /sleep HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(becomes(&echo->streams, 1));
    int64_t began_ms = clock_mono_ms();
    for (int i = 0; i < 200; i++)
        tell_news(echo, fd);
    assert_true(clock_mono_ms() - began_ms < WAIT_MS); /* a poke that is missed costs a second */
    close(fd);
    assert_true(becomes(&echo->left, 1)); /* noticed though it sleeps */
    echo_end(echo);
}

static void asks_no_more_of_who_says_that_was_all(void **state)
{
    (void)state;
    struct echo *echo = echo_start((struct http_server_options){0});
    int fd = dial(echo);
    say(fd, "GET /share HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(becomes(&echo->reads, 1));
    for (int i = 0; i < 5; i++)
        tell_news(echo, fd);
    assert_int_equal(1 + 5, atomic_load(&echo->looks));
    assert_int_equal(1, atomic_load(&echo->reads));
    close(fd);
    assert_true(becomes(&echo->left, 1));
    echo_end(echo);
}

static void cuts_a_stream_that_nobody_takes(void **state)
{
    (void)state;
    struct http_server_options options = {.stream_timeout_s = 1, .send_buffer = 4096};
    struct echo *echo = echo_start(options);
    int fd = dial(echo);
    int small = 2048;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(becomes(&echo->timed_out, 1));
    close(fd);
    echo_end(echo);
}

static void survives_garbage(void **state)
{
    (void)state;
    struct echo *echo = echo_start((struct http_server_options){.body_max = 1000});
    static const char *const garbage[] = {
        "\r\n\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\x01\xff\xfe\xfd\xfc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n: no name\r\n\r\n",
        "GET / HTTP/1.1\r\nHost x\r\n\r\n",
        "GET /%00%ff%zz?%00=%&&==&% HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://a/b HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
            int fd = dial(echo);
            say(fd, garbage[i]);
            if (round > 0)
                shutdown(fd, round == 1 ? SHUT_WR : SHUT_RDWR);
            if (round == 1)
                free(hear(fd, NULL));
            close(fd);
        }
    still_answers(echo);
    echo_end(echo);
}

static void refuses_headers_that_do_not_end(void **state)
{
    (void)state;
    struct echo *echo = echo_start((struct http_server_options){0});
    char line[1024];
    memset(line, 'h', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    for (int kind = 0; kind < 2; kind++) {
        int fd = dial(echo);
        say(fd, kind == 0 ? "GET /" : "GET / HTTP/1.1\r\nHost: x\r\n");
        for (int i = 0; i < 100; i++) {
            say(fd, line);
            if (kind == 1)
                say(fd, ": v\r\n");
        }
        char *answer = hear(fd, NULL);
        if (answer[0] != '\0' && strncmp(answer, "HTTP/1.1 4", 10) != 0)
            fail_msg("got %.100s", answer);
        free(answer);
        close(fd);
    }
    still_answers(echo);
    echo_end(echo);
}

static void ends_requests_that_drip(void **state)
{
    (void)state;
    struct echo *echo = echo_start((struct http_server_options){.request_timeout_s = 1});
    int fd = dial(echo);
    struct pollfd end = {.fd = fd, .events = POLLRDHUP};
    say(fd, "GET / HTTP/1.1\r\n");
    int64_t start = clock_mono_ms();
    while (poll(&end, 1, 100) == 0 && clock_mono_ms() - start < WAIT_MS)
        say(fd, "X-Drip: x\r\n"); /* always something, never the end */
    assert_true(clock_mono_ms() - start < WAIT_MS);
    close(fd);
    answers_one_of(echo, 5);
    echo_end(echo);
}

static void survives_peers_that_come_and_go(void **state)
{
    (void)state;
    struct echo *echo = echo_start((struct http_server_options){0});
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    for (int i = 0; i < 2000; i++) {
        int fd = dial(echo);
        if (i % 4 != 0)
            say(fd, i % 3 == 0 ? "GET /sleep HTTP/1.1\r\nHost: x\r\n\r\n"
                               : "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
        if (i % 2 == 0)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    still_answers(echo);
    echo_end(echo);
}

static void newcomers_wait_while_all_places_are_taken(void **state)
{
    (void)state;
    struct echo *echo =
        echo_start((struct http_server_options){.connections_max = 4, .request_timeout_s = 1});
    int fds[8];
    for (int i = 0; i < 8; i++)
        fds[i] = dial(echo); /* they say nothing and are ended in time */
    answers_one_of(echo, 5);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    echo_end(echo);
}

static void splits_addresses(void **state)
{
    (void)state;
    char host[16];
    const char *port;
    assert_true(http_server_split("127.0.0.1:80", host, sizeof host, &port));
    assert_string_equal("127.0.0.1", host);
    assert_string_equal("80", port);
    assert_true(http_server_split("[::1]:0", host, sizeof host, &port));
    assert_string_equal("::1", host);
    assert_false(http_server_split("nonsense", host, sizeof host, &port));
    assert_false(http_server_split("a.host.that.is.long:80", host, sizeof host, &port));
}

static void says_where_it_could_not_listen(void **state)
{
    (void)state;
    struct err err;
    char address[HTTP_ADDRESS_MAX];
    assert_int_equal(-1, http_server_socket("192.0.2.1:80", 0, address, &err));
    assert_non_null(strstr(err.msg, "listen 192.0.2.1:80: "));
    assert_int_equal(-1, http_server_socket("no.such.host.invalid:80", 0, address, &err));
    assert_int_equal(ERR_FATAL, err.kind);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_its_handler_what_was_asked),
        cmocka_unit_test(keeps_connections_for_more_requests),
        cmocka_unit_test(refuses_bodies_that_are_too_large),
        cmocka_unit_test(answers_without_reading_a_body_where_it_wants_none),
        cmocka_unit_test(streams_to_the_end),
        cmocka_unit_test(wakes_a_sleeping_stream),
        cmocka_unit_test(asks_no_more_of_who_says_that_was_all),
        cmocka_unit_test(cuts_a_stream_that_nobody_takes),
        cmocka_unit_test(survives_garbage),
        cmocka_unit_test(refuses_headers_that_do_not_end),
        cmocka_unit_test(ends_requests_that_drip),
        cmocka_unit_test(survives_peers_that_come_and_go),
        cmocka_unit_test(newcomers_wait_while_all_places_are_taken),
        cmocka_unit_test(splits_addresses),
        cmocka_unit_test(says_where_it_could_not_listen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
