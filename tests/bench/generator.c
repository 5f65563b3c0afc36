/* generator.c - a Nomad that only streams: N lines of E events each, as fast as they are read or
 * at a fixed rate.
 *
 * Serves GET /v1/event/stream?index=I on a port of 127.0.0.1 (printed as `port P`): chunked, first
 * `{}`, then the lines with index max(I, 1) to N, then a heartbeat every 10 s. Event n is the same
 * bytes in every run and on every connection but for "SentUs", the wall clock at which it was
 * written, from which latency is read. Every event is --size bytes long, to the byte, above a least
 * of about 210. Of any K events in a row that begin at a multiple of K each has another key, so a
 * run of N * E events has min(K, N * E) different keys; a key belongs to one topic. One thread per
 * connection, any number of connections at once. /v1/namespaces tells one; all else is 404. With
 * --pause-after each connection stops behind so many lines until SIGUSR1 comes. */
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "tests/bench/mix.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BODIES = 512, /* fewer where they would not fit into BODIES_BYTES */
    BODIES_BYTES = 64 << 20,
    CHUNK_BYTES = 128 * 1024,
    FILLER_BYTES = 4096,
    HEARTBEAT_S = 10,
    PAUSE_US = 2000,
    BLOCKING_S = 60,
    REQUEST_MAX = 8192,
    SMALL_EVENT = 300, /* below, FilterKeys are left out, to make room */
    TASK_ROOM = 200,   /* a task of a body is not longer than this */
    THREAD_STACK = 256 * 1024,
};

static struct {
    uint64_t lines;
    uint64_t events; /* a line */
    uint64_t size;   /* bytes an event */
    uint64_t keys;
    uint64_t pause; /* after so many lines; 0: never */
    double rate;    /* lines/s; 0: as fast as they are read */
    uint16_t port;
    uint64_t body_count;
    struct buf bodies[BODIES]; /* tasks, a comma behind each, never longer than an event */
    char filler[FILLER_BYTES];
} plan = {.lines = 200000, .events = 1, .size = 2048, .keys = 1000};

/* Something that compresses as allocations do: known names, ids that are random. */
static struct buf make_body(uint64_t seed)
{
    static const char *const states[] = {"pending", "running", "complete", "failed", "lost"};
    struct buf b = {0};
    for (uint64_t i = 0; b.len + TASK_ROOM < plan.size; i++) {
        uint64_t r = mix(seed * 1000 + i);
        buf_printf(&b,
                   "{\"AllocID\":\"%08" PRIx64 "-%04" PRIx64 "-%04" PRIx64
                   "\",\"ClientStatus\":\"%s\",\"CreateTime\":%" PRIu64
                   ",\"Message\":\"Task \\\"web\\\" of group %" PRIu64
                   " changed\",\"Resources\":{\"CPU\":%" PRIu64 ",\"MemoryMB\":%" PRIu64 "}},",
                   r >> 32, r >> 16 & 0xffff, r & 0xffff, states[r % 5],
                   UINT64_C(1700000000000000000) + r % 1000000000000, r % 97, r % 4000, r % 8192);
    }
    return b;
}

static void make_filler(void)
{
    for (size_t i = 0; i < FILLER_BYTES; i++)
        plan.filler[i] = "0123456789abcdef"[mix(i) % 16];
}

/* The key of event n (from 0). Each round of K events goes through all keys once, each time from
 * another start; 2^32 - 5 is a prime above any K, so its multiples modulo K are all different. */
static uint64_t key_of(uint64_t n)
{
    uint64_t round = n / plan.keys;
    uint64_t step = (n % plan.keys) * (UINT64_C(4294967291) % plan.keys) % plan.keys;
    return (step + mix(round) % plan.keys) % plan.keys;
}

/* Whole tasks as they fit into `room`, then a Pad that is exactly what is left. A body is longer
 * than any room that has place for one, so the Pad is at most two tasks long. */
