/* client_own.h - a client whose start is its own: that of an id of another journal (resume.h),
 * where what is missing and what is skipped depends on the id; "all there is", where what was
 * pruned is no Gap; a time to come.
 *
 * It reads the journals for itself until each has shown whether something is missing at its start.
 * A block of a journal is memory, and reading one is work: those who do queue, and each turn of the
 * loop lets a few of them read one slice. From then on it is sent pages and the ring as the others
 * are, but frame by frame, as it may skip some; until it can skip no more. */
#ifndef BUSBAR_MIRROR_CLIENT_OWN_H
#define BUSBAR_MIRROR_CLIENT_OWN_H

#include "connectors/mirror/client.h"

/* Takes over the plan. */
void client_own_begin(struct client *c, const struct client_plan *plan);
void client_own_end(struct client *c); /* had none: fine */

/* Puts what fits; 0, or -1: the client has to go. It may have become one of the others. */
int client_own_read(struct client *c, struct out *out);

/* It shares by now: the next frame of the chunk that it wants, from its cursor on, or one before
 * which a Gap is due; n: there is none. Called again it says the same. It may have become one of
 * the others. */
size_t client_own_next(struct client *c, const struct chunk *chunk, const struct verdict *verdict);
bool client_own_owes_gap(const struct client *c);
/* Puts that; false where it has no room. */
bool client_own_put_gap(struct client *c, struct out *out);

/* There may be news for those who have all. */
void client_own_wake_all(struct clients *all);
void client_own_give_tickets(struct clients *all);
/* Lets go what one holds who takes nothing. */
void client_own_rest(struct client *c, int64_t now_ms);

#endif
