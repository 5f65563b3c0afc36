/* map.h - 64-bit hashes to small numbers: open addressing, grows, never shrinks. The hash is the
 * key. One thread. */
#ifndef BUSBAR_BASE_MAP_H
#define BUSBAR_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map {
    struct map_slot *slots;
    size_t cap; /* a power of two, or 0 */
    size_t used;
    uint32_t round;
};

void map_fini(struct map *map);
void map_clear(struct map *map);
/* The value of `key`, made as 0 where it was not there. Valid until the next call. */
uint32_t *map_at(struct map *map, uint64_t key);
bool map_has(const struct map *map, uint64_t key);
void map_remove(struct map *map, uint64_t key);
/* Takes one from the value of `key`, which is there; removes it where 0 is left. */
void map_lower(struct map *map, uint64_t key);
/* `key` will be asked for soon: its memory is fetched meanwhile. */
void map_fetch(const struct map *map, uint64_t key);

#endif
