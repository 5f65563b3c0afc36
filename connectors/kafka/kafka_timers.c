/* kafka_timers.c - librdkafka's main thread sleeps until its next timer, and doesn't spin.
 *
 * Its loop asks rd_kafka_timers_next how many µs that is, and sleeps as many whole milliseconds as
 * fit into them: through the last part of one it asks again and again. Each transaction starts two
 * timers of a millisecond, so that it cost 2 ms of a core, whatever was in it. librdkafka 2.4
 * rounds up instead (its pull request 4671). In an older one the linker puts this function in the
 * other's place (librdkafka.cmake), and it rounds up too. */
#include <stdint.h>

/* As declared by rdkafka_timer.h, which librdkafka keeps to itself. */
int64_t __real_rd_kafka_timers_next(void *timers, int most_us, int lock);
int64_t __wrap_rd_kafka_timers_next(void *timers, int most_us, int lock);

int64_t __wrap_rd_kafka_timers_next(void *timers, int most_us, int lock)
{
    return (__real_rd_kafka_timers_next(timers, most_us, lock) + 999) / 1000 * 1000;
}
