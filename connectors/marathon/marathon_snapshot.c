/* marathon_snapshot.c - reads a Marathon's whole state and tells it to a resync.
 *
 * Four lists, each told while it arrives, one object in memory at a time: apps are 100 MB where
 * there are many. Marathon says nowhere of which moment an answer is, and its times go back; so the
 * order of arrival decides (resync_asked_now): what the stream has told something of while its
 * answer was on the way is not told from that answer, which may be older, but asked for again by
 * itself, until nothing came in between. A list that is refused, or not there in this version, is
 * left out, and nothing of it vanishes. One that makes no sense breaks off the attempt, after the
 * other lists were read. */
#include "connectors/marathon/marathon_snapshot.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/marathon/marathon_snapshot_http.h"
#include "connectors/marathon/marathon_snapshot_object.h"
#include "connectors/marathon/marathon_snapshot_split.h"

#include <string.h>

enum {
    OBJECT_MAX = 16 << 20, /* of one object, and of a whole tree of groups: memory */
    ROUNDS_MAX = 10,       /* of asking again; the waits before them are 12.75 s in all */
    ROUND_WAIT_MS = 50,    /* before the third, doubling up to */
    ROUND_WAIT_MAX_MS = 3200,
};

struct snapshot {
    struct resync *resync;
    const char *source;
    struct marathon_asker asker;
    const struct marathon_topic *topic; /* being read */
    struct marathon_object object;
    struct bounded body; /* of an answer that is read whole */
    size_t unreadable;   /* of a list: not understood, or too long */
    size_t untold;       /* asked for again, and something else came */
    bool failed;         /* a list could not be read: why */
    struct err failure;
};

/* ---- telling ---- */

static int tell(struct snapshot *s, struct err *err)
{
    if (!resync_listed(s->resync, &s->object.event))
        return 0;
    marathon_object_event(&s->object, s->asker.asked_us);
    return resync_object(s->resync, &s->object.event, err);
}

/* One of a list. */
static int take_object(void *arg, struct str raw, struct err *err)
{
    struct snapshot *s = arg;
    struct err why;
    resync_expect(s->resync, 1);
    if (marathon_object_read(&s->object, s->topic, raw, &why) == 0)
        return tell(s, err);
    if (why.kind != ERR_INPUT) {
        *err = why;
        return -1;
    }
    log_debug("resync_entry_unreadable", LOG_STR("source", s->source),
              LOG_STR("topic", s->topic->name), LOG_STR("err", why.msg));
    s->unreadable++;
    return 0;
}

/* ---- bodies ---- */

static int feed_split(void *arg, struct str bytes, struct err *err)
{
    return marathon_split_feed(arg, bytes, err);
}

static int feed_body(void *arg, struct str bytes, struct err *err)
{
    struct snapshot *s = arg;
    bounded_append(&s->body, bytes);
    return s->body.cut ? err_set(err, ERR_RETRY, "more than %d bytes", OBJECT_MAX) : 0;
}

static struct str body_of(const struct snapshot *s)
{
    return s->body.bytes.len > 0 ? buf_str(&s->body.bytes) : STR("");
}

static int ask_whole(struct snapshot *s, const char *path, struct marathon_answer *answer,
                     struct err *err)
{
    bounded_clear(&s->body);
    return marathon_ask(&s->asker, path, feed_body, s, answer, err);
}

/* ---- lists ---- */

static int ask_array(struct snapshot *s, const char *path, struct marathon_answer *answer,
                     struct err *err)
{
    struct marathon_split split;
    marathon_split_init(&split, s->topic->array, OBJECT_MAX);
    split.take = take_object;
    split.arg = s;
    int rc = marathon_ask(&s->asker, path, feed_split, &split, answer, err);
    if (rc == 0 && answer->status == 200) {
        rc = marathon_split_end(&split, err);
        if (rc != 0)
            err_wrap(err, "%.200s", path);
    }
    s->unreadable += split.too_long;
    marathon_split_fini(&split);
    return rc;
}

static int ask_groups(struct snapshot *s, const char *path, struct marathon_answer *answer,
                      struct err *err)
{
    if (ask_whole(s, path, answer, err) != 0)
        return -1;
    if (answer->status != 200)
        return 0;
    return marathon_groups_walk(body_of(s), take_object, s, err) == 0
               ? 0
               : err_wrap(err, "%.200s", path);
}

static bool is_tree(const struct marathon_topic *topic)
{
    return topic->array != NULL && *topic->array == '\0';
}

static int ask_list(struct snapshot *s, const char *path, struct marathon_answer *answer,
                    struct err *err)
{
    return is_tree(s->topic) ? ask_groups(s, path, answer, err) : ask_array(s, path, answer, err);
}

/* Whether it is an answer that asking again won't change: 0, or -1 and why not. */
static int judge(struct snapshot *s, const struct marathon_answer *answer, struct err *err)
{
    switch (answer->status) {
    case 200:
        return 0;
    case 404:
        log_info("resync_topic_unknown", LOG_STR("source", s->source),
                 LOG_STR("topic", s->topic->name), LOG_STR("server_said", answer->said),
                 LOG_STR("note", "this Marathon has none of these"));
        return 0;
    case 403:
        log_warn("resync_topic_refused", LOG_STR("source", s->source),
                 LOG_STR("topic", s->topic->name), LOG_STR("server_said", answer->said),
                 LOG_STR("hint", "the user may not see it: left out of resyncs"));
        return 0;
    default:
        return err_set(err, ERR_RETRY, "%s: the server answered %s", s->topic->list, answer->said);
    }
}

