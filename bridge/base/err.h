/* err.h - what went wrong, told to the one who can act on it.
 *
 * A function that can fail returns 0 or -1 and fills the `struct err *err` it takes last. The kind
 * says what to do; each layer adds one noun with err_wrap; only the loop of a thread logs the
 * whole, once. */
#ifndef BUSBAR_BASE_ERR_H
#define BUSBAR_BASE_ERR_H

enum err_kind {
    ERR_RETRY,  /* the other side is away or busy: again later */
    ERR_INPUT,  /* what was read is wrong; reading it again gives the same */
    ERR_FENCED, /* another instance owns this pair now */
    ERR_FATAL,  /* this thread can't go on; an operator has to act */
};

struct err {
    enum err_kind kind;
    char msg[512]; /* always terminated; cut at this size */
};

/* Both return -1, so that `return err_set(…)` is the idiom. `err` may be NULL: then nothing is
 * kept. */
int err_set(struct err *err, enum err_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts "noun: " before the message; the kind stays. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The kind's name for logs: "retry", "input", "fenced", "fatal". */
const char *err_kind_name(enum err_kind kind);

#endif
