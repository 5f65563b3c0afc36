/* mirror_kit.h - a bridge of real journals that the test fills by hand, a mirror on it, and a
 * client that reads what comes. Defines the bridge_ functions that the mirror uses: include it
 * once. */
#ifndef BUSBAR_TESTS_MIRROR_KIT_H
#define BUSBAR_TESTS_MIRROR_KIT_H

#include "bridge/arrival.h"
#include "bridge/base/clock.h"
#include "bridge/bridge.h"
#include "connectors/mirror/mirror.h"
#include "tests/unit/scratch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

enum { KIT_SOURCES_MAX = 4, KIT_WAIT_MS = 30000 };

struct bridge {
    size_t n;
    const char *names[KIT_SOURCES_MAX];
    char *dirs[KIT_SOURCES_MAX];
    struct journal *journals[KIT_SOURCES_MAX];
    struct arrival arrival;
    struct metrics_all *metrics;
    pthread_mutex_t news_lock;
    void (*news)(void *arg);
    void *news_arg;
    bool unready;
    uint64_t next_index;
    bool not_nomad[KIT_SOURCES_MAX];
    bool is_marathon[KIT_SOURCES_MAX];
    void (*add_status)(void *arg, size_t i, struct json_t *source);
    void *add_status_arg;
    const char *regions[KIT_SOURCES_MAX];
};

size_t bridge_sources(const struct bridge *bridge)
{
    return bridge->n;
}

const char *bridge_source_name(const struct bridge *bridge, size_t i)
{
    return bridge->names[i];
}

struct journal *bridge_journal(const struct bridge *bridge, size_t i)
{
    return bridge->journals[i];
}

void bridge_describe_source(struct bridge *bridge, size_t i, struct bridge_source *out)
{
    *out = (struct bridge_source){
        .is_nomad = !bridge->not_nomad[i] && !bridge->is_marathon[i],
        .is_marathon = bridge->is_marathon[i],
        .region = bridge->regions[i],
        .attached = !bridge->unready,
        .last_index = bridge->next_index - 1,
        .server = "10.0.0.1:4646",
    };
}

int64_t bridge_arrival_horizon(struct bridge *bridge)
{
    return arrival_horizon(&bridge->arrival);
}

void bridge_on_news(struct bridge *bridge, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&bridge->news_lock);
    bridge->news = fn;
    bridge->news_arg = arg;
    pthread_mutex_unlock(&bridge->news_lock);
}

void bridge_on_status(struct bridge *bridge, void (*fn)(void *arg, size_t i, struct json_t *source),
                      void *arg)
{
    bridge->add_status = fn;
    bridge->add_status_arg = arg;
}

struct metrics_all *bridge_metrics(struct bridge *bridge)
{
    return bridge->metrics;
}

void bridge_render_status(struct bridge *bridge, struct buf *out)
{
    buf_printf(out, "{\"sources\":%zu}", bridge->n);
}

void bridge_render_metrics(struct bridge *bridge, struct buf *out)
{
    metrics_render(bridge->metrics, out);
}

bool bridge_is_ready(struct bridge *bridge, struct buf *why)
{
    if (bridge->unready)
        buf_append_cstr(why, "source prod: connecting");
    return !bridge->unready;
}

/* ---- the bridge by hand ---- */

static inline struct bridge *kit_bridge(size_t n, uint64_t max_size)
{
    static const char *const names[KIT_SOURCES_MAX] = {"prod", "test", "lab", "edge"};
    struct bridge *b = mem_zalloc(sizeof *b);
    b->n = n;
    b->next_index = 100;
    b->metrics = metrics_all_new();
    pthread_mutex_init(&b->news_lock, NULL);
    arrival_init(&b->arrival, n);
    for (size_t i = 0; i < n; i++) {
        b->names[i] = names[i];
        b->dirs[i] = scratch_dir();
        b->journals[i] = scratch_journal(b->dirs[i], max_size);
    }
    return b;
}

