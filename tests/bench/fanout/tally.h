/* tally.h - what all clients of one process have seen together. */
#ifndef BUSBAR_FANOUT_TALLY_H
#define BUSBAR_FANOUT_TALLY_H

#include "tests/bench/fanout/histogram.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { TALLY_WORDS = 200 };

struct tally {
    int64_t now_us; /* the wall clock's, at the last read */
    bool window;    /* what follows is counted only while it is open */
    uint64_t deliveries;
    uint64_t reads;            /* that had something */
    struct histogram delay_us; /* from SentUs to here, of clients that have caught up */

    /* the rest always */
    uint64_t bytes;
    uint64_t events;
    uint64_t replayed;          /* of these, to clients that had not caught up yet */
    uint64_t missed;            /* numbers that a client was not told */
    uint64_t repeated;          /* numbers not above the last */
    uint64_t gaps;              /* events of type Gap */
    uint64_t attached;          /* answers of 200, ever */
    uint64_t refused;           /* other answers */
    uint64_t closed;            /* streams that the server ended */
    uint64_t failed;            /* connections that did not come about, or broke before an answer */
    struct histogram attach_us; /* from the wish to connect to the head of the answer */
    struct histogram caught_us; /* to the first event that is not late */
    char last_words[TALLY_WORDS]; /* the last comment, or the last event of the server's own, before
                                     an end */
    FILE *ids;                    /* where to write the ids that come, or NULL */
};

#endif
