/* log.h - one line per thing an operator may want to know: a stable id, then key=value.
 *
 * error = page someone, warn = an operator should look, info = a state changed, debug = for its
 * developers.
 *
 *     log_warn("stream_silent", LOG_STR("source", name), LOG_INT("after_ms", 30000));
 *     level=warn event=stream_silent source=prod after_ms=30000 ts=2026-11-21T18:54:10.123Z */
#ifndef BUSBAR_BASE_LOG_H
#define BUSBAR_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

struct log_field {
    const char *key; /* NULL ends the list */
    const char *s;   /* NULL: the value is `i` */
    int64_t i;
};

#define LOG_STR(k, v) ((struct log_field){.key = (k), .s = (v)})
#define LOG_INT(k, v) ((struct log_field){.key = (k), .i = (int64_t)(v)})
#define LOG_FIELDS(...) \
    ((const struct log_field[]){__VA_ARGS__, (struct log_field){.key = (void *)0}})
#define log_debug(id, ...) log_write(LOG_DEBUG, (id), LOG_FIELDS(__VA_ARGS__))
#define log_info(id, ...) log_write(LOG_INFO, (id), LOG_FIELDS(__VA_ARGS__))
#define log_warn(id, ...) log_write(LOG_WARN, (id), LOG_FIELDS(__VA_ARGS__))
#define log_error(id, ...) log_write(LOG_ERROR, (id), LOG_FIELDS(__VA_ARGS__))

/* Before the first thread starts. Default: logfmt, info. */
void log_setup(enum log_format format, enum log_level least);
/* Any thread; one write(2) to stderr a line: no field follows past 4 KiB, no value is longer than
 * 1 KiB. */
void log_write(enum log_level level, const char *id, const struct log_field *fields);

#endif
