/* credentials.h - who may ask: those who show the mirror's token. */
#ifndef BUSBAR_MIRROR_CREDENTIALS_H
#define BUSBAR_MIRROR_CREDENTIALS_H

#include "connectors/http_server.h"

/* Whether the Authorization header shows the token, in one of the forms in which clients can:
 *
 *     Bearer TOKEN          RFC 6750, section 2.1
 *     token=TOKEN           DC/OS's
 *     Basic USER:TOKEN      RFC 7617, in base64; whoever the user is
 *
 * the scheme in any case (RFC 9110, section 11.1). `token` NULL: everybody may. */
bool credentials_are_right(const struct http_request *request, const char *token);

/* Takes the same time wherever they differ. */
bool credentials_are_same(struct str given, const char *wanted);

#endif
