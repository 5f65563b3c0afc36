/* marathon.h - a Marathon as a source: `type: marathon` follows GET /v2/events, `type:
 * marathon_callback` has Marathon call (to 1.4). */
#ifndef BUSBAR_CONNECTORS_MARATHON_H
#define BUSBAR_CONNECTORS_MARATHON_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/source.h"
#include "config/settings.h"
#include "connectors/http_access.h"

struct http_token;

enum marathon_plan_format { MARATHON_PLAN_LIGHT, MARATHON_PLAN_HEAVY };

struct marathon_settings {
    struct http_access_settings access; /* first: its rows are shared with other sources */
    struct setting_list servers;
    const char *token, *token_file;  /* DC/OS: Authorization: token=… */
    struct http_token *file_token;   /* token_file's, for a source's life; NULL: read statelessly */
    struct setting_list event_types; /* empty: all */
    int plan_format;                 /* enum marathon_plan_format: light | full */
    int start;                       /* enum source_start; oldest means: now, there is no replay */
    int64_t silence_ms;
    int64_t connect_timeout_ms;
    int64_t snapshot_rate; /* requests a second */
    /* marathon_callback */
    const char *listen;       /* HOST:PORT where Marathon's calls are taken */
    const char *callback_url; /* as Marathon reaches it */
    int64_t check_ms;         /* how often the list of subscribers is looked at */
};

extern const struct source_ops marathon_source;
extern const struct source_ops marathon_callback_source;

#endif
