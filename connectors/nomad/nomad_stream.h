/* nomad_stream.h - one connection to one server's event stream, from asking to its end. */
#ifndef BUSBAR_CONNECTORS_NOMAD_STREAM_H
#define BUSBAR_CONNECTORS_NOMAD_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/source.h"
#include "connectors/nomad/nomad.h"
#include "connectors/nomad/nomad_namespaces.h"

enum { NOMAD_TOLD_MAX = 1024 };

/* What outlives a connection. */
struct nomad_memory {
    /* start now: everything up to now_index is older than the start. Learned from the first
     * connection that got through; void once ingest knows where to go on. */
    bool now_known;
    uint64_t now_index;
    uint64_t newest;  /* the largest index of all lines seen by this process in this epoch */
    size_t searched;  /* servers asked in a row since one's buffer began too late; 0: none has */
    bool from_oldest; /* the index has started over: ask for all there is, until something came */
    struct nomad_namespaces namespaces;
    uint64_t told[NOMAD_TOLD_MAX]; /* a ring of the newest indexes told to ingest */
    size_t n_told;
    bool again; /* the stream was ended to be asked for anew: of the same server, at once */
};

void nomad_memory_fini(struct nomad_memory *memory);

enum nomad_end {
    NOMAD_LOST,    /* not connected, refused, silent or broken off: another try may help */
    NOMAD_STOPPED, /* ingest_stop was requested */
    NOMAD_FAILED,  /* ingest can't take any more */
};

struct nomad_outcome {
    enum nomad_end end;
    bool fruitful;  /* brought a newer index, stood for 10 s, or asks for another one: the next try
                       need not wait */
    struct err err; /* why: with LOST and FAILED */
};

/* Connects to `server` (as configured; `label` is its name in logs), hands everything to `ingest`
 * until the end. Says SOURCE_ATTACHED itself, the other states are the caller's. */
void nomad_stream_run(const struct nomad_settings *settings, struct ingest *ingest,
                      const char *server, struct nomad_memory *memory, struct nomad_outcome *out);

#endif
