/* json_scan.h - walks a JSON text (RFC 8259) in place and validates it; builds no tree.
 *
 * A cursor over bytes that somebody else owns. The caller steps into what it wants to see and skips
 * the rest; every byte passed was validated, so a text is valid when json_scan_end says true.
 *
 *     json_scan_init(&scan, text);
 *     if (json_scan_object(&scan))
 *         while (json_scan_member(&scan, &name))
 *             json_scan_skip(&scan, &raw);
 *     if (!json_scan_end(&scan))
 *         return json_scan_fail(&scan, err);
 *
 * The first mistake is kept in `wrong`; from then on every call returns false and moves nothing, so
 * that loops end by themselves.
 *
 * Accepted is what jansson 2.14 accepts with JSON_DECODE_ANY | JSON_ALLOW_NUL, except:
 * - numbers of any size pass (jansson refuses what overflows an int64 or a double): the bytes are
 *   handed on as they are, nobody computes with them here;
 * - a member's name may hold \u0000;
 * - a NUL byte behind a number, true, false or null is refused (jansson loses it);
 * - containers nest at most JSON_SCAN_DEPTH_MAX deep (jansson: 2,048).
 * Like there: UTF-8 must be valid (RFC 3629), lone surrogates are refused, duplicate names pass, a
 * byte order mark does not. Time is linear, memory constant, nothing recurses.
 *
 * One thread at a time per cursor; no state besides it. */
#ifndef BUSBAR_CONNECTORS_JSON_SCAN_H
#define BUSBAR_CONNECTORS_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"

enum { JSON_SCAN_DEPTH_MAX = 512 };

enum json_scan_type {
    JSON_SCAN_NONE, /* no value can begin here: `wrong` is set */
    JSON_SCAN_OBJECT,
    JSON_SCAN_ARRAY,
    JSON_SCAN_STRING,
    JSON_SCAN_NUMBER,
    JSON_SCAN_TRUE,
    JSON_SCAN_FALSE,
    JSON_SCAN_NULL,
};

struct json_scan {
    const char *p; /* the next byte; where the mistake is once `wrong` is set */
    const char *start;
    const char *end;
    const char *wrong;  /* NULL while all is well, else what is wrong at `p` */
    unsigned depth;     /* containers entered and not yet left */
    bool first;         /* no member or element of the current container was given yet */
    const char *window; /* where the 64 bytes begin that were searched last, or NULL */
    uint64_t special;   /* which of them are not plain, the first in the lowest bit */
};

/* A string as it stands in the text. */
struct json_scan_string {
    struct str raw; /* between the quotes */
    bool escaped; /* holds a backslash: json_scan_unescape gives its value; else raw is the value */
};

void json_scan_init(struct json_scan *scan, struct str text);

/* What begins at the next byte that is not whitespace; `p` stands there then. Validates nothing. */
enum json_scan_type json_scan_peek(struct json_scan *scan);

/* Steps into an object; anything else is a mistake. */
bool json_scan_object(struct json_scan *scan);
/* The next member's name, `p` before its value, which the caller has to consume. False when the
 * object is over (it was left then), or at a mistake. */
bool json_scan_member(struct json_scan *scan, struct json_scan_string *name);
/* The same for arrays: true where an element stands next. */
bool json_scan_array(struct json_scan *scan);
bool json_scan_element(struct json_scan *scan);

/* Consumes a string; anything else is a mistake. */
bool json_scan_string(struct json_scan *scan, struct json_scan_string *out);
/* Consumes any value and takes it as an unsigned integer. False with `wrong` still NULL where it is
 * a value, but not such a number (a sign, a fraction, an exponent, more than 64 bits). */
bool json_scan_u64(struct json_scan *scan, uint64_t *out);
/* Consumes any value; `raw` (may be NULL) gets its bytes, without whitespace around them. */
bool json_scan_skip(struct json_scan *scan, struct str *raw);

/* True where everything entered was left and nothing but whitespace follows. */
bool json_scan_end(struct json_scan *scan);

/* Appends the value of a string that this scanner gave, as UTF-8; never longer than `raw`. */
void json_scan_unescape(struct buf *out, struct str raw);

/* Returns -1 with ERR_INPUT "byte 17: a control character in a string". */
int json_scan_fail(const struct json_scan *scan, struct err *err);

#endif
