/* replay_nomad.c - a capture of Nomad's event stream, one message a line.
 *
 * It behaves like a Nomad whose buffer is the file: asked for an index it starts at the first
 * message with that index or a later one, and ingest removes what it has seen before. So a restart
 * goes on where the journal stands, and continuity is proven the same way. */
#include "connectors/replay/replay_internal.h"

#include "bridge/base/log.h"

#include <inttypes.h>

static void begin(struct replay *self)
{
    self->from = ingest_resume(self->ingest).index;
}

static int take_unreadable(struct replay *self, const struct ndjson_line *line, const char *why,
                           struct err *err)
{
    if (!self->valid)
        return err_set(err, ERR_INPUT,
                       "%s: line %" PRIu64 ": %s: expected a line of Nomad's event "
                       "stream, {\"Events\":[...],\"Index\":N}",
                       self->settings->path, self->n, why);
    if (self->from > 0)
        return 0; /* told by an earlier run */
    return ingest_malformed(self->ingest, line->bytes, line->size, why, err);
}

static int take_line(struct replay *self, const struct ndjson_line *line, struct err *err)
{
    struct err why = {.msg = "longer than any message"};
    struct nomad_line *read = &self->line;
    self->n++;
    if (line->oversized || nomad_line_parse(read, line->bytes, &why) != 0)
        return take_unreadable(self, line, why.msg, err);
    self->valid = self->valid || read->heartbeat || read->n_events > 0;
    if (read->n_events == 0 || read->index < self->from)
        return 0;
    self->from = 0;
    int rc = replay_pace(self, read->n_events, err);
    if (rc != 0)
        return rc;
    return ingest_message(self->ingest, line->bytes, read->events, read->n_events, err);
}

static int take(struct replay *self, struct str piece, struct err *err)
{
    struct ndjson_line line;
    int rc = 0;
    ndjson_push(&self->lines, piece);
    while (rc == 0 && ndjson_next(&self->lines, &line))
        rc = take_line(self, &line, err);
    return rc;
}

/* The file may end without a line break: the text counts as a line where it is a whole one. */
static int end(struct replay *self, struct err *err)
{
    struct ndjson_line tail;
    struct err why;
    if (!ndjson_tail(&self->lines, &tail))
        return 0;
    if (tail.oversized || nomad_line_parse(&self->line, tail.bytes, &why) != 0) {
        self->n++;
        if (!self->valid)
            return take_unreadable(self, &tail, "not a whole line", err);
        log_warn("capture_cut", LOG_STR("path", self->settings->path), LOG_INT("bytes", tail.size),
                 LOG_STR("detail", "the last line is not whole: left out"));
        return 0;
    }
    return take(self, STR("\n"), err);
}

const struct replay_format replay_nomad = {.begin = begin, .take = take, .end = end};
