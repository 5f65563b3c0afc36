/* generator.c - a Nomad that only streams: N lines of one event each, as fast as they are read or
 * at a fixed rate.
 *
 * Serves GET /v1/event/stream?index=I on a free port of 127.0.0.1 (printed as `port P`): chunked,
 * first `{}`, then the lines with index max(I, 1) to N, then a heartbeat every 10 s. Line I is the
 * same bytes in every run but for "SentUs", the wall clock at which it was written, from which
 * latency is read. One thread per connection. */
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODIES = 512, CHUNK_BYTES = 128 * 1024, HEARTBEAT_S = 10, REQUEST_MAX = 8192 };

static struct {
    uint64_t lines;
    size_t size; /* bytes a line, about */
    double rate; /* lines/s; 0: as fast as they are read */
    unsigned keys;
    char *bodies[BODIES];
} plan = {.lines = 200000, .size = 2048, .rate = 0, .keys = 1000};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ (x >> 33);
}

/* Something that compresses as allocations do: known names, ids that are random. */
static char *make_body(uint64_t seed)
{
    static const char *const states[] = {"pending", "running", "complete", "failed", "lost"};
    struct buf b = {0};
    for (uint64_t i = 0; b.len + 420 < plan.size; i++) {
        uint64_t r = mix(seed * 1000 + i);
        buf_printf(&b,
                   "%s{\"AllocID\":\"%08" PRIx64 "-%04" PRIx64 "-%04" PRIx64
                   "\",\"ClientStatus\":\"%s\",\"CreateTime\":%" PRIu64
                   ",\"Message\":\"Task \\\"web\\\" of group %" PRIu64
                   " changed\",\"Resources\":{\"CPU\":%" PRIu64 ",\"MemoryMB\":%" PRIu64 "}}",
                   i > 0 ? "," : "", r >> 32, r >> 16 & 0xffff, r & 0xffff, states[r % 5],
                   UINT64_C(1700000000000000000) + r % 1000000000000, r % 97, r % 4000, r % 8192);
    }
    buf_cstr(&b);
    return b.p;
}

static void append_line(struct buf *out, uint64_t index)
{
    static const char *const topics[][2] = {
        {"Allocation", "AllocationUpdated"},
        {"Evaluation", "EvaluationUpdated"},
        {"Job", "JobRegistered"},
        {"Node", "NodeHeartbeat"},
        {"Deployment", "DeploymentStatusUpdate"},
    };
    uint64_t r = mix(index);
    const char *const *topic = topics[r % 5];
    uint64_t key = mix(r % plan.keys);
    buf_printf(out,
               "{\"Events\":[{\"FilterKeys\":[\"job-%" PRIu64 "\"],\"Index\":%" PRIu64
               ",\"Key\":\"%08" PRIx64 "-%04" PRIx64
               "\",\"Namespace\":\"default\",\"Payload\":{\"%s\":{\"SentUs\":%" PRId64
               ",\"Number\":%" PRIu64 ",\"Tasks\":[",
               key % 100, index, key >> 32, key & 0xffff, topic[0], clock_wall_us(), index);
    buf_append_cstr(out, plan.bodies[r / 7 % BODIES]);
    buf_printf(out, "]}},\"Topic\":\"%s\",\"Type\":\"%s\"}],\"Index\":%" PRIu64 "}\n", topic[0],
               topic[1], index);
}

static int send_all(int fd, const char *p, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int send_chunk(int fd, const struct buf *body)
{
    char head[32];
    int n = snprintf(head, sizeof head, "%zx\r\n", body->len);
    if (send_all(fd, head, (size_t)n) != 0 || send_all(fd, body->p, body->len) != 0)
        return -1;
    return send_all(fd, "\r\n", 2);
}

static int send_text(int fd, const char *text)
{
    struct buf body = {.p = (char *)(uintptr_t)text, .len = strlen(text)};
    return send_chunk(fd, &body);
}

/* At a rate each line is a chunk of its own at its own time; else chunks of 128 KiB. */
static int send_lines(int fd, uint64_t from)
{
    struct buf body = {0};
    int rc = 0;
    int64_t start = clock_mono_us();
    for (uint64_t i = from; i <= plan.lines && rc == 0; i++) {
        if (plan.rate > 0) {
            int64_t due = start + (int64_t)((double)(i - from) * 1e6 / plan.rate);
            int64_t now = clock_mono_us();
            if (due > now)
                usleep((useconds_t)(due - now));
        }
        append_line(&body, i);
        if (plan.rate > 0 || body.len >= CHUNK_BYTES || i == plan.lines) {
            rc = send_chunk(fd, &body);
            buf_clear(&body);
        }
    }
    buf_fini(&body);
    return rc;
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char request[REQUEST_MAX];
    size_t len = 0;
    while (len < sizeof request - 1) {
        ssize_t n = recv(fd, request + len, sizeof request - 1 - len, 0);
        if (n <= 0)
            break;
        len += (size_t)n;
        request[len] = '\0';
        if (strstr(request, "\r\n\r\n") != NULL)
            break;
    }
    request[len] = '\0';
    const char *index = strstr(request, "index=");
    uint64_t from = index != NULL ? strtoull(index + 6, NULL, 10) : 0;
    const char *head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                       "Transfer-Encoding: chunked\r\n\r\n";
    if (send_all(fd, head, strlen(head)) == 0 && send_text(fd, "{}\n") == 0 &&
        send_lines(fd, from > 0 ? from : 1) == 0)
        while (send_text(fd, "{}\n") == 0)
            sleep(HEARTBEAT_S);
    close(fd);
    return NULL;
}

static int listen_somewhere(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 16) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) != 0) {
        perror("generator: listen");
        exit(1);
    }
    printf("port %d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--lines") == 0)
            plan.lines = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--size") == 0)
            plan.size = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--rate") == 0)
            plan.rate = strtod(argv[i + 1], NULL);
        else if (strcmp(argv[i], "--keys") == 0)
            plan.keys = (unsigned)strtoul(argv[i + 1], NULL, 10);
    }
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < BODIES; i++)
        plan.bodies[i] = make_body(i);
    int listener = listen_somewhere();
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
    }
}
