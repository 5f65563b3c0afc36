/* marathon_leader.c - where a redirect to the leader leads, and whom credentials are shown to. */
#include "connectors/marathon/marathon_leader.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { HOST_MAX = 256 };

static const char events_path[] = "/v2/events";

struct address {
    bool tls;
    char host[HOST_MAX]; /* in small letters; IPv6 with its brackets */
    int port;
    struct str path; /* from its "/" on, without query and fragment; views */
};

static bool is_unix(const char *server)
{
    return strncmp(server, "unix:", 5) == 0;
}

static bool is_host(struct str host)
{
    bool v6 = host.len > 2 && host.p[0] == '[' && host.p[host.len - 1] == ']';
    if (v6)
        host = (struct str){host.p + 1, host.len - 2};
    for (size_t i = 0; i < host.len; i++)
        if (!isalnum((unsigned char)host.p[i]) && strchr(v6 ? ":." : ".-_", host.p[i]) == NULL)
            return false;
    return host.len > 0;
}

static bool read_host(struct address *out, struct str host)
{
    if (host.len >= sizeof out->host || !is_host(host))
        return false;
    for (size_t i = 0; i < host.len; i++)
        out->host[i] = (char)tolower((unsigned char)host.p[i]);
    out->host[host.len] = '\0';
    return true;
}

static bool read_port(struct address *out, struct str digits)
{
    out->port = 0;
    for (size_t i = 0; i < digits.len; i++) {
        if (!isdigit((unsigned char)digits.p[i]) || out->port > 65535)
            return false;
        out->port = out->port * 10 + (digits.p[i] - '0');
    }
    return out->port >= 1 && out->port <= 65535;
}

/* What stands behind the scheme. Names and passwords in it are left out: those of the configuration
 * count. */
static bool read_authority(struct address *out, struct str authority)
{
    const char *at = memrchr(authority.p, '@', authority.len);
    if (at != NULL) {
        authority.len -= (size_t)(at + 1 - authority.p);
        authority.p = at + 1;
    }
    const char *colon = memrchr(authority.p, ':', authority.len);
    if (colon != NULL && memchr(colon, ']', authority.len - (size_t)(colon - authority.p)) != NULL)
        colon = NULL; /* within an IPv6 address */
    out->port = out->tls ? 443 : 80;
    if (colon == NULL)
        return read_host(out, authority);
    struct str digits = {colon + 1, authority.len - (size_t)(colon + 1 - authority.p)};
    return read_host(out, (struct str){authority.p, (size_t)(colon - authority.p)}) &&
           (digits.len == 0 || read_port(out, digits));
}

static struct str path_of(const char *text)
{
    return (struct str){text, strcspn(text, "?#")};
}

static bool read_address(struct address *out, const char *url)
{
    *out = (struct address){.tls = strncasecmp(url, "https://", 8) == 0};
    if (!out->tls && strncasecmp(url, "http://", 7) != 0)
        return false;
    const char *authority = url + (out->tls ? 8 : 7);
    size_t len = strcspn(authority, "/?#");
    out->path = path_of(authority + len);
    return read_authority(out, (struct str){authority, len});
}

static bool write_address(const struct address *a, struct str prefix, char out[MARATHON_SERVER_MAX])
{
    while (prefix.len > 0 && prefix.p[prefix.len - 1] == '/')
        prefix.len--;
    int n = snprintf(out, MARATHON_SERVER_MAX, "http%s://%s:%d%.*s", a->tls ? "s" : "", a->host,
                     a->port, STR_ARG(prefix));
    return n > 0 && n < MARATHON_SERVER_MAX;
}

bool marathon_leader_normal(const char *server, char out[MARATHON_SERVER_MAX])
{
    struct address a;
    if (is_unix(server))
        return snprintf(out, MARATHON_SERVER_MAX, "%s", server) < MARATHON_SERVER_MAX;
    return read_address(&a, server) && write_address(&a, a.path, out);
}

/* ---- redirects ---- */

/* What stands before /v2/events, where a path ends so. */
static bool cut_events_path(struct str path, struct str *prefix)
{
    size_t len = sizeof events_path - 1;
    while (path.len > 0 && path.p[path.len - 1] == '/')
        path.len--;
    if (path.len < len || memcmp(path.p + path.len - len, events_path, len) != 0)
        return false;
    *prefix = (struct str){path.p, path.len - len};
    for (size_t i = 0; i < prefix->len; i++)
        if ((unsigned char)prefix->p[i] <= ' ' || (unsigned char)prefix->p[i] >= 0x7f)
            return false;
    return true;
}

/* RFC 3986, section 4.2: whole, with the scheme left out, or a path alone. */
static bool resolve(const char *from, const char *location, struct address *to)
{
    bool no_scheme = strncmp(location, "//", 2) == 0;
    if (location[0] != '/')
        return read_address(to, location);
    if (is_unix(from) || !read_address(to, from))
        return false;
    if (no_scheme) {
        size_t len = strcspn(location + 2, "/?#");
        to->path = path_of(location + 2 + len);
        return read_authority(to, (struct str){location + 2, len});
    }
    to->path = path_of(location);
    return true;
}

int marathon_leader_follow(const char *from, const char *location, char out[MARATHON_SERVER_MAX],
                           struct err *err)
{
    struct address to;
    struct str prefix;
    if (resolve(from, location, &to) && cut_events_path(to.path, &prefix) &&
        write_address(&to, prefix, out))
        return 0;
    struct buf label = {0};
    http_url_label(&label, location);
    err_set(err, ERR_RETRY,
            "redirected to %.200s, which is not a Marathon's /v2/events: a login page, or a proxy "
            "in between? Check `servers`, `username`, `token`",
            label.len > 0 ? buf_cstr(&label) : "nowhere");
    buf_fini(&label);
    return -1;
}

bool marathon_leader_is_configured(const struct marathon_settings *settings, const char *server)
{
    struct address asked, known;
    bool fine = !is_unix(server) && read_address(&asked, server);
    for (size_t i = 0; i < settings->servers.n; i++) {
        const char *item = settings->servers.items[i];
        if (is_unix(server) ? strcmp(item, server) == 0
                            : fine && !is_unix(item) && read_address(&known, item) &&
                                  strcmp(known.host, asked.host) == 0 && known.port == asked.port &&
                                  (asked.tls || !known.tls))
            return true;
    }
    return false;
}
