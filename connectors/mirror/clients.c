/* clients.c - the streaming clients of GET /events: each is a cursor.
 *
 * Who has all is asleep at its group's tail: as long as nothing comes that the group wants, none of
 * its clients is looked at. Who is behind the ring waits for a page (clients_sweep.c). */
#include "connectors/mirror/client_own.h"

#include "bridge/base/clock.h"
#include "connectors/mirror/frame.h"

#include <stdlib.h>
#include <string.h>

enum {
    HOUSEKEEPING_MS = 1000,
    FEED_IDLE_MS = 60 * 1000, /* without clients for so long, the ring goes */
};

static const char GREETING[] = ": busbar\n\n";
static const char HEARTBEAT[] = ": heartbeat\n\n";

void client_plan_fini(struct client_plan *plan)
{
    wanted_fini(&plan->wanted);
}

/* ---- coming and going ---- */

struct clients *clients_new(const struct clients_options *options)
{
    struct clients *all = mem_zalloc(sizeof *all);
    all->o = *options;
    all->feed = options->feed;
    all->metrics = options->metrics;
    all->slots = mem_zalloc(options->max * sizeof *all->slots);
    all->groups = groups_new(all->feed->n_sources);
    all->pages = pages_new(all->feed);
    all->cuts = (struct cuts){.metrics = all->metrics, .sources = all->feed->sources};
    return all;
}

void clients_free(struct clients **clients)
{
    struct clients *all = *clients;
    if (all == NULL)
        return;
    groups_free(&all->groups);
    pages_free(&all->pages);
    free(all->slots);
    free(all);
    *clients = NULL;
}

bool clients_full(const struct clients *clients)
{
    return clients->count == clients->o.max;
}

struct cuts *clients_cuts(struct clients *clients)
{
    return &clients->cuts;
}

static void count_in(struct clients *all)
{
    all->count++;
    metrics_add(all->metrics, METRIC_CLIENTS_TOTAL, 1);
    metrics_set(all->metrics, METRIC_CLIENTS, all->count);
}

static void count_out(struct clients *all)
{
    all->count--;
    metrics_set(all->metrics, METRIC_CLIENTS, all->count);
}

static void count_groups(struct clients *all)
{
    metrics_set(all->metrics, METRIC_CLIENT_GROUPS, groups_count(all->groups) + all->guest_groups);
}

void clients_enter(struct clients *clients, size_t guest_groups)
{
    clients->guests++;
    clients->guest_groups = guest_groups;
    count_in(clients);
    count_groups(clients);
}

void clients_leave(struct clients *clients, size_t guest_groups)
{
    clients->guests--;
    clients->guest_groups = guest_groups;
    count_out(clients);
    count_groups(clients);
}

void client_place(struct client *c, const struct client_plan *plan)
{
    int64_t start = plan->from_us;
    if (plan->named < c->all->feed->n_sources && plan->named_from_us < start)
        start = plan->named_from_us;
    c->after_us = start - 1;
    c->allow_ms = cuts_allow_ms(c->all->o.lag_ms, c->after_us);
}

static void join_group(struct client *c, struct wanted *wanted)
{
    struct clients *all = c->all;
    c->group = groups_join(all->groups, wanted);
    if (c->group->n_clients == 1) {
        c->group->tail_us = all->feed->fed_us;
        ring_seek(all->feed->ring, c->group->tail_us, &c->group->tail);
    }
    c->in_group = c->group->clients;
    if (c->in_group != NULL)
        c->in_group->before = c;
    c->group->clients = c;
    count_groups(all);
}

static void leave_group(struct client *c)
{
    if (c->in_group != NULL)
        c->in_group->before = c->before;
    if (c->before != NULL)
        c->before->in_group = c->in_group;
    else
        c->group->clients = c->in_group;
    groups_leave(c->all->groups, c->group);
    count_groups(c->all);
}

struct client *clients_add(struct clients *clients, struct client_plan *plan)
{
    struct client *c = clients->free;
    if (c != NULL)
        clients->free = c->free;
    else
        c = &clients->slots[clients->used++];
    *c = (struct client){
        .all = clients,
        .state = CLIENT_BEHIND,
        .sent_ms = clock_mono_ms(),
    };
    c->behind_ms = c->sent_ms;
    client_place(c, plan);
    join_group(c, &plan->wanted);
    if (plan->tell != MERGE_TELL_PRUNED || c->after_us > clients->feed->fed_us)
        client_own_begin(c, plan);
    *plan = (struct client_plan){0};
    count_in(clients);
    return c;
}

static int64_t lag_ms(const struct client *c)
{
    int64_t us = c->all->feed->fed_us - c->after_us;
    return us > 0 && !c->asleep ? us / 1000 : 0;
}

