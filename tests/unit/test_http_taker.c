/* test_http_taker.c - a body that is handed over piece by piece, as it comes. */
#include "connectors/http_stream.h"

#include "tests/unit/stub_server.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

struct fixture {
    struct stub_server *server;
    struct http_stream *stream;
    struct str bytes;
    struct err err;
    struct buf body; /* of a long answer, with its head */
    struct buf taken;
    size_t calls;
    size_t enough; /* it wants no more from so many bytes on; 0: all */
    bool slow;     /* the server is faster */
};

static int set_up(void **state)
{
    *state = mem_zalloc(sizeof(struct fixture));
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    http_stream_close(&f->stream);
    if (f->server != NULL)
        stub_stop(&f->server);
    buf_fini(&f->body);
    buf_fini(&f->taken);
    free(f);
    return 0;
}

static bool take(void *arg, struct str piece)
{
    struct fixture *f = arg;
    f->calls++;
    if (f->slow)
        usleep(300);
    buf_append_str(&f->taken, piece);
    return f->enough == 0 || f->taken.len < f->enough;
}

static void ask(struct fixture *f, const struct stub_answer *answer)
{
    f->server = stub_start(answer, 1);
    struct http_request request = {.url = f->server->url, .taker = {take, f}};
    f->stream = http_stream_open(&request);
}

static enum http_read read_for(struct fixture *f, int ms)
{
    return http_stream_read(f->stream, ms, &f->bytes, &f->err);
}

/* More than is handed over by one read, no two parts of it alike. */
static struct str ask_for_much(struct fixture *f, const char *head)
{
    size_t size = 2 * (size_t)HTTP_TAKE_MAX;
    f->slow = true;
    buf_append_cstr(&f->body, head);
    size_t from = f->body.len;
    buf_reserve(&f->body, size + 32);
    for (uint64_t n = UINT64_C(1) << 32; f->body.len - from < size; n++)
        buf_append_u64(&f->body, n);
    struct stub_answer a = {.first = buf_str(&f->body)};
    ask(f, &a);
    return (struct str){f->body.p + from, f->body.len - from};
}

static void hands_over_what_comes_when_it_comes(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR(CHUNKED "3\r\nabc\r\n3\r\ndef\r\n"),
                            .wait = true,
                            .then = STR("3\r\nghi\r\n0\r\n\r\n")};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_DATA);
    assert_int_equal(f->bytes.len, 0);
    assert_true(str_is(buf_str(&f->taken), "abcdef"));
    assert_int_equal(f->calls, 2);
    assert_false(http_stream_more(f->stream));
    assert_int_equal(read_for(f, 20), HTTP_IDLE);
    stub_go_on(f->server);
    assert_int_equal(read_for(f, 20000), HTTP_DATA);
    assert_true(str_is(buf_str(&f->taken), "abcdefghi"));
    assert_int_equal(read_for(f, 20000), HTTP_CLOSED);
}

/* Reads all of it; whether a read ended before the server had to be waited for. */
static bool takes_much(struct fixture *f)
{
    struct str body = ask_for_much(f, "HTTP/1.1 200 OK\r\n\r\n");
    enum http_read what;
    bool said_more = false;
    size_t before = 0;
    while ((what = read_for(f, 20000)) == HTTP_DATA) {
        assert_in_range(f->taken.len - before, 1, HTTP_TAKE_MAX);
        before = f->taken.len;
        said_more = said_more || http_stream_more(f->stream);
    }
    assert_int_equal(what, HTTP_CLOSED);
    assert_true(str_eq(buf_str(&f->taken), body));
    http_stream_close(&f->stream);
    stub_stop(&f->server);
    buf_clear(&f->taken);
    buf_fini(&f->body);
    return said_more;
}

/* The server's thread may stand still for so long that nothing is left to read: then once more. */
static void a_read_ends_though_more_comes_without_end(void **state)
{
    int tries = 1;
    while (!takes_much(*state))
        assert_true(++tries <= 10);
}

static void expect_an_end_after(struct fixture *f, size_t enough)
{
    enum http_read what;
    f->enough = enough;
    ask_for_much(f, "HTTP/1.1 200 OK\r\n\r\n");
    while ((what = read_for(f, 20000)) == HTTP_DATA)
        assert_int_equal(f->bytes.len, 0);
    assert_int_equal(what, HTTP_FAILED);
    assert_in_range(f->taken.len, enough, enough + ((size_t)16 << 10));
}

static void who_wants_no_more_is_not_called_again(void **state)
{
    expect_an_end_after(*state, 1);
}

/* What curl had received already when it was told to pause. */
static void nor_with_what_was_held_back(void **state)
{
    expect_an_end_after(*state, (size_t)HTTP_TAKE_MAX + 1);
}

static void a_refusal_is_kept_for_the_caller(void **state)
{
    struct fixture *f = *state;
    struct stub_answer a = {.first = STR("HTTP/1.1 500 Oops\r\nContent-Length: 7\r\n\r\nrefused")};
    ask(f, &a);
    assert_int_equal(read_for(f, 20000), HTTP_REFUSED);
    assert_true(str_is(http_stream_refusal(f->stream), "refused"));
    assert_int_equal(f->calls, 0);
}

static void hands_over_what_says_http_0_0(void **state)
{
    struct fixture *f = *state;
    enum http_read what;
    struct str body = ask_for_much(f, "HTTP/0.0 200 OK\r\n\r\n");
    while ((what = read_for(f, 20000)) == HTTP_DATA)
        assert_int_equal(f->bytes.len, 0);
    assert_int_equal(what, HTTP_CLOSED);
    assert_true(str_eq(buf_str(&f->taken), body));
}

static void ends_http_0_0_where_no_more_is_wanted(void **state)
{
    struct fixture *f = *state;
    enum http_read what;
    f->enough = 1;
    ask_for_much(f, "HTTP/0.0 200 OK\r\n\r\n");
    while ((what = read_for(f, 20000)) == HTTP_DATA)
        assert_int_equal(f->bytes.len, 0);
    assert_int_equal(what, HTTP_FAILED);
    assert_int_equal(f->calls, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(hands_over_what_comes_when_it_comes),
        TEST(a_read_ends_though_more_comes_without_end),
        TEST(who_wants_no_more_is_not_called_again),
        TEST(nor_with_what_was_held_back),
        TEST(a_refusal_is_kept_for_the_caller),
        TEST(hands_over_what_says_http_0_0),
        TEST(ends_http_0_0_where_no_more_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
