/* nomad_settings.c - a Nomad region's part of the configuration. */
#include "connectors/nomad/nomad_settings.h"

#include "connectors/nomad/nomad_access.h"
#include "connectors/nomad/nomad_digest.h"

#include <string.h>

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

static const char *const filter_at_names[] = {"bridge", "server", NULL};
static const char *const start_names[] = {"snapshot", "oldest", "now", NULL};

#define AT(field) offsetof(struct nomad_settings, field)
/* What every way to read a region has. */
static const struct setting region_rows[] = {
    {.name = "servers",
     .type = SETTING_LIST,
     .offset = AT(servers),
     .required = true,
     .check = http_access_expected_server,
     .help = "Addresses of agents of one region, servers or clients; tried in turn: "
             "http(s)://HOST:PORT, or unix:///PATH"},
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
    {.name = "start",
     .type = SETTING_CHOICE,
     .offset = AT(start),
     .fallback = "snapshot",
     .choices = start_names,
     .help = "Where to begin where no journal and no checkpoint say better"},
    {.name = "connect_timeout",
     .type = SETTING_DURATION,
     .offset = AT(connect_timeout_ms),
     .fallback = "5s",
     .min = 100,
     .max = 120000,
     .help = "For connecting; as long again for the first line"},
    {.name = "snapshot_rate",
     .type = SETTING_INT,
     .offset = AT(snapshot_rate),
     .fallback = "100",
     .min = 1,
     .max = 10000,
     .help = "Requests a second, at most, while the whole state is read (start: snapshot, or "
             "after a gap)"},
    {.name = "drop_unchanged",
     .type = SETTING_BOOL,
     .offset = AT(drop_unchanged),
     .fallback = "false",
     .help =
         "true: leave out an event that tells nothing new: of the same type as the last one of its "
         "key, and with a payload that differs in ModifyTime and indexes only"},
    {.name = NULL, .rest = nomad_access_rows},
};

const struct setting nomad_rows[] = {
    {.name = "filter_at",
     .type = SETTING_CHOICE,
     .offset = AT(filter_at),
     .fallback = "bridge",
     .choices = filter_at_names,
     .help = "server: ask for no more than topics and namespace (small tokens); then a gap can "
             "hardly ever be ruled out after a reconnect"},
    {.name = "silence",
     .type = SETTING_DURATION,
     .offset = AT(silence_ms),
     .fallback = "95s",
     .min = 1000,
     .max = 3600000,
     .help = "A stream without a byte for so long is lost; Nomad's heartbeat comes every 30 s"},
    {.name = NULL, .rest = region_rows},
};

const struct setting nomad_blocking_rows[] = {
    {.name = "wait",
     .type = SETTING_DURATION,
     .offset = AT(wait_ms),
     .fallback = "5m",
     .min = 1000,
     .max = 600000,
     .help = "How long a question may stay open before Nomad answers that nothing changed; Nomad "
             "adds up to a sixteenth"},
    {.name = NULL, .rest = region_rows},
};

/* No key, or "*" for one: all of the topic. */
static bool is_whole(const char *topic)
{
    const char *colon = strchr(topic, ':');
    return colon == NULL || strcmp(colon, ":*") == 0;
}

/* Asked for both, does Nomad not find all of `whole` any more? Its "*" counts only where it is the
 * one key that is asked for; keys of all topics come to those of each. */
static bool spoils(const char *other, const char *whole)
{
    size_t len = strcspn(whole, ":");
    if (strncmp(other, whole, len) == 0 && (other[len] == '\0' || other[len] == ':'))
        return true;
    return strncmp(other, "*:", 2) == 0 && !is_whole(other) && strncmp(whole, "*", len) != 0;
}

static void check_pair(struct settings *file, const struct settings_node *at, const char *one,
                       const char *other)
{
    bool first = is_whole(one) && spoils(other, one);
    if (first || (is_whole(other) && spoils(one, other)))
        settings_problem(file, at,
                         "%s besides %s: Nomad does not find all of %s then: expected one of them, "
                         "or filter_at: bridge",
                         first ? other : one, first ? one : other, first ? one : other);
}

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
        for (size_t k = i + 1; k < topics->n; k++)
            check_pair(file, at, topic, topics->items[k]);
    }
}

void nomad_check(struct settings *file, const struct settings_node *node, const void *settings)
{
    const struct nomad_settings *set = settings;
    nomad_access_check(file, node, set);
    if (set->filter_at == NOMAD_FILTER_AT_SERVER)
        check_server_topics(file, settings_get(node, "topics"), &set->topics);
}

struct filter *nomad_filter(const void *settings)
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

enum source_start nomad_start(const void *settings)
{
    return (enum source_start)((const struct nomad_settings *)settings)->start;
}

source_digest *nomad_digest_if_wanted(const void *settings)
{
    return ((const struct nomad_settings *)settings)->drop_unchanged ? nomad_digest : NULL;
}
