/* nomad_snapshot_list.c - a listing of Nomad's HTTP API, page by page, to its end.
 *
 * Nomad's pages can't be trusted to end. A page begins at the first object whose token is, as text,
 * not less than next_token; tokens are CREATEINDEX.ID or NAMESPACE.ID, but the objects come in the
 * order of numbers, or of namespaces. So with create indexes of 99 and 100, or namespaces `a` and
 * `a-b`, a page can begin far before where the last one ended, and the same token come again, for
 * ever (1.5.0: nomad/state/paginator). It never begins behind, so nothing is left out: a token that
 * came before is all that has to be looked for. Then the listing is taken apart, until each piece
 * is in the order of its tokens: namespace by namespace, and where the keys are UUIDs by their
 * first two digits (with a prefix, tokens are the ids alone). */
#include "connectors/nomad/nomad_snapshot_list.h"

#include "bridge/base/hash.h"
#include "bridge/base/map.h"
#include "connectors/json_scan.h"

#include <stdlib.h>
#include <string.h>

/* ---- arrays ---- */

static bool is_array(struct str body, size_t *n)
{
    struct json_scan scan;
    json_scan_init(&scan, body);
    *n = 0;
    if (json_scan_peek(&scan) == JSON_SCAN_NULL)
        return json_scan_skip(&scan, NULL) && json_scan_end(&scan);
    if (scan.p == scan.end)
        return true;
    if (!json_scan_array(&scan))
        return false;
    for (; json_scan_element(&scan); (*n)++)
        json_scan_skip(&scan, NULL);
    return json_scan_end(&scan);
}

int snapshot_list_walk(struct str body, int (*take)(void *arg, struct str entry, struct err *err),
                       void *arg, struct err *err)
{
    struct json_scan scan;
    struct str entry;
    size_t n;
    if (!is_array(body, &n))
        return err_set(err, ERR_RETRY, "the answer is not a JSON array: is it a Nomad?");
    json_scan_init(&scan, body);
    if (n == 0 || !json_scan_array(&scan))
        return 0;
    while (json_scan_element(&scan))
        if (json_scan_skip(&scan, &entry) && take(arg, entry, err) != 0)
            return -1;
    return 0;
}

/* ---- namespaces ---- */

static int take_namespace(void *arg, struct str entry, struct err *err)
{
    struct snapshot_namespaces *all = arg;
    struct json_scan scan;
    struct json_scan_string name, value;
    json_scan_init(&scan, entry);
    if (json_scan_peek(&scan) != JSON_SCAN_OBJECT || all->n == SNAPSHOT_NAMESPACES_MAX)
        return err_set(err, ERR_RETRY, "not a list of namespaces");
    json_scan_object(&scan);
    while (json_scan_member(&scan, &name)) {
        if (!str_is(name.raw, "Name") || json_scan_peek(&scan) != JSON_SCAN_STRING) {
            json_scan_skip(&scan, NULL);
        } else if (json_scan_string(&scan, &value)) {
            all->names = mem_realloc(all->names, (all->n + 1) * sizeof *all->names);
            all->names[all->n] = (struct buf){0};
            json_scan_unescape(&all->names[all->n++], value.raw);
        }
    }
    return 0;
}

int snapshot_namespaces_read(struct snapshot_namespaces *namespaces, struct snapshot_http *http,
                             struct err *err)
{
    struct snapshot_answer answer = {0};
    int rc = snapshot_http_get(http, "/v1/namespaces", NULL, &answer, err);
    if (rc == 0 && answer.status == 200) {
        rc = snapshot_list_walk(buf_str(&answer.body), take_namespace, namespaces, err);
        namespaces->known = rc == 0;
        if (rc != 0)
            err_wrap(err, "/v1/namespaces");
    }
    snapshot_answer_fini(&answer);
    return rc;
}

void snapshot_namespaces_fini(struct snapshot_namespaces *namespaces)
{
    for (size_t i = 0; i < namespaces->n; i++)
        buf_fini(&namespaces->names[i]);
    free(namespaces->names);
    *namespaces = (struct snapshot_namespaces){0};
}

bool snapshot_namespaces_have(const struct snapshot_namespaces *namespaces, struct str ns)
{
    if (!namespaces->known || ns.len == 0)
        return true;
    for (size_t i = 0; i < namespaces->n; i++)
        if (str_eq(buf_str(&namespaces->names[i]), ns))
            return true;
    return false;
}

/* ---- pages ---- */

/* One question that goes on from page to page. */
struct piece {
    const char *path;
    const char *query; /* may be NULL */
    const char *ns;    /* NULL: the topic has none, or the query has it */
    const char *prefix;
};

enum ended { ENDED_WHOLE, ENDED_REFUSED, ENDED_CIRCLE, ENDED_ERROR };

static void make_query(struct buf *query, const struct piece *piece, struct buf *token)
{
    buf_clear(query);
    buf_printf(query, "per_page=%d", SNAPSHOT_PER_PAGE);
    if (piece->query != NULL)
        buf_printf(query, "&%s", piece->query);
    if (piece->ns != NULL) {
        buf_append_cstr(query, "&namespace=");
        http_url_encode(query, piece->ns);
    }
    if (piece->prefix != NULL)
        buf_printf(query, "&prefix=%s", piece->prefix);
    if (token->len > 0) {
        buf_append_cstr(query, "&next_token=");
        http_url_encode(query, buf_cstr(token));
    }
}