static void append_tasks(struct buf *out, const struct buf *body, size_t room, uint64_t r)
{
    static const char pad[] = "],\"Pad\":\"";
    const size_t pad_len = sizeof pad; /* with the closing quote, for the NUL */
    size_t tasks = room > pad_len ? room - pad_len : 0;
    tasks = tasks < body->len ? tasks : body->len;
    while (tasks > 0 && memcmp(body->p + tasks - 3, "}},", 3) != 0)
        tasks = tasks > 3 ? tasks - 1 : 0;
    tasks -= tasks > 0; /* the last comma */
    buf_append(out, body->p, tasks);
    if (room < tasks + pad_len) {
        buf_append_char(out, ']');
        return;
    }
    buf_append_cstr(out, pad);
    buf_append(out, plan.filler + r % (FILLER_BYTES / 2), room - tasks - pad_len);
    buf_append_char(out, '"');
}

static void append_event(struct buf *out, uint64_t index, uint64_t n)
{
    static const char *const topics[][2] = {
        {"Allocation", "AllocationUpdated"},
        {"Evaluation", "EvaluationUpdated"},
        {"Job", "JobRegistered"},
        {"Node", "NodeHeartbeat"},
        {"Deployment", "DeploymentStatusUpdate"},
    };
    uint64_t r = mix(n + 1);
    uint64_t key = mix(key_of(n) + 1);
    const char *const *topic = topics[key % 5];
    size_t start = out->len;
    buf_append_char(out, '{');
    if (plan.size >= SMALL_EVENT)
        buf_printf(out, "\"FilterKeys\":[\"job-%" PRIu64 "\"],", key % 100);
    buf_printf(out,
               "\"Index\":%" PRIu64 ",\"Key\":\"%08" PRIx64 "-%04" PRIx64 "-%04" PRIx64
               "\",\"Namespace\":\"default\",\"Payload\":{\"%s\":{\"SentUs\":%" PRId64
               ",\"Number\":%" PRIu64 ",\"Tasks\":[",
               index, key >> 32, key >> 16 & 0xffff, key & 0xffff, topic[0], clock_wall_us(),
               n + 1);
    static const char tail[] = "}},\"Topic\":\"\",\"Type\":\"\"}";
    size_t used = out->len - start + sizeof tail - 1 + strlen(topic[0]) + strlen(topic[1]);
    append_tasks(out, &plan.bodies[r / 7 % plan.body_count],
                 plan.size > used ? plan.size - used : 0, r);
    buf_printf(out, "}},\"Topic\":\"%s\",\"Type\":\"%s\"}", topic[0], topic[1]);
}

static void append_line(struct buf *out, uint64_t index)
{
    buf_append_cstr(out, "{\"Events\":[");
    for (uint64_t i = 0; i < plan.events; i++) {
        if (i > 0)
            buf_append_char(out, ',');
        append_event(out, index, (index - 1) * plan.events + i);
    }
    buf_printf(out, "],\"Index\":%" PRIu64 "}\n", index);
}

