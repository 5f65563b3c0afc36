/* route.c - which events go where: filters and name templates. */
#include "bridge/route.h"

#include "bridge/base/hash.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct topic_pattern {
    char *topic; /* NULL: any */
    char *key;   /* NULL: any */
};

struct names {
    char **items;
    size_t n;
    bool any; /* held a "*" */
};

struct filter {
    struct topic_pattern *topics;
    size_t n_topics;
    struct names types;
    struct names namespaces;
};

struct filter *filter_new(void)
{
    return mem_zalloc(sizeof(struct filter));
}

static void names_fini(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->items[i]);
    free(names->items);
}

void filter_free(struct filter **filter)
{
    struct filter *f = *filter;
    if (f == NULL)
        return;
    for (size_t i = 0; i < f->n_topics; i++) {
        free(f->topics[i].topic);
        free(f->topics[i].key);
    }
    free(f->topics);
    names_fini(&f->types);
    names_fini(&f->namespaces);
    free(f);
    *filter = NULL;
}

static char *copy_unless_star(struct str s)
{
    return str_is(s, "*") ? NULL : mem_strndup(s.p, s.len);
}

void filter_add_topic(struct filter *filter, struct str pattern)
{
    const char *colon = pattern.len > 0 ? memchr(pattern.p, ':', pattern.len) : NULL;
    struct str topic = pattern, key = STR("*");
    if (colon != NULL) {
        topic.len = (size_t)(colon - pattern.p);
        key = (struct str){colon + 1, pattern.len - topic.len - 1};
    }
    filter->topics = mem_realloc(filter->topics, (filter->n_topics + 1) * sizeof *filter->topics);
    filter->topics[filter->n_topics++] =
        (struct topic_pattern){copy_unless_star(topic), copy_unless_star(key)};
}

static void names_add(struct names *names, struct str name)
{
    if (str_is(name, "*"))
        names->any = true;
    names->items = mem_realloc(names->items, (names->n + 1) * sizeof *names->items);
    names->items[names->n++] = mem_strndup(name.p, name.len);
}

void filter_add_type(struct filter *filter, struct str type)
{
    names_add(&filter->types, type);
}

void filter_add_namespace(struct filter *filter, struct str ns)
{
    names_add(&filter->namespaces, ns);
}

static bool names_match(const struct names *names, struct str name)
{
    if (names->n == 0 || names->any)
        return true;
    for (size_t i = 0; i < names->n; i++)
        if (str_is(name, names->items[i]))
            return true;
    return false;
}

static bool key_match(const char *wanted, const struct event *event)
{
    if (wanted == NULL || str_is(event->key, wanted))
        return true;
    struct str rest = event->filter_keys, key;
    while (event_next_filter_key(&rest, &key))
        if (str_is(key, wanted))
            return true;
    return false;
}

static bool topics_match(const struct filter *filter, const struct event *event)
{
    for (size_t i = 0; i < filter->n_topics; i++) {
        const struct topic_pattern *p = &filter->topics[i];
        if ((p->topic == NULL || str_is(event->topic, p->topic)) && key_match(p->key, event))
            return true;
    }
    return filter->n_topics == 0;
}

bool filter_is_empty(const struct filter *filter)
{
    if (filter == NULL)
        return true;
    for (size_t i = 0; i < filter->n_topics; i++)
        if (filter->topics[i].topic != NULL || filter->topics[i].key != NULL)
            return false;
    return (filter->types.n == 0 || filter->types.any) &&
           (filter->namespaces.n == 0 || filter->namespaces.any);
}

bool filter_match(const struct filter *filter, const struct event *event)
{
    if (filter == NULL || event->origin == EVENT_OWN || event->origin == EVENT_MALFORMED)
        return true;
    return topics_match(filter, event) && names_match(&filter->types, event->type) &&
           names_match(&filter->namespaces, event->ns);
}

/* ---- templates ---- */

enum part_kind {
    PART_TEXT,
    PART_SOURCE,
    PART_TOPIC,
    PART_TYPE,
    PART_KEY,
    PART_NAMESPACE,
    PART_FILTER_KEY,
    PART_BUCKET,
};

