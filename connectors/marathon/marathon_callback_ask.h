/* marathon_callback_ask.h - one short question to a Marathon that nobody waits for: it is looked
 * after from time to time, because the same thread has to take Marathon's calls meanwhile. */
#ifndef BUSBAR_CONNECTORS_MARATHON_CALLBACK_ASK_H
#define BUSBAR_CONNECTORS_MARATHON_CALLBACK_ASK_H

#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "connectors/marathon/marathon.h"

enum { CALLBACK_ANSWER_MAX = 1024 * 1024 }; /* bytes of an answer's body */

struct http_stream;

struct callback_ask {
    const struct marathon_settings *settings;
    struct http_stream *http; /* NULL: nothing is asked */
    const char *server;       /* one of the settings' */
    struct buf body;          /* of the answer */
    int64_t until_ms;
};

enum callback_answer {
    CALLBACK_ASKING,  /* look again in some ms */
    CALLBACK_SAID,    /* 2xx; the body is there until the next question */
    CALLBACK_REFUSED, /* err says by what, and what to do */
    CALLBACK_FAILED,  /* no answer; err says why */
};

/* `path` from its "/" on; one question at a time. It fails after timeout_ms. */
void callback_ask_open(struct callback_ask *ask, const char *server, const char *method,
                       const char *path, int64_t timeout_ms);
/* Never waits. After anything but CALLBACK_ASKING the question is closed. */
enum callback_answer callback_ask_poll(struct callback_ask *ask, struct err *err);
void callback_ask_close(struct callback_ask *ask); /* the question, where there is one */
void callback_ask_fini(struct callback_ask *ask);

#endif
