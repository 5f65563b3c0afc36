/* redact_skip.h - passes over JSON text without looking into it: all that redact.c does with the
 * bytes it does not want. Internal to it.
 *
 * As in json_scan.c, what is worth vectors is the search for what ends something; loads never cross
 * the text's end. Nothing is validated, and no byte outside of the text is read whatever stands
 * there. Each returns what follows, or NULL where the text ends before that. */
#ifndef BUSBAR_REDACT_SKIP_H
#define BUSBAR_REDACT_SKIP_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* Mostly there is none. */
INLINE const char *redact_skip_space(const char *p, const char *end)
{
    while (p < end && (unsigned char)*p <= ' ' &&
           (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* The next quote or backslash, or the end. */
INLINE const char *redact_find_quote(const char *p, const char *end)
{
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    for (; end - p >= 16; p += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i found = _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash));
        int mask = _mm_movemask_epi8(found);
        if (mask != 0)
            return p + __builtin_ctz((unsigned)mask);
    }
#endif
    while (p < end && *p != '"' && *p != '\\')
        p++;
    return p;
}

/* `p` is behind the opening quote; returns what follows the closing one.
 * *escaped: it has a backslash. */
INLINE const char *redact_skip_string(const char *p, const char *end, bool *escaped)
{
    *escaped = false;
    for (;;) {
        p = redact_find_quote(p, end);
        if (p == end)
            return NULL;
        if (*p == '"')
            return p + 1;
        *escaped = true;
        if (end - p < 2)
            return NULL;
        p += 2;
    }
}

/* `p` is at an opening bracket, of which kind does not matter to it. */
const char *redact_skip_container(const char *p, const char *end);

#endif
