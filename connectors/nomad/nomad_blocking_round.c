/* nomad_blocking_round.c - a round through the tables of one server.
 *
 * The limit of a round is the largest index that any table had before it began. Then each table is
 * asked for its index, or listed at once where that is known to have moved: these answers are all
 * younger than the limit, so together they show every change up to it. What they show beyond waits
 * for the next round. */
#include "connectors/nomad/nomad_blocking_round.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/nomad/nomad_snapshot_one.h"
#include "connectors/nomad/nomad_snapshot_service.h"

#include <string.h>

enum { FLUSH_EVERY_MS = 200 };

/* ---- asking ---- */

static int fail(struct blocking *b, const struct err *err)
{
    b->failed = true;
    b->failure = *err;
    return -1;
}

int blocking_flush(struct blocking *b, struct err *err)
{
    int64_t now_ms = clock_mono_ms();
    if (now_ms - b->flushed_ms < FLUSH_EVERY_MS)
        return 0;
    b->flushed_ms = now_ms;
    return ingest_flush(b->ingest, err) == 0 ? 0 : fail(b, err);
}

void blocking_charge(struct blocking *b, size_t n)
{
    b->asked_us += (int64_t)n * (1000000 / b->settings->snapshot_rate);
}

/* Requests may come in a burst of half a second's. */
static bool may_ask(void *arg)
{
    struct blocking *b = arg;
    struct err err;
    int64_t now_us = clock_mono_us();
    if (b->asked_us < now_us - 500000)
        b->asked_us = now_us - 500000;
    blocking_charge(b, 1);
    for (; b->asked_us > now_us; now_us = clock_mono_us()) {
        int64_t wait_ms = (b->asked_us - now_us + 999) / 1000;
        if (blocking_flush(b, &err) != 0 ||
            stop_wait(ingest_stop(b->ingest),
                      wait_ms < FLUSH_EVERY_MS ? (int)wait_ms : FLUSH_EVERY_MS))
            return false;
    }
    return !stop_requested(ingest_stop(b->ingest));
}

void blocking_open(struct blocking *b, const char *server)
{
    const struct snapshot_asker asker = {ingest_stop(b->ingest), may_ask, b};
    snapshot_http_init(&b->http, b->settings, &asker, server, &b->trouble);
    b->n_tables = 0;
    b->namespaces_fresh = false;
}

void blocking_close(struct blocking *b)
{
    snapshot_namespaces_fini(&b->namespaces);
    snapshot_http_fini(&b->http);
    b->n_tables = 0;
}

void blocking_fini(struct blocking *b)
{
    order_fini(&b->order);
    filter_free(&b->filter);
    snapshot_object_fini(&b->entry);
    snapshot_object_fini(&b->object);
    snapshot_answer_fini(&b->answer);
    blocking_line_fini(&b->line);
    buf_fini(&b->deleted);
}

/* ---- which tables there are ---- */

/* Once for each topic, until it is readable again. */
static void say_unreadable(struct blocking *b, const struct snapshot_topic *topic, uint32_t bit)
{
    char said[128];
    bool denied = snapshot_answer_is_denied(&b->answer);
    snapshot_answer_describe(&b->answer, said, sizeof said);
    if (denied && (b->refused & bit) == 0)
        log_warn("poll_topic_refused", LOG_STR("source", b->source), LOG_STR("topic", topic->name),
                 LOG_STR("server_said", said),
                 LOG_STR("hint", "the token may not list it: left out"));
    else if (!denied && (b->missing & bit) == 0)
        log_info("poll_topic_missing", LOG_STR("source", b->source), LOG_STR("topic", topic->name),
                 LOG_STR("server_said", said),
                 LOG_STR("note", "this server has no such list: left out"));
    if (denied)
        b->refused |= bit;
    else
        b->missing |= bit;
}

