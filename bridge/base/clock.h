/* clock.h - the time of day for people and records, the monotonic one for waiting. */
#ifndef BUSBAR_BASE_CLOCK_H
#define BUSBAR_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/buf.h"

enum { CLOCK_TEXT_MAX = 32 };

int64_t clock_wall_us(void); /* µs since 1970-01-01 UTC */
int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
/* RFC 3339 in UTC: with ms ("2026-11-21T18:54:10.123Z"), or µs where the ms are not whole. */
void clock_format(int64_t wall_us, char out[CLOCK_TEXT_MAX]);
/* The same text, twenty times cheaper where the second stays. `kept` is zeroed to start with; the
 * text lives in it, until the next call. One thread. */
struct clock_kept {
    int64_t second;
    size_t len; /* of what stands before the fraction; 0: nothing is kept yet */
    char text[CLOCK_TEXT_MAX];
};
struct str clock_format_kept(struct clock_kept *kept, int64_t wall_us);
/* RFC 3339 (section 5.6), any offset, any number of fraction digits; false where it is not one. */
bool clock_parse(struct str text, int64_t *wall_us);

/* Backoff with jitter: the n-th fruitless attempt in a row (from 1) waits least_ms · 2^(n-1), at
 * most most_ms, and of that a random half to whole. */
int clock_backoff_ms(unsigned attempt, int least_ms, int most_ms);

#endif
