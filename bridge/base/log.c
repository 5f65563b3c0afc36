/* log.c - logfmt or JSON lines on stderr. */
#include "bridge/base/log.h"

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, VALUE_MAX_BYTES = 1024 };

static struct {
    enum log_format format;
    enum log_level least;
} setup = {LOG_LOGFMT, LOG_INFO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_setup(enum log_format format, enum log_level least)
{
    setup.format = format;
    setup.least = least;
}

static bool is_bare(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.p[i] <= ' ' || strchr("\"=\\", s.p[i]) != NULL)
            return false;
    return s.len > 0;
}

/* What a source or a server said may be of any length. */
static struct str value_of(const struct log_field *f)
{
    return str_cut(str_from(f->s), VALUE_MAX_BYTES);
}

static void put_logfmt(struct buf *line, const struct log_field *f)
{
    buf_printf(line, "%s%s=", line->len > 0 ? " " : "", f->key);
    if (f->s == NULL)
        buf_printf(line, "%" PRId64, f->i);
    else if (is_bare(value_of(f)))
        buf_append_str(line, value_of(f));
    else
        buf_append_json(line, value_of(f));
}

static void put_json(struct buf *line, const struct log_field *f)
{
    buf_append_char(line, line->len > 0 ? ',' : '{');
    buf_append_json(line, str_from(f->key));
    buf_append_char(line, ':');
    if (f->s == NULL)
        buf_printf(line, "%" PRId64, f->i);
    else
        buf_append_json(line, value_of(f));
}

static void put(struct buf *line, const struct log_field *f)
{
    if (setup.format == LOG_JSON)
        put_json(line, f);
    else
        put_logfmt(line, f);
}

void log_write(enum log_level level, const char *id, const struct log_field *fields)
{
    if (level < setup.least)
        return;
    struct buf line = {0};
    put(&line, &LOG_STR("level", level_names[level]));
    put(&line, &LOG_STR("event", id));
    for (const struct log_field *f = fields; f->key != NULL && line.len < LINE_MAX_BYTES; f++)
        put(&line, f);
    char ts[CLOCK_TEXT_MAX];
    clock_format(clock_wall_us(), ts);
    put(&line, &LOG_STR("ts", ts));
    if (setup.format == LOG_JSON)
        buf_append_char(&line, '}');
    buf_append_char(&line, '\n');
    ssize_t written = write(STDERR_FILENO, line.p, line.len); /* nobody is left to tell */
    (void)written;
    buf_fini(&line);
}
