/* nomad_namespaces.h - which namespaces a subscription to all of them does not cover yet.
 *
 * Nomad 1.5 takes `namespace=*` as it is; later ones (1.9.6 and up; nomad/event_endpoint.go,
 * validateACL) expand it once, when the subscription begins: a namespace created later is not told
 * until the next subscription. So the list (GET /v1/namespaces, Nomad's HTTP API documentation,
 * "Namespaces") is looked at before each subscription, and watched while it stands. */
#ifndef BUSBAR_CONNECTORS_NOMAD_NAMESPACES_H
#define BUSBAR_CONNECTORS_NOMAD_NAMESPACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/source.h"
#include "connectors/nomad/nomad.h"

enum {
    NOMAD_SETTLE_MS = 3000, /* by then the server that tells the stream knows a namespace too */
    NOMAD_YOUNG_INDEXES = 1024,
};

struct http_stream;

struct nomad_namespace {
    struct buf name;
    uint64_t created; /* its CreateIndex */
    /* of a fresh one */
    int64_t noticed_ms; /* the subscription has to begin after this, */
    bool told;          /* and either tells events of it or begins NOMAD_SETTLE_MS later */
    bool is_young;      /* not seen to come: was there at the first look */
    bool missed;        /* some of it: told */
};

/* Outlives connections. All zero is a good start; one thread. */
struct nomad_namespaces {
    const struct nomad_settings *settings;
    struct ingest *ingest;
    const char *server;
    struct nomad_namespace *known; /* as last listed */
    size_t n_known;
    struct nomad_namespace *fresh; /* created, and not known to be told yet */
    size_t n_fresh;
    bool is_known;
    uint64_t index;   /* the list's X-Nomad-Index */
    int64_t began_ms; /* when the present subscription began */
    /* the question under way */
    struct http_stream *question;
    struct buf body;
    int64_t asked_ms, ask_at_ms, polled_ms;
    bool refusal_told;
};

void nomad_namespaces_fini(struct nomad_namespaces *ns);

/* Before a subscription to `server` begins: takes its list as it is now, so that whatever is not on
 * it can be noticed later. Takes a second at most; without an answer the list is known later.
 * `newest`: the index that all before it was told up to; 0: nothing was. Where the process has just
 * begun, those created within NOMAD_YOUNG_INDEXES before it count as fresh: the last process may
 * have ended before it noticed them. */
void nomad_namespaces_look(struct nomad_namespaces *ns, const struct nomad_settings *settings,
                           struct ingest *ingest, const char *server, uint64_t newest);
/* While the stream stands, some times a second: goes on watching, without waiting. True where a
 * namespace asks for another subscription. `caught_up`: this one has told all that was known when
 * it began. */
bool nomad_namespaces_poll(struct nomad_namespaces *ns, bool caught_up, uint64_t newest);
/* The stream is over: ends the question under way. */
void nomad_namespaces_rest(struct nomad_namespaces *ns);

/* The index that the first fresh one was created at: the next subscription has to begin before it.
 * UINT64_MAX: none is fresh. */
uint64_t nomad_namespaces_created(const struct nomad_namespaces *ns);
/* Does the event come late, its namespace being fresh? `begins_at`: the first index that this
 * subscription told; one that begins behind the namespace's creation may lack something. Notes that
 * the subscription covers the namespace. */
enum found_late nomad_namespaces_judge(struct nomad_namespaces *ns, const struct found_event *event,
                                       uint64_t begins_at);
/* This subscription begins at `begins_at`: where that is behind the creation of a namespace that
 * was seen to come, something of it may be missing. Returns when the first such one was created,
 * once for each; 0: there is none. */
uint64_t nomad_namespaces_missed(struct nomad_namespaces *ns, uint64_t begins_at);
/* None is fresh any more: the index has started over. */
void nomad_namespaces_forget(struct nomad_namespaces *ns);

/* The pure part: takes a list, `text`, as Nomad's JSON, at its index. ERR_INPUT where it is none.
 */
int nomad_namespaces_take(struct nomad_namespaces *ns, struct str text, uint64_t index,
                          uint64_t newest, struct err *err);

#endif
