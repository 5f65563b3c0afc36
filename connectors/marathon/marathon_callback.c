/* marathon_callback.c - a Marathon as a source that calls (to 1.4): the thread.
 *
 * All is on one thread: a call is taken, journaled, and answered 200, one after the other; between
 * them the keeper looks after the registration, with questions that nobody waits for. So what was
 * answered 200 is in the journal. Where the disk is full no call is answered until there is room;
 * Marathon gives up on them, but what it sent is journaled then.
 *
 * Attached means that Marathon has called since there was reason to doubt that it does. Each time
 * ingest says a Gap before that call, because nothing can be had again. */
#include "connectors/marathon/marathon_callback.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/http_token.h"
#include "connectors/marathon/marathon_callback_door.h"
#include "connectors/marathon/marathon_callback_keeper.h"
#include "connectors/marathon/marathon_settings.h"
#include "connectors/marathon/marathon_snapshot.h"
#include "connectors/marathon/marathon_stream.h"
#include "connectors/marathon_event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STATUS_OK = 200,
    STATUS_UNAVAILABLE = 503,
    FLUSH_MS = 200,
    STALLED_MS = 5000, /* Marathon counts what takes 10 s as failed */
    LISTEN_LEAST_MS = 250,
    LISTEN_MOST_MS = 5000,
};

/* A driver that is new to Mesos: Marathon was restarted, or another of its masters leads. */
static const char driver_type[] = "scheduler_registered_event";
/* The first that a new registration brings. */
static const char subscribed_type[] = "subscribe_event";

struct callback {
    struct marathon_settings settings; /* with the token's file, which has a state */
    struct ingest *ingest;
    struct marathon_place place;
    struct keeper *keeper;
    struct callback_door *door;
    struct marathon_event event;
    struct stop *end; /* of the door; after ingest's */
    bool attached;
    bool leaving;
    bool failed;
    struct err failure;
    int64_t flushed_ms;
    int64_t turned_ms;
};

/* ---- what the keeper finds ---- */

static void on_asking(void *arg, const char *server)
{
    struct callback *c = arg;
    marathon_place_set(&c->place, keeper_server(c->keeper));
    if (!c->attached && !c->leaving)
        ingest_state(c->ingest, SOURCE_CONNECTING, server, NULL);
}

static void on_lost(void *arg, const char *server, const char *why)
{
    struct callback *c = arg;
    c->attached = false;
    ingest_state(c->ingest, SOURCE_BACKOFF, server, why);
}

static int give_up(struct callback *c, const struct err *err)
{
    c->failed = true;
    c->failure = *err;
    return -1;
}

static void on_missed(void *arg, const char *why)
{
    struct callback *c = arg;
    struct err err;
    uint64_t last = ingest_last_index(c->ingest);
    if (!c->attached || c->failed)
        return; /* the next call says it */
    if (ingest_missed(c->ingest, last, last, why, &err) != 0)
        give_up(c, &err);
}

static void on_checked(void *arg)
{
    struct callback *c = arg;
    if (c->attached)
        ingest_heartbeat(c->ingest);
}

/* ---- calls ---- */

static void suspect(struct callback *c, const char *why)
{
    on_lost(c, keeper_label(c->keeper), why);
    keeper_suspect(c->keeper);
}

/* A call that came ahead of this one may have been the last of a registration before: what was told
 * in between is missing. */
static void check_registration(struct callback *c, bool was_attached)
{
    const struct found_event *found = &c->event.found;
    if (was_attached && keeper_is_unsure(c->keeper))
        on_missed(c, "it was registered anew after a call of a registration before; what was told "
                     "in between reached nobody");
    if (str_is(found->type, subscribed_type) &&
        str_eq(found->key, str_from(c->settings.callback_url)))
        keeper_registration_told(c->keeper);
}

/* Before the first new event of a driver, unless a Gap is said before it anyway. */
static void check_driver(struct callback *c, bool was_attached)
{
    if (!str_is(c->event.found.type, driver_type))
        return;
    if (was_attached)
        on_missed(c, "Marathon has registered with Mesos anew: it was restarted, or another of "
                     "its masters leads now; what happened meanwhile was told to nobody");
    keeper_leader_told(c->keeper);
}

static int journal(struct callback *c, struct str body)
{
    struct err err, why;
    bool was_attached = c->attached;
    int rc;
    if (marathon_event_read(&c->event, STR(""), body, &why) != 0) {
        rc = ingest_malformed(c->ingest, body, body.len, why.msg, &err);
    } else {
        if (!c->attached)
            ingest_state(c->ingest, SOURCE_ATTACHED, keeper_label(c->keeper), NULL);
        c->attached = true;
        keeper_heard(c->keeper);
        check_registration(c, was_attached);
        check_driver(c, was_attached);
        rc = ingest_message(c->ingest, body, &c->event.found, 1, &err);
    }
    if (rc != 0 || ingest_flush(c->ingest, &err) != 0)
        return give_up(c, &err);
    c->flushed_ms = clock_mono_ms();
    return c->failed ? -1 : 0;
}

