/* clients.c - the streaming clients of GET /events: each is a cursor.
 *
 * Reading journals is work, and a block of them is memory, so those who are behind take turns:
 * they queue, and each turn of the loop lets a few of them read one slice. */
#include "connectors/mirror/clients.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

#include <stdlib.h>
#include <string.h>

enum {
    TURN_TICKETS = 8,             /* clients that may read a slice per turn */
    SLICE_EVENTS_MAX = 256,       /* looked at per slice */
    SLICE_BYTES_MAX = 128 * 1024, /* looked at per slice, unless one event is larger */
    MERGES_MAX = 64,              /* past it a client lets its readers go after each slice */
    MERGE_IDLE_MS = 1000,         /* a client that takes nothing lets them go */
    HOUSEKEEPING_MS = 1000,
    FEED_IDLE_MS = 60 * 1000, /* without clients for so long, the ring goes */
};

static const char GREETING[] = ": busbar\n\n";
static const char HEARTBEAT[] = ": heartbeat\n\n";

enum client_state {
    CLIENT_FREE,
    CLIENT_JOURNAL, /* reads for itself */
    CLIENT_RING,
};

struct client {
    struct clients *all;
    struct http_stream *stream;
    struct client_plan plan;
    enum client_state state;
    struct ring_cursor cursor;
    struct merge *merge; /* its readers; may be let go and made again from after_us */
    int64_t after_us;    /* everything up to this has been passed */
    int64_t told_us;     /* arrival in the newest id it was told */
    size_t offset;       /* of the next frame this much has been sent … */
    int64_t partial_us;  /* … and this is that frame's arrival */
    int64_t sent_ms;
    int64_t read_ms;
    bool greeted;
    bool checked; /* its readers have looked for gaps, or need not */
    bool asleep;  /* on the ring's end */
    bool queued;
    bool ticket;
    struct client *next; /* in the queue, or free */
};

struct clients {
    struct feed *feed;
    struct metrics *metrics;
    struct client *slots; /* one array: see http_server.c */
    size_t max;
    size_t used; /* slots from here on were never used */
    size_t count;
    struct client *free;
    struct client *queue;
    struct client **queue_end;
    size_t merges;
    int64_t heartbeat_ms;
    int64_t kept_ms; /* when housekeeping was last done */
    int64_t left_ms; /* when the last client left */
    void (*work)(void *arg);
    void *work_arg;
};

/* What one read call has put out so far. */
struct out {
    char *p;
    size_t max;
    size_t n;
};

void client_plan_fini(struct client_plan *plan)
{
    filter_free(&plan->filter);
    free(plan->sources);
    plan->sources = NULL;
}

/* ---- coming and going ---- */

struct clients *clients_new(struct feed *feed, struct metrics *metrics, size_t max,
                            int64_t heartbeat_ms)
{
    struct clients *all = mem_zalloc(sizeof *all);
    all->feed = feed;
    all->metrics = metrics;
    all->max = max;
    all->slots = mem_zalloc(max * sizeof *all->slots);
    all->queue_end = &all->queue;
    all->heartbeat_ms = heartbeat_ms;
    return all;
}

void clients_free(struct clients **clients)
{
    if (*clients == NULL)
        return;
    free((*clients)->slots);
    free(*clients);
    *clients = NULL;
}

void clients_on_work(struct clients *clients, void (*fn)(void *arg), void *arg)
{
    clients->work = fn;
    clients->work_arg = arg;
}

bool clients_full(const struct clients *clients)
{
    return clients->count == clients->max;
}

size_t clients_count(const struct clients *clients)
{
    return clients->count;
}

static int64_t plan_start(const struct client_plan *plan, size_t n_sources)
{
    int64_t start = plan->from_us;
    if (plan->named < n_sources && plan->named_from_us < start)
        start = plan->named_from_us;
    return start - 1;
}

