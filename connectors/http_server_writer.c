/* http_server_writer.c - sends what streams have, without the library.
 *
 * All are in an epoll set, edge-triggered: the kernel tells of room only after a send that found
 * none, and of a peer that went away at once. So a stream that keeps up costs its sends and nothing
 * else. Where it was the kernel's memory for all connections that was used up (tcp_mem), it may
 * never tell of room: who is stuck is tried again once a second. */
#include "connectors/http_server_writer.h"

#include "bridge/base/clock.h"
#include "connectors/http_server_tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 512,
    PARTS_MAX = 64,
    SHARE_BYTES = 256 * 1024, /* of one stream, before the others have theirs */
};

struct http_writer {
    int epoll_fd;
    struct http_sending *first; /* the list of those that are asked next */
    struct http_sending **last;
    size_t n_ready;
    void (*end)(struct http_sending *s, enum http_closed why);
    char block[HTTP_WRITER_BLOCK];
    char record[HTTP_TLS_RECORD];
};

struct http_writer *http_writer_new(void (*end)(struct http_sending *s, enum http_closed why))
{
    struct http_writer *w = mem_zalloc(sizeof *w);
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->last = &w->first;
    w->end = end;
    if (w->epoll_fd < 0)
        http_writer_free(&w);
    return w;
}

void http_writer_free(struct http_writer **writer)
{
    if (*writer == NULL)
        return;
    if ((*writer)->epoll_fd >= 0)
        close((*writer)->epoll_fd);
    free(*writer);
    *writer = NULL;
}

bool http_writer_watch(struct http_writer *w, int fd, bool edge)
{
    struct epoll_event event = {.events = edge ? EPOLLIN | EPOLLET : EPOLLIN};
    return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

void http_writer_unwatch(struct http_writer *w, int fd)
{
    epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- coming and going ---- */

/* The library may have left the socket corked, and coalescing would hold frames back. */
static void push_at_once(int fd)
{
    int on = 1, off = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool http_writer_add(struct http_writer *w, struct http_sending *s)
{
    struct epoll_event event = {.events = EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};
    if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, s->fd, &event) != 0)
        return false;
    push_at_once(s->fd);
    s->tls_most = HTTP_TLS_RECORD;
    s->added = true;
    http_writer_wake(w, s);
    return true;
}

static void leave_list(struct http_writer *w, struct http_sending *s)
{
    struct http_sending **at = &w->first;
    if (!s->ready)
        return;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    if (w->last == &s->next)
        w->last = at;
    s->ready = false;
    w->n_ready--;
}

void http_writer_remove(struct http_writer *w, struct http_sending *s)
{
    if (!s->added)
        return;
    leave_list(w, s);
    epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
    free(s->rest);
    *s = (struct http_sending){0};
}

void http_writer_wake(struct http_writer *w, struct http_sending *s)
{
    if (s->ready || s->over || !s->added)
        return;
    s->ready = true;
    s->next = NULL;
    *w->last = s;
    w->last = &s->next;
    w->n_ready++;
}

void http_writer_end(struct http_writer *w, struct http_sending *s, enum http_closed why)
{
    if (s->over || !s->added)
        return;
    s->over = true;
    w->end(s, why);
}

void http_writer_expire(struct http_writer *w, struct http_sending *s, int64_t now_ms,
                        int64_t patience_ms)
{
    if (s->stuck_ms == 0)
        return;
    if (now_ms - s->stuck_ms > patience_ms)
        http_writer_end(w, s, HTTP_CLOSED_TIMEOUT);
    else
        http_writer_wake(w, s);
}

/* ---- sending ---- */

enum sent {
    SENT_ALL,
    SENT_LAST, /* all, and there is no more for now */
    SENT_SOME, /* the peer takes no more for now */
    SENT_OVER,
};

static enum sent stuck(struct http_sending *s, bool progress)
{
    if (progress || s->stuck_ms == 0)
        s->stuck_ms = clock_mono_ms();
    return SENT_SOME;
}

static enum sent broken(struct http_writer *w, struct http_sending *s)
{
    http_writer_end(w, s, HTTP_CLOSED_PEER);
    return SENT_OVER;
}

static enum sent send_plain(struct http_writer *w, struct http_sending *s, struct iovec *parts,
                            size_t n_parts, size_t *taken)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = n_parts};
    int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    size_t total = 0;
    for (size_t i = 0; i < n_parts; i++)
        total += parts[i].iov_len;
    ssize_t n;
    do /* by send() one part, the usual case, costs the kernel 5 % less */
        n = n_parts == 1 ? send(s->fd, parts->iov_base, total, flags)
                         : sendmsg(s->fd, &message, flags);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN)
        return broken(w, s);
    *taken = n > 0 ? (size_t)n : 0;
    if (*taken < total)
        return stuck(s, *taken > 0);
    s->stuck_ms = 0;
    return SENT_ALL;
}