static int survey_topic(struct blocking *b, size_t i, bool wanted, bool *readable, struct err *err)
{
    const struct snapshot_topic *topic = &snapshot_topics[i];
    uint32_t bit = UINT32_C(1) << i;
    uint64_t index;
    if (blocking_table_ask(&b->http, topic, 0, &b->answer, &index, err) != 0)
        return -1;
    *readable = index > 0;
    if (!wanted)
        return 0;
    if (!*readable) {
        say_unreadable(b, topic, bit);
        return 0;
    }
    b->refused &= ~bit;
    b->missing &= ~bit;
    b->tables[b->n_tables++] =
        (struct blocking_table){.topic = topic, .readable = true, .seen = index};
    return 0;
}

static bool has_wanted_followers(const struct blocking *b, const struct snapshot_topic *topic)
{
    for (topic++; topic->name != NULL && topic->follows; topic++)
        if (snapshot_topic_is_wanted(topic, b->settings))
            return true;
    return false;
}

static int say_nothing_readable(struct blocking *b, struct err *err)
{
    char said[128];
    snapshot_answer_describe(&b->answer, said, sizeof said);
    if (b->answer.status == 200)
        return err_set(err, ERR_RETRY, "no X-Nomad-Index in its answers: is it a Nomad?");
    return err_set(err, ERR_RETRY,
                   "it lets none of `topics` be listed (the last answer: %s): check `token`, "
                   "`namespace`, `region`",
                   said);
}

int blocking_survey(struct blocking *b, struct err *err)
{
    bool head_readable = false, readable;
    b->n_tables = 0;
    for (size_t i = 0; snapshot_topics[i].name != NULL && b->n_tables < BLOCKING_TABLES_MAX; i++) {
        const struct snapshot_topic *topic = &snapshot_topics[i];
        bool wanted = snapshot_topic_is_wanted(topic, b->settings);
        readable = false;
        bool ask =
            topic->follows ? wanted && head_readable : wanted || has_wanted_followers(b, topic);
        if (ask && survey_topic(b, i, wanted, &readable, err) != 0)
            return -1;
        if (!topic->follows)
            head_readable = readable;
    }
    if (b->n_tables == 0)
        return say_nothing_readable(b, err);
    return snapshot_namespaces_read(&b->namespaces, &b->http, err);
}

uint64_t blocking_newest(const struct blocking *b)
{
    uint64_t newest = 0;
    for (size_t i = 0; i < b->n_tables; i++)
        if (b->tables[i].seen > newest)
            newest = b->tables[i].seen;
    return newest;
}

bool blocking_is_due(const struct blocking *b)
{
    for (size_t i = 0; i < b->n_tables; i++)
        if (b->tables[i].seen > b->tables[i].listed)
            return true;
    return false;
}

/* ---- listing ---- */

static int take_entry(void *arg, struct str raw, struct err *err)
{
    struct blocking *b = arg;
    const struct snapshot_topic *topic = b->tables[b->table].topic;
    if (snapshot_object_read(&b->entry, topic, raw, err) != 0) {
        b->unreadable++;
        return 0;
    }
    order_listed(&b->order, &(struct order_entry){
                                .table = (uint32_t)(topic - snapshot_topics),
                                .ns = b->entry.event.ns,
                                .key = b->entry.event.key,
                                .filter_keys = b->entry.event.filter_keys,
                                .index = b->entry.modify_index,
                                .full = topic->one == NULL ? raw : STR(""),
                            });
    return 0;
}

static int say_unlisted(struct blocking *b, const struct snapshot_list *list, struct err *err)
{
    const struct blocking_table *table = &b->tables[b->table];
    if (list->refused)
        return err_set(err, ERR_RETRY, "%s: the server answered %s", table->topic->list,
                       list->said);
    return err_set(err, ERR_RETRY, "%s: the listing is older (%llu) than what was seen (%llu)",
                   table->topic->list, (unsigned long long)list->index,
                   (unsigned long long)table->seen);
}

