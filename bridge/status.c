/* status.c - what GET /status, /metrics and /readyz tell. */
#include "bridge/base/clock.h"
#include "bridge/bridge_parts.h"
#include "bridge/version.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

static json_t *time_json(int64_t wall_us)
{
    if (wall_us == 0)
        return json_null();
    char text[CLOCK_TEXT_MAX];
    clock_format(wall_us, text);
    return json_string(text);
}

static json_t *text_or_null(const char *text)
{
    return *text != '\0' ? json_string(text) : json_null();
}

static json_t *journal_json(struct journal *journal)
{
    char id[17], position[48];
    struct journal_tail tail = journal_tail(journal);
    snprintf(id, sizeof id, "%016" PRIx64, journal_id(journal));
    snprintf(position, sizeof position, "%" PRIu64 ".%" PRIu32, tail.pos_index, tail.ordinal);
    return json_pack("{s:s, s:I, s:I, s:I, s:s, s:o}", "id", id, "first_seq",
                     (json_int_t)journal_first_seq(journal), "next_seq",
                     (json_int_t)journal_next_seq(journal), "bytes",
                     (json_int_t)journal_bytes(journal), "position", position, "last_arrival",
                     time_json(tail.arrival_us));
}

/* Events in the journal that the sink has not passed. */
static uint64_t lag_of(struct journal *journal, const struct sink_status *s)
{
    uint64_t first = journal_first_seq(journal), next = journal_next_seq(journal);
    uint64_t from = s->passed_seq + 1 > first ? s->passed_seq + 1 : first;
    return next > from ? next - from : 0;
}

static json_t *sink_json(struct pipeline *p, size_t i)
{
    struct sink_status s;
    pipeline_sink_status(p, i, &s);
    const struct setup_sink *sink = pipeline_sink(p, i);
    struct metrics *m = pipeline_sink_metrics(p, i);
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "name",
                     sink->name, "type", sink->ops->type, "state", sink_state_name(s.state),
                     "owner", text_or_null(s.owner), "since", time_json(s.since_us), "seq",
                     (json_int_t)s.seq, "index", (json_int_t)s.index, "epoch", (json_int_t)s.epoch,
                     "lag_events", (json_int_t)lag_of(pipeline_journal(p), &s), "published",
                     (json_int_t)metrics_get(m, METRIC_PUBLISHED), "rejected",
                     (json_int_t)metrics_get(m, METRIC_REJECTED), "last_published",
                     time_json(s.published_us), "last_error", text_or_null(s.detail));
}

static const char *resync_state(const struct resync_status *s)
{
    if (!s->supported)
        return "unsupported";
    if (s->open)
        return "open";
    return s->wanted ? "wanted" : "idle";
}

static json_t *resync_json(struct pipeline *p)
{
    struct resync_status s;
    pipeline_resync_status(p, &s);
    return json_pack("{s:s, s:I, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "state",
                     resync_state(&s), "number", (json_int_t)s.number, "reason",
                     text_or_null(s.reason), "started", time_json(s.started_us), "finished",
                     time_json(s.finished_us), "requests", (json_int_t)s.requests, "expected",
                     (json_int_t)s.expected, "told", (json_int_t)s.told, "skipped",
                     (json_int_t)s.skipped, "vanished", (json_int_t)s.vanished, "known",
                     (json_int_t)s.known, "last_error", text_or_null(s.detail));
}

static json_t *source_json(struct pipeline *p)
{
    struct ingest_status s;
    pipeline_source_status(p, &s);
    struct metrics *m = pipeline_metrics(p);
    json_t *sinks = json_array();
    for (size_t i = 0; i < pipeline_sinks(p); i++)
        json_array_append_new(sinks, sink_json(p, i));
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "name",
        pipeline_name(p), "type", pipeline_type(p), "state", source_state_name(s.state), "since",
        time_json(s.since_us), "heard", time_json(s.heard_us), "server", text_or_null(s.server),
        "last_index", (json_int_t)s.last_index, "epoch", (json_int_t)s.epoch, "events",
        (json_int_t)metrics_get(m, METRIC_EVENTS), "repeats",
        (json_int_t)metrics_get(m, METRIC_REPEATS), "gaps", (json_int_t)metrics_get(m, METRIC_GAPS),
        "last_error", text_or_null(s.detail), "journal", journal_json(pipeline_journal(p)),
        "resync", resync_json(p), "sinks", sinks);
}

void bridge_render_status(struct bridge *b, struct buf *out)
{
    json_t *sources = json_array();
    for (size_t i = 0; i < b->n_pipelines; i++) {
        json_t *source = source_json(b->pipelines[i]);
        if (b->add_status != NULL)
            b->add_status(b->add_status_arg, i, source);
        json_array_append_new(sources, source);
    }
    json_t *root =
        json_pack("{s:s, s:o, s:s, s:o, s:b, s:o}", "name", b->setup->name, "instance",
                  text_or_null(b->instance.id), "version", BUSBAR_VERSION, "started",
                  time_json(b->started_us), "ready", bridge_is_ready(b, NULL), "sources", sources);
    char *text = json_dumps(root, JSON_INDENT(2));
    buf_append_cstr(out, text != NULL ? text : "{}");
    buf_append_char(out, '\n');
    free(text);
    json_decref(root);
}

void bridge_on_status(struct bridge *b, void (*fn)(void *arg, size_t i, struct json_t *source),
                      void *arg)
{
    b->add_status = fn;
    b->add_status_arg = arg;
}

void bridge_render_metrics(struct bridge *b, struct buf *out)
{
    for (size_t i = 0; i < b->n_pipelines; i++) {
        struct pipeline *p = b->pipelines[i];
        struct journal *journal = pipeline_journal(p);
        metrics_set(pipeline_metrics(p), METRIC_JOURNAL_BYTES, journal_bytes(journal));
        metrics_set(pipeline_metrics(p), METRIC_JOURNAL_EVENTS,
                    journal_next_seq(journal) - journal_first_seq(journal));
        for (size_t j = 0; j < pipeline_sinks(p); j++) {
            struct sink_status s;
            pipeline_sink_status(p, j, &s);
            metrics_set(pipeline_sink_metrics(p, j), METRIC_LAG_EVENTS, lag_of(journal, &s));
        }
    }
    metrics_render(b->metrics, out);
}

static bool say_why(struct buf *why, const char *kind, const char *name, const char *state,
                    const char *detail)
{
    if (why != NULL)
        buf_printf(why, "%s %s: %s%s%s\n", kind, name, state, *detail != '\0' ? ": " : "", detail);
    return false;
}

static bool is_ready(struct pipeline *p, struct buf *why)
{
    bool ready = true;
    struct ingest_status source;
    pipeline_source_status(p, &source);
    if (source.state != SOURCE_ATTACHED && source.state != SOURCE_ENDED)
        ready = say_why(why, "source", pipeline_name(p), source_state_name(source.state),
                        source.detail);
    for (size_t i = 0; i < pipeline_sinks(p); i++) {
        struct sink_status sink;
        pipeline_sink_status(p, i, &sink);
        if (sink.state != SINK_PUBLISHING && sink.state != SINK_WAITING)
            ready = say_why(why, "sink", pipeline_sink(p, i)->name, sink_state_name(sink.state),
                            sink.detail);
    }
    return ready;
}

bool bridge_is_ready(struct bridge *b, struct buf *why)
{
    bool ready = true;
    for (size_t i = 0; i < b->n_pipelines; i++)
        ready = is_ready(b->pipelines[i], why) && ready;
    return ready;
}
