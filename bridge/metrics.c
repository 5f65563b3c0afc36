/* metrics.c - one table of metrics, one set of values per label. */
#include "bridge/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum metric_kind { KIND_COUNTER, KIND_GAUGE };

static const struct {
    enum metrics_scope scope;
    enum metric_kind kind;
    const char *name;
    const char *help;
} table[METRIC_COUNT] = {
#define METRIC(id, scope, kind, name, help) \
    [METRIC_##id] = {METRICS_##scope, KIND_##kind, name, help},
#include "bridge/metrics.def"
#undef METRIC
};

struct metrics {
    enum metrics_scope scope;
    char *source;
    char *sink;
    _Atomic uint64_t values[METRIC_COUNT];
    struct metrics *next;
};

struct metrics_all {
    pthread_mutex_t lock; /* guards the list, not the values */
    struct metrics *first;
    struct metrics **last;
};

struct metrics_all *metrics_all_new(void)
{
    struct metrics_all *all = mem_zalloc(sizeof *all);
    pthread_mutex_init(&all->lock, NULL);
    all->last = &all->first;
    return all;
}

void metrics_all_free(struct metrics_all **all)
{
    if (*all == NULL)
        return;
    for (struct metrics *m = (*all)->first, *next; m != NULL; m = next) {
        next = m->next;
        free(m->source);
        free(m->sink);
        free(m);
    }
    pthread_mutex_destroy(&(*all)->lock);
    free(*all);
    *all = NULL;
}

struct metrics *metrics_new(struct metrics_all *all, enum metrics_scope scope, const char *source,
                            const char *sink)
{
    struct metrics *m = mem_zalloc(sizeof *m);
    m->scope = scope;
    m->source = source != NULL ? mem_strdup(source) : NULL;
    m->sink = sink != NULL ? mem_strdup(sink) : NULL;
    pthread_mutex_lock(&all->lock);
    *all->last = m;
    all->last = &m->next;
    pthread_mutex_unlock(&all->lock);
    return m;
}

void metrics_add(struct metrics *m, enum metric id, uint64_t n)
{
    atomic_fetch_add_explicit(&m->values[id], n, memory_order_relaxed);
}

void metrics_count(struct metrics *m, enum metric id, uint64_t n)
{
    uint64_t value = atomic_load_explicit(&m->values[id], memory_order_relaxed);
    atomic_store_explicit(&m->values[id], value + n, memory_order_relaxed);
}

void metrics_set(struct metrics *m, enum metric id, uint64_t value)
{
    atomic_store_explicit(&m->values[id], value, memory_order_relaxed);
}

uint64_t metrics_get(const struct metrics *m, enum metric id)
{
    return atomic_load_explicit(&m->values[id], memory_order_relaxed);
}

/* A scrape renders hundreds of lines: plain appends, an eighth of printf's cost. */
static void append_label(struct buf *out, char before, const char *name, const char *value)
{
    buf_append_char(out, before);
    buf_append_cstr(out, name);
    buf_append_cstr(out, "=\"");
    buf_append_cstr(out, value); /* names are [a-z0-9_-]+: no escaping */
    buf_append_char(out, '"');
}

static void render_value(const struct metrics *m, enum metric id, struct buf *out)
{
    buf_append_cstr(out, table[id].name);
    if (m->source != NULL)
        append_label(out, '{', "source", m->source);
    if (m->sink != NULL)
        append_label(out, m->source != NULL ? ',' : '{', "sink", m->sink);
    if (m->source != NULL || m->sink != NULL)
        buf_append_char(out, '}');
    buf_append_char(out, ' ');
    buf_append_u64(out, metrics_get(m, id));
    buf_append_char(out, '\n');
}

static void render_head(size_t id, struct buf *out)
{
    buf_append_cstr(out, "# HELP ");
    buf_append_cstr(out, table[id].name);
    buf_append_char(out, ' ');
    buf_append_cstr(out, table[id].help);
    buf_append_cstr(out, "\n# TYPE ");
    buf_append_cstr(out, table[id].name);
    buf_append_cstr(out, table[id].kind == KIND_COUNTER ? " counter\n" : " gauge\n");
}

void metrics_render(struct metrics_all *all, struct buf *out)
{
    pthread_mutex_lock(&all->lock);
    for (size_t id = 0; id < METRIC_COUNT; id++) {
        bool headed = false;
        for (const struct metrics *m = all->first; m != NULL; m = m->next) {
            if (m->scope != table[id].scope)
                continue;
            if (!headed)
                render_head(id, out);
            headed = true;
            render_value(m, (enum metric)id, out);
        }
    }
    pthread_mutex_unlock(&all->lock);
}