static int list_table(struct blocking *b, struct err *err)
{
    struct blocking_table *table = &b->tables[b->table];
    struct snapshot_list list = {.http = &b->http,
                                 .topic = table->topic,
                                 .namespaces = &b->namespaces,
                                 .take = take_entry,
                                 .arg = b};
    b->unreadable = 0;
    int rc = snapshot_is_service(table->topic) ? snapshot_service_read(&list, &b->unreadable, err)
                                               : snapshot_list_read(&list, err);
    if (rc != 0)
        return -1;
    uint64_t index = list.index > 0 ? list.index : 1;
    if (list.refused || index < table->seen)
        return say_unlisted(b, &list, err);
    if (list.broken || b->unreadable > 0)
        log_warn("poll_topic_incomplete", LOG_STR("source", b->source),
                 LOG_STR("topic", table->topic->name),
                 LOG_STR("listing", list.broken ? "does not end" : "whole"),
                 LOG_INT("entries_not_understood", b->unreadable));
    else
        order_whole(&b->order, (uint32_t)(table->topic - snapshot_topics));
    b->listed[b->table] = index;
    return 0;
}

/* Lists the table if it has changed. */
static int look_at(struct blocking *b, struct err *err)
{
    struct blocking_table *table = &b->tables[b->table];
    uint64_t index = table->seen;
    b->listed[b->table] = 0;
    if (table->seen <= table->listed &&
        blocking_table_ask(&b->http, table->topic, 0, &b->answer, &index, err) != 0)
        return -1;
    if (index < table->seen)
        return err_set(err, ERR_RETRY, "%s: its index went back, from %llu to %llu",
                       table->topic->list, (unsigned long long)table->seen,
                       (unsigned long long)index);
    table->seen = index;
    return table->seen > table->listed ? list_table(b, err) : 0;
}

/* ---- telling ---- */

static int tell(struct blocking *b, const struct found_event *event, struct err *err)
{
    return blocking_line_add(&b->line, b->ingest, event, err) == 0 ? 0 : fail(b, err);
}

/* Is it of a namespace that this token may read? 1.5 lists deployments of all to anybody. */
static int find_namespace(struct blocking *b, struct str ns, bool *found, struct err *err)
{
    *found = snapshot_namespaces_have(&b->namespaces, ns);
    if (*found || b->namespaces_fresh)
        return 0;
    snapshot_namespaces_fini(&b->namespaces);
    b->namespaces_fresh = true;
    if (snapshot_namespaces_read(&b->namespaces, &b->http, err) != 0)
        return -1;
    *found = snapshot_namespaces_have(&b->namespaces, ns);
    return 0;
}

/* Could it pass the source's filter? Ingest decides; this saves reading it in full. */
static bool may_pass(const struct blocking *b, const struct snapshot_topic *topic,
                     const struct order_known *known)
{
    struct event event = {.topic = str_from(topic->name),
                          .key = order_key(known),
                          .ns = order_ns(known),
                          .filter_keys = order_filter_keys(known)};
    return topic->filter_keys[0] != NULL || filter_match(b->filter, &event);
}

static int tell_deleted(struct blocking *b, const struct order_todo *todo,
                        const struct order_known *known, struct err *err)
{
    struct found_event event = {.topic = str_from(snapshot_topics[known->table].name),
                                .type = STR("Deleted"),
                                .key = order_key(known),
                                .ns = order_ns(known),
                                .filter_keys = order_filter_keys(known),
                                .index = order_index(&b->order, todo)};
    buf_clear(&b->deleted);
    blocking_line_deleted(&b->deleted, &event);
    event.data = buf_str(&b->deleted);
    if (tell(b, &event, err) != 0)
        return -1;
    order_told(&b->order, true, STR(""));
    return 0;
}

/* b->object was read from the API. */
static int tell_object(struct blocking *b, const struct order_todo *todo, struct err *err)
{
    b->object.event.index = order_index(&b->order, todo);
    snapshot_object_event_of(&b->object, "Polled");
    if (tell(b, &b->object.event, err) != 0)
        return -1;
    order_told(&b->order, true, b->object.event.filter_keys);
    return 0;
}

