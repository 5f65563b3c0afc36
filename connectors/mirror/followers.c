/* followers.c - the streaming clients of an orchestrator's own stream: each is a cursor in one
 * journal. */
#include "connectors/mirror/follower.h"

#include "bridge/base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

/* What one read call has put out so far. */
struct out {
    char *p;
    size_t max;
    size_t n;
};

/* ---- coming and going ---- */

struct followers *followers_new(const struct followers_options *options)
{
    struct followers *all = mem_zalloc(sizeof *all);
    size_t n = options->feed->n_sources;
    all->o = *options;
    all->slots = mem_zalloc(options->max * sizeof *all->slots);
    all->groups = groups_new(n);
    all->sheets.feed = options->feed;
    all->followed = mem_zalloc((n > 0 ? n : 1) * sizeof *all->followed);
    all->pause_ms = FOLLOWERS_PAUSE_MS;
    return all;
}

void followers_free(struct followers **followers)
{
    struct followers *all = *followers;
    if (all == NULL)
        return;
    groups_free(&all->groups);
    free(all->followed);
    free(all->slots);
    free(all);
    *followers = NULL;
}

size_t followers_count(const struct followers *followers)
{
    return followers->count;
}

struct followed *follower_source(const struct follower *c)
{
    return &c->all->followed[c->crowd->source];
}

static void join_crowd(struct follower *c, struct follower_plan *plan)
{
    struct followers *all = c->all;
    size_t n = all->o.feed->n_sources;
    wanted_note(&plan->wanted, 'p', str_from(plan->kind->path));
    plan->wanted.sources = mem_zalloc(n * sizeof(bool));
    plan->wanted.sources[plan->source] = true;
    struct group *group = groups_join(all->groups, &plan->wanted);
    if (group->crowd == NULL) {
        group->crowd = mem_zalloc(sizeof *group->crowd);
        *group->crowd =
            (struct crowd){.group = group, .source = plan->source, .compose = plan->kind->compose};
    }
    c->crowd = group->crowd;
    c->in_crowd = c->crowd->followers;
    if (c->in_crowd != NULL)
        c->in_crowd->before = c;
    c->crowd->followers = c;
}

static void leave_crowd(struct follower *c)
{
    struct crowd *crowd = c->crowd;
    if (c->in_crowd != NULL)
        c->in_crowd->before = c->before;
    if (c->before != NULL)
        c->before->in_crowd = c->in_crowd;
    else
        crowd->followers = c->in_crowd;
    crowd->asleep -= c->asleep;
    struct group *group = crowd->group;
    if (crowd->followers == NULL) {
        sheets_drop(&c->all->sheets, crowd);
        free(crowd);
    }
    groups_leave(c->all->groups, group);
}

static void follow(struct followers *all, size_t source)
{
    struct followed *f = &all->followed[source];
    struct journal *journal = all->o.feed->sources[source].journal;
    if (f->followers++ > 0)
        return;
    f->reader = journal_reader_new(journal);
    f->seq = journal_next_seq(journal);
    f->newest_us = journal_tail(journal).arrival_us;
    journal_reader_seek(f->reader, f->seq);
}

struct follower *followers_add(struct followers *all, struct follower_plan *plan)
{
    struct follower *c = all->free;
    if (c != NULL)
        all->free = c->free;
    else
        c = &all->slots[all->used++];
    all->now_ms = clock_mono_ms();
    *c = (struct follower){
        .all = all,
        .kind = plan->kind,
        .client = plan->client,
        .seek = plan->seek,
        .next_seq = journal_next_seq(all->o.feed->sources[plan->source].journal),
        .beats_ms = plan->beat_ms,
        .beat_ms = all->now_ms + (plan->beats_at_once ? 0 : plan->beat_ms),
        .used = true,
    };
    if (plan->beat_ms / 4 + 1 < all->pause_ms)
        all->pause_ms = plan->beat_ms / 4 + 1;
    join_crowd(c, plan);
    follow(all, plan->source);
    all->count++;
    clients_enter(all->o.clients, groups_count(all->groups));
    return c;
}

