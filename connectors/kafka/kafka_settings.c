/* kafka_settings.c - rows, their checks, and the way from them to librdkafka's configuration.
 *
 * Properties go through three layers: defaults that an operator may override, the operator's own,
 * and those that the promises hang on, which nobody may override: the check refuses them by name.
 * What else librdkafka would refuse is found by building a producer that has no brokers. */
#include "connectors/kafka/kafka_settings.h"

#include "bridge/base/buf.h"
#include "bridge/route.h"
#include "connectors/kafka/kafka_name.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct property {
    const char *name;
    const char *value;
};

/* Fewer, larger requests: a batch is flushed by its commit, so lingering costs no time. */
static const struct property defaults[] = {
    {"client.id", "busbar"},
    {"log.connection.close", "false"},
    {"socket.nagle.disable", "true"},
    {"socket.keepalive.enable", "true"},
    {"socket.connection.setup.timeout.ms", "5000"},
    {"reconnect.backoff.ms", "50"},
    {"reconnect.backoff.max.ms", "1000"},
    {"topic.metadata.refresh.fast.interval.ms", "50"},
    {"topic.metadata.propagation.max.ms", "5000"},
};

static const struct property producer_defaults[] = {
    {"compression.type", "lz4"},      {"message.max.bytes", "67108864"},
    {"batch.num.messages", "100000"}, {"linger.ms", "500"},
    {"retry.backoff.ms", "50"},       {"transaction.timeout.ms", "10000"},
};

/* One request under way at a time. With more, the first one for a partition that the broker knows
 * no state of (new, or a day idle) may fail while the second is taken with its sequence number 1;
 * the first, tried again, then counts as a duplicate: lost, and the commit says nothing. Seen with
 * librdkafka 2.0.2 and Kafka 4.4 on topics just made. */
static const struct property producer_owned[] = {
    {"max.in.flight.requests.per.connection", "1"},
    {"enable.idempotence", "true"},
    {"acks", "all"},
    {"partitioner", "murmur2_random"},
    {"delivery.report.only.error", "true"},
    {"queue.buffering.max.messages", "0"},
    {"queue.buffering.max.kbytes", "2097151"},
};

/* Answers at once. A reader that has prefetched as much as it may looks only once a second whether
 * it may have more: so it may have all that a read can need. */
static const struct property reader_owned[] = {
    {"enable.partition.eof", "true"},        {"fetch.wait.max.ms", "20"},
    {"fetch.error.backoff.ms", "50"},        {"queued.min.messages", "10000000"},
    {"queued.max.messages.kbytes", "65536"}, {"auto.offset.reset", "earliest"},
};

/* The least that a broker takes unless told otherwise (group.min.session.timeout.ms): an instance
 * that died is missed after this. */
static const struct property member_defaults[] = {
    {"session.timeout.ms", "6000"},
    {"heartbeat.interval.ms", "500"},
};

static const struct property member_owned[] = {
    {"partition.assignment.strategy", "cooperative-sticky"},
    {"enable.auto.commit", "false"},
    {"enable.auto.offset.store", "false"},
};

struct refused {
    const char *name;
    const char *why;
};

static const struct refused refused[] = {
    {"bootstrap.servers", "say it by brokers:"},
    {"metadata.broker.list", "say it by brokers:"},
    {"transactional.id", "it is made of the names of bridge, source and sink"},
    {"enable.idempotence", "exactly once needs it"},
    {"enable.gapless.guarantee", "transactions are the guarantee"},
    {"max.in.flight", "one at a time: more may lose the first of a new partition"},
    {"max.in.flight.requests.per.connection",
     "one at a time: more may lose the first of a new partition"},
    {"acks", "it is always all: nothing is lost"},
    {"request.required.acks", "it is always all: nothing is lost"},
    {"isolation.level", "checkpoints are read as they need it"},
    {"partitioner", "it is always murmur2_random, as in the Java clients"},
    {"delivery.report.only.error", "the sink counts on it"},
    {"queue.buffering.max.messages", "say it by commit_events:"},
    {"queue.buffering.max.kbytes", "say it by commit_events:"},
    {"queuing.strategy", "events keep their order"},
    {"enable.partition.eof", "checkpoints are read as they need it"},
    {"auto.offset.reset", "checkpoints are read as they need it"},
    {"group.id", "it is made of the names of bridge and sink"},
    {"group.instance.id", "it is the instance's id"},
    {"partition.assignment.strategy", "it is always cooperative-sticky"},
    {"log.queue", "the sink reads the log itself"},
    {"test.mock.num.brokers", "say brokers: embedded"},
};

