/* test_http_ask.c - requests of other methods, with and without a body, and connections that are
 * kept: against a server that notes what it gets, byte for byte. */
#include "connectors/http_stream.h"

#include "bridge/base/clock.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

enum { EXCHANGES_MAX = 8, BIG = 3 << 20 };

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"

/* ---- a server ---- */

struct exchange {
    /* What the test wrote down. */
    const char *answer;
    bool close;     /* after the answer, or instead of one where that is "" */
    bool head_only; /* answer before the body is read */
    /* What was seen. */
    struct buf head, body;
    int connection; /* from 1 */
};

struct server {
    int fd;
    int wake[2];
    pthread_t thread;
    char url[64];
    struct exchange exchanges[EXCHANGES_MAX]; /* the thread's until it ended */
    size_t n_answers, n_seen;
    int connections;
};

/* False where the peer, or the test, is done. */
static bool receive(struct server *s, int fd, struct buf *into, size_t until)
{
    struct pollfd both[2] = {{.fd = fd, .events = POLLIN}, {.fd = s->wake[0], .events = POLLIN}};
    while (into->len < until) {
        poll(both, 2, -1);
        if (both[0].revents == 0)
            return false;
        ssize_t n = recv(fd, buf_reserve(into, until - into->len), until - into->len, 0);
        if (n <= 0)
            return false;
        into->len += (size_t)n;
    }
    return true;
}

static bool receive_head(struct server *s, int fd, struct buf *head)
{
    while (head->len < 4 || memcmp(head->p + head->len - 4, "\r\n\r\n", 4) != 0)
        if (!receive(s, fd, head, head->len + 1))
            return false;
    return true;
}

static size_t length_of(struct buf *head)
{
    const char *length = strcasestr(buf_cstr(head), "\r\nContent-Length: ");
    return length != NULL ? strtoul(length + strlen("\r\nContent-Length: "), NULL, 10) : 0;
}

/* True where the connection may go on. */
static bool serve_one(struct server *s, int fd)
{
    struct exchange *e = &s->exchanges[s->n_seen < s->n_answers ? s->n_seen : s->n_answers - 1];
    struct buf rest = {0};
    if (!receive_head(s, fd, &e->head))
        return false;
    s->n_seen++;
    e->connection = s->connections;
    if (!e->head_only && !receive(s, fd, &e->body, length_of(&e->head)))
        return false;
    ssize_t sent = send(fd, e->answer, strlen(e->answer), MSG_NOSIGNAL);
    if (e->head_only) { /* what is not read would make the close a reset */
        shutdown(fd, SHUT_WR);
        receive(s, fd, &rest, BIG);
    }
    buf_fini(&rest);
    return sent >= 0 && !e->close;
}

static void *serve(void *arg)
{
    struct server *s = arg;
    struct pollfd both[2] = {{.fd = s->fd, .events = POLLIN}, {.fd = s->wake[0], .events = POLLIN}};
    for (;;) {
        poll(both, 2, -1);
        if (both[1].revents != 0)
            return NULL;
        int fd = accept(s->fd, NULL, NULL);
        s->connections++;
        while (s->n_seen < EXCHANGES_MAX && serve_one(s, fd))
            ;
        close(fd);
    }
}

static void start(struct server *s)
{
    /* Another address than that which the kernel takes for the client's end. */
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    inet_pton(AF_INET, "127.0.0.2", &at.sin_addr);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || pipe(s->wake) != 0 || bind(s->fd, (struct sockaddr *)&at, len) != 0 ||
        listen(s->fd, 16) != 0 || getsockname(s->fd, (struct sockaddr *)&at, &len) != 0)
        abort();
    snprintf(s->url, sizeof s->url, "http://127.0.0.2:%d/x?y=z", ntohs(at.sin_port));
    if (pthread_create(&s->thread, NULL, serve, s) != 0)
        abort();
}

/* ---- the client ---- */

struct fixture {
    struct server server;
    struct http_session *session;
    struct http_answer answer;
    struct err err;
    bool joined;
};