static inline void kit_bridge_free(struct bridge **bridge)
{
    struct bridge *b = *bridge;
    for (size_t i = 0; i < b->n; i++) {
        journal_close(&b->journals[i]);
        scratch_remove(b->dirs[i]);
    }
    arrival_fini(&b->arrival);
    metrics_all_free(&b->metrics);
    pthread_mutex_destroy(&b->news_lock);
    free(b);
    *bridge = NULL;
}

static inline void kit_commit(struct bridge *b, size_t source)
{
    struct err err;
    assert_int_equal(0, journal_commit(b->journals[source], &err));
    arrival_readable(&b->arrival, source);
    pthread_mutex_lock(&b->news_lock);
    if (b->news != NULL)
        b->news(b->news_arg);
    pthread_mutex_unlock(&b->news_lock);
}

/* Appends one event without committing; returns its arrival. What is empty gets a default. */
static inline int64_t kit_append(struct bridge *b, size_t source, struct event event)
{
    struct err err;
    if (event.topic.len == 0)
        event.topic = STR("Job");
    if (event.type.len == 0)
        event.type = STR("JobRegistered");
    if (event.pos_index == 0)
        event.pos_index = b->next_index++;
    if (event.index == 0)
        event.index = event.pos_index;
    int64_t arrival = arrival_take(&b->arrival, source, 1);
    assert_int_equal(0, journal_append(b->journals[source], event.data, arrival, &event, 1, &err));
    return arrival;
}

static inline int64_t kit_add(struct bridge *b, size_t source, const char *data)
{
    int64_t arrival = kit_append(b, source, (struct event){.data = str_from(data)});
    kit_commit(b, source);
    return arrival;
}

/* ---- the mirror ---- */

static inline struct mirror_settings kit_settings(void)
{
    return (struct mirror_settings){
        .listen = "127.0.0.1:0",
        .max_clients = 100,
        .client_buffer = 64 << 10,
        .shared_buffer = 8 << 20,
        .heartbeat_ms = 15000,
        .client_timeout_ms = 60000,
    };
}

static inline struct mirror *kit_mirror(struct bridge *b, const struct mirror_settings *settings)
{
    struct mirror *mirror = NULL;
    struct err err;
    if (mirror_open(&mirror, settings, "busbar", b, &err) != 0)
        fail_msg("%s", err.msg);
    return mirror;
}

/* A mirror of a bridge of journals, as most tests want it. */
struct kit {
    struct bridge *bridge;
    struct mirror_settings settings;
    struct mirror *mirror;
    const char *address;
};

static inline int kit_teardown(void **state)
{
    struct kit *kit = *state;
    mirror_close(&kit->mirror);
    kit_bridge_free(&kit->bridge);
    free(kit);
    return 0;
}

/* The sum of a metric over all sets, read from the exposition; -1 where it is not there. */
static inline long kit_metric(struct bridge *b, const char *name)
{
    struct buf text = {0};
    metrics_render(b->metrics, &text);
    char needle[96];
    snprintf(needle, sizeof needle, "\n%s ", name);
    const char *at = strstr(buf_cstr(&text), needle);
    long value = at != NULL ? strtol(at + strlen(needle), NULL, 10) : -1;
    buf_fini(&text);
    return value;
}

static inline bool kit_becomes(struct bridge *b, const char *metric, long wanted)
{
    int64_t until = clock_mono_ms() + KIT_WAIT_MS;
    while (kit_metric(b, metric) != wanted && clock_mono_ms() < until)
        poll(NULL, 0, 20);
    return kit_metric(b, metric) == wanted;
}

/* ---- a client ---- */

struct peer {
    int fd;
    struct buf got; /* all that came and was not taken yet */
};

