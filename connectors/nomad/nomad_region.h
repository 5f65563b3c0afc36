/* nomad_region.h - what every way to read a region is made of: `type: nomad` follows its stream,
 * `type: nomad_blocking` polls it. */
#ifndef BUSBAR_CONNECTORS_NOMAD_REGION_H
#define BUSBAR_CONNECTORS_NOMAD_REGION_H

#include "connectors/nomad/nomad.h"
#include "connectors/nomad/nomad_snapshot.h"

/* Stands first in a source's own struct, so that a source_ops' `self` is one of these too. */
struct nomad_region {
    struct nomad_settings settings; /* with the token's file, which has a state */
    struct ingest *ingest;
    struct snapshot_memory snapshot_memory; /* of the resync's thread */
};

void nomad_region_init(struct nomad_region *region, const void *settings, struct ingest *ingest);
void nomad_region_fini(struct nomad_region *region);

/* Waits before the next try, after so many that brought nothing: not at all after none, else 0.25
 * s, doubling with each round through the servers up to 30 s. A stop, or another token in its file,
 * ends it. */
void nomad_region_wait(const struct nomad_region *region, unsigned fruitless);

/* source_ops.snapshot_rate, .snapshot and .is_nomad. */
unsigned nomad_region_snapshot_rate(const void *settings);
int nomad_region_snapshot(void *self, struct resync *resync, struct err *err);
bool nomad_region_is_nomad(const void *settings, const char **region);

#endif
