/* nomad_snapshot_http.h - one question after another to Nomad's HTTP API, over one connection, as
 * fast as whoever asks may: a resync, or the blocking queries. */
#ifndef BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_HTTP_H
#define BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "connectors/http_stream.h"
#include "connectors/nomad/nomad.h"

enum {
    SNAPSHOT_BODY_MAX = 64 * 1024 * 1024,
    SNAPSHOT_TOKEN_MAX = 16 * 1024,
    SNAPSHOT_SILENCE_MS = 30000, /* for an answer to begin, and between its pieces */
    SNAPSHOT_PATIENCE = 3,       /* so often is an answer 500 tried again */
};

/* What outlives one attempt: an answer 500 is mostly a server in trouble, but may be all that Nomad
 * ever says to one question. Then the resync goes on without. */
struct snapshot_trouble {
    uint64_t path;  /* hash */
    unsigned times; /* in a row */
};

/* Who asks. */
struct snapshot_asker {
    struct stop *stop;
    /* Before each question: waits for its turn. False where it is time to stop. NULL: no waiting.
     */
    bool (*may_ask)(void *arg);
    void *arg;
};

struct snapshot_http {
    const struct nomad_settings *settings;
    struct snapshot_asker asker;
    const char *server; /* as configured */
    struct snapshot_trouble *trouble;
    struct http_session *session;
    int silence_ms;  /* SNAPSHOT_SILENCE_MS, unless set otherwise */
    uint64_t newest; /* the largest index that a listing told: all that is read later is no older */
    bool stopped;    /* may_ask said so: every question fails from then on */
};

/* Used again for answer after answer; all zero is a good start. */
struct snapshot_answer {
    int status;
    bool too_long;   /* a 200 of more than SNAPSHOT_BODY_MAX: `body` is empty */
    struct buf body; /* of an answer other than 200 at most HTTP_REFUSAL_MAX */
    bool has_index;
    uint64_t index;        /* X-Nomad-Index; 0: none */
    struct buf next_token; /* X-Nomad-NextToken; empty: none */
};

void snapshot_http_init(struct snapshot_http *http, const struct nomad_settings *settings,
                        const struct snapshot_asker *asker, const char *server,
                        struct snapshot_trouble *trouble);
void snapshot_http_fini(struct snapshot_http *http);
void snapshot_answer_fini(struct snapshot_answer *answer);

/* Asks for `path` with `query` (encoded; NULL: none). 0: whatever the server said that asking again
 * won't change: 200, a refusal, or a 500 said SNAPSHOT_PATIENCE times. -1, ERR_RETRY: "PATH: why",
 * or stopped. */
int snapshot_http_get(struct snapshot_http *http, const char *path, const char *query,
                      struct snapshot_answer *answer, struct err *err);

/* "403: Permission denied", for a log. */
void snapshot_answer_describe(struct snapshot_answer *answer, char *out, size_t size);
/* The token may not, as opposed to: there is no such thing. */
bool snapshot_answer_is_denied(const struct snapshot_answer *answer);

#endif
