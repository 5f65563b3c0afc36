/* writer.c - the limit: what one thread needs to hand the same frames to the same clients.
 *
 * writer --source 127.0.0.1:PORT [--send-buffer BYTES] [--ring BYTES] [--name SOURCE]
 *
 * Follows a generator (tests/bench/generator.c, one event a line), makes of each line the frame
 * that the mirror's GET /events makes of it, byte for byte but for the numbers in its id, and
 * writes it to everybody who has sent something: a ring of bytes that all share, a cursor for each,
 * send() until the socket is full, edge-triggered epoll. Nothing else: a static head, no journal,
 * no request is read, no replay, no filters, no heartbeats. Prints `port P`.
 *
 * One pass over all clients per batch of news: what comes during a pass goes out in the next. */
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS_MAX = 65536, EVENTS_MAX = 1024, READ_BYTES = 64 * 1024, BACKLOG = 4096 };

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                           "Cache-Control: no-store\r\nConnection: close\r\n\r\n: writer\n\n";

struct client {
    int fd;
    bool asked;   /* its request is there */
    bool blocked; /* its socket is full */
    uint64_t cursor;
};

static struct {
    const char *source;
    const char *name;
    int send_buffer;
    size_t ring_bytes;
} options = {.name = "bench", .send_buffer = 64 * 1024, .ring_bytes = 8 << 20};

static struct {
    int epoll_fd;
    int listener;
    int source_fd;
    struct client clients[CLIENTS_MAX]; /* dense: the last one fills a hole */
    size_t n_clients;
    char *ring;
    uint64_t head; /* bytes ever put into the ring */
    struct buf received;
    size_t chunk_left; /* of the chunk that is under way, its CRLF included */
    struct buf line;
    struct buf frame;
} state;

/* epoll's data: the descriptor of a client and where it lies. */
static size_t slot_of[CLIENTS_MAX];

