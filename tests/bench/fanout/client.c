/* client.c - one reader of a stream.
 *
 * All share one buffer: what came is taken apart at once, line by line, and only a line that is not
 * whole is kept, so ten thousand clients hold little and touch little. Of an event only the first
 * bytes are looked at, for "SentUs" and "Number". A line of JSON without `data:` (ndjson, Nomad's
 * own stream) counts as an event too. */
#include "tests/bench/fanout/client.h"

#include "bridge/base/clock.h"
#include "tests/bench/mix.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024, LOOK_BYTES = 1024, HEAD_MAX = 16 * 1024 };

/* ---- connections ---- */

bool client_connect(struct client *c, const struct client_plan *plan, size_t number)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    int one = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (plan->receive_buffer > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &plan->receive_buffer, sizeof(int));
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number % plan->addresses));
    bool begun = bind(fd, (struct sockaddr *)&from, sizeof from) == 0 &&
                 (connect(fd, (const struct sockaddr *)&plan->server, sizeof plan->server) == 0 ||
                  errno == EINPROGRESS);
    if (!begun) {
        close(fd);
        return false;
    }
    c->fd = fd;
    c->state = CLIENT_CONNECTING;
    return true;
}

void client_close(struct client *c)
{
    if (c->fd >= 0) {
        struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        tls_free(&c->tls);
        close(c->fd);
    }
    free(c->rest);
    c->rest = NULL;
    c->rest_len = 0;
    c->fd = -1;
}

static ssize_t receive(struct client *c, char *p, size_t max)
{
    if (c->tls != NULL)
        return tls_receive(c->tls, p, max);
    ssize_t n = recv(c->fd, p, max, MSG_DONTWAIT);
    return n >= 0 ? n : errno == EAGAIN ? TLS_AGAIN : TLS_BROKEN;
}

static bool ask(struct client *c, const struct client_plan *plan)
{
    struct buf request = {0};
    buf_printf(&request, "GET %s", plan->path);
    if (plan->query != NULL) {
        buf_append_char(&request, strchr(plan->path, '?') != NULL ? '&' : '?');
        const char *mark = strstr(plan->query, "%u");
        size_t before = mark != NULL ? (size_t)(mark - plan->query) : strlen(plan->query);
        buf_append(&request, plan->query, before);
        if (mark != NULL)
            buf_printf(&request, "%u%s", c->group, mark + 2);
    }
    buf_printf(&request, " HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n", plan->host);
    if (c->id[0] != '\0')
        buf_printf(&request, "Last-Event-ID: %s\r\n", c->id);
    if (plan->header != NULL)
        buf_printf(&request, "%s\r\n", plan->header);
    buf_append_cstr(&request, "\r\n");
    ssize_t n = c->tls != NULL ? tls_send(c->tls, request.p, request.len)
                               : send(c->fd, request.p, request.len, MSG_NOSIGNAL);
    bool whole = n == (ssize_t)request.len; /* a request fits an empty socket */
    buf_fini(&request);
    return whole;
}

/* ---- what a stream says ---- */

static void take_number(struct client *c, const struct client_plan *plan, struct tally *tally,
                        uint64_t number)
{
    if (c->knows_number && number <= c->last_number)
        tally->repeated++;
    else if (c->knows_number && plan->consecutive)
        tally->missed += number - c->last_number - 1;
    c->knows_number = true;
    c->last_number = number;
    c->count++;
    c->hash += mix(number);
}

static void take_delay(struct client *c, const struct client_plan *plan, struct tally *tally,
                       int64_t delay_us)
{
    if (!c->caught && delay_us < plan->late_us) {
        c->caught = true;
        histogram_add(&tally->caught_us, clock_mono_us() - c->wish_us);
    }
    if (!c->caught)
        tally->replayed++;
    else if (tally->window)
        histogram_add(&tally->delay_us, delay_us);
}

