/* client_own.c - a client whose start is its own. */
#include "connectors/mirror/client_own.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

#include <stdlib.h>
#include <string.h>

enum {
    TURN_TICKETS = 24,            /* clients that may read a slice per turn */
    SLICE_EVENTS_MAX = 256,       /* looked at per slice */
    SLICE_BYTES_MAX = 128 * 1024, /* looked at per slice, unless one event is larger */
    MERGES_MAX = 64,              /* past it a client lets its readers go after each slice */
    MERGE_IDLE_MS = 1000,         /* a client that takes nothing lets them go */
};

struct client_own {
    struct client_plan plan;
    struct merge *merge; /* its readers; may be let go and made again from after_us */
    bool checked;        /* they have looked for gaps */
};

void client_own_begin(struct client *c, const struct client_plan *plan)
{
    c->own = mem_zalloc(sizeof *c->own);
    c->own->plan = *plan;
    c->own->plan.wanted = (struct wanted){0}; /* its group has it */
    c->state = CLIENT_OWN;
    c->all->owns++;
}

static void drop_merge(struct client *c)
{
    if (c->own->merge == NULL)
        return;
    merge_free(&c->own->merge);
    c->all->merges--;
}

void client_own_end(struct client *c)
{
    if (c->own == NULL)
        return;
    list_remove(&c->all->queue, &c->waiting);
    drop_merge(c);
    free(c->own);
    c->own = NULL;
    c->all->owns--;
}

/* ---- what it wants ---- */

static int64_t wanted_from(const struct client_plan *plan, size_t source)
{
    return source == plan->named ? plan->named_from_us : plan->from_us;
}

/* May find that a gap is due before this event, wanted or not. */
static bool passes(struct client *c, size_t source, const struct event *event)
{
    struct client_plan *plan = &c->own->plan;
    return wish_takes_source(&c->group->wish, source) &&
           event->arrival_us >= wanted_from(plan, source) &&
           (source != plan->named || resume_passes(&plan->resume, event));
}

static bool wants(struct client *c, size_t source, const struct event *event)
{
    return passes(c, source, event) && wish_takes(&c->group->wish, source, event);
}

/* No gap is left to tell, and each source has shown where it begins. */
static bool can_share(const struct client *c)
{
    const struct client_own *own = c->own;
    return own->checked && own->merge != NULL && !merge_has_gap(own->merge) &&
           !own->plan.resume.gap_due && c->after_us <= c->all->feed->fed_us &&
           merge_has_begun(own->merge);
}

/* From here on it is as any other: there is nothing to be skipped. */
static bool is_over(const struct client *c)
{
    const struct client_plan *plan = &c->own->plan;
    if (plan->resume.on || plan->resume.gap_due || c->after_us + 1 < plan->from_us)
        return false;
    return plan->named == c->all->feed->n_sources || c->after_us + 1 >= plan->named_from_us;
}

/* ---- reading ---- */

static void enqueue(struct client *c)
{
    struct clients *all = c->all;
    c->asleep = false;
    if (c->waiting.owner != NULL)
        return;
    list_add(&all->queue, &c->waiting, c);
    if (all->queue.first == all->queue.last && all->o.work != NULL)
        all->o.work(all->o.work_arg);
}

static void make_merge(struct client *c)
{
    const struct feed *feed = c->all->feed;
    struct client_own *own = c->own;
    own->merge = merge_new(feed->sources, feed->n_sources);
    c->all->merges++;
    for (size_t i = 0; i < feed->n_sources; i++) {
        int64_t from_us = wanted_from(&own->plan, i);
        if (from_us <= c->after_us)
            from_us = c->after_us + 1;
        if (wish_takes_source(&c->group->wish, i))
            merge_add(own->merge, i, from_us, own->plan.tell);
    }
}

