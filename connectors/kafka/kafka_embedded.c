/* kafka_embedded.c - a Kafka cluster inside this process, for a demo only.
 *
 * The one place with state of the whole process: the pairs of a demo must meet in one cluster, and
 * they know nothing of each other. */
#include "connectors/kafka/kafka_embedded.h"

#include "bridge/base/log.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    unsigned refs;
    rd_kafka_t *host; /* the handle that the cluster hangs on; it connects to nothing */
    rd_kafka_mock_cluster_t *cluster;
} embedded;

static void keep_quiet(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    log_debug("kafka_embedded", LOG_INT("level", level), LOG_STR("facility", facility),
              LOG_STR("text", text));
}

static int start(struct err *err)
{
    char errstr[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, keep_quiet);
    embedded.host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, errstr, sizeof errstr);
    if (embedded.host == NULL) {
        rd_kafka_conf_destroy(conf);
        return err_set(err, ERR_FATAL, "embedded kafka: %s", errstr);
    }
    embedded.cluster = rd_kafka_mock_cluster_new(embedded.host, 1);
    if (embedded.cluster == NULL) {
        rd_kafka_destroy(embedded.host);
        embedded.host = NULL;
        return err_set(err, ERR_FATAL, "embedded kafka: no port of 127.0.0.1 to listen on");
    }
    log_warn("kafka_embedded", LOG_STR("bootstrap", kafka_embedded_bootstrap()),
             LOG_STR("note", "for a demo only: in memory, no fencing, shows aborted records"));
    return 0;
}

int kafka_embedded_ref(struct err *err)
{
    pthread_mutex_lock(&lock);
    int rc = embedded.refs > 0 ? 0 : start(err);
    if (rc == 0)
        embedded.refs++;
    pthread_mutex_unlock(&lock);
    return rc;
}

void kafka_embedded_unref(void)
{
    pthread_mutex_lock(&lock);
    if (--embedded.refs == 0) {
        rd_kafka_mock_cluster_destroy(embedded.cluster);
        rd_kafka_destroy(embedded.host);
    }
    pthread_mutex_unlock(&lock);
}

const char *kafka_embedded_bootstrap(void)
{
    return rd_kafka_mock_cluster_bootstraps(embedded.cluster);
}

void kafka_embedded_create_topic(const char *name, int partitions)
{
    rd_kafka_mock_topic_create(embedded.cluster, name, partitions, 1);
}

void kafka_embedded_fail_next(int api_key, size_t n, int code)
{
    rd_kafka_mock_clear_request_errors(embedded.cluster, (int16_t)api_key);
    for (size_t i = 0; i < n; i++)
        rd_kafka_mock_push_request_errors(embedded.cluster, (int16_t)api_key, 1,
                                          (rd_kafka_resp_err_t)code);
}
