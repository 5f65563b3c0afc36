/* nomad_blocking_order.c - what of the polled tables is to be told, at which index, in which order.
 *
 * Raft applies one index after the other, so once an index was seen anywhere, all before it is
 * whole everywhere; but one index may be applied in several steps (a job, then its evaluation), so
 * what was modified at the limit itself may come to light a round later. Therefore it is each
 * object's own index that says whether it is new, never the last round's limit; and what comes late
 * is told at the last index, where it belongs. */
#include "connectors/nomad/nomad_blocking_order.h"

#include "bridge/base/hash.h"

#include <stdlib.h>
#include <string.h>

/* ---- known objects ---- */

static uint64_t hash_of(uint32_t table, struct str ns, struct str key)
{
    uint64_t hash = hash64(HASH64_START, &table, sizeof table);
    hash = hash64(hash, &ns.len, sizeof ns.len);
    hash = hash64(hash, ns.p, ns.len);
    return hash64(hash, key.p, key.len);
}

static void set_text(struct order_known *known, struct str ns, struct str key,
                     struct str filter_keys)
{
    struct buf text = {0};
    buf_append_str(&text, ns);
    buf_append_str(&text, key);
    buf_append_str(&text, filter_keys);
    char *copy = mem_strndup(buf_cstr(&text), text.len);
    buf_fini(&text);
    free(known->text);
    known->text = copy;
    known->ns_len = ns.len;
    known->key_len = key.len;
    known->filter_keys_len = filter_keys.len;
}

struct str order_ns(const struct order_known *known)
{
    return (struct str){known->text, known->ns_len};
}

struct str order_key(const struct order_known *known)
{
    return (struct str){known->text + known->ns_len, known->key_len};
}

struct str order_filter_keys(const struct order_known *known)
{
    return (struct str){known->text + known->ns_len + known->key_len, known->filter_keys_len};
}

static size_t take_slot(struct order *o)
{
    if (o->free_slot > 0) {
        size_t slot = o->free_slot - 1;
        o->free_slot = (size_t)o->known[slot].hash;
        return slot;
    }
    if (o->n_known == o->known_cap) {
        o->known_cap = o->known_cap > 0 ? o->known_cap * 2 : 256;
        o->known = mem_realloc(o->known, o->known_cap * sizeof *o->known);
    }
    return o->n_known++;
}

static size_t find_or_add(struct order *o, const struct order_entry *entry)
{
    uint64_t hash = hash_of(entry->table, entry->ns, entry->key);
    uint32_t *at = map_at(&o->slots, hash);
    if (*at > 0)
        return *at - 1;
    size_t slot = take_slot(o);
    *map_at(&o->slots, hash) = (uint32_t)slot + 1;
    o->known[slot] = (struct order_known){.hash = hash, .table = entry->table};
    set_text(&o->known[slot], entry->ns, entry->key, entry->filter_keys);
    o->n_objects++;
    return slot;
}

static void forget(struct order *o, size_t slot)
{
    struct order_known *known = &o->known[slot];
    map_remove(&o->slots, known->hash);
    free(known->text);
    *known = (struct order_known){.hash = o->free_slot};
    o->free_slot = slot + 1;
    o->n_objects--;
}

/* ---- what is to be told ---- */

static void drop_data(struct order *o, struct order_todo *todo)
{
    o->bytes -= todo->len;
    free(todo->data);
    todo->data = NULL;
    todo->len = 0;
}

static struct order_todo *add_todo(struct order *o, size_t slot, uint64_t index)
{
    if (o->n_todo == o->todo_cap) {
        o->todo_cap = o->todo_cap > 0 ? o->todo_cap * 2 : 256;
        o->todo = mem_realloc(o->todo, o->todo_cap * sizeof *o->todo);
    }
    struct order_todo *todo = &o->todo[o->n_todo++];
    *todo = (struct order_todo){.index = index, .known = slot};
    return todo;
}

