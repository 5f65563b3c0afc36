/* marathon_callback_answer.h - what Marathon's answers say of the callback. Pure. */
#ifndef BUSBAR_CONNECTORS_MARATHON_CALLBACK_ANSWER_H
#define BUSBAR_CONNECTORS_MARATHON_CALLBACK_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"

/* Of GET /v2/eventSubscriptions: {"callbackUrls":[…]}. */
struct callback_list {
    size_t n;
    bool listed; /* `url` is among them */
};

/* -1, ERR_RETRY: it is no such list. */
int callback_answer_list(struct str body, const char *url, struct callback_list *out,
                         struct err *err);

enum { CALLBACK_LEADER_MAX = 256 };

/* Of GET /v2/leader: {"leader":"HOST:PORT"}; "" where it says nothing. */
void callback_answer_leader(struct str body, char out[CALLBACK_LEADER_MAX]);

/* Of GET /metrics, which every master has the leader answer: how many calls failed, and how many
 * events were not told to a callback because it failed before, of all callbacks together since the
 * leader's process was started (1.4: core/event/impl/callback/HttpEventActor.scala, the meters
 * failed-callbacks and skipped-callbacks). False where they don't stand there. */
bool callback_answer_losses(struct str body, uint64_t *losses);

#endif