int64_t follower_lag_ms(const struct follower *c)
{
    int64_t us = c->placed && !c->asleep ? follower_source(c)->newest_us - c->last_us : 0;
    return us > 0 ? us / 1000 : 0;
}

/* Where it can go on: the last line that it has comes again. Once the index has started over since,
 * the only one that says so much is the least. */
void follower_note_cut(struct follower *c, enum cut_reason reason)
{
    char position[32];
    uint64_t index = c->told_epoch == follower_source(c)->epoch ? c->told_index : 1;
    snprintf(position, sizeof position, "index=%" PRIu64, index);
    struct cut cut = {
        .reason = reason,
        .stream = c->stream,
        .path = c->kind->path,
        .position = c->kind->has_index && c->told_index > 0 ? position : NULL,
        .behind_ms = follower_lag_ms(c),
    };
    c->cut = true;
    cuts_note(clients_cuts(c->all->o.clients), &cut);
}

static void follower_closed(void *arg, enum http_closed why)
{
    struct follower *c = arg;
    if (c == NULL)
        return; /* of a HEAD */
    struct followers *all = c->all;
    struct followed *f = follower_source(c);
    if (why == HTTP_CLOSED_TIMEOUT)
        follower_note_cut(c, CUT_TIMEOUT);
    list_remove(&all->queue, &c->waiting);
    seek_free(&c->seek);
    if (c->kind->gone != NULL)
        c->kind->gone(c->client);
    leave_crowd(c);
    if (--f->followers == 0)
        journal_reader_free(&f->reader);
    c->used = false;
    c->free = all->free;
    all->free = c;
    all->count--;
    clients_leave(all->o.clients, groups_count(all->groups));
}

static void follower_opened(void *arg, struct http_stream *stream)
{
    struct follower *c = arg;
    c->stream = stream;
}

/* ---- what comes next ---- */

static void wait(struct follower *c)
{
    struct followers *all = c->all;
    if (c->waiting.owner != NULL)
        return;
    list_add(&all->queue, &c->waiting, c);
    if (all->queue.first == all->queue.last)
        all->o.work(all->o.work_arg);
}

/* Lies before the place where it begins. */
static bool is_before(struct follower *c, const struct sheet_line *line)
{
    const struct seek_start *s = &c->start;
    if (!s->skips)
        return false;
    bool below = line->epoch < s->epoch || (line->epoch == s->epoch && line->index < s->index);
    if (below && line->seq < s->newest)
        return true;
    c->start.skips = false;
    return false;
}

static void note_place(struct follower *c, const struct sheet_line *line)
{
    if (c->placed)
        return;
    c->placed = true;
    c->last_us = line->arrival_us;
    c->behind_ms = c->all->now_ms;
    c->allow_ms = cuts_allow_ms(c->all->o.lag_ms, line->arrival_us);
}

/* The sheet of the next line for it, with next_seq there; NULL: it has all, or has to wait. */
static const struct sheet *find_next(struct follower *c, size_t *line)
{
    struct sheet *sheet;
    while (c->seek == NULL &&
           (sheet = sheets_find(&c->all->sheets, c->crowd, c->next_seq)) != NULL) {
        *line = sheet_place(sheet, c->next_seq);
        while (*line < sheet->n && is_before(c, &sheet->lines[*line]))
            ++*line;
        if (*line < sheet->n)
            return sheet;
        c->next_seq = sheet->end_seq;
        c->last_us = sheet->to_us;
    }
    return NULL;
}

struct str follower_aside(const struct follower *c, uint64_t seq)
{
    return c->kind->aside != NULL ? c->kind->aside(c->client, c->crowd->group->wish.filter, seq)
                                  : STR("");
}

bool follower_beat_due(const struct follower *c)
{
    return c->all->now_ms >= c->beat_ms;
}

