/* nomad_snapshot.c - reads a region's whole state and tells it to a resync.
 *
 * Topic by topic: the listing, page by page; each entry is named to the resync, which says whether
 * the object has to be told. Where the listing has full objects they are told as they come, else
 * each is read singly, before the next page is asked for: nothing piles up. What a topic's listing
 * refuses is left out, said once in the log, and not called whole, so that nothing of it vanishes.
 */
#include "connectors/nomad/nomad_snapshot.h"

#include "bridge/base/log.h"
#include "connectors/nomad/nomad_snapshot_one.h"
#include "connectors/nomad/nomad_snapshot_read.h"
#include "connectors/nomad/nomad_snapshot_service.h"

#include <stdlib.h>
#include <string.h>

/* ---- telling ---- */

static bool passes(const struct snapshot *s, const struct found_event *found)
{
    struct event event = {.topic = found->topic,
                          .type = found->type,
                          .key = found->key,
                          .ns = found->ns,
                          .filter_keys = found->filter_keys,
                          .origin = EVENT_SNAPSHOT};
    return snapshot_namespaces_have(&s->namespaces, found->ns) && filter_match(s->filter, &event);
}

int snapshot_tell(struct snapshot *s, struct snapshot_object *object, struct err *err)
{
    if (!passes(s, &object->event))
        return 0;
    snapshot_object_event(object);
    return resync_object(s->resync, &object->event, err);
}

/* ---- one object ---- */

/* True where s->object is the one that was asked for. */
static bool is_object(struct snapshot *s, struct str raw, struct str key)
{
    return snapshot_object_read(&s->object, s->topic, raw, NULL) == 0 &&
           str_eq(s->object.event.key, key);
}

/* What can't be had is counted. */
int snapshot_read_one(struct snapshot *s, struct str key, struct str ns, struct err *err)
{
    struct snapshot_name name = {s->topic, ns, key};
    int rc = snapshot_one_get(&s->http, &name, &s->answer, err);
    if (rc == 0 && s->answer.status == 200 && is_object(s, buf_str(&s->answer.body), key))
        rc = snapshot_tell(s, &s->object, err);
    else if (rc == 0 && (s->answer.status != 404 || !snapshot_name_is_askable(&name)))
        s->untold++;
    return rc;
}

/* ---- listings ---- */

static int take_entry(void *arg, struct str raw, struct err *err)
{
    struct snapshot *s = arg;
    struct err why;
    if (snapshot_object_read(&s->entry, s->topic, raw, &why) != 0) {
        log_debug("resync_entry_unreadable", LOG_STR("source", s->source),
                  LOG_STR("topic", s->topic->name), LOG_STR("err", why.msg));
        s->unreadable++;
        return 0;
    }
    struct found_event named = s->entry.event;
    if (s->topic->one != NULL && s->topic->index_is_late)
        named.index = 0;
    if (!resync_listed(s->resync, &named))
        return 0;
    if (s->topic->one == NULL)
        return snapshot_tell(s, &s->entry, err);
    /* Filter keys may be missing in a listing's entry; without any, it says all that counts. */
    if (s->topic->filter_keys[0] == NULL && !passes(s, &s->entry.event))
        return 0;
    if (strcmp(s->topic->name, "Allocation") == 0) {
        snapshot_alloc_want(s);
        return 0;
    }
    return snapshot_read_one(s, s->entry.event.key, s->entry.event.ns, err);
}

static void expect(void *arg, size_t n)
{
    struct snapshot *s = arg;
    resync_as_of(s->resync, s->http.newest);
    resync_expect(s->resync, n);
}

/* ---- topics ---- */

/* Once for each topic, until it is readable again. */
static void say_refused(struct snapshot *s, const struct snapshot_list *list, uint32_t bit,
                        uint32_t *told)
{
    if (!list->denied)
        log_debug("resync_topic_unknown", LOG_STR("source", s->source),
                  LOG_STR("topic", s->topic->name), LOG_STR("server_said", list->said));
    else if ((*told & bit) == 0)
        log_warn("resync_topic_refused", LOG_STR("source", s->source),
                 LOG_STR("topic", s->topic->name), LOG_STR("server_said", list->said),
                 LOG_STR("hint", "the token may not list it: left out of resyncs"));
    if (list->denied)
        *told |= bit;
}

static void say_incomplete(struct snapshot *s, const struct snapshot_list *list)
{
    if (list->broken || s->unreadable > 0 || s->untold > 0)
        log_warn("resync_topic_incomplete", LOG_STR("source", s->source),
                 LOG_STR("topic", s->topic->name),
                 LOG_STR("listing", list->broken ? "does not end" : "whole"),
                 LOG_INT("entries_not_understood", s->unreadable),
                 LOG_INT("objects_not_to_be_had", s->untold));
}

