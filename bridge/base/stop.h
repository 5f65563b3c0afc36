/* stop.h - how a thread is told to end: a flag that can be waited on together with sockets. */
#ifndef BUSBAR_BASE_STOP_H
#define BUSBAR_BASE_STOP_H

#include <stdbool.h>

struct stop;

struct stop *stop_new(void);
void stop_free(struct stop **stop);
/* Any thread; may be called more than once. Not from a signal handler. */
void stop_request(struct stop *stop);
bool stop_requested(const struct stop *stop);
/* Sleeps; true at once when stopping, false after the time. */
bool stop_wait(struct stop *stop, int timeout_ms);
/* Readable (POLLIN) from the request on; never read from it. */
int stop_fd(const struct stop *stop);

#endif
