/* redis_url.c - where a Redis is, as `url:` tells it. */
#include "connectors/redis/redis_url.h"

#include "bridge/base/buf.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* NULL where an escape is incomplete or stands for NUL. */
static char *percent_decode(const char *p, size_t len)
{
    char *out = mem_alloc(len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = p[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_digit(p[i + 1]) : -1;
            int low = i + 2 < len ? hex_digit(p[i + 2]) : -1;
            if (high < 0 || low < 0 || (high | low) == 0) {
                free(out);
                return NULL;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return out;
}

/* Digits only, `min`..`max`; -1 where it is anything else. */
static int small_number(const char *p, size_t len, int min, int max)
{
    int value = 0;
    if (len == 0 || len > 6)
        return -1;
    for (size_t i = 0; i < len; i++) {
        if (p[i] < '0' || p[i] > '9')
            return -1;
        value = value * 10 + (p[i] - '0');
    }
    return value < min || value > max ? -1 : value;
}

/* "[USER][:PASSWORD]" before the last '@' of the authority. */
static int parse_login(struct redis_url *out, const char *p, size_t len, struct err *err)
{
    const char *colon = memchr(p, ':', len);
    size_t user_len = colon == NULL ? len : (size_t)(colon - p);
    out->user = user_len == 0 ? NULL : percent_decode(p, user_len);
    if (user_len > 0 && out->user == NULL)
        return err_set(err, ERR_INPUT, "a bad %%-escape in the user: %%XX with two hex digits");
    if (colon == NULL)
        return 0;
    out->password = percent_decode(colon + 1, len - user_len - 1);
    if (out->password == NULL)
        return err_set(err, ERR_INPUT,
                       "a bad %%-escape in the password: a literal %% is written %%25");
    return 0;
}

static int parse_db(struct redis_url *out, const char *p, size_t len, struct err *err)
{
    out->db = small_number(p, len, 0, REDIS_DB_MAX);
    if (out->db < 0)
        return err_set(err, ERR_INPUT, "database `%.*s`: a number of 0 to %d, often 0", (int)len, p,
                       REDIS_DB_MAX);
    return 0;
}

/* "HOST", "HOST:PORT", "[::1]:PORT". */
static int parse_host(struct redis_url *out, const char *p, size_t len, struct err *err)
{
    const char *host = p, *end = p + len, *after;
    size_t host_len;
    if (len > 0 && *p == '[') {
        const char *close = memchr(p, ']', len);
        if (close == NULL)
            return err_set(err, ERR_INPUT, "`%.*s`: a `]` after the IPv6 address", (int)len, p);
        host = p + 1;
        host_len = (size_t)(close - host);
        after = close + 1;
    } else {
        const char *colon = memchr(p, ':', len);
        after = colon == NULL ? end : colon;
        host_len = (size_t)(after - p);
    }
    if (host_len == 0)
        return err_set(err, ERR_INPUT, "no host: redis://HOST:PORT");
    out->host = mem_strndup(host, host_len);
    out->port = REDIS_PORT;
    if (after == end)
        return 0;
    out->port = *after == ':' ? small_number(after + 1, (size_t)(end - after) - 1, 1, 65535) : -1;
    if (out->port < 0)
        return err_set(err, ERR_INPUT, "port `%.*s`: a number of 1 to 65535",
                       (int)(end - after) - (*after == ':'), after + (*after == ':'));
    return 0;
}

static int parse_unix(struct redis_url *out, const char *rest, struct err *err)
{
    size_t len = strcspn(rest, "?");
    if (*rest != '/' || len < 2)
        return err_set(err, ERR_INPUT, "no path of a socket: unix:///PATH");
    out->path = percent_decode(rest, len);
    if (out->path == NULL)
        return err_set(err, ERR_INPUT, "a bad %%-escape in the path: %%XX with two hex digits");
    if (rest[len] == '\0')
        return 0;
    const char *query = rest + len + 1;
    if (strncmp(query, "db=", 3) != 0)
        return err_set(err, ERR_INPUT, "`?%s`: only ?db=NUMBER", query);
    return parse_db(out, query + 3, strlen(query + 3), err);
}

static int parse_tcp(struct redis_url *out, const char *rest, struct err *err)
{
    size_t len = strcspn(rest, "/?#");
    if (parse_host(out, rest, len, err) != 0)
        return -1;
    const char *tail = rest + len;
    if (*tail == '\0' || strcmp(tail, "/") == 0)
        return 0;
    if (*tail != '/')
        return err_set(err, ERR_INPUT, "`%s`: nothing but a database after the host", tail);
    return parse_db(out, tail + 1, strlen(tail + 1), err);
}

static bool skip_scheme(const char **text, const char *scheme)
{
    size_t len = strlen(scheme);
    bool is = strncmp(*text, scheme, len) == 0;
    *text += is ? len : 0;
    return is;
}

int redis_url_parse(struct redis_url *out, const char *text, struct err *err)
{
    *out = (struct redis_url){0};
    const char *rest = text;
    if (skip_scheme(&rest, "rediss://"))
        return err_set(err, ERR_INPUT,
                       "rediss:// (TLS): this build's hiredis speaks no TLS: run a local TLS "
                       "tunnel, such as stunnel, and give its redis://127.0.0.1:PORT");
    bool is_unix = skip_scheme(&rest, "unix://") || skip_scheme(&rest, "redis+unix://");
    if (!is_unix && !skip_scheme(&rest, "redis://"))
        return err_set(err, ERR_INPUT,
                       "no known scheme: redis://HOST:PORT/DB or unix:///PATH?db=DB");
    /* The last '@' of the authority ends the login: passwords often hold one. Of a unix URL the
     * path may hold '@' too, so there the login ends at the first slash. */
    size_t authority = strcspn(rest, "/");
    for (size_t at = authority; at > 0; at--) {
        if (rest[at - 1] != '@')
            continue;
        if (parse_login(out, rest, at - 1, err) != 0)
            return -1;
        rest += at;
        break;
    }
    return is_unix ? parse_unix(out, rest, err) : parse_tcp(out, rest, err);
}

void redis_url_fini(struct redis_url *url)
{
    free(url->user);
    free(url->password);
    free(url->host);
    free(url->path);
    *url = (struct redis_url){0};
}
