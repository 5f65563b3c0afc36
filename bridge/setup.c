/* setup.c - the configuration of a whole bridge, read and checked. */
#include "bridge/setup.h"

#include "bridge/base/buf.h"
#include "config/settings_value.h"

#include <stdlib.h>
#include <string.h>

enum { INTERVAL_MIN_MS = 1, INTERVAL_MAX_MS = 60000, NAMES_MAX = 256 };

/* ---- the top level ---- */

static const char *const log_formats[] = {"logfmt", "json", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};

static const struct setting top_rows[] = {
    {.name = "name",
     .type = SETTING_STRING,
     .offset = offsetof(struct setup, name),
     .fallback = "busbar",
     .check = check_name,
     .help = "names this bridge in transactional ids and checkpoints"},
    {.name = "standby",
     .type = SETTING_BOOL,
     .offset = offsetof(struct setup, standby),
     .fallback = "false",
     .help = "true: instances of this name share out the pairs of source and sink, one owner each, "
             "and the others stand by, journaling and mirroring; false: the newest instance takes "
             "over, and the fenced one ends"},
    {.name = "log",
     .type = SETTING_CHOICE,
     .offset = offsetof(struct setup, log_format),
     .fallback = "logfmt",
     .choices = log_formats,
     .help = "format of the log lines on stderr"},
    {.name = "log_level",
     .type = SETTING_CHOICE,
     .offset = offsetof(struct setup, log_level),
     .fallback = "info",
     .choices = log_levels,
     .help = "the least level that is written"},
    {.name = "journal", .type = SETTING_CUSTOM, .help = "the durable log between source and sinks"},
    {.name = "http", .type = SETTING_CUSTOM, .help = "the mirror; left out: none"},
    {.name = "sources", .type = SETTING_CUSTOM, .required = true, .help = "list of upstreams"},
    {.name = "sinks",
     .type = SETTING_CUSTOM,
     .help = "list of sinks; every source goes to every "
             "sink unless the sink says otherwise"},
    {.name = NULL},
};

/* ---- journal ---- */

struct journal_section {
    const char *path;
    uint64_t max_size;
    int64_t max_age_ms;
    const char *sync;
};

static bool parse_sync(const char *text, int *sync_ms)
{
    int64_t ms = 0;
    if (strcmp(text, "always") == 0)
        *sync_ms = JOURNAL_SYNC_ALWAYS;
    else if (strcmp(text, "never") == 0)
        *sync_ms = JOURNAL_SYNC_NEVER;
    else if (value_parse_duration(text, &ms) == VALUE_OK && ms >= INTERVAL_MIN_MS &&
             ms <= INTERVAL_MAX_MS)
        *sync_ms = (int)ms;
    else
        return false;
    return true;
}

static const char *check_sync(const char *text)
{
    int ignored;
    return parse_sync(text, &ignored) ? NULL : "always, never, or an interval of 1ms to 60s";
}

static const struct setting journal_rows[] = {
    {.name = "path",
     .type = SETTING_STRING,
     .offset = offsetof(struct journal_section, path),
     .fallback = "/var/lib/busbar",
     .help = "directory; each source has one of its own in it"},
    {.name = "max_size",
     .type = SETTING_SIZE,
     .offset = offsetof(struct journal_section, max_size),
     .fallback = "4GiB",
     .min = INT64_C(1) << 20,
     .max = INT64_C(1) << 46,
     .help = "per source; past it the oldest blocks go, and a sink that still wanted them is told"},
    {.name = "max_age",
     .type = SETTING_DURATION,
     .offset = offsetof(struct journal_section, max_age_ms),
     .fallback = NULL,
     .help = "blocks older than this go once all sinks have passed them; left out: none"},
    {.name = "sync",
     .type = SETTING_STRING,
     .offset = offsetof(struct journal_section, sync),
     .fallback = "100ms",
     .check = check_sync,
     .help = "always, never, or an interval of 1ms to 60s: what a power loss may cost"},
    {.name = NULL},
};

static void read_journal(struct setup *setup, struct settings *file,
                         const struct settings_node *node)
{
    struct journal_section section = {0};
    settings_apply(file, node, "journal", journal_rows, NULL, &section);
    setup->journal_path = section.path;
    setup->journal_max_size = section.max_size;
    setup->journal_max_age_ms = section.max_age_ms;
    setup->journal_sync_ms = JOURNAL_SYNC_NEVER;
    if (section.sync != NULL)
        parse_sync(section.sync, &setup->journal_sync_ms);
}

/* ---- sources and sinks ---- */

struct common_section {
    const char *name;
    const char *type;
};

static const struct setting common_rows[] = {
    {.name = "name",
     .type = SETTING_STRING,
     .offset = offsetof(struct common_section, name),
     .required = true,
     .check = check_name,
     .help = "[a-z0-9_-]+, unique"},
    {.name = "type",
     .type = SETTING_STRING,
     .offset = offsetof(struct common_section, type),
     .required = true,
     .help = "which connector"},
    {.name = NULL},
};

