/* redis_url.h - where a Redis is, as `url:` tells it.
 *
 * redis://[[USER]:PASSWORD@]HOST[:PORT][/DB] (the form registered with IANA as "redis"), IPv6 hosts
 * in brackets, and unix://[[USER]:PASSWORD@]/PATH[?db=DB], also spelt redis+unix://. User, password
 * and path may be percent-encoded (RFC 3986, section 2.1). */
#ifndef BUSBAR_REDIS_URL_H
#define BUSBAR_REDIS_URL_H

#include "bridge/base/err.h"

enum { REDIS_PORT = 6379, REDIS_DB_MAX = 65535 };

struct redis_url {
    char *user;     /* NULL: none, the server's default user */
    char *password; /* NULL: none */
    char *host;     /* NULL where `path` is set */
    char *path;     /* a unix socket, else NULL */
    int port;
    int db;
};

/* ERR_INPUT tells what was found and what was expected, never a password. `out` needs
 * redis_url_fini either way. */
int redis_url_parse(struct redis_url *out, const char *text, struct err *err);
void redis_url_fini(struct redis_url *url);

#endif
