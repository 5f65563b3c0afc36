/* kafka_name.h - names that Kafka takes for a topic (org.apache.kafka.common.internals.Topic). */
#ifndef BUSBAR_KAFKA_NAME_H
#define BUSBAR_KAFKA_NAME_H

#include <stdbool.h>

#include "bridge/base/buf.h"

enum { KAFKA_NAME_MAX = 249 };

/* 1 to 249 of a-z A-Z 0-9 . _ -, and neither "." nor "..". */
bool kafka_name_is_valid(struct str name);

/* Makes the rendered name in `name` one that Kafka takes: forbidden characters (each byte of them)
 * become _, an empty name "_", "." and ".." too; what is too long is cut and ends in a hash of the
 * whole, so that different names stay different. */
void kafka_name_mend(struct buf *name);

#endif
