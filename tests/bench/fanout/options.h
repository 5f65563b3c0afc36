/* options.h - what the command line of `clients` says. */
#ifndef BUSBAR_FANOUT_OPTIONS_H
#define BUSBAR_FANOUT_OPTIONS_H

#include "tests/bench/fanout/client.h"

#include <stddef.h>
#include <stdint.h>

struct options {
    struct client_plan plan;
    long clients;
    long groups;         /* distinct queries: client i is of group i % groups */
    double seconds;      /* of the window; 0: until SIGTERM or until_number */
    double warm;         /* from the last attachment to the window */
    double connect_rate; /* a second; 0: all at once */
    double patience;     /* for all to attach, and for until_number */
    long slow;           /* of the clients, so many read some 25 KB/s */
    long stopped;        /* of the clients, so many stop reading … */
    double stop_after;   /* … so long after the last attachment … */
    double resume_after; /* … and go on after so long; 0: never */
    long closed;         /* so many never read */
    long reconnect_ms; /* who is cut comes back after so long, with its last id; -1: nobody does */
    uint64_t until_number; /* 0: no matter */
    bool until_caught;     /* end once all have caught up */
    const char *ids_from;  /* a file that ids_to wrote: client i begins at its share of the lines */
    const char *ids_to;
    const char *ca;
};

/* Ends the process with a usage where it can't be read. */
void options_read(struct options *options, int argc, char **argv);

#endif
