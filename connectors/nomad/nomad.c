/* nomad.c - a Nomad region as a source: the thread that keeps a stream open.
 *
 * The thread goes through the list of servers in turn. A stream that brought something new is
 * followed at once by the next try, because Nomad's buffer may hold no more than some seconds;
 * fruitless tries wait, twice as long after each round through the list. */
#include "connectors/nomad/nomad.h"

#include "connectors/nomad/nomad_region.h"
#include "connectors/nomad/nomad_settings.h"
#include "connectors/nomad/nomad_stream.h"

#include <stdlib.h>

static void *create(const void *settings, struct ingest *ingest)
{
    struct nomad_region *self = mem_alloc(sizeof *self);
    nomad_region_init(self, settings, ingest);
    return self;
}

static void destroy(void *self)
{
    if (self != NULL)
        nomad_region_fini(self);
    free(self);
}

static int run(void *arg, struct err *err)
{
    struct nomad_region *self = arg;
    const struct setting_list *servers = &self->settings.servers;
    struct stop *stop = ingest_stop(self->ingest);
    struct nomad_memory memory = {0};
    struct nomad_outcome outcome = {.end = NOMAD_LOST};
    unsigned fruitless = 0;
    for (size_t i = 0; !stop_requested(stop); i = memory.again ? i : (i + 1) % servers->n) {
        nomad_stream_run(&self->settings, self->ingest, servers->items[i], &memory, &outcome);
        if (outcome.end != NOMAD_LOST)
            break;
        fruitless = outcome.fruitful ? 0 : fruitless + 1;
        nomad_region_wait(self, fruitless);
    }
    nomad_memory_fini(&memory);
    if (outcome.end != NOMAD_FAILED || stop_requested(stop))
        return 0;
    *err = outcome.err;
    return -1;
}

const struct source_ops nomad_source = {
    .type = "nomad",
    .rows = nomad_rows,
    .settings_size = sizeof(struct nomad_settings),
    .check = nomad_check,
    .filter = nomad_filter,
    .start = nomad_start,
    .digest = nomad_digest_if_wanted,
    .is_nomad = nomad_region_is_nomad,
    .snapshot_rate = nomad_region_snapshot_rate,
    .snapshot = nomad_region_snapshot,
    .create = create,
    .run = run,
    .destroy = destroy,
};
