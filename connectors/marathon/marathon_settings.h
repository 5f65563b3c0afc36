/* marathon_settings.h - a Marathon's part of the configuration. */
#ifndef BUSBAR_CONNECTORS_MARATHON_SETTINGS_H
#define BUSBAR_CONNECTORS_MARATHON_SETTINGS_H

#include "bridge/source.h"
#include "connectors/marathon/marathon.h"

/* What every way to hear of a Marathon has: servers, token, token_file, start, connect_timeout,
 * snapshot_rate, and http_access's. The `.rest` of their own tables. */
extern const struct setting marathon_server_rows[];
/* source_ops.check for those. */
void marathon_check_server(struct settings *file, const struct settings_node *node,
                           const void *settings);
enum source_start marathon_start(const void *settings);
unsigned marathon_snapshot_rate(const void *settings);
bool marathon_is_marathon(const void *settings);
/* Is a token configured, wherever it stands? */
bool marathon_has_token(const struct marathon_settings *settings);

/* source_ops.rows and the like of `type: marathon`. */
extern const struct setting marathon_rows[];
void marathon_check(struct settings *file, const struct settings_node *node, const void *settings);
struct filter *marathon_filter(const void *settings);
/* Does `event_types` leave some types out? */
bool marathon_is_filtered(const struct marathon_settings *settings);

#endif
