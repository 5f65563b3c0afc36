/* redact.h - replaces values in an event's bytes by "[redacted]", for one exit; see redact_path.h
 * for how they are named.
 *
 * A path selects values, as RFC 9535 says; each one selected, of whatever type (null too), becomes
 * the JSON string "[redacted]". All other bytes stay as they are: nothing is decoded and encoded
 * again, names twice in one object are both replaced, numbers keep their digits. What a path
 * selects inside of a value that is replaced goes with it.
 *
 * Linear in the bytes, constant memory besides the result, no recursion. Values that no path can
 * reach are passed over without being looked into.
 *
 * It fails closed: bytes that are no JSON text become "[redacted]" as a whole (a source's events
 * were validated when they came, so none do), and so does, where a path could reach into it, what
 * nests deeper than 512. */
#ifndef BUSBAR_REDACT_H
#define BUSBAR_REDACT_H

#include <stdbool.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/event.h"
#include "config/settings.h"

enum {
    /* Of all paths together; a beginning that several share counts once. */
    REDACT_STEPS_MAX = 64,
};

/* What must not leave by one exit; immutable, so any thread may use it. */
struct redact;

/* NULL in *out for an empty list. ERR_INPUT: a path that can't be read, or too many steps: "what
 * was found: what was expected". */
int redact_new(struct redact **out, const struct setting_list *paths, struct err *err);
void redact_free(struct redact **redact);

/* True where something was replaced: `out` then holds the new bytes (what was in it is gone).
 * False: `data` is to be used as it is. `redact` may be NULL: nothing to do. At worst (single
 * digits that are all replaced) the result is seven times as long. */
bool redact_apply(const struct redact *redact, struct str data, struct buf *out);

/* The same for an event's data. In a Malformed event the raw bytes go too, since no path can say
 * what is secret in them. What else Busbar says itself (Gap, Rejected, …) stays as it is: it holds
 * nothing of a payload. */
bool redact_event(const struct redact *redact, const struct event *event, struct buf *out);

/* A row's check for lists of paths: what was expected, or NULL. */
const char *redact_check_path(const char *text);

#endif
