/* redis_conn.c - one connection to a Redis: a command goes out, its reply comes back. */
#include "connectors/redis/redis_conn.h"

#include "bridge/base/clock.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_SIZE = 16384, STOP_GRACE_MS = 1000, PIECES_MAX = 1024 /* IOV_MAX of Linux */ };

struct redis_conn {
    int fd;
    redisReader *reader;
    struct stop *stop;
    int timeout_ms;
};

/* Waits until the socket is ready and returns what it is ready for; 0 after the time; -1 on an
 * error of poll. A requested stop shortens the wait to a second: a reply is likely on its way. */
static int wait_ready(const struct redis_conn *conn, short events, struct err *err)
{
    int64_t deadline = clock_mono_ms() + conn->timeout_ms;
    for (;;) {
        bool stopping = stop_requested(conn->stop);
        int64_t left = deadline - clock_mono_ms();
        if (stopping && left > STOP_GRACE_MS) {
            left = STOP_GRACE_MS;
            deadline = clock_mono_ms() + left;
        }
        if (left < 0)
            return 0;
        struct pollfd fds[2] = {{.fd = conn->fd, .events = events},
                                {.fd = stop_fd(conn->stop), .events = POLLIN}};
        int n = poll(fds, stopping ? 1 : 2, (int)left);
        if (n < 0 && errno != EINTR)
            return err_set(err, ERR_RETRY, "poll: %s", strerror(errno));
        if (n > 0 && fds[0].revents != 0)
            return fds[0].revents;
    }
}

/* ---- connecting ---- */

static int not_there(const char *why, struct err *err)
{
    return err_set(err, ERR_RETRY, "%s: is Redis up, is url: right?", why);
}

/* The socket becomes writable when it is connected or refused; a stop ends the wait at once. */
static int wait_connected(int fd, int timeout_ms, struct stop *stop, struct err *err)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    for (;;) {
        int64_t left = deadline - clock_mono_ms();
        struct pollfd fds[2] = {{.fd = fd, .events = POLLOUT},
                                {.fd = stop_fd(stop), .events = POLLIN}};
        int n = left > 0 ? poll(fds, 2, (int)left) : 0;
        if (n == 0)
            return err_set(err, ERR_RETRY, "no answer within %d ms", timeout_ms);
        if (n < 0 && errno != EINTR)
            return err_set(err, ERR_RETRY, "poll: %s", strerror(errno));
        if (n > 0 && fds[1].revents != 0)
            return err_set(err, ERR_RETRY, "stopping");
        if (n > 0)
            break;
    }
    int failure = 0;
    socklen_t size = sizeof failure;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size);
    return failure == 0 ? 0 : not_there(strerror(failure), err);
}

