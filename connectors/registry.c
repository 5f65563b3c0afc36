/* registry.c - every connector and sink there is. */
#include "connectors/registry.h"

#include "connectors/kafka/kafka.h"
#include "connectors/marathon/marathon.h"
#include "connectors/nomad/nomad.h"
#include "connectors/nomad/nomad_blocking.h"
#include "connectors/redis/redis_sink.h"
#include "connectors/replay/replay.h"

static const struct source_ops *const sources[] = {
    &nomad_source,    &nomad_blocking_source,
    &marathon_source, &marathon_callback_source,
    &replay_source,   NULL,
};

static const struct sink_ops *const sinks[] = {
    &kafka_sink,
    &redis_sink,
    NULL,
};

const struct registry registry = {sources, sinks};
