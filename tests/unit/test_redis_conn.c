/* test_redis_conn.c - the connection of the Redis sink, against a few bytes of our own. */
#include "bridge/base/clock.h"
#include "connectors/redis/redis_conn.h"
#include "tests/unit/stopwatch.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct peer {
    char path[64];
    int listener;
    const char *says; /* NULL: nothing; then it closes where `closes` */
    bool closes;
    int timeout_ms; /* of who asks it; 0: 20 s */
    int fd;
    pthread_t thread;
};

static void *peer_run(void *arg)
{
    struct peer *peer = arg;
    char bytes[256];
    peer->fd = accept(peer->listener, NULL, NULL);
    if (peer->fd < 0 || read(peer->fd, bytes, sizeof bytes) <= 0)
        return NULL;
    for (const char *at = peer->says; at != NULL && *at != '\0'; at++)
        if (send(peer->fd, at, 1, MSG_NOSIGNAL) != 1)
            return NULL;
    if (peer->closes)
        shutdown(peer->fd, SHUT_RDWR);
    return NULL;
}

static void peer_start(struct peer *peer)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(peer->path, sizeof peer->path, P_tmpdir "/busbar-test-redis.%d", (int)getpid());
    memcpy(addr.sun_path, peer->path, sizeof peer->path);
    unlink(peer->path);
    peer->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(peer->listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(peer->listener, 1), 0);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_run, peer), 0);
}

static void peer_end(struct peer *peer)
{
    pthread_join(peer->thread, NULL);
    close(peer->fd);
    close(peer->listener);
    unlink(peer->path);
}

/* Calls PING with an argument of `size` bytes; returns the reply, or NULL and the error. */
static redisReply *call_peer(struct peer *peer, size_t size, struct stop *stop, struct err *err)
{
    peer_start(peer);
    struct redis_conn *conn = NULL;
    struct redis_endpoint to = {.path = peer->path};
    assert_int_equal(
        redis_conn_open(&conn, &to, peer->timeout_ms > 0 ? peer->timeout_ms : 20000, stop, err), 0);
    struct redis_command cmd = {0};
    char *bytes = mem_zalloc(size);
    redis_command_begin(&cmd, 2);
    redis_command_add_cstr(&cmd, "PING");
    redis_command_add_ref(&cmd, (struct str){bytes, size});
    redisReply *reply = redis_conn_call(conn, &cmd, err);
    redis_command_fini(&cmd);
    redis_conn_close(&conn);
    free(bytes);
    peer_end(peer);
    return reply;
}

static void reply_may_come_byte_by_byte(void **state)
{
    struct peer peer = {.says = "*2\r\n$2\r\nOK\r\n$0\r\n\r\n"};
    struct err err;
    redisReply *reply = call_peer(&peer, 10, *state, &err);
    assert_non_null(reply);
    assert_int_equal(reply->elements, 2);
    assert_string_equal(reply->element[0]->str, "OK");
    freeReplyObject(reply);
}

static void what_redis_says_while_we_send_ends_the_sending(void **state)
{
    struct peer peer = {.says = "-ERR Protocol error: invalid bulk length\r\n", .closes = true};
    struct err err;
    redisReply *reply = call_peer(&peer, 64 << 20, *state, &err);
    assert_non_null(reply);
    assert_int_equal(reply->type, REDIS_REPLY_ERROR);
    freeReplyObject(reply);
}

static void silence_closing_and_nonsense_are_errors(void **state)
{
    struct err err;
    struct peer silent = {.says = "$10\r\nabc", .timeout_ms = 150};
    assert_null(call_peer(&silent, 10, *state, &err));
    assert_non_null(strstr(err.msg, "no answer within 150 ms"));
    struct peer full = {.says = NULL, .timeout_ms = 150};
    assert_null(call_peer(&full, 64 << 20, *state, &err));
    assert_non_null(strstr(err.msg, "took nothing for 150 ms"));
    struct peer closing = {.says = "$10\r\nabc", .closes = true};
    assert_null(call_peer(&closing, 10, *state, &err));
    assert_non_null(strstr(err.msg, "closed"));
    struct peer http = {.says = "HTTP/1.1 400 Bad Request\r\n\r\n"};
    assert_null(call_peer(&http, 10, *state, &err));
    assert_non_null(strstr(err.msg, "not an answer of Redis"));
}

static void nobody_there_is_told_with_the_place(void **state)
{
    struct redis_conn *conn = NULL;
    struct err err;
    struct redis_endpoint nowhere = {.path = P_tmpdir "/busbar-test-redis.none"};
    assert_int_equal(redis_conn_open(&conn, &nowhere, 150, *state, &err), -1);
    assert_int_equal(err.kind, ERR_RETRY);
    assert_non_null(strstr(err.msg, "connect " P_tmpdir "/busbar-test-redis.none"));
    struct redis_endpoint refused = {.host = "127.0.0.1", .port = 1};
    assert_int_equal(redis_conn_open(&conn, &refused, 150, *state, &err), -1);
    assert_non_null(strstr(err.msg, "connect 127.0.0.1:1: "));
    assert_null(conn);
}

static void *request_stop(void *stop)
{
    usleep(50000);
    stop_request(stop);
    return NULL;
}

static void stop_ends_a_wait_for_an_answer(void **state)
{
    (void)state;
    struct stop *stop = stop_new();
    struct peer peer = {.says = NULL};
    peer_start(&peer);
    struct redis_conn *conn = NULL;
    struct redis_endpoint to = {.path = peer.path};
    assert_int_equal(redis_conn_open(&conn, &to, 60000, stop, NULL), 0);
    pthread_t thread;
    pthread_create(&thread, NULL, request_stop, stop);
    struct redis_command cmd = {0};
    redis_command_begin(&cmd, 1);
    redis_command_add_cstr(&cmd, "PING");
    struct stopwatch start = stopwatch_start();
    assert_null(redis_conn_call(conn, &cmd, NULL));
    assert_took(&start, 0, 10000);
    pthread_join(thread, NULL);
    redis_command_fini(&cmd);
    redis_conn_close(&conn);
    peer_end(&peer);
    stop_free(&stop);
}

static int make_stop(void **state)
{
    *state = stop_new();
    return 0;
}

static int free_stop(void **state)
{
    struct stop *stop = *state;
    stop_free(&stop);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reply_may_come_byte_by_byte),
        cmocka_unit_test(what_redis_says_while_we_send_ends_the_sending),
        cmocka_unit_test(silence_closing_and_nonsense_are_errors),
        cmocka_unit_test(nobody_there_is_told_with_the_place),
        cmocka_unit_test(stop_ends_a_wait_for_an_answer),
    };
    return cmocka_run_group_tests_name("redis_conn", tests, make_stop, free_stop);
}
