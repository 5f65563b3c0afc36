/* nomad_refusal.h - puts into words why a server did not give its stream, and what to do about it.
 */
#ifndef BUSBAR_CONNECTORS_NOMAD_REFUSAL_H
#define BUSBAR_CONNECTORS_NOMAD_REFUSAL_H

#include "connectors/http_stream.h"
#include "connectors/nomad/nomad.h"

/* All set `err` (ERR_RETRY: what is wrong may be put right at the server) and return -1. */

/* An answer other than 200. `text`: its body, or the beginning of it. */
int nomad_refusal_status(const struct nomad_settings *settings, int status, const char *location,
                         struct str text, struct err *err);
/* A 200 whose first line is not one of Nomad's. */
int nomad_refusal_not_nomad(struct str text, struct err *err);
/* A 200 with an empty body and a close: how the newest Nomad refuses everything. Asks
 * /v1/acl/token/self and /v1/agent/self of that server which refusal it is; takes up to some
 * seconds. */
int nomad_refusal_empty(const struct nomad_settings *settings, const char *server,
                        struct stop *stop, struct err *err);
/* A stream that ended by plain text: Nomad's way to tell an error once the 200 is out. */
int nomad_refusal_last_words(struct str text, struct err *err);

#endif
