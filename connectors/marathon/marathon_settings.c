/* marathon_settings.c - a Marathon's part of the configuration. */
#include "connectors/marathon/marathon_settings.h"

#include "bridge/own.h"
#include "connectors/http_token.h"

#include <stdlib.h>
#include <string.h>

static bool is_set(const char *value)
{
    return value != NULL && value[0] != '\0';
}

/* As other sources' servers, or with a path before Marathon's own: where a gateway like DC/OS's
 * has it (https://HOST/service/marathon). */
static const char *check_server(const char *server)
{
    static const char expected[] =
        "http://HOST:PORT or https://HOST:PORT (the port, 1..65535, may be left out), without user "
        "and query, with a path only where a gateway has Marathon there, or unix:///PATH of a "
        "socket";
    static const char forbidden[] = "?#%\\\"<>^`{|}";
    const char *host = strstr(server, "://");
    const char *path = host != NULL ? strchr(host + 3, '/') : NULL;
    if (path == NULL || strncmp(server, "unix:", 5) == 0)
        return http_access_expected_server(server) == NULL ? NULL : expected;
    for (const char *p = path; *p != '\0'; p++)
        if (*p <= ' ' || *p == 0x7f || strchr(forbidden, *p) != NULL)
            return expected;
    char *origin = mem_strdup(server);
    origin[path - server] = '\0';
    bool fine = http_access_expected_server(origin) == NULL;
    free(origin);
    return fine ? NULL : expected;
}

static const char *check_event_type(const char *type)
{
    for (const char *p = type; *p != '\0'; p++)
        if (*p <= ' ' || *p == 0x7f)
            return "an event's type, as status_update_event";
    return type[0] != '\0' ? NULL : "an event's type, as status_update_event";
}

static const char *const plan_format_names[] = {"light", "full", NULL};
static const char *const start_names[] = {"snapshot", "oldest", "now", NULL};

#define AT(field) offsetof(struct marathon_settings, field)
const struct setting marathon_server_rows[] = {
    {.name = "servers",
     .type = SETTING_LIST,
     .offset = AT(servers),
     .required = true,
     .check = check_server,
     .help = "Addresses of one Marathon's masters, tried in turn: http(s)://HOST:PORT, or "
             "unix:///PATH. Credentials are shown to these only"},
    {.name = "token",
     .type = SETTING_SECRET,
     .offset = AT(token),
     .check = http_token_expected,
     .help = "Sent as `Authorization: token=TOKEN`, as DC/OS wants it"},
    {.name = "token_file",
     .type = SETTING_STRING,
     .offset = AT(token_file),
     .check = http_token_expected_file,
     .help = "File with the token, instead of `token`; read anew for each request, so that it may "
             "change"},
    {.name = "start",
     .type = SETTING_CHOICE,
     .offset = AT(start),
     .fallback = "snapshot",
     .choices = start_names,
     .help = "Where to begin where no journal and no checkpoint say better: snapshot or now. "
             "Marathon keeps nothing old"},
    {.name = "connect_timeout",
     .type = SETTING_DURATION,
     .offset = AT(connect_timeout_ms),
     .fallback = "5s",
     .min = 100,
     .max = 120000,
     .help = "For connecting; as long again for the answer to begin"},
    {.name = "snapshot_rate",
     .type = SETTING_INT,
     .offset = AT(snapshot_rate),
     .fallback = "100",
     .min = 1,
     .max = 10000,
     .help = "Requests a second, at most, while the whole state is read (start: snapshot, or "
             "after a gap)"},
    {.name = NULL, .rest = http_access_rows},
};

const struct setting marathon_rows[] = {
    {.name = "event_types",
     .type = SETTING_LIST,
     .offset = AT(event_types),
     .check = check_event_type,
     .help = "Only events of these types; all where it is missing. Asked for as `event_type=`, and "
             "kept out here where Marathon is older than 1.3.7"},
    {.name = "plan_format",
     .type = SETTING_CHOICE,
     .offset = AT(plan_format),
     .fallback = "light",
     .choices = plan_format_names,
     .help =
         "full: with plan.original and plan.target in the events of deployments, where Marathon "
         "can (to 1.6; 1.7 with --deprecated_features=api_heavy_events)"},
    {.name = "silence",
     .type = SETTING_DURATION,
     .offset = AT(silence_ms),
     .fallback = "32s",
     .min = 1000,
     .max = 3600000,
     .help = "A stream without a byte for so long is lost; Marathon's heartbeat comes every 10 s"},
    {.name = NULL, .rest = marathon_server_rows},
};

/* ---- together ---- */

bool marathon_has_token(const struct marathon_settings *set)
{
    return is_set(set->token) || is_set(set->token_file);
}

static void check_token(struct settings *file, const struct settings_node *node,
                        const struct marathon_settings *set)
{
    if (is_set(set->token) && is_set(set->token_file))
        settings_problem(file, settings_get(node, "token_file"),
                         "token and token_file: expected one of them");
    if (marathon_has_token(set) && is_set(set->access.username))
        settings_problem(file, settings_get(node, "username"),
                         "username besides a token: expected one of them, both are sent as the "
                         "header Authorization");
}

void marathon_check_server(struct settings *file, const struct settings_node *node,
                           const void *settings)
{
    static const char *const reserved[] = {
        "Accept: none: Marathon wants exactly text/event-stream",
        "Last-Event-ID: none: Marathon can't send anything again",
        NULL, /* room for one more */
        NULL,
    };
    const struct marathon_settings *set = settings;
    const char *names[sizeof reserved / sizeof *reserved] = {reserved[0], reserved[1]};
    if (marathon_has_token(set))
        names[2] = "Authorization: it, or token and token_file, not both";
    http_access_check(file, node, &set->access, &set->servers, names);
    check_token(file, node, set);
    if (set->start == SOURCE_START_OLDEST)
        settings_problem(file, settings_get(node, "start"),
                         "start: oldest: expected snapshot or now, because Marathon keeps no event "
                         "that it has told");
}

void marathon_check(struct settings *file, const struct settings_node *node, const void *settings)
{
    marathon_check_server(file, node, settings);
}

/* ---- what is made of them ---- */

enum source_start marathon_start(const void *settings)
{
    return (enum source_start)((const struct marathon_settings *)settings)->start;
}

unsigned marathon_snapshot_rate(const void *settings)
{
    return (unsigned)((const struct marathon_settings *)settings)->snapshot_rate;
}

bool marathon_is_marathon(const void *settings)
{
    (void)settings;
    return true;
}

bool marathon_is_filtered(const struct marathon_settings *set)
{
    for (size_t i = 0; i < set->event_types.n; i++)
        if (strcmp(set->event_types.items[i], "*") == 0)
            return false;
    return set->event_types.n > 0;
}

/* What a resync tells is let through: it is the state, whatever types tell its changes. */
struct filter *marathon_filter(const void *settings)
{
    const struct marathon_settings *set = settings;
    if (!marathon_is_filtered(set))
        return NULL;
    struct filter *f = filter_new();
    for (size_t i = 0; i < set->event_types.n; i++)
        filter_add_type(f, str_from(set->event_types.items[i]));
    filter_add_type(f, STR("Snapshot"));
    filter_add_type(f, STR("Vanished"));
    return f;
}
