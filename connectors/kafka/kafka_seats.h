/* kafka_seats.h - what the member of a group knows: which pairs of this process are to publish.
 *
 * Written by the member's thread (kafka_group.c), read by the threads of the pairs. All functions
 * lock; none blocks for longer than that, but kafka_seats_ask with patience. */
#ifndef BUSBAR_KAFKA_SEATS_H
#define BUSBAR_KAFKA_SEATS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/err.h"
#include "bridge/base/stop.h"
#include "bridge/sink.h"

enum kafka_seat_state {
    KAFKA_SEAT_UNSURE, /* not (or not any more) a member, or nothing was heard for too long */
    KAFKA_SEAT_OURS,
    KAFKA_SEAT_OTHERS, /* somebody else's, or nobody's yet */
};

/* One pair's place in the group. */
struct kafka_seat {
    struct kafka_seat *next;
    char *topic; /* its control topic */
    bool ours;
    unsigned turn; /* counts how often it became ours */
};

struct kafka_seats {
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct kafka_seat *first;
    size_t n;
    unsigned changes;   /* of the list */
    int64_t changed_ms; /* and when it changed last */
    bool joined;        /* the group has said what is ours */
    unsigned rebalances;
    int64_t alive_ms;    /* when the member's thread was last seen running */
    int64_t doubtful_ms; /* until then what it says may be out of date */
    enum sink_result trouble;
    struct err err; /* where trouble is not DONE */
};

/* A copy of what is known of one seat. */
struct kafka_seat_view {
    enum kafka_seat_state state;
    unsigned turn;
    unsigned rebalances;      /* so many so far */
    enum sink_result trouble; /* why it is UNSURE, or what keeps us from looking: else DONE */
    struct err err;
};

void kafka_seats_init(struct kafka_seats *seats);
void kafka_seats_fini(struct kafka_seats *seats);

/* ---- a pair's thread ---- */

struct kafka_seat *kafka_seats_add(struct kafka_seats *seats, const char *topic);
void kafka_seats_remove(struct kafka_seats *seats, struct kafka_seat *seat);
/* Where it is UNSURE without a trouble, waits up to patience_ms (less when stopping) for better. */
void kafka_seats_ask(struct kafka_seats *seats, const struct kafka_seat *seat, int patience_ms,
                     struct stop *stop, struct kafka_seat_view *view);

/* ---- the member's thread ---- */

/* It runs. After a pause (SIGSTOP, a starved machine) the group may have thrown it out, which it
 * hears a moment later: until then nothing counts as ours. */
void kafka_seats_alive(struct kafka_seats *seats);
/* Assigned, revoked. A topic without a seat is no error: the pair has just left. */
void kafka_seats_give(struct kafka_seats *seats, const char *topic);
void kafka_seats_take_back(struct kafka_seats *seats, const char *topic);
/* The group has said what is ours; false: it has thrown us out, and somebody else may have all. */
void kafka_seats_set_joined(struct kafka_seats *seats, bool joined);
/* DONE: all is well again. */
void kafka_seats_trouble(struct kafka_seats *seats, enum sink_result trouble,
                         const struct err *err);

#endif
