/* clients.h - the streaming clients of GET /events: each is a cursor.
 *
 *              ┌───────── fell behind the ring ─────────┐
 *              ▼                                        │
 *     is sent pages, in turns ── reached the ring ─▶ is sent from the ring
 *              ▲
 *     reads the journals for itself: a start that others do not share (client_own.h)
 *
 * All give the same frames in the same order, so a client changes over between any two bytes. A
 * client has no buffer: frames are sent from where they lie. Clients who want the same are a group
 * (groups.h). All on the mirror's thread. */
#ifndef BUSBAR_MIRROR_CLIENTS_H
#define BUSBAR_MIRROR_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/metrics.h"
#include "connectors/http_server.h"
#include "connectors/mirror/cuts.h"
#include "connectors/mirror/feed.h"
#include "connectors/mirror/groups.h"
#include "connectors/mirror/resume.h"

struct clients;
struct client;

/* What a client asked for. */
struct client_plan {
    struct wanted wanted;
    int64_t from_us; /* events that arrived at or after it */
    size_t named;    /* one source has a start of its own; n_sources: none */
    int64_t named_from_us;
    bool seeks;           /* that start is to be looked for, of this id of another journal */
    struct frame_id id;   /* without its source */
    struct resume resume; /* and skips some of what comes from there on */
    enum merge_tell tell;
};
void client_plan_fini(struct client_plan *plan);

struct clients_options {
    struct feed *feed;
    struct metrics *metrics;
    size_t max;
    int64_t heartbeat_ms;
    int64_t lag_ms;          /* who falls so much further behind than he began is cut; 0: nobody */
    void (*work)(void *arg); /* called where a client wants clients_turn soon; may be NULL */
    void *work_arg;
};

struct clients *clients_new(const struct clients_options *options);
void clients_free(struct clients **clients); /* all streams must have been closed */
bool clients_full(const struct clients *clients);
/* For those of another kind, who are cut for the same reasons. */
struct cuts *clients_cuts(struct clients *clients);
/* A guest is a streaming client of another kind: it counts, here and in the metrics, as do the
 * groups of guests that there are then. Not while clients_full. */
void clients_enter(struct clients *clients, size_t guest_groups);
void clients_leave(struct clients *clients, size_t guest_groups);

/* Takes over what the plan holds. Not while clients_full. */
struct client *clients_add(struct clients *clients, struct client_plan *plan);
extern const struct http_stream_ops client_stream_ops;

/* Feeds the ring: who comes then begins at its end. */
void clients_feed(struct clients *all);
/* The same, and wakes who has something; returns in how many ms it wants to be called. */
int clients_turn(struct clients *all);

#endif