/* Moves `parts` on by n bytes of the first. */
static void move_on(struct iovec **parts, size_t *n_parts, size_t n)
{
    struct iovec *part = *parts;
    part->iov_base = (char *)part->iov_base + n;
    part->iov_len -= n;
    *parts += part->iov_len == 0;
    *n_parts -= part->iov_len == 0;
}

/* The next bytes for a record: where they lie if they fill one, else put together. */
static struct str next_record(struct http_writer *w, struct iovec **parts, size_t *n_parts,
                              size_t most)
{
    struct str record = {(*parts)->iov_base, (*parts)->iov_len};
    if (*n_parts == 1 || record.len >= most) {
        record.len = record.len < most ? record.len : most;
        move_on(parts, n_parts, record.len);
        return record;
    }
    record = (struct str){w->record, 0};
    while (*n_parts > 0 && record.len < most) {
        size_t n = (*parts)->iov_len < most - record.len ? (*parts)->iov_len : most - record.len;
        memcpy(w->record + record.len, (*parts)->iov_base, n);
        record.len += n;
        move_on(parts, n_parts, n);
    }
    return record;
}

static void keep_rest(struct http_sending *s, const char *p, size_t len)
{
    s->rest = mem_alloc(len);
    memcpy(s->rest, p, len);
    s->rest_len = len;
    s->rest_at = 0;
}

static void learn_size(struct http_sending *s, size_t wanted, size_t held)
{
    if (held < wanted)
        s->tls_most = held;
    if (held > s->tls_known)
        s->tls_known = held;
}

/* The session keeps the record, but how much is in it, where the peer may want it smaller, is not
 * told before it is sent: its bytes are kept too. Returns how many count as taken. */
static size_t keep_record(struct http_sending *s, struct str record)
{
    s->tls_full = record.len;
    if (record.len <= s->tls_known)
        return record.len;
    s->tls_kept = true;
    if (s->rest != NULL)
        return 0; /* they lie there */
    keep_rest(s, record.p, record.len);
    return record.len;
}

/* In one record, or in several where the peer wants them smaller. */
static enum http_tls_sent send_record(struct http_sending *s, struct str record, size_t *taken)
{
    enum http_tls_sent sent = HTTP_TLS_SENT;
    while (sent == HTTP_TLS_SENT && record.len > 0) {
        size_t n;
        sent = http_tls_send(s->tls, record.p, record.len, &n);
        if (sent == HTTP_TLS_SENT)
            learn_size(s, record.len, n);
        else if (sent == HTTP_TLS_FULL)
            n = keep_record(s, record);
        record = (struct str){record.p + n, record.len - n};
        *taken += n;
    }
    return sent;
}

static enum sent send_records(struct http_writer *w, struct http_sending *s, struct iovec *parts,
                              size_t n_parts, size_t *taken)
{
    enum http_tls_sent sent = HTTP_TLS_SENT;
    while (sent == HTTP_TLS_SENT && n_parts > 0)
        sent = send_record(s, next_record(w, &parts, &n_parts, s->tls_most), taken);
    if (sent == HTTP_TLS_BROKEN)
        return broken(w, s);
    if (sent == HTTP_TLS_FULL)
        return stuck(s, *taken > 0);
    s->stuck_ms = 0;
    return SENT_ALL;
}

/* The record that the session keeps. */
static enum sent flush(struct http_writer *w, struct http_sending *s)
{
    size_t held;
    enum http_tls_sent sent = http_tls_flush(s->tls, &held);
    if (sent == HTTP_TLS_FULL)
        return stuck(s, false);
    if (sent == HTTP_TLS_BROKEN)
        return broken(w, s);
    learn_size(s, s->tls_full, held);
    s->rest_at += s->tls_kept ? held : 0;
    s->tls_kept = false;
    s->tls_full = 0;
    return SENT_ALL;
}

