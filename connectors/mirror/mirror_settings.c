/* mirror_settings.c - the mirror's part of the configuration. */
#include "bridge/redact.h"
#include "connectors/http_server_socket.h"
#include "connectors/http_server_tls.h"
#include "connectors/mirror/mirror.h"
#include "connectors/pem_file.h"

#include <arpa/inet.h>
#include <string.h>

static const char *check_origin(const char *value)
{
    if (strcmp(value, "*") == 0)
        return NULL;
    bool scheme = strncmp(value, "http://", 7) == 0 || strncmp(value, "https://", 8) == 0;
    const char *host = scheme ? strstr(value, "://") + 3 : "";
    return *host != '\0' && strpbrk(host, "/ \r\n") == NULL
               ? NULL
               : "expected * or an origin such as https://board.example.org";
}

static const char *check_token(const char *value)
{
    for (const char *p = value; *p != '\0'; p++)
        if (*p < 0x21 || *p > 0x7e)
            return "expected printable characters without spaces";
    return *value != '\0' ? NULL : "expected a token that is not empty";
}

enum { SUBSCRIBERS_DEFAULT = 32 };

#define FIELD(name) offsetof(struct mirror_settings, name)
const struct setting mirror_rows[] = {
    {.name = "listen",
     .type = SETTING_STRING,
     .offset = FIELD(listen),
     .fallback = "127.0.0.1:8484",
     .check = check_host_port,
     .help = "HOST:PORT to listen on; port 0 takes any free one and logs it"},
    {.name = "token",
     .type = SETTING_SECRET,
     .offset = FIELD(token),
     .check = check_token,
     .help = "what clients must send as `Authorization: Bearer`, Nomad's as `X-Nomad-Token`, "
             "Marathon's as `Authorization: token=` or as a password; /healthz is open"},
    {.name = "tls_certificate",
     .type = SETTING_STRING,
     .offset = FIELD(tls_certificate),
     .help = "PEM file of the certificate, with its chain: the mirror speaks HTTPS then, and only "
             "that; read again when it changes"},
    {.name = "tls_key",
     .type = SETTING_STRING,
     .offset = FIELD(tls_key),
     .help = "PEM file of its key"},
    {.name = "allow_anonymous",
     .type = SETTING_BOOL,
     .offset = FIELD(allow_anonymous),
     .fallback = "false",
     .help = "lets a mirror without token listen on other addresses than loopback"},
    {.name = "max_clients",
     .type = SETTING_INT,
     .offset = FIELD(max_clients),
     .fallback = "10000",
     .min = 1,
     .max = 1000000,
     .help = "streaming clients at once; more are told to come back later"},
    {.name = "client_buffer",
     .type = SETTING_SIZE,
     .offset = FIELD(client_buffer),
     .fallback = "64KiB",
     .min = 4096,
     .max = 16 << 20,
     .help = "what the kernel holds for a client that does not read (it doubles it)"},
    {.name = "shared_buffer",
     .type = SETTING_SIZE,
     .offset = FIELD(shared_buffer),
     .fallback = "8MiB",
     .min = 1 << 20,
     .max = 1 << 30,
     .help = "newest events kept ready for all clients; those further behind read the journal"},
    {.name = "heartbeat",
     .type = SETTING_DURATION,
     .offset = FIELD(heartbeat_ms),
     .fallback = "15s",
     .min = 100,
     .max = 3600000,
     .help = "a comment is sent to a client that got nothing for so long"},
    {.name = "client_timeout",
     .type = SETTING_DURATION,
     .offset = FIELD(client_timeout_ms),
     .fallback = "60s",
     .min = 1000,
     .max = 86400000,
     .help = "a client that takes nothing of what is there for so long is cut"},
    {.name = "client_lag",
     .type = SETTING_DURATION,
     .offset = FIELD(client_lag_ms),
     .fallback = "10m",
     .min = 0,
     .max = INT64_C(366) * 86400000,
     .help = "a client that falls so much further behind than it began is cut; 0s: never"},
    {.name = "allow_origin",
     .type = SETTING_LIST,
     .offset = FIELD(allow_origin),
     .check = check_origin,
     .help = "origins whose pages may read this mirror (CORS), or *"},
    {.name = "redact",
     .type = SETTING_LIST,
     .offset = FIELD(redact),
     .check = redact_check_path,
     .help = "JSON paths, as $.Payload.Job.Meta or $..Env.*, whose values clients get as "
             "\"[redacted]\"; left out: none"},
    {.name = "max_subscribers",
     .type = SETTING_INT,
     .offset = FIELD(max_subscribers),
     .fallback = "-1",
     .min = -1,
     .max = 1000,
     .help = "callbacks of Marathons (/v2/eventSubscriptions), each a thread; 0: none; -1: 32, but "
             "none where anybody may ask (allow_anonymous)"},
    {.name = "callback_give_up",
     .type = SETTING_DURATION,
     .offset = FIELD(callback_give_up_ms),
     .fallback = "24h",
     .min = 0,
     .max = INT64_C(366) * 86400000,
     .help = "a callback that took nothing of what there was for so long is removed; 0s: never"},
    {0},
};

