/* redact_path.h - reads the paths of a `redact` list: a subset of JSONPath (RFC 9535).
 *
 *     $.Payload.Job.Meta      a member by its name: a letter, _ or what is not ASCII, then digits
 * too
 *     $.a['b.c']  $.a["b"]    any name, with JSON's escapes and \'
 *     $.a[0]                  an element, counted from 0
 *     $.a[*]  $.a.*           every member or element
 *     $..Env  $..['b']  $..*  the same of the value here and of all below it
 *
 * Not taken: the bare $ (the whole event), indexes from the end, slices, filters, several selectors
 * in one bracket (write a path for each), blanks. */
#ifndef BUSBAR_REDACT_PATH_H
#define BUSBAR_REDACT_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REDACT_NAME_MAX = 255, REDACT_INDEX_MAX = 999999999 };

enum redact_select { REDACT_NAME, REDACT_INDEX, REDACT_ANY };

struct redact_step {
    enum redact_select select;
    bool deep; /* from here and from all below, not from here alone */
    uint64_t index;
    size_t len; /* of the name, UTF-8 without escapes */
    char name[REDACT_NAME_MAX];
};

/* Takes the `$`. Like the next one: NULL, or what was expected at *rest. */
const char *redact_path_begin(const char **rest);
/* Takes one step; call it until *rest is at the end of the text. */
const char *redact_path_next(const char **rest, struct redact_step *step);

/* Decodes one escape, `*p` behind its backslash, `end` not to be passed; writes up to 4 bytes to
 * `to` and moves `*p` behind it. Returns how many, 0 where it is none (RFC 8259, section 7). */
size_t redact_unescape(char *to, const char **p, const char *end);

#endif
