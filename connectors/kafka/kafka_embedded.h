/* kafka_embedded.h - a Kafka cluster inside this process (librdkafka's mock), for a demo only.
 *
 * It keeps everything in memory (some 5 MB a partition, older records go), fences nobody and shows
 * aborted records. One for all pairs of a process, from the first kafka_embedded_ref to the last
 * unref; its address is a free port of 127.0.0.1, told in the log (event=kafka_embedded). */
#ifndef BUSBAR_KAFKA_EMBEDDED_H
#define BUSBAR_KAFKA_EMBEDDED_H

#include "bridge/base/err.h"

#include <stddef.h>

/* Any thread. ERR_FATAL where it can't be made. */
int kafka_embedded_ref(struct err *err);
void kafka_embedded_unref(void);
/* Between ref and unref: what to put into bootstrap.servers. */
const char *kafka_embedded_bootstrap(void);
/* It knows no admin API. A topic that is there already is fine. */
void kafka_embedded_create_topic(const char *name, int partitions);
/* For tests: the next `n` requests with this API key (Kafka protocol: 0 Produce, 22 InitProducerId,
 * 26 EndTxn, …) are answered by this error code of the protocol, whatever was wanted before. */
void kafka_embedded_fail_next(int api_key, size_t n, int code);

#endif
