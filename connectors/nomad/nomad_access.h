/* nomad_access.h - the settings by which a guarded region is reached: its token, and what
 * http_access.h has. */
#ifndef BUSBAR_CONNECTORS_NOMAD_ACCESS_H
#define BUSBAR_CONNECTORS_NOMAD_ACCESS_H

#include "connectors/nomad/nomad.h"

/* Of every way to read a region; the last rows of their tables, http_access_rows among them. */
extern const struct setting nomad_access_rows[];
/* source_ops.check for these rows. */
void nomad_access_check(struct settings *file, const struct settings_node *node,
                        const struct nomad_settings *settings);
/* Is a token configured, wherever it stands? */
bool nomad_access_has_token(const struct nomad_settings *settings);

#endif