static const char *const part_names[] = {
    [PART_TEXT] = "",         [PART_SOURCE] = "source",
    [PART_TOPIC] = "topic",   [PART_TYPE] = "type",
    [PART_KEY] = "key",       [PART_NAMESPACE] = "namespace",
    [PART_BUCKET] = "bucket", [PART_FILTER_KEY] = "filter_key",
};

struct part {
    enum part_kind kind;
    char *text; /* PART_TEXT */
};

struct template
{
    struct part *parts;
    size_t n;
    unsigned buckets;
};

static void add_part(struct template *tpl, enum part_kind kind, const char *p, size_t len)
{
    if (kind == PART_TEXT && len == 0)
        return;
    tpl->parts = mem_realloc(tpl->parts, (tpl->n + 1) * sizeof *tpl->parts);
    tpl->parts[tpl->n++] = (struct part){kind, kind == PART_TEXT ? mem_strndup(p, len) : NULL};
}

static int add_variable(struct template *tpl, struct str name, struct err *err)
{
    for (size_t i = PART_SOURCE; i < sizeof part_names / sizeof *part_names; i++) {
        if (str_is(name, part_names[i])) {
            add_part(tpl, (enum part_kind)i, NULL, 0);
            return 0;
        }
    }
    return err_set(err, ERR_INPUT,
                   "unknown variable \"%%{%.*s}\": expected one of %%{source} %%{topic} %%{type} "
                   "%%{key} %%{namespace} %%{filter_key} %%{bucket}",
                   STR_ARG(name));
}

static int parse(struct template *tpl, const char *text, struct err *err)
{
    for (;;) {
        const char *open = strstr(text, "%{");
        if (open == NULL) {
            add_part(tpl, PART_TEXT, text, strlen(text));
            return 0;
        }
        add_part(tpl, PART_TEXT, text, (size_t)(open - text));
        const char *end = strchr(open, '}');
        if (end == NULL)
            return err_set(err, ERR_INPUT, "\"%s\" is not closed: expected \"}\"", open);
        if (add_variable(tpl, (struct str){open + 2, (size_t)(end - open - 2)}, err) != 0)
            return -1;
        text = end + 1;
    }
}

int template_new(struct template **out, const char *text, unsigned buckets, struct err *err)
{
    struct template *tpl = mem_zalloc(sizeof *tpl);
    tpl->buckets = buckets > 0 ? buckets : 1;
    if (parse(tpl, text, err) != 0) {
        template_free(&tpl);
        return -1;
    }
    *out = tpl;
    return 0;
}

void template_free(struct template **tpl)
{
    if (*tpl == NULL)
        return;
    for (size_t i = 0; i < (*tpl)->n; i++)
        free((*tpl)->parts[i].text);
    free((*tpl)->parts);
    free(*tpl);
    *tpl = NULL;
}

static struct str first_filter_key(const struct event *event)
{
    struct str rest = event->filter_keys, key = {"", 0};
    event_next_filter_key(&rest, &key);
    return key;
}

static void render_bucket(const struct template *tpl, struct str key, struct buf *out)
{
    buf_printf(out, "%" PRIu64, hash64(HASH64_START, key.p, key.len) % tpl->buckets);
}

void template_render(const struct template *tpl, struct str source, const struct event *event,
                     struct buf *out)
{
    for (size_t i = 0; i < tpl->n; i++) {
        switch (tpl->parts[i].kind) {
        case PART_TEXT:
            buf_append_cstr(out, tpl->parts[i].text);
            break;
        case PART_SOURCE:
            buf_append_str(out, source);
            break;
        case PART_TOPIC:
            buf_append_str(out, event->topic);
            break;
        case PART_TYPE:
            buf_append_str(out, event->type);
            break;
        case PART_KEY:
            buf_append_str(out, event->key);
            break;
        case PART_NAMESPACE:
            buf_append_str(out, event->ns);
            break;
        case PART_FILTER_KEY:
            buf_append_str(out, first_filter_key(event));
            break;
        case PART_BUCKET:
            render_bucket(tpl, event->key, out);
            break;
        }
    }
}

bool template_is_constant(const struct template *tpl)
{
    for (size_t i = 0; i < tpl->n; i++)
        if (tpl->parts[i].kind != PART_TEXT && tpl->parts[i].kind != PART_SOURCE)
            return false;
    return true;
}