static void note_cut(struct client *c, enum cut_reason reason)
{
    struct cut cut = {
        .reason = reason,
        .stream = c->stream,
        .path = "/events",
        .told = &c->told,
        .behind_ms = lag_ms(c),
    };
    c->cut = true;
    cuts_note(&c->all->cuts, &cut);
}

static void client_closed(void *arg, enum http_closed why)
{
    struct client *c = arg;
    if (c == NULL) /* a HEAD request */
        return;
    struct clients *all = c->all;
    if (why == HTTP_CLOSED_TIMEOUT)
        note_cut(c, CUT_TIMEOUT);
    client_own_end(c); /* leaves its queue */
    list_remove(&all->waiting, &c->waiting);
    leave_group(c);
    c->state = CLIENT_FREE;
    c->free = all->free;
    all->free = c;
    all->left_ms = clock_mono_ms();
    count_out(all);
}

static void client_opened(void *arg, struct http_stream *stream)
{
    struct client *c = arg;
    c->stream = stream;
}

/* ---- what it is sent ---- */

bool client_lost_the_rest(const struct client *c, int64_t arrival_us)
{
    return c->offset > 0 && arrival_us != c->partial_us;
}

/* Its chunk, with the cursor in it; NULL where it has nothing: it has all, or is behind. */
static struct chunk *ring_at_hand(struct client *c)
{
    bool gone;
    if (c->asleep)
        return NULL;
    struct chunk *chunk = ring_chunk(c->all->feed->ring, &c->cursor, &gone);
    if (gone) {
        c->state = CLIENT_BEHIND;
        c->cursor = (struct ring_cursor){0};
        c->ticket = false;
    }
    return chunk;
}

/* The page of its cursor, if that is still held, or of its time. */
static struct page *page_of(struct client *c)
{
    struct pages *pages = c->all->pages;
    struct page *page = c->cursor.chunk > 0 ? pages_get(pages, c->cursor.chunk) : NULL;
    if (page == NULL && (page = pages_find(pages, c->after_us)) != NULL)
        c->cursor = (struct ring_cursor){page->number, pages_place(page, c->after_us)};
    return page;
}

size_t client_next_frame(struct client *c, const struct chunk *chunk, const struct verdict *v)
{
    return c->own != NULL ? client_own_next(c, chunk, v) : chunk_next(chunk, v, c->cursor.frame);
}

static struct chunk *page_at_hand(struct client *c)
{
    struct page *page = c->ticket ? page_of(c) : NULL;
    if (page == NULL)
        return NULL;
    const struct verdict *v = chunk_judge(&page->chunk, &c->group->wish);
    c->cursor.frame = client_next_frame(c, &page->chunk, v);
    if (c->cursor.frame < page->chunk.n)
        return &page->chunk;
    client_page_over(c, page);
    return NULL;
}

/* The next frame that it wants, with the cursor there; NULL: none at hand. */
static struct chunk *find_next(struct client *c)
{
    for (;;) {
        struct chunk *chunk = c->state == CLIENT_RING     ? ring_at_hand(c)
                              : c->state == CLIENT_BEHIND ? page_at_hand(c)
                                                          : NULL;
        if (chunk == NULL)
            return NULL;
        const struct verdict *v = chunk_judge(chunk, &c->group->wish);
        c->cursor.frame = client_next_frame(c, chunk, v);
        if (c->cursor.frame < chunk->n) {
            c->all->looked = v;
            return chunk;
        }
        if (chunk->n > 0)
            c->after_us = chunk->entries[chunk->n - 1].arrival_us;
        if (ring_is_newest(c->all->feed->ring, &c->cursor))
            return NULL;
    }
}

static size_t client_look(void *arg, struct iovec *parts, size_t max)
{
    struct client *c = arg;
    if (!c->greeted || c->cut)
        return 0;
    struct chunk *chunk = find_next(c);
    if (chunk == NULL)
        return 0;
    const struct chunk_entry *e = &chunk->entries[c->cursor.frame];
    if (client_lost_the_rest(c, e->arrival_us)) {
        note_cut(c, CUT_PRUNED);
        return 0;
    }
    if (client_own_owes_gap(c))
        return 0;
    c->all->looked_at = chunk;
    struct chunk_place place = {c->cursor.frame, c->offset};
    size_t n = chunk_parts(chunk, c->all->looked, &place, parts, max);
    if (c->own == NULL)
        return n;
    parts[0].iov_len = e->len - c->offset; /* it may skip the next one */
    return 1;
}

static struct event event_of(const struct chunk_entry *e)
{
    return (struct event){
        .arrival_us = e->arrival_us,
        .index = e->index,
        .pos_index = e->pos_index,
        .epoch = e->epoch,
        .ordinal = e->ordinal,
        .origin = e->origin,
    };
}