/* Decimal digits behind a key; false where the key is not there. */
static bool find_number(struct str in, struct str key, uint64_t *out)
{
    const char *at = memmem(in.p, in.len, key.p, key.len);
    if (at == NULL)
        return false;
    uint64_t value = 0;
    for (at += key.len; at < in.p + in.len && *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    *out = value;
    return true;
}

static void take_event(struct client *c, const struct client_plan *plan, struct tally *tally,
                       struct str data)
{
    struct str start = {data.p, data.len < LOOK_BYTES ? data.len : LOOK_BYTES};
    uint64_t sent;
    uint64_t number;
    c->own_event = !find_number(start, STR("\"SentUs\":"), &sent);
    if (c->own_event) {
        snprintf(tally->last_words, sizeof tally->last_words, "%.*s", STR_ARG(start));
        return;
    }
    tally->events++;
    tally->deliveries += tally->window;
    take_delay(c, plan, tally, tally->now_us - (int64_t)sent);
    if (find_number(start, STR("\"Number\":"), &number))
        take_number(c, plan, tally, number);
}

/* The frame is whole: its id is what to come back with. */
static void take_end(struct client *c, const struct client_plan *plan, struct tally *tally)
{
    if (!plan->keeps_ids || c->new_id[0] == '\0')
        return;
    memcpy(c->id, c->new_id, sizeof c->id);
    if (tally->ids != NULL && !c->own_event)
        fprintf(tally->ids, "%s %llu\n", c->id, (unsigned long long)c->last_number);
}

static bool starts(struct str line, struct str with)
{
    return line.len >= with.len && memcmp(line.p, with.p, with.len) == 0;
}

static void take_line(struct client *c, const struct client_plan *plan, struct tally *tally,
                      struct str line)
{
    if (line.len > 0 && line.p[line.len - 1] == '\r')
        line.len--;
    if (line.len == 0) {
        take_end(c, plan, tally);
    } else if (starts(line, STR("data: "))) {
        take_event(c, plan, tally, (struct str){line.p + 6, line.len - 6});
    } else if (line.p[0] == '{' && line.len > 2) {
        take_event(c, plan, tally, line);
    } else if (starts(line, STR("id: ")) && plan->keeps_ids) {
        snprintf(c->new_id, sizeof c->new_id, "%.*s", (int)line.len - 4, line.p + 4);
    } else if (line.p[0] == ':') {
        snprintf(tally->last_words, sizeof tally->last_words, "%.*s", STR_ARG(line));
    } else if (starts(line, STR("event: Gap"))) {
        tally->gaps++;
    }
}

static void keep_rest(struct client *c, struct str rest)
{
    free(c->rest);
    c->rest = rest.len > 0 ? mem_strndup(rest.p, rest.len) : NULL;
    c->rest_len = rest.len;
}

static void take_lines(struct client *c, const struct client_plan *plan, struct tally *tally,
                       struct str body)
{
    const char *lf;
    while (body.len > 0 && (lf = memchr(body.p, '\n', body.len)) != NULL) {
        size_t len = (size_t)(lf - body.p);
        take_line(c, plan, tally, (struct str){body.p, len});
        body = (struct str){lf + 1, body.len - len - 1};
    }
    keep_rest(c, body);
}

/* The head of the answer, once it is whole. */
static enum client_step take_head(struct client *c, const struct client_plan *plan,
                                  struct tally *tally, struct str all)
{
    const char *end = memmem(all.p, all.len, "\r\n\r\n", 4);
    if (end == NULL) {
        keep_rest(c, all);
        return all.len < HEAD_MAX ? CLIENT_GOES_ON : CLIENT_ENDED;
    }
    bool taken = starts(all, STR("HTTP/1.1 200")) || starts(all, STR("HTTP/1.0 200"));
    if (!taken) {
        tally->refused++;
        snprintf(tally->last_words, sizeof tally->last_words, "%.12s", all.p);
        return CLIENT_ENDED;
    }
    tally->attached++;
    histogram_add(&tally->attach_us, clock_mono_us() - c->wish_us);
    c->state = CLIENT_STREAM;
    size_t head = (size_t)(end - all.p) + 4;
    take_lines(c, plan, tally, (struct str){all.p + head, all.len - head});
    return CLIENT_ATTACHED;
}

static enum client_step read_more(struct client *c, const struct client_plan *plan,
                                  struct tally *tally, struct buf *scratch)
{
    buf_clear(scratch);
    char *p = buf_reserve(scratch, c->rest_len + READ_BYTES);
    if (c->rest_len > 0)
        memcpy(p, c->rest, c->rest_len);
    bool slow = c->kind == CLIENT_SLOW && c->state == CLIENT_STREAM;
    ssize_t n = receive(c, p + c->rest_len, slow ? CLIENT_SLOW_BYTES : READ_BYTES);
    if (n == TLS_AGAIN)
        return CLIENT_GOES_ON;
    if (n <= 0) {
        if (c->state == CLIENT_STREAM)
            tally->closed++;
        else
            tally->failed++;
        return CLIENT_ENDED;
    }
    tally->now_us = clock_wall_us();
    tally->bytes += (uint64_t)n;
    tally->reads += tally->window;
    struct str all = {p, c->rest_len + (size_t)n};
    if (c->state == CLIENT_ASKING)
        return take_head(c, plan, tally, all);
    take_lines(c, plan, tally, all);
    return CLIENT_GOES_ON;
}

/* ---- steps ---- */

static enum client_step connected(struct client *c, const struct client_plan *plan)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)
        return CLIENT_ENDED;
    c->state = plan->tls ? CLIENT_SHAKING : CLIENT_ASKING;
    if (plan->tls)
        c->tls = tls_new(c->fd);
    return CLIENT_GOES_ON;
}

enum client_step client_step(struct client *c, const struct client_plan *plan, struct tally *tally,
                             struct buf *scratch)
{
    if (c->state == CLIENT_ASKING || c->state == CLIENT_STREAM)
        return read_more(c, plan, tally, scratch);
    bool fine = c->state != CLIENT_CONNECTING || connected(c, plan) == CLIENT_GOES_ON;
    if (fine && c->state == CLIENT_SHAKING) {
        int rc = tls_handshake(c->tls);
        if (rc == TLS_AGAIN)
            return CLIENT_GOES_ON;
        fine = rc == 0;
        c->state = CLIENT_ASKING;
    }
    if (fine && c->state == CLIENT_ASKING && ask(c, plan)) {
        if (c->kind == CLIENT_NEVER_READS)
            c->state = CLIENT_DEAD;
        return c->state == CLIENT_DEAD ? CLIENT_ATTACHED : CLIENT_GOES_ON;
    }
    tally->failed++;
    return CLIENT_ENDED;
}
