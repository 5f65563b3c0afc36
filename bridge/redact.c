/* redact.c - replaces values in an event's bytes by "[redacted]".
 *
 * The steps of all paths are one tree (what they share at their beginning is there once), at most
 * 64, so that a set of steps is a word. On the way through the text each open container has the set
 * of steps that its children may take. A child takes those that name it; behind a path's last one
 * stands a value to replace; else what the child's own children may take is what follows the steps
 * taken, and the deep ones over again. Where that is nothing the value is passed over, by brackets
 * and quotes alone.
 *
 * The walk trusts nothing: it reads no byte outside of the text whatever stands there, and says so
 * where it is no JSON, though it does not validate what it passes over (redact_skip.h). */
#include "bridge/redact.h"

#include "bridge/redact_path.h"
#include "bridge/redact_skip.h"

#include <stdlib.h>
#include <string.h>

#define REPLACED "\"[redacted]\""

enum { DEPTH_MAX = 512, BUCKETS = 256 };

struct step {
    struct redact_step is;
    uint64_t next; /* what may follow it */
};

struct redact {
    struct step steps[REDACT_STEPS_MAX];
    size_t n_steps;
    uint64_t first; /* these begin paths, */
    uint64_t last;  /* these end some; the others say what kind they are */
    uint64_t deep, any, indexed;
    uint8_t buckets[BUCKETS];            /* by a name's hash: 1 + one of its steps, 0: none */
    uint8_t same_hash[REDACT_STEPS_MAX]; /* another one, likewise */
    struct redact *raw;                  /* what a Malformed event loses besides */
};

/* ---- making ---- */

INLINE size_t bucket_of(const char *p, size_t len)
{
    unsigned ends = len > 0 ? (unsigned char)p[0] * 7u + (unsigned char)p[len - 1] : 0;
    return (ends + (unsigned)len * 31u) % BUCKETS;
}

static bool same_step(const struct redact_step *a, const struct redact_step *b)
{
    return a->select == b->select && a->deep == b->deep && a->index == b->index &&
           a->len == b->len && memcmp(a->name, b->name, a->len) == 0;
}

/* The step's place in the tree, one of `siblings` where it is there already; or one past the end.
 */
static size_t find_step(const struct redact *r, uint64_t siblings, const struct redact_step *step)
{
    for (size_t i = 0; i < r->n_steps; i++)
        if ((siblings >> i & 1) != 0 && same_step(&r->steps[i].is, step))
            return i;
    return r->n_steps;
}

static void enlist(struct redact *r, size_t i)
{
    const struct redact_step *step = &r->steps[i].is;
    uint64_t bit = UINT64_C(1) << i;
    r->deep |= step->deep ? bit : 0;
    r->any |= step->select == REDACT_ANY ? bit : 0;
    r->indexed |= step->select == REDACT_INDEX ? bit : 0;
    if (step->select != REDACT_NAME)
        return;
    uint8_t *bucket = &r->buckets[bucket_of(step->name, step->len)];
    r->same_hash[i] = *bucket;
    *bucket = (uint8_t)(i + 1);
}

static int add_path(struct redact *r, const char *path, struct err *err)
{
    struct redact_step step;
    const char *rest = path;
    const char *wrong = redact_path_begin(&rest);
    uint64_t *siblings = &r->first;
    size_t i = 0;
    while (wrong == NULL && *rest != '\0' && (wrong = redact_path_next(&rest, &step)) == NULL) {
        i = find_step(r, *siblings, &step);
        if (i == REDACT_STEPS_MAX)
            return err_set(err, ERR_INPUT, "more than %d steps in all paths: expected fewer",
                           REDACT_STEPS_MAX);
        *siblings |= UINT64_C(1) << i;
        siblings = &r->steps[i].next;
        if (i < r->n_steps)
            continue;
        r->steps[r->n_steps++].is = step;
        enlist(r, i);
    }
    if (wrong != NULL)
        return err_set(err, ERR_INPUT, "\"%s\": expected %s", path, wrong);
    r->last |= UINT64_C(1) << i;
    return 0;
}

static struct redact *make(const struct setting_list *paths, struct err *err)
{
    struct redact *r = mem_zalloc(sizeof *r);
    for (size_t i = 0; i < paths->n; i++) {
        if (add_path(r, paths->items[i], err) != 0) {
            redact_free(&r);
            return NULL;
        }
    }
    return r;
}

