/* nomad_query.h - what a GET /v1/event/stream asks for, read as Nomad 1.5.0 reads it
 * (command/agent/event_endpoint.go, http.go), down to the words of its refusals. */
#ifndef BUSBAR_MIRROR_NOMAD_QUERY_H
#define BUSBAR_MIRROR_NOMAD_QUERY_H

#include <stdbool.h>
#include <stdint.h>

#include "connectors/http_server.h"
#include "connectors/mirror/groups.h"

struct nomad_query {
    uint64_t index; /* 0: what Nomad's buffer would hold */
    /* `Topic:key` matches Key and FilterKeys; events that belong to no namespace always pass. */
    struct wanted wanted;
    char *region; /* NULL: none was named */
};

/* 0, or the status of a refusal, whose whole answer is filled in; the query is empty then. Of a
 * parameter that comes several times the first counts, as in Nomad, but for `topic`. What Nomad
 * does not know is passed over. */
unsigned nomad_query_read(struct nomad_query *query, const struct http_request *request,
                          struct http_answer *answer);
void nomad_query_fini(struct nomad_query *query);

/* Nomad's refusal of a request that it understood: JSON by its head, text by its body. */
void nomad_query_refuse(struct http_answer *answer, unsigned status, const char *text);

#endif