static void set_data(struct order *o, struct order_todo *todo, struct str full)
{
    if (full.len == 0)
        return;
    todo->data = mem_strndup(full.p, full.len);
    todo->len = full.len;
    o->bytes += full.len;
}

enum rank { NOW, AT_THE_END, LATER };

/* Deletions come at the limit, behind the rest; then what this round won't tell. */
static enum rank rank(const struct order *o, const struct order_todo *todo)
{
    if (todo->deleted)
        return AT_THE_END;
    return todo->index <= o->limit ? NOW : LATER;
}

/* Within an index by table (a job before its evaluation), then as they came to be known: any order
 * will do, if it is always the same. */
static int compare(const struct order *o, const struct order_todo *a, const struct order_todo *b)
{
    enum rank rank_a = rank(o, a), rank_b = rank(o, b);
    uint32_t table_a = o->known[a->known].table, table_b = o->known[b->known].table;
    if (rank_a != rank_b)
        return rank_a < rank_b ? -1 : 1;
    if (a->index != b->index)
        return a->index < b->index ? -1 : 1;
    if (table_a != table_b)
        return table_a < table_b ? -1 : 1;
    return a->known < b->known ? -1 : a->known > b->known;
}

static int compare_todo(const void *a, const void *b, void *order)
{
    return compare(order, a, b);
}

static void sort(struct order *o)
{
    if (o->n_todo > 1)
        qsort_r(o->todo, o->n_todo, sizeof *o->todo, compare_todo, o);
}

/* More is waiting than may be held: what is newest waits for the next round, by a lower limit. At
 * least one index is always told whole. */
static void cut(struct order *o)
{
    size_t held = 0, keep = 0, i;
    sort(o);
    while (
        keep < o->n_todo && rank(o, &o->todo[keep]) == NOW &&
        (keep == 0 || held < ORDER_BYTES_MAX / 2 || o->todo[keep].index == o->todo[keep - 1].index))
        held += o->todo[keep++].len;
    for (i = keep; i < o->n_todo && rank(o, &o->todo[i]) == NOW; i++) {
        o->known[o->todo[i].known].waiting = 0;
        drop_data(o, &o->todo[i]);
    }
    if (keep > 0)
        o->limit = o->todo[keep - 1].index;
    memmove(&o->todo[keep], &o->todo[i], (o->n_todo - i) * sizeof *o->todo);
    o->n_todo -= i - keep;
}

/* ---- making ---- */

static void clear_todo(struct order *o)
{
    for (size_t i = 0; i < o->n_todo; i++) {
        o->known[o->todo[i].known].waiting = 0;
        drop_data(o, &o->todo[i]);
    }
    o->n_todo = o->next = 0;
}

void order_fini(struct order *o)
{
    clear_todo(o);
    for (size_t i = 0; i < o->n_known; i++)
        free(o->known[i].text);
    free(o->known);
    free(o->todo);
    map_fini(&o->slots);
    *o = (struct order){0};
}

void order_reset(struct order *o)
{
    order_fini(o);
}

void order_start(struct order *o, uint64_t from, uint64_t told)
{
    o->from = from;
    o->told = told;
}

/* ---- a round ---- */

void order_begin(struct order *o, uint64_t limit)
{
    o->round++;
    o->limit = limit;
    o->next = 0;
}

void order_listed(struct order *o, const struct order_entry *entry)
{
    size_t slot = find_or_add(o, entry);
    struct order_known *known = &o->known[slot];
    known->round = o->round;
    if (known->index == 0 && known->waiting == 0 && entry->index < o->from)
        known->index = entry->index;
    if (entry->index == known->index || entry->index > o->limit ||
        (known->waiting > 0 && entry->index <= known->waiting))
        return;
    known->waiting = entry->index;
    set_data(o, add_todo(o, slot, entry->index), entry->full);
    if (o->bytes > ORDER_BYTES_MAX)
        cut(o);
}