static const struct setting sink_rows[] = {
    {.name = "name",
     .type = SETTING_STRING,
     .offset = offsetof(struct setup_sink, name),
     .required = true,
     .check = check_name,
     .help = "[a-z0-9_-]+, unique"},
    {.name = "type", .type = SETTING_CUSTOM, .required = true, .help = "kafka or redis"},
    {.name = "sources",
     .type = SETTING_LIST,
     .offset = offsetof(struct setup_sink, sources),
     .help = "names of sources; left out: all"},
    {.name = "topics",
     .type = SETTING_LIST,
     .offset = offsetof(struct setup_sink, topics),
     .help = "Topic or Topic:key; left out: all"},
    {.name = "types",
     .type = SETTING_LIST,
     .offset = offsetof(struct setup_sink, types),
     .help = "event types; left out: all"},
    {.name = "namespaces",
     .type = SETTING_LIST,
     .offset = offsetof(struct setup_sink, namespaces),
     .help = "left out: all"},
    {.name = "redact",
     .type = SETTING_LIST,
     .offset = offsetof(struct setup_sink, redact_paths),
     .check = redact_check_path,
     .help = "JSON paths, as $.Payload.Job.Meta or $..Env.*, whose values this sink gets as "
             "\"[redacted]\"; left out: none"},
    {.name = NULL},
};

static void unknown_type(struct settings *file, const struct settings_node *node, const char *type,
                         struct buf *known)
{
    settings_problem(file, node, "type \"%s\": expected one of %s", type, buf_cstr(known));
    buf_fini(known);
}

static const struct source_ops *find_source(const struct registry *registry, const char *type,
                                            struct buf *known)
{
    for (const struct source_ops *const *ops = registry->sources; *ops != NULL; ops++) {
        if (strcmp((*ops)->type, type) == 0)
            return *ops;
        buf_printf(known, "%s%s", known->len > 0 ? ", " : "", (*ops)->type);
    }
    return NULL;
}

static const struct sink_ops *find_sink(const struct registry *registry, const char *type,
                                        struct buf *known)
{
    for (const struct sink_ops *const *ops = registry->sinks; *ops != NULL; ops++) {
        if (strcmp((*ops)->type, type) == 0)
            return *ops;
        buf_printf(known, "%s%s", known->len > 0 ? ", " : "", (*ops)->type);
    }
    return NULL;
}

/* The text of `type`, or NULL with a problem. */
static const char *type_of(struct settings *file, const struct settings_node *node,
                           const char *what)
{
    const struct settings_node *type = settings_get(node, "type");
    if (!settings_is_mapping(node))
        settings_problem(file, node, "an item that is no mapping: expected a %s with name and type",
                         what);
    else if (type == NULL)
        settings_problem(file, node, "\"type\" is missing: expected what kind of %s this is", what);
    else if (settings_text(type) == NULL)
        settings_problem(file, type, "\"type\" is no text: expected what kind of %s this is", what);
    else
        return settings_text(type);
    return NULL;
}

static void read_source(struct setup *setup, struct settings *file,
                        const struct settings_node *node, const struct registry *registry)
{
    struct buf known = {0};
    struct setup_source *source = &setup->sources[setup->n_sources];
    const char *type = type_of(file, node, "source");
    if (type == NULL)
        return;
    source->ops = find_source(registry, type, &known);
    if (source->ops == NULL) {
        unknown_type(file, settings_get(node, "type"), type, &known);
        return;
    }
    buf_fini(&known);
    struct common_section common = {0};
    settings_apply(file, node, "source", common_rows, source->ops->rows, &common);
    source->name = common.name != NULL ? common.name : "";
    source->settings = mem_zalloc(source->ops->settings_size);
    setup->n_sources++;
    if (settings_apply(file, node, "source", source->ops->rows, common_rows, source->settings) ==
            0 &&
        source->ops->check != NULL)
        source->ops->check(file, node, source->settings);
}

/* Paths that can't be read were told by their row; here it is that they are too many. */
static void prepare_redact(struct setup_sink *sink, struct settings *file,
                           const struct settings_node *node)
{
    struct err err = {ERR_INPUT, ""};
    if (redact_new(&sink->redact, &sink->redact_paths, &err) != 0)
        settings_problem(file, settings_get(node, "redact"), "%s", err.msg);
}

static void read_sink(struct setup *setup, struct settings *file, const struct settings_node *node,
                      const struct registry *registry)
{
    struct buf known = {0};
    struct setup_sink *sink = &setup->sinks[setup->n_sinks];
    const char *type = type_of(file, node, "sink");
    if (type == NULL)
        return;
    sink->ops = find_sink(registry, type, &known);
    if (sink->ops == NULL) {
        unknown_type(file, settings_get(node, "type"), type, &known);
        return;
    }
    buf_fini(&known);
    if (settings_apply(file, node, "sink", sink_rows, sink->ops->rows, sink) == 0)
        prepare_redact(sink, file, node);
    sink->name = sink->name != NULL ? sink->name : "";
    sink->settings = mem_zalloc(sink->ops->settings_size);
    setup->n_sinks++;
    if (settings_apply(file, node, "sink", sink->ops->rows, sink_rows, sink->settings) == 0 &&
        sink->ops->check != NULL)
        sink->ops->check(file, node, sink->settings);
}