/* A connected socket, or -1. */
static int dial(const struct sockaddr *addr, socklen_t len, const struct redis_conn *conn,
                struct err *err)
{
    int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set(err, ERR_RETRY, "socket: %s", strerror(errno));
    int rc = connect(fd, addr, len);
    if (rc != 0 && errno == EINPROGRESS)
        rc = wait_connected(fd, conn->timeout_ms, conn->stop, err);
    else if (rc != 0)
        not_there(strerror(errno), err);
    if (rc != 0) {
        close(fd);
        return -1;
    }
    int on = 1;
    if (addr->sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static int dial_unix(const char *path, const struct redis_conn *conn, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr.sun_path)
        return err_set(err, ERR_FATAL, "the path of the socket is longer than %zu bytes",
                       sizeof addr.sun_path - 1);
    memcpy(addr.sun_path, path, strlen(path));
    return dial((const struct sockaddr *)&addr, sizeof addr, conn, err);
}

static int dial_tcp(const struct redis_endpoint *to, const struct redis_conn *conn, struct err *err)
{
    char port[16];
    snprintf(port, sizeof port, "%d", to->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int rc = getaddrinfo(to->host, port, &hints, &found);
    if (rc != 0)
        return not_there(gai_strerror(rc), err);
    int fd = -1;
    for (struct addrinfo *a = found; a != NULL && fd < 0 && !stop_requested(conn->stop);
         a = a->ai_next)
        fd = dial(a->ai_addr, a->ai_addrlen, conn, err);
    freeaddrinfo(found);
    return fd;
}

int redis_conn_open(struct redis_conn **out, const struct redis_endpoint *to, int timeout_ms,
                    struct stop *stop, struct err *err)
{
    struct redis_conn *conn = mem_zalloc(sizeof *conn);
    conn->stop = stop;
    conn->timeout_ms = timeout_ms;
    err_set(err, ERR_RETRY, "stopping");
    conn->fd = to->path != NULL ? dial_unix(to->path, conn, err) : dial_tcp(to, conn, err);
    if (conn->fd < 0) {
        redis_conn_close(&conn);
        return to->path != NULL ? err_wrap(err, "connect %s", to->path)
                                : err_wrap(err, "connect %s:%d", to->host, to->port);
    }
    conn->reader = redisReaderCreate();
    if (conn->reader == NULL)
        abort(); /* out of memory */
    *out = conn;
    return 0;
}

void redis_conn_close(struct redis_conn **conn)
{
    if (*conn == NULL)
        return;
    if ((*conn)->fd >= 0)
        close((*conn)->fd);
    if ((*conn)->reader != NULL)
        redisReaderFree((*conn)->reader);
    free(*conn);
    *conn = NULL;
}

/* ---- calling ---- */

/* Reads what has arrived. */
static int feed(struct redis_conn *conn, struct err *err)
{
    char bytes[READ_SIZE];
    ssize_t n = recv(conn->fd, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0)
        return err_set(err, ERR_RETRY, "receive: %s", strerror(errno));
    if (n == 0)
        return err_set(err, ERR_RETRY, "the server closed the connection");
    if (redisReaderFeed(conn->reader, bytes, (size_t)n) != REDIS_OK)
        return err_set(err, ERR_RETRY, "not an answer of Redis: %s", conn->reader->errstr);
    return 0;
}

/* The next reply of what was read; NULL where it is not whole yet. */
static int take(struct redis_conn *conn, redisReply **reply, struct err *err)
{
    void *got = NULL;
    if (redisReaderGetReply(conn->reader, &got) != REDIS_OK)
        return err_set(err, ERR_RETRY, "not an answer of Redis: %s", conn->reader->errstr);
    *reply = got;
    return 0;
}

static int read_some(struct redis_conn *conn, redisReply **reply, struct err *err)
{
    return feed(conn, err) != 0 ? -1 : take(conn, reply, err);
}

static int wait_and_read(struct redis_conn *conn, redisReply **reply, struct err *err)
{
    int ready = wait_ready(conn, POLLIN, err);
    if (ready == 0)
        err_set(err, ERR_RETRY, "no answer within %d ms", conn->timeout_ms);
    return ready <= 0 ? -1 : read_some(conn, reply, err);
}

/* Drops the first `n` bytes of the pieces. */
static void advance(struct iovec **pieces, size_t *count, size_t n)
{
    while (*count > 0 && n >= (*pieces)->iov_len) {
        n -= (*pieces)->iov_len;
        (*pieces)++;
        (*count)--;
    }
    if (n > 0) {
        (*pieces)->iov_base = (char *)(*pieces)->iov_base + n;
        (*pieces)->iov_len -= n;
    }
}

/* The kernel's buffer is full: waits for room. Redis says what it will not take (an argument over
 * proto-max-bulk-len) while we still send, and closes: such a reply ends the sending. Where answers
 * to earlier commands are still to come (`early` is NULL) it is kept with them. */
static int wait_for_room(struct redis_conn *conn, redisReply **early, struct err *err)
{
    int ready = wait_ready(conn, POLLIN | POLLOUT, err);
    if (ready == 0)
        return err_set(err, ERR_RETRY, "took nothing for %d ms", conn->timeout_ms);
    if (ready > 0 && (ready & POLLIN) != 0)
        return early != NULL ? read_some(conn, early, err) : feed(conn, err);
    return ready < 0 ? -1 : 0;
}

static int send_all(struct redis_conn *conn, struct redis_command *cmd, redisReply **early,
                    struct err *err)
{
    size_t count;
    struct iovec *pieces = redis_command_pieces(cmd, &count);
    while (count > 0 && (early == NULL || *early == NULL)) {
        struct msghdr msg = {.msg_iov = pieces,
                             .msg_iovlen = count < PIECES_MAX ? count : PIECES_MAX};
        ssize_t n = sendmsg(conn->fd, &msg, MSG_NOSIGNAL);
        if (n >= 0) {
            advance(&pieces, &count, (size_t)n);
        } else if (errno == EAGAIN) {
            if (wait_for_room(conn, early, err) != 0)
                return -1;
        } else if (errno != EINTR) {
            /* What the server said before it closed says more than the broken pipe. */
            err_set(err, ERR_RETRY, "send: %s", strerror(errno));
            return early != NULL && read_some(conn, early, NULL) == 0 && *early != NULL ? 0 : -1;
        }
    }
    return 0;
}

redisReply *redis_conn_call(struct redis_conn *conn, struct redis_command *cmd, struct err *err)
{
    redisReply *reply = NULL;
    if (send_all(conn, cmd, &reply, err) != 0)
        return NULL;
    while (reply == NULL)
        if (wait_and_read(conn, &reply, err) != 0)
            return NULL;
    return reply;
}

int redis_conn_send(struct redis_conn *conn, struct redis_command *cmd, struct err *err)
{
    return send_all(conn, cmd, NULL, err);
}

redisReply *redis_conn_next(struct redis_conn *conn, struct err *err)
{
    redisReply *reply = NULL;
    if (take(conn, &reply, err) != 0)
        return NULL;
    while (reply == NULL)
        if (wait_and_read(conn, &reply, err) != 0)
            return NULL;
    return reply;
}

struct str redis_reply_str(const redisReply *reply, size_t i)
{
    if (reply->type != REDIS_REPLY_ARRAY || i >= reply->elements ||
        reply->element[i]->type != REDIS_REPLY_STRING)
        return (struct str){"", 0};
    return (struct str){reply->element[i]->str, reply->element[i]->len};
}