/* ---- the rows ---- */

static const char *check_brokers(const char *value)
{
    static const char expected[] = "HOST:PORT,HOST:PORT… or embedded";
    if (strcmp(value, "embedded") == 0)
        return NULL;
    char one[512];
    for (;;) {
        size_t len = strcspn(value, ",");
        if (len == 0 || len >= sizeof one)
            return expected;
        memcpy(one, value, len);
        one[len] = '\0';
        if (check_host_port(one) != NULL)
            return expected;
        if (value[len] == '\0')
            return NULL;
        value += len + 1;
    }
}

static const char *check_topic_name(const char *value)
{
    return kafka_name_is_valid(str_from(value))
               ? NULL
               : "a topic name: 1 to 249 of a-z A-Z 0-9 . _ - (not . or ..)";
}

static const char *const headers_kinds[] = {"cloudevents", "id", "none", NULL};

const struct setting kafka_settings_rows[] = {
    {.name = "brokers",
     .type = SETTING_STRING,
     .offset = offsetof(struct kafka_settings, brokers),
     .required = true,
     .check = check_brokers,
     .help = "HOST:PORT,HOST:PORT…, or embedded: a cluster inside this process, for a demo only"},
    {.name = "topic",
     .type = SETTING_STRING,
     .offset = offsetof(struct kafka_settings, topic),
     .fallback = "%{source}.%{topic}",
     .help = "template of the topic's name; what Kafka forbids in one becomes _"},
    {.name = "key",
     .type = SETTING_STRING,
     .offset = offsetof(struct kafka_settings, key),
     .fallback = "%{key}",
     .help = "template of the record's key; an empty one is null"},
    {.name = "headers",
     .type = SETTING_CHOICE,
     .offset = offsetof(struct kafka_settings, headers),
     .fallback = "cloudevents",
     .choices = headers_kinds,
     .help = "cloudevents: all ten; id: ce_id alone; none: a record is key and value, which costs "
             "least"},
    {.name = "properties",
     .type = SETTING_MAP,
     .offset = offsetof(struct kafka_settings, properties),
     .help = "librdkafka's own properties: security.protocol, sasl.*, ssl.*, compression.type "
             "(lz4), …"},
    {.name = "partitions",
     .type = SETTING_INT,
     .offset = offsetof(struct kafka_settings, partitions),
     .fallback = "6",
     .min = 1,
     .max = 10000,
     .help = "of topics that busbar creates"},
    {.name = "replication",
     .type = SETTING_INT,
     .offset = offsetof(struct kafka_settings, replication),
     .fallback = "-1",
     .min = -1,
     .max = 100,
     .help = "of topics that busbar creates; -1: the broker's default"},
    {.name = "topic_config",
     .type = SETTING_MAP,
     .offset = offsetof(struct kafka_settings, topic_config),
     .help = "settings of topics that busbar creates: retention.ms, max.message.bytes, …"},
    {.name = "buckets",
     .type = SETTING_INT,
     .offset = offsetof(struct kafka_settings, buckets),
     .fallback = "16",
     .min = 1,
     .max = 1000000,
     .help = "for %{bucket}: hash of the key modulo this"},
    {.name = "commit_interval",
     .type = SETTING_DURATION,
     .offset = offsetof(struct kafka_settings, commit_interval_ms),
     .fallback = "100ms",
     .min = 0,
     .max = 5000,
     .help = "time from one transaction to the next"},
    {.name = "commit_events",
     .type = SETTING_INT,
     .offset = offsetof(struct kafka_settings, commit_events),
     .fallback = "10000",
     .min = 1,
     .max = 100000,
     .help = "events of one transaction at most"},
    {.name = "checkpoint_topic",
     .type = SETTING_STRING,
     .offset = offsetof(struct kafka_settings, checkpoint_topic),
     .fallback = "busbar.checkpoints",
     .check = check_topic_name,
     .help = "compacted topic of all checkpoints"},
    {.name = "control_topic",
     .type = SETTING_STRING,
     .offset = offsetof(struct kafka_settings, control_topic),
     .fallback = "busbar.control",
     .check = check_topic_name,
     .help =
         "with standby: an empty topic of this name and .BRIDGE.SINK.SOURCE for each source, by "
         "which the instances share them out"},
    {.name = NULL},
};

