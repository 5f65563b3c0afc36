/* http_access.c - the settings by which a guarded server is reached.
 *
 * An empty value counts as none, so that `tls_ca: ${NOMAD_CACERT:-}` and the like fit everywhere.
 * Files are looked at by `check` already: a wrong path is then a line of the configuration, and not
 * a server that seems to refuse. */
#include "connectors/http_access.h"

#include "connectors/http_stream.h"
#include "connectors/pem_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static const char unix_scheme[] = "unix://";

static bool is_set(const char *value)
{
    return value != NULL && value[0] != '\0';
}

static bool is_unix(const char *server)
{
    return strncmp(server, unix_scheme, sizeof unix_scheme - 1) == 0;
}

/* ---- single values ---- */

const char *http_access_expected_server(const char *server)
{
    static const char expected[] =
        "http://HOST:PORT, https://HOST:PORT (the port, 1..65535, may be left out), without user "
        "or path, or unix:///PATH of a socket";
    const char *path = server + sizeof unix_scheme - 1;
    if (is_unix(server))
        return path[0] == '/' && strlen(path) < sizeof(((struct sockaddr_un *)0)->sun_path)
                   ? NULL
                   : expected;
    return check_http_url(server) == NULL ? NULL : expected;
}

static bool holds(struct buf *text, const char *what)
{
    return text->len > 0 && memmem(text->p, text->len, what, strlen(what)) != NULL;
}

/* RFC 7468, section 2; "Proc-Type: 4,ENCRYPTED" is OpenSSL's older way. */
static const char *check_pem(const char *path, const char *label, const char *expected)
{
    struct buf text = {0};
    struct err err;
    if (path[0] == '\0')
        return NULL;
    bool fine = pem_file_read("file", path, &text, &err) == 0 && holds(&text, label);
    bool locked = holds(&text, "ENCRYPTED PRIVATE KEY-----") || holds(&text, "4,ENCRYPTED");
    buf_wipe(&text);
    if (locked)
        return "a key without a passphrase: nobody is there to type one";
    return fine ? NULL : expected;
}

static const char *check_certificates(const char *path)
{
    return check_pem(path, "CERTIFICATE-----",
                     "a PEM file that can be read, with certificates in it");
}

static const char *check_key(const char *path)
{
    return check_pem(path, "PRIVATE KEY-----",
                     "a PEM file that can be read, with a private key in it");
}

static const char *check_server_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    if (name[strspn(name, allowed)] != '\0' || strlen(name) > 253)
        return "a host name, as the servers' certificates have it";
    return NULL;
}

static const char *check_line(const char *value)
{
    for (; *value != '\0'; value++)
        if ((unsigned char)*value < ' ' || *value == 0x7f)
            return "text without line breaks and control characters";
    return NULL;
}

/* RFC 7617, section 2: the first colon ends the name. */
static const char *check_username(const char *value)
{
    return strchr(value, ':') == NULL ? check_line(value) : "a name without a colon";
}

static const char *check_proxy(const char *value)
{
    static const char expected[] = "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT (\"@\", "
                                   "\"/\" and the like percent-encoded), or none";
    if (value[0] == '\0' || strcmp(value, "none") == 0)
        return NULL;
    if (strncmp(value, "http://", 7) != 0 || check_line(value) != NULL)
        return expected;
    const char *at = strrchr(value, '@');
    const char *host = at != NULL ? at + 1 : value + 7;
    size_t user = (size_t)(host - value) - 7;
    if (strcspn(value + 7, "/?# ") < user || check_host_port(host) != NULL)
        return expected;
    const char *port = strrchr(host, ':') + 1;
    return port[strspn(port, "0")] != '\0' ? NULL : expected;
}

/* Of `headers`. */
static const char *check_header_value(const char *value)
{
    return value[0] != '\0' ? check_line(value) : "a value that is not empty";
}

#define AT(field) offsetof(struct http_access_settings, field)
const struct setting http_access_rows[] = {
    {.name = "tls_ca",
     .type = SETTING_STRING,
     .offset = AT(tls_ca),
     .check = check_certificates,
     .help = "PEM file: the CAs that may have signed the servers' certificates; else the system's"},
    {.name = "tls_cert",
     .type = SETTING_STRING,
     .offset = AT(tls_cert),
     .check = check_certificates,
     .help = "PEM file: the client certificate, where servers want one"},
    {.name = "tls_key",
     .type = SETTING_STRING,
     .offset = AT(tls_key),
     .check = check_key,
     .help = "PEM file: its key, without a passphrase"},
    {.name = "tls_server_name",
     .type = SETTING_STRING,
     .offset = AT(tls_server_name),
     .check = check_server_name,
     .help = "Name that the servers' certificates are for, whatever their addresses"},
    {.name = "username",
     .type = SETTING_STRING,
     .offset = AT(username),
     .check = check_username,
     .help = "Basic authentication, by the servers or a reverse proxy before them"},
    {.name = "password",
     .type = SETTING_SECRET,
     .offset = AT(password),
     .check = check_line,
     .help = "Its password"},
    {.name = "proxy",
     .type = SETTING_SECRET, /* may hold a password */
     .offset = AT(proxy),
     .check = check_proxy,
     .help = "http://[USER:PASSWORD@]HOST:PORT of an HTTP proxy; none: not the environment's "
             "either (http_proxy, https_proxy, no_proxy)"},
    {.name = "headers",
     .type = SETTING_MAP,
     .offset = AT(headers),
     .check = check_header_value,
     .help = "Further headers of every request"},
    {.name = NULL},
};

