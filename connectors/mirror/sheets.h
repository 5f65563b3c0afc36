/* sheets.h - what the followers of one source who want the same are told: stretches of its journal,
 * each read, judged and put into their words once.
 *
 * The newest sheet of a crowd grows while somebody of it waits at the end of the journal; older
 * stretches are read when somebody is at them. Some MiB of all crowds' sheets are kept, those used
 * last. On the mirror's thread. */
#ifndef BUSBAR_MIRROR_SHEETS_H
#define BUSBAR_MIRROR_SHEETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/journal.h"
#include "connectors/mirror/feed.h"
#include "connectors/mirror/groups.h"
#include "connectors/mirror/list.h"

/* Appends what those who want this get for a message of which the source told something new: whole,
 * the same each time. Returns how many events that are; 0: none is wanted, and nothing is appended.
 */
typedef size_t sheet_compose(struct buf *out, struct feed *feed, const struct filter *filter,
                             const struct block *block, const struct journal_message *message);

struct sheet_line {
    uint64_t seq; /* of the message's first event */
    size_t start;
    int64_t arrival_us;
    uint64_t index;
    uint32_t epoch;
    uint32_t n_events;
};

struct sheet {
    struct crowd *crowd;
    struct sheet *next; /* of the crowd */
    struct list_item used;
    uint64_t from_seq; /* it holds all that is wanted from here … */
    uint64_t end_seq;  /* … up to here, this excluded */
    int64_t to_us;     /* when the last that was looked at arrived */
    struct buf text;
    struct sheet_line *lines;
    size_t n, cap;
};

/* All zero but for the feed: empty. */
struct sheets {
    struct feed *feed;
    struct list used; /* the one used longest ago first */
    size_t bytes;
};

/* A group of followers, for followers.c and sheets.c only. */
struct crowd {
    struct group *group;
    size_t source;
    sheet_compose *compose;
    struct follower *followers;
    size_t asleep;     /* how many have all */
    uint64_t news_seq; /* 0: those have all still; else what comes next for them */
    struct sheet *sheets;
};

void sheets_drop(struct sheets *sheets, struct crowd *crowd); /* all of that crowd's */

/* The one that holds what comes from `seq` on; NULL: none does. */
struct sheet *sheets_find(struct sheets *sheets, struct crowd *crowd, uint64_t seq);
/* The first line at or behind `seq`; n: there is none. */
size_t sheet_place(const struct sheet *sheet, uint64_t seq);
size_t sheet_line_end(const struct sheet *sheet, size_t line);

/* Looks at the newest block for a crowd; the journal was read up to it before. */
void sheets_tell(struct sheets *sheets, struct crowd *crowd, const struct block *block);

/* Reads a stretch from `seq` on, but not past `end_seq`. */
enum sheets_loaded {
    SHEETS_LOADED,
    SHEETS_LOST,   /* `seq` was pruned, or can't be read: *seq is what comes behind that */
    SHEETS_FAILED, /* the journal can't be read now */
};
enum sheets_loaded sheets_load(struct sheets *sheets, struct crowd *crowd, uint64_t *seq,
                               uint64_t end_seq);

#endif
