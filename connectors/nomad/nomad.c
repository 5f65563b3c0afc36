/* nomad.c - a Nomad region as a source: its settings, and the thread that keeps a stream open.
 *
 * The thread goes through the list of servers in turn. A stream that brought something new is
 * followed at once by the next try, because Nomad's buffer may hold no more than some seconds;
 * fruitless tries wait, twice as long after each round through the list. */
#include "connectors/nomad/nomad.h"

#include "bridge/base/clock.h"
#include "bridge/route.h"
#include "connectors/nomad/nomad_stream.h"

#include <stdlib.h>
#include <string.h>

enum { BACKOFF_LEAST_MS = 250, BACKOFF_MOST_MS = 30000 };

/* ---- settings ---- */

static const char *check_topic(const char *value)
{
    if (value[0] == '\0' || value[0] == ':')
        return "Topic or Topic:key, as Nomad's own topic= parameter";
    return NULL;
}

static const char *check_filled(const char *value)
{
    return value[0] != '\0' ? NULL : "a name, or \"*\" for all";
}

/* It becomes an HTTP header. */
static const char *check_token(const char *value)
{
    for (; *value != '\0'; value++)
        if ((unsigned char)*value <= ' ' || *value == 0x7f)
            return "a token without blanks, line breaks or control characters";
    return NULL;
}

static const char *const filter_at_names[] = {"bridge", "server", NULL};
static const char *const start_names[] = {"snapshot", "oldest", "now", NULL};

#define AT(field) offsetof(struct nomad_settings, field)
static const struct setting rows[] = {
    {.name = "servers",
     .type = SETTING_LIST,
     .offset = AT(servers),
     .required = true,
     .check = check_http_url,
     .help = "Addresses of agents of one region, servers or clients; tried in turn"},
    {.name = "token",
     .type = SETTING_SECRET,
     .offset = AT(token),
     .check = check_token,
     .help = "ACL token; reading all topics needs a management token"},
    {.name = "namespace",
     .type = SETTING_STRING,
     .offset = AT(ns),
     .fallback = "*",
     .check = check_filled,
     .help = "Only this namespace's events (and those that have none)"},
    {.name = "region",
     .type = SETTING_STRING,
     .offset = AT(region),
     .help = "Region to ask for; else the server's own"},
    {.name = "topics",
     .type = SETTING_LIST,
     .offset = AT(topics),
     .fallback = "*",
     .check = check_topic,
     .help = "Topic or Topic:key; key is an event's Key or one of its FilterKeys"},
    {.name = "filter_at",
     .type = SETTING_CHOICE,
     .offset = AT(filter_at),
     .fallback = "bridge",
     .choices = filter_at_names,
     .help = "server: ask for no more than topics and namespace (small tokens); then a gap can "
             "hardly ever be ruled out after a reconnect"},
    {.name = "start",
     .type = SETTING_CHOICE,
     .offset = AT(start),
     .fallback = "snapshot",
     .choices = start_names,
     .help = "Where to begin where no journal and no checkpoint say better"},
    {.name = "silence",
     .type = SETTING_DURATION,
     .offset = AT(silence_ms),
     .fallback = "95s",
     .min = 1000,
     .max = 3600000,
     .help = "A stream without a byte for so long is lost; Nomad's heartbeat comes every 30 s"},
    {.name = "connect_timeout",
     .type = SETTING_DURATION,
     .offset = AT(connect_timeout_ms),
     .fallback = "5s",
     .min = 100,
     .max = 120000,
     .help = "For connecting; as long again for the first line"},
    {.name = NULL},
};

/* What Nomad itself can't do when it filters (1.5.0: command/agent/event_endpoint.go, parseTopic;
 * nomad/stream/subscription.go, filter). */
static void check_server_topics(struct settings *file, const struct settings_node *at,
                                const struct setting_list *topics)
{
    for (size_t i = 0; i < topics->n; i++) {
        const char *topic = topics->items[i], *colon = strchr(topic, ':');
        if (colon != NULL && strchr(colon + 1, ':') != NULL)
            settings_problem(file, at,
                             "%s: Nomad can't filter a key with a colon: expected "
                             "filter_at: bridge, or another topic",
                             topic);
        for (size_t k = 0; colon == NULL && k < topics->n; k++)
            if (strncmp(topics->items[k], topic, strlen(topic)) == 0 &&
                topics->items[k][strlen(topic)] == ':')
                settings_problem(file, at,
                                 "%s besides %s: Nomad finds neither then: expected one "
                                 "of them",
                                 topics->items[k], topic);
    }
}

static void check(struct settings *file, const struct settings_node *node, const void *settings)
{
    const struct nomad_settings *set = settings;
    if (set->filter_at == NOMAD_FILTER_AT_SERVER)
        check_server_topics(file, settings_get(node, "topics"), &set->topics);
}

static struct filter *filter(const void *settings)
{
    const struct nomad_settings *set = settings;
    if (set->filter_at == NOMAD_FILTER_AT_SERVER)
        return NULL;
    struct filter *f = filter_new();
    for (size_t i = 0; i < set->topics.n; i++)
        filter_add_topic(f, str_from(set->topics.items[i]));
    filter_add_namespace(f, str_from(set->ns));
    filter_add_namespace(f, STR("")); /* as Nomad: what belongs to none passes */
    if (filter_is_empty(f))
        filter_free(&f);
    return f;
}

static enum source_start start(const void *settings)
{
    return (enum source_start)((const struct nomad_settings *)settings)->start;
}

/* ---- the thread ---- */

struct nomad {
    const struct nomad_settings *settings;
    struct ingest *ingest;
};

static void *create(const void *settings, struct ingest *ingest)
{
    struct nomad *self = mem_zalloc(sizeof *self);
    self->settings = settings;
    self->ingest = ingest;
    return self;
}

static void destroy(void *self)
{
    free(self);
}

/* Attempts count per round through the list: each server is asked before waits grow. */
static int wait_ms(unsigned fruitless, size_t n_servers)
{
    if (fruitless == 0)
        return 0;
    unsigned round = 1 + (unsigned)((fruitless - 1) / n_servers);
    return clock_backoff_ms(round, BACKOFF_LEAST_MS, BACKOFF_MOST_MS);
}

static int run(void *arg, struct err *err)
{
    struct nomad *self = arg;
    const struct setting_list *servers = &self->settings->servers;
    struct stop *stop = ingest_stop(self->ingest);
    struct nomad_memory memory = {0};
    unsigned fruitless = 0;
    for (size_t i = 0; !stop_requested(stop); i = (i + 1) % servers->n) {
        struct nomad_outcome outcome;
        nomad_stream_run(self->settings, self->ingest, servers->items[i], &memory, &outcome);
        if (outcome.end == NOMAD_STOPPED || stop_requested(stop))
            break;
        if (outcome.end == NOMAD_FAILED) {
            *err = outcome.err;
            return -1;
        }
        fruitless = outcome.fruitful ? 0 : fruitless + 1;
        stop_wait(stop, wait_ms(fruitless, servers->n));
    }
    return 0;
}

const struct source_ops nomad_source = {
    .type = "nomad",
    .rows = rows,
    .settings_size = sizeof(struct nomad_settings),
    .check = check,
    .filter = filter,
    .start = start,
    .create = create,
    .run = run,
    .destroy = destroy,
};