struct client *clients_add(struct clients *clients, struct client_plan *plan)
{
    struct client *c = clients->free;
    if (c != NULL)
        clients->free = c->next;
    else
        c = &clients->slots[clients->used++];
    *c = (struct client){
        .all = clients,
        .plan = *plan,
        .state = CLIENT_JOURNAL,
        .after_us = plan_start(plan, clients->feed->n_sources),
        .checked = plan->tell != MERGE_TELL_UNPROVEN,
        .sent_ms = clock_mono_ms(),
    };
    c->told_us = c->after_us;
    *plan = (struct client_plan){0};
    clients->count++;
    metrics_add(clients->metrics, METRIC_CLIENTS_TOTAL, 1);
    metrics_set(clients->metrics, METRIC_CLIENTS, clients->count);
    return c;
}

static void drop_merge(struct client *c)
{
    if (c->merge == NULL)
        return;
    merge_free(&c->merge);
    c->all->merges--;
}

static void leave_queue(struct client *c)
{
    if (!c->queued)
        return;
    struct client **at = &c->all->queue;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    if (c->all->queue_end == &c->next)
        c->all->queue_end = at;
    c->queued = false;
}

static void client_closed(void *arg, enum http_closed why)
{
    struct client *c = arg;
    if (c == NULL) /* a HEAD request */
        return;
    struct clients *all = c->all;
    leave_queue(c);
    drop_merge(c);
    client_plan_fini(&c->plan);
    c->state = CLIENT_FREE;
    c->next = all->free;
    all->free = c;
    all->count--;
    all->left_ms = clock_mono_ms();
    if (why == HTTP_CLOSED_TIMEOUT)
        metrics_add(all->metrics, METRIC_CLIENTS_CUT, 1);
    metrics_set(all->metrics, METRIC_CLIENTS, all->count);
}

static void client_opened(void *arg, struct http_stream *stream)
{
    struct client *c = arg;
    c->stream = stream;
}

/* ---- what a client wants ---- */

static int64_t wanted_from(const struct client *c, size_t source)
{
    return source == c->plan.named ? c->plan.named_from_us : c->plan.from_us;
}

static bool wants_source(const struct client *c, size_t source)
{
    return c->plan.sources == NULL || c->plan.sources[source];
}

static bool wants(const struct client *c, size_t source, const struct event *event)
{
    return wants_source(c, source) && event->arrival_us >= wanted_from(c, source) &&
           (c->plan.filter == NULL || filter_match(c->plan.filter, event));
}

/* ---- putting bytes out ---- */

static void put_text(struct out *out, struct str text)
{
    if (text.len > out->max - out->n)
        return;
    memcpy(out->p + out->n, text.p, text.len);
    out->n += text.len;
}

/* Puts what fits of a frame; true when all of it is out. */
static bool put_frame(struct client *c, struct out *out, struct str frame, int64_t arrival_us)
{
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
    c->told_us = arrival_us;
    metrics_add(c->all->metrics, METRIC_DELIVERED, 1);
    return true;
}

/* The rest of a frame that was sent in part is gone: ending here lets the reader drop that part. */
static bool lost_the_rest(const struct client *c, int64_t arrival_us)
{
    return c->offset > 0 && arrival_us != c->partial_us;
}

/* ---- on the ring ---- */

static int read_ring(struct client *c, struct out *out)
{
    struct ring_frame f;
    bool gone = false;
    while (out->n < out->max && ring_at(c->all->feed->ring, &c->cursor, &f, &gone)) {
        if (wants(c, f.source, &f.event)) {
            if (lost_the_rest(c, f.arrival_us))
                return -1;
            if (!put_frame(c, out, f.bytes, f.arrival_us))
                return 0;
        }
        c->after_us = f.arrival_us;
        ring_step(&c->cursor);
    }
    if (gone)
        c->state = CLIENT_JOURNAL;
    return 0;
}

/* Steps over what the client does not want; true where something is left. */
static bool ring_has_news(struct client *c)
{
    struct ring_frame f;
    bool gone = false;
    while (ring_at(c->all->feed->ring, &c->cursor, &f, &gone)) {
        if (wants(c, f.source, &f.event))
            return true;
        c->after_us = f.arrival_us;
        ring_step(&c->cursor);
    }
    return gone;
}

