/* marathon_stream.c - GET /v2/events of one Marathon, for followers: who listens, and what each is
 * told. */
#include "connectors/mirror/marathon_stream.h"

#include "bridge/base/clock.h"
#include "connectors/mirror/asides.h"
#include "connectors/mirror/frame.h"

#include <stdlib.h>
#include <string.h>

static const char ATTACHED[] = "event_stream_attached";
static const char DETACHED[] = "event_stream_detached";

/* Those of one source. */
struct audience {
    struct asides asides; /* while somebody listens */
    size_t listeners;
};

struct marathon_streams {
    struct feed *feed;
    struct followers *followers;
    struct audience *audiences; /* of each source */
};

struct listener {
    struct marathon_streams *all;
    size_t source;
    char *address;
    struct buf greeting; /* its own event_stream_attached; empty: told, or not wanted */
    uint64_t next;       /* the aside that comes next */
};

struct marathon_streams *marathon_streams_new(struct feed *feed, struct followers *followers)
{
    struct marathon_streams *all = mem_zalloc(sizeof *all);
    all->feed = feed;
    all->followers = followers;
    all->audiences = mem_zalloc((feed->n_sources + 1) * sizeof *all->audiences);
    return all;
}

void marathon_streams_free(struct marathon_streams **streams)
{
    if (*streams == NULL)
        return;
    free((*streams)->audiences);
    free(*streams);
    *streams = NULL;
}

/* ---- the types that one wants ---- */

/* Types are exact: `*` is none that a frame can have. */
static bool take_type(void *arg, struct str name, struct str value)
{
    struct wanted *wanted = arg;
    if (!str_is(name, "event_type"))
        return true;
    filter_add_type(wanted->filter, str_is(value, "*") ? STR("\n") : value);
    wanted_note(wanted, 'y', value);
    return true;
}

static bool is_wanted(const struct filter *filter, struct str type)
{
    return filter_match(filter, &(struct event){.origin = EVENT_SOURCE, .type = type});
}

/* ---- the source's events ---- */

static size_t compose_frames(struct buf *out, struct feed *feed, const struct filter *filter,
                             const struct block *block, const struct journal_message *message)
{
    size_t n = 0;
    for (size_t i = 0; i < message->n_events; i++) {
        const struct event *e = &block->events[message->first_event + i];
        if (!event_is_told(e) || !filter_match(filter, e))
            continue;
        frame_append_marathon(out, e->type, feed_event_bytes(feed, e));
        n++;
    }
    return n;
}

/* ---- the mirror's own ---- */

static struct str tell_aside(void *client, const struct filter *filter, uint64_t seq)
{
    struct listener *l = client;
    const struct aside *aside;
    if (l->greeting.len > 0)
        return buf_str(&l->greeting);
    while ((aside = asides_find(&l->all->audiences[l->source].asides, &l->next)) != NULL) {
        if (aside->seq > seq)
            break;
        if (is_wanted(filter, str_from(aside->type)))
            return buf_str(&aside->frame);
        l->next++;
    }
    return STR("");
}

static void aside_told(void *client)
{
    struct listener *l = client;
    if (l->greeting.len > 0)
        buf_fini(&l->greeting);
    else
        l->next++;
}

void marathon_streams_tell(struct marathon_streams *streams, size_t source, const char *type,
                           struct str data)
{
    struct audience *audience = &streams->audiences[source];
    struct buf frame = {0};
    if (audience->listeners == 0)
        return;
    frame_append_marathon(&frame, str_from(type), data);
    if (frame.len <= HTTP_READ_MIN) {
        uint64_t seq = journal_next_seq(streams->feed->sources[source].journal);
        buf_append_str(&asides_add(&audience->asides, seq, type)->frame, buf_str(&frame));
        followers_nudge(streams->followers);
    }
    buf_fini(&frame);
}

/* As 1.11 writes it. */
static void append_own(struct buf *out, const char *type, const char *address)
{
    char now[CLOCK_TEXT_MAX];
    clock_format(clock_wall_us() / 1000 * 1000, now);
    buf_printf(out, "{\"remoteAddress\":\"%s\",\"eventType\":\"%s\",\"timestamp\":\"%s\"}", address,
               type, now);
}

/* ---- coming and going ---- */

static void listener_gone(void *client)
{
    struct listener *l = client;
    struct audience *audience = &l->all->audiences[l->source];
    struct buf data = {0};
    append_own(&data, DETACHED, l->address);
    if (--audience->listeners == 0)
        asides_fini(&audience->asides);
    marathon_streams_tell(l->all, l->source, DETACHED, buf_str(&data));
    buf_fini(&data);
    buf_fini(&l->greeting);
    free(l->address);
    free(l);
}

static const struct follower_kind stream_kind = {
    .path = "/v2/events",
    .beat = {"\r\n", 2},
    .compose = compose_frames,
    .aside = tell_aside,
    .aside_told = aside_told,
    .gone = listener_gone,
};

static void greet(struct listener *l, const struct filter *filter)
{
    struct buf data = {0};
    append_own(&data, ATTACHED, l->address);
    if (is_wanted(filter, str_from(ATTACHED)))
        frame_append_marathon(&l->greeting, str_from(ATTACHED), buf_str(&data));
    marathon_streams_tell(l->all, l->source, ATTACHED, buf_str(&data));
    buf_fini(&data);
}

struct follower *marathon_streams_add(struct marathon_streams *streams, size_t source,
                                      const struct http_request *request, const char *address,
                                      int64_t beat_ms)
{
    struct audience *audience = &streams->audiences[source];
    struct listener *l = mem_zalloc(sizeof *l);
    l->all = streams;
    l->source = source;
    l->address = mem_strdup(address);
    struct wanted wanted = {.filter = filter_new()};
    http_request_query(request, take_type, &wanted);
    greet(l, wanted.filter);
    l->next = audience->asides.next;
    audience->listeners++;
    struct follower_plan plan = {
        .kind = &stream_kind,
        .client = l,
        .source = source,
        .wanted = wanted,
        .beat_ms = beat_ms,
    };
    return followers_add(streams->followers, &plan);
}
