/* histogram.c - buckets that grow by the power of two, each power cut into 32. */
#include "tests/bench/fanout/histogram.h"

#include <stddef.h>

static size_t bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_SUB)
        return (size_t)value;
    unsigned power = 63U - (unsigned)__builtin_clzll(value);
    return (power - 4) * HISTOGRAM_SUB + (size_t)(value >> (power - 5)) - HISTOGRAM_SUB;
}

/* The largest value of a bucket. */
static int64_t top_of(size_t bucket)
{
    if (bucket < HISTOGRAM_SUB)
        return (int64_t)bucket;
    unsigned power = (unsigned)(bucket / HISTOGRAM_SUB) + 4;
    uint64_t sub = bucket % HISTOGRAM_SUB + HISTOGRAM_SUB;
    return (int64_t)(((sub + 1) << (power - 5)) - 1);
}

void histogram_add(struct histogram *h, int64_t value)
{
    if (value < 0)
        value = 0;
    h->counts[bucket_of((uint64_t)value)]++;
    h->n++;
    if (value > h->max)
        h->max = value;
}

int64_t histogram_at(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)h->n);
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS && h->n > 0; i++) {
        seen += h->counts[i];
        if (seen > wanted || seen == h->n)
            return top_of(i) < h->max ? top_of(i) : h->max;
    }
    return 0;
}
