/* redact_path.c - reads the paths of a `redact` list. */
#include "bridge/redact_path.h"

#include "bridge/base/buf.h"

#include <string.h>

/* ---- escapes ---- */

static int hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits behind \u; false where they are none. */
static bool take_unit(const char **p, const char *end, uint32_t *unit)
{
    uint32_t value = 0;
    if (end - *p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit((unsigned char)(*p)[i]);
        if (digit < 0)
            return false;
        value = value * 16 + (uint32_t)digit;
    }
    *p += 4;
    *unit = value;
    return true;
}

static size_t unescape_unit(char *to, const char **p, const char *end)
{
    uint32_t code, low;
    if (!take_unit(p, end, &code) || (code >= 0xdc00 && code < 0xe000))
        return 0;
    if (code < 0xd800 || code >= 0xe000)
        return utf8_encode(to, code);
    if (end - *p < 2 || (*p)[0] != '\\' || (*p)[1] != 'u')
        return 0;
    *p += 2;
    if (!take_unit(p, end, &low) || low < 0xdc00 || low >= 0xe000)
        return 0;
    return utf8_encode(to, 0x10000 + ((code - 0xd800) << 10) + low - 0xdc00);
}

size_t redact_unescape(char *to, const char **p, const char *end)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (*p == end)
        return 0;
    char c = *(*p)++;
    if (c == 'u')
        return unescape_unit(to, p, end);
    const char *name = c != '\0' ? strchr(names, c) : NULL;
    if (name == NULL)
        return 0;
    *to = values[name - names];
    return 1;
}

/* ---- steps ---- */

static bool put_name(struct redact_step *step, const char *p, size_t len)
{
    if (step->len + len > REDACT_NAME_MAX)
        return false;
    memcpy(step->name + step->len, p, len);
    step->len += len;
    return true;
}

static bool is_name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0 ||
           (!first && c >= '0' && c <= '9');
}

static const char *take_plain_name(const char **rest, struct redact_step *step)
{
    const char *p = *rest;
    while (is_name_char(*p, p == *rest))
        p++;
    if (p == *rest)
        return "a name, * or [ there; other names as ['a-b']";
    if (*p != '\0' && *p != '.' && *p != '[')
        return "names with such characters as ['a-b']";
    step->select = REDACT_NAME;
    if (!put_name(step, *rest, (size_t)(p - *rest)))
        return "names of at most 255 bytes";
    *rest = p;
    return NULL;
}

static const char *take_quoted(const char **rest, struct redact_step *step)
{
    const char quote = **rest;
    const char *p = *rest + 1, *end = p + strlen(p);
    step->select = REDACT_NAME;
    while (*p != quote) {
        char one[4] = {*p};
        size_t len = 1;
        if (*p++ == '\0')
            return "a name that ends with its quote";
        if (one[0] == '\\' && *p == '\'' && quote == '\'')
            one[0] = *p++;
        else if (one[0] == '\\')
            len = redact_unescape(one, &p, end);
        if (len == 0)
            return "an escape that JSON knows";
        if (!put_name(step, one, len))
            return "names of at most 255 bytes";
    }
    *rest = p + 1;
    return NULL;
}

static const char *take_index(const char **rest, struct redact_step *step)
{
    const char *p = *rest;
    step->select = REDACT_INDEX;
    for (; *p >= '0' && *p <= '9'; p++) {
        step->index = step->index * 10 + (uint64_t)(*p - '0');
        if (step->index > REDACT_INDEX_MAX)
            return "an index of at most 999999999";
    }
    if (p == *rest)
        return "a quoted name, an index from 0, or * in the bracket";
    if (**rest == '0' && p > *rest + 1)
        return "an index without zeros before it";
    *rest = p;
    return NULL;
}

static const char *take_bracket(const char **rest, struct redact_step *step)
{
    const char *wrong = NULL;
    (*rest)++;
    if (**rest == '*') {
        step->select = REDACT_ANY;
        (*rest)++;
    } else if (**rest == '\'' || **rest == '"') {
        wrong = take_quoted(rest, step);
    } else {
        wrong = take_index(rest, step);
    }
    if (wrong != NULL)
        return wrong;
    return *(*rest)++ == ']' ? NULL : "one selector, then ]";
}

const char *redact_path_begin(const char **rest)
{
    if (**rest != '$')
        return "a path that begins with $, as $.Payload.Job.Meta or $..Env";
    (*rest)++;
    return **rest != '\0' ? NULL : "a step behind the $, as $.Payload";
}

const char *redact_path_next(const char **rest, struct redact_step *step)
{
    const char *p = *rest;
    *step = (struct redact_step){.deep = p[0] == '.' && p[1] == '.'};
    if (*p != '.' && *p != '[')
        return "a dot or a bracket before each step";
    if (*p == '.')
        *rest += step->deep ? 2 : 1;
    if (**rest == '[' && (*p == '[' || step->deep))
        return take_bracket(rest, step);
    if (**rest != '*')
        return take_plain_name(rest, step);
    step->select = REDACT_ANY;
    (*rest)++;
    return NULL;
}
