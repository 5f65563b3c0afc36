/* redis_error.h - what an error reply of Redis means for the sink, and what to do about it. */
#ifndef BUSBAR_REDIS_ERROR_H
#define BUSBAR_REDIS_ERROR_H

#include <stdbool.h>

#include "bridge/base/err.h"
#include "bridge/sink.h"

/* The result for publish, with `err` as told by Redis plus the remedy where one is known. In all of
 * these nothing was written: Redis refuses a script before its first write or not at all.
 * SINK_RETRY: Redis cannot now; SINK_UNKNOWN: this connection is of no use; SINK_FATAL: an operator
 * has to act (also for every error that is not known). */
enum sink_result redis_error(const char *text, struct err *err);

bool redis_error_is(const char *text, const char *code); /* "NOSCRIPT", "MOVED" */

/* "MOVED SLOT HOST:PORT" (Redis Cluster specification): fills host (empty: the same host as before)
 * and port; false where it is not one. */
bool redis_error_moved(const char *text, char *host, size_t size, int *port);

#endif
