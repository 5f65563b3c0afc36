/* marathon_page.h - the paths of Marathon's HTTP API that the mirror answers as a Marathon does:
 *
 *     /v2/events     whole (1.11, as seen on the wire; the servlet's source for the rest)
 *
 * and the same below /sources/NAME. Without a name they are those of the one Marathon there is. */
#ifndef BUSBAR_MIRROR_MARATHON_PAGE_H
#define BUSBAR_MIRROR_MARATHON_PAGE_H

#include "connectors/mirror/routes.h"

routes_page marathon_page_events;

/* ---- for the other pages of Marathon's ---- */

/* False where the request has been answered, by 401. */
bool marathon_page_may_ask(const struct routes *r, const struct http_request *request,
                           struct http_answer *answer);
/* Which source is asked, in *source; false where the request has been answered. */
bool marathon_page_choose(const struct routes *r, struct str name, struct http_answer *answer,
                          size_t *source);
/* The peer's address as Java writes it: IPv6 in full, IPv4 within it as IPv4. */
enum { MARATHON_ADDRESS_MAX = 48 };
void marathon_page_address(const struct http_request *request, char out[MARATHON_ADDRESS_MAX]);
/* A refusal: its text, not the page of HTML that Jetty makes of it. */
void marathon_page_refuse(struct http_answer *answer, unsigned status, const char *text);
/* The headers that each of Marathon's answers has. */
void marathon_page_headers(const struct http_request *request, struct http_answer *answer);

#endif