void client_told(struct client *c, size_t source, const struct event *event)
{
    c->told = (struct told_id){
        .arrival_us = event->arrival_us,
        .index = frame_index(event),
        .epoch = event->epoch,
        .ordinal = event->ordinal,
        .source = source,
    };
}

static void fall_asleep(struct client *c)
{
    c->asleep = true;
    c->allow_ms = c->all->o.lag_ms;
}

/* Its cursor is behind the newest frame of the ring. */
static bool has_all(const struct client *c, const struct chunk *chunk)
{
    return c->state == CLIENT_RING && c->own == NULL && c->cursor.frame == chunk->n &&
           ring_is_newest(c->all->feed->ring, &c->cursor);
}

static bool client_taken(void *arg, size_t bytes)
{
    struct client *c = arg;
    const struct chunk *chunk = c->all->looked_at;
    struct chunk_place place = {c->cursor.frame, c->offset};
    size_t last = 0;
    size_t whole = chunk_pass(chunk, c->all->looked, &place, bytes, &last);
    c->cursor.frame = place.frame;
    c->offset = place.offset;
    if (place.offset > 0)
        c->partial_us = chunk->entries[place.frame].arrival_us;
    if (whole > 0) {
        struct event event = event_of(&chunk->entries[last]);
        client_told(c, chunk->entries[last].source, &event);
        c->after_us = event.arrival_us;
    }
    if (bytes > 0)
        c->sent_ms = c->all->now_ms;
    metrics_count(c->all->metrics, METRIC_DELIVERED, whole);
    metrics_count(c->all->metrics, METRIC_DELIVERED_BYTES, bytes);
    if (!has_all(c, chunk))
        return true;
    fall_asleep(c);
    return false;
}

/* ---- what only it is sent ---- */

void client_put_text(struct out *out, struct str text)
{
    if (text.len > out->max - out->n)
        return;
    memcpy(out->p + out->n, text.p, text.len);
    out->n += text.len;
}

bool client_heartbeat_due(const struct client *c, const struct out *out)
{
    return out->n == 0 && c->offset == 0 && c->all->now_ms - c->sent_ms >= c->all->o.heartbeat_ms;
}

void client_put_heartbeat(struct out *out)
{
    client_put_text(out, STR(HEARTBEAT));
}

void client_put_id(struct client *c, struct out *out, size_t source, const struct event *event)
{
    const struct mirror_source *of = &c->all->feed->sources[source];
    struct buf line = {0};
    frame_append_id_line(&line, of->name, of->journal_id, event);
    buf_append_char(&line, '\n');
    client_put_text(out, buf_str(&line));
    client_told(c, source, event);
    buf_fini(&line);
}

/* The newest event that it has passed, wanted or not; NULL: not known. */
static const struct chunk_entry *last_passed(const struct client *c)
{
    const struct chunk *chunk = NULL;
    if (c->state == CLIENT_RING) {
        chunk = ring_newest(c->all->feed->ring);
    } else if (c->state == CLIENT_BEHIND) {
        const struct page *page = pages_ending(c->all->pages, c->after_us);
        chunk = page != NULL ? &page->chunk : NULL;
    }
    return chunk != NULL && chunk->n > 0 ? &chunk->entries[chunk->n - 1] : NULL;
}

static void put_heartbeat(struct client *c, struct out *out)
{
    const struct chunk_entry *e = last_passed(c);
    client_put_heartbeat(out);
    if (e == NULL || c->own != NULL || e->arrival_us <= c->told.arrival_us ||
        e->arrival_us > c->after_us)
        return;
    struct event event = event_of(e);
    client_put_id(c, out, e->source, &event);
}

/* Nothing is at hand: it has all, or goes on from the ring, or waits for a page. */
static void go_on(struct client *c)
{
    if (c->state == CLIENT_BEHIND) {
        if (!ring_seek(c->all->feed->ring, c->after_us, &c->cursor)) {
            client_wait(c);
            return;
        }
        c->state = CLIENT_RING;
        if (find_next(c) != NULL) {
            http_stream_wake(c->stream);
            return;
        }
    }
    if (c->state == CLIENT_RING)
        fall_asleep(c);
}

static ssize_t client_read(void *arg, char *p, size_t max)
{
    struct client *c = arg;
    struct out out = {p, max, 0};
    c->read_ms = c->all->now_ms;
    if (c->cut)
        return HTTP_END;
    if (!c->greeted)
        client_put_text(&out, STR(GREETING));
    c->greeted = true;
    if (c->state == CLIENT_OWN && client_own_read(c, &out) != 0)
        return HTTP_END;
    if (c->state != CLIENT_OWN)
        client_own_put_gap(c, &out);
    if (client_heartbeat_due(c, &out))
        put_heartbeat(c, &out);
    if (out.n == 0)
        go_on(c);
    else
        c->sent_ms = c->all->now_ms;
    metrics_count(c->all->metrics, METRIC_DELIVERED_BYTES, out.n);
    return (ssize_t)out.n;
}