void order_whole(struct order *o, uint32_t table)
{
    for (size_t slot = 0; slot < o->n_known; slot++) {
        struct order_known *known = &o->known[slot];
        if (known->text == NULL || known->table != table || known->round == o->round)
            continue;
        add_todo(o, slot, UINT64_MAX)->deleted = true;
    }
}

void order_sort(struct order *o)
{
    sort(o);
}

struct order_todo *order_next(struct order *o)
{
    while (o->next < o->n_todo) {
        struct order_todo *todo = &o->todo[o->next];
        if (todo->deleted && o->known[todo->known].index == 0)
            order_told(o, false, STR("")); /* nobody was told of it */
        else
            return rank(o, todo) == LATER ? NULL : todo;
    }
    return NULL;
}

const struct order_known *order_known_of(const struct order *o, const struct order_todo *todo)
{
    return &o->known[todo->known];
}

uint64_t order_index(const struct order *o, const struct order_todo *todo)
{
    uint64_t index = todo->deleted ? o->limit : todo->index;
    return index > o->told ? index : o->told;
}

static void pass(struct order *o)
{
    struct order_todo *todo = &o->todo[o->next++];
    drop_data(o, todo);
}

void order_told(struct order *o, bool told, struct str filter_keys)
{
    struct order_todo *todo = &o->todo[o->next];
    struct order_known *known = &o->known[todo->known];
    if (told)
        o->told = order_index(o, todo);
    if (todo->deleted) {
        pass(o);
        forget(o, todo->known);
        return;
    }
    known->index = todo->index;
    known->told = known->told || told;
    if (known->waiting == todo->index)
        known->waiting = 0;
    if (filter_keys.len > 0 && !str_eq(filter_keys, order_filter_keys(known))) {
        struct buf ns = {0}, key = {0};
        buf_append_str(&ns, order_ns(known));
        buf_append_str(&key, order_key(known));
        set_text(known, buf_str(&ns), buf_str(&key), filter_keys);
        buf_fini(&ns);
        buf_fini(&key);
    }
    pass(o);
}

void order_gone(struct order *o)
{
    struct order_known *known = &o->known[o->todo[o->next].known];
    if (known->waiting == o->todo[o->next].index)
        known->waiting = 0;
    pass(o);
}

void order_newer(struct order *o, uint64_t index, struct str full)
{
    struct order_todo *todo = &o->todo[o->next];
    struct order_known *known = &o->known[todo->known];
    if (index > o->limit && o->bytes + full.len > ORDER_CARRIED_MAX) {
        order_gone(o); /* the next round will list it */
        return;
    }
    drop_data(o, todo);
    todo->index = index;
    set_data(o, todo, full);
    known->waiting = index;
    for (size_t i = o->next; i + 1 < o->n_todo && compare(o, &o->todo[i], &o->todo[i + 1]) > 0;
         i++) {
        struct order_todo moved = o->todo[i];
        o->todo[i] = o->todo[i + 1];
        o->todo[i + 1] = moved;
    }
}

/* Only objects in full, above the limit, are carried into the next round; the rest will be listed
 * again. */
void order_end(struct order *o)
{
    size_t kept = 0;
    for (size_t i = o->next; i < o->n_todo; i++)
        o->known[o->todo[i].known].waiting = 0;
    for (size_t i = o->next; i < o->n_todo; i++) {
        struct order_todo *todo = &o->todo[i];
        struct order_known *known = &o->known[todo->known];
        bool carried =
            !todo->deleted && todo->index > o->limit && todo->data != NULL && known->text != NULL;
        if (!carried) {
            drop_data(o, todo);
            continue;
        }
        if (todo->index > known->waiting)
            known->waiting = todo->index;
        o->todo[kept++] = *todo;
    }
    o->n_todo = kept;
    o->next = 0;
}
