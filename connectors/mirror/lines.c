/* lines.c - what the followers of a Nomad's stream get: lines. */
#include "connectors/mirror/lines.h"

static bool is_wanted(const struct filter *filter, const struct event *event)
{
    return event_is_told(event) && filter_match(filter, event);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* True where between the two there is `mark`, once, and blanks. */
static bool only_between(const char *from, const char *to, char mark)
{
    size_t marks = 0;
    for (; from < to; from++) {
        if (!is_blank(*from) && *from != mark)
            return false;
        marks += *from == mark;
    }
    return marks == 1;
}

/* True where the raw bytes are a line, and the events known of it are all that stand in it: asked
 * for several keys, Nomad tells an event twice, of which the source keeps one; and some messages
 * are a bare event. */
static bool is_line_of(const struct event *events, size_t n, struct str raw)
{
    const char *before = events[0].data.p, *end = raw.p + raw.len;
    const char *behind = events[n - 1].data.p + events[n - 1].data.len;
    while (before > raw.p && is_blank(before[-1]))
        before--;
    while (behind < end && is_blank(*behind))
        behind++;
    if (before == raw.p || before[-1] != '[' || behind == end || *behind != ']')
        return false;
    for (size_t i = 1; i < n; i++)
        if (!only_between(events[i - 1].data.p + events[i - 1].data.len, events[i].data.p, ','))
            return false;
    return true;
}

static size_t count_wanted(const struct filter *filter, const struct event *events, size_t n)
{
    size_t wanted = 0;
    for (size_t i = 0; i < n; i++)
        wanted += is_wanted(filter, &events[i]);
    return wanted;
}

static void append_wanted(struct buf *out, struct feed *feed, const struct filter *filter,
                          const struct event *events, size_t n)
{
    uint64_t index = 0;
    bool first = true;
    buf_append_cstr(out, "{\"Events\":[");
    for (size_t i = 0; i < n; i++) {
        if (!is_wanted(filter, &events[i]))
            continue;
        if (!first)
            buf_append_char(out, ',');
        first = false;
        index = events[i].index; /* a line has one */
        buf_append_str(out, feed_event_bytes(feed, &events[i]));
    }
    buf_append_cstr(out, "],\"Index\":");
    buf_append_u64(out, index);
    buf_append_cstr(out, "}\n");
}

static size_t compose_line(struct buf *out, struct feed *feed, const struct filter *filter,
                           const struct block *block, const struct journal_message *message)
{
    const struct event *events = &block->events[message->first_event];
    size_t n = message->n_events, wanted = count_wanted(filter, events, n);
    if (wanted == n && feed->redact == NULL && is_line_of(events, n, message->raw)) {
        buf_append_str(out, message->raw);
        buf_append_char(out, '\n');
    } else if (wanted > 0) {
        append_wanted(out, feed, filter, events, n);
    }
    return wanted;
}

static const struct follower_kind lines_kind = {
    .path = "/v1/event/stream",
    .beat = {"{}\n", 3},
    .cut_off = {"event dropped from buffer", 25},
    .has_index = true,
    .compose = compose_line,
};

struct follower *lines_add(struct followers *followers, struct journal *journal, size_t source,
                           struct nomad_query *query, int64_t beat_ms)
{
    struct follower_plan plan = {
        .kind = &lines_kind,
        .source = source,
        .wanted = query->wanted,
        .seek = seek_new(journal, query->index),
        .beat_ms = beat_ms,
        .beats_at_once = true,
    };
    query->wanted = (struct wanted){0};
    return followers_add(followers, &plan);
}
