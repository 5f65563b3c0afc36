/* mix.h - numbers that look random, for the benchmark's tools. */
#ifndef BUSBAR_BENCH_MIX_H
#define BUSBAR_BENCH_MIX_H

#include <stdint.h>

/* One to one over 64 bits: different numbers stay different. */
static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ (x >> 33);
}

#endif