/* ---- together ---- */

static bool has_https(const struct setting_list *servers)
{
    for (size_t i = 0; i < servers->n; i++)
        if (strncmp(servers->items[i], "https://", 8) == 0)
            return true;
    return false;
}

static void check_tls(struct settings *file, const struct settings_node *node,
                      const struct http_access_settings *set, const struct setting_list *servers)
{
    static const char *const names[] = {"tls_ca", "tls_cert", "tls_key", "tls_server_name"};
    const char *const values[] = {set->tls_ca, set->tls_cert, set->tls_key, set->tls_server_name};
    if (is_set(set->tls_cert) && !is_set(set->tls_key))
        settings_problem(file, settings_get(node, "tls_cert"),
                         "tls_cert without tls_key: expected both, or neither");
    if (is_set(set->tls_key) && !is_set(set->tls_cert))
        settings_problem(file, settings_get(node, "tls_key"),
                         "tls_key without tls_cert: expected both, or neither");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_set(values[i]) && !has_https(servers))
            settings_problem(file, settings_get(node, names[i]),
                             "%s, and no https:// in servers: expected https://HOST:PORT there",
                             names[i]);
}

/* RFC 9110, section 5.6.2: token. */
static bool is_header_name(const char *name)
{
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789"
                                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return name[0] != '\0' && name[strspn(name, allowed)] == '\0';
}

/* The rest of the entry of `reserved` that is for this header: what to set instead. */
static const char *instead_of_reserved(const char *const *reserved, const char *name)
{
    size_t len = strlen(name);
    for (; reserved != NULL && *reserved != NULL; reserved++) {
        const char *end = *reserved + strcspn(*reserved, ":");
        if ((size_t)(end - *reserved) == len && strncasecmp(*reserved, name, len) == 0)
            return *end != '\0' ? end + 2 : "none: it is set already";
    }
    return NULL;
}

/* Those with a setting of their own, and those that say how the exchange itself is to be read. */
static const char *instead_of_header(const struct http_access_settings *set,
                                     const char *const *reserved, const char *name)
{
    static const char *const taken[] = {
        "Host: another address in servers",
        "Proxy-Authorization: user and password in proxy",
        "Accept-Encoding: none: nothing here unpacks the answer",
        "Connection: none",
        "Content-Length: none",
        "Transfer-Encoding: none",
        "Upgrade: none",
        "Expect: none",
        "Range: none",
        NULL,
    };
    const char *instead = instead_of_reserved(reserved, name);
    if (instead == NULL)
        instead = instead_of_reserved(taken, name);
    if (instead == NULL && is_set(set->username) && strcasecmp(name, "Authorization") == 0)
        instead = "it, or username and password, not both";
    return instead;
}

static void check_headers(struct settings *file, const struct settings_node *node,
                          const struct http_access_settings *set, const char *const *reserved)
{
    for (size_t i = 0; i < set->headers.n; i++) {
        const char *name = set->headers.pairs[i].key;
        const struct settings_node *at = settings_get(settings_get(node, "headers"), name);
        const char *instead = instead_of_header(set, reserved, name);
        if (!is_header_name(name))
            settings_problem(file, at, "no name for a header: expected letters, digits and \"-\"");
        else if (instead != NULL)
            settings_problem(file, at, "header %s: expected %s", name, instead);
        for (size_t k = 0; k < i; k++)
            if (strcasecmp(set->headers.pairs[k].key, name) == 0)
                settings_problem(file, at, "header %s a second time: expected it once", name);
    }
}

void http_access_check(struct settings *file, const struct settings_node *node,
                       const struct http_access_settings *set, const struct setting_list *servers,
                       const char *const *reserved)
{
    if (is_set(set->password) && !is_set(set->username))
        settings_problem(file, settings_get(node, "password"),
                         "password without username: expected both, or neither");
    check_tls(file, node, set, servers);
    check_headers(file, node, set, reserved);
}

/* ---- what is made of them ---- */

static const char *or_null(const char *value)
{
    return is_set(value) ? value : NULL;
}

struct http_access http_access_of(const struct http_access_settings *set, const char *server,
                                  struct buf *url)
{
    struct http_access access = {
        .ca = or_null(set->tls_ca),
        .cert = or_null(set->tls_cert),
        .key = or_null(set->tls_key),
        .server_name = or_null(set->tls_server_name),
        .user = or_null(set->username),
        .password = or_null(set->password),
        .proxy = or_null(set->proxy),
    };
    if (access.proxy != NULL && strcmp(access.proxy, "none") == 0)
        access.proxy = "";
    if (is_unix(server)) {
        access.unix_socket = server + sizeof unix_scheme - 1;
        buf_append_cstr(url, "http://localhost");
        return access;
    }
    size_t len = strlen(server);
    while (len > 0 && server[len - 1] == '/')
        len--;
    buf_append(url, server, len);
    return access;
}

void http_headers_add(struct http_headers *headers, const char *name, const char *value)
{
    size_t size = strlen(name) + strlen(value) + 3;
    char *header = mem_alloc(size);
    snprintf(header, size, "%s: %s", name, value);
    headers->list = mem_realloc(headers->list, (headers->n + 2) * sizeof *headers->list);
    headers->list[headers->n++] = header;
    headers->list[headers->n] = NULL;
}

void http_headers_fini(struct http_headers *headers)
{
    for (size_t i = 0; i < headers->n; i++) {
        explicit_bzero(headers->list[i], strlen(headers->list[i]));
        free(headers->list[i]);
    }
    free(headers->list);
}
