/* marathon_callback_url.c - the address that Marathon is told to call.
 *
 * What a request is for is compared decoded, because Marathon's client writes an URL anew that it
 * was given (1.4: akka's Uri), and so may a proxy in between. */
#include "connectors/marathon/marathon_callback_url.h"

#include "config/settings.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char *path_of(const char *url)
{
    const char *authority = strstr(url, "://");
    authority = authority != NULL ? authority + 3 : url;
    return authority + strcspn(authority, "/?#");
}

/* RFC 3986, section 3.3 and 3.4: pchar, "/" and "?". */
static bool is_encoded(const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        bool escape = *p == '%' && isxdigit((unsigned char)p[1]) && isxdigit((unsigned char)p[2]);
        if (!escape && !isalnum((unsigned char)*p) && strchr("-._~!$&'()*+,;=:@/?", *p) == NULL)
            return false;
    }
    return strstr(text, "%00") == NULL;
}

const char *callback_url_expected(const char *url)
{
    static const char expected[] =
        "http(s)://HOST:PORT/PATH as Marathon reaches `listen`, without user and fragment, encoded "
        "(RFC 3986), at most 1,024 characters";
    const char *path = path_of(url);
    if (strlen(url) > CALLBACK_URL_MAX || *path != '/' || !is_encoded(path))
        return expected;
    char *origin = mem_strndup(url, (size_t)(path - url));
    bool fine = check_http_url(origin) == NULL && strchr(origin, '@') == NULL;
    free(origin);
    return fine ? NULL : expected;
}

size_t callback_url_origin(const char *url)
{
    return (size_t)(path_of(url) - url);
}

size_t callback_url_secret(const char *url)
{
    size_t n = 0;
    for (const char *p = path_of(url); *p != '\0'; p++)
        n += isalnum((unsigned char)*p) != 0;
    return n;
}

/* ---- decoded ---- */

static char hex_digit(char c)
{
    return (char)(isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
}

static void decode(struct buf *out, struct str text, bool plus_is_blank)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] == '%' && i + 2 < text.len) {
            buf_append_char(out, (char)(hex_digit(text.p[i + 1]) * 16 + hex_digit(text.p[i + 2])));
            i += 2;
        } else {
            bool blank = plus_is_blank && text.p[i] == '+';
            buf_append(out, blank ? " " : text.p + i, 1);
        }
    }
}

void callback_target_add(struct buf *query, struct str name, struct str value)
{
    buf_append_str(query, name);
    buf_append_char(query, '\0');
    buf_append_str(query, value);
    buf_append_char(query, '\0');
}

static void add_parameter(struct buf *query, struct str parameter)
{
    const char *equals = memchr(parameter.p, '=', parameter.len);
    size_t len = equals != NULL ? (size_t)(equals - parameter.p) : parameter.len;
    struct str rest = {parameter.p + len + 1, equals != NULL ? parameter.len - len - 1 : 0};
    struct buf name = {0}, value = {0};
    decode(&name, (struct str){parameter.p, len}, true);
    decode(&value, rest, true);
    callback_target_add(query, buf_str(&name), buf_str(&value));
    buf_fini(&name);
    buf_fini(&value);
}

void callback_target_init(struct callback_target *target, const char *url)
{
    *target = (struct callback_target){0};
    const char *path = path_of(url);
    size_t len = strcspn(path, "?");
    decode(&target->path, (struct str){path, len}, false);
    for (const char *p = path + len; *p != '\0';) {
        p++;
        len = strcspn(p, "&");
        if (len > 0)
            add_parameter(&target->query, (struct str){p, len});
        p += len;
    }
}

void callback_target_fini(struct callback_target *target)
{
    buf_fini(&target->path);
    buf_fini(&target->query);
}

static bool is_same(struct str a, struct str b)
{
    unsigned char differences = a.len != b.len;
    for (size_t i = 0; i < a.len && i < b.len; i++)
        differences |= (unsigned char)(a.p[i] ^ b.p[i]);
    return differences == 0;
}

bool callback_target_is(const struct callback_target *target, struct str path, struct str query)
{
    bool same_path = is_same(buf_str(&target->path), path);
    bool same_query = is_same(buf_str(&target->query), query);
    return same_path && same_query;
}
