/* map.c - open addressing with linear probing; removal shifts back, so there are no tombstones.
 *
 * A slot is taken where its round is the map's: clearing begins another round and touches no slot,
 * until the number starts over. */
#include "bridge/base/map.h"

#include "bridge/base/buf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct map_slot {
    uint64_t key;
    uint32_t value;
    uint32_t round; /* 0: never taken, or removed */
};

enum { CAP_MIN = 64 };

void map_fini(struct map *map)
{
    free(map->slots);
    *map = (struct map){0};
}

void map_clear(struct map *map)
{
    if (map->used > 0 && ++map->round == 0) {
        memset(map->slots, 0, map->cap * sizeof *map->slots);
        map->round = 1;
    }
    map->used = 0;
}

static bool is_taken(const struct map *map, size_t i)
{
    return map->slots[i].round == map->round;
}

static size_t home(const struct map *map, uint64_t key)
{
    return (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (map->cap - 1);
}

static struct map_slot *probe(const struct map *map, uint64_t key)
{
    size_t i = home(map, key);
    while (is_taken(map, i) && map->slots[i].key != key)
        i = (i + 1) & (map->cap - 1);
    return &map->slots[i];
}

static void grow(struct map *map)
{
    struct map bigger = {.cap = map->cap > 0 ? map->cap * 2 : CAP_MIN, .used = map->used};
    bigger.round = map->round > 0 ? map->round : 1;
    bigger.slots = mem_zalloc(bigger.cap * sizeof *bigger.slots);
    for (size_t i = 0; i < map->cap; i++)
        if (is_taken(map, i))
            *probe(&bigger, map->slots[i].key) = map->slots[i];
    free(map->slots);
    *map = bigger;
}

uint32_t *map_at(struct map *map, uint64_t key)
{
    if ((map->used + 1) * 2 > map->cap)
        grow(map);
    struct map_slot *slot = probe(map, key);
    if (slot->round != map->round) {
        *slot = (struct map_slot){.key = key, .round = map->round};
        map->used++;
    }
    return &slot->value;
}

bool map_has(const struct map *map, uint64_t key)
{
    return map->cap > 0 && probe(map, key)->round == map->round;
}

static void remove_at(struct map *map, size_t hole)
{
    size_t mask = map->cap - 1;
    for (size_t i = (hole + 1) & mask; is_taken(map, i); i = (i + 1) & mask) {
        size_t from_home = (i - home(map, map->slots[i].key)) & mask;
        if (from_home >= ((i - hole) & mask)) { /* may stand in the hole without being missed */
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole].round = 0;
    map->used--;
}

void map_remove(struct map *map, uint64_t key)
{
    if (map_has(map, key))
        remove_at(map, (size_t)(probe(map, key) - map->slots));
}

void map_lower(struct map *map, uint64_t key)
{
    struct map_slot *slot = probe(map, key);
    assert(slot->round == map->round);
    if (--slot->value == 0)
        remove_at(map, (size_t)(slot - map->slots));
}

void map_fetch(const struct map *map, uint64_t key)
{
    if (map->cap > 0)
        __builtin_prefetch(&map->slots[home(map, key)]);
}
