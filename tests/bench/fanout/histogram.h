/* histogram.h - how often which time was seen, within 3 %, in constant memory. */
#ifndef BUSBAR_FANOUT_HISTOGRAM_H
#define BUSBAR_FANOUT_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB = 32, HISTOGRAM_BUCKETS = 60 * HISTOGRAM_SUB };

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t n;
    int64_t max;
};

/* A negative value (clocks of two processes) counts as 0. */
void histogram_add(struct histogram *h, int64_t value);
/* The value that `share` (0 to 1) of all do not exceed; 0 where there are none. */
int64_t histogram_at(const struct histogram *h, double share);

#endif
