/* marathon_callback_keeper.h - keeps the callback registered at a Marathon, and finds out when
 * events may have been missed.
 *
 * It is registered where it isn't in the list of subscribers; a registration of its own that is
 * there already is used. In both cases Marathon has to prove that it calls: registered once more it
 * tells every subscriber subscribe_event, so that a call comes at once. Where none comes Marathon
 * backs off (it skips a subscriber that failed for 2, 4, 8 … seconds, and nothing tells), or does
 * not reach the callback's URL. A registration that is taken back and made anew ends a backoff.
 *
 * One thread, nothing blocks: keeper_turn is called again and again. */
#ifndef BUSBAR_CONNECTORS_MARATHON_CALLBACK_KEEPER_H
#define BUSBAR_CONNECTORS_MARATHON_CALLBACK_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "connectors/marathon/marathon.h"

struct keeper;

struct keeper_options {
    const struct marathon_settings *settings;
    const char *source; /* its name, for logs */
    /* All from within keeper_turn. `server` as logs may show it. */
    void (*asking)(void *arg, const char *server);
    /* From here on events may be missed, until the next call that Marathon makes. */
    void (*lost)(void *arg, const char *server, const char *why);
    /* Events may have been missed; it calls. */
    void (*missed)(void *arg, const char *why);
    /* The list was read, and has the callback. */
    void (*checked)(void *arg);
    void *arg;
};

struct keeper *keeper_new(const struct keeper_options *options);
void keeper_free(struct keeper **keeper); /* NULL inside is fine */

/* Does what is due, returns in how many ms at the latest it wants its next turn. */
int keeper_turn(struct keeper *keeper);
/* Marathon has called. */
void keeper_heard(struct keeper *keeper);
/* It was just registered anew, and a call may still be one of the registration before: what was
 * told between the two reached nobody. Until the call that tells of the new one. */
bool keeper_is_unsure(const struct keeper *keeper);
void keeper_registration_told(struct keeper *keeper);
/* Something went wrong here for which Marathon backs off: a call that was refused, or answered too
 * late. */
void keeper_suspect(struct keeper *keeper);
/* Look at once who leads; a change of leader that is found by that was told already. */
void keeper_leader_told(struct keeper *keeper);
/* Takes the registration back, within keeper_turn, for at most two seconds. */
void keeper_leave(struct keeper *keeper);
bool keeper_has_left(const struct keeper *keeper);
/* Whom it asks: as logs may show it, and as it is configured. */
const char *keeper_label(const struct keeper *keeper);
const char *keeper_server(const struct keeper *keeper);

#endif