static int take_page(struct snapshot_list *list, struct snapshot_answer *answer,
                     const struct piece *piece, struct err *err)
{
    size_t n = 0;
    struct str body = buf_str(&answer->body);
    if (answer->index < list->index)
        list->index = answer->index;
    if (answer->index > list->http->newest)
        list->http->newest = answer->index;
    if (list->expect != NULL && is_array(body, &n))
        list->expect(list->arg, n);
    if (snapshot_list_walk(body, list->take, list->arg, err) != 0)
        return err_wrap(err, "%.200s", piece->path);
    return 0;
}

static enum ended take_refusal(struct snapshot_list *list, struct snapshot_answer *answer)
{
    snapshot_answer_describe(answer, list->said, sizeof list->said);
    list->denied = snapshot_answer_is_denied(answer);
    return ENDED_REFUSED;
}

/* One page; what comes is taken. */
static enum ended read_page(struct snapshot_list *list, const struct piece *piece,
                            struct snapshot_answer *answer, const char *query, struct err *err)
{
    if (snapshot_http_get(list->http, piece->path, query, answer, err) != 0)
        return ENDED_ERROR;
    if (answer->status != 200 || answer->body.len == 0)
        return take_refusal(list, answer);
    return take_page(list, answer, piece, err) == 0 ? ENDED_WHOLE : ENDED_ERROR;
}

/* Notes a token; false where it was there before. */
static bool is_new(struct map *asked, const struct buf *token)
{
    uint64_t hash = hash64(HASH64_START, token->p, token->len);
    if (map_has(asked, hash))
        return false;
    *map_at(asked, hash) = 1;
    return true;
}

static enum ended read_piece(struct snapshot_list *list, const struct piece *piece, struct err *err)
{
    struct snapshot_answer answer = {0};
    struct buf query = {0}, token = {0};
    struct map asked = {0};
    enum ended ended;
    for (size_t pages = 1;; pages++) {
        make_query(&query, piece, &token);
        ended = read_page(list, piece, &answer, buf_cstr(&query), err);
        if (ended != ENDED_WHOLE || answer.next_token.len == 0)
            break;
        if (pages == SNAPSHOT_PAGES_MAX || !is_new(&asked, &answer.next_token)) {
            ended = ENDED_CIRCLE;
            break;
        }
        buf_clear(&token);
        buf_append_str(&token, buf_str(&answer.next_token));
    }
    map_fini(&asked);
    buf_fini(&query);
    buf_fini(&token);
    snapshot_answer_fini(&answer);
    return ended;
}

/* ---- pieces ---- */

static enum ended read_by_prefix(struct snapshot_list *list, const struct piece *whole,
                                 struct err *err)
{
    char prefix[3];
    struct piece piece = *whole;
    piece.prefix = prefix;
    for (unsigned i = 0; i < 256; i++) {
        snprintf(prefix, sizeof prefix, "%02x", i);
        enum ended ended = read_piece(list, &piece, err);
        if (ended != ENDED_WHOLE)
            return ended;
    }
    return ENDED_WHOLE;
}

/* Of one namespace, or of a topic that has none. */
static enum ended read_plain(struct snapshot_list *list, const struct piece *piece, struct err *err)
{
    enum ended ended = read_piece(list, piece, err);
    if (ended == ENDED_CIRCLE && list->topic->has_uuids)
        ended = read_by_prefix(list, piece, err);
    return ended;
}

/* A namespace that was refused was deleted meanwhile, or is not for this token. */
static enum ended read_by_namespace(struct snapshot_list *list, const struct piece *whole,
                                    struct err *err)
{
    struct piece piece = *whole;
    bool circle = !list->namespaces->known;
    for (size_t i = 0; i < list->namespaces->n; i++) {
        piece.ns = buf_cstr(&list->namespaces->names[i]);
        enum ended ended = read_plain(list, &piece, err);
        if (ended == ENDED_ERROR)
            return ended;
        circle |= ended == ENDED_CIRCLE;
    }
    return circle ? ENDED_CIRCLE : ENDED_WHOLE;
}

static int finish(struct snapshot_list *list, enum ended ended)
{
    list->refused = ended == ENDED_REFUSED;
    list->broken = ended == ENDED_CIRCLE;
    if (list->index == UINT64_MAX)
        list->index = 0;
    return ended == ENDED_ERROR ? -1 : 0;
}

int snapshot_list_read(struct snapshot_list *list, struct err *err)
{
    const char *ns = list->topic->namespaced ? list->http->settings->ns : NULL;
    struct piece whole = {.path = list->topic->list, .query = list->topic->query, .ns = ns};
    bool all = ns != NULL && strcmp(ns, "*") == 0;
    list->index = UINT64_MAX;
    enum ended ended = all ? read_piece(list, &whole, err) : read_plain(list, &whole, err);
    if (all && ended == ENDED_CIRCLE)
        ended = read_by_namespace(list, &whole, err);
    return finish(list, ended);
}

int snapshot_list_read_path(struct snapshot_list *list, const char *path, const char *query,
                            struct err *err)
{
    struct piece piece = {.path = path, .query = query};
    list->index = UINT64_MAX;
    return finish(list, read_piece(list, &piece, err));
}
