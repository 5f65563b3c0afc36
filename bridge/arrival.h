/* arrival.h - one clock of arrival times for all sources of a process: µs of the wall, strictly
 * rising.
 *
 * A source takes times before its events are readable in its journal. The horizon is the time up to
 * which all sources' events are readable, so that readers who merge sources by arrival never pass
 * one that is still being written. */
#ifndef BUSBAR_ARRIVAL_H
#define BUSBAR_ARRIVAL_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct arrival {
    pthread_mutex_t lock;
    int64_t last;
    int64_t *pending; /* per source: the first time taken and not yet readable, 0: none */
    size_t n_sources;
};

void arrival_init(struct arrival *arrival, size_t n_sources);
void arrival_fini(struct arrival *arrival);
/* A journal already holds times up to this. */
void arrival_raise(struct arrival *arrival, int64_t last);
/* Takes n (> 0) times in a row; returns the first. */
int64_t arrival_take(struct arrival *arrival, size_t source, size_t n);
/* All times that this source took are readable now. */
void arrival_readable(struct arrival *arrival, size_t source);
int64_t arrival_horizon(struct arrival *arrival);

#endif
