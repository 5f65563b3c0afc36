/* marathon_callback.h - what the parts of `type: marathon_callback` share: its settings.
 * CALLBACKS.md tells how it behaves, and what it can't notice. */
#ifndef BUSBAR_CONNECTORS_MARATHON_CALLBACK_H
#define BUSBAR_CONNECTORS_MARATHON_CALLBACK_H

#include "config/settings.h"

/* source_ops.rows and .check. */
extern const struct setting marathon_callback_rows[];
void marathon_callback_check(struct settings *file, const struct settings_node *node,
                             const void *settings);

#endif