static int set_up(void **state)
{
    *state = mem_zalloc(sizeof(struct fixture));
    return 0;
}

/* After it all that the server saw is the test's. */
static void join(struct fixture *f)
{
    if (f->joined)
        return;
    if (write(f->server.wake[1], "x", 1) != 1)
        abort();
    pthread_join(f->server.thread, NULL);
    f->joined = true;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct server *s = &f->server;
    join(f);
    http_session_free(&f->session);
    http_answer_fini(&f->answer);
    for (size_t i = 0; i < EXCHANGES_MAX; i++) {
        buf_fini(&s->exchanges[i].head);
        buf_fini(&s->exchanges[i].body);
    }
    close(s->fd);
    close(s->wake[0]);
    close(s->wake[1]);
    free(f);
    return 0;
}

static void serve_with(struct fixture *f, const struct exchange *exchanges, size_t n)
{
    memcpy(f->server.exchanges, exchanges, n * sizeof *exchanges);
    f->server.n_answers = n;
    start(&f->server);
}

static int ask(struct fixture *f, const char *method, struct str body, const char *const *headers)
{
    struct http_request request = {.url = f->server.url,
                                   .method = method,
                                   .body = body,
                                   .headers = headers,
                                   .session = f->session};
    http_answer_fini(&f->answer);
    f->answer = (struct http_answer){0};
    return http_ask(&request, 20000, 100, &f->answer, &f->err);
}

/* The n-th request's head, and whether it has a line that begins so. */
static const char *head(struct fixture *f, size_t n)
{
    return buf_cstr(&f->server.exchanges[n].head);
}

static bool has_line(struct fixture *f, size_t n, const char *beginning)
{
    char line[128];
    snprintf(line, sizeof line, "\r\n%s", beginning);
    return strcasestr(head(f, n), line) != NULL;
}

