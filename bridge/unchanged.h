/* unchanged.h - which events tell nothing new of their key (`drop_unchanged`). One thread at a
 * time. */
#ifndef BUSBAR_UNCHANGED_H
#define BUSBAR_UNCHANGED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/map.h"
#include "bridge/event.h"

/* A key that is not known any more only lets one event through that could have been left out. */
enum { UNCHANGED_KEYS_MAX = 1 << 20 };

/* What was told last, by topic, namespace and key. All zero is a good start. */
struct unchanged {
    struct map places; /* of the key: place in `told`, counted from 1 */
    uint64_t *told;    /* type and digest of the last event; 0: none */
    size_t n, cap;
};

void unchanged_fini(struct unchanged *unchanged);
void unchanged_clear(struct unchanged *unchanged);
/* True where the last event of the same topic, namespace and key had this one's type and digest.
 * From now on this one is the last. Past UNCHANGED_KEYS_MAX keys (28 MiB) all are forgotten. */
bool unchanged_note(struct unchanged *unchanged, const struct event *event, uint64_t digest);
/* Something else told of this key: its next event is new. */
void unchanged_forget(struct unchanged *unchanged, const struct event *event);

#endif
