/* clock.c - the time of day for people and records, the monotonic one for waiting. */
#include "bridge/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { US_PER_S = 1000000, US_PER_MS = 1000 };

static int64_t now_us(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
    return now_us(CLOCK_REALTIME);
}

int64_t clock_mono_us(void)
{
    return now_us(CLOCK_MONOTONIC);
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / US_PER_MS;
}

void clock_format(int64_t wall_us, char out[CLOCK_TEXT_MAX])
{
    int64_t us = wall_us % US_PER_S;
    time_t s = (time_t)(wall_us / US_PER_S);
    if (us < 0) {
        us += US_PER_S;
        s--;
    }
    struct tm tm;
    gmtime_r(&s, &tm);
    size_t n = strftime(out, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    if (us % US_PER_MS == 0)
        snprintf(out + n, CLOCK_TEXT_MAX - n, ".%03dZ", (int)(us / US_PER_MS));
    else
        snprintf(out + n, CLOCK_TEXT_MAX - n, ".%06dZ", (int)us);
}

struct str clock_format_kept(struct clock_kept *kept, int64_t wall_us)
{
    int64_t second = wall_us / US_PER_S, us = wall_us % US_PER_S;
    if (us < 0) {
        us += US_PER_S;
        second--;
    }
    if (kept->len == 0 || kept->second != second) {
        clock_format(second * US_PER_S, kept->text);
        kept->len = strcspn(kept->text, ".");
        kept->second = second;
    }
    bool whole_ms = us % US_PER_MS == 0;
    int count = whole_ms ? 3 : 6;
    int64_t fraction = whole_ms ? us / US_PER_MS : us;
    char *at = kept->text + kept->len;
    *at = '.';
    for (int i = count; i > 0; i--, fraction /= 10)
        at[i] = (char)('0' + fraction % 10);
    at[count + 1] = 'Z';
    return (struct str){kept->text, kept->len + (size_t)count + 2};
}

static bool digits(const char **at, const char *end, int count, int *value)
{
    *value = 0;
    for (int i = 0; i < count; i++, (*at)++) {
        if (*at == end || **at < '0' || **at > '9')
            return false;
        *value = *value * 10 + (**at - '0');
    }
    return true;
}

static bool one_of(const char **at, const char *end, const char *set)
{
    if (*at == end || strchr(set, **at) == NULL || **at == '\0')
        return false;
    (*at)++;
    return true;
}

static bool date_time(const char **at, const char *end, struct tm *tm)
{
    int year, month;
    if (!digits(at, end, 4, &year) || !one_of(at, end, "-") || !digits(at, end, 2, &month) ||
        !one_of(at, end, "-") || !digits(at, end, 2, &tm->tm_mday) || !one_of(at, end, "Tt ") ||
        !digits(at, end, 2, &tm->tm_hour) || !one_of(at, end, ":") ||
        !digits(at, end, 2, &tm->tm_min) || !one_of(at, end, ":") ||
        !digits(at, end, 2, &tm->tm_sec))
        return false;
    tm->tm_year = year - 1900;
    tm->tm_mon = month - 1;
    return month >= 1 && month <= 12 && tm->tm_mday >= 1 && tm->tm_mday <= 31 &&
           tm->tm_hour <= 23 && tm->tm_min <= 59 && tm->tm_sec <= 60;
}

static bool offset_s(const char **at, const char *end, int *seconds)
{
    *seconds = 0;
    if (one_of(at, end, "Zz"))
        return true;
    const char *sign = *at;
    int h, m;
    if (!one_of(at, end, "+-") || !digits(at, end, 2, &h) || !one_of(at, end, ":") ||
        !digits(at, end, 2, &m))
        return false;
    *seconds = (h * 3600 + m * 60) * (*sign == '-' ? -1 : 1);
    return h <= 23 && m <= 59;
}

bool clock_parse(struct str text, int64_t *wall_us)
{
    if (text.len == 0)
        return false;
    const char *at = text.p, *end = text.p + text.len;
    struct tm tm = {0};
    if (!date_time(&at, end, &tm))
        return false;
    int64_t us = 0, unit = US_PER_S;
    if (one_of(&at, end, ".")) {
        int digit, count = 0;
        for (; digits(&at, end, 1, &digit); count++) {
            unit /= 10;
            us += digit * unit;
        }
        if (count == 0)
            return false;
    }
    int seconds;
    if (!offset_s(&at, end, &seconds) || at != end)
        return false;
    *wall_us = ((int64_t)timegm(&tm) - seconds) * US_PER_S + us;
    return true;
}

int clock_backoff_ms(unsigned attempt, int least_ms, int most_ms)
{
    int64_t wait = least_ms;
    for (unsigned i = 1; i < attempt && wait < most_ms; i++)
        wait *= 2;
    if (wait > most_ms)
        wait = most_ms;
    uint32_t r = 0;
    if (getrandom(&r, sizeof r, GRND_NONBLOCK) != (ssize_t)sizeof r)
        r = (uint32_t)clock_mono_us();
    int64_t half = wait / 2;
    return (int)(half + (int64_t)(r % (uint64_t)(wait - half + 1)));
}
