/* mirror.c - the mirror's life: its thread, and the news that wake it. */
#include "connectors/mirror/mirror.h"

#include "bridge/base/log.h"
#include "bridge/base/stop.h"
#include "connectors/http_server.h"
#include "connectors/mirror/clients.h"
#include "connectors/mirror/feed.h"
#include "connectors/mirror/followers.h"
#include "connectors/mirror/routes.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    PLAIN_CONNECTIONS = 256, /* besides the streaming ones: scrapers, probes, those turned away */
    REQUEST_TIMEOUT_S = 30,
};

struct mirror {
    struct routes routes;
    struct mirror_source *sources;
    struct feed feed;
    struct redact *redact;
    struct http_server *server;
    struct stop *stop;
    pthread_t thread;
    bool started;
    atomic_bool listened; /* somebody streams: news matter */
};

/* On the source's thread. */
static void on_news(void *arg)
{
    struct mirror *m = arg;
    if (atomic_load(&m->listened))
        http_server_poke(m->server);
}

static void on_work(void *arg)
{
    struct mirror *m = arg;
    http_server_poke(m->server);
}

static void note_listeners(struct mirror *m)
{
    atomic_store(&m->listened, m->feed.ring != NULL || followers_count(m->routes.followers) > 0);
}

static int on_turn(void *arg)
{
    struct mirror *m = arg;
    int wait_ms = clients_turn(m->routes.clients);
    int also_ms = followers_turn(m->routes.followers);
    note_listeners(m);
    return also_ms < wait_ms ? also_ms : wait_ms;
}

static void on_request(void *arg, const struct http_request *request, struct http_answer *answer)
{
    struct mirror *m = arg;
    routes_answer(&m->routes, request, answer);
    note_listeners(m);
}

static void *run(void *arg)
{
    struct mirror *m = arg;
    http_server_run(m->server, m->stop);
    return NULL;
}

static void take_sources(struct mirror *m, struct bridge *bridge)
{
    size_t n = bridge_sources(bridge);
    m->sources = mem_zalloc((n > 0 ? n : 1) * sizeof *m->sources);
    for (size_t i = 0; i < n; i++) {
        struct bridge_source about;
        bridge_describe_source(bridge, i, &about);
        m->sources[i] = (struct mirror_source){
            .name = bridge_source_name(bridge, i),
            .journal = bridge_journal(bridge, i),
            .journal_id = journal_id(bridge_journal(bridge, i)),
            .is_marathon = about.is_marathon,
        };
    }
}

static int start_server(struct mirror *m, struct err *err)
{
    const struct mirror_settings *s = m->routes.settings;
    struct http_server_options options = {
        .listen = s->listen,
        .tls_certificate = s->tls_certificate,
        .tls_key = s->tls_key,
        .connections_max = (unsigned)s->max_clients + PLAIN_CONNECTIONS,
        .send_buffer = s->client_buffer,
        .request_timeout_s = REQUEST_TIMEOUT_S,
        .stream_timeout_s = (unsigned)((s->client_timeout_ms + 999) / 1000),
        .handle = on_request,
        .turn = on_turn,
        .arg = m,
    };
    return http_server_open(&m->server, &options, err);
}

/* Fewer where the process may not open so many files. */
static size_t clients_max(const struct mirror *m)
{
    size_t wanted = (size_t)m->routes.settings->max_clients;
    size_t allowed = http_server_connections_max(m->server);
    if (wanted + PLAIN_CONNECTIONS <= allowed)
        return wanted;
    size_t half = allowed / 2;
    size_t max = half > PLAIN_CONNECTIONS ? allowed - PLAIN_CONNECTIONS : half;
    log_warn("too_few_files", LOG_STR("limit", "RLIMIT_NOFILE"), LOG_INT("max_clients", wanted),
             LOG_INT("possible", max));
    return max;
}

static void make_clients(struct mirror *m)
{
    const struct mirror_settings *s = m->routes.settings;
    size_t max = clients_max(m);
    struct clients_options streams = {
        .feed = &m->feed,
        .metrics = m->routes.metrics,
        .max = max,
        .heartbeat_ms = s->heartbeat_ms,
        .lag_ms = s->client_lag_ms,
        .work = on_work,
        .work_arg = m,
    };
    m->routes.clients = clients_new(&streams);
    struct followers_options options = {
        .feed = &m->feed,
        .clients = m->routes.clients,
        .metrics = m->routes.metrics,
        .max = max,
        .lag_ms = s->client_lag_ms,
        .work = on_work,
        .work_arg = m,
    };
    m->routes.followers = followers_new(&options);
    m->routes.marathon_streams = marathon_streams_new(&m->feed, m->routes.followers);
}

static int open_subscribers(struct mirror *m, struct err *err)
{
    const struct mirror_settings *s = m->routes.settings;
    m->routes.subscribers_max = mirror_subscribers_max(s);
    struct subscribers_options options = {
        .bridge = m->routes.bridge,
        .sources = m->sources,
        .n_sources = m->feed.n_sources,
        .redact = m->redact,
        .max = m->routes.subscribers_max,
        .give_up_ms = s->callback_give_up_ms,
    };
    return subscribers_open(&m->routes.subscribers, &options, err);
}

int mirror_open(struct mirror **out, const struct mirror_settings *settings,
                const char *bridge_name, struct bridge *bridge, struct err *err)
{
    struct mirror *m = mem_zalloc(sizeof *m);
    *out = m;
    m->routes = (struct routes){
        .settings = settings,
        .bridge_name = bridge_name,
        .bridge = bridge,
        .feed = &m->feed,
        .metrics = metrics_new(bridge_metrics(bridge), METRICS_MIRROR, NULL, NULL),
    };
    take_sources(m, bridge);
    feed_init(&m->feed, bridge, m->sources, bridge_sources(bridge),
              (size_t)settings->shared_buffer);
    m->stop = stop_new();
    int prepared = redact_new(&m->redact, &settings->redact, err);
    m->feed.redact = m->redact;
    if (prepared != 0 || start_server(m, err) != 0) {
        mirror_close(out);
        return err_wrap(err, "mirror");
    }
    make_clients(m);
    if (open_subscribers(m, err) != 0) {
        mirror_close(out);
        return err_wrap(err, "mirror");
    }
    bridge_on_news(bridge, on_news, m);
    int rc = pthread_create(&m->thread, NULL, run, m);
    if (rc != 0) {
        mirror_close(out);
        return err_set(err, ERR_FATAL, "mirror: thread: %s", strerror(rc));
    }
    m->started = true;
    log_info("listening", LOG_STR("address", http_server_address(m->server)));
    return 0;
}

const char *mirror_address(const struct mirror *mirror)
{
    return http_server_address(mirror->server);
}

void mirror_close(struct mirror **mirror)
{
    struct mirror *m = *mirror;
    if (m == NULL)
        return;
    bridge_on_news(m->routes.bridge, NULL, NULL);
    if (m->started) {
        stop_request(m->stop);
        pthread_join(m->thread, NULL);
    }
    http_server_close(&m->server);
    subscribers_close(&m->routes.subscribers);
    marathon_streams_free(&m->routes.marathon_streams);
    followers_free(&m->routes.followers);
    clients_free(&m->routes.clients);
    feed_fini(&m->feed);
    redact_free(&m->redact);
    stop_free(&m->stop);
    free(m->sources);
    free(m);
    *mirror = NULL;
}