static bool is_loopback(const char *listen)
{
    char host[256];
    const char *port;
    if (!http_server_split(listen, host, sizeof host, &port))
        return false;
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcmp(host, "localhost") == 0;
}

size_t mirror_subscribers_max(const struct mirror_settings *settings)
{
    bool anybody = settings->token == NULL && !is_loopback(settings->listen);
    if (settings->max_subscribers >= 0)
        return (size_t)settings->max_subscribers;
    return anybody ? 0 : SUBSCRIBERS_DEFAULT;
}

/* Whether the file of that setting can be used, as far as it alone can tell. */
static bool check_pem(struct settings *file, const struct settings_node *at, const char *what,
                      const char *path)
{
    struct buf bytes = {0};
    struct err err;
    bool good = pem_file_read(what, path, &bytes, &err) == 0;
    buf_wipe(&bytes);
    if (!good)
        settings_problem(file, at, "%s", err.msg);
    return good;
}

/* What the server would say when it starts. */
static void check_tls(struct settings *file, const struct settings_node *node,
                      const struct mirror_settings *settings)
{
    const char *certificate = settings->tls_certificate, *key = settings->tls_key;
    if ((certificate == NULL) != (key == NULL))
        settings_problem(file, node, "%s alone: expected tls_certificate and tls_key",
                         key == NULL ? "tls_certificate" : "tls_key");
    if (certificate == NULL || key == NULL)
        return;
    const struct settings_node *at = settings_get(node, "tls_key");
    bool good = check_pem(file, settings_get(node, "tls_certificate"), "certificate", certificate);
    good = check_pem(file, at, "key", key) && good;
    struct http_tls *tls = NULL;
    struct err err;
    if (good && http_tls_open(&tls, certificate, key, &err) != 0)
        settings_problem(file, at, "%s", err.msg);
    http_tls_close(&tls);
}

void mirror_check(struct settings *file, const struct settings_node *node,
                  const struct mirror_settings *settings)
{
    struct redact *redact = NULL;
    struct err err = {ERR_INPUT, ""};
    if (redact_new(&redact, &settings->redact, &err) != 0)
        settings_problem(file, settings_get(node, "redact"), "%s", err.msg);
    redact_free(&redact);
    check_tls(file, node, settings);
    if (settings->listen == NULL || settings->token != NULL || settings->allow_anonymous ||
        is_loopback(settings->listen))
        return;
    const struct settings_node *at = settings_get(node, "listen");
    settings_problem(file, at != NULL ? at : node,
                     "listen %s without a token: expected a loopback address, a token, or "
                     "allow_anonymous: true",
                     settings->listen);
}