static int send_all(int fd, struct buf *out)
{
    for (size_t sent = 0; sent < out->len;) {
        ssize_t n = send(fd, out->p + sent, out->len - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return -1;
        sent += (size_t)n;
    }
    buf_clear(out);
    return 0;
}

static void append_chunk(struct buf *out, struct buf *body)
{
    buf_printf(out, "%zx\r\n", body->len);
    buf_append(out, body->p, body->len);
    buf_append_cstr(out, "\r\n");
    buf_clear(body);
}

static int64_t due_us(int64_t start, uint64_t lines)
{
    return plan.rate > 0 ? start + (int64_t)((double)lines * 1e6 / plan.rate) : 0;
}

/* Set by SIGUSR1: all connections go on behind their pause. */
static volatile sig_atomic_t go_on;

static void on_signal(int signal_number)
{
    go_on = signal_number;
}

/* At a rate each line is a chunk of its own at its own time (those that are late go together); else
 * chunks of 128 KiB. */
static int send_lines(int fd, uint64_t from)
{
    struct buf body = {0}, out = {0};
    int rc = 0;
    int64_t start = clock_mono_us();
    for (uint64_t i = from; i <= plan.lines && rc == 0; i++) {
        int64_t early = due_us(start, i - from) - clock_mono_us();
        if (early > 0)
            usleep((useconds_t)early);
        append_line(&body, i);
        bool pause = i == plan.pause && !go_on;
        bool full = body.len + out.len >= CHUNK_BYTES || i == plan.lines || pause;
        if (full || plan.rate > 0)
            append_chunk(&out, &body);
        if (full || (plan.rate > 0 && due_us(start, i + 1 - from) > clock_mono_us()))
            rc = send_all(fd, &out);
        while (pause && !go_on)
            usleep(PAUSE_US);
    }
    buf_fini(&body);
    buf_fini(&out);
    return rc;
}

static int send_text(int fd, const char *text)
{
    struct buf out = {0};
    buf_append_cstr(&out, text);
    int rc = send_all(fd, &out);
    buf_fini(&out);
    return rc;
}

/* The head of a request, terminated; empty where none came. */
static void read_request(int fd, char request[REQUEST_MAX])
{
    size_t len = 0;
    request[0] = '\0';
    while (len < REQUEST_MAX - 1 && strstr(request, "\r\n\r\n") == NULL) {
        ssize_t n = recv(fd, request + len, REQUEST_MAX - 1 - len, 0);
        if (n <= 0)
            break;
        len += (size_t)n;
        request[len] = '\0';
    }
}

static void serve_stream(int fd, uint64_t from)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n";
    if (send_text(fd, head) == 0 && send_lines(fd, from > 0 ? from : 1) == 0)
        while (send_text(fd, "3\r\n{}\n\r\n") == 0)
            sleep(HEARTBEAT_S);
}

/* One namespace, for ever: who waits for a change (a blocking query) gets the same after a while.
 */
static void serve_namespaces(int fd, bool blocking)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                 "X-Nomad-Index: 1\r\nContent-Length: 52\r\n"
                                 "Connection: close\r\n\r\n"
                                 "[{\"CreateIndex\":1,\"ModifyIndex\":1,\"Name\":\"default\"}]";
    struct pollfd gone = {.fd = fd, .events = POLLRDHUP};
    if (!blocking || poll(&gone, 1, BLOCKING_S * 1000) == 0)
        send_text(fd, answer);
}

/* What a bridge asks besides the stream is answered as a Nomad would, so that it stays cheap. */
static void *serve(void *arg)
{
    char request[REQUEST_MAX];
    int fd = (int)(intptr_t)arg;
    read_request(fd, request);
    const char *found = strstr(request, "index=");
    uint64_t index = found != NULL ? strtoull(found + 6, NULL, 10) : 0;
    if (strncmp(request, "GET /v1/event/stream", 20) == 0)
        serve_stream(fd, index);
    else if (strncmp(request, "GET /v1/namespaces", 18) == 0)
        serve_namespaces(fd, index > 0);
    else
        send_text(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    close(fd);
    return NULL;
}

static int listen_at(uint16_t port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) != 0) {
        perror("generator: listen");
        exit(1);
    }
    printf("port %d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static void read_words(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--lines") == 0)
            plan.lines = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--events-a-line") == 0)
            plan.events = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--size") == 0)
            plan.size = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--keys") == 0)
            plan.keys = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--pause-after") == 0)
            plan.pause = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--rate") == 0)
            plan.rate = strtod(value, NULL);
        else if (strcmp(argv[i], "--port") == 0)
            plan.port = (uint16_t)strtoul(value, NULL, 10);
        else
            plan.events = 0;
    }
    if (plan.events == 0 || plan.keys == 0 || plan.keys > UINT32_MAX - 5 || plan.rate < 0) {
        fputs("generator [--lines N] [--events-a-line E] [--size BYTES] [--keys K] [--rate LINES/S]"
              " [--pause-after LINES] [--port P]\n",
              stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    read_words(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, on_signal);
    make_filler();
    do
        plan.bodies[plan.body_count] = make_body(plan.body_count);
    while (++plan.body_count < BODIES && plan.body_count * plan.size < BODIES_BYTES);
    int listener = listen_at(plan.port);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, THREAD_STACK);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pthread_t thread;
        if (pthread_create(&thread, &small, serve, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
        else
            close(fd);
    }
}
