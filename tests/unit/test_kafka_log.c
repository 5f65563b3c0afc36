/* test_kafka_log.c - asking for the end of the checkpoint topic while its leader is away:
 * librdkafka's mock cluster, of two brokers. */
#include "connectors/kafka/kafka_log.h"
#include "tests/unit/check.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <unistd.h>

enum { LEADER = 2, OTHER = 1, HANGS_S = 120 };

struct rig {
    rd_kafka_t *host;
    rd_kafka_mock_cluster_t *cluster;
    struct stop *stop;
    struct kafka_client client;
    struct err err;
};

static rd_kafka_conf_t *conf_for(const char *brokers)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, NULL, 0);
    rd_kafka_conf_set(conf, "reconnect.backoff.ms", "50", NULL, 0);
    rd_kafka_conf_set(conf, "reconnect.backoff.max.ms", "100", NULL, 0);
    return conf;
}

static void rig_start(struct rig *rig)
{
    *rig = (struct rig){.stop = stop_new()};
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rig->host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, NULL, 0);
    assert_non_null(rig->host);
    rig->cluster = rd_kafka_mock_cluster_new(rig->host, 2);
    assert_non_null(rig->cluster);
    rd_kafka_mock_topic_create(rig->cluster, "log", 1, 2);
    rd_kafka_mock_partition_set_leader(rig->cluster, "log", 0, LEADER);
    rig->client.brokers = rd_kafka_mock_cluster_bootstraps(rig->cluster);
    rig->client.stop = rig->stop;
    assert_int_equal(kafka_client_open(&rig->client, RD_KAFKA_CONSUMER,
                                       conf_for(rig->client.brokers), NULL, &rig->err),
                     0);
}

static void rig_stop(struct rig *rig)
{
    kafka_client_close(&rig->client);
    rd_kafka_mock_cluster_destroy(rig->cluster);
    rd_kafka_destroy(rig->host);
    stop_free(&rig->stop);
}

static void the_end_is_told_where_there_is_one(void **state)
{
    (void)state;
    struct rig rig;
    int64_t high = -1;
    rig_start(&rig);
    assert_int_equal(kafka_log_high(&rig.client, "log", &high, &rig.err), SINK_DONE);
    assert_int_equal(high, 0);
    rig_stop(&rig);
}

/* The broker that leads is gone, and the others have not found out yet: it is not waited for. */
static void a_leader_that_is_away_is_not_waited_for(void **state)
{
    (void)state;
    struct rig rig;
    int64_t high = -1;
    rig_start(&rig);
    rd_kafka_mock_broker_set_down(rig.cluster, LEADER);
    alarm(HANGS_S);
    assert_int_equal(kafka_log_high(&rig.client, "log", &high, &rig.err), SINK_RETRY);
    alarm(0);
    rig_stop(&rig);
}

static void a_leader_that_comes_next_is_found(void **state)
{
    (void)state;
    struct rig rig;
    int64_t high = -1;
    rig_start(&rig);
    rd_kafka_mock_broker_set_down(rig.cluster, LEADER);
    stop_request(rig.stop); /* once is enough */
    alarm(HANGS_S);
    assert_int_equal(kafka_log_high(&rig.client, "log", &high, &rig.err), SINK_RETRY);
    rd_kafka_mock_partition_set_leader(rig.cluster, "log", 0, OTHER);
    kafka_client_close(&rig.client); /* as whoever opens anew does */
    assert_int_equal(kafka_client_open(&rig.client, RD_KAFKA_CONSUMER, conf_for(rig.client.brokers),
                                       NULL, &rig.err),
                     0);
    while (kafka_log_high(&rig.client, "log", &high, &rig.err) != SINK_DONE)
        ;
    alarm(0);
    assert_int_equal(high, 0);
    rig_stop(&rig);
}

/* See test_kafka_embedded.c. */
#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

int main(void)
{
    if (UNDER_TSAN) {
        puts("skipped: librdkafka's threads can't be followed by ThreadSanitizer");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_is_told_where_there_is_one),
        cmocka_unit_test(a_leader_that_is_away_is_not_waited_for),
        cmocka_unit_test(a_leader_that_comes_next_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
