/* json_scan.c - walks a JSON text in place and validates it; builds no tree.
 *
 * Two ways through a text share the same pieces: the cursor steps from value to value for what the
 * caller wants to see, json_scan_skip runs over all the rest in one loop that keeps a stack of the
 * brackets to close. Nearly all bytes stand in strings, so all that is worth vectors is the search
 * for the first byte that is not plain: quote, backslash, control character, not ASCII. Strings are
 * short, so 64 bytes are searched at once (SSE2, which every x86-64 has) and what was found is kept
 * for the strings that follow: 16 % less than a search of 16 bytes for each.
 *
 * Loads never cross the text's end: what is left of it is searched in smaller steps, which are also
 * what other machines use throughout. */
#include "connectors/json_scan.h"

#include <assert.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* Always NULL; out of line, so that what works stays in one piece. */
static __attribute__((noinline, cold)) const char *fail(struct json_scan *scan, const char *p,
                                                        const char *wrong)
{
    scan->p = p;
    scan->wrong = wrong;
    return NULL;
}

/* ---- the search ---- */

/* In each byte of the result the high bit tells that the byte is not plain; bytes above one that
 * is found may be wrong, none below is. */
INLINE uint64_t not_plain(uint64_t x)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;
    uint64_t quote = x ^ (ones * '"'), slash = x ^ (ones * '\\');
    return (x | (x - ones * 0x20) | (quote - ones) | (slash - ones)) & high;
}

#if defined(__SSE2__)
enum { WINDOW = 64 };

/* Which of 16 bytes are not plain. Bytes are compared as signed ones: below 0x20 are control
 * characters and all that is not ASCII. */
INLINE uint64_t special_of_16(const char *p)
{
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');
    const __m128i space = _mm_set1_epi8(0x20);
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i special = _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(special, _mm_cmplt_epi8(x, space)));
}

/* Passes plain bytes in steps of 64; less than that is left, or one that is not plain is next. */
INLINE const char *find_wide(struct json_scan *scan, const char *p, bool *found)
{
    for (;;) {
        uintptr_t at = (uintptr_t)p - (uintptr_t)scan->window;
        uint64_t left = at < WINDOW ? scan->special >> at : 0;
        *found = left != 0;
        if (*found)
            return p + __builtin_ctzll(left);
        if (at < WINDOW)
            p = scan->window + WINDOW;
        if (scan->end - p < WINDOW)
            return p;
        scan->window = p;
        scan->special = special_of_16(p) | special_of_16(p + 16) << 16 |
                        special_of_16(p + 32) << 32 | special_of_16(p + 48) << 48;
    }
}
#else
INLINE const char *find_wide(struct json_scan *scan, const char *p, bool *found)
{
    (void)scan;
    *found = false;
    return p;
}
#endif

/* The first byte from `p` on that is not plain, or `end`. */
INLINE const char *find_special(struct json_scan *scan, const char *p)
{
    const char *end = scan->end;
    bool found = false;
    p = find_wide(scan, p, &found);
    if (found)
        return p;
    for (; end - p >= 8; p += 8) {
        uint64_t x;
        memcpy(&x, p, sizeof x);
        if (not_plain(x) != 0)
            break;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
           *p != '\\')
        p++;
    return p;
}

/* ---- strings ---- */

