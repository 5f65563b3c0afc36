/* marathon_stream.h - one connection to one server's event stream, from asking to its end. */
#ifndef BUSBAR_CONNECTORS_MARATHON_STREAM_H
#define BUSBAR_CONNECTORS_MARATHON_STREAM_H

#include <pthread.h>
#include <stdbool.h>

#include "bridge/source.h"
#include "connectors/marathon/marathon.h"
#include "connectors/marathon/marathon_leader.h"

/* What outlives a connection. The run's thread sets it, a resync's asks for the server. */
struct marathon_place {
    bool resumed; /* ingest was asked where to go on, as it wants to be before the first event */
    pthread_mutex_t lock;
    char server[MARATHON_SERVER_MAX]; /* attached to, or asked last; "": nobody yet */
};

void marathon_place_set(struct marathon_place *place, const char *server);
void marathon_place_get(struct marathon_place *place, char out[MARATHON_SERVER_MAX]);

enum marathon_end {
    MARATHON_LOST,     /* not connected, refused, silent or broken off: another try may help */
    MARATHON_REDIRECT, /* the leader is at `leader` */
    MARATHON_STOPPED,  /* ingest_stop was requested */
    MARATHON_FAILED,   /* ingest can't take any more */
};

enum { MARATHON_LABEL_MAX = 256 };

struct marathon_outcome {
    enum marathon_end end;
    char label[MARATHON_LABEL_MAX]; /* the server's, for logs */
    bool answered;                  /* the head of an answer came, whatever it said */
    bool refused;                   /* 4xx: the same again, until somebody changes something */
    bool attached;
    bool stood; /* attached for a second at least: the next try need not wait */
    char leader[MARATHON_SERVER_MAX];
    struct err err; /* why: with LOST and FAILED */
};

/* Asks `server`, as configured or as a redirect named it, and hands everything to `ingest` until
 * the end. Says CONNECTING and ATTACHED itself; BACKOFF is the caller's. */
void marathon_stream_run(const struct marathon_settings *settings, struct ingest *ingest,
                         struct marathon_place *place, const char *server,
                         struct marathon_outcome *out);

#endif
