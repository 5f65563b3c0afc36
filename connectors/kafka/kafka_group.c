/* kafka_group.c - the member of a consumer group: one for all pairs of a sink in this process.
 *
 * Its thread makes the control topics, subscribes to them, and from then on only listens to what is
 * assigned and revoked. Assigned partitions are paused, so nothing is ever fetched. Where
 * librdkafka gives up, the member is made anew.
 *
 * Who has the others is not asked of the group: DescribeConsumerGroups, as all of the admin
 * requests that go to a coordinator, aborts the process where the connection to it fails (an
 * assertion in librdkafka 2.0.2 and later, its issue 4605).
 *
 * A static member does not leave a group when its consumer is closed; it does when it unsubscribes
 * first and is given the moment until that request is out (librdkafka 2.0.2,
 * rd_kafka_cgrp_leave_maybe). */
#include "connectors/kafka/kafka_group.h"

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/kafka/kafka_client.h"
#include "connectors/kafka/kafka_name.h"
#include "connectors/kafka/kafka_settings.h"
#include "connectors/kafka/kafka_topics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TURN_MS = 1000,
    GATHER_MS = 200, /* pairs come and go together: one rebalance for all */
    AGAIN_MS = 1000, /* from a failure to the next try */
    AGAIN_FENCED_MS = 5000,
    LEAVE_MS = 900,
    LEAVE_QUIET_MS = 100, /* from the last partition given back to the request that leaves */
    SLICE_MS = 20,
    REACH_MS = 250,
};

struct group {
    struct group *next;
    unsigned refs;
    struct sink_pair who; /* without source and stop */
    const struct kafka_settings *settings;
    char *id;
    struct kafka_seats seats;
    struct stop *stop;
    pthread_t thread;
    pthread_mutex_t lock; /* guards queue: set while the thread may be sleeping on it */
    rd_kafka_queue_t *queue;

    /* The thread's own. */
    struct kafka_client client;
    size_t assigned;
    unsigned subscribed; /* the changes of the seats that the subscription knows */
    bool is_subscribed;
};

struct kafka_member {
    struct group *group;
    struct kafka_seat *seat;
    struct stop *stop; /* the pair's */
};

/* ---- events ---- */

static void take_rebalance(struct group *g, rd_kafka_event_t *event)
{
    rd_kafka_t *rk = g->client.rk;
    rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(event);
    bool assign = rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    bool lost = !assign && rd_kafka_assignment_lost(rk) != 0;
    size_t n = (size_t)list->cnt;
    for (size_t i = 0; i < n; i++) {
        list->elems[i].offset = 0; /* so that nobody asks where to begin */
        if (assign)
            kafka_seats_give(&g->seats, list->elems[i].topic);
        else
            kafka_seats_take_back(&g->seats, list->elems[i].topic);
    }
    rd_kafka_error_t *error =
        assign ? rd_kafka_incremental_assign(rk, list) : rd_kafka_incremental_unassign(rk, list);
    if (error != NULL)
        rd_kafka_error_destroy(error); /* a fatal one, which the loop meets */
    if (assign)
        rd_kafka_pause_partitions(rk, list);
    g->assigned = assign ? g->assigned + n : g->assigned - n;
    if (assign || lost)
        kafka_seats_set_joined(&g->seats, assign);
    if (assign)
        g->client.trouble = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (n > 0)
        log_info(assign ? "kafka_assigned" : (lost ? "kafka_assignment_lost" : "kafka_revoked"),
                 LOG_STR("group", g->id), LOG_INT("sources", n), LOG_INT("now", g->assigned));
}

static void note_trouble(struct group *g, rd_kafka_resp_err_t code, const char *doing,
                         const char *detail)
{
    struct err err;
    enum sink_result r = kafka_client_explain(&g->client, code, doing, detail, &err);
    kafka_seats_trouble(&g->seats, r, &err);
}

static void serve_event(struct group *g, int timeout_ms)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(g->queue, timeout_ms);
    if (event == NULL)
        return;
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
        take_rebalance(g, event);
    else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
        kafka_client_note(&g->client, rd_kafka_event_error(event),
                          rd_kafka_event_error_string(event));
    rd_kafka_event_destroy(event);
}

/* ---- what the thread does by itself ---- */

/* The topics of all seats; *changes is what they were taken at. NULL where they still change. */
static rd_kafka_topic_partition_list_t *gather(struct group *g, unsigned *changes)
{
    struct kafka_seats *seats = &g->seats;
    rd_kafka_topic_partition_list_t *list = NULL;
    pthread_mutex_lock(&seats->lock);
    *changes = seats->changes;
    bool settled = clock_mono_ms() - seats->changed_ms >= GATHER_MS ||
                   (!g->is_subscribed && seats->n >= g->who.n_sources);
    if (seats->n > 0 && settled) {
        list = rd_kafka_topic_partition_list_new((int)seats->n);
        for (const struct kafka_seat *s = seats->first; s != NULL; s = s->next)
            rd_kafka_topic_partition_list_add(list, s->topic, RD_KAFKA_PARTITION_UA);
    }
    pthread_mutex_unlock(&seats->lock);
    return list;
}