bool kafka_settings_is_embedded(const struct kafka_settings *settings)
{
    return strcmp(settings->brokers, "embedded") == 0;
}

/* ---- librdkafka's configuration ---- */

static void set_all(rd_kafka_conf_t *conf, const struct property *properties, size_t n)
{
    for (size_t i = 0; i < n; i++)
        rd_kafka_conf_set(conf, properties[i].name, properties[i].value, NULL, 0);
}

#define SET_ALL(conf, table) set_all(conf, table, sizeof(table) / sizeof *(table))

static void set_given(rd_kafka_conf_t *conf, const struct setting_map *properties)
{
    for (size_t i = 0; i < properties->n; i++)
        rd_kafka_conf_set(conf, properties->pairs[i].key, properties->pairs[i].value, NULL, 0);
}

static void set_bootstrap(rd_kafka_conf_t *conf, const char *bootstrap)
{
    if (bootstrap != NULL)
        rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, NULL, 0);
}

rd_kafka_conf_t *kafka_settings_producer(const struct kafka_settings *settings,
                                         const char *bootstrap, const char *transactional_id)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    SET_ALL(conf, defaults);
    SET_ALL(conf, producer_defaults);
    set_given(conf, &settings->properties);
    SET_ALL(conf, producer_owned);
    rd_kafka_conf_set(conf, "transactional.id", transactional_id, NULL, 0);
    set_bootstrap(conf, bootstrap);
    return conf;
}

rd_kafka_conf_t *kafka_settings_reader(const struct kafka_settings *settings, const char *bootstrap,
                                       const char *isolation)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    SET_ALL(conf, defaults);
    set_given(conf, &settings->properties);
    SET_ALL(conf, reader_owned);
    rd_kafka_conf_set(conf, "isolation.level", isolation, NULL, 0);
    set_bootstrap(conf, bootstrap);
    return conf;
}

rd_kafka_conf_t *kafka_settings_member(const struct kafka_settings *settings, const char *bootstrap,
                                       const char *group, const char *instance)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    SET_ALL(conf, defaults);
    SET_ALL(conf, member_defaults);
    set_given(conf, &settings->properties);
    SET_ALL(conf, member_owned);
    rd_kafka_conf_set(conf, "group.id", group, NULL, 0);
    rd_kafka_conf_set(conf, "group.instance.id", instance, NULL, 0);
    set_bootstrap(conf, bootstrap);
    return conf;
}

/* ---- checks ---- */

static const char *why_refused(const char *name)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strcmp(refused[i].name, name) == 0)
            return refused[i].why;
    return NULL;
}

