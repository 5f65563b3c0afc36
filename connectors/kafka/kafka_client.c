/* kafka_client.c - one librdkafka handle: made, watched, explained, ended. */
#include "connectors/kafka/kafka_client.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LOG_EVERY_MS = 10000, SYSLOG_ERR = 3 };

/* librdkafka's own lines are for its developers: what matters to an operator comes back as an
 * error (a lost connection always does). Other errors are let through, one every ten seconds in
 * this process. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    static _Atomic int64_t next_ms;
    const char *name = rd_kafka_name(rk);
    int64_t now = clock_mono_ms(), next = atomic_load(&next_ms);
    bool due = level <= SYSLOG_ERR && strcmp(facility, "FAIL") != 0 && now >= next &&
               atomic_compare_exchange_strong(&next_ms, &next, now + LOG_EVERY_MS);
    if (due)
        log_warn("librdkafka", LOG_STR("client", name), LOG_STR("facility", facility),
                 LOG_STR("text", text));
    else
        log_debug("librdkafka", LOG_STR("client", name), LOG_STR("facility", facility),
                  LOG_STR("text", text));
}

struct opaque {
    struct kafka_client *client;
    const struct kafka_deliveries *deliveries;
};

/* Codes that say more than the one that follows from them. */
static bool is_lasting(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL;
}

void kafka_client_note(struct kafka_client *client, rd_kafka_resp_err_t error, const char *reason)
{
    if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && client->trouble_text[0] != '\0')
        return; /* its reason only counts them */
    if (is_lasting(client->trouble) && !is_lasting(error))
        return;
    client->trouble = error;
    /* "… (after 3ms in state CONNECT, 1 identical error(s) suppressed)": the same trouble is to
     * read the same each time. */
    const char *tail = strstr(reason, " (after ");
    int len = tail != NULL ? (int)(tail - reason) : (int)strlen(reason);
    snprintf(client->trouble_text, sizeof client->trouble_text, "%.*s", len, reason);
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    (void)rk;
    kafka_client_note(((struct opaque *)opaque)->client, (rd_kafka_resp_err_t)code, reason);
}

/* The peer acknowledged more than SYN: not an attempt to connect that failed. */
static bool was_connected(int fd)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_bytes_acked > 1;
}

static int on_close(int fd, void *opaque)
{
    if (was_connected(fd))
        atomic_fetch_add(&((struct opaque *)opaque)->client->lost, 1);
    return close(fd);
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    (void)rk;
    const struct kafka_deliveries *d = ((struct opaque *)opaque)->deliveries;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        d->failed(d->arg, (size_t)(uintptr_t)message->_private, message->err);
}

int kafka_client_open(struct kafka_client *client, rd_kafka_type_t type, rd_kafka_conf_t *conf,
                      const struct kafka_deliveries *deliveries, struct err *err)
{
    struct opaque *opaque = mem_alloc(sizeof *opaque);
    *opaque = (struct opaque){client, deliveries};
    client->trouble = RD_KAFKA_RESP_ERR_NO_ERROR;
    client->trouble_text[0] = '\0';
    rd_kafka_conf_set_opaque(conf, opaque);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_closesocket_cb(conf, on_close);
    if (deliveries != NULL)
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    char errstr[256];
    client->rk = rd_kafka_new(type, conf, errstr, sizeof errstr);
    if (client->rk != NULL)
        return 0;
    rd_kafka_conf_destroy(conf);
    free(opaque);
    return err_set(err, ERR_FATAL, "kafka %s: %s: see properties:", client->brokers, errstr);
}

void kafka_client_close(struct kafka_client *client)
{
    if (client->rk == NULL)
        return;
    struct opaque *opaque = rd_kafka_opaque(client->rk);
    if (rd_kafka_type(client->rk) == RD_KAFKA_PRODUCER)
        rd_kafka_purge(client->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                       RD_KAFKA_PURGE_F_NON_BLOCKING);
    rd_kafka_destroy_flags(client->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    client->rk = NULL;
    free(opaque);
}

void kafka_client_poll(struct kafka_client *client, int timeout_ms)
{
    rd_kafka_poll(client->rk, timeout_ms);
}

struct advice {
    rd_kafka_resp_err_t code;
    const char *what;
};

/* What an operator has to do; the others pass by themselves. */
static const struct advice advices[] = {
    {RD_KAFKA_RESP_ERR__AUTHENTICATION, "are sasl.* in properties: right?"},
    {RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, "are sasl.* in properties: right?"},
    {RD_KAFKA_RESP_ERR__SSL, "are ssl.* and security.protocol in properties: right?"},
    {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
     "grant this user WRITE and DESCRIBE on the topic, and CREATE or make it yourself"},
    {RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
     "grant this user READ on this consumer group (standby: true)"},
    {RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
     "another process runs with this instance's id: was its journal folder copied?"},
    {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
     "grant this user CREATE on the topics it writes, or make them yourself"},
    {RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
     "grant this user WRITE and DESCRIBE on this transactional id"},
    {RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT,
     "set transaction.timeout.ms below the broker's transaction.max.timeout.ms"},
    {RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
     "the broker's policy wants other partitions:, replication: or topic_config:"},
    {RD_KAFKA_RESP_ERR_INVALID_CONFIG,
     "the broker does not take the settings of this topic, see topic_config:"},
    {RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR, "are there enough brokers for replication:?"},
    {RD_KAFKA_RESP_ERR_INVALID_PARTITIONS, "the broker does not take this partitions:"},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, "exactly once needs brokers of 0.11 or later"},
    {RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE, "exactly once needs brokers of 0.11 or later"},
};

static const char *advice_for(rd_kafka_resp_err_t code)
{
    for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
        if (advices[i].code == code)
            return advices[i].what;
    return NULL;
}

static bool is_away(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__TIMED_OUT || code == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT ||
           code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ||
           code == RD_KAFKA_RESP_ERR__RESOLVE || code == RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE;
}

enum sink_result kafka_client_explain(struct kafka_client *client, rd_kafka_resp_err_t code,
                                      const char *doing, const char *detail, struct err *err)
{
    if (client->rk != NULL)
        kafka_client_poll(client, 0);
    bool away = is_away(code);
    if (away && client->trouble != RD_KAFKA_RESP_ERR_NO_ERROR) {
        code = client->trouble;
        detail = client->trouble_text;
    }
    if (detail == NULL || detail[0] == '\0')
        detail = rd_kafka_err2str(code);
    const char *advice = advice_for(code);
    if (advice != NULL)
        err_set(err, ERR_FATAL, "kafka %s: %s: %s: %s", client->brokers, doing, detail, advice);
    else
        err_set(err, ERR_RETRY, "kafka %s: %s: %s%s", client->brokers, doing, detail,
                away ? ": is the broker up, is brokers: right?" : "");
    return advice != NULL ? SINK_FATAL : SINK_RETRY;
}