/* Puts what fits of a frame; true when all of it is out. */
static bool put_frame(struct client *c, struct out *out, struct str frame,
                      const struct merge_next *next)
{
    int64_t arrival_us = next->event != NULL ? next->event->arrival_us : next->gap.arrival_us;
    size_t left = frame.len - c->offset;
    size_t room = out->max - out->n;
    size_t take = left < room ? left : room;
    memcpy(out->p + out->n, frame.p + c->offset, take);
    out->n += take;
    if (take < left) {
        c->offset += take;
        c->partial_us = arrival_us;
        return false;
    }
    c->offset = 0;
    if (next->event != NULL)
        client_told(c, next->source, next->event);
    else
        c->told = (struct told_id){next->gap.arrival_us, next->gap.to, next->gap.epoch,
                                   next->gap.ordinal, next->source};
    metrics_count(c->all->metrics, METRIC_DELIVERED, 1);
    return true;
}

bool client_own_owes_gap(const struct client *c)
{
    return c->own != NULL && c->own->plan.resume.gap_due;
}

bool client_own_put_gap(struct client *c, struct out *out)
{
    if (!client_own_owes_gap(c))
        return true;
    struct resume *resume = &c->own->plan.resume;
    if (out->max - out->n < FRAME_GAP_MAX)
        return false;
    struct merge_next next = {.source = c->own->plan.named, .gap = resume->gap};
    put_frame(c, out, feed_format(c->all->feed, &next), &next);
    resume->gap_due = false;
    return true;
}

static int pass_gap(struct client *c, struct out *out, struct merge_next *next)
{
    if (c->offset > 0)
        return -1;
    if (out->max - out->n < FRAME_GAP_MAX)
        return 0;
    if (next->gap.arrival_us < c->after_us)
        next->gap.arrival_us = c->after_us;
    put_frame(c, out, feed_format(c->all->feed, next), next);
    if (next->source == c->own->plan.named)
        c->own->plan.resume.on = false;
    c->after_us = next->gap.arrival_us; /* what the ring still has of it stays a gap */
    return 1;
}

static int pass_event(struct client *c, struct out *out, const struct merge_next *next)
{
    bool wanted = wants(c, next->source, next->event);
    if (!client_own_put_gap(c, out))
        return 0;
    if (wanted) {
        if (client_lost_the_rest(c, next->event->arrival_us))
            return -1;
        if (!put_frame(c, out, feed_format(c->all->feed, next), next))
            return 0;
    }
    c->after_us = next->event->arrival_us;
    return 1;
}

/* One event or gap from the journals. 1: go on; 0: `out` is full; -1: the client has to go. */
static int pass_item(struct client *c, struct out *out, struct merge_next *next)
{
    int rc = next->event == NULL ? pass_gap(c, out, next) : pass_event(c, out, next);
    if (rc > 0)
        merge_take(c->own->merge, next);
    return rc;
}

static int cut(struct client *c, enum cut_reason reason)
{
    struct cut why = {.reason = reason, .stream = c->stream, .path = "/events", .told = &c->told};
    cuts_note(&c->all->cuts, &why);
    return -1;
}

static int end_of_slice(struct client *c, struct out *out, const struct merge_next *last)
{
    if (last->event != NULL && client_heartbeat_due(c, out)) { /* hardly anything is wanted */
        client_put_heartbeat(out);
        if (!c->own->plan.resume.on)
            client_put_id(c, out, last->source, last->event);
    }
    if (out->n == 0)
        enqueue(c);
    return 0;
}

