/* kafka_standby.c - `standby: true`: whether this instance is to own a pair, and who does.
 *
 * The group says who should (a hint), the transactional id who may. Where they disagree, because
 * somebody took a pair over although the group still gives it to this instance, this one waits
 * HOLD_MS for the group to come to know better before it takes the pair back: two that both
 * believe to be right take turns slowly, and neither loses nor doubles anything. */
#include "connectors/kafka/kafka_group.h"
#include "connectors/kafka/kafka_pair.h"

#include "bridge/base/clock.h"

#include <stdio.h>

enum {
    JOIN_MS = 1500, /* a first join takes up to a second */
    HOLD_MS = 5000,
    LOOK_SOON_MS = 1500,
    LOOK_EVERY_MS = 15000,
};

static enum sink_result say_standby(struct kafka_pair *pair, const char *why, struct err *err)
{
    err_set(err, ERR_RETRY, "kafka %s: %s", pair->settings->brokers, why);
    return SINK_STANDBY;
}

/* Reads who owns it now and then, and soon after each rebalance, when the next one has had the time
 * to say so. So a standby also notices when Kafka is away. */
static enum sink_result look(struct kafka_pair *pair, unsigned rebalances, struct err *err)
{
    int64_t now = clock_mono_ms();
    if (pair->rebalances != rebalances && pair->look_ms > now + LOOK_SOON_MS)
        pair->look_ms = now + LOOK_SOON_MS;
    pair->rebalances = rebalances;
    if (now < pair->look_ms)
        return SINK_DONE;
    pair->look_ms = now + LOOK_EVERY_MS;
    return kafka_pair_read_owner(pair, err);
}

static enum sink_result not_ours(struct kafka_pair *pair, unsigned rebalances, struct err *err)
{
    enum sink_result r = look(pair, rebalances, err);
    if (r != SINK_DONE)
        return r;
    char why[128] = "another instance is to publish it";
    if (pair->owner_id[0] != '\0')
        snprintf(why, sizeof why, "instance %s owns it", pair->owner_id);
    return say_standby(pair, why, err);
}

enum sink_result kafka_standby_ask(struct kafka_pair *pair, struct err *err)
{
    struct kafka_seat_view view;
    if (!pair->who.standby)
        return SINK_DONE;
    if (pair->member == NULL)
        pair->member = kafka_group_join(&pair->who);
    kafka_group_ask(pair->member, JOIN_MS, &view);
    if (view.state != KAFKA_SEAT_OURS && view.trouble != SINK_DONE) {
        *err = view.err;
        return view.trouble;
    }
    if (view.state == KAFKA_SEAT_OTHERS)
        return not_ours(pair, view.rebalances, err);
    if (view.state == KAFKA_SEAT_UNSURE)
        return say_standby(pair, "joining the group", err);
    bool anew = view.turn != pair->turn;
    if (!anew && clock_mono_ms() < pair->hold_ms)
        return say_standby(pair, "another instance took over what the group gives to this one",
                           err);
    pair->turn = view.turn;
    if (anew)
        pair->was_owner = false; /* whoever was owner meanwhile is so no more */
    return SINK_DONE;
}

void kafka_standby_fenced(struct kafka_pair *pair)
{
    pair->was_owner = false; /* the next open is to take it back */
    pair->hold_ms = clock_mono_ms() + HOLD_MS;
}

enum sink_result kafka_standby_keep(void *self, struct err *err)
{
    struct kafka_pair *pair = self;
    struct kafka_seat_view view;
    if (pair->member == NULL)
        return SINK_DONE;
    kafka_group_ask(pair->member, 0, &view);
    if (view.state != KAFKA_SEAT_OTHERS)
        return SINK_DONE; /* UNSURE: the transactional id decides */
    pair->was_owner = false;
    pair->look_ms = clock_mono_ms() + LOOK_SOON_MS;
    pair->owner_id[0] = '\0';
    err_set(err, ERR_FENCED, "kafka %s: the group has given \"%s\" to another instance",
            pair->settings->brokers, pair->id);
    return SINK_FENCED;
}

const char *kafka_standby_owner(void *self)
{
    struct kafka_pair *pair = self;
    return pair->producer.rk != NULL ? pair->who.instance : pair->owner_id;
}