/* ---- behind the ring ---- */

static void enqueue(struct client *c)
{
    if (c->queued)
        return;
    c->queued = true;
    c->next = NULL;
    *c->all->queue_end = c;
    c->all->queue_end = &c->next;
    if (c->all->queue == c && c->all->work != NULL)
        c->all->work(c->all->work_arg);
}

static void make_merge(struct client *c)
{
    const struct feed *feed = c->all->feed;
    c->merge = merge_new(feed->sources, feed->n_sources);
    c->all->merges++;
    for (size_t i = 0; i < feed->n_sources; i++) {
        int64_t from_us = wanted_from(c, i);
        if (from_us <= c->after_us)
            from_us = c->after_us + 1;
        if (wants_source(c, i))
            merge_add(c->merge, i, from_us, c->plan.tell);
    }
}

/* Everything that is still to come is in the ring, and no gap is left to tell. */
static bool enter_ring(struct client *c)
{
    if (!c->checked || (c->merge != NULL && merge_has_gap(c->merge)) ||
        !ring_seek(c->all->feed->ring, c->after_us, &c->cursor))
        return false;
    drop_merge(c);
    c->state = CLIENT_RING;
    return true;
}

/* One event or gap from the journals. 1: go on; 0: `out` is full; -1: the client has to go. */
static int pass_item(struct client *c, struct out *out, struct merge_next *next)
{
    struct feed *feed = c->all->feed;
    if (next->event == NULL) {
        if (c->offset > 0)
            return -1;
        if (out->max - out->n < FRAME_GAP_MAX)
            return 0;
        if (next->gap.arrival_us < c->after_us)
            next->gap.arrival_us = c->after_us;
        put_frame(c, out, feed_format(feed, next), next->gap.arrival_us);
        c->after_us = next->gap.arrival_us; /* what the ring still has of it stays a gap */
    } else {
        if (wants(c, next->source, next->event)) {
            if (lost_the_rest(c, next->event->arrival_us))
                return -1;
            if (!put_frame(c, out, feed_format(feed, next), next->event->arrival_us))
                return 0;
        }
        c->after_us = next->event->arrival_us;
    }
    merge_take(c->merge, next);
    return 1;
}

static void put_id_of(struct client *c, struct out *out, const struct merge_next *passed)
{
    struct str line = frame_id_line(feed_format(c->all->feed, passed));
    put_text(out, line);
    put_text(out, STR("\n"));
    c->told_us = passed->event->arrival_us;
}

static bool heartbeat_due(const struct client *c, const struct out *out)
{
    return out->n == 0 && c->offset == 0 && clock_mono_ms() - c->sent_ms >= c->all->heartbeat_ms;
}

static int read_slice(struct client *c, struct out *out)
{
    struct merge_next next = {0};
    struct err err;
    size_t bytes = 0;
    merge_refresh(c->merge);
    for (size_t i = 0; i < SLICE_EVENTS_MAX && bytes < SLICE_BYTES_MAX; i++) {
        enum merge_item item = merge_peek(c->merge, c->all->feed->fed_us, &next, &err);
        c->checked = true;
        c->plan.tell = MERGE_TELL_PRUNED;
        if (item == MERGE_ERROR) {
            log_error("mirror_journal", LOG_STR("err", err.msg));
            return -1;
        }
        if (item == MERGE_NOTHING) {
            if (c->all->feed->fed_us > c->after_us)
                c->after_us = c->all->feed->fed_us;
            return 0;
        }
        bytes += next.event != NULL ? next.event->data.len : 0;
        int rc = pass_item(c, out, &next);
        if (rc <= 0)
            return rc;
    }
    if (next.event != NULL && heartbeat_due(c, out)) { /* a filter that matches hardly anything */
        put_text(out, STR(HEARTBEAT));
        put_id_of(c, out, &next);
    }
    return 0;
}