static int read_slice(struct client *c, struct out *out)
{
    struct client_own *own = c->own;
    struct merge_next next = {0};
    struct err err;
    size_t bytes = 0;
    merge_refresh(own->merge);
    for (size_t i = 0; i < SLICE_EVENTS_MAX && bytes < SLICE_BYTES_MAX; i++) {
        enum merge_item item = merge_peek(own->merge, c->all->feed->fed_us, &next, &err);
        own->checked = true;
        own->plan.tell = MERGE_TELL_PRUNED;
        if (item == MERGE_ERROR) {
            log_error("mirror_journal", LOG_STR("err", err.msg));
            return cut(c, CUT_JOURNAL);
        }
        if (item == MERGE_NOTHING) {
            if (c->all->feed->fed_us > c->after_us)
                c->after_us = c->all->feed->fed_us;
            c->asleep = out->n == 0;
            return 0;
        }
        bytes += next.event != NULL ? next.event->data.len : 0;
        int rc = pass_item(c, out, &next);
        if (rc <= 0)
            return rc < 0 ? cut(c, CUT_PRUNED) : 0;
    }
    return end_of_slice(c, out, &next);
}

/* At its first turn: it reads. */
static int find_start(struct client *c)
{
    struct client_plan *plan = &c->own->plan;
    const struct mirror_source *source = &c->all->feed->sources[plan->named];
    struct err err;
    if (!plan->seeks)
        return 0;
    plan->seeks = false;
    if (resume_find(source, &plan->id, &plan->resume, &plan->named_from_us, &err) != 0) {
        log_error("mirror_journal", LOG_STR("err", err.msg));
        return cut(c, CUT_JOURNAL);
    }
    client_place(c, plan);
    return 0;
}

int client_own_read(struct client *c, struct out *out)
{
    if (!c->ticket) {
        if (!c->asleep)
            enqueue(c);
        return 0;
    }
    c->ticket = false;
    if (find_start(c) != 0)
        return -1;
    if (c->own->merge == NULL)
        make_merge(c);
    int rc = read_slice(c, out);
    if (rc < 0)
        return rc;
    if (can_share(c)) {
        list_remove(&c->all->queue, &c->waiting);
        drop_merge(c);
        c->asleep = false;
        c->state = CLIENT_BEHIND;
        c->behind_ms = c->all->now_ms;
        if (is_over(c))
            client_own_end(c);
    } else if (c->all->merges > MERGES_MAX && !merge_has_gap(c->own->merge)) {
        drop_merge(c);
    }
    return 0;
}

/* ---- sharing ---- */

size_t client_own_next(struct client *c, const struct chunk *chunk, const struct verdict *v)
{
    struct client_plan *plan = &c->own->plan;
    size_t frame = c->cursor.frame;
    for (; frame < chunk->n && !is_over(c); frame++) {
        struct ring_frame f;
        chunk_at(chunk, frame, &f);
        bool gap = f.event.origin == EVENT_OWN && str_is(f.event.key, PAGES_GAP_KEY);
        if (gap && f.source == plan->named)
            plan->resume.on = false;
        if ((gap || passes(c, f.source, &f.event)) &&
            (plan->resume.gap_due || chunk_passes(v, frame)))
            return frame;
        c->after_us = f.arrival_us;
    }
    if (is_over(c))
        client_own_end(c);
    return chunk_next(chunk, v, frame);
}

/* ---- turns ---- */

void client_own_wake_all(struct clients *all)
{
    for (size_t i = 0; all->owns > 0 && i < all->used; i++) {
        struct client *c = &all->slots[i];
        if (c->state == CLIENT_OWN && c->asleep)
            enqueue(c);
        else if (c->own != NULL && c->asleep)
            client_wake(c);
    }
}

void client_own_give_tickets(struct clients *all)
{
    struct client *c;
    for (int i = 0; i < TURN_TICKETS && (c = list_first(&all->queue)) != NULL; i++) {
        list_remove(&all->queue, &c->waiting);
        c->ticket = true;
        http_stream_wake(c->stream);
    }
}

void client_own_rest(struct client *c, int64_t now_ms)
{
    if (c->own != NULL && c->own->merge != NULL && !merge_has_gap(c->own->merge) &&
        now_ms - c->read_ms > MERGE_IDLE_MS)
        drop_merge(c);
}
