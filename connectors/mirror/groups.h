/* groups.h - the streaming clients by what they want: those whose filters mean the same are one
 * group, and each event is looked at once for all of them. On the mirror's thread.
 *
 * Filters mean the same where they name the same topics, types, namespaces and sources, in whatever
 * order, however often. */
#ifndef BUSBAR_MIRROR_GROUPS_H
#define BUSBAR_MIRROR_GROUPS_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "connectors/mirror/chunk.h"
#include "connectors/mirror/ring.h"

/* What is asked for, on its way from a query to a group. All zero: everything. */
struct wanted {
    struct filter *filter; /* NULL: all */
    bool *sources;         /* which; NULL: all */
    struct buf words;      /* what was asked, as wanted_note has put it down */
};
void wanted_fini(struct wanted *wanted);
/* `kind` tells one list from another. */
void wanted_note(struct wanted *wanted, char kind, struct str value);

struct client;
struct crowd;

struct group {
    struct wish wish;
    struct str name; /* the words, sorted, each once; and the sources */
    size_t n_clients;
    struct crowd *crowd;     /* where they are followers (sheets.h) */
    struct client *clients;  /* where not: the list of them … */
    struct ring_cursor tail; /* … of whom those who have all stand here … */
    int64_t tail_us;         /* … and have passed what arrived up to this */
    struct group *next;      /* of the same hash */
};

struct groups;

struct groups *groups_new(size_t n_sources);
void groups_free(struct groups **groups); /* and what is left in it */

/* The group of those who want this; takes over what `wanted` holds. One more client is in it. */
struct group *groups_join(struct groups *groups, struct wanted *wanted);
/* One client less; the last one takes the group with it. */
void groups_leave(struct groups *groups, struct group *group);

size_t groups_count(const struct groups *groups);
/* All groups, in no order: from 0 to groups_end; NULL where there is none. */
struct group *groups_at(const struct groups *groups, size_t i);
size_t groups_end(const struct groups *groups);

#endif
