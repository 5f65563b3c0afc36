/* credentials.c - who may ask: those who show the mirror's token. */
#include "connectors/mirror/credentials.h"

#include <string.h>
#include <strings.h>

bool credentials_are_same(struct str given, const char *wanted)
{
    size_t wanted_len = strlen(wanted);
    unsigned diff = given.len != wanted_len;
    for (size_t i = 0; i < given.len; i++)
        diff |= (unsigned char)given.p[i] ^ (unsigned char)wanted[i % (wanted_len + 1)];
    return diff == 0;
}

static int sextet(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

/* Base64 (RFC 4648, section 4) up to its padding, or to what is none. */
static void append_decoded(struct buf *out, const char *text)
{
    unsigned bits = 0, n = 0;
    for (int digit; (digit = sextet(*text)) >= 0; text++) {
        bits = bits << 6 | (unsigned)digit;
        n += 6;
        if (n < 8)
            continue;
        n -= 8;
        buf_append_char(out, (char)(bits >> n & 0xff));
    }
}

/* RFC 7617: USER:PASSWORD. */
static bool is_password(const char *encoded, const char *token)
{
    struct buf pair = {0};
    append_decoded(&pair, encoded);
    const char *colon = pair.len > 0 ? memchr(pair.p, ':', pair.len) : NULL;
    bool same = false;
    if (colon != NULL) {
        struct str password = {colon + 1, pair.len - (size_t)(colon + 1 - pair.p)};
        same = credentials_are_same(password, token);
    }
    buf_fini(&pair);
    return same;
}

/* What is behind the scheme, in any case, and its blanks; NULL where it is another. */
static const char *behind(const char *given, const char *scheme)
{
    size_t len = strlen(scheme);
    if (strncasecmp(given, scheme, len) != 0)
        return NULL;
    return given + len + strspn(given + len, " ");
}

bool credentials_are_right(const struct http_request *request, const char *token)
{
    const char *given = http_request_header(request, "Authorization"), *rest;
    if (token == NULL || given == NULL)
        return token == NULL;
    if ((rest = behind(given, "token=")) != NULL || (rest = behind(given, "Bearer ")) != NULL)
        return credentials_are_same(str_from(rest), token);
    rest = behind(given, "Basic ");
    return rest != NULL && is_password(rest, token);
}