/* ---- checks across the whole ---- */

static void check_doubles(struct settings *file, const struct settings_node *list, const char *what)
{
    for (size_t i = 0; i < settings_count(list); i++) {
        const struct settings_node *name = settings_get(settings_item(list, i), "name");
        for (size_t j = 0; j < i && settings_text(name) != NULL; j++) {
            const struct settings_node *other = settings_get(settings_item(list, j), "name");
            if (settings_text(other) != NULL &&
                strcmp(settings_text(name), settings_text(other)) == 0)
                settings_problem(file, name,
                                 "name \"%s\" stands at line %d already: expected "
                                 "another name for each %s",
                                 settings_text(name), settings_line(other), what);
        }
    }
}

static bool is_source(const struct setup *setup, const char *name)
{
    for (size_t i = 0; i < setup->n_sources; i++)
        if (strcmp(setup->sources[i].name, name) == 0)
            return true;
    return false;
}

static void check_sink_sources(const struct setup *setup, struct settings *file,
                               const struct settings_node *sinks)
{
    for (size_t i = 0; i < settings_count(sinks); i++) {
        const struct settings_node *list = settings_get(settings_item(sinks, i), "sources");
        size_t n = settings_is_sequence(list) ? settings_count(list) : (list != NULL);
        for (size_t j = 0; j < n; j++) {
            const struct settings_node *item =
                settings_is_sequence(list) ? settings_item(list, j) : list;
            if (settings_text(item) != NULL && !is_source(setup, settings_text(item)))
                settings_problem(file, item,
                                 "source \"%s\" is not configured: expected a name under sources",
                                 settings_text(item));
        }
    }
}

static void read_list(struct setup *setup, struct settings *file, const char *key,
                      const struct registry *registry,
                      void (*read)(struct setup *, struct settings *, const struct settings_node *,
                                   const struct registry *))
{
    const struct settings_node *list = settings_get(settings_root(file), key);
    size_t n = settings_count(list);
    if (list != NULL && !settings_is_sequence(list))
        settings_problem(file, list, "\"%s\" is no list: expected items that start with \"-\"",
                         key);
    if (n > NAMES_MAX)
        settings_problem(file, list, "%zu items under \"%s\": expected at most %d", n, key,
                         NAMES_MAX);
    for (size_t i = 0; i < n && i < NAMES_MAX; i++)
        read(setup, file, settings_item(list, i), registry);
}

struct setup *setup_read(struct settings *file, const struct registry *registry)
{
    struct setup *setup = mem_zalloc(sizeof *setup);
    const struct settings_node *root = settings_root(file);
    settings_apply(file, root, "the configuration", top_rows, NULL, setup);
    read_journal(setup, file, settings_get(root, "journal"));
    setup->http = settings_get(root, "http");
    setup->sources = mem_zalloc(NAMES_MAX * sizeof *setup->sources);
    setup->sinks = mem_zalloc(NAMES_MAX * sizeof *setup->sinks);
    read_list(setup, file, "sources", registry, read_source);
    read_list(setup, file, "sinks", registry, read_sink);
    check_doubles(file, settings_get(root, "sources"), "source");
    check_doubles(file, settings_get(root, "sinks"), "sink");
    check_sink_sources(setup, file, settings_get(root, "sinks"));
    if (settings_problems(file) == 0 && setup->n_sources == 0)
        settings_problem(file, root, "no source: expected at least one under sources");
    if (settings_problems(file) == 0 && setup->n_sinks == 0 && setup->http == NULL)
        settings_problem(file, root, "no exit: expected a sink under sinks, or http");
    return setup;
}

void setup_free(struct setup **setup)
{
    struct setup *s = *setup;
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n_sources; i++)
        free(s->sources[i].settings);
    for (size_t i = 0; i < s->n_sinks; i++) {
        free(s->sinks[i].settings);
        redact_free(&s->sinks[i].redact);
    }
    free(s->sources);
    free(s->sinks);
    free(s);
    *setup = NULL;
}

bool setup_sink_takes(const struct setup_sink *sink, const char *source)
{
    for (size_t i = 0; i < sink->sources.n; i++)
        if (strcmp(sink->sources.items[i], source) == 0)
            return true;
    return sink->sources.n == 0;
}

void setup_document(const struct registry *registry, FILE *to)
{
    settings_document(top_rows, "Top level", to);
    settings_document(journal_rows, "journal", to);
    settings_document(common_rows, "Every source", to);
    for (const struct source_ops *const *ops = registry->sources; *ops != NULL; ops++) {
        struct buf title = {0};
        buf_printf(&title, "Source, type: %s", (*ops)->type);
        settings_document((*ops)->rows, buf_cstr(&title), to);
        buf_fini(&title);
    }
    settings_document(sink_rows, "Every sink", to);
    for (const struct sink_ops *const *ops = registry->sinks; *ops != NULL; ops++) {
        struct buf title = {0};
        buf_printf(&title, "Sink, type: %s", (*ops)->type);
        settings_document((*ops)->rows, buf_cstr(&title), to);
        buf_fini(&title);
    }
}
