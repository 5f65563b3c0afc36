/* subscribers.h - the callbacks of all Marathons that the mirror answers for: who is registered,
 * who is where, kept on disk.
 *
 * Each has a thread of its own (subscriber.h), so that one that hangs costs nobody anything; one
 * more writes down every second where they are (subscribers_file.h), and takes leave of those that
 * have gone. A registration is in the file when subscribers_add returns, on the disk within a
 * second; it outlives the process either way, a crash of the machine only then. After a kill -9 up
 * to a second's events come again, after an orderly end none. */
#ifndef BUSBAR_MIRROR_SUBSCRIBERS_H
#define BUSBAR_MIRROR_SUBSCRIBERS_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/bridge.h"
#include "bridge/redact.h"
#include "connectors/mirror/merge.h"

struct subscribers;

/* All outlive the subscribers. */
struct subscribers_options {
    struct bridge *bridge;
    const struct mirror_source *sources;
    size_t n_sources;
    const struct redact *redact; /* may be NULL */
    size_t max;                  /* of all sources; 0: none, and files are left alone */
    int64_t give_up_ms;          /* 0: never */
};

/* Takes up those that were registered before; /status tells of them from then on. ERR_FATAL: a file
 * of theirs can't be read. */
int subscribers_open(struct subscribers **out, const struct subscribers_options *options,
                     struct err *err);
/* Waits up to 2 s for answers that are due, so that what was taken is not sent again. Before the
 * journals are closed. NULL inside is fine. */
void subscribers_close(struct subscribers **subscribers);

/* ---- the mirror's thread ---- */

enum subscribers_answer {
    SUBSCRIBERS_DONE,
    SUBSCRIBERS_OFF,    /* `max` is 0 */
    SUBSCRIBERS_FULL,   /* as many as there may be */
    SUBSCRIBERS_FAILED, /* err says why: no thread, or it can't be written down */
};

/* `url` was checked. A known one is there once, goes on where it is, and tries again at once. */
enum subscribers_answer subscribers_add(struct subscribers *all, size_t source, const char *url,
                                        struct err *err);
/* An unknown one is fine. */
enum subscribers_answer subscribers_remove(struct subscribers *all, size_t source, const char *url);
bool subscribers_are_on(const struct subscribers *all);
/* An event of the mirror's own making to all of that source (subscriber_tell). */
void subscribers_tell(struct subscribers *all, size_t source, struct str bytes);
/* Appends the urls as a JSON array, in the order of their registration. */
void subscribers_list(struct subscribers *all, size_t source, struct buf *out);
/* Brings gauges up to date. */
void subscribers_count(struct subscribers *all);

#endif
