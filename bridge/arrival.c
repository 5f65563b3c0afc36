/* arrival.c - one clock of arrival times for all sources of a process. */
#include "bridge/arrival.h"

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"

#include <stdlib.h>

void arrival_init(struct arrival *arrival, size_t n_sources)
{
    pthread_mutex_init(&arrival->lock, NULL);
    arrival->last = 0;
    arrival->pending = mem_zalloc(n_sources * sizeof *arrival->pending);
    arrival->n_sources = n_sources;
}

void arrival_fini(struct arrival *arrival)
{
    free(arrival->pending);
    pthread_mutex_destroy(&arrival->lock);
}

void arrival_raise(struct arrival *arrival, int64_t last)
{
    pthread_mutex_lock(&arrival->lock);
    if (last > arrival->last)
        arrival->last = last;
    pthread_mutex_unlock(&arrival->lock);
}

int64_t arrival_take(struct arrival *arrival, size_t source, size_t n)
{
    int64_t now = clock_wall_us();
    pthread_mutex_lock(&arrival->lock);
    int64_t first = now > arrival->last ? now : arrival->last + 1;
    arrival->last = first + (int64_t)n - 1;
    if (arrival->pending[source] == 0)
        arrival->pending[source] = first;
    pthread_mutex_unlock(&arrival->lock);
    return first;
}

void arrival_readable(struct arrival *arrival, size_t source)
{
    pthread_mutex_lock(&arrival->lock);
    arrival->pending[source] = 0;
    pthread_mutex_unlock(&arrival->lock);
}

int64_t arrival_horizon(struct arrival *arrival)
{
    pthread_mutex_lock(&arrival->lock);
    int64_t horizon = arrival->last;
    for (size_t i = 0; i < arrival->n_sources; i++)
        if (arrival->pending[i] != 0 && arrival->pending[i] - 1 < horizon)
            horizon = arrival->pending[i] - 1;
    pthread_mutex_unlock(&arrival->lock);
    return horizon;
}