/* *readable: the listing was not refused. */
static int read_topic(struct snapshot *s, uint32_t bit, uint32_t *told, bool *readable,
                      struct err *err)
{
    struct snapshot_list list = {.http = &s->http,
                                 .topic = s->topic,
                                 .namespaces = &s->namespaces,
                                 .take = take_entry,
                                 .expect = expect,
                                 .arg = s};
    s->unreadable = s->untold = 0;
    int rc = snapshot_is_service(s->topic) ? snapshot_service_read(&list, &s->unreadable, err)
                                           : snapshot_list_read(&list, err);
    if (rc != 0 || snapshot_alloc_read(s, err) != 0)
        return -1;
    *readable = !list.refused;
    if (list.refused) {
        say_refused(s, &list, bit, told);
        return 0;
    }
    *told &= ~bit;
    say_incomplete(s, &list);
    if (!list.broken && s->unreadable == 0 && list.index > 0)
        resync_whole(s->resync, str_from(s->topic->name), list.index);
    return 0;
}

/* Whether a topic could be read that is not wanted itself, for those that follow it. */
static int probe(struct snapshot *s, bool *readable, struct err *err)
{
    struct buf query = {0};
    buf_printf(&query, "per_page=1&%s", s->topic->query != NULL ? s->topic->query : "");
    int rc = snapshot_http_get(&s->http, s->topic->list, buf_cstr(&query), &s->answer, err);
    *readable = rc == 0 && s->answer.status == 200 && s->answer.body.len > 0;
    buf_fini(&query);
    return rc;
}

/* Is one of those wanted that follow this one? */
static bool has_wanted_followers(const struct snapshot *s, const struct snapshot_topic *topic)
{
    for (topic++; topic->name != NULL && topic->follows; topic++)
        if (snapshot_topic_is_wanted(topic, s->settings))
            return true;
    return false;
}

static int read_topics(struct snapshot *s, uint32_t *told, struct err *err)
{
    bool head_readable = false, readable;
    for (size_t i = 0; snapshot_topics[i].name != NULL; i++) {
        const struct snapshot_topic *topic = &snapshot_topics[i];
        bool wanted = snapshot_topic_is_wanted(topic, s->settings);
        s->topic = topic;
        readable = false;
        if (topic->follows ? wanted && head_readable : wanted) {
            if (read_topic(s, UINT32_C(1) << i, told, &readable, err) != 0)
                return -1;
        } else if (!topic->follows && has_wanted_followers(s, topic)) {
            if (probe(s, &readable, err) != 0)
                return -1;
        }
        if (!topic->follows)
            head_readable = readable;
        snapshot_alloc_fini(s);
    }
    return 0;
}

static bool may_ask(void *arg)
{
    return resync_may_ask(arg);
}

static struct filter *make_filter(const struct nomad_settings *settings)
{
    struct filter *filter = filter_new();
    for (size_t i = 0; i < settings->topics.n; i++)
        filter_add_topic(filter, str_from(settings->topics.items[i]));
    filter_add_namespace(filter, str_from(settings->ns));
    filter_add_namespace(filter, STR("")); /* as Nomad: what belongs to none passes */
    return filter;
}

static void fini(struct snapshot *s)
{
    snapshot_alloc_fini(s);
    snapshot_object_fini(&s->entry);
    snapshot_object_fini(&s->object);
    snapshot_answer_fini(&s->answer);
    snapshot_namespaces_fini(&s->namespaces);
    snapshot_http_fini(&s->http);
    filter_free(&s->filter);
}

int snapshot_read(const struct nomad_settings *settings, struct str source, struct resync *resync,
                  struct snapshot_memory *memory, struct err *err)
{
    struct snapshot s = {.settings = settings, .resync = resync, .filter = make_filter(settings)};
    const char *server = settings->servers.items[memory->server % settings->servers.n];
    struct buf name = {0};
    buf_append_str(&name, source);
    s.source = buf_cstr(&name);
    const struct snapshot_asker asker = {resync_stop(resync), may_ask, resync};
    snapshot_http_init(&s.http, settings, &asker, server, &memory->trouble);
    int rc = snapshot_namespaces_read(&s.namespaces, &s.http, err);
    if (rc == 0)
        rc = read_topics(&s, &memory->told, err);
    if (rc != 0 && (s.http.stopped || stop_requested(resync_stop(resync))))
        rc = 0;
    if (rc != 0)
        memory->server = (memory->server + 1) % settings->servers.n;
    fini(&s);
    buf_fini(&name);
    return rc;
}
