/* kafka.h - the Kafka sink: each batch and its checkpoint are one transaction. See README.md. */
#ifndef BUSBAR_KAFKA_H
#define BUSBAR_KAFKA_H

#include "bridge/sink.h"

extern const struct sink_ops kafka_sink;

#endif