static void fail(const char *what)
{
    fprintf(stderr, "writer: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- clients ---- */

static void client_drop(struct client *c)
{
    close(c->fd);
    *c = state.clients[--state.n_clients];
    slot_of[c->fd] = (size_t)(c - state.clients);
}

/* False where it had to go. */
static bool client_send(struct client *c)
{
    if (state.head - c->cursor > options.ring_bytes) {
        client_drop(c);
        return false;
    }
    while (c->cursor < state.head) {
        size_t at = (size_t)(c->cursor % options.ring_bytes);
        size_t len = (size_t)(state.head - c->cursor);
        if (len > options.ring_bytes - at)
            len = options.ring_bytes - at;
        ssize_t n = send(c->fd, state.ring + at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            c->cursor += (uint64_t)n;
        c->blocked = n < 0 && errno == EAGAIN;
        if (n < 0 && !c->blocked) {
            client_drop(c);
            return false;
        }
        if (n < (ssize_t)len)
            c->blocked = true;
        if (c->blocked)
            break;
    }
    return true;
}

static void client_event(struct client *c, uint32_t events)
{
    char request[4096];
    if ((events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0) {
        client_drop(c);
        return;
    }
    if ((events & EPOLLIN) != 0 && !c->asked && recv(c->fd, request, sizeof request, 0) > 0) {
        c->asked = true;
        c->cursor = state.head;
        if (send(c->fd, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL) != (ssize_t)sizeof HEAD - 1)
            fail("a head that does not fit an empty socket");
    }
    if ((events & EPOLLOUT) != 0 && c->blocked) {
        c->blocked = false;
        client_send(c);
    }
}

static void accept_all(void)
{
    for (;;) {
        int fd = accept4(state.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        if (fd >= CLIENTS_MAX || state.n_clients == CLIENTS_MAX)
            fail("more clients than there is room for");
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
        event.data.fd = fd;
        if (epoll_ctl(state.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
            fail("epoll_ctl");
        slot_of[fd] = state.n_clients;
        state.clients[state.n_clients++] = (struct client){.fd = fd};
    }
}

static void serve_all(void)
{
    for (size_t i = 0; i < state.n_clients;) {
        struct client *c = &state.clients[i];
        if (!c->asked || c->blocked || client_send(c))
            i++; /* else the last one lies here now */
    }
}

/* ---- what comes from the generator ---- */

static void ring_put(struct str bytes)
{
    while (bytes.len > 0) {
        size_t at = (size_t)(state.head % options.ring_bytes);
        size_t len = options.ring_bytes - at < bytes.len ? options.ring_bytes - at : bytes.len;
        memcpy(state.ring + at, bytes.p, len);
        state.head += len;
        bytes = (struct str){bytes.p + len, bytes.len - len};
    }
}

/* What stands behind the last `"Type":"`, which the generator writes last in an event. */
static struct str type_of(struct str event)
{
    static const char KEY[] = "\"Type\":\"";
    for (size_t at = event.len; at-- > sizeof KEY;) {
        if (event.p[at] != '"' || memcmp(event.p + at, KEY, sizeof KEY - 1) != 0)
            continue;
        const char *type = event.p + at + sizeof KEY - 1;
        const char *end = memchr(type, '"', (size_t)(event.p + event.len - type));
        return (struct str){type, end != NULL ? (size_t)(end - type) : 0};
    }
    return STR("");
}

/* `{"Events":[EVENT],"Index":N}` becomes the frame of EVENT. */
static void take_line(struct str line)
{
    static const char START[] = "{\"Events\":[";
    const char *end = line.len > 0 ? memrchr(line.p, ']', line.len) : NULL;
    if (end == NULL || line.len < sizeof START || memcmp(line.p, START, sizeof START - 1) != 0)
        return;
    const char *index = memchr(end, ':', (size_t)(line.p + line.len - end));
    struct str event = {line.p + sizeof START - 1, (size_t)(end - line.p) - (sizeof START - 1)};
    buf_clear(&state.frame);
    buf_append_cstr(&state.frame, "id: ");
    buf_append_cstr(&state.frame, options.name);
    buf_append_char(&state.frame, ':');
    buf_append_u64(&state.frame, index != NULL ? strtoull(index + 1, NULL, 10) : 0);
    buf_append_cstr(&state.frame, ".0@");
    buf_append_u64(&state.frame, (uint64_t)clock_wall_us());
    buf_append_cstr(&state.frame, ".0123456789abcdef\nevent: ");
    buf_append_str(&state.frame, type_of(event));
    buf_append_cstr(&state.frame, "\ndata: ");
    buf_append_str(&state.frame, event);
    buf_append_cstr(&state.frame, "\n\n");
    ring_put(buf_str(&state.frame));
}

static void take_body(struct str body)
{
    const char *lf;
    while (body.len > 0 && (lf = memchr(body.p, '\n', body.len)) != NULL) {
        size_t len = (size_t)(lf - body.p);
        buf_append(&state.line, body.p, len);
        buf_append_char(&state.line, '\0'); /* strtoull ends there */
        take_line((struct str){state.line.p, state.line.len - 1});
        buf_clear(&state.line);
        body = (struct str){lf + 1, body.len - len - 1};
    }
    buf_append_str(&state.line, body);
}

/* Takes the chunked coding off; the head has gone already. */
static void take_chunks(void)
{
    struct buf *in = &state.received;
    size_t at = 0;
    while (at < in->len) {
        if (state.chunk_left == 0) {
            const char *lf = memchr(in->p + at, '\n', in->len - at);
            if (lf == NULL)
                break;
            state.chunk_left = strtoull(in->p + at, NULL, 16) + 2;
            at = (size_t)(lf - in->p) + 1;
            continue;
        }
        size_t len = in->len - at < state.chunk_left ? in->len - at : state.chunk_left;
        size_t crlf = state.chunk_left - len < 2 ? 2 - (state.chunk_left - len) : 0;
        take_body((struct str){in->p + at, len > crlf ? len - crlf : 0});
        state.chunk_left -= len;
        at += len;
    }
    buf_consume(in, at);
}

static void read_source(void)
{
    ssize_t n =
        recv(state.source_fd, buf_reserve(&state.received, READ_BYTES), READ_BYTES, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        fail("the generator went away");
    if (n < 0)
        return;
    state.received.len += (size_t)n;
    take_chunks();
}

static void connect_source(void)
{
    static const char REQUEST[] = "GET /v1/event/stream?index=0 HTTP/1.1\r\nHost: x\r\n\r\n";
    const char *colon = strrchr(options.source, ':');
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)strtoul(colon != NULL ? colon + 1 : "0", NULL, 10));
    state.source_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(state.source_fd, (struct sockaddr *)&to, sizeof to) != 0 ||
        send(state.source_fd, REQUEST, sizeof REQUEST - 1, 0) != (ssize_t)sizeof REQUEST - 1)
        fail("the generator");
    size_t seen = 0; /* of "\r\n\r\n" */
    for (char c; seen < 4;) {
        if (recv(state.source_fd, &c, 1, 0) != 1)
            fail("the generator's head");
        seen = c == "\r\n\r\n"[seen] ? seen + 1 : (size_t)(c == '\r');
    }
}

/* ---- the loop ---- */

static void watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(state.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll_ctl");
}

static void listen_somewhere(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    state.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(state.listener, SOL_SOCKET, SO_SNDBUF, &options.send_buffer, sizeof(int));
    if (bind(state.listener, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(state.listener, BACKLOG) != 0 ||
        getsockname(state.listener, (struct sockaddr *)&at, &size) != 0)
        fail("listen");
    printf("port %d\n", ntohs(at.sin_port));
    fflush(stdout);
}

static void run(void)
{
    static struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int n = epoll_wait(state.epoll_fd, events, EVENTS_MAX, -1);
        uint64_t before = state.head;
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == state.listener)
                accept_all();
            else if (fd == state.source_fd)
                read_source();
            else
                client_event(&state.clients[slot_of[fd]], events[i].events);
        }
        if (state.head != before)
            serve_all();
    }
}

static void read_options(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--source") == 0)
            options.source = argv[i + 1];
        else if (strcmp(argv[i], "--name") == 0)
            options.name = argv[i + 1];
        else if (strcmp(argv[i], "--send-buffer") == 0)
            options.send_buffer = (int)strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--ring") == 0)
            options.ring_bytes = strtoull(argv[i + 1], NULL, 10);
    }
    if (options.source == NULL || argc % 2 == 0) {
        fprintf(stderr, "usage: writer --source 127.0.0.1:PORT [--send-buffer BYTES] "
                        "[--ring BYTES] [--name SOURCE]\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    state.ring = mem_alloc(options.ring_bytes);
    state.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    connect_source();
    listen_somewhere();
    watch(state.source_fd);
    watch(state.listener);
    run();
}
