/* map.c - open addressing with linear probing; removal shifts back, so there are no tombstones. */
#include "bridge/base/map.h"

#include "bridge/base/buf.h"

#include <stdlib.h>
#include <string.h>

struct map_slot {
    uint64_t key;
    uint32_t value;
    bool taken;
};

enum { CAP_MIN = 64 };

void map_fini(struct map *map)
{
    free(map->slots);
    *map = (struct map){0};
}

void map_clear(struct map *map)
{
    if (map->used > 0)
        memset(map->slots, 0, map->cap * sizeof *map->slots);
    map->used = 0;
}

static size_t home(const struct map *map, uint64_t key)
{
    return (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (map->cap - 1);
}

static struct map_slot *probe(const struct map *map, uint64_t key)
{
    size_t i = home(map, key);
    while (map->slots[i].taken && map->slots[i].key != key)
        i = (i + 1) & (map->cap - 1);
    return &map->slots[i];
}

static void grow(struct map *map)
{
    struct map bigger = {.cap = map->cap > 0 ? map->cap * 2 : CAP_MIN, .used = map->used};
    bigger.slots = mem_zalloc(bigger.cap * sizeof *bigger.slots);
    for (size_t i = 0; i < map->cap; i++)
        if (map->slots[i].taken)
            *probe(&bigger, map->slots[i].key) = map->slots[i];
    free(map->slots);
    *map = bigger;
}

uint32_t *map_at(struct map *map, uint64_t key)
{
    if ((map->used + 1) * 2 > map->cap)
        grow(map);
    struct map_slot *slot = probe(map, key);
    if (!slot->taken) {
        *slot = (struct map_slot){.key = key, .taken = true};
        map->used++;
    }
    return &slot->value;
}

bool map_has(const struct map *map, uint64_t key)
{
    return map->cap > 0 && probe(map, key)->taken;
}

void map_remove(struct map *map, uint64_t key)
{
    if (!map_has(map, key))
        return;
    size_t mask = map->cap - 1;
    size_t hole = (size_t)(probe(map, key) - map->slots);
    for (size_t i = (hole + 1) & mask; map->slots[i].taken; i = (i + 1) & mask) {
        size_t from_home = (i - home(map, map->slots[i].key)) & mask;
        if (from_home >= ((i - hole) & mask)) { /* may stand in the hole without being missed */
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole].taken = false;
    map->used--;
}
