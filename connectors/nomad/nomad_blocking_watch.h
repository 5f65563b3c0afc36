/* nomad_blocking_watch.h - long polls, one thread and one connection for each table: they say that
 * something changed, no more. */
#ifndef BUSBAR_CONNECTORS_NOMAD_BLOCKING_WATCH_H
#define BUSBAR_CONNECTORS_NOMAD_BLOCKING_WATCH_H

#include "bridge/base/err.h"
#include "connectors/nomad/nomad_blocking_table.h"

struct blocking_watch;

/* Begins to ask `server` for each readable table, from its `seen` on. `tables` is read by the calls
 * below only. */
struct blocking_watch *blocking_watch_start(const struct nomad_settings *settings,
                                            const char *server, struct blocking_table *tables,
                                            size_t n);
void blocking_watch_stop(struct blocking_watch **watch); /* NULL inside is fine */

/* Waits until a table changed, at most timeout_ms; raises `seen` of those that did: they are not
 * asked for again before blocking_watch_resume. 1: something changed; 0: nothing; -1, ERR_RETRY:
 * one can't be watched any more, or an index went back (then all have to be asked anew). */
int blocking_watch_wait(struct blocking_watch *watch, int timeout_ms, struct err *err);
/* What changed was read: asks again, from `seen` on, which it raises for what changed meanwhile.
 * Returns how many questions that is. */
size_t blocking_watch_resume(struct blocking_watch *watch);
/* When any of them had an answer last, monotonic. */
int64_t blocking_watch_heard_ms(struct blocking_watch *watch);

#endif
