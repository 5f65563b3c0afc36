/* latest.c - an array of objects, their strings in one buffer, and a map to find them.
 *
 * An entry's strings stand in the order topic, ns, key, type, filter keys, so that the last two,
 * which change, can be written anew in place where they fit. Where not, all move to the end of the
 * buffer, and what they leave behind is lost until the whole is taken. */
#include "bridge/latest.h"

#include "bridge/base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { STRINGS = 5, KEPT = 3, SLACK = 16, FIRST_CAP = 16 };

struct latest_entry {
    uint64_t index, index_max;
    uint32_t epoch, epoch_max;
    uint32_t at, room; /* in the text */
    uint32_t len[STRINGS];
};

void latest_init(struct latest *l, uint64_t from)
{
    *l = (struct latest){.from = from, .to = from, .seed = hash_random()};
}

void latest_fini(struct latest *l)
{
    map_fini(&l->places);
    free(l->entries);
    buf_fini(&l->text);
    l->entries = NULL;
    l->n = l->cap = 0;
}

/* ---- hashes: in memory only, eight bytes at a time ---- */

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

/* What is less than eight bytes, in one word; with the length it is known from all others. */
static uint64_t short_word(const char *p, size_t len)
{
    uint32_t first = 0, last = 0;
    if (len >= sizeof first) {
        memcpy(&first, p, sizeof first);
        memcpy(&last, p + len - sizeof last, sizeof last);
    } else if (len > 0) {
        first = (unsigned char)p[0];
        last = (uint32_t)(unsigned char)p[len / 2] << 8 | (unsigned char)p[len - 1];
    }
    return (uint64_t)first << 32 | last;
}

static uint64_t hash_str(uint64_t hash, struct str s)
{
    uint64_t word = 0;
    hash ^= s.len;
    if (s.len < sizeof word)
        return mix(hash, short_word(s.p, s.len));
    for (size_t i = 0; i + sizeof word < s.len; i += sizeof word) {
        memcpy(&word, s.p + i, sizeof word);
        hash = mix(hash, word);
    }
    memcpy(&word, s.p + s.len - sizeof word, sizeof word);
    return mix(hash, word);
}

static uint64_t hash_object(const struct latest *l, const struct event *e)
{
    return hash_str(hash_str(hash_str(l->seed, e->topic), e->ns), e->key);
}

/* ---- an entry's strings ---- */

static bool holds(const char **at, uint32_t len, struct str s)
{
    const char *p = *at;
    *at += len;
    return len == s.len && (len == 0 || memcmp(p, s.p, len) == 0);
}

static bool is_same_object(const struct latest *l, const struct latest_entry *entry,
                           const struct event *e)
{
    const char *at = l->text.p + entry->at;
    return holds(&at, entry->len[0], e->topic) && holds(&at, entry->len[1], e->ns) &&
           holds(&at, entry->len[2], e->key);
}

static size_t kept_len(const struct latest_entry *entry)
{
    size_t len = 0;
    for (size_t i = 0; i < KEPT; i++)
        len += entry->len[i];
    return len;
}

static bool is_told_alike(const struct latest *l, const struct latest_entry *entry,
                          const struct event *e)
{
    const char *at = l->text.p + entry->at + kept_len(entry);
    return holds(&at, entry->len[3], e->type) && holds(&at, entry->len[4], e->filter_keys);
}

static void put(char **at, struct str s)
{
    if (s.len > 0)
        memcpy(*at, s.p, s.len);
    *at += s.len;
}

/* All of the event's strings behind what the text holds. False where there is no room. */
static bool append_strings(struct latest *l, struct latest_entry *entry, const struct event *e)
{
    const struct str strings[STRINGS] = {e->topic, e->ns, e->key, e->type, e->filter_keys};
    size_t total = SLACK;
    for (size_t i = 0; i < STRINGS; i++)
        total += strings[i].len;
    if (total > LATEST_TEXT_MAX - l->text.len)
        return false;
    entry->at = (uint32_t)l->text.len;
    entry->room = (uint32_t)total;
    char *at = buf_reserve(&l->text, total);
    for (size_t i = 0; i < STRINGS; i++) {
        entry->len[i] = (uint32_t)strings[i].len;
        put(&at, strings[i]);
    }
    l->text.len += total;
    return true;
}

static bool tell_otherwise(struct latest *l, struct latest_entry *entry, const struct event *e)
{
    size_t kept = kept_len(entry);
    if (kept + e->type.len + e->filter_keys.len > entry->room)
        return append_strings(l, entry, e);
    char *at = l->text.p + entry->at + kept;
    put(&at, e->type);
    put(&at, e->filter_keys);
    entry->len[3] = (uint32_t)e->type.len;
    entry->len[4] = (uint32_t)e->filter_keys.len;
    return true;
}

/* ---- noting ---- */

static void set_told(struct latest_entry *entry, const struct event *e)
{
    entry->epoch = e->epoch;
    entry->index = e->index;
    if (e->epoch < entry->epoch_max ||
        (e->epoch == entry->epoch_max && e->index <= entry->index_max))
        return;
    entry->epoch_max = e->epoch;
    entry->index_max = e->index;
}

static bool add(struct latest *l, const struct event *e, uint32_t *place)
{
    if (l->n == LATEST_OBJECTS_MAX)
        return false;
    if (l->n == l->cap) {
        l->cap = l->cap > 0 ? l->cap * 2 : FIRST_CAP;
        l->entries = mem_realloc(l->entries, l->cap * sizeof *l->entries);
    }
    struct latest_entry *entry = &l->entries[l->n];
    *entry = (struct latest_entry){0};
    if (!append_strings(l, entry, e))
        return false;
    set_told(entry, e);
    *place = (uint32_t)++l->n;
    return true;
}

/* False where it can't be held. */
static bool keep(struct latest *l, const struct event *e)
{
    uint32_t *place = map_at(&l->places, hash_object(l, e));
    if (*place == 0)
        return add(l, e, place);
    struct latest_entry *entry = &l->entries[*place - 1];
    if (!is_same_object(l, entry, e) ||
        (!is_told_alike(l, entry, e) && !tell_otherwise(l, entry, e)))
        return false;
    set_told(entry, e);
    return true;
}

void latest_note(struct latest *l, const struct event *e)
{
    bool is_told = event_is_told(e);
    if (!e->repeat && (e->origin == EVENT_OWN || e->origin == EVENT_SNAPSHOT))
        l->end = LATEST_ORDER;
    else if (l->end == LATEST_GOES_ON && is_told && !keep(l, e))
        l->end = LATEST_FULL;
    if (l->end == LATEST_GOES_ON)
        l->to++;
}

struct latest_object latest_object(const struct latest *l, size_t i)
{
    const struct latest_entry *entry = &l->entries[i];
    struct str strings[STRINGS];
    const char *at = l->text.p + entry->at;
    for (size_t s = 0; s < STRINGS; s++) {
        strings[s] = (struct str){at, entry->len[s]};
        at += entry->len[s];
    }
    return (struct latest_object){
        .last = {.topic = strings[0],
                 .ns = strings[1],
                 .key = strings[2],
                 .type = strings[3],
                 .filter_keys = strings[4],
                 .epoch = entry->epoch,
                 .index = entry->index,
                 .origin = EVENT_SOURCE},
        .epoch_max = entry->epoch_max,
        .index_max = entry->index_max,
    };
}
