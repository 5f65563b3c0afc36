/* stub_server.h - a server on 127.0.0.1 that answers each connection with what the test wrote down.
 *
 * One thread, one connection at a time: reads a request's head, notes it, sends its answer in up to
 * two parts, holds the connection open where told to, closes. For unit tests only. */
#ifndef BUSBAR_TESTS_STUB_SERVER_H
#define BUSBAR_TESTS_STUB_SERVER_H

#include "bridge/base/buf.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STUB_REQUESTS_MAX = 32, STUB_REQUEST_BYTES = 2048 };

struct stub_answer {
    struct str first;
    bool wait;    /* between the two parts for stub_go_on, */
    int pause_ms; /* and so long */
    struct str then;
    bool hold;  /* keep open until the client goes, or the server stops */
    bool reset; /* end by RST instead of FIN */
};

struct stub_server {
    int fd;
    int wake[2], go_on[2];
    pthread_t thread;
    bool joined;
    char url[64];
    struct stub_answer *answers; /* the last one is repeated */
    size_t n_answers;
    atomic_bool any_bytes; /* answer to the first bytes, whatever they are */
    atomic_size_t n_requests;
    atomic_size_t n_sent; /* answers, whole */
    char requests[STUB_REQUESTS_MAX][STUB_REQUEST_BYTES];
};

static inline bool stub_read_request(int fd, char *into, bool any_bytes)
{
    size_t len = 0;
    while (len + 1 < STUB_REQUEST_BYTES) {
        ssize_t n = recv(fd, into + len, STUB_REQUEST_BYTES - 1 - len, 0);
        if (n <= 0)
            return false;
        len += (size_t)n;
        into[len] = '\0';
        if (any_bytes || strstr(into, "\r\n\r\n") != NULL)
            return true;
    }
    return false;
}

static inline void stub_send(int fd, struct str part)
{
    while (part.len > 0) {
        ssize_t n = send(fd, part.p, part.len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        part.p += n;
        part.len -= (size_t)n;
    }
}

/* Until stub_go_on, or the server stops. */
static inline void stub_wait(const struct stub_server *s)
{
    struct pollfd both[2] = {{.fd = s->go_on[0], .events = POLLIN},
                             {.fd = s->wake[0], .events = POLLIN}};
    char byte;
    if (poll(both, 2, -1) > 0 && both[0].revents != 0 && read(s->go_on[0], &byte, 1) != 1)
        abort();
}

static inline void stub_answer_one(struct stub_server *s, int fd, size_t i)
{
    const struct stub_answer *a = &s->answers[i < s->n_answers ? i : s->n_answers - 1];
    stub_send(fd, a->first);
    if (a->wait)
        stub_wait(s);
    if (a->pause_ms > 0)
        poll(NULL, 0, a->pause_ms);
    stub_send(fd, a->then);
    atomic_fetch_add(&s->n_sent, 1);
    struct pollfd until[2] = {{.fd = fd, .events = POLLIN}, {.fd = s->wake[0], .events = POLLIN}};
    if (a->hold)
        poll(until, 2, -1);
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (a->reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* What the Nomad connector asks before each stream (nomad_namespaces.h): never noted. */
static inline bool stub_is_aside(const char *request)
{
    static const char path[] = "GET /v1/namespaces?stale";
    return strncmp(request, path, sizeof path - 1) == 0;
}

static inline void *stub_serve(void *arg)
{
    struct stub_server *s = arg;
    for (;;) {
        struct pollfd both[2] = {{.fd = s->fd, .events = POLLIN},
                                 {.fd = s->wake[0], .events = POLLIN}};
        poll(both, 2, -1);
        if (both[1].revents != 0)
            return NULL;
        int fd = accept(s->fd, NULL, NULL);
        size_t i = atomic_load(&s->n_requests);
        if (fd >= 0 &&
            stub_read_request(fd, s->requests[i % STUB_REQUESTS_MAX], atomic_load(&s->any_bytes))) {
            if (stub_is_aside(s->requests[i % STUB_REQUESTS_MAX])) {
                stub_send(fd, STR("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
                close(fd);
                continue;
            }
            atomic_store(&s->n_requests, i + 1);
            stub_answer_one(s, fd, i);
        }
        close(fd);
    }
}

/* The answers are copied, what they point at is not: the thread may be in one of them until
 * stub_stop. */
static inline struct stub_server *stub_start(const struct stub_answer *answers, size_t n)
{
    struct stub_server *s = mem_zalloc(sizeof *s);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    s->answers = mem_alloc(n * sizeof *answers);
    memcpy(s->answers, answers, n * sizeof *answers);
    s->n_answers = n;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || pipe(s->wake) != 0 || pipe(s->go_on) != 0 ||
        bind(s->fd, (struct sockaddr *)&at, len) != 0 || listen(s->fd, 16) != 0 ||
        getsockname(s->fd, (struct sockaddr *)&at, &len) != 0)
        abort();
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%d", ntohs(at.sin_port));
    if (pthread_create(&s->thread, NULL, stub_serve, s) != 0)
        abort();
    return s;
}

/* The second part of an answer that waits. */
static inline void stub_go_on(struct stub_server *s)
{
    if (write(s->go_on[1], "x", 1) != 1)
        abort();
}

/* Ends the thread; what it noted stays. */
static inline void stub_join(struct stub_server *s)
{
    if (s->joined)
        return;
    if (write(s->wake[1], "x", 1) != 1)
        abort();
    pthread_join(s->thread, NULL);
    s->joined = true;
}

static inline void stub_stop(struct stub_server **server)
{
    struct stub_server *s = *server;
    stub_join(s);
    close(s->fd);
    close(s->wake[0]);
    close(s->wake[1]);
    close(s->go_on[0]);
    close(s->go_on[1]);
    free(s->answers);
    free(s);
    *server = NULL;
}

#endif
