/* replay_internal.h - what replay.c shares with the readers of its formats. */
#ifndef BUSBAR_CONNECTORS_REPLAY_REPLAY_INTERNAL_H
#define BUSBAR_CONNECTORS_REPLAY_REPLAY_INTERNAL_H

#include "connectors/marathon_event.h"
#include "connectors/ndjson.h"
#include "connectors/nomad_line.h"
#include "connectors/replay/replay.h"
#include "connectors/sse.h"

struct replay;

/* Each returns 0 to go on, 1 where stopped, -1 with err. */
struct replay_format {
    void (*begin)(struct replay *self); /* finds out where to go on */
    int (*take)(struct replay *self, struct str piece, struct err *err);
    int (*end)(struct replay *self, struct err *err); /* of the file */
};
extern const struct replay_format replay_nomad, replay_marathon;

/* One run through the file. */
struct replay {
    const struct replay_settings *settings;
    const struct replay_format *format;
    struct ingest *ingest;
    struct stop *stop;
    int fd;
    char *piece;
    int64_t started_us;
    uint64_t paced; /* events told since then */
    uint64_t n;     /* lines (nomad) or events (marathon) read so far */
    bool valid;     /* one of the format was seen */

    /* nomad */
    struct ndjson lines;
    struct nomad_line line;
    uint64_t from; /* messages before this index are passed over */

    /* marathon */
    struct sse frames;
    struct marathon_event event;
    uint64_t told; /* so many events were told by earlier runs */
    bool text;     /* the file holds more than line breaks */
};

/* Waits until the next n events are due, the journal written before; 1 where stopped. */
int replay_pace(struct replay *self, size_t n, struct err *err);

#endif
