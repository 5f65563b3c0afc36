/* setup.h - the configuration of a whole bridge, read and checked: what `check` checks is what
 * `run` runs.
 *
 * Which connectors exist is told from outside (the registry), so that bridge/ knows none of them.
 */
#ifndef BUSBAR_SETUP_H
#define BUSBAR_SETUP_H

#include <stdio.h>

#include "bridge/base/log.h"
#include "bridge/journal.h"
#include "bridge/redact.h"
#include "bridge/sink.h"
#include "bridge/source.h"

/* NULL-terminated lists of all there is. */
struct registry {
    const struct source_ops *const *sources;
    const struct sink_ops *const *sinks;
};

struct setup_source {
    const char *name;
    const struct source_ops *ops;
    void *settings; /* filled by the connector's rows */
};

struct setup_sink {
    const char *name;
    const struct sink_ops *ops;
    void *settings;
    struct setting_list sources, topics, types, namespaces, redact_paths;
    struct redact *redact; /* of those; NULL: none */
};

struct setup {
    const char *name;
    bool standby;
    int log_format; /* enum log_format */
    int log_level;  /* enum log_level */
    const char *journal_path;
    uint64_t journal_max_size;
    int64_t journal_max_age_ms;
    int journal_sync_ms;
    struct setup_source *sources;
    size_t n_sources;
    struct setup_sink *sinks;
    size_t n_sinks;
    const struct settings_node *http; /* the mirror's section, or NULL: its owner reads it */
};

/* Adds problems to `file`; the setup is usable only where there are none. Strings belong to `file`.
 */
struct setup *setup_read(struct settings *file, const struct registry *registry);
void setup_free(struct setup **setup);
bool setup_sink_takes(const struct setup_sink *sink, const char *source);

/* The reference of all keys, as Markdown. */
void setup_document(const struct registry *registry, FILE *to);

#endif
