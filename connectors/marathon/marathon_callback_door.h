/* marathon_callback_door.h - where Marathon's calls come in: listens, lets in what is posted to the
 * callback's URL, and hands it on.
 *
 * One thread: that of callback_door_run. Limits: a body has at most CALLBACK_BODY_MAX bytes, there
 * are at most CALLBACK_CONNECTIONS_MAX connections, and a request has to be whole within
 * CALLBACK_REQUEST_S. What is not for the callback's URL gets 404, its body is not read. */
#ifndef BUSBAR_CONNECTORS_MARATHON_CALLBACK_DOOR_H
#define BUSBAR_CONNECTORS_MARATHON_CALLBACK_DOOR_H

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/base/stop.h"

enum {
    CALLBACK_BODY_MAX = 32 * 1024 * 1024,
    CALLBACK_CONNECTIONS_MAX = 1024,
    CALLBACK_REQUEST_S = 10, /* what is slower, Marathon itself counts as failed */
};

struct callback_door;

struct callback_door_options {
    const char *listen, *url; /* need not outlive the call */
    /* One call. Returns the status to answer by. Everybody waits meanwhile. */
    unsigned (*called)(void *arg, struct str body);
    /* One that is refused because of its size, in bytes. */
    void (*oversized)(void *arg, uint64_t size);
    /* Before each turn of the loop; returns in how many ms at the latest it wants the next. */
    int (*turn)(void *arg);
    void *arg;
};

/* Binds and listens; calls wait until callback_door_run. ERR_FATAL where it can't. */
int callback_door_open(struct callback_door **out, const struct callback_door_options *options,
                       struct err *err);
/* IP:PORT, with the real port. */
const char *callback_door_address(const struct callback_door *door);
void callback_door_run(struct callback_door *door, struct stop *stop);
void callback_door_close(struct callback_door **door); /* NULL inside is fine */

#endif