static int read_journal(struct client *c, struct out *out)
{
    if (enter_ring(c))
        return 0;
    if (!c->ticket) {
        enqueue(c);
        return 0;
    }
    c->ticket = false;
    if (c->merge == NULL)
        make_merge(c);
    int rc = read_slice(c, out);
    if (rc == 0 && !enter_ring(c)) {
        if (out->n == 0)
            enqueue(c);
        if (c->all->merges > MERGES_MAX && !merge_has_gap(c->merge))
            drop_merge(c);
    }
    return rc;
}

/* ---- the stream ---- */

static void put_heartbeat(struct client *c, struct out *out)
{
    put_text(out, STR(HEARTBEAT));
    if (c->state != CLIENT_RING || c->after_us <= c->told_us || c->all->feed->id_line.len == 0)
        return;
    put_text(out, buf_str(&c->all->feed->id_line));
    put_text(out, STR("\n"));
    c->told_us = c->after_us;
}

static ssize_t client_read(void *arg, char *p, size_t max)
{
    struct client *c = arg;
    struct out out = {p, max, 0};
    int rc = 0;
    c->asleep = false;
    c->read_ms = clock_mono_ms();
    if (!c->greeted) {
        c->greeted = true;
        put_text(&out, STR(GREETING));
    }
    if (c->state == CLIENT_JOURNAL)
        rc = read_journal(c, &out);
    if (rc == 0 && c->state == CLIENT_RING)
        rc = read_ring(c, &out);
    if (rc != 0) {
        metrics_add(c->all->metrics, METRIC_CLIENTS_CUT, 1);
        return HTTP_END;
    }
    if (heartbeat_due(c, &out))
        put_heartbeat(c, &out);
    if (out.n > 0) {
        c->sent_ms = c->read_ms;
        metrics_add(c->all->metrics, METRIC_DELIVERED_BYTES, out.n);
    } else if (c->state == CLIENT_RING) {
        c->asleep = true;
    } else {
        enqueue(c); /* it fell behind in this very call */
    }
    return (ssize_t)out.n;
}

const struct http_stream_ops client_stream_ops = {
    .opened = client_opened,
    .read = client_read,
    .closed = client_closed,
};

/* ---- the turn ---- */

static void give_tickets(struct clients *all)
{
    for (int i = 0; i < TURN_TICKETS && all->queue != NULL; i++) {
        struct client *c = all->queue;
        leave_queue(c);
        c->ticket = true;
        http_stream_wake(c->stream);
    }
}

static void wake_sleepers(struct clients *all, bool news, int64_t now_ms)
{
    for (size_t i = 0; i < all->used; i++) {
        struct client *c = &all->slots[i];
        if (c->state != CLIENT_RING || !c->asleep)
            continue;
        if ((news && ring_has_news(c)) || now_ms - c->sent_ms >= all->heartbeat_ms) {
            c->asleep = false;
            http_stream_wake(c->stream);
        }
    }
}

static void keep_house(struct clients *all, int64_t now_ms)
{
    all->kept_ms = now_ms;
    for (size_t i = 0; i < all->used; i++) {
        struct client *c = &all->slots[i];
        if (c->state == CLIENT_JOURNAL && c->merge != NULL && !merge_has_gap(c->merge) &&
            now_ms - c->read_ms > MERGE_IDLE_MS)
            drop_merge(c);
    }
    if (all->count == 0 && now_ms - all->left_ms > FEED_IDLE_MS)
        feed_stop(all->feed);
}

int clients_turn(struct clients *clients)
{
    int64_t now_ms = clock_mono_ms();
    bool news = clients->feed->ring != NULL && feed_run(clients->feed);
    bool beats = now_ms - clients->kept_ms >= HOUSEKEEPING_MS ||
                 now_ms - clients->kept_ms >= clients->heartbeat_ms / 4;
    if (news || beats)
        wake_sleepers(clients, news, now_ms);
    if (beats)
        keep_house(clients, now_ms);
    give_tickets(clients);
    if (clients->feed->more || clients->queue != NULL)
        return 0;
    int64_t wait_ms = clients->heartbeat_ms / 4;
    return wait_ms < HOUSEKEEPING_MS ? (int)wait_ms + 1 : HOUSEKEEPING_MS;
}
