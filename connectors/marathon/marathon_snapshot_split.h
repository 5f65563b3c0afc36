/* marathon_snapshot_split.h - takes the array of an answer apart while the answer arrives, so that
 * of 100 MB of apps one app is held at a time. Pure.
 *
 * Where an element ends is told by its brackets and quotes alone; whether it is JSON is for whoever
 * takes it to find out (RFC 8259), of the text around the elements marathon_split_end finds out. */
#ifndef BUSBAR_CONNECTORS_MARATHON_SNAPSHOT_SPLIT_H
#define BUSBAR_CONNECTORS_MARATHON_SNAPSHOT_SPLIT_H

#include "bridge/base/err.h"
#include "connectors/bounded.h"

enum { MARATHON_SPLIT_OUTER_MAX = 1 << 20 }; /* of the text around the elements */

struct marathon_split {
    /* An element, not empty, without whitespace around it; as long as the call lasts. -1 ends it
     * all, with this error. */
    int (*take)(void *arg, struct str element, struct err *err);
    void *arg;
    size_t too_long; /* elements that were longer than element_max: left out */

    /* private */
    const char *member;
    struct bounded element;
    struct buf outer; /* the text without the elements: one 0 for all of them */
    struct buf name;  /* the last string within the outermost object that may be a name */
    unsigned depth, array_depth;
    size_t elements;
    bool in_string, escaped, after_name, in_array, has_array, broken;
};

/* The array is the whole text (`member` NULL), or that member of the object that the text is. */
void marathon_split_init(struct marathon_split *split, const char *member, size_t element_max);
void marathon_split_fini(struct marathon_split *split);
/* The next bytes of the text. -1, ERR_RETRY: it can't be such a text any more. */
int marathon_split_feed(struct marathon_split *split, struct str bytes, struct err *err);
/* No more bytes. -1, ERR_RETRY: it was no such text, or not all of it. */
int marathon_split_end(struct marathon_split *split, struct err *err);

#endif