/* *taken: how many of the bytes; moves the parts on. */
static enum sent send_parts(struct http_writer *w, struct http_sending *s, struct iovec *parts,
                            size_t n_parts, size_t *taken)
{
    *taken = 0;
    return s->tls != NULL ? send_records(w, s, parts, n_parts, taken)
                          : send_plain(w, s, parts, n_parts, taken);
}

static enum sent send_rest(struct http_writer *w, struct http_sending *s)
{
    struct iovec part = {s->rest + s->rest_at, s->rest_len - s->rest_at};
    size_t taken;
    enum sent sent = send_parts(w, s, &part, part.iov_len > 0, &taken);
    s->rest_at += taken;
    if (sent == SENT_ALL) {
        free(s->rest);
        s->rest = NULL;
    }
    return sent;
}

/* What clients share: *bytes of it, 0: there is none. */
static enum sent send_shared(struct http_writer *w, struct http_sending *s, size_t *bytes)
{
    struct iovec parts[PARTS_MAX];
    size_t n = s->ops->look != NULL ? s->ops->look(s->client, parts, PARTS_MAX) : 0;
    *bytes = 0;
    if (n == 0)
        return SENT_ALL;
    enum sent sent = send_parts(w, s, parts, n, bytes);
    bool more = s->ops->taken(s->client, *bytes);
    return sent == SENT_ALL && !more ? SENT_LAST : sent;
}

static enum sent send_block(struct http_writer *w, struct http_sending *s, size_t *bytes)
{
    ssize_t n = s->ops->read(s->client, w->block, sizeof w->block);
    *bytes = n > 0 ? (size_t)n : 0;
    if (n < 0) {
        http_writer_end(w, s, HTTP_CLOSED_ENDED);
        return SENT_OVER;
    }
    if (n == 0)
        return SENT_ALL;
    struct iovec part = {w->block, *bytes};
    size_t taken;
    enum sent sent = send_parts(w, s, &part, 1, &taken);
    if (sent == SENT_SOME && taken < *bytes)
        keep_rest(s, w->block + taken, *bytes - taken);
    return sent;
}

/* A share of what it has. It is asleep afterwards, or stuck, or back in the list. */
static void serve(struct http_writer *w, struct http_sending *s)
{
    size_t share = 0;
    if (s->tls_full > 0 && flush(w, s) != SENT_ALL)
        return;
    if (s->rest != NULL && send_rest(w, s) != SENT_ALL)
        return;
    while (share < SHARE_BYTES) {
        size_t bytes;
        enum sent sent = send_shared(w, s, &bytes);
        if (sent == SENT_ALL && bytes == 0)
            sent = send_block(w, s, &bytes);
        if (sent != SENT_ALL || bytes == 0)
            return;
        share += bytes;
    }
    http_writer_wake(w, s);
}

static void has_room(struct http_writer *w, struct http_sending *s)
{
    s->stuck_ms = 0;
    http_writer_wake(w, s);
}

static void take_event(struct http_writer *w, const struct epoll_event *event)
{
    struct http_sending *s = event->data.ptr;
    if (s == NULL) /* of a descriptor that is only watched */
        return;
    if ((event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        http_writer_end(w, s, HTTP_CLOSED_PEER);
    else if (s->stuck_ms > 0)
        has_room(w, s);
}

void http_writer_wait(struct http_writer *w, int wait_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int n;
    do {
        n = epoll_wait(w->epoll_fd, events, EVENTS_MAX, w->n_ready > 0 ? 0 : wait_ms);
        for (int i = 0; i < n; i++)
            take_event(w, &events[i]);
        wait_ms = 0;
    } while (n == EVENTS_MAX);
}

void http_writer_run(struct http_writer *w)
{
    /* Who comes back has had his share. */
    for (size_t n = w->n_ready; n > 0 && w->first != NULL; n--) {
        struct http_sending *s = w->first;
        w->first = s->next;
        if (w->first == NULL)
            w->last = &w->first;
        s->ready = false;
        w->n_ready--;
        if (!s->over)
            serve(w, s);
    }
}