static enum sink_result make_topics(struct group *g, const rd_kafka_topic_partition_list_t *list,
                                    struct err *err)
{
    const struct kafka_topic_spec spec = {.partitions = 1,
                                          .replication = (int)g->settings->replication};
    struct kafka_topics topics = {0};
    for (int i = 0; i < list->cnt; i++)
        kafka_topics_find(&topics, str_from(list->elems[i].topic));
    enum sink_result r = kafka_topics_make(&topics, &g->client, &spec, err);
    kafka_topics_fini(&topics);
    return r;
}

/* Subscribes to what there are seats for, once that has settled and a broker is there. */
static enum sink_result subscribe(struct group *g, struct err *err)
{
    unsigned changes;
    if (rd_kafka_controllerid(g->client.rk, REACH_MS) < 0)
        return SINK_DONE; /* why not is told by heed_trouble */
    rd_kafka_topic_partition_list_t *list = gather(g, &changes);
    if (list == NULL)
        return SINK_DONE;
    enum sink_result r = make_topics(g, list, err);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (r == SINK_DONE)
        code = rd_kafka_subscribe(g->client.rk, list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        r = kafka_client_explain(&g->client, code, "join the group", NULL, err);
    rd_kafka_topic_partition_list_destroy(list);
    if (r == SINK_DONE) {
        g->subscribed = changes;
        g->is_subscribed = true;
    }
    return r;
}

static bool is_pending(struct group *g)
{
    pthread_mutex_lock(&g->seats.lock);
    bool pending = !g->is_subscribed || g->seats.changes != g->subscribed;
    pthread_mutex_unlock(&g->seats.lock);
    return pending;
}

/* What librdkafka has complained of since it last went well. */
static void heed_trouble(struct group *g)
{
    rd_kafka_resp_err_t code = g->client.trouble;
    if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) { /* deleted: make it again */
        g->client.trouble = RD_KAFKA_RESP_ERR_NO_ERROR;
        g->is_subscribed = false;
    } else if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        pthread_mutex_lock(&g->seats.lock);
        bool joined = g->seats.joined;
        pthread_mutex_unlock(&g->seats.lock);
        if (!joined) /* else the session goes on over the next connection */
            note_trouble(g, code, "join the group", g->client.trouble_text);
    }
}

static void serve(struct group *g, struct err *err)
{
    enum sink_result r = SINK_DONE;
    while (!stop_requested(g->stop) &&
           rd_kafka_fatal_error(g->client.rk, NULL, 0) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        bool pending = is_pending(g);
        if (pending && (r = subscribe(g, err)) != SINK_DONE)
            break;
        serve_event(g, pending ? SLICE_MS : TURN_MS);
        kafka_seats_alive(&g->seats);
        heed_trouble(g);
    }
    if (r != SINK_DONE)
        kafka_seats_trouble(&g->seats, r, err);
}

/* ---- the thread ---- */

static int start_client(struct group *g, struct err *err)
{
    rd_kafka_conf_t *conf =
        kafka_settings_member(g->settings, g->settings->brokers, g->id, g->who.instance);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_REBALANCE);
    if (kafka_client_open(&g->client, RD_KAFKA_CONSUMER, conf, NULL, err) != 0)
        return -1;
    rd_kafka_poll_set_consumer(g->client.rk);
    pthread_mutex_lock(&g->lock);
    g->queue = rd_kafka_queue_get_consumer(g->client.rk);
    pthread_mutex_unlock(&g->lock);
    g->assigned = 0;
    g->is_subscribed = false;
    return 0;
}

/* Returns how long it took, in ms; a pause (a machine that stands still) counts as one slice. */
static int serve_slice(struct group *g)
{
    int64_t start = clock_mono_ms();
    serve_event(g, SLICE_MS);
    int64_t took = clock_mono_ms() - start;
    return took < 1 ? 1 : (took > SLICE_MS ? SLICE_MS : (int)took);
}

static void leave(struct group *g)
{
    int had = 0, changed = 0; /* ms */
    rd_kafka_unsubscribe(g->client.rk);
    while (had < LEAVE_MS && (g->assigned > 0 || had - changed < LEAVE_QUIET_MS)) {
        size_t before = g->assigned;
        had += serve_slice(g);
        changed = g->assigned != before ? had : changed;
    }
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(g->client.rk, g->queue);
    if (error != NULL)
        rd_kafka_error_destroy(error);
    while (rd_kafka_consumer_closed(g->client.rk) == 0 && had < LEAVE_MS)
        had += serve_slice(g);
}

