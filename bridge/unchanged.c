/* unchanged.c - which events tell nothing new of their key. */
#include "bridge/unchanged.h"

#include "bridge/base/hash.h"

#include <stdlib.h>

enum { FIRST_CAP = 64 };

void unchanged_fini(struct unchanged *u)
{
    map_fini(&u->places);
    free(u->told);
    *u = (struct unchanged){0};
}

void unchanged_clear(struct unchanged *u)
{
    map_clear(&u->places);
    u->n = 0;
}

static uint64_t key_of(const struct event *e)
{
    return event_hash(0, e->topic, e->ns, e->key, STR(""), 0);
}

static uint64_t *last_told(struct unchanged *u, uint64_t key)
{
    if (u->n == UNCHANGED_KEYS_MAX && !map_has(&u->places, key))
        unchanged_clear(u);
    uint32_t *place = map_at(&u->places, key);
    if (*place > 0)
        return &u->told[*place - 1];
    if (u->n == u->cap) {
        u->cap = u->cap > 0 ? u->cap * 2 : FIRST_CAP;
        u->told = mem_realloc(u->told, u->cap * sizeof *u->told);
    }
    u->told[u->n++] = 0;
    *place = (uint32_t)u->n;
    return &u->told[u->n - 1];
}

bool unchanged_note(struct unchanged *u, const struct event *e, uint64_t digest)
{
    uint64_t *last = last_told(u, key_of(e));
    uint64_t now = hash64(digest, e->type.p, e->type.len);
    bool same = *last == now;
    *last = now;
    return same;
}

void unchanged_forget(struct unchanged *u, const struct event *e)
{
    uint64_t key = key_of(e);
    if (map_has(&u->places, key))
        *last_told(u, key) = 0;
}
