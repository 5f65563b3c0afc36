/* kafka_name.c - names that Kafka takes for a topic. */
#include "connectors/kafka/kafka_name.h"

#include "bridge/base/hash.h"

#include <inttypes.h>
#include <stdint.h>

enum { HASH_TAIL = 17 }; /* _ and 16 hex digits */

static bool is_allowed(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

static bool is_dots(struct str name)
{
    return str_is(name, ".") || str_is(name, "..");
}

bool kafka_name_is_valid(struct str name)
{
    if (name.len == 0 || name.len > KAFKA_NAME_MAX || is_dots(name))
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (!is_allowed(name.p[i]))
            return false;
    return true;
}

void kafka_name_mend(struct buf *name)
{
    uint64_t hash = 0;
    bool is_long = name->len > KAFKA_NAME_MAX;
    if (is_long)
        hash = hash64(HASH64_START, name->p, name->len);
    if (name->len == 0)
        buf_append_char(name, '_');
    if (is_dots(buf_str(name)))
        for (size_t i = 0; i < name->len; i++)
            name->p[i] = '_';
    for (size_t i = 0; i < name->len; i++)
        if (!is_allowed(name->p[i]))
            name->p[i] = '_';
    if (is_long) {
        name->len = KAFKA_NAME_MAX - HASH_TAIL;
        buf_printf(name, "_%016" PRIx64, hash);
    }
}