/* The length of the UTF-8 sequence at `p` (RFC 3629, section 4), 0 where it is not one. */
static unsigned utf8_length(const char *p, const char *end)
{
    unsigned char c = (unsigned char)p[0];
    unsigned len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (c < 0xc2 || c > 0xf4 || (size_t)(end - p) < len)
        return 0;
    unsigned char least = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    unsigned char most = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    unsigned char second = (unsigned char)p[1];
    if (second < least || second > most)
        return 0;
    for (unsigned i = 2; i < len; i++)
        if (((unsigned char)p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

static int hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits of \uXXXX, or -1; `p` is at the backslash. */
static int unicode_escape(const char *p, const char *end)
{
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
        return -1;
    int value = 0;
    for (int i = 2; i < 6; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static bool is_high_surrogate(int unit)
{
    return unit >= 0xd800 && unit < 0xdc00;
}

static bool is_low_surrogate(int unit)
{
    return unit >= 0xdc00 && unit < 0xe000;
}

/* `p` is at a backslash; returns what follows the escape. */
static const char *skip_escape(struct json_scan *scan, const char *p)
{
    if (scan->end - p < 2)
        return fail(scan, p, "the text ends in an escape");
    if (p[1] != 'u') {
        bool known = p[1] != '\0' && strchr("\\/bfnrt", p[1]) != NULL;
        return known ? p + 2 : fail(scan, p, "an unknown escape");
    }
    int unit = unicode_escape(p, scan->end);
    if (unit < 0)
        return fail(scan, p, "\\u without four hex digits");
    if (is_low_surrogate(unit))
        return fail(scan, p, "a low surrogate without a high one");
    if (!is_high_surrogate(unit))
        return p + 6;
    if (!is_low_surrogate(unicode_escape(p + 6, scan->end)))
        return fail(scan, p, "a high surrogate without a low one");
    return p + 12;
}

/* `p` is at a byte that is not plain and not a quote; returns what follows it. */
static __attribute__((noinline)) const char *skip_special(struct json_scan *scan, const char *p)
{
    if (p == scan->end)
        return fail(scan, p, "the text ends in a string");
    if (*p == '\\')
        return skip_escape(scan, p);
    if ((unsigned char)*p < 0x20)
        return fail(scan, p, "a control character in a string");
    do {
        unsigned len = utf8_length(p, scan->end);
        if (len == 0)
            return fail(scan, p, "bytes that are not UTF-8");
        p += len;
    } while (p < scan->end && (unsigned char)*p >= 0x80);
    return p;
}

/* `p` is behind the opening quote; returns what follows the closing one. */
INLINE const char *skip_string(struct json_scan *scan, const char *p)
{
    for (;;) {
        p = find_special(scan, p);
        if (p < scan->end && *p == '"')
            return p + 1;
        if (scan->end - p >= 2 && p[0] == '\\' && p[1] == '"') {
            p += 2;
            continue;
        }
        p = skip_special(scan, p);
        if (p == NULL)
            return NULL;
    }
}

/* ---- the other values ---- */

/* The byte at `p`; behind the end a NUL, which is valid nowhere outside a string. */
INLINE char at(const char *p, const char *end)
{
    return (char)(p < end ? *p : '\0');
}

static __attribute__((noinline)) const char *pass_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* Moves to the next byte that is not whitespace, and gives it as `at` does. Mostly it stands there
 * already. */
INLINE char skip_space(const char **p, const char *end)
{
    char c = at(*p, end);
    if (__builtin_expect((unsigned char)c > ' ', 1))
        return c;
    *p = pass_space(*p, end);
    return at(*p, end);
}

/* At least one digit; NULL where there is none. */
INLINE const char *skip_digits(struct json_scan *scan, const char *p)
{
    const char *from = p;
    while (p < scan->end && *p >= '0' && *p <= '9')
        p++;
    return p > from ? p : fail(scan, p, "a digit is missing");
}

INLINE const char *skip_number(struct json_scan *scan, const char *p)
{
    if (*p == '-')
        p++;
    p = at(p, scan->end) == '0' ? p + 1 : skip_digits(scan, p);
    if (p != NULL && at(p, scan->end) == '.')
        p = skip_digits(scan, p + 1);
    if (p != NULL && (at(p, scan->end) == 'e' || at(p, scan->end) == 'E')) {
        p++;
        if (at(p, scan->end) == '+' || at(p, scan->end) == '-')
            p++;
        p = skip_digits(scan, p);
    }
    return p;
}

INLINE const char *skip_word(struct json_scan *scan, const char *p, struct str word)
{
    if ((size_t)(scan->end - p) < word.len || memcmp(p, word.p, word.len) != 0)
        return fail(scan, p, "not a value");
    return p + word.len;
}

/* A value that is neither a container nor a string. */
INLINE const char *skip_scalar(struct json_scan *scan, const char *p)
{
    char c = at(p, scan->end);
    if (c == '-' || (c >= '0' && c <= '9'))
        return skip_number(scan, p);
    if (c == 'n')
        return skip_word(scan, p, STR("null"));
    if (c == 't')
        return skip_word(scan, p, STR("true"));
    if (c == 'f')
        return skip_word(scan, p, STR("false"));
    return fail(scan, p, p < scan->end ? "not a value" : "the text ends before a value");
}

/* A member's name and its colon; returns what follows. */
INLINE const char *skip_name(struct json_scan *scan, const char *p)
{
    if (skip_space(&p, scan->end) != '"')
        return fail(scan, p, "a member without a name");
    p = skip_string(scan, p + 1);
    if (p == NULL)
        return NULL;
    return skip_space(&p, scan->end) == ':' ? p + 1 : fail(scan, p, "a member without a colon");
}

/* ---- skipping ---- */

/* The brackets that skip_value still has to see, and how many it may open. */
struct brackets {
    char close[JSON_SCAN_DEPTH_MAX];
    unsigned n;
    unsigned max;
};

/* `p` is at an opening bracket; returns where its first value stands, or NULL; *closed where there
 * is none and the container is over. */
INLINE const char *open_container(struct json_scan *scan, const char *p, struct brackets *open,
                                  bool *closed)
{
    char close = *p == '{' ? '}' : ']';
    if (open->n == open->max)
        return fail(scan, p, "nested too deeply");
    p++;
    *closed = skip_space(&p, scan->end) == close;
    if (*closed)
        return p + 1;
    open->close[open->n++] = close;
    return close == '}' ? skip_name(scan, p) : p;
}

/* `p` is behind a value; returns where the next one stands; at the end of the outermost container
 * what follows it, with no bracket left open. */
INLINE const char *next_value(struct json_scan *scan, const char *p, struct brackets *open)
{
    while (open->n > 0) {
        char close = open->close[open->n - 1];
        char c = skip_space(&p, scan->end);
        if (c == ',')
            return close == '}' ? skip_name(scan, p + 1) : p + 1;
        if (c != close)
            return fail(scan, p, "neither a comma nor the closing bracket");
        p++;
        open->n--;
    }
    return p;
}

/* Returns what follows the value at `p`. */
static const char *skip_value(struct json_scan *scan, const char *p)
{
    struct brackets open;
    open.n = 0; /* not the whole: 512 bytes for each value would be the dearest part */
    open.max = JSON_SCAN_DEPTH_MAX - scan->depth;
    do {
        bool closed = true;
        char c = skip_space(&p, scan->end);
        if (c == '"')
            p = skip_string(scan, p + 1);
        else if (c == '{' || c == '[')
            p = open_container(scan, p, &open, &closed);
        else
            p = skip_scalar(scan, p);
        if (p != NULL && closed)
            p = next_value(scan, p, &open);
    } while (p != NULL && open.n > 0);
    return p;
}

/* ---- the cursor ---- */

void json_scan_init(struct json_scan *scan, struct str text)
{
    const char *p = text.p != NULL ? text.p : "";
    *scan = (struct json_scan){.p = p, .start = p, .end = p + text.len};
}

/* Moves to the next byte that is not whitespace; NUL at the end and after a mistake. */
static char next_char(struct json_scan *scan)
{
    if (scan->wrong != NULL)
        return '\0';
    return skip_space(&scan->p, scan->end);
}

/* Says the first mistake, at `p`. */
static bool mistake(struct json_scan *scan, const char *wrong)
{
    if (scan->wrong == NULL)
        fail(scan, scan->p, wrong);
    return false;
}

enum json_scan_type json_scan_peek(struct json_scan *scan)
{
    char c = next_char(scan);
    switch (c) {
    case '{':
        return JSON_SCAN_OBJECT;
    case '[':
        return JSON_SCAN_ARRAY;
    case '"':
        return JSON_SCAN_STRING;
    case 't':
        return JSON_SCAN_TRUE;
    case 'f':
        return JSON_SCAN_FALSE;
    case 'n':
        return JSON_SCAN_NULL;
    default:
        if (c == '-' || (c >= '0' && c <= '9'))
            return JSON_SCAN_NUMBER;
        mistake(scan, scan->p < scan->end ? "not a value" : "the text ends before a value");
        return JSON_SCAN_NONE;
    }
}

static bool enter(struct json_scan *scan, char open, const char *wrong)
{
    if (next_char(scan) != open)
        return mistake(scan, wrong);
    if (scan->depth == JSON_SCAN_DEPTH_MAX)
        return mistake(scan, "nested too deeply");
    scan->p++;
    scan->depth++;
    scan->first = true;
    return true;
}

/* True where one more stands in the current container; leaves it where it is over. */
static bool more(struct json_scan *scan, char close)
{
    assert(scan->depth > 0 || scan->wrong != NULL);
    char c = next_char(scan);
    bool first = scan->first;
    scan->first = false;
    if (scan->wrong != NULL)
        return false;
    if (c == close) {
        scan->p++;
        scan->depth--;
        return false;
    }
    if (first)
        return true;
    if (c != ',')
        return mistake(scan, "neither a comma nor the closing bracket");
    scan->p++;
    return true;
}

bool json_scan_object(struct json_scan *scan)
{
    return enter(scan, '{', "not an object");
}

bool json_scan_array(struct json_scan *scan)
{
    return enter(scan, '[', "not an array");
}

bool json_scan_member(struct json_scan *scan, struct json_scan_string *name)
{
    if (!more(scan, '}'))
        return false;
    if (next_char(scan) != '"')
        return mistake(scan, "a member without a name");
    if (!json_scan_string(scan, name))
        return false;
    if (next_char(scan) != ':')
        return mistake(scan, "a member without a colon");
    scan->p++;
    return true;
}

bool json_scan_element(struct json_scan *scan)
{
    return more(scan, ']');
}

bool json_scan_string(struct json_scan *scan, struct json_scan_string *out)
{
    if (next_char(scan) != '"')
        return mistake(scan, "not a string");
    const char *from = scan->p + 1;
    const char *p = skip_string(scan, from);
    if (p == NULL)
        return false;
    scan->p = p;
    out->raw = (struct str){from, (size_t)(p - from) - 1};
    out->escaped = memchr(from, '\\', out->raw.len) != NULL;
    return true;
}

bool json_scan_skip(struct json_scan *scan, struct str *raw)
{
    next_char(scan);
    if (scan->wrong != NULL)
        return false;
    const char *from = scan->p;
    const char *p = skip_value(scan, from);
    if (p == NULL)
        return false;
    scan->p = p;
    if (raw != NULL)
        *raw = (struct str){from, (size_t)(p - from)};
    return true;
}

bool json_scan_u64(struct json_scan *scan, uint64_t *out)
{
    struct str raw;
    if (!json_scan_skip(scan, &raw))
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.p[i] < '0' || raw.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(raw.p[i] - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

bool json_scan_end(struct json_scan *scan)
{
    next_char(scan);
    if (scan->wrong != NULL)
        return false;
    if (scan->p < scan->end)
        return mistake(scan, "more text behind the value");
    return scan->depth == 0 || mistake(scan, "the text ends in a container");
}

/* ---- unescaping ---- */

/* `*p` is at the backslash of a valid escape; returns how much was written to `to`. */
static size_t put_escape(char *to, const char **p, const char *end)
{
    static const char names[] = "\"\\/bfnrt", values_of[] = "\"\\/\b\f\n\r\t";
    if ((*p)[1] != 'u') {
        const char *name = strchr(names, (*p)[1]);
        assert(name != NULL);
        *p += 2;
        *to = values_of[name - names];
        return 1;
    }
    int unit = unicode_escape(*p, end);
    assert(unit >= 0);
    uint32_t code = (uint32_t)unit;
    *p += 6;
    if (is_high_surrogate(unit)) {
        code = 0x10000 + ((code - 0xd800) << 10) + (uint32_t)unicode_escape(*p, end) - 0xdc00;
        *p += 6;
    }
    return utf8_encode(to, code);
}

void json_scan_unescape(struct buf *out, struct str raw)
{
    const char *p = raw.p, *end = raw.p + raw.len;
    char *to = buf_reserve(out, raw.len);
    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((slash != NULL ? slash : end) - p);
        memcpy(to, p, plain);
        to += plain;
        p += plain;
        if (p < end)
            to += put_escape(to, &p, end);
    }
    out->len = (size_t)(to - out->p);
}

int json_scan_fail(const struct json_scan *scan, struct err *err)
{
    return err_set(err, ERR_INPUT, "byte %zu: %s", (size_t)(scan->p - scan->start),
                   scan->wrong != NULL ? scan->wrong : "not what was expected");
}
