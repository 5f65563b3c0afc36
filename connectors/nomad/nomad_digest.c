/* nomad_digest.c - what of a Nomad event counts where unchanged ones are to be left out.
 *
 * One pass with json_scan, without recursion. A scalar is hashed as it stands; an array chains its
 * elements; an object adds up its members, so that their order is of no account. */
#include "connectors/nomad/nomad_digest.h"

#include "bridge/base/hash.h"
#include "connectors/json_scan.h"

#include <string.h>

/* A container that was entered and not yet left. */
struct level {
    bool is_object;
    uint64_t digest;
    uint64_t name; /* of the member being read */
};

struct digest {
    struct json_scan scan;
    struct level levels[JSON_SCAN_DEPTH_MAX];
    size_t depth;
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    return hash64(a, &b, sizeof b);
}

static bool is_volatile(struct json_scan *scan, struct str name)
{
    const struct str index = STR("Index");
    bool is_index =
        name.len >= index.len && memcmp(name.p + name.len - index.len, index.p, index.len) == 0;
    return (is_index || str_is(name, "ModifyTime")) && json_scan_peek(scan) == JSON_SCAN_NUMBER;
}

/* Steps to the next value of the innermost container; false where that is over, or broken. */
static bool next_value(struct digest *d)
{
    struct level *level = &d->levels[d->depth - 1];
    struct json_scan_string name;
    if (!level->is_object)
        return json_scan_element(&d->scan);
    while (json_scan_member(&d->scan, &name)) {
        if (!is_volatile(&d->scan, name.raw)) {
            level->name = hash64(HASH64_START, name.raw.p, name.raw.len);
            return true;
        }
        json_scan_skip(&d->scan, NULL);
    }
    return false;
}

/* A value of the innermost container was read. */
static void add(struct digest *d, uint64_t value)
{
    struct level *level = &d->levels[d->depth - 1];
    if (level->is_object)
        level->digest += mix(level->name, value);
    else
        level->digest = mix(level->digest, value);
}

/* True where the cursor stood at a container, which was entered; else *value is the scalar's. */
static bool enter(struct digest *d, uint64_t *value)
{
    struct str raw = {"", 0};
    enum json_scan_type type = json_scan_peek(&d->scan);
    if (type == JSON_SCAN_OBJECT ? json_scan_object(&d->scan)
                                 : type == JSON_SCAN_ARRAY && json_scan_array(&d->scan)) {
        d->levels[d->depth++] = (struct level){
            .is_object = type == JSON_SCAN_OBJECT,
            .digest = hash64(HASH64_START, &type, sizeof type),
        };
        return true;
    }
    json_scan_skip(&d->scan, &raw);
    *value = hash64(HASH64_START, raw.p, raw.len);
    return false;
}

static uint64_t digest_value(struct digest *d)
{
    uint64_t value = 0;
    d->depth = 0;
    bool entered = enter(d, &value);
    while (d->depth > 0) {
        if (!entered)
            add(d, value);
        if (next_value(d)) {
            entered = enter(d, &value);
        } else {
            value = d->levels[--d->depth].digest;
            entered = false;
        }
    }
    return value;
}

uint64_t nomad_digest(struct str event)
{
    struct digest d;
    struct json_scan_string name;
    uint64_t digest = 0;
    json_scan_init(&d.scan, event);
    if (json_scan_object(&d.scan))
        while (json_scan_member(&d.scan, &name)) {
            if (str_is(name.raw, "Payload"))
                digest = digest_value(&d);
            else
                json_scan_skip(&d.scan, NULL);
        }
    return digest;
}
