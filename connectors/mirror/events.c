/* events.c - what a GET /events asks for. */
#include "connectors/mirror/events.h"

#include "bridge/base/clock.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 64 }; /* of what an answer repeats of the request */

/* The query, as it is being read. */
struct asked {
    const struct feed *feed;
    struct client_plan *plan;
    bool has_id;
    bool has_since;
    struct str id; /* lives as long as the request */
    struct str since;
    int rc;
    struct err *err;
};

static int text_len(struct str s)
{
    return s.len < TEXT_MAX ? (int)s.len : TEXT_MAX;
}

static size_t find_source(const struct feed *feed, struct str name)
{
    size_t i = 0;
    while (i < feed->n_sources && !str_is(name, feed->sources[i].name))
        i++;
    return i;
}

static int add_source(struct asked *asked, struct str name)
{
    const struct feed *feed = asked->feed;
    size_t i = find_source(feed, name);
    if (i == feed->n_sources) {
        struct buf known = {0};
        for (size_t k = 0; k < feed->n_sources; k++)
            buf_printf(&known, " %s", feed->sources[k].name);
        err_set(asked->err, ERR_INPUT, "source=%.*s: unknown, here are:%s", text_len(name), name.p,
                buf_cstr(&known));
        buf_fini(&known);
        return -1;
    }
    struct wanted *wanted = &asked->plan->wanted;
    if (wanted->sources == NULL)
        wanted->sources = mem_zalloc(feed->n_sources * sizeof(bool));
    wanted->sources[i] = true;
    return 0;
}

static int add_filter(struct asked *asked, void (*add)(struct filter *filter, struct str value),
                      struct str name, struct str value)
{
    struct wanted *wanted = &asked->plan->wanted;
    if (wanted->filter == NULL)
        wanted->filter = filter_new();
    add(wanted->filter, value);
    wanted_note(wanted, name.p[1], value);
    return 0;
}

static int take_parameter(struct asked *asked, struct str name, struct str value)
{
    if (str_is(name, "source"))
        return add_source(asked, value);
    if (str_is(name, "namespace"))
        return add_filter(asked, filter_add_namespace, name, value);
    if (str_is(name, "last_event_id")) {
        asked->has_id = true;
        asked->id = value;
        return 0;
    }
    if (str_is(name, "since")) {
        asked->has_since = true;
        asked->since = value;
        return 0;
    }
    bool topic = str_is(name, "topic");
    if (!topic && !str_is(name, "type"))
        return err_set(asked->err, ERR_INPUT,
                       "%.*s: unknown parameter, there are: source topic type namespace "
                       "last_event_id since",
                       text_len(name), name.p);
    if (value.len == 0)
        return err_set(asked->err, ERR_INPUT, "%s=: empty, expected %s", topic ? "topic" : "type",
                       topic ? "Topic or Topic:key" : "a type");
    return add_filter(asked, topic ? filter_add_topic : filter_add_type, name, value);
}

static bool on_parameter(void *arg, struct str name, struct str value)
{
    struct asked *asked = arg;
    asked->rc = take_parameter(asked, name, value);
    return asked->rc == 0;
}

/* ---- where to begin ---- */

static bool journal_is_here(const struct feed *feed, uint64_t journal_id)
{
    for (size_t i = 0; i < feed->n_sources; i++)
        if (feed->sources[i].journal_id == journal_id)
            return true;
    return false;
}

/* The id is of another instance, or of a journal that was here before: its arrival time is of
 * another clock, so only the source's own index is exact. */
static void plan_elsewhere(const struct feed *feed, const struct frame_id *id, int64_t now_us,
                           struct client_plan *plan)
{
    int64_t arrival_us = id->arrival_us < now_us ? id->arrival_us : now_us;
    plan->from_us = arrival_us > MERGE_OVERLAP_US ? arrival_us - MERGE_OVERLAP_US : 1;
    plan->tell = MERGE_TELL_UNPROVEN;
    size_t named = find_source(feed, id->source);
    if (named == feed->n_sources)
        return;
    plan->named = named;
    plan->named_from_us = plan->from_us;
    plan->resume = (struct resume){.since_us = plan->from_us, .now_us = now_us};
    plan->seeks = true;
    plan->id = *id;
    plan->id.source = (struct str){0};
}

static int plan_resume(const struct feed *feed, struct str text, int64_t now_us,
                       struct client_plan *plan, struct err *err)
{
    struct frame_id id;
    if (text.len == 0) {
        plan->from_us = 0;
        plan->tell = MERGE_TELL_NONE;
        return 0;
    }
    if (!frame_parse_id(text, &id))
        return err_set(err, ERR_INPUT,
                       "last event id %.*s: not an id of this bridge, expected "
                       "SOURCE:POSITION@ARRIVAL.JOURNAL",
                       text_len(text), text.p);
    if (!journal_is_here(feed, id.journal_id))
        plan_elsewhere(feed, &id, now_us, plan);
    else
        plan->from_us = id.arrival_us < now_us ? id.arrival_us + 1 : now_us;
    return 0;
}

/* A `+` of the offset that was not escaped has become a space. */
static int plan_since(struct str text, struct client_plan *plan, struct err *err)
{
    char copy[TEXT_MAX];
    size_t len = text.len < sizeof copy ? text.len : sizeof copy - 1;
    memcpy(copy, text.p, len);
    for (size_t i = 0; i < len; i++)
        if (copy[i] == ' ' && i > sizeof "2026-11-21")
            copy[i] = '+';
    if (text.len >= sizeof copy || !clock_parse((struct str){copy, len}, &plan->from_us))
        return err_set(err, ERR_INPUT, "since=%.*s: not a time, expected RFC 3339", text_len(text),
                       text.p);
    if (plan->from_us < 1)
        plan->from_us = 1;
    return 0;
}

int events_plan(const struct feed *feed, const struct http_request *request,
                struct client_plan *plan, struct err *err)
{
    struct asked asked = {.feed = feed, .plan = plan, .err = err};
    int64_t now_us = bridge_arrival_horizon(feed->bridge) + 1;
    *plan = (struct client_plan){
        .from_us = now_us,
        .named = feed->n_sources,
        .tell = MERGE_TELL_PRUNED,
    };
    http_request_query(request, on_parameter, &asked);
    const char *header = http_request_header(request, "Last-Event-ID");
    int rc = asked.rc;
    if (rc == 0 && header != NULL && header[0] != '\0')
        rc = plan_resume(feed, str_from(header), now_us, plan, err);
    else if (rc == 0 && asked.has_id)
        rc = plan_resume(feed, asked.id, now_us, plan, err);
    else if (rc == 0 && asked.has_since)
        rc = plan_since(asked.since, plan, err);
    if (rc != 0)
        client_plan_fini(plan);
    return rc;
}
