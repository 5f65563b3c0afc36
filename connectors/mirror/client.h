/* client.h - one streaming client of GET /events, for clients.c and client_own.c only. */
#ifndef BUSBAR_MIRROR_CLIENT_H
#define BUSBAR_MIRROR_CLIENT_H

#include "connectors/mirror/clients.h"
#include "connectors/mirror/list.h"
#include "connectors/mirror/pages.h"

enum client_state {
    CLIENT_FREE,
    CLIENT_OWN,    /* reads the journals for itself (client_own.h) */
    CLIENT_BEHIND, /* is sent pages */
    CLIENT_RING,
};

struct client_own;

/* The fields that a pass over thousands of clients looks at come first. */
struct client {
    struct clients *all;
    struct http_stream *stream;
    struct group *group;
    struct client *in_group, *before; /* the list of its group */
    enum client_state state;
    bool asleep; /* has all; on the ring: stands where its group's tail is */
    bool greeted;
    bool ticket; /* its turn to read */
    bool cut;
    struct ring_cursor cursor; /* behind: the page's number, and the frame */
    size_t offset;             /* of the frame there, so much is out … */
    int64_t partial_us;        /* … which arrived then */
    int64_t after_us;          /* everything up to this has been passed */
    int64_t sent_ms;
    int64_t read_ms;
    struct told_id told;      /* the newest id it has */
    int64_t behind_ms;        /* since when it has not had all */
    int64_t allow_ms;         /* so long it may not, and so far it may be behind */
    struct list_item waiting; /* behind, taking bytes: for a page; its own: for a ticket */
    struct client *free;
    struct client_own *own; /* its start is its own; NULL: never, or no longer */
};

struct clients {
    struct clients_options o;
    struct feed *feed;
    struct metrics *metrics;
    struct groups *groups;
    struct pages *pages;
    struct cuts cuts;
    struct client *slots; /* one array: see http_server.c */
    size_t used;          /* slots from here on were never used */
    size_t count;
    size_t guests; /* of those, see clients_enter; and in so many groups */
    size_t guest_groups;
    struct client *free;
    struct list waiting;          /* behind, without a page */
    int64_t sweep_us;             /* the pages are read in sweeps: it is at this time */
    struct list queue;            /* of those who read for themselves */
    size_t owns;                  /* how many of those there are */
    size_t merges;                /* and what they hold open */
    int64_t now_ms;               /* of this turn */
    int64_t kept_ms;              /* when housekeeping was last done */
    int64_t left_ms;              /* when the last client left */
    const struct verdict *looked; /* of the chunk that was looked at last */
    const struct chunk *looked_at;
};

/* What one read call has put out so far. */
struct out {
    char *p;
    size_t max;
    size_t n;
};

/* Where it begins. */
void client_place(struct client *c, const struct client_plan *plan);
/* The next frame of the chunk that it wants, from its cursor on; n: there is none. */
size_t client_next_frame(struct client *c, const struct chunk *chunk,
                         const struct verdict *verdict);
/* It is asleep. */
void client_wake(struct client *c);
void client_put_text(struct out *out, struct str text);
/* The id line of an event's frame, alone: the client need not pass what lies before it again. */
void client_put_id(struct client *c, struct out *out, size_t source, const struct event *event);
bool client_heartbeat_due(const struct client *c, const struct out *out);
void client_put_heartbeat(struct out *out);
/* It is to be told, not sent, an event: this far it has come. */
void client_told(struct client *c, size_t source, const struct event *event);
/* The rest of a frame that was sent in part is gone: ending there lets the reader drop that part.
 */
bool client_lost_the_rest(const struct client *c, int64_t arrival_us);

/* ---- clients_sweep.c ---- */

void client_wait(struct client *c); /* for a page */
/* It has passed the page that it was at. */
void client_page_over(struct client *c, const struct page *page);
/* Gives pages to those who wait. False where a journal can't be read now. */
bool clients_sweep(struct clients *all);

#endif
