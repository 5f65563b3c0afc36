/* kafka_client.h - one librdkafka handle: made, watched, explained, ended.
 *
 * One thread (the pair's) makes all calls; librdkafka's own threads come in by the log callback
 * only. */
#ifndef BUSBAR_KAFKA_CLIENT_H
#define BUSBAR_KAFKA_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/err.h"
#include "bridge/base/stop.h"
#include "bridge/sink.h"

#include <librdkafka/rdkafka.h>

struct kafka_client {
    rd_kafka_t *rk;              /* NULL: not open */
    const char *brokers;         /* as configured, for messages */
    struct stop *stop;           /* waits end when it is requested */
    rd_kafka_resp_err_t trouble; /* the last error told by error_cb, and its text */
    char trouble_text[256];
    _Atomic unsigned lost; /* connections that were there; counted by librdkafka's threads */
};

/* Called for each message that could not be delivered (never for delivered ones); from within
 * rd_kafka_poll, flush, commit, abort. */
typedef void kafka_failed_fn(void *arg, size_t place, rd_kafka_resp_err_t error);

struct kafka_deliveries {
    kafka_failed_fn *failed;
    void *arg;
};

/* Makes the handle from `conf` (taken in any case). brokers and stop are set by the caller.
 * `deliveries` may be NULL (a reader); else it outlives the handle. */
int kafka_client_open(struct kafka_client *client, rd_kafka_type_t type, rd_kafka_conf_t *conf,
                      const struct kafka_deliveries *deliveries, struct err *err);
/* Ends it with all that is in flight: no memory given to it is looked at afterwards. Takes
 * milliseconds, also while no broker answers. Idempotent. */
void kafka_client_close(struct kafka_client *client);

/* Keeps it as `trouble`, for errors that come as events and not by error_cb. */
void kafka_client_note(struct kafka_client *client, rd_kafka_resp_err_t error, const char *reason);

/* Serves callbacks; then `trouble` is as new as can be. */
void kafka_client_poll(struct kafka_client *client, int timeout_ms);

/* Puts "kafka BROKERS: doing: what happened: what to do" into err; returns SINK_FATAL where an
 * operator has to act, else SINK_RETRY. `detail` may be NULL: then the code's own text. A lost
 * connection is told by its reason (refused, unknown host, …). */
enum sink_result kafka_client_explain(struct kafka_client *client, rd_kafka_resp_err_t code,
                                      const char *doing, const char *detail, struct err *err);

#endif