int redact_new(struct redact **out, const struct setting_list *paths, struct err *err)
{
    static const char *const raw_bytes[] = {"$.Payload.Base64"};
    const struct setting_list raw = {raw_bytes, 1};
    *out = NULL;
    if (paths->n == 0)
        return 0;
    *out = make(paths, err);
    if (*out == NULL)
        return -1;
    (*out)->raw = make(&raw, err);
    return 0;
}

void redact_free(struct redact **redact)
{
    if (*redact == NULL)
        return;
    redact_free(&(*redact)->raw);
    free(*redact);
    *redact = NULL;
}

const char *redact_check_path(const char *text)
{
    struct redact_step step;
    const char *rest = text;
    const char *wrong = redact_path_begin(&rest);
    while (wrong == NULL && *rest != '\0')
        wrong = redact_path_next(&rest, &step);
    return wrong;
}

/* ---- the text ---- */

/* The byte at `p`; at the end a NUL, with which nothing begins. */
INLINE char at(const char *p, const char *end)
{
    return (char)(p < end ? *p : '\0');
}

/* A number or a word, or what may stand in one. */
INLINE const char *skip_scalar(const char *p, const char *end)
{
    static const bool may[256] = {
        ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1,
        ['8'] = 1, ['9'] = 1, ['-'] = 1, ['+'] = 1, ['.'] = 1, ['E'] = 1, ['e'] = 1, ['a'] = 1,
        ['f'] = 1, ['l'] = 1, ['n'] = 1, ['r'] = 1, ['s'] = 1, ['t'] = 1, ['u'] = 1,
    };
    const char *from = p;
    while (p < end && may[(unsigned char)*p])
        p++;
    return p > from ? p : NULL;
}

INLINE const char *skip_value(const char *p, const char *end)
{
    char c = at(p, end);
    bool ignored;
    if (c == '"')
        return redact_skip_string(p + 1, end, &ignored);
    return c == '{' || c == '[' ? redact_skip_container(p, end) : skip_scalar(p, end);
}

/* ---- the walk ---- */

/* An open container. */
struct frame {
    uint64_t wanted; /* steps that its children may take */
    uint64_t index;  /* of the element it is at */
    char close;
};

struct walk {
    const struct redact *r;
    const char *end;
    const char *kept; /* all before it was copied or replaced */
    struct buf *out;
    uint64_t wanted; /* steps that the children of the value ahead may take */
    bool replace;    /* the value ahead */
    size_t depth;
    struct frame frames[DEPTH_MAX]; /* left as it is: clearing it would cost more than a walk */
};

INLINE uint64_t steps_named(const struct redact *r, const char *p, size_t len)
{
    uint64_t found = 0;
    for (unsigned i = r->buckets[bucket_of(p, len)]; i > 0; i = r->same_hash[i - 1]) {
        const struct redact_step *step = &r->steps[i - 1].is;
        if (step->len == len && memcmp(step->name, p, len) == 0)
            found |= UINT64_C(1) << (i - 1);
    }
    return found;
}

/* The same for a name with escapes; false where they are none. What is longer than any name that a
 * path can have is none of them. */
static bool steps_escaped(const struct redact *r, const char *p, const char *end, uint64_t *found)
{
    char name[REDACT_NAME_MAX + 4];
    size_t len = 0;
    *found = 0;
    while (p < end && len <= REDACT_NAME_MAX) {
        if (*p != '\\') {
            name[len++] = *p++;
            continue;
        }
        p++;
        size_t n = redact_unescape(name + len, &p, end);
        if (n == 0)
            return false;
        len += n;
    }
    if (p == end && len <= REDACT_NAME_MAX)
        *found = steps_named(r, name, len);
    return true;
}

static uint64_t steps_at(const struct redact *r, uint64_t wanted, uint64_t index)
{
    uint64_t found = 0;
    for (uint64_t left = wanted & r->indexed; left != 0; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        if (r->steps[i].is.index == index)
            found |= UINT64_C(1) << i;
    }
    return found;
}

/* The value ahead took these of its container's steps. */
INLINE void take_steps(struct walk *w, uint64_t wanted, uint64_t taken)
{
    taken &= wanted;
    w->replace = (taken & w->r->last) != 0;
    w->wanted = wanted & w->r->deep;
    for (; taken != 0; taken &= taken - 1)
        w->wanted |= w->r->steps[__builtin_ctzll(taken)].next;
}

