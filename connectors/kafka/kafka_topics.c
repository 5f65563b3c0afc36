/* kafka_topics.c - the topics a producer writes to: found by name, made where they are missing.
 *
 * Creation is asked for at once, without a look first: "exists already" is as cheap an answer as
 * any. And before a look: making a handle asks for metadata, at which a broker that creates topics
 * by itself would do so with its own settings. */
#include "connectors/kafka/kafka_topics.h"

#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "connectors/kafka/kafka_embedded.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CREATE_AT_ONCE = 100,
    CREATE_TIMEOUT_MS = 8000,
    LEADER_TIMEOUT_MS = 8000,
    SLICE_MS = 200,
    LEADER_POLL_MS = 20,
    TIGHT_START = 512 * 1024, /* message sets have up to 1,000,000 bytes (batch.size) */
    TIGHT_LEAST = 100,        /* smaller than any event: one at a time */
};

struct kafka_topic {
    char *name;
    rd_kafka_topic_t *handle;
    bool doubtful;
    rd_kafka_resp_err_t denied; /* why it may not be made */
    size_t tight_max;           /* bytes under way at once; 0: no limit */
    size_t under_way;           /* kept where there is a limit */
};

void kafka_topics_fini(struct kafka_topics *topics)
{
    for (size_t i = 0; i < topics->n; i++) {
        if (topics->items[i].handle != NULL)
            rd_kafka_topic_destroy(topics->items[i].handle);
        free(topics->items[i].name);
    }
    free(topics->items);
    map_fini(&topics->places);
    *topics = (struct kafka_topics){0};
}

void kafka_topics_restart(struct kafka_topics *topics)
{
    struct kafka_topics kept = {0};
    for (size_t i = 0; i < topics->n; i++) {
        const struct kafka_topic *t = &topics->items[i];
        if (t->tight_max == 0)
            continue;
        int place = kafka_topics_find(&kept, str_from(t->name));
        kept.items[place].tight_max = t->tight_max;
        kept.n_tight++;
    }
    kafka_topics_fini(topics);
    *topics = kept;
}

static int add(struct kafka_topics *topics, struct str name)
{
    if (topics->n == KAFKA_TOPICS_MAX)
        return -1;
    if (topics->n == topics->cap) {
        topics->cap = topics->cap > 0 ? topics->cap * 2 : 16;
        topics->items = mem_realloc(topics->items, topics->cap * sizeof *topics->items);
    }
    struct kafka_topic *t = &topics->items[topics->n];
    *t = (struct kafka_topic){.name = mem_strndup(name.p, name.len), .doubtful = true};
    topics->n_doubtful++;
    return (int)topics->n++;
}

int kafka_topics_find(struct kafka_topics *topics, struct str name)
{
    for (uint64_t hash = hash64(HASH64_START, name.p, name.len);; hash++) {
        uint32_t *place = map_at(&topics->places, hash);
        if (*place == 0) {
            int added = add(topics, name);
            if (added < 0)
                map_remove(&topics->places, hash);
            else
                *place = (uint32_t)added + 1;
            return added;
        }
        if (str_is(name, topics->items[*place - 1].name))
            return (int)*place - 1;
    }
}

rd_kafka_topic_t *kafka_topics_handle(const struct kafka_topics *topics, int place)
{
    return topics->items[place].handle;
}

void kafka_topics_doubt(struct kafka_topics *topics, int place)
{
    if (!topics->items[place].doubtful)
        topics->n_doubtful++;
    topics->items[place].doubtful = true;
}

bool kafka_topics_tighten(struct kafka_topics *topics, int place)
{
    struct kafka_topic *t = &topics->items[place];
    if (t->tight_max > 0 && t->tight_max < TIGHT_LEAST)
        return false;
    topics->n_tight += t->tight_max == 0;
    t->tight_max = t->tight_max == 0 ? TIGHT_START : t->tight_max / 4;
    return true;
}

