/* registry.c - every connector and sink there is. */
#include "connectors/registry.h"

#include "connectors/kafka/kafka.h"
#include "connectors/nomad/nomad.h"
#include "connectors/redis/redis_sink.h"
#include "connectors/replay/replay.h"

static const struct source_ops *const sources[] = {
    &nomad_source,
    &replay_source,
    NULL,
};

static const struct sink_ops *const sinks[] = {
    &kafka_sink,
    &redis_sink,
    NULL,
};

const struct registry registry = {sources, sinks};
