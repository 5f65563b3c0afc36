/* nomad_blocking_order.h - what of the polled tables is to be told, at which index, in which order.
 * Pure: no I/O, no clock.
 *
 * A round has a limit: an index up to which every change is visible in what is listed after it was
 * known. What has changed since it was told, at or below the limit, is told in the order of
 * indexes; what is above waits for a later round. So indexes never fall, nothing is told twice, and
 * whatever is there in the end was told as it is in the end. BLOCKING.md tells what is asked of
 * Nomad. */
#ifndef BUSBAR_CONNECTORS_NOMAD_BLOCKING_ORDER_H
#define BUSBAR_CONNECTORS_NOMAD_BLOCKING_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/map.h"

enum {
    ORDER_BYTES_MAX = 64 << 20,   /* of objects that wait to be told in one round */
    ORDER_CARRIED_MAX = 16 << 20, /* of those that wait for the next one */
};

/* An object that is known, and what was told of it last. */
struct order_known {
    char *text; /* namespace, key, packed filter keys; NULL: this slot is free */
    size_t ns_len, key_len, filter_keys_len;
    uint64_t hash;
    uint64_t index;   /* ModifyIndex of what was told; 0: nothing was */
    uint64_t waiting; /* the largest ModifyIndex of it that waits to be told; 0: none */
    uint32_t round;   /* that listed it last */
    uint32_t table;
    bool told; /* not only known */
};

/* One thing to be told. */
struct order_todo {
    uint64_t index; /* ModifyIndex */
    size_t known;
    bool deleted;
    char *data; /* the object in full; NULL: it is to be read */
    size_t len;
};

struct order {
    struct order_known *known;
    size_t n_known, known_cap;
    size_t n_objects; /* known slots in use */
    size_t free_slot; /* 1 + a free one; 0: none. The next is in its `hash` */
    struct map slots; /* hash → 1 + slot */

    struct order_todo *todo;
    size_t n_todo, todo_cap, next;
    size_t bytes; /* of `data` */

    uint64_t from;  /* what was modified below this is known, and not told */
    uint64_t told;  /* the largest index told */
    uint64_t limit; /* of this round */
    uint32_t round;
};

/* What a listing says of an object. */
struct order_entry {
    uint32_t table;
    struct str ns, key;
    struct str filter_keys; /* packed, see event.h; those that the listing knows */
    uint64_t index;         /* ModifyIndex */
    struct str full;        /* the object, where the listing has it in full; else empty */
};

/* All zero is a good start. */
void order_fini(struct order *order);
/* Everything is new: the index has started over. */
void order_reset(struct order *order);
/* Before the first round: nothing below `from` is told; nothing will be told at an index below
 * `told`. */
void order_start(struct order *order, uint64_t from, uint64_t told);

/* ---- a round ---- */

void order_begin(struct order *order, uint64_t limit);
/* Copies what it keeps. */
void order_listed(struct order *order, const struct order_entry *entry);
/* All that there is of the table was listed in this round: what is known besides was deleted. */
void order_whole(struct order *order, uint32_t table);
/* All tables that changed were listed. */
void order_sort(struct order *order);

/* What is to be told next; NULL: nothing more in this round. Valid until the next call of any of
 * these. */
struct order_todo *order_next(struct order *order);
const struct order_known *order_known_of(const struct order *order, const struct order_todo *todo);
struct str order_ns(const struct order_known *known);
struct str order_key(const struct order_known *known);
struct str order_filter_keys(const struct order_known *known);
/* The index at which `todo` is to be told: its ModifyIndex, or the last index told where that is
 * larger (after a restored snapshot, or where a listing lagged); a deletion: the round's limit. */
uint64_t order_index(const struct order *order, const struct order_todo *todo);

/* One of these for each that order_next gave: */

/* It was told, or need not be. `filter_keys`: of the object in full; empty: as they were. */
void order_told(struct order *order, bool told, struct str filter_keys);
/* It is gone by now: the next round will find it deleted. */
void order_gone(struct order *order);
/* Read in full it was newer than listed, modified at `index`: it is told in its turn, in this round
 * or in the next. */
void order_newer(struct order *order, uint64_t index, struct str full);

/* Ends a round, whether all was told or not. */
void order_end(struct order *order);

#endif
