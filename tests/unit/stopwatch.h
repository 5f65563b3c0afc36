/* stopwatch.h - how long something took, on a machine that stands still now and then.
 *
 * A busy machine, or the one that it is a guest of, stops a process for seconds at any moment. That
 * is no time that the program took, so what it must not exceed is measured in the time that the
 * process had: a thread looks at the clock every few milliseconds and counts little for each look,
 * however late it came. What it must wait at least is measured by the clock. */
#ifndef BUSBAR_TESTS_STOPWATCH_H
#define BUSBAR_TESTS_STOPWATCH_H

#include "bridge/base/clock.h"
#include "tests/unit/check.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { STOPWATCH_LOOK_MS = 5, STOPWATCH_COUNTED_MS = 20 }; /* of one look, at most */

struct stopwatch {
    int64_t clock_ms, had_ms;
};

static atomic_llong stopwatch_had_ms;
static pthread_once_t stopwatch_once = PTHREAD_ONCE_INIT;

static inline void *stopwatch_look(void *arg)
{
    (void)arg;
    int64_t last = clock_mono_ms();
    for (;;) {
        poll(NULL, 0, STOPWATCH_LOOK_MS);
        int64_t now = clock_mono_ms(), passed = now - last;
        atomic_fetch_add(&stopwatch_had_ms,
                         passed < STOPWATCH_COUNTED_MS ? passed : STOPWATCH_COUNTED_MS);
        last = now;
    }
    return NULL;
}

static inline void stopwatch_begin(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, stopwatch_look, NULL) != 0 || pthread_detach(thread) != 0)
        abort();
}

static inline struct stopwatch stopwatch_start(void)
{
    pthread_once(&stopwatch_once, stopwatch_begin);
    return (struct stopwatch){clock_mono_ms(), atomic_load(&stopwatch_had_ms)};
}

/* Milliseconds since, of those that the process had. */
static inline int64_t stopwatch_had(const struct stopwatch *since)
{
    return atomic_load(&stopwatch_had_ms) - since->had_ms;
}

/* At least `least` ms went by, and of those that the process had `most` at most. */
#define assert_took(since, least, most)                                                           \
    do {                                                                                          \
        int64_t passed_ = clock_mono_ms() - (since)->clock_ms, had_ = stopwatch_had(since);       \
        if (passed_ < (least) || had_ > (most))                                                   \
            fail_msg("it took %lld ms, %lld of which it had: not from %lld to %lld",              \
                     (long long)passed_, (long long)had_, (long long)(least), (long long)(most)); \
    } while (0)

#endif
