/* follower.h - one streaming client of an orchestrator's own stream, for followers.c and
 * followers_turn.c only. */
#ifndef BUSBAR_MIRROR_FOLLOWER_H
#define BUSBAR_MIRROR_FOLLOWER_H

#include "connectors/mirror/followers.h"
#include "connectors/mirror/list.h"

enum { FOLLOWERS_PAUSE_MS = 1000 };

/* The fields that a pass over thousands looks at come first. */
struct follower {
    struct followers *all;
    struct http_stream *stream;
    struct crowd *crowd;
    struct follower *in_crowd, *before; /* the list of its crowd */
    bool used;
    bool asleep;         /* has all */
    bool placed;         /* has had what it began with at hand: its lag counts */
    bool cut;            /* its last words come next … */
    bool over;           /* … or did */
    uint64_t next_seq;   /* of what comes next */
    size_t offset;       /* of the line there, so much is out */
    int64_t beat_ms;     /* the next beat is due then … */
    int64_t beats_ms;    /* … and so often */
    int64_t last_us;     /* when the last that it passed arrived */
    int64_t behind_ms;   /* since when it has not had all */
    int64_t allow_ms;    /* so long it may not, and so far it may be behind */
    uint64_t told_index; /* of the last line it has … */
    uint32_t told_epoch;
    const struct follower_kind *kind;
    void *client;             /* the kind's own */
    struct list_item waiting; /* for a sheet, or to look for its place */
    struct seek *seek;        /* looks for its place; NULL: found */
    struct seek_start start;  /* passes over what lies before it */
    struct follower *free;
};

/* A source that is followed. */
struct followed {
    size_t followers;
    struct journal_reader *reader; /* NULL: it is not */
    uint64_t seq;                  /* was read up to here … */
    int64_t newest_us;             /* … which arrived then */
    uint32_t epoch;
    bool failed; /* the journal can't be read: told once */
};

struct followers {
    struct followers_options o;
    struct follower *slots; /* one array: see http_server.c */
    size_t used;            /* slots from here on were never used */
    size_t count;
    struct follower *free;
    struct groups *groups;
    struct sheets sheets;
    struct followed *followed; /* each source */
    struct list queue;
    bool nudged;
    int64_t now_ms;             /* of this turn */
    int64_t pause_ms;           /* between two turns at most */
    int64_t kept_ms;            /* when housekeeping was last done */
    const struct sheet *looked; /* what follower_look gave, and from which line on */
    size_t looked_line;
};

/* What else it has to tell before that seq; empty: nothing. */
struct str follower_aside(const struct follower *c, uint64_t seq);
bool follower_beat_due(const struct follower *c);
struct followed *follower_source(const struct follower *c);
/* How far it is behind the newest. */
int64_t follower_lag_ms(const struct follower *c);
/* Counts it, and says so; its last words come next. */
void follower_note_cut(struct follower *c, enum cut_reason reason);

#endif