static void stop_client(struct group *g)
{
    kafka_seats_set_joined(&g->seats, false);
    pthread_mutex_lock(&g->lock);
    rd_kafka_queue_destroy(g->queue);
    g->queue = NULL;
    pthread_mutex_unlock(&g->lock);
    kafka_client_close(&g->client);
}

/* Ends the membership; returns how long to wait before the next one. Only another process with this
 * instance's id brings a member to a fatal error. */
static int end_membership(struct group *g)
{
    char text[256];
    rd_kafka_resp_err_t code = rd_kafka_fatal_error(g->client.rk, text, sizeof text);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        note_trouble(g, code, "stay in the group", text);
    else if (g->is_subscribed)
        leave(g);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? AGAIN_MS : AGAIN_FENCED_MS;
}

static void *run(void *arg)
{
    struct group *g = arg;
    while (!stop_requested(g->stop)) {
        struct err err = {ERR_RETRY, ""};
        int wait_ms = AGAIN_MS;
        if (start_client(g, &err) == 0) {
            serve(g, &err);
            wait_ms = end_membership(g);
            stop_client(g);
        } else {
            kafka_seats_trouble(&g->seats, SINK_FATAL, &err);
        }
        stop_wait(g->stop, wait_ms);
    }
    return NULL;
}

/* ---- the groups of this process ---- */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct group *registry;

static char *make_name(const char *first, const struct sink_pair *who, const char *last)
{
    struct buf b = {0};
    buf_printf(&b, "%s%s.%s%s%s", first, who->bridge, who->sink, *last != '\0' ? "." : "", last);
    kafka_name_mend(&b);
    char *name = mem_strdup(buf_cstr(&b));
    buf_fini(&b);
    return name;
}

static struct group *group_new(const struct sink_pair *who)
{
    struct group *g = mem_zalloc(sizeof *g);
    g->who = *who;
    g->settings = who->settings;
    g->id = make_name("", who, "");
    g->stop = stop_new();
    g->client.brokers = g->settings->brokers;
    g->client.stop = g->stop;
    kafka_seats_init(&g->seats);
    pthread_mutex_init(&g->lock, NULL);
    g->next = registry;
    registry = g;
    return g;
}

static void group_free(struct group *g)
{
    kafka_seats_fini(&g->seats);
    pthread_mutex_destroy(&g->lock);
    stop_free(&g->stop);
    free(g->id);
    free(g);
}

static bool is_of(const struct group *g, const struct sink_pair *who)
{
    return strcmp(g->who.bridge, who->bridge) == 0 && strcmp(g->who.sink, who->sink) == 0 &&
           strcmp(g->who.instance, who->instance) == 0;
}

struct kafka_member *kafka_group_join(const struct sink_pair *who)
{
    const struct kafka_settings *settings = who->settings;
    struct kafka_member *member = mem_zalloc(sizeof *member);
    struct buf first = {0};
    buf_printf(&first, "%s.", settings->control_topic);
    char *topic = make_name(buf_cstr(&first), who, who->source);
    pthread_mutex_lock(&registry_lock);
    struct group *g = registry;
    while (g != NULL && !is_of(g, who))
        g = g->next;
    bool is_new = g == NULL;
    if (is_new)
        g = group_new(who);
    g->refs++;
    *member = (struct kafka_member){g, kafka_seats_add(&g->seats, topic), who->stop};
    if (is_new)
        pthread_create(&g->thread, NULL, run, g);
    pthread_mutex_unlock(&registry_lock);
    free(topic);
    buf_fini(&first);
    return member;
}

static void wake(struct group *g)
{
    pthread_mutex_lock(&g->lock);
    if (g->queue != NULL)
        rd_kafka_queue_yield(g->queue);
    pthread_mutex_unlock(&g->lock);
}

static void take_from_registry(struct group *g)
{
    struct group **at = &registry;
    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
}

void kafka_group_leave(struct kafka_member **member)
{
    if (*member == NULL)
        return;
    struct group *g = (*member)->group;
    pthread_mutex_lock(&registry_lock);
    bool last = --g->refs == 0;
    if (last)
        take_from_registry(g);
    else
        kafka_seats_remove(&g->seats, (*member)->seat);
    pthread_mutex_unlock(&registry_lock);
    if (last)
        stop_request(g->stop);
    wake(g);
    if (last) {
        pthread_join(g->thread, NULL);
        group_free(g);
    }
    free(*member);
    *member = NULL;
}

void kafka_group_ask(struct kafka_member *member, int patience_ms, struct kafka_seat_view *view)
{
    kafka_seats_ask(&member->group->seats, member->seat, patience_ms, member->stop, view);
}
