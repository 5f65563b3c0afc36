/* redis_error.c - what an error reply of Redis means for the sink, and what to do about it. */
#include "connectors/redis/redis_error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAID_MAX = 300 };

struct meaning {
    const char *code; /* how the text begins */
    enum sink_result result;
    const char *remedy; /* NULL: Redis' own text says it */
};

#define REDIS_NEEDS                                                                                \
    "let this user +eval +evalsha +script|load +get +set +type +xinfo +xadd +xtrim on the sink's " \
    "keys and streams"

static const struct meaning meanings[] = {
    {"OOM", SINK_RETRY, "raise Redis' maxmemory or lower max_entries"},
    {"LOADING", SINK_RETRY, NULL},
    {"BUSY", SINK_RETRY, "another client's script keeps Redis busy"},
    {"MISCONF", SINK_RETRY, "Redis cannot save to its disk and refuses writes"},
    {"MASTERDOWN", SINK_RETRY, NULL},
    {"NOREPLICAS", SINK_RETRY, NULL},
    {"CLUSTERDOWN", SINK_RETRY, NULL},
    {"TRYAGAIN", SINK_RETRY, NULL},
    {"ERR max number of clients", SINK_RETRY, "raise Redis' maxclients"},
    {"NOSCRIPT", SINK_UNKNOWN, "the script is gone as soon as it is loaded: is there a proxy?"},
    {"READONLY", SINK_UNKNOWN, "this Redis is a replica: url must lead to the primary"},
    {"MOVED", SINK_UNKNOWN, NULL},
    {"ASK", SINK_UNKNOWN, NULL},
    {"CROSSSLOT", SINK_FATAL,
     "this is a Redis Cluster: set cluster: true and begin stream with {%{source}}"},
    {"NOAUTH", SINK_FATAL, "set password, or user and password in url"},
    {"WRONGPASS", SINK_FATAL, "mend password, or user and password in url"},
    {"ERR invalid password", SINK_FATAL, "mend password"},
    {"ERR AUTH <password> called", SINK_FATAL, "this Redis wants no password: take it out"},
    {"ERR Client sent AUTH", SINK_FATAL, "this Redis wants no password: take it out"},
    {"NOPERM", SINK_FATAL, REDIS_NEEDS},
    {"ERR The user executing the script can't run", SINK_FATAL, REDIS_NEEDS},
    {"DENIED", SINK_FATAL, NULL},
    {"WRONGTYPE", SINK_FATAL,
     "a key of Busbar's own holds something else: delete it or set prefix"},
    {"ERR DB index", SINK_FATAL, "mend the database number in url"},
    {"ERR invalid DB index", SINK_FATAL, "mend the database number in url"},
    {"ERR SELECT is not allowed", SINK_FATAL, "a Redis Cluster has only database 0"},
    {"ERR unknown command", SINK_FATAL, "Redis 5 or newer with scripting is needed"},
};

bool redis_error_is(const char *text, const char *code)
{
    return strncmp(text, code, strlen(code)) == 0;
}

/* Redis up to 6 wraps what a command in a script said: "ERR Error running script (call to f_SHA):
 * @user_script:7: -OOM command not allowed …". */
static const char *unwrap(const char *text)
{
    if (!redis_error_is(text, "ERR Error running script"))
        return text;
    const char *inner = text;
    for (const char *at = text; (at = strstr(at, ": ")) != NULL; at += 2) {
        const char *said = at + 2 + (at[2] == '-');
        size_t upper = strspn(said, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (upper >= 3 && said[upper] == ' ')
            inner = said;
    }
    return inner;
}

/* Without what Redis 7 adds for the script's author: " script: SHA, on @user_script:79." */
static int useful_len(const char *said)
{
    const char *tail = strstr(said, " script: ");
    size_t len = tail != NULL ? (size_t)(tail - said) : strlen(said);
    while (len > 0 && said[len - 1] == '.')
        len--;
    return (int)(len < SAID_MAX ? len : SAID_MAX);
}

enum sink_result redis_error(const char *text, struct err *err)
{
    const char *said = unwrap(text);
    const struct meaning *m = meanings, *end = m + sizeof meanings / sizeof *meanings;
    while (m < end && !redis_error_is(said, m->code))
        m++;
    enum sink_result result = m < end ? m->result : SINK_FATAL;
    const char *remedy = m < end ? m->remedy : NULL;
    err_set(err, result == SINK_FATAL ? ERR_FATAL : ERR_RETRY, "Redis answers: %.*s%s%s",
            useful_len(said), said, remedy != NULL ? ": " : "", remedy != NULL ? remedy : "");
    return result;
}

bool redis_error_moved(const char *text, char *host, size_t size, int *port)
{
    if (!redis_error_is(text, "MOVED "))
        return false;
    const char *place = strchr(text + strlen("MOVED "), ' ');
    const char *colon = place != NULL ? strrchr(place, ':') : NULL;
    if (colon == NULL || (size_t)(colon - place) > size)
        return false;
    char *end;
    long number = strtol(colon + 1, &end, 10);
    if (*end != '\0' || number < 1 || number > 65535)
        return false;
    snprintf(host, size, "%.*s", (int)(colon - place) - 1, place + 1);
    *port = (int)number;
    return true;
}