/* True where all of them can be set. */
static bool check_properties(struct settings *file, const struct settings_node *node,
                             const struct setting_map *properties)
{
    const struct settings_node *section = settings_get(node, "properties");
    rd_kafka_conf_t *scratch = rd_kafka_conf_new();
    bool fine = true;
    for (size_t i = 0; i < properties->n; i++) {
        const struct setting_pair *pair = &properties->pairs[i];
        const struct settings_node *at = settings_get(section, pair->key);
        const char *why = why_refused(pair->key);
        char errstr[256];
        if (why != NULL)
            settings_problem(file, at, "property \"%s\": expected none of this name: %s", pair->key,
                             why);
        else if (rd_kafka_conf_set(scratch, pair->key, pair->value, errstr, sizeof errstr) !=
                 RD_KAFKA_CONF_OK)
            settings_problem(file, at, "property \"%s\": %s: expected one that librdkafka %s takes",
                             pair->key, errstr, rd_kafka_version_str());
        else
            continue;
        fine = false;
    }
    rd_kafka_conf_destroy(scratch);
    return fine;
}

/* librdkafka would fetch a token as soon as it is made: a check connects to nothing. */
static bool needs_token(rd_kafka_conf_t *conf)
{
    char mechanism[64] = "";
    size_t size = sizeof mechanism;
    return rd_kafka_conf_get(conf, "sasl.mechanisms", mechanism, &size) == RD_KAFKA_CONF_OK &&
           strcmp(mechanism, "OAUTHBEARER") == 0;
}

static void keep_quiet(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    (void)level;
    (void)facility;
    (void)text;
}

/* What only shows when they meet: certificates that can't be read, limits that contradict. */
static void check_together(struct settings *file, const struct settings_node *node,
                           rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    if (needs_token(conf)) {
        rd_kafka_conf_destroy(conf);
        return;
    }
    rd_kafka_conf_set_log_cb(conf, keep_quiet);
    char errstr[256];
    rd_kafka_t *rk = rd_kafka_new(type, conf, errstr, sizeof errstr);
    if (rk == NULL) {
        rd_kafka_conf_destroy(conf);
        settings_problem(file, settings_get(node, "properties"),
                         "properties: %s: expected what librdkafka %s takes together", errstr,
                         rd_kafka_version_str());
        return;
    }
    rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

static bool is_standby(const struct settings *file)
{
    const char *text = settings_text(settings_get(settings_root(file), "standby"));
    return text != NULL && strcmp(text, "true") == 0;
}

static void check_standby(struct settings *file, const struct settings_node *node,
                          const struct kafka_settings *settings)
{
    if (settings->brokers != NULL && kafka_settings_is_embedded(settings))
        settings_problem(file, settings_get(node, "brokers"),
                         "brokers \"embedded\" with standby: true: expected HOST:PORT,…: no other "
                         "instance could reach a cluster inside this process");
}

static void check_template(struct settings *file, const struct settings_node *node,
                           const char *name, const char *text)
{
    struct template *tpl = NULL;
    struct err err;
    if (text != NULL && template_new(&tpl, text, 1, &err) != 0)
        settings_problem(file, settings_get(node, name), "%s: %s", name, err.msg);
    template_free(&tpl);
}

void kafka_settings_check(struct settings *file, const struct settings_node *node,
                          const void *settings)
{
    const struct kafka_settings *s = settings;
    check_template(file, node, "topic", s->topic);
    check_template(file, node, "key", s->key);
    if (s->topic != NULL && s->topic[0] == '\0')
        settings_problem(file, settings_get(node, "topic"), "topic is empty: expected a template");
    if (s->topic != NULL && s->checkpoint_topic != NULL &&
        strcmp(s->topic, s->checkpoint_topic) == 0)
        settings_problem(file, settings_get(node, "topic"),
                         "topic \"%s\" is the checkpoint topic: expected another one", s->topic);
    bool standby = is_standby(file);
    if (standby)
        check_standby(file, node, s);
    if (!check_properties(file, node, &s->properties))
        return;
    check_together(file, node, RD_KAFKA_PRODUCER, kafka_settings_producer(s, NULL, "check"));
    if (standby)
        check_together(file, node, RD_KAFKA_CONSUMER,
                       kafka_settings_member(s, NULL, "check", "check"));
}
