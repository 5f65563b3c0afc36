/* replay_marathon.c - a capture of Marathon's event stream, as a client of /v2/events received it.
 *
 * Times go back in it, and events can be equal byte for byte: only its number in the file tells an
 * event. Every event becomes exactly one of the journal's, readable or not, and nothing else comes
 * into the journal of such a source; so what the journal has given out as sequence numbers says how
 * many were told, and they are passed over. */
#include "connectors/replay/replay_internal.h"

#include "bridge/base/log.h"

#include <inttypes.h>

#define EXPECTED "expected a capture of Marathon's event stream, `event: TYPE` and `data: {...}`"

static void begin(struct replay *self)
{
    self->told = ingest_next_seq(self->ingest) - 1;
}

static int take_unreadable(struct replay *self, const struct sse_event *frame, const char *why,
                           struct err *err)
{
    if (!self->valid)
        return err_set(err, ERR_INPUT, "%s: event %" PRIu64 ": %s: " EXPECTED, self->settings->path,
                       self->n, why);
    return ingest_malformed(self->ingest, frame->data, frame->size, why, err);
}

static int take_event(struct replay *self, const struct sse_event *frame, struct err *err)
{
    struct err why = {.msg = "longer than any event"};
    if (frame->data.len == 0)
        return 0; /* says nothing, and counts nowhere */
    bool told = self->n++ < self->told;
    int rc = told ? stop_requested(self->stop) : replay_pace(self, 1, err);
    if (told || rc != 0) {
        self->valid = true;
        return rc;
    }
    if (frame->oversized || marathon_event_read(&self->event, frame->type, frame->data, &why) != 0)
        return take_unreadable(self, frame, why.msg, err);
    self->valid = true;
    return ingest_message(self->ingest, frame->data, &self->event.found, 1, err);
}

static int take(struct replay *self, struct str piece, struct err *err)
{
    struct sse_event frame;
    int rc = 0;
    for (size_t i = 0; i < piece.len && !self->text; i++)
        self->text = piece.p[i] != '\r' && piece.p[i] != '\n';
    sse_push(&self->frames, piece);
    while (rc == 0 && sse_next(&self->frames, &frame))
        rc = take_event(self, &frame, err);
    return rc;
}

/* An event is whole with its blank line only. */
static int end(struct replay *self, struct err *err)
{
    if (self->text && !self->valid)
        return err_set(err, ERR_INPUT, "%s: no event in it: " EXPECTED, self->settings->path);
    if (sse_is_partial(&self->frames))
        log_warn("capture_cut", LOG_STR("path", self->settings->path),
                 LOG_STR("detail", "the last event is not whole: left out"));
    return 0;
}

const struct replay_format replay_marathon = {.begin = begin, .take = take, .end = end};
