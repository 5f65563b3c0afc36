/* settings_check.c - checks of values that several parts share. */
#include "config/settings.h"

#include "bridge/base/buf.h"
#include "config/settings_value.h"

#include <arpa/inet.h>
#include <string.h>

enum { HOST_MAX = 255 }; /* RFC 1035, section 2.3.4 */

static const char name_characters[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
static const char host_characters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

const char *check_name(const char *value)
{
    if (value[0] == '\0' || value[strspn(value, name_characters)] != '\0')
        return "a name of lower-case letters, digits, \"_\" and \"-\" ([a-z0-9_-]+)";
    return NULL;
}

/* "[::1]"; a zone ("%eth0") may follow the address. */
static bool is_ipv6(struct str host)
{
    char address[HOST_MAX + 1];
    if (host.len < 2 || host.len > HOST_MAX || host.p[host.len - 1] != ']')
        return false;
    memcpy(address, host.p + 1, host.len - 2);
    address[host.len - 2] = '\0';
    char *zone = strchr(address, '%');
    if (zone != NULL) {
        if (zone[1] == '\0' || zone[1 + strspn(zone + 1, host_characters)] != '\0')
            return false;
        *zone = '\0';
    }
    struct in6_addr parsed;
    return inet_pton(AF_INET6, address, &parsed) == 1;
}

static bool is_host(struct str host)
{
    if (host.len == 0 || host.len > HOST_MAX)
        return false;
    if (host.p[0] == '[')
        return is_ipv6(host);
    for (size_t i = 0; i < host.len; i++) {
        if (memchr(host_characters, host.p[i], sizeof host_characters - 1) == NULL)
            return false;
    }
    return true;
}

static bool is_port(struct str port, int64_t least)
{
    int64_t number = 0;
    for (size_t i = 0; i < port.len; i++) {
        if (port.p[i] < '0' || port.p[i] > '9')
            return false;
        number = number * 10 + (port.p[i] - '0');
        if (number > 65535)
            return false;
    }
    return port.len > 0 && number >= least;
}

/* Divides HOST:PORT; false where there is no port. */
static bool split_port(struct str text, struct str *host, struct str *port)
{
    size_t i = text.len;
    while (i > 0 && text.p[i - 1] >= '0' && text.p[i - 1] <= '9')
        i--;
    bool has_port = i > 0 && text.p[i - 1] == ':';
    *host = has_port ? (struct str){text.p, i - 1} : text;
    *port = has_port ? (struct str){text.p + i, text.len - i} : STR("");
    return has_port;
}

const char *check_http_url(const char *value)
{
    static const char expected[] = "http://HOST:PORT or https://HOST:PORT (the port, 1..65535, may "
                                   "be left out), without user or path";
    size_t scheme = strncmp(value, "http://", 7) == 0 ? 7 : 8;
    if (scheme == 8 && strncmp(value, "https://", 8) != 0)
        return expected;
    struct str rest = str_from(value + scheme), host, port;
    if (rest.len > 0 && rest.p[rest.len - 1] == '/')
        rest.len--;
    bool has_port = split_port(rest, &host, &port);
    return is_host(host) && (!has_port || is_port(port, 1)) ? NULL : expected;
}

const char *check_host_port(const char *value)
{
    struct str host, port;
    if (split_port(str_from(value), &host, &port) && is_host(host) && is_port(port, 0))
        return NULL;
    return "HOST:PORT or [IPV6]:PORT, the port 0..65535";
}
