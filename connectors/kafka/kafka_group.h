/* kafka_group.h - which pairs of a sink this instance is to publish, while others of the same name
 * run (`standby: true`): shared out by Kafka's consumer group protocol.
 *
 * Each instance is one member per sink of the group BRIDGE.SINK, whatever the number of its
 * sources; nothing is consumed. For each source there is a control topic with one, empty, partition
 * (CONTROL_TOPIC.BRIDGE.SINK.SOURCE): whoever is assigned it is to publish that source. A topic for
 * each, so that instances agree on what is whose also while their lists of sources differ, and one
 * that ends a source gives up that one alone. Assigned by cooperative-sticky: evenly, and what
 * needs not move stays.
 *
 * Members are static (KIP-345; group.instance.id is the instance's id): one that is killed and back
 * within session.timeout.ms goes on with what it had.
 *
 * An assignment is a hint: it may be out of date by the time it is read. The fence is the
 * transactional id. */
#ifndef BUSBAR_KAFKA_GROUP_H
#define BUSBAR_KAFKA_GROUP_H

#include "bridge/sink.h"
#include "connectors/kafka/kafka_seats.h"

/* One pair's seat in its instance's member of the group. */
struct kafka_member;

/* Enters this pair; the first of an instance's (bridge, sink) makes the member, with a thread of
 * its own. who and what it points to outlive it. Any thread; does not wait. */
struct kafka_member *kafka_group_join(const struct sink_pair *who);
/* Gives the pair up to the others. The last one of the instance leaves the group, which takes
 * about 200 ms (5 s, librdkafka's own limit, where a broker takes the request and does not answer);
 * else the member does so soon.
 * Accepts NULL. */
void kafka_group_leave(struct kafka_member **member);

/* Whose is it? Waits up to patience_ms where that is not known yet. The pair's thread; with
 * patience 0 it takes microseconds. */
void kafka_group_ask(struct kafka_member *member, int patience_ms, struct kafka_seat_view *view);

#endif