static void end_list(struct snapshot *s)
{
    if (s->unreadable == 0)
        resync_whole(s->resync, str_from(s->topic->name), 0);
    else
        log_warn("resync_topic_incomplete", LOG_STR("source", s->source),
                 LOG_STR("topic", s->topic->name),
                 LOG_INT("entries_not_understood", (int64_t)s->unreadable));
}

static int read_list(struct snapshot *s, struct err *err)
{
    struct marathon_answer answer;
    s->unreadable = 0;
    if (ask_list(s, s->topic->list, &answer, err) != 0)
        return -1;
    if (answer.status == 404 && s->topic->list_too != NULL &&
        ask_list(s, s->topic->list_too, &answer, err) != 0)
        return -1;
    if (judge(s, &answer, err) != 0)
        return -1;
    if (answer.status == 200)
        end_list(s);
    return 0;
}

/* ---- asking again ---- */

static const struct marathon_topic *topic_of(struct str name)
{
    const struct marathon_topic *topic = marathon_topics;
    while (topic->name != NULL && !str_is(name, topic->name))
        topic++;
    return topic->name != NULL ? topic : NULL;
}

static void one_path(const struct marathon_topic *topic, struct str key, struct buf *path)
{
    buf_append_cstr(path, topic->one);
    if (!str_is(key, "/")) /* the root group is at /v2/groups */
        marathon_append_id(path, key);
    buf_append_cstr(path, topic->one_after);
}

/* Where something else came than was asked for (an app called /x/tasks is asked for in vain), the
 * object can't be had. A group comes with those within it: of a new one the stream tells only the
 * group around it. */
static int take_one(struct snapshot *s, struct str key, struct err *err)
{
    struct str raw = body_of(s);
    struct err why;
    if (s->topic->one_member != NULL &&
        marathon_member(body_of(s), s->topic->one_member, &raw, &why) != 0)
        raw = STR("0");
    if (marathon_object_read(&s->object, s->topic, raw, &why) == 0 &&
        str_eq(s->object.event.key, key))
        return is_tree(s->topic) ? marathon_groups_walk(raw, take_object, s, err) : tell(s, err);
    s->untold++;
    return 0;
}

static int read_one(struct snapshot *s, struct str key, struct err *err)
{
    struct buf path = {0};
    struct marathon_answer answer;
    one_path(s->topic, key, &path);
    int rc = ask_whole(s, buf_cstr(&path), &answer, err);
    if (rc == 0 && answer.status == 200)
        rc = take_one(s, key, err);
    else if (rc == 0 && answer.status == 404)
        rc = resync_gone(s->resync, str_from(s->topic->name), key, err);
    else if (rc == 0 && answer.status == 403)
        s->untold++;
    else if (rc == 0)
        rc =
            err_set(err, ERR_RETRY, "%.200s: the server answered %s", buf_cstr(&path), answer.said);
    buf_fini(&path);
    return rc;
}

/* A pod that is created is told without its name: then all are listed again. */
static int again(void *arg, struct str topic, struct str key, struct err *err)
{
    struct snapshot *s = arg;
    s->topic = topic_of(topic);
    if (s->topic == NULL || s->topic->one == NULL)
        return 0;
    if (key.len == 0 && strcmp(s->topic->name, "Pod") == 0)
        return read_list(s, err);
    return key.len > 0 && key.p[0] == '/' ? read_one(s, key, err) : 0;
}

/* The stream tells more the busier it is: it is given time. */
static bool wait_for_calm(struct snapshot *s, unsigned round)
{
    int64_t wait_ms = round < 2 ? 0 : (int64_t)ROUND_WAIT_MS << (round - 2);
    if (wait_ms > ROUND_WAIT_MAX_MS)
        wait_ms = ROUND_WAIT_MAX_MS;
    return wait_ms == 0 || !stop_wait(resync_stop(s->resync), (int)wait_ms);
}

static int read_again(struct snapshot *s, struct err *err)
{
    size_t held = 0;
    for (unsigned round = 0; round < ROUNDS_MAX && wait_for_calm(s, round); round++) {
        if (resync_again(s->resync, again, s, &held, err) != 0)
            return -1;
        if (held == 0)
            return 0;
    }
    return err_set(err, ERR_RETRY,
                   "%zu objects change faster than they can be read: each time that one was asked "
                   "for, the stream told something of it",
                   held);
}

/* ---- all of it ---- */

static void fail(struct snapshot *s, const struct err *err)
{
    if (!s->failed)
        s->failure = *err;
    s->failed = true;
}

static void read_all(struct snapshot *s)
{
    struct err err;
    for (size_t i = 0; marathon_topics[i].name != NULL; i++) {
        s->topic = &marathon_topics[i];
        if (read_list(s, &err) != 0)
            fail(s, &err);
        if (s->asker.lost)
            return;
    }
    if (read_again(s, &err) != 0)
        fail(s, &err);
    if (s->untold > 0)
        log_warn("resync_incomplete", LOG_STR("source", s->source),
                 LOG_INT("objects_not_to_be_had", (int64_t)s->untold));
}

int marathon_snapshot(const struct marathon_settings *settings, struct ingest *ingest,
                      const char *server, struct resync *resync, struct err *err)
{
    struct snapshot s = {.resync = resync};
    struct buf name = {0};
    buf_append_str(&name, ingest_source(ingest));
    s.source = buf_cstr(&name);
    bounded_init(&s.body, OBJECT_MAX);
    marathon_asker_init(&s.asker, settings, *server != '\0' ? server : settings->servers.items[0],
                        resync);
    read_all(&s);
    marathon_asker_fini(&s.asker);
    marathon_object_fini(&s.object);
    bounded_fini(&s.body);
    buf_fini(&name);
    if (!s.failed || stop_requested(resync_stop(resync)))
        return 0;
    *err = s.failure;
    return -1;
}