static size_t follower_look(void *arg, struct iovec *parts, size_t max)
{
    struct follower *c = arg;
    size_t line;
    (void)max;
    if (c->cut || (c->offset == 0 && follower_beat_due(c)))
        return 0;
    const struct sheet *sheet = find_next(c, &line);
    if (sheet == NULL)
        return 0;
    const struct sheet_line *at = &sheet->lines[line];
    if (c->offset > 0 && at->seq != c->next_seq) {
        follower_note_cut(c, CUT_PRUNED); /* the rest of it is gone */
        return 0;
    }
    c->next_seq = at->seq;
    note_place(c, at);
    if (c->offset == 0 && follower_aside(c, at->seq).len > 0)
        return 0;
    bool one = follower_beat_due(c) || follower_aside(c, UINT64_MAX).len > 0;
    size_t start = at->start + c->offset;
    size_t end = one ? sheet_line_end(sheet, line) : sheet->text.len;
    parts[0] = (struct iovec){sheet->text.p + start, end - start};
    c->all->looked = sheet;
    c->all->looked_line = line;
    return 1;
}

static bool follower_taken(void *arg, size_t bytes)
{
    struct follower *c = arg;
    const struct sheet *sheet = c->all->looked;
    size_t n_events = 0;
    metrics_count(c->all->o.metrics, METRIC_DELIVERED_BYTES, bytes);
    for (size_t line = c->all->looked_line; bytes > 0; line++) {
        const struct sheet_line *at = &sheet->lines[line];
        size_t left = sheet_line_end(sheet, line) - at->start - c->offset;
        c->next_seq = at->seq;
        if (bytes < left) {
            c->offset += bytes;
            break;
        }
        bytes -= left;
        c->offset = 0;
        c->next_seq = at->seq + 1;
        c->last_us = at->arrival_us;
        c->told_index = at->index;
        c->told_epoch = at->epoch;
        n_events += at->n_events;
    }
    metrics_count(c->all->o.metrics, METRIC_DELIVERED, n_events);
    return true;
}

/* ---- what only it is sent ---- */

static bool put(struct out *out, struct str text)
{
    if (text.len == 0 || text.len > out->max - out->n)
        return false;
    memcpy(out->p + out->n, text.p, text.len);
    out->n += text.len;
    return true;
}

static void put_beat(struct follower *c, struct out *out)
{
    if (!follower_beat_due(c) || !put(out, c->kind->beat))
        return;
    c->beat_ms += c->beats_ms;
    if (c->beat_ms <= c->all->now_ms)
        c->beat_ms = c->all->now_ms + c->beats_ms;
}

static void put_asides(struct follower *c, struct out *out)
{
    while (c->seek == NULL && put(out, follower_aside(c, c->next_seq)))
        c->kind->aside_told(c->client);
}

/* Nothing is at hand. */
static void go_on(struct follower *c)
{
    if (c->seek != NULL || c->next_seq < follower_source(c)->seq) {
        wait(c);
        return;
    }
    c->crowd->asleep += !c->asleep;
    c->asleep = true;
    c->placed = true;
    c->allow_ms = c->all->o.lag_ms;
}

static ssize_t follower_read(void *arg, char *p, size_t max)
{
    struct follower *c = arg;
    struct out out = {p, max, 0};
    bool within = c->offset > 0; /* a message, where words can't be told from it */
    if (c->over)
        return HTTP_END;
    c->over = c->cut;
    if (c->cut)
        return !within && put(&out, c->kind->cut_off) ? (ssize_t)out.n : HTTP_END;
    if (!within)
        put_beat(c, &out);
    if (!within)
        put_asides(c, &out);
    if (out.n == 0)
        go_on(c);
    metrics_count(c->all->o.metrics, METRIC_DELIVERED_BYTES, out.n);
    return (ssize_t)out.n;
}

const struct http_stream_ops follower_stream_ops = {
    .opened = follower_opened,
    .read = follower_read,
    .closed = follower_closed,
    .look = follower_look,
    .taken = follower_taken,
};