static unsigned on_call(void *arg, struct str body)
{
    struct callback *c = arg;
    return !c->failed && journal(c, body) == 0 ? STATUS_OK : STATUS_UNAVAILABLE;
}

static void on_oversized(void *arg, uint64_t size)
{
    struct callback *c = arg;
    char why[128];
    snprintf(why, sizeof why, "an event of %llu bytes was refused: at most %d are taken",
             (unsigned long long)size, CALLBACK_BODY_MAX);
    log_warn("callback_too_large", LOG_STR("source", ingest_source(c->ingest).p),
             LOG_INT("bytes", size), LOG_INT("max", CALLBACK_BODY_MAX));
    suspect(c, why);
}

/* ---- the thread ---- */

static void check_stall(struct callback *c, int64_t now_ms)
{
    if (c->turned_ms != 0 && now_ms - c->turned_ms > STALLED_MS && !c->leaving)
        suspect(c, "this process stood still for longer than Marathon waits (a full disk, a "
                   "machine without time, SIGSTOP): it backs off then");
    c->turned_ms = now_ms;
}

static void check_end(struct callback *c)
{
    if (!c->leaving && (c->failed || stop_requested(ingest_stop(c->ingest)))) {
        c->leaving = true;
        keeper_leave(c->keeper);
    }
    if (c->leaving && keeper_has_left(c->keeper))
        stop_request(c->end);
}

static int on_turn(void *arg)
{
    struct callback *c = arg;
    struct err err;
    int64_t now_ms = clock_mono_ms();
    check_stall(c, now_ms);
    check_end(c);
    if (!c->failed && now_ms - c->flushed_ms >= FLUSH_MS) {
        c->flushed_ms = now_ms;
        if (ingest_flush(c->ingest, &err) != 0)
            give_up(c, &err);
    }
    int wait_ms = keeper_turn(c->keeper);
    return wait_ms < FLUSH_MS ? wait_ms : FLUSH_MS;
}

/* Whoever has the port may be an instance that ends. False: time to stop. */
static bool open_door(struct callback *c)
{
    struct err err;
    struct callback_door_options options = {
        .listen = c->settings.listen,
        .url = c->settings.callback_url,
        .called = on_call,
        .oversized = on_oversized,
        .turn = on_turn,
        .arg = c,
    };
    for (unsigned attempt = 1; callback_door_open(&c->door, &options, &err) != 0; attempt++) {
        ingest_state(c->ingest, SOURCE_BACKOFF, NULL, err.msg);
        if (stop_wait(ingest_stop(c->ingest),
                      clock_backoff_ms(attempt, LISTEN_LEAST_MS, LISTEN_MOST_MS)))
            return false;
    }
    log_info("callback_listening", LOG_STR("source", ingest_source(c->ingest).p),
             LOG_STR("address", callback_door_address(c->door)));
    return true;
}

static int run(void *arg, struct err *err)
{
    struct callback *c = arg;
    struct keeper_options options = {
        .settings = &c->settings,
        .source = ingest_source(c->ingest).p,
        .asking = on_asking,
        .lost = on_lost,
        .missed = on_missed,
        .checked = on_checked,
        .arg = c,
    };
    if (!open_door(c))
        return 0;
    ingest_resume(c->ingest); /* is this a first start? */
    c->keeper = keeper_new(&options);
    c->end = stop_new();
    callback_door_run(c->door, c->end);
    callback_door_close(&c->door);
    keeper_free(&c->keeper);
    stop_free(&c->end);
    if (!c->failed || stop_requested(ingest_stop(c->ingest)))
        return 0;
    *err = c->failure;
    return -1;
}

/* ---- the source ---- */

static void *create(const void *settings, struct ingest *ingest)
{
    struct callback *c = mem_zalloc(sizeof *c);
    c->settings = *(const struct marathon_settings *)settings;
    c->settings.file_token = http_token_new(c->settings.token_file);
    c->ingest = ingest;
    marathon_event_init(&c->event);
    pthread_mutex_init(&c->place.lock, NULL);
    return c;
}

static void destroy(void *arg)
{
    struct callback *c = arg;
    if (c == NULL)
        return;
    marathon_event_fini(&c->event);
    http_token_free(&c->settings.file_token);
    pthread_mutex_destroy(&c->place.lock);
    free(c);
}

/* On another thread than `run`: of the source it shares what never changes, and the place. */
static int snapshot(void *arg, struct resync *resync, struct err *err)
{
    struct callback *c = arg;
    char server[MARATHON_SERVER_MAX];
    marathon_place_get(&c->place, server);
    return marathon_snapshot(&c->settings, c->ingest, server, resync, err);
}

const struct source_ops marathon_callback_source = {
    .type = "marathon_callback",
    .rows = marathon_callback_rows,
    .settings_size = sizeof(struct marathon_settings),
    .check = marathon_callback_check,
    .start = marathon_start,
    .no_replay = true,
    .is_marathon = marathon_is_marathon,
    .snapshot_rate = marathon_snapshot_rate,
    .snapshot = snapshot,
    .create = create,
    .run = run,
    .destroy = destroy,
};