static void assert_begins(const char *text, const char *beginning)
{
    if (strncmp(text, beginning, strlen(beginning)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", text, beginning);
}

/* ---- methods ---- */

static void posts_the_bytes_it_was_given(void **state)
{
    struct fixture *f = *state;
    const char *const headers[] = {"content-type: application/json", "X-A: b", NULL};
    serve_with(f, &(struct exchange){.answer = OK}, 1);
    assert_int_equal(ask(f, "POST", (struct str){"{\"a\":\0\r\n\r\n}", 11}, headers), 0);
    assert_int_equal(f->answer.status, 200);
    assert_true(str_is(buf_str(&f->answer.body), "[]"));
    join(f);
    assert_begins(head(f, 0), "POST /x?y=z HTTP/1.1\r\n");
    assert_true(has_line(f, 0, "content-type: application/json\r\n"));
    assert_null(strstr(strcasestr(head(f, 0), "content-type") + 1, "ontent-Type"));
    assert_true(has_line(f, 0, "Content-Length: 11\r\n"));
    assert_true(has_line(f, 0, "X-A: b\r\n"));
    assert_int_equal(f->server.exchanges[0].body.len, 11);
    assert_memory_equal(f->server.exchanges[0].body.p, "{\"a\":\0\r\n\r\n}", 11);
}

static void says_that_a_post_is_empty(void **state)
{
    struct fixture *f = *state;
    serve_with(f, &(struct exchange){.answer = OK}, 1);
    assert_int_equal(ask(f, "POST", STR(""), NULL), 0);
    join(f);
    assert_begins(head(f, 0), "POST /x?y=z HTTP/1.1\r\n");
    assert_true(has_line(f, 0, "Content-Length: 0\r\n"));
    assert_false(has_line(f, 0, "Content-Type"));
    assert_false(has_line(f, 0, "Expect"));
}

static void deletes_without_a_body(void **state)
{
    struct fixture *f = *state;
    serve_with(f, &(struct exchange){.answer = "HTTP/1.1 204 No Content\r\n\r\n"}, 1);
    assert_int_equal(ask(f, "DELETE", STR(""), NULL), 0);
    assert_int_equal(f->answer.status, 204);
    join(f);
    assert_begins(head(f, 0), "DELETE /x?y=z HTTP/1.1\r\n");
    assert_false(has_line(f, 0, "Content-"));
    assert_false(has_line(f, 0, "Transfer-"));
}

static void sends_a_body_with_any_method(void **state)
{
    struct fixture *f = *state;
    static const char *const methods[] = {"PUT", "DELETE", "GET", NULL};
    const struct exchange all[] = {{.answer = OK}, {.answer = OK}, {.answer = OK}, {.answer = OK}};
    serve_with(f, all, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(ask(f, methods[i], STR("body"), NULL), 0);
    join(f);
    for (size_t i = 0; i < 4; i++) {
        char line[40];
        snprintf(line, sizeof line, "%s /x?y=z HTTP/1.1\r\n",
                 methods[i] != NULL ? methods[i] : "GET");
        assert_begins(head(f, i), line);
        assert_true(str_is(buf_str(&f->server.exchanges[i].body), "body"));
    }
}

static void waits_for_no_body_after_head(void **state)
{
    struct fixture *f = *state;
    serve_with(f,
               &(struct exchange){.answer = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n"
                                            "X-Leader: me\r\n\r\n"},
               1);
    struct http_request request = {.url = f->server.url, .method = "HEAD"};
    struct http_stream *stream = http_stream_open(&request);
    struct str bytes;
    assert_int_equal(http_stream_read(stream, 20000, &bytes, &f->err), HTTP_CLOSED);
    assert_int_equal(http_stream_status(stream), 200);
    assert_string_equal(http_stream_header(stream, "x-leader"), "me");
    http_stream_close(&stream);
    join(f);
    assert_begins(head(f, 0), "HEAD /x?y=z HTTP/1.1\r\n");
}

/* ---- large bodies ---- */

/* libcurl would wait for 1 s, from 1 MiB on. */
static void does_not_wait_before_a_large_body(void **state)
{
    struct fixture *f = *state;
    struct str body = {mem_zalloc(BIG), BIG};
    serve_with(f, &(struct exchange){.answer = OK}, 1);
    assert_int_equal(ask(f, "POST", body, NULL), 0);
    join(f);
    assert_int_equal(f->server.exchanges[0].body.len, BIG);
    assert_false(has_line(f, 0, "Expect"));
    free((char *)body.p);
}

static void takes_a_refusal_before_the_body_is_sent(void **state)
{
    struct fixture *f = *state;
    struct str body = {mem_zalloc(BIG), BIG};
    serve_with(
        f,
        &(struct exchange){.answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!",
                           .head_only = true,
                           .close = true},
        1);
    assert_int_equal(ask(f, "POST", body, NULL), 0);
    assert_int_equal(f->answer.status, 413);
    assert_true(str_is(buf_str(&f->answer.body), "no!"));
    free((char *)body.p);
}

/* ---- kept connections ---- */

static void keeps_a_connection_over_methods(void **state)
{
    struct fixture *f = *state;
    const struct exchange all[] = {
        {.answer = OK},
        {.answer = OK},
        {.answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"},
        {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"},
        {.answer = OK}};
    serve_with(f, all, 5);
    f->session = http_session_new();
    assert_int_equal(ask(f, "POST", STR("one"), NULL), 0);
    assert_int_equal(ask(f, NULL, STR(""), NULL), 0);
    assert_int_equal(ask(f, "DELETE", STR(""), NULL), 0);
    assert_int_equal(f->answer.status, 404);
    assert_int_equal(ask(f, "HEAD", STR(""), NULL), 0);
    assert_int_equal(ask(f, "POST", STR("two"), NULL), 0);
    join(f);
    assert_begins(head(f, 1), "GET ");
    assert_false(has_line(f, 1, "Content-Length"));
    assert_true(str_is(buf_str(&f->server.exchanges[4].body), "two"));
    assert_int_equal(f->server.exchanges[4].connection, 1);
}

static void repeats_on_a_new_connection_what_was_not_answered(void **state)
{
    struct fixture *f = *state;
    const struct exchange all[] = {
        {.answer = OK}, {.answer = "", .close = true}, {.answer = "", .close = true}};
    serve_with(f, all, 3);
    f->session = http_session_new();
    assert_int_equal(ask(f, "POST", STR("one"), NULL), 0);
    assert_int_equal(ask(f, "POST", STR("two"), NULL), -1); /* once more, not twice more */
    assert_int_equal(f->err.kind, ERR_RETRY);
    join(f);
    assert_int_equal(f->server.n_seen, 3);
    assert_int_equal(f->server.exchanges[1].connection, 1);
    assert_int_equal(f->server.exchanges[2].connection, 2);
    assert_true(str_is(buf_str(&f->server.exchanges[2].body), "two"));
}

static void repeats_nothing_that_was_answered_in_part(void **state)
{
    struct fixture *f = *state;
    static const char *const parts[] = {"HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n",
                                        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1"};
    const struct exchange all[] = {{.answer = OK}, {.answer = parts[0], .close = true},
                                   {.answer = OK}, {.answer = parts[1], .close = true},
                                   {.answer = OK}, {.answer = parts[2], .close = true}};
    serve_with(f, all, 6);
    f->session = http_session_new();
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ask(f, "POST", STR("one"), NULL), 0);
        assert_int_equal(ask(f, "POST", STR("two"), NULL), -1);
        assert_int_equal(f->err.kind, ERR_RETRY);
    }
    join(f);
    assert_int_equal(f->server.n_seen, 6);
}

static void repeats_nothing_without_a_session(void **state)
{
    struct fixture *f = *state;
    const struct exchange all[] = {{.answer = "", .close = true}, {.answer = OK}};
    serve_with(f, all, 2);
    assert_int_equal(ask(f, "POST", STR("one"), NULL), -1);
    assert_int_equal(f->err.kind, ERR_RETRY);
    join(f);
    assert_int_equal(f->server.n_seen, 1);
}

/* A GET is asked by hand then, as the stream of some Nomads wants it. */
static void repeats_no_post_for_http_0_0(void **state)
{
    struct fixture *f = *state;
    const struct exchange all[] = {{.answer = "HTTP/0.0 200 OK\r\n\r\n", .close = true},
                                   {.answer = OK}};
    serve_with(f, all, 2);
    assert_int_equal(ask(f, "POST", STR("one"), NULL), -1);
    join(f);
    assert_int_equal(f->server.n_seen, 1);
}

/* ---- addresses ---- */

static void knows_the_addresses_of_both_ends(void **state)
{
    struct fixture *f = *state;
    char local[HTTP_IP_MAX], peer[HTTP_IP_MAX];
    struct str bytes;
    serve_with(f, &(struct exchange){.answer = "HTTP/1.1 200 OK\r\n\r\n: beat\r\n\r\n"}, 1);
    struct http_stream *stream = http_stream_open(&(struct http_request){.url = f->server.url});
    http_stream_local(stream, local, sizeof local);
    assert_string_equal(local, "");
    http_stream_peer(stream, peer, sizeof peer);
    assert_string_equal(peer, "");
    assert_int_equal(http_stream_read(stream, 20000, &bytes, &f->err), HTTP_DATA);
    http_stream_local(stream, local, sizeof local);
    assert_string_equal(local, "127.0.0.1");
    http_stream_peer(stream, peer, sizeof peer);
    assert_string_equal(peer, "127.0.0.2");
    http_stream_close(&stream);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(posts_the_bytes_it_was_given),
        TEST(says_that_a_post_is_empty),
        TEST(deletes_without_a_body),
        TEST(sends_a_body_with_any_method),
        TEST(waits_for_no_body_after_head),
        TEST(does_not_wait_before_a_large_body),
        TEST(takes_a_refusal_before_the_body_is_sent),
        TEST(keeps_a_connection_over_methods),
        TEST(repeats_on_a_new_connection_what_was_not_answered),
        TEST(repeats_nothing_that_was_answered_in_part),
        TEST(repeats_nothing_without_a_session),
        TEST(repeats_no_post_for_http_0_0),
        TEST(knows_the_addresses_of_both_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
