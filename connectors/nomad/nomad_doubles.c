/* nomad_doubles.c - leaves out what Nomad tells twice because it was asked for twice. */
#include "connectors/nomad/nomad_doubles.h"

#include "connectors/nomad/nomad_digest.h"

#include <string.h>

/* As many of each byte; what the digest leaves out (indexes) is compared so. */
static bool has_same_bytes(struct str a, struct str b)
{
    ptrdiff_t more[256] = {0};
    for (size_t i = 0; i < a.len; i++) {
        more[(unsigned char)a.p[i]]++;
        more[(unsigned char)b.p[i]]--;
    }
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (more[i] != 0)
            return false;
    return true;
}

static bool is_double(const struct found_event *a, const struct found_event *b)
{
    if (a->data.len != b->data.len || a->index != b->index || !str_eq(a->topic, b->topic) ||
        !str_eq(a->type, b->type) || !str_eq(a->key, b->key) || !str_eq(a->ns, b->ns) ||
        !str_eq(a->filter_keys, b->filter_keys))
        return false;
    return str_eq(a->data, b->data) ||
           (has_same_bytes(a->data, b->data) && nomad_digest(a->data) == nomad_digest(b->data));
}

size_t nomad_drop_doubles(struct found_event *events, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || !is_double(&events[kept - 1], &events[i]))
            events[kept++] = events[i];
    return kept;
}
