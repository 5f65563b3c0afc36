/* subscriber_url.c - what may be a callback's URL, and what of it people are shown. */
#include "connectors/mirror/subscriber_url.h"

#include <string.h>
#include <strings.h>

/* What stands between the scheme and the path; p NULL where there is neither of our schemes. */
static struct str authority_of(struct str url)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < 2; i++) {
        size_t len = strlen(schemes[i]);
        if (url.len < len || strncasecmp(url.p, schemes[i], len) != 0)
            continue;
        struct str authority = {url.p + len, 0};
        while (len + authority.len < url.len && strchr("/?#", authority.p[authority.len]) == NULL)
            authority.len++;
        return authority;
    }
    return (struct str){0};
}

/* The authority without user and password. */
static struct str host_of(struct str authority)
{
    const char *at = memrchr(authority.p, '@', authority.len);
    if (at == NULL)
        return authority;
    size_t skipped = (size_t)(at + 1 - authority.p);
    return (struct str){at + 1, authority.len - skipped};
}

static const char *check_port(struct str port)
{
    static const char wanted[] = "expected a port of 1 to 65535";
    unsigned value = 0;
    if (port.len == 0 || port.len > 5)
        return wanted;
    for (size_t i = 0; i < port.len; i++) {
        if (port.p[i] < '0' || port.p[i] > '9')
            return wanted;
        value = value * 10 + (unsigned)(port.p[i] - '0');
    }
    return value >= 1 && value <= 65535 ? NULL : wanted;
}

/* HOST, HOST:PORT, [ADDRESS], [ADDRESS]:PORT. */
static const char *check_host(struct str host)
{
    size_t end = 0;
    if (host.len > 0 && host.p[0] == '[') {
        const char *close = memchr(host.p, ']', host.len);
        if (close == NULL || close == host.p + 1)
            return "expected an address in [ ]";
        end = (size_t)(close + 1 - host.p);
    } else {
        while (end < host.len && host.p[end] != ':')
            end++;
    }
    if (end == 0)
        return "expected a host";
    if (end == host.len)
        return NULL;
    if (host.p[end] != ':')
        return "expected nothing but a port behind the host";
    return check_port((struct str){host.p + end + 1, host.len - end - 1});
}

const char *subscriber_url_check(struct str url)
{
    if (url.len == 0)
        return "expected callbackUrl=URL";
    if (url.len > SUBSCRIBER_URL_MAX)
        return "expected at most 2048 characters";
    for (size_t i = 0; i < url.len; i++)
        if (url.p[i] < 0x21 || url.p[i] > 0x7e)
            return "expected printable ASCII, all else percent-encoded";
    struct str authority = authority_of(url);
    if (authority.p == NULL)
        return "expected http://… or https://…";
    return check_host(host_of(authority));
}

void subscriber_url_label(struct buf *out, const char *url)
{
    struct str authority = authority_of(str_from(url));
    if (authority.p == NULL) {
        buf_append_cstr(out, "?");
        return;
    }
    struct str host = host_of(authority);
    const char *path = authority.p + authority.len;
    buf_append(out, url, (size_t)(authority.p - url));
    buf_append_str(out, host);
    buf_append(out, path, strcspn(path, "?#"));
    if (strchr(path, '?') != NULL)
        buf_append_cstr(out, "?…");
}