const struct http_stream_ops client_stream_ops = {
    .opened = client_opened,
    .read = client_read,
    .closed = client_closed,
    .look = client_look,
    .taken = client_taken,
};

/* ---- the newest ---- */

void client_wake(struct client *c)
{
    if (c->state == CLIENT_RING) {
        c->asleep = false;
        c->behind_ms = c->all->now_ms;
    }
    if (c->state == CLIENT_RING && c->own == NULL) {
        c->cursor = c->group->tail;
        c->after_us = c->group->tail_us;
    }
    http_stream_wake(c->stream);
}

static void wake_group(struct group *g, bool gone)
{
    for (struct client *c = g->clients; c != NULL; c = c->in_group) {
        if (c->state != CLIENT_RING || !c->asleep || c->own != NULL)
            continue;
        client_wake(c);
        if (gone)
            c->state = CLIENT_BEHIND;
    }
}

/* True where something came that the group wants, with its tail there. */
static bool find_news(struct clients *all, struct group *g, bool *gone)
{
    for (;;) {
        struct chunk *chunk = ring_chunk(all->feed->ring, &g->tail, gone);
        if (chunk == NULL)
            return *gone;
        const struct verdict *v = chunk_judge(chunk, &g->wish);
        g->tail.frame = chunk_next(chunk, v, g->tail.frame);
        if (g->tail.frame < chunk->n)
            return true;
        if (chunk->n > 0)
            g->tail_us = chunk->entries[chunk->n - 1].arrival_us;
        if (ring_is_newest(all->feed->ring, &g->tail))
            return false;
    }
}

static void tell_news(struct clients *all)
{
    for (size_t i = 0; i < groups_end(all->groups); i++) {
        struct group *g = groups_at(all->groups, i);
        bool gone = false;
        if (g == NULL || !find_news(all, g, &gone))
            continue;
        wake_group(g, gone);
        g->tail_us = all->feed->fed_us;
        ring_seek(all->feed->ring, g->tail_us, &g->tail);
    }
}

/* ---- the turn ---- */

/* Both for so long, and so far: after an hour without events the newest one is an hour later than
 * the last, and a client that is always a second late never has all. */
static void cut_if_too_slow(struct client *c)
{
    if (c->all->o.lag_ms == 0 || c->cut || c->asleep || c->state == CLIENT_OWN ||
        c->all->now_ms - c->behind_ms <= c->allow_ms || lag_ms(c) <= c->allow_ms)
        return;
    note_cut(c, CUT_LAG);
    http_stream_end(c->stream);
}

static void keep_house(struct clients *all)
{
    size_t behind = 0;
    all->kept_ms = all->now_ms;
    for (size_t i = 0; i < all->used; i++) {
        struct client *c = &all->slots[i];
        if (c->state == CLIENT_FREE || c->stream == NULL)
            continue;
        behind += c->state != CLIENT_RING;
        client_own_rest(c, all->now_ms);
        if ((c->asleep || (c->state == CLIENT_BEHIND && c->waiting.owner != NULL)) &&
            all->now_ms - c->sent_ms >= all->o.heartbeat_ms)
            client_wake(c);
        cut_if_too_slow(c);
    }
    metrics_set(all->metrics, METRIC_CLIENTS_BEHIND, behind);
    cuts_flush(&all->cuts, all->now_ms);
    if (all->count == all->guests && all->now_ms - all->left_ms > FEED_IDLE_MS)
        feed_stop(all->feed);
    if (behind == 0)
        pages_drop(all->pages);
}

void clients_feed(struct clients *all)
{
    if (all->feed->ring == NULL || !feed_run(all->feed))
        return;
    tell_news(all);
    client_own_wake_all(all);
}

int clients_turn(struct clients *all)
{
    all->now_ms = clock_mono_ms();
    clients_feed(all);
    if (all->now_ms - all->kept_ms >= HOUSEKEEPING_MS ||
        all->now_ms - all->kept_ms >= all->o.heartbeat_ms / 4)
        keep_house(all);
    bool swept = clients_sweep(all);
    client_own_give_tickets(all);
    if (all->feed->more || all->queue.first != NULL || (swept && all->waiting.first != NULL))
        return 0;
    int64_t wait_ms = all->o.heartbeat_ms / 4;
    return wait_ms < HOUSEKEEPING_MS ? (int)wait_ms + 1 : HOUSEKEEPING_MS;
}
