/* clients.h - the streaming clients of GET /events: each is a cursor.
 *
 *              ┌────────── fell behind the ring ─────────┐
 *              ▼                                         │
 *     reads the journals ── has passed the ring's floor ─▶ copies from the ring
 *
 * Both give the same frames in the same order, so a client changes over between any two bytes.
 * A client has no buffer: a frame that was sent in part is formatted again. All on the mirror's
 * thread. */
#ifndef BUSBAR_MIRROR_CLIENTS_H
#define BUSBAR_MIRROR_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/metrics.h"
#include "bridge/route.h"
#include "connectors/http_server.h"
#include "connectors/mirror/feed.h"

struct clients;
struct client;

/* What a client asked for. */
struct client_plan {
    struct filter *filter; /* NULL: all */
    bool *sources;         /* which; NULL: all */
    int64_t from_us;       /* events that arrived at or after it */
    size_t named;          /* one source has a start of its own; n_sources: none */
    int64_t named_from_us;
    enum merge_tell tell;
};
void client_plan_fini(struct client_plan *plan);

struct clients *clients_new(struct feed *feed, struct metrics *metrics, size_t max,
                            int64_t heartbeat_ms);
void clients_free(struct clients **clients); /* all streams must have been closed */
/* `fn` is called where a client wants clients_turn soon. */
void clients_on_work(struct clients *clients, void (*fn)(void *arg), void *arg);
bool clients_full(const struct clients *clients);
size_t clients_count(const struct clients *clients);

/* Takes over what the plan holds. Not while clients_full. */
struct client *clients_add(struct clients *clients, struct client_plan *plan);
extern const struct http_stream_ops client_stream_ops;

/* Feeds the ring and wakes who has something; returns in how many ms it wants to be called. */
int clients_turn(struct clients *clients);

#endif
