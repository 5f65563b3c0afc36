/* followers.h - the streaming clients of an orchestrator's own stream, of whichever kind: each is a
 * cursor in one source's journal, from message to message.
 *
 *     looks for its place ──▶ waits for a sheet ◀──▶ is sent sheets, as they grow
 *
 * Those of one kind who want the same of one source are a crowd, and what they are sent lies in its
 * sheets (sheets.h): a follower has no buffer. One that has all is asleep. One that needs what was
 * pruned meanwhile, or falls too far behind, is cut. All on the mirror's thread. */
#ifndef BUSBAR_MIRROR_FOLLOWERS_H
#define BUSBAR_MIRROR_FOLLOWERS_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/metrics.h"
#include "connectors/http_server.h"
#include "connectors/mirror/clients.h"
#include "connectors/mirror/feed.h"
#include "connectors/mirror/seek.h"
#include "connectors/mirror/sheets.h"

struct followers;
struct follower;

/* How one kind of stream speaks. `client` is its own of each, given to followers_add; `filter` what
 * the client asked for. */
struct follower_kind {
    const char *path;   /* for the log */
    struct str beat;    /* comes so often, whatever else comes; never within a message */
    struct str cut_off; /* the last words to one who is cut, but within a message; may be empty */
    bool has_index;     /* `index=` asks for what comes from there on */
    sheet_compose *compose;
    /* What else it has to tell before the message of that seq: whole, at most HTTP_READ_MIN bytes;
     * empty: nothing. Gives the same until aside_told. NULL: never anything. */
    struct str (*aside)(void *client, const struct filter *filter, uint64_t seq);
    void (*aside_told)(void *client);
    void (*gone)(void *client); /* frees it; NULL: there is none */
};

struct followers_options {
    struct feed *feed;       /* its sources, and what may leave of an event; it need not run */
    struct clients *clients; /* followers count as its guests */
    struct metrics *metrics;
    size_t max;
    int64_t lag_ms;           /* as clients_options has it */
    void (*work)(void *work); /* called where somebody wants followers_turn soon */
    void *work_arg;
};

struct followers *followers_new(const struct followers_options *options);
void followers_free(struct followers **followers); /* all streams must have been closed */
size_t followers_count(const struct followers *followers);

struct follower_plan {
    const struct follower_kind *kind;
    void *client;
    size_t source;
    struct wanted wanted; /* without sources */
    struct seek *seek;    /* its place; NULL: behind the newest */
    int64_t beat_ms;
    bool beats_at_once; /* the first beat comes first of all */
};

/* Takes over the client, the seek and what is wanted. Not while clients_full. */
struct follower *followers_add(struct followers *all, struct follower_plan *plan);
extern const struct http_stream_ops follower_stream_ops; /* client NULL: none, for a HEAD */

/* There is something to tell aside: all are asked soon. */
void followers_nudge(struct followers *all);

/* Wakes who has something; returns in how many ms it wants to be called. */
int followers_turn(struct followers *all);

#endif
