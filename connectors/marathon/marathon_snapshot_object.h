/* marathon_snapshot_object.h - an object of Marathon's HTTP API made a Snapshot: which object it
 * is, and the event that tells it. Pure: no I/O.
 *
 * The members are those of Marathon's API documentation (docs/docs/rest-api, RAML), versions 0.8 to
 * 1.11. */
#ifndef BUSBAR_CONNECTORS_MARATHON_SNAPSHOT_OBJECT_H
#define BUSBAR_CONNECTORS_MARATHON_SNAPSHOT_OBJECT_H

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/source.h"

struct marathon_topic {
    const char *name;
    const char *member;   /* of the event, that holds the object */
    const char *version;  /* member of the object: when it was modified last */
    const char *list;     /* where all of them are, path and query */
    const char *list_too; /* where else, in versions that don't know `list`; NULL: nowhere */
    const char *array;    /* member of the answer to `list` that holds them; NULL: the answer is
                             the list. "" : it is a tree of groups */
    /* One of them: before and after its id. NULL: it can't be asked for, and need not be, because
     * each event on the stream tells all of it. */
    const char *one, *one_after;
    const char *one_member; /* of the answer, that holds it; NULL: the answer is the object */
};

/* In the order of reading; a NULL name ends them. */
extern const struct marathon_topic marathon_topics[];
enum { MARATHON_TOPICS_MAX = 4 };

/* What was read of an object. All zero is a good start; used again for one after another. */
struct marathon_object {
    /* For resync_listed and resync_object: views into the object's text and the buffers below.
     * `index`: when it was modified last, in ms, 0 where it does not say; `data` is empty before
     * marathon_object_event. */
    struct found_event event;

    /* private */
    const struct marathon_topic *topic;
    struct str raw;
    struct buf key, scratch, data;
};

void marathon_object_fini(struct marathon_object *object);

/* Reads `raw`, which has to live as long as the result is used. ERR_RETRY: not JSON; ERR_INPUT: not
 * an object, or none that says its id. */
int marathon_object_read(struct marathon_object *object, const struct marathon_topic *topic,
                         struct str raw, struct err *err);
/* Makes the event of it, `asked_us` being when it was asked for. Of a group's members only their
 * ids are told: each of them is told by itself. */
void marathon_object_event(struct marathon_object *object, int64_t asked_us);

/* Calls `take` with each group of a tree, the outermost first. ERR_RETRY: not JSON, or none. */
int marathon_groups_walk(struct str tree, int (*take)(void *arg, struct str group, struct err *err),
                         void *arg, struct err *err);
/* The value of a member of the object `text`; ERR_RETRY: it has none, or is not JSON. */
int marathon_member(struct str text, const char *member, struct str *value, struct err *err);

#endif