bool kafka_topics_is_full(struct kafka_topics *topics, int place, size_t bytes)
{
    struct kafka_topic *t = &topics->items[place];
    if (t->tight_max == 0)
        return false;
    bool full = t->under_way > 0 && t->under_way + bytes > t->tight_max;
    t->under_way += bytes;
    return full;
}

void kafka_topics_drained(struct kafka_topics *topics)
{
    for (size_t i = 0; topics->n_tight > 0 && i < topics->n; i++)
        topics->items[i].under_way = 0;
}

/* ---- making ---- */

static rd_kafka_NewTopic_t *new_topic(const char *name, const struct kafka_topic_spec *spec)
{
    char errstr[128];
    rd_kafka_NewTopic_t *t =
        rd_kafka_NewTopic_new(name, spec->partitions, spec->replication, errstr, sizeof errstr);
    assert(t != NULL); /* the settings were checked */
    for (size_t i = 0; i < spec->config.n; i++)
        rd_kafka_NewTopic_set_config(t, spec->config.pairs[i].key, spec->config.pairs[i].value);
    return t;
}

/* The event that answers an admin request; NULL when stopping, or where none comes. */
static rd_kafka_event_t *wait_for_event(struct kafka_client *client, rd_kafka_queue_t *queue)
{
    int64_t end = clock_mono_ms() + CREATE_TIMEOUT_MS + SLICE_MS;
    while (!stop_requested(client->stop) && clock_mono_ms() < end) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, SLICE_MS);
        kafka_client_poll(client, 0);
        if (event != NULL)
            return event;
    }
    return NULL;
}

static rd_kafka_event_t *ask_to_create(struct kafka_client *client, rd_kafka_NewTopic_t **wanted,
                                       size_t n)
{
    char errstr[128];
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(client->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_request_timeout(options, CREATE_TIMEOUT_MS, errstr, sizeof errstr);
    rd_kafka_AdminOptions_set_operation_timeout(options, CREATE_TIMEOUT_MS / 2, errstr,
                                                sizeof errstr);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client->rk);
    rd_kafka_CreateTopics(client->rk, wanted, n, options, queue);
    rd_kafka_event_t *event = wait_for_event(client, queue);
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    return event;
}

static enum sink_result take_result(struct kafka_topics *topics, struct kafka_client *client,
                                    const rd_kafka_topic_result_t *result, struct err *err)
{
    const char *name = rd_kafka_topic_result_name(result);
    rd_kafka_resp_err_t code = rd_kafka_topic_result_error(result);
    switch ((int)code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        log_info("kafka_topic_created", LOG_STR("topic", name));
        return SINK_DONE;
    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS:
        return SINK_DONE;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        topics->items[kafka_topics_find(topics, str_from(name))].denied =
            code; /* it may exist all the same */
        return SINK_DONE;
    default:
        break;
    }
    char doing[320];
    snprintf(doing, sizeof doing, "create topic %s", name);
    return kafka_client_explain(client, code, doing, rd_kafka_topic_result_error_string(result),
                                err);
}

static enum sink_result take_results(struct kafka_topics *topics, struct kafka_client *client,
                                     rd_kafka_event_t *event, struct err *err)
{
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return kafka_client_explain(client, code, "create topics",
                                    rd_kafka_event_error_string(event), err);
    size_t n;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
    enum sink_result r = SINK_DONE;
    for (size_t i = 0; i < n && r == SINK_DONE; i++)
        r = take_result(topics, client, results[i], err);
    return r;
}

static enum sink_result create(struct kafka_topics *topics, struct kafka_client *client,
                               rd_kafka_NewTopic_t **wanted, size_t n, struct err *err)
{
    rd_kafka_event_t *event = ask_to_create(client, wanted, n);
    rd_kafka_NewTopic_destroy_array(wanted, n);
    if (event == NULL)
        return kafka_client_explain(client, RD_KAFKA_RESP_ERR__TIMED_OUT, "create topics", NULL,
                                    err);
    enum sink_result r = take_results(topics, client, event, err);
    rd_kafka_event_destroy(event);
    return r;
}

