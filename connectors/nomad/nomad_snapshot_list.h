/* nomad_snapshot_list.h - a listing of Nomad's HTTP API, page by page, to its end. */
#ifndef BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_LIST_H
#define BUSBAR_CONNECTORS_NOMAD_SNAPSHOT_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "connectors/nomad/nomad_snapshot_http.h"
#include "connectors/nomad/nomad_snapshot_topic.h"

enum {
    SNAPSHOT_PER_PAGE = 500,
    SNAPSHOT_PAGES_MAX = 1000 * 1000,
    SNAPSHOT_NAMESPACES_MAX = 100 * 1000,
};

/* What namespaces there are for this token; all zero: not asked yet. */
struct snapshot_namespaces {
    bool known; /* else: not to be had, every namespace passes */
    struct buf *names;
    size_t n;
};

int snapshot_namespaces_read(struct snapshot_namespaces *namespaces, struct snapshot_http *http,
                             struct err *err);
void snapshot_namespaces_fini(struct snapshot_namespaces *namespaces);
bool snapshot_namespaces_have(const struct snapshot_namespaces *namespaces, struct str ns);

struct snapshot_list {
    struct snapshot_http *http;
    const struct snapshot_topic *topic;
    const struct snapshot_namespaces *namespaces;
    /* Each entry, in no order that can be relied on; now and then one twice. May ask questions of
     * its own. -1 ends the listing. */
    int (*take)(void *arg, struct str entry, struct err *err);
    /* Before its entries: how many a page has (http->newest is known by then). May be NULL. */
    void (*expect)(void *arg, size_t n);
    void *arg;

    /* The result. */
    bool refused; /* `said` tells what the server said */
    bool denied;
    bool broken;    /* it turns in a circle: not all was listed */
    uint64_t index; /* the smallest X-Nomad-Index: all that existed then was listed; 0: none */
    char said[128];
};

/* -1: ERR_RETRY, or what `take` said. */
int snapshot_list_read(struct snapshot_list *list, struct err *err);
/* One answer that is a listing of its own (of a topic that has several): `path` and `query`, paged.
 */
int snapshot_list_read_path(struct snapshot_list *list, const char *path, const char *query,
                            struct err *err);

/* Calls `take` for each element of a JSON array; null, and nothing at all, stand for an empty one.
 * ERR_RETRY: not such an array; nothing was taken then. */
int snapshot_list_walk(struct str body, int (*take)(void *arg, struct str entry, struct err *err),
                       void *arg, struct err *err);

#endif
