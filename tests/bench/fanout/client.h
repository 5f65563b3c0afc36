/* client.h - one reader of a stream: connects, asks, takes apart what comes, checks that nothing is
 * missing. One thread. */
#ifndef BUSBAR_FANOUT_CLIENT_H
#define BUSBAR_FANOUT_CLIENT_H

#include "bridge/base/buf.h"
#include "tests/bench/fanout/tally.h"
#include "tests/bench/fanout/tls.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum client_state {
    CLIENT_WAITING, /* for its turn, or to come back */
    CLIENT_CONNECTING,
    CLIENT_SHAKING, /* TLS hands */
    CLIENT_ASKING,  /* the request is out */
    CLIENT_STREAM,
    CLIENT_DEAD, /* has asked, reads nothing */
    CLIENT_OVER,
};

enum client_kind {
    CLIENT_NORMAL,
    CLIENT_SLOW, /* reads CLIENT_SLOW_BYTES whenever it is told to */
    CLIENT_STOPS,
    CLIENT_NEVER_READS,
};

enum { CLIENT_ID_MAX = 96, CLIENT_SLOW_BYTES = 256 };

struct client {
    int fd;
    enum client_state state;
    enum client_kind kind;
    bool halted;       /* has stopped reading for now */
    bool caught;       /* up: its events are not late */
    bool knows_number; /* last_number is one */
    bool reading_gap;
    bool own_event;  /* of the server's own: no event of a source */
    unsigned group;  /* which of the queries */
    int64_t wish_us; /* when it wanted to be connected: its start, or the end of its last stream */
    int64_t due_us;  /* when it may try */
    uint64_t last_number;
    uint64_t count;
    uint64_t hash; /* sum over the numbers' hashes: equal for equal sets */
    struct tls_session *tls;
    char *rest; /* an unfinished line */
    size_t rest_len;
    char new_id[CLIENT_ID_MAX]; /* of the frame under way */
    char id[CLIENT_ID_MAX];     /* of the last whole frame */
};

struct client_plan {
    struct sockaddr_in server;
    unsigned addresses; /* 127.0.0.1 to 127.0.0.so many, in turn */
    int receive_buffer; /* 0: the kernel's */
    bool tls;
    bool keeps_ids;
    bool consecutive; /* numbers have to be */
    int64_t late_us;  /* an event older than that is not live */
    const char *host;
    const char *path;
    const char *query;  /* with %u for the group, or NULL */
    const char *header; /* one more, or NULL */
};

enum client_step {
    CLIENT_GOES_ON,
    CLIENT_ATTACHED, /* the answer's head came with this step */
    CLIENT_ENDED,    /* client_close is due */
};

/* Opens a socket and begins to connect; `number` chooses its address. False where there is none. */
bool client_connect(struct client *c, const struct client_plan *plan, size_t number);
/* The socket is ready: does what there is to do. `scratch` is shared by all. */
enum client_step client_step(struct client *c, const struct client_plan *plan, struct tally *tally,
                             struct buf *scratch);
/* Without a word (RST), so that ten thousand of them leave no TIME_WAIT. */
void client_close(struct client *c);

#endif
