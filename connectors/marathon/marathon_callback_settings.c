/* marathon_callback_settings.c - the configuration of `type: marathon_callback`. */
#include "connectors/marathon/marathon_callback.h"

#include "connectors/http_server_socket.h"
#include "connectors/marathon/marathon_callback_url.h"
#include "connectors/marathon/marathon_settings.h"

#include <arpa/inet.h>
#include <string.h>

#define AT(field) offsetof(struct marathon_settings, field)
const struct setting marathon_callback_rows[] = {
    {.name = "listen",
     .type = SETTING_STRING,
     .offset = AT(listen),
     .fallback = "127.0.0.1:8485",
     .check = check_host_port,
     .help = "HOST:PORT where Marathon's calls are taken"},
    {.name = "callback_url",
     .type = SETTING_STRING,
     .offset = AT(callback_url),
     .required = true,
     .check = callback_url_expected,
     .help = "http(s)://HOST:PORT/PATH by which Marathon reaches `listen`; only posts for this "
             "path and query are taken, so that it should hold a secret. Each instance has its "
             "own"},
    {.name = "check_interval",
     .type = SETTING_DURATION,
     .offset = AT(check_ms),
     .fallback = "10s",
     .min = 100,
     .max = 3600000,
     .help = "How often Marathon's list of subscribers, and who leads, is looked at"},
    {.name = "silence",
     .type = SETTING_DURATION,
     .offset = AT(silence_ms),
     .fallback = "5m",
     .min = 1000,
     .max = 86400000,
     .help = "Without a call for so long Marathon has to prove that it still calls: it is "
             "registered once more, which it tells all subscribers"},
    {.name = NULL, .rest = marathon_server_rows},
};

static bool is_loopback(const char *listen)
{
    char host[256];
    const char *port;
    struct in_addr v4;
    struct in6_addr v6;
    if (!http_server_split(listen, host, sizeof host, &port))
        return false;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcmp(host, "localhost") == 0;
}

void marathon_callback_check(struct settings *file, const struct settings_node *node,
                             const void *settings)
{
    const struct marathon_settings *set = settings;
    marathon_check_server(file, node, settings);
    if (set->listen == NULL || set->callback_url == NULL || is_loopback(set->listen) ||
        callback_url_secret(set->callback_url) >= CALLBACK_SECRET_MIN)
        return;
    settings_problem(file, settings_get(node, "callback_url"),
                     "a path that can be guessed, and listen %s: expected one of %d letters and "
                     "digits at least that nobody knows, because who does can post events, or a "
                     "loopback address in listen",
                     set->listen, CALLBACK_SECRET_MIN);
}