/* `p` is at a member's name; returns where its value stands, or NULL. */
INLINE const char *take_member(struct walk *w, const struct frame *frame, const char *p)
{
    bool escaped;
    const char *name = p + 1;
    if (at(p, w->end) != '"')
        return NULL;
    p = redact_skip_string(name, w->end, &escaped);
    if (p == NULL)
        return NULL;
    uint64_t named;
    if (!escaped)
        named = steps_named(w->r, name, (size_t)(p - 1 - name));
    else if (!steps_escaped(w->r, name, p - 1, &named))
        return NULL;
    take_steps(w, frame->wanted, named | w->r->any);
    p = redact_skip_space(p, w->end);
    return at(p, w->end) == ':' ? redact_skip_space(p + 1, w->end) : NULL;
}

/* `p` is at the first or next child of the innermost container. */
INLINE const char *take_child(struct walk *w, const char *p)
{
    struct frame *frame = &w->frames[w->depth - 1];
    if (frame->close == '}')
        return take_member(w, frame, p);
    take_steps(w, frame->wanted, steps_at(w->r, frame->wanted, frame->index++) | w->r->any);
    return p;
}

/* `p` is behind a value; returns where the next one stands; behind the outermost one what follows
 * it, with nothing open. */
INLINE const char *next_value(struct walk *w, const char *p)
{
    while (w->depth > 0) {
        p = redact_skip_space(p, w->end);
        char c = at(p, w->end);
        if (c == ',')
            return take_child(w, redact_skip_space(p + 1, w->end));
        if (c != w->frames[w->depth - 1].close)
            return NULL;
        p++;
        w->depth--;
    }
    return p;
}

/* `p` is at an opening bracket; returns where the first value in it stands, or what follows the
 * container where there is none, *over then. */
INLINE const char *open_container(struct walk *w, const char *p, bool *over)
{
    char close = *p == '{' ? '}' : ']';
    p = redact_skip_space(p + 1, w->end);
    *over = at(p, w->end) == close;
    if (*over)
        return p + 1;
    w->frames[w->depth++] = (struct frame){.wanted = w->wanted, .close = close};
    return take_child(w, p);
}

static __attribute__((noinline)) const char *replace_value(struct walk *w, const char *p)
{
    const char *behind = skip_value(p, w->end);
    if (behind == NULL)
        return NULL;
    size_t kept = (size_t)(p - w->kept);
    char *to = buf_reserve(w->out, kept + sizeof REPLACED - 1);
    memcpy(to, w->kept, kept);
    memcpy(to + kept, REPLACED, sizeof REPLACED - 1);
    w->out->len += kept + sizeof REPLACED - 1;
    w->kept = behind;
    return behind;
}

/* Returns what follows the value at `p`, or NULL where it is no JSON. */
static const char *walk_value(struct walk *w, const char *p)
{
    do {
        bool over = true;
        char c = at(p, w->end);
        bool inside = (c == '{' || c == '[') && w->wanted != 0;
        if (w->replace || (inside && w->depth == DEPTH_MAX))
            p = replace_value(w, p);
        else if (inside)
            p = open_container(w, p, &over);
        else
            p = skip_value(p, w->end);
        if (p != NULL && over)
            p = next_value(w, p);
    } while (p != NULL && w->depth > 0);
    return p;
}

bool redact_apply(const struct redact *redact, struct str data, struct buf *out)
{
    if (redact == NULL || data.len == 0)
        return false;
    struct walk w;
    w.r = redact;
    w.end = data.p + data.len;
    w.kept = data.p;
    w.out = out;
    w.wanted = redact->first;
    w.replace = false;
    w.depth = 0;
    buf_clear(out);
    const char *p = walk_value(&w, redact_skip_space(data.p, w.end));
    if (p == NULL || redact_skip_space(p, w.end) != w.end) {
        buf_clear(out);
        buf_append(out, REPLACED, sizeof REPLACED - 1);
        return true;
    }
    if (w.kept == data.p)
        return false;
    buf_append(out, w.kept, (size_t)(w.end - w.kept));
    return true;
}

bool redact_event(const struct redact *redact, const struct event *event, struct buf *out)
{
    if (redact == NULL || event->origin == EVENT_OWN)
        return false;
    bool replaced = redact_apply(redact, event->data, out);
    if (event->origin != EVENT_MALFORMED)
        return replaced;
    struct buf rest = *out;
    *out = (struct buf){0};
    if (redact_apply(redact->raw, replaced ? buf_str(&rest) : event->data, out)) {
        buf_fini(&rest);
        return true;
    }
    buf_fini(out);
    *out = rest;
    return replaced;
}
