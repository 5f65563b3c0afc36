/* feed.c - what fills the ring. */
#include "connectors/mirror/feed.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

enum {
    PREROLL_US = 5 * 1000 * 1000,
    RUN_BYTES_MAX = 4 << 20,
    SCRATCH_KEEP = 1 << 20,
    RETRY_MS = 1000,
};

void feed_init(struct feed *feed, struct bridge *bridge, const struct mirror_source *sources,
               size_t n_sources, size_t ring_bytes)
{
    *feed = (struct feed){
        .bridge = bridge,
        .sources = sources,
        .n_sources = n_sources,
        .ring_bytes = ring_bytes,
    };
}

void feed_fini(struct feed *feed)
{
    feed_stop(feed);
    buf_fini(&feed->scratch);
    buf_fini(&feed->redacted);
}

void feed_start(struct feed *feed)
{
    if (feed->ring != NULL)
        return;
    int64_t horizon_us = bridge_arrival_horizon(feed->bridge);
    int64_t floor_us = horizon_us > PREROLL_US ? horizon_us - PREROLL_US : 0;
    feed->fed_us = floor_us;
    feed->ring = ring_new(feed->ring_bytes, floor_us);
    feed->merge = merge_new(feed->sources, feed->n_sources);
    for (size_t i = 0; i < feed->n_sources; i++)
        merge_add(feed->merge, i, floor_us + 1, MERGE_TELL_PRUNED);
}

void feed_stop(struct feed *feed)
{
    ring_free(&feed->ring);
    merge_free(&feed->merge);
    feed->more = false;
}

struct str feed_event_bytes(struct feed *feed, const struct event *event)
{
    if (feed->redacted.cap > SCRATCH_KEEP)
        buf_fini(&feed->redacted);
    return redact_event(feed->redact, event, &feed->redacted) ? buf_str(&feed->redacted)
                                                              : event->data;
}

static void append_event(struct feed *feed, const struct mirror_source *source,
                         const struct event *event)
{
    struct event leaves = *event;
    leaves.data = feed_event_bytes(feed, event);
    frame_append_event(&feed->scratch, source->name, source->journal_id, &leaves);
}

struct str feed_format(struct feed *feed, const struct merge_next *next)
{
    const struct mirror_source *source = &feed->sources[next->source];
    if (feed->scratch.cap > SCRATCH_KEEP)
        buf_fini(&feed->scratch);
    buf_clear(&feed->scratch);
    if (next->event != NULL)
        append_event(feed, source, next->event);
    else
        frame_append_gap(&feed->scratch, source->name, source->journal_id, &next->gap);
    return buf_str(&feed->scratch);
}

/* What was pruned before it was fed can't be in the ring: it begins anew behind the gap, and each
 * client that wanted it finds the gap in the journal. */
static size_t feed_one(struct feed *feed, const struct merge_next *next)
{
    size_t len = 0;
    if (next->event == NULL) {
        if (next->gap.arrival_us > feed->fed_us)
            feed->fed_us = next->gap.arrival_us;
        ring_reset(feed->ring, feed->fed_us);
    } else {
        struct str frame = feed_format(feed, next);
        ring_append(feed->ring, next->source, next->event, frame);
        feed->fed_us = next->event->arrival_us;
        len = frame.len;
    }
    merge_take(feed->merge, next);
    return len;
}

static void fail(struct feed *feed, const struct err *err)
{
    if (feed->failed_ms == 0)
        log_error("mirror_journal", LOG_STR("err", err->msg));
    feed->failed_ms = clock_mono_ms();
}

bool feed_run(struct feed *feed)
{
    if (feed->failed_ms != 0 && clock_mono_ms() - feed->failed_ms < RETRY_MS)
        return false;
    int64_t horizon_us = bridge_arrival_horizon(feed->bridge);
    bool news = false;
    size_t bytes = 0;
    size_t bytes_max = feed->ring_bytes / 2 < RUN_BYTES_MAX ? feed->ring_bytes / 2 : RUN_BYTES_MAX;
    struct merge_next next;
    struct err err;
    enum merge_item item = MERGE_NOTHING;
    merge_refresh(feed->merge);
    while (bytes < bytes_max) {
        item = merge_peek(feed->merge, horizon_us, &next, &err);
        if (item == MERGE_NOTHING || item == MERGE_ERROR)
            break;
        bytes += feed_one(feed, &next);
        news = true;
    }
    feed->more = item == MERGE_EVENT || item == MERGE_GAP;
    if (item == MERGE_ERROR)
        fail(feed, &err);
    else
        feed->failed_ms = 0;
    /* What follows a gap may lie behind the horizon, and what is lost before it. */
    if (item == MERGE_NOTHING && horizon_us > feed->fed_us && !merge_has_gap(feed->merge))
        feed->fed_us = horizon_us;
    return news;
}
