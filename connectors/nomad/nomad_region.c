/* nomad_region.c - what every way to read a region is made of. */
#include "connectors/nomad/nomad_region.h"

#include "bridge/base/clock.h"
#include "connectors/http_token.h"

enum { BACKOFF_LEAST_MS = 250, BACKOFF_MOST_MS = 30000 };

void nomad_region_init(struct nomad_region *region, const void *settings, struct ingest *ingest)
{
    *region = (struct nomad_region){.settings = *(const struct nomad_settings *)settings};
    region->settings.file_token = http_token_new(region->settings.token_file);
    region->ingest = ingest;
}

void nomad_region_fini(struct nomad_region *region)
{
    http_token_free(&region->settings.file_token);
}

void nomad_region_wait(const struct nomad_region *region, unsigned fruitless)
{
    int wait_ms = 0;
    if (fruitless > 0) {
        unsigned round = 1 + (unsigned)((fruitless - 1) / region->settings.servers.n);
        wait_ms = clock_backoff_ms(round, BACKOFF_LEAST_MS, BACKOFF_MOST_MS);
    }
    http_token_wait(region->settings.file_token, ingest_stop(region->ingest), wait_ms);
}

unsigned nomad_region_snapshot_rate(const void *settings)
{
    return (unsigned)((const struct nomad_settings *)settings)->snapshot_rate;
}

/* On another thread than `run`: of the region it shares what never changes. */
int nomad_region_snapshot(void *self, struct resync *resync, struct err *err)
{
    struct nomad_region *region = self;
    return snapshot_read(&region->settings, ingest_source(region->ingest), resync,
                         &region->snapshot_memory, err);
}

bool nomad_region_is_nomad(const void *settings, const char **region)
{
    const char *name = ((const struct nomad_settings *)settings)->region;
    *region = name != NULL && name[0] != '\0' ? name : NULL;
    return true;
}
