/* groups.c - the clients by what they want. */
#include "connectors/mirror/groups.h"

#include "bridge/base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096 };

struct groups {
    size_t n_sources;
    struct group **by_number; /* NULL: free */
    size_t end;
    size_t count;
    size_t lowest_free; /* no free number is below it */
    uint64_t last_id;
    struct group *buckets[BUCKETS];
};

/* ---- what is asked for ---- */

void wanted_fini(struct wanted *wanted)
{
    filter_free(&wanted->filter);
    free(wanted->sources);
    wanted->sources = NULL;
    buf_fini(&wanted->words);
}

/* Packed as filter keys are: no value can be taken for two. */
void wanted_note(struct wanted *wanted, char kind, struct str value)
{
    struct buf word = {0};
    buf_append_char(&word, kind);
    buf_append_str(&word, value);
    event_pack_filter_key(&wanted->words, buf_str(&word));
    buf_fini(&word);
}

static int compare_words(const void *a, const void *b)
{
    const struct str *x = a, *y = b;
    int order = memcmp(x->p, y->p, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

/* The words, sorted and each once, behind the sources. */
static void make_name(const struct groups *groups, const struct wanted *wanted, struct buf *out)
{
    struct str rest = buf_str(&wanted->words), word;
    size_t n = 0, max = wanted->words.len / sizeof(uint32_t) + 1;
    struct str *words = mem_alloc(max * sizeof *words);
    while (event_next_filter_key(&rest, &word))
        words[n++] = word;
    qsort(words, n, sizeof *words, compare_words);
    for (size_t i = 0; wanted->sources != NULL && i < groups->n_sources; i++)
        buf_append_char(out, wanted->sources[i] ? '1' : '0');
    buf_append_char(out, '\n');
    for (size_t i = 0; i < n; i++)
        if (i == 0 || !str_eq(words[i], words[i - 1]))
            event_pack_filter_key(out, words[i]);
    free(words);
}

/* ---- groups ---- */

struct groups *groups_new(size_t n_sources)
{
    struct groups *groups = mem_zalloc(sizeof *groups);
    groups->n_sources = n_sources;
    return groups;
}

static void free_group(struct group *group)
{
    filter_free(&group->wish.filter);
    free(group->wish.sources);
    free((char *)group->name.p);
    free(group);
}

void groups_free(struct groups **groups)
{
    if (*groups == NULL)
        return;
    for (size_t i = 0; i < (*groups)->end; i++)
        if ((*groups)->by_number[i] != NULL)
            free_group((*groups)->by_number[i]);
    free((*groups)->by_number);
    free(*groups);
    *groups = NULL;
}

static struct group **bucket_of(struct groups *groups, struct str name)
{
    return &groups->buckets[hash64(HASH64_START, name.p, name.len) % BUCKETS];
}

static size_t take_number(struct groups *groups)
{
    size_t i = groups->lowest_free;
    while (i < groups->end && groups->by_number[i] != NULL)
        i++;
    if (i == groups->end) {
        groups->end++;
        groups->by_number = mem_realloc(groups->by_number, groups->end * sizeof(struct group *));
    }
    groups->lowest_free = i + 1;
    return i;
}

static struct group *make_group(struct groups *groups, struct wanted *wanted, struct str name)
{
    struct group *group = mem_zalloc(sizeof *group);
    group->wish = (struct wish){
        .number = take_number(groups),
        .id = ++groups->last_id,
        .filter = wanted->filter,
        .sources = wanted->sources,
    };
    group->name = (struct str){mem_strndup(name.p, name.len), name.len};
    wanted->filter = NULL;
    wanted->sources = NULL;
    groups->by_number[group->wish.number] = group;
    groups->count++;
    return group;
}

struct group *groups_join(struct groups *groups, struct wanted *wanted)
{
    struct buf name = {0};
    make_name(groups, wanted, &name);
    struct group **bucket = bucket_of(groups, buf_str(&name));
    struct group *group = *bucket;
    while (group != NULL && !str_eq(group->name, buf_str(&name)))
        group = group->next;
    if (group == NULL) {
        group = make_group(groups, wanted, buf_str(&name));
        group->next = *bucket;
        *bucket = group;
    }
    group->n_clients++;
    buf_fini(&name);
    wanted_fini(wanted);
    return group;
}

void groups_leave(struct groups *groups, struct group *group)
{
    if (--group->n_clients > 0)
        return;
    struct group **at = bucket_of(groups, group->name);
    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
    groups->by_number[group->wish.number] = NULL;
    if (group->wish.number < groups->lowest_free)
        groups->lowest_free = group->wish.number;
    groups->count--;
    free_group(group);
}

size_t groups_count(const struct groups *groups)
{
    return groups->count;
}

struct group *groups_at(const struct groups *groups, size_t i)
{
    return groups->by_number[i];
}

size_t groups_end(const struct groups *groups)
{
    return groups->end;
}
