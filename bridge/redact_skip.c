/* redact_skip.c - passes over a container: 64 bytes at a time, as masks with a bit for each of
 * them.
 *
 * Quotes, less those behind a backslash, tell which bytes stand in strings; brackets that don't are
 * counted. What is left at the end of the text is passed byte by byte. */
#include "bridge/redact_skip.h"

#include <stdint.h>

struct skim {
    size_t depth;    /* containers open */
    uint64_t inside; /* all bits: a string goes on here */
    uint64_t taken;  /* 1: a backslash before here takes the next byte */
};

#if defined(__SSE2__)
/* The bytes at `p` that are `c` once the bits of `also` are set in them. */
INLINE uint64_t mask_of(const char *p, char c, char also)
{
    const __m128i wanted = _mm_set1_epi8(c), bits = _mm_set1_epi8(also);
    uint64_t mask = 0;
    for (size_t i = 0; i < 4; i++) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
        x = _mm_cmpeq_epi8(_mm_or_si128(x, bits), wanted);
        mask |= (uint64_t)(unsigned)_mm_movemask_epi8(x) << (16 * i);
    }
    return mask;
}

/* The quotes that no backslash takes. Backslashes are few. */
INLINE uint64_t real_quotes(struct skim *skim, uint64_t quotes, uint64_t slashes)
{
    quotes &= ~skim->taken;
    slashes &= ~skim->taken;
    skim->taken = 0;
    while (slashes != 0) {
        uint64_t slash = slashes & (~slashes + 1);
        quotes &= ~(slash << 1);
        slashes &= ~(slash | slash << 1);
        skim->taken = slash >> 63;
    }
    return quotes;
}

/* The bits up to which, themselves included, an odd number is set. */
INLINE uint64_t odd_up_to(uint64_t x)
{
    for (unsigned shift = 1; shift < 64; shift *= 2)
        x ^= x << shift;
    return x;
}

/* Returns what follows the outermost bracket (depth 0 then), or where less than a block is left. */
static const char *skim_blocks(struct skim *skim, const char *p, const char *end)
{
    for (; end - p >= 64; p += 64) {
        uint64_t quotes = real_quotes(skim, mask_of(p, '"', 0), mask_of(p, '\\', 0));
        uint64_t strings = odd_up_to(quotes) ^ skim->inside;
        uint64_t open = mask_of(p, '{', 0x20) & ~strings; /* one bit tells [ from {, */
        uint64_t close = mask_of(p, '}', 0x20) & ~strings;
        skim->inside = strings >> 63 != 0 ? UINT64_MAX : 0;
        for (uint64_t left = open | close; left != 0; left &= left - 1) {
            unsigned at = (unsigned)__builtin_ctzll(left);
            if ((open >> at & 1) != 0)
                skim->depth++;
            else if (--skim->depth == 0)
                return p + at + 1;
        }
    }
    return p;
}
#else
static const char *skim_blocks(struct skim *skim, const char *p, const char *end)
{
    (void)skim;
    (void)end;
    return p;
}
#endif

const char *redact_skip_container(const char *p, const char *end)
{
    struct skim skim = {.depth = 1};
    bool ignored;
    p = skim_blocks(&skim, p + 1, end);
    if (skim.depth > 0 && skim.inside != 0)
        p = skim.taken == 0 || p < end ? redact_skip_string(p + skim.taken, end, &ignored) : NULL;
    while (p != NULL && skim.depth > 0) {
        while (p < end && *p != '"' && (*p | 0x20) != '{' && (*p | 0x20) != '}')
            p++;
        if (p == end)
            return NULL;
        char c = *p++;
        if (c == '"')
            p = redact_skip_string(p, end, &ignored);
        else if ((c | 0x20) == '{')
            skim.depth++;
        else
            skim.depth--;
    }
    return p;
}
