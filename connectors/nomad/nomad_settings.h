/* nomad_settings.h - a Nomad region's part of the configuration. */
#ifndef BUSBAR_CONNECTORS_NOMAD_SETTINGS_H
#define BUSBAR_CONNECTORS_NOMAD_SETTINGS_H

#include "bridge/source.h"
#include "connectors/nomad/nomad.h"

/* source_ops.rows and the like of `type: nomad`. */
extern const struct setting nomad_rows[];
extern const struct setting nomad_blocking_rows[]; /* of `type: nomad_blocking` */
void nomad_check(struct settings *file, const struct settings_node *node, const void *settings);
struct filter *nomad_filter(const void *settings);
enum source_start nomad_start(const void *settings);
source_digest *nomad_digest_if_wanted(const void *settings);

#endif