/* It is listed, but can't be had. */
static int leave_out(struct blocking *b, const struct snapshot_name *name)
{
    char said[128];
    struct buf key = {0};
    buf_append_str(&key, name->key);
    snapshot_answer_describe(&b->answer, said, sizeof said);
    log_warn("poll_object_not_to_be_had", LOG_STR("source", b->source),
             LOG_STR("topic", name->topic->name), LOG_STR("key", buf_cstr(&key)),
             LOG_STR("server_said", said));
    buf_fini(&key);
    order_told(&b->order, false, STR(""));
    return 0;
}

static int read_and_tell(struct blocking *b, const struct order_todo *todo,
                         const struct order_known *known, struct err *err)
{
    struct snapshot_name name = {&snapshot_topics[known->table], order_ns(known), order_key(known)};
    if (snapshot_one_get(&b->http, &name, &b->answer, err) != 0)
        return -1;
    struct str full = buf_str(&b->answer.body);
    if (b->answer.status == 404 && snapshot_name_is_askable(&name)) {
        order_gone(&b->order);
        return 0;
    }
    if (b->answer.status != 200 || snapshot_object_read(&b->object, name.topic, full, NULL) != 0 ||
        !str_eq(b->object.event.key, name.key))
        return leave_out(b, &name);
    uint64_t index = b->object.modify_index;
    if (index < todo->index)
        return err_set(err, ERR_RETRY, "%s: an object is older than its listing: does it lag?",
                       name.topic->list);
    if (index == todo->index)
        return tell_object(b, todo, err);
    order_newer(&b->order, index, full);
    return 0;
}

static int tell_next(struct blocking *b, const struct order_todo *todo, struct err *err)
{
    const struct order_known *known = order_known_of(&b->order, todo);
    const struct snapshot_topic *topic = &snapshot_topics[known->table];
    bool wanted;
    if (find_namespace(b, order_ns(known), &wanted, err) != 0)
        return -1;
    if (todo->deleted && known->told)
        wanted = true; /* its namespace may be gone with it */
    if (!wanted || !may_pass(b, topic, known)) {
        order_told(&b->order, false, STR(""));
        return 0;
    }
    if (todo->deleted)
        return tell_deleted(b, todo, known, err);
    if (todo->data == NULL)
        return read_and_tell(b, todo, known, err);
    if (snapshot_object_read(&b->object, topic, (struct str){todo->data, todo->len}, err) != 0)
        return -1; /* it was read once before */
    return tell_object(b, todo, err);
}

static int tell_all(struct blocking *b, struct err *err)
{
    const struct order_todo *todo;
    int rc = 0;
    while (rc == 0 && (todo = order_next(&b->order)) != NULL) {
        rc = tell_next(b, todo, err);
        if (rc == 0 && stop_requested(ingest_stop(b->ingest)))
            rc = err_set(err, ERR_RETRY, "stopped");
        if (rc == 0)
            rc = blocking_flush(b, err);
    }
    /* What was told to `order` must reach ingest, whatever happened since. */
    struct err line_err;
    if (!b->failed && blocking_line_send(&b->line, b->ingest, &line_err) != 0) {
        *err = line_err;
        rc = fail(b, &line_err);
    }
    return rc;
}

/* ---- a round ---- */

static void note_listed(struct blocking *b)
{
    for (size_t i = 0; i < b->n_tables; i++) {
        struct blocking_table *table = &b->tables[i];
        uint64_t listed = b->listed[i];
        if (listed == 0)
            continue;
        if (listed > table->seen)
            table->seen = listed;
        table->listed = listed < b->order.limit ? listed : b->order.limit;
    }
}

int blocking_round(struct blocking *b, struct err *err)
{
    int rc = 0;
    b->namespaces_fresh = false;
    order_begin(&b->order, blocking_newest(b));
    for (b->table = 0; b->table < b->n_tables && rc == 0; b->table++)
        rc = look_at(b, err);
    if (rc == 0) {
        order_sort(&b->order);
        rc = tell_all(b, err);
    }
    order_end(&b->order);
    if (rc == 0)
        note_listed(b);
    if (rc == 0 && ingest_flush(b->ingest, err) != 0)
        rc = fail(b, err);
    return rc;
}
