/* redis_settings.h - what a `type: redis` sink is told by the configuration. */
#ifndef BUSBAR_REDIS_SETTINGS_H
#define BUSBAR_REDIS_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "config/settings.h"

struct redis_settings {
    const char *url;
    const char *password; /* NULL: the URL's, if any */
    const char *stream;
    const char *prefix;
    int64_t max_entries; /* 0: all */
    int64_t buckets;
    int64_t timeout_ms;
    bool cluster;
};

extern const struct setting redis_settings_rows[];

/* As sink_ops.check. */
void redis_settings_check(struct settings *file, const struct settings_node *node,
                          const void *settings);

#endif
