/* nomad_snapshot_alloc.c - allocations: listed in pages, read in full node by node.
 *
 * The listing has stubs only. A node's allocations come in full with one request, where one by one
 * 50,000 of them take as many. What is wanted is kept meanwhile, 96 bytes each. Where a node's
 * can't be had (a token that may not read nodes, an answer of more than 64 MiB) they are read one
 * by one, and so is what a node's answer lacks. */
#include "connectors/nomad/nomad_snapshot_read.h"

#include "bridge/base/buf.h"

#include <stdlib.h>
#include <string.h>

enum { ID_MAX = 44 };

struct wanted_alloc {
    char node[ID_MAX];
    char id[ID_MAX];
    bool done;
};

struct snapshot_wanted {
    struct wanted_alloc *allocs;
    size_t n, cap;
    /* The node being read. */
    struct wanted_alloc *group;
    size_t n_group;
    bool nodes_refused;
};

static void copy_id(char to[ID_MAX], struct str from)
{
    size_t n = from.len < ID_MAX ? from.len : 0;
    if (n > 0)
        memcpy(to, from.p, n);
    memset(to + n, 0, ID_MAX - n);
}

void snapshot_alloc_want(struct snapshot *s)
{
    if (s->wanted == NULL)
        s->wanted = mem_zalloc(sizeof *s->wanted);
    struct snapshot_wanted *w = s->wanted;
    if (w->n == w->cap) {
        w->cap = w->cap > 0 ? w->cap * 2 : 256;
        w->allocs = mem_realloc(w->allocs, w->cap * sizeof *w->allocs);
    }
    struct wanted_alloc *alloc = &w->allocs[w->n];
    copy_id(alloc->node, s->entry.node);
    copy_id(alloc->id, s->entry.event.key);
    alloc->done = false;
    if (alloc->id[0] == '\0')
        s->untold++; /* ids are UUIDs: this is none */
    else
        w->n++;
}

void snapshot_alloc_fini(struct snapshot *s)
{
    if (s->wanted == NULL)
        return;
    free(s->wanted->allocs);
    free(s->wanted);
    s->wanted = NULL;
}

static int compare(const void *a, const void *b)
{
    const struct wanted_alloc *x = a, *y = b;
    int node = memcmp(x->node, y->node, ID_MAX);
    return node != 0 ? node : memcmp(x->id, y->id, ID_MAX);
}

/* A listing that had to be read again has named some twice. */
static void sort(struct snapshot_wanted *w)
{
    size_t kept = 0;
    qsort(w->allocs, w->n, sizeof *w->allocs, compare);
    for (size_t i = 0; i < w->n; i++)
        if (kept == 0 || compare(&w->allocs[kept - 1], &w->allocs[i]) != 0)
            w->allocs[kept++] = w->allocs[i];
    w->n = kept;
}

static int take_one_of_node(void *arg, struct str raw, struct err *err)
{
    struct snapshot *s = arg;
    struct wanted_alloc key = {.done = false};
    if (snapshot_object_read(&s->object, s->topic, raw, err) != 0) {
        s->unreadable++;
        return 0;
    }
    copy_id(key.id, s->object.event.key);
    memcpy(key.node, s->wanted->group->node, ID_MAX);
    struct wanted_alloc *found =
        bsearch(&key, s->wanted->group, s->wanted->n_group, sizeof key, compare);
    if (found == NULL || found->done)
        return 0;
    found->done = true;
    return snapshot_tell(s, &s->object, err);
}

static int read_node(struct snapshot *s, struct err *err)
{
    struct snapshot_wanted *w = s->wanted;
    struct buf path = {0};
    buf_append_cstr(&path, "/v1/node/");
    http_url_encode(&path, w->group->node);
    buf_append_cstr(&path, "/allocations");
    int rc = snapshot_http_get(&s->http, buf_cstr(&path), NULL, &s->answer, err);
    if (rc == 0 && snapshot_answer_is_denied(&s->answer))
        w->nodes_refused = true;
    else if (rc == 0 && s->answer.status == 200 && !s->answer.too_long) {
        rc = snapshot_list_walk(buf_str(&s->answer.body), take_one_of_node, s, err);
        if (rc != 0)
            err_wrap(err, "%s", buf_cstr(&path));
    }
    buf_fini(&path);
    return rc;
}

static int read_group(struct snapshot *s, struct err *err)
{
    struct snapshot_wanted *w = s->wanted;
    bool worth_it = w->n_group > 1 && w->group->node[0] != '\0' && !w->nodes_refused;
    if (worth_it && read_node(s, err) != 0)
        return -1;
    for (size_t i = 0; i < w->n_group; i++)
        if (!w->group[i].done && snapshot_read_one(s, str_from(w->group[i].id), STR(""), err) != 0)
            return -1;
    return 0;
}

int snapshot_alloc_read(struct snapshot *s, struct err *err)
{
    struct snapshot_wanted *w = s->wanted;
    if (w == NULL)
        return 0;
    sort(w);
    for (size_t i = 0; i < w->n; i += w->n_group) {
        w->group = &w->allocs[i];
        for (w->n_group = 1; i + w->n_group < w->n; w->n_group++)
            if (memcmp(w->group->node, w->group[w->n_group].node, ID_MAX) != 0)
                break;
        if (read_group(s, err) != 0)
            return -1;
    }
    return 0;
}
