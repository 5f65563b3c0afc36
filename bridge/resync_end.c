/* resync_end.c - the end of a resync: what vanished, and that it is finished. */
#include "bridge/resync_internal.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/own.h"

#include <inttypes.h>

enum { LOOK_MS = 20, STILL_LOOKS = 100, BEHIND_MAX_MS = 30000, CHECK_STOP_EVERY = 1024 };

/* ---- the stream has to be where the listings were ---- */

static uint64_t newest_listing(const struct resync *r)
{
    uint64_t newest = 0;
    for (size_t i = 0; i < r->n_listings; i++)
        if (r->listings[i].index > newest)
            newest = r->listings[i].index;
    return newest;
}

/* Waits until the stream has passed the newest listing, or brings nothing more. That is a matter of
 * looks, not of the clock: when a machine stood still for seconds, nobody could bring anything. */
static void wait_for_stream(struct resync *r)
{
    uint64_t wanted = newest_listing(r), last = 0;
    int64_t begun = clock_mono_ms();
    int still = 0;
    for (;;) {
        struct ingest_status source;
        resync_publish(r);
        ingest_get_status(r->o.ingest, &source);
        bool moves = source.last_index != last || source.state != SOURCE_ATTACHED;
        still = moves ? 0 : still + 1;
        last = source.last_index;
        if (last >= wanted || source.epoch != r->epoch || still > STILL_LOOKS ||
            clock_mono_ms() - begun >= BEHIND_MAX_MS || stop_wait(r->o.stop, LOOK_MS))
            return;
    }
}

/* ---- Vanished ---- */

static void add_vanished(struct resync *r, const struct state_object *known)
{
    resync_tell_add(r, &(struct found_event){
                           .topic = known->id.topic,
                           .key = known->id.key,
                           .ns = known->id.ns,
                           .filter_keys = known->filter_keys,
                       });
}

/* Collects the next candidates; 1: there may be more, 0: none, -1: error. */
static int collect(struct resync *r, struct state_cursor *at, struct err *err)
{
    struct state_object known;
    int found = 1;
    for (size_t i = 1; !resync_tell_is_full(r); i++) {
        found = state_walk(r->state, at, &known, err);
        if (found != 1)
            break;
        if (resync_tell_has_vanished(r, &known))
            add_vanished(r, &known);
        if (i % CHECK_STOP_EVERY == 0 && stop_requested(r->o.stop))
            return err_set(err, ERR_RETRY, "it is time to stop");
    }
    return found;
}

static int tell_vanished(struct resync *r, struct err *err)
{
    if (r->n_listings == 0)
        return 0;
    struct state_cursor at = {.begun = false};
    int more;
    r->batch.vanished = true;
    do {
        more = collect(r, &at, err);
        if (more >= 0 && resync_tell_flush(r, err) != 0)
            more = -1;
        resync_publish(r);
    } while (more == 1);
    r->batch.vanished = false;
    return more;
}

/* ---- ResyncFinished ---- */

static int64_t seconds_since(int64_t wall_us)
{
    int64_t us = clock_wall_us() - wall_us;
    return us > 0 ? us / 1000000 : 0;
}

static int tell_finished(struct resync *r, struct err *err)
{
    const struct state_resync *s = state_resync(r->state);
    struct buf payload = {0};
    uint64_t seq;
    if (ingest_lock(r->o.ingest, err) != 0)
        return -1;
    int rc = resync_catch_up(r, false, err);
    buf_printf(&payload,
               "{\"Started\":%" PRIu64 ",\"Objects\":%" PRIu64 ",\"Vanished\":%" PRIu64
               ",\"Seconds\":%" PRId64 "}",
               s->number, s->objects, s->vanished, seconds_since(s->started_us));
    if (rc == 0)
        rc = ingest_tell_own(r->o.ingest, OWN_RESYNC_FINISHED, buf_str(&payload), &seq, err);
    buf_fini(&payload);
    struct err unlock_err;
    if (ingest_unlock(r->o.ingest, rc == 0 ? err : &unlock_err) != 0)
        rc = -1;
    return rc;
}

int resync_end(struct resync *r, struct err *err)
{
    if (resync_tell_flush(r, err) != 0)
        return -1;
    wait_for_stream(r);
    if (stop_requested(r->o.stop))
        return err_set(err, ERR_RETRY, "it is time to stop");
    if (resync_catch_up(r, true, err) != 0 || tell_vanished(r, err) != 0 ||
        tell_finished(r, err) != 0 || resync_catch_up(r, true, err) != 0)
        return -1;
    const struct state_resync *s = state_resync(r->state);
    log_info("resync_finished", LOG_STR("source", r->o.source), LOG_INT("seq", s->number),
             LOG_INT("objects", s->objects), LOG_INT("vanished", s->vanished),
             LOG_INT("skipped", r->skipped), LOG_INT("requests", r->requests),
             LOG_INT("seconds", seconds_since(s->started_us)),
             LOG_INT("stream_waited_max_us", r->lock_us));
    return 0;
}