static inline int kit_connect(const char *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons((uint16_t)strtol(strrchr(address, ':') + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
        fail_msg("connect: %s", strerror(errno));
    return fd;
}

static inline void peer_send(struct peer *p, const char *text)
{
    assert_int_equal(strlen(text), send(p->fd, text, strlen(text), MSG_NOSIGNAL));
}

/* `head` is the request line and headers, each ended by \r\n, without the empty line. */
static inline struct peer peer_raw(const char *address, const char *head)
{
    struct peer p = {.fd = kit_connect(address)};
    peer_send(&p, head);
    peer_send(&p, "\r\n");
    return p;
}

static inline struct peer peer_get(const char *address, const char *target, const char *headers)
{
    struct buf head = {0};
    buf_printf(&head, "GET %s HTTP/1.1\r\nHost: x\r\n%s", target, headers);
    struct peer p = peer_raw(address, buf_cstr(&head));
    buf_fini(&head);
    return p;
}

static inline void peer_close(struct peer *p)
{
    close(p->fd);
    buf_fini(&p->got);
}

/* Reads once, waiting at most so long; 0 at the end, -1 when nothing came. */
static inline ssize_t peer_read(struct peer *p, int wait_ms)
{
    struct pollfd until = {.fd = p->fd, .events = POLLIN};
    if (poll(&until, 1, wait_ms) <= 0)
        return -1;
    ssize_t n = recv(p->fd, buf_reserve(&p->got, 65536), 65536, 0);
    if (n > 0)
        p->got.len += (size_t)n;
    return n > 0 ? n : 0;
}

/* Waits until `text` has come and takes everything up to its end; NULL where it does not come. */
static inline char *peer_take(struct peer *p, const char *text, int wait_ms)
{
    int64_t until = clock_mono_ms() + wait_ms;
    for (size_t searched = 0;;) {
        buf_cstr(&p->got);
        const char *at = memmem(p->got.p + searched, p->got.len - searched, text, strlen(text));
        searched = p->got.len > strlen(text) ? p->got.len - strlen(text) : 0;
        if (at != NULL) {
            size_t len = (size_t)(at - p->got.p) + strlen(text);
            char *taken = mem_strndup(p->got.p, len);
            buf_consume(&p->got, len);
            return taken;
        }
        int64_t left = until - clock_mono_ms();
        if (left <= 0 || peer_read(p, (int)left) == 0)
            return NULL;
    }
}

static inline void peer_expect_at(struct peer *p, const char *text, int line)
{
    char *taken = peer_take(p, text, KIT_WAIT_MS);
    if (taken == NULL)
        fail_msg("line %d: expected \"%s\", got \"%s\"", line, text, buf_cstr(&p->got));
    free(taken);
}
#define peer_expect(p, text) peer_expect_at((p), (text), __LINE__)

/* What comes up to `text` must not hold `not_this`. */
static inline void peer_expect_without(struct peer *p, const char *text, const char *not_this)
{
    char *taken = peer_take(p, text, KIT_WAIT_MS);
    if (taken == NULL)
        fail_msg("expected \"%s\", got \"%s\"", text, buf_cstr(&p->got));
    if (strstr(taken, not_this) != NULL)
        fail_msg("did not expect \"%s\" in \"%s\"", not_this, taken);
    free(taken);
}

/* Nothing but comments may come. */
static inline void peer_expect_silence(struct peer *p, int wait_ms)
{
    char *taken = peer_take(p, "data:", wait_ms);
    if (taken != NULL)
        fail_msg("expected silence, got \"%s\"", taken);
}

static inline void peer_expect_end(struct peer *p)
{
    ssize_t n;
    while ((n = peer_read(p, KIT_WAIT_MS)) > 0)
        ;
    assert_int_equal(0, n);
}

/* The whole answer of a request that ends. */
static inline char *kit_ask(const char *address, const char *head)
{
    struct buf text = {0};
    buf_printf(&text, "%sHost: x\r\nConnection: close\r\n", head);
    struct peer p = peer_raw(address, buf_cstr(&text));
    buf_fini(&text);
    peer_expect_end(&p);
    char *answer = mem_strdup(buf_cstr(&p.got));
    peer_close(&p);
    return answer;
}

/* The id in the next frame; the caller frees it. */
static inline char *peer_take_id(struct peer *p)
{
    free(peer_take(p, "id: ", KIT_WAIT_MS));
    char *line = peer_take(p, "\n", KIT_WAIT_MS);
    assert_non_null(line);
    line[strlen(line) - 1] = '\0';
    return line;
}

#endif