static enum sink_result create_doubtful(struct kafka_topics *topics, struct kafka_client *client,
                                        const struct kafka_topic_spec *spec, struct err *err)
{
    rd_kafka_NewTopic_t *wanted[CREATE_AT_ONCE];
    size_t n = 0;
    for (size_t i = 0; i < topics->n; i++) {
        if (!topics->items[i].doubtful)
            continue;
        if (n == CREATE_AT_ONCE) {
            enum sink_result r = create(topics, client, wanted, n, err);
            if (r != SINK_DONE)
                return r;
            n = 0;
        }
        topics->items[i].denied = RD_KAFKA_RESP_ERR_NO_ERROR;
        wanted[n++] = new_topic(topics->items[i].name, spec);
    }
    return n > 0 ? create(topics, client, wanted, n, err) : SINK_DONE;
}

/* ---- waiting for leaders ---- */

static rd_kafka_resp_err_t topic_state(const struct rd_kafka_metadata *md)
{
    if (md->topic_cnt != 1)
        return RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    const struct rd_kafka_metadata_topic *t = &md->topics[0];
    if (t->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return t->err;
    for (int i = 0; i < t->partition_cnt; i++)
        if (t->partitions[i].leader < 0)
            return RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    return t->partition_cnt > 0 ? RD_KAFKA_RESP_ERR_NO_ERROR
                                : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
}

static rd_kafka_resp_err_t ask_state(struct kafka_client *client, rd_kafka_topic_t *handle)
{
    const struct rd_kafka_metadata *md;
    rd_kafka_resp_err_t code = rd_kafka_metadata(client->rk, 0, handle, &md, SLICE_MS * 5);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return code;
    code = topic_state(md);
    rd_kafka_metadata_destroy(md);
    return code;
}

static enum sink_result wait_for_leaders(struct kafka_topic *topic, struct kafka_client *client,
                                         int64_t end, struct err *err)
{
    if (topic->handle == NULL)
        topic->handle = rd_kafka_topic_new(client->rk, topic->name, NULL);
    assert(topic->handle != NULL); /* the name is valid, there is no conf to refuse */
    rd_kafka_resp_err_t code = ask_state(client, topic->handle);
    bool missing = code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    while (code != RD_KAFKA_RESP_ERR_NO_ERROR && !(missing && topic->denied) &&
           clock_mono_ms() < end && !stop_wait(client->stop, LEADER_POLL_MS))
        code = ask_state(client, topic->handle);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return SINK_DONE;
    char doing[320];
    snprintf(doing, sizeof doing, "topic %s", topic->name);
    return kafka_client_explain(client, missing && topic->denied ? topic->denied : code, doing,
                                NULL, err);
}

enum sink_result kafka_topics_make(struct kafka_topics *topics, struct kafka_client *client,
                                   const struct kafka_topic_spec *spec, struct err *err)
{
    if (topics->n_doubtful == 0)
        return SINK_DONE;
    for (size_t i = 0; spec->embedded && i < topics->n; i++)
        if (topics->items[i].doubtful)
            kafka_embedded_create_topic(topics->items[i].name, spec->partitions);
    enum sink_result r = spec->embedded ? SINK_DONE : create_doubtful(topics, client, spec, err);
    int64_t end = clock_mono_ms() + LEADER_TIMEOUT_MS;
    for (size_t i = 0; i < topics->n && r == SINK_DONE; i++) {
        if (!topics->items[i].doubtful)
            continue;
        r = wait_for_leaders(&topics->items[i], client, end, err);
        if (r != SINK_DONE)
            break;
        topics->items[i].doubtful = false;
        topics->n_doubtful--;
    }
    return r;
}
