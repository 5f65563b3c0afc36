/* mirror_receiver.h - a callback on 127.0.0.1: takes POSTs, keeps what it got, answers as the test
 * wrote down. One thread, one connection at a time, kept open between requests. */
#ifndef BUSBAR_TESTS_MIRROR_RECEIVER_H
#define BUSBAR_TESTS_MIRROR_RECEIVER_H

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "tests/unit/check.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVER_OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define RECEIVER_500 "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nOops"

enum { RECEIVER_POSTS_MAX = 4096, RECEIVER_WAIT_MS = 30000 };

struct receiver_answer {
    const char *bytes; /* NULL: RECEIVER_OK */
    int delay_ms;
    int repeat; /* this often after the first time; -1: for ever */
    bool flood; /* then `bytes` is followed by 'x' for ever */
    bool close; /* then the connection is closed */
};

struct receiver_post {
    char *head;
    char *body;
};

struct receiver {
    int fd;
    int wake[2];
    char url[64];
    pthread_t thread;
    pthread_mutex_t lock;
    struct receiver_answer answers[16]; /* in turn; beyond: RECEIVER_OK */
    size_t answered;
    size_t connections;
    struct receiver_post posts[RECEIVER_POSTS_MAX];
    size_t n;
};

/* False where the receiver ends, or the peer has gone. */
static inline bool receiver_readable(struct receiver *r, int fd)
{
    struct pollfd until[2] = {{.fd = fd, .events = POLLIN}, {.fd = r->wake[0], .events = POLLIN}};
    poll(until, 2, -1);
    return until[1].revents == 0;
}

/* Reads up to the end of one request's head or body. */
static inline bool receiver_more(struct receiver *r, int fd, struct buf *got)
{
    if (!receiver_readable(r, fd))
        return false;
    ssize_t n = recv(fd, buf_reserve(got, 65536), 65536, 0);
    if (n > 0)
        got->len += (size_t)n;
    return n > 0;
}

/* With the lock held. */
static inline struct receiver_answer receiver_next(struct receiver *r)
{
    size_t last = sizeof r->answers / sizeof r->answers[0] - 1;
    struct receiver_answer *a = &r->answers[r->answered < last ? r->answered : last];
    struct receiver_answer answer = *a;
    if (a->repeat == 0)
        r->answered++;
    else if (a->repeat > 0)
        a->repeat--;
    return answer;
}

/* Once it counts, its answer is chosen: what a test writes down then is for those after it. */
static inline bool receiver_take(struct receiver *r, int fd, struct buf *got,
                                 struct receiver_answer *answer)
{
    const char *end;
    while ((end = strstr(buf_cstr(got), "\r\n\r\n")) == NULL)
        if (!receiver_more(r, fd, got))
            return false;
    size_t head = (size_t)(end + 4 - got->p);
    const char *length = strcasestr(got->p, "\r\nContent-Length: ");
    size_t body = length != NULL && length < end ? strtoul(length + 18, NULL, 10) : 0;
    while (got->len < head + body)
        if (!receiver_more(r, fd, got))
            return false;
    pthread_mutex_lock(&r->lock);
    assert_true(r->n < RECEIVER_POSTS_MAX);
    r->posts[r->n].head = mem_strndup(got->p, head);
    r->posts[r->n++].body = mem_strndup(got->p + head, body);
    *answer = receiver_next(r);
    pthread_mutex_unlock(&r->lock);
    buf_consume(got, head + body);
    return true;
}

/* False where the connection is over. */
static inline bool receiver_answer_one(struct receiver *r, int fd, struct receiver_answer a)
{
    const char *bytes = a.bytes != NULL ? a.bytes : RECEIVER_OK;
    struct pollfd ends = {.fd = r->wake[0], .events = POLLIN};
    if (a.delay_ms > 0 && poll(&ends, 1, a.delay_ms) != 0)
        return false;
    bool sent = send(fd, bytes, strlen(bytes), MSG_NOSIGNAL) >= 0;
    while (sent && a.flood && poll(&ends, 1, 0) == 0)
        sent = send(fd, "xxxxxxxxxxxxxxxx", 16, MSG_NOSIGNAL) >= 0;
    return sent && !a.close;
}

static inline void *receiver_run(void *arg)
{
    struct receiver *r = arg;
    while (receiver_readable(r, r->fd)) {
        int fd = accept(r->fd, NULL, NULL);
        struct buf got = {0};
        struct receiver_answer answer;
        r->connections++;
        while (receiver_take(r, fd, &got, &answer) && receiver_answer_one(r, fd, answer))
            ;
        buf_fini(&got);
        close(fd);
    }
    return NULL;
}

/* A socket that nobody listens on; while it is open, none but a receiver gets that port. 0: any. */
static inline int receiver_port(unsigned port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    at.sin_port = htons((uint16_t)port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(0, bind(fd, (struct sockaddr *)&at, sizeof at));
    return fd;
}

/* On the given port; 0: any. */
static inline void receiver_open(struct receiver *r, unsigned port)
{
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    r->fd = receiver_port(port);
    assert_int_equal(0, listen(r->fd, 16));
    getsockname(r->fd, (struct sockaddr *)&at, &len);
    snprintf(r->url, sizeof r->url, "http://127.0.0.1:%u/cb", ntohs(at.sin_port));
    pthread_mutex_init(&r->lock, NULL);
    assert_int_equal(0, pipe(r->wake));
    assert_int_equal(0, pthread_create(&r->thread, NULL, receiver_run, r));
}

static inline void receiver_close(struct receiver *r)
{
    close(r->wake[1]); /* hangs up: readable from now on */
    pthread_join(r->thread, NULL);
    close(r->wake[0]);
    close(r->fd);
    for (size_t i = 0; i < r->n; i++) {
        free(r->posts[i].head);
        free(r->posts[i].body);
    }
    pthread_mutex_destroy(&r->lock);
    memset(r, 0, sizeof *r);
}

/* What the `at`-th answer is. */
static inline void receiver_will(struct receiver *r, size_t at, struct receiver_answer answer)
{
    pthread_mutex_lock(&r->lock);
    r->answers[at] = answer;
    pthread_mutex_unlock(&r->lock);
}

/* The next answer is the `at`-th. */
static inline void receiver_begin(struct receiver *r, size_t at)
{
    pthread_mutex_lock(&r->lock);
    r->answered = at;
    pthread_mutex_unlock(&r->lock);
}

static inline size_t receiver_count(struct receiver *r)
{
    pthread_mutex_lock(&r->lock);
    size_t n = r->n;
    pthread_mutex_unlock(&r->lock);
    return n;
}

static inline void receiver_wait(struct receiver *r, size_t n)
{
    int64_t until = clock_mono_ms() + RECEIVER_WAIT_MS;
    while (receiver_count(r) < n) {
        if (clock_mono_ms() > until)
            fail_msg("%zu posts came, expected %zu", receiver_count(r), n);
        poll(NULL, 0, 5);
    }
}

/* Waits for it; lives as long as the receiver. */
static inline const char *receiver_body(struct receiver *r, size_t i)
{
    receiver_wait(r, i + 1);
    return r->posts[i].body;
}

#endif
