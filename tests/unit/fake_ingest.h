/* fake_ingest.h - stands for bridge/ingest.c in a connector's tests: notes what it is told.
 *
 * Include it in one .c only: it defines the ingest_* functions. The library must be a static one,
 * so that these are taken instead of its own. */
#ifndef BUSBAR_TESTS_FAKE_INGEST_H
#define BUSBAR_TESTS_FAKE_INGEST_H

#include "bridge/base/clock.h"
#include "bridge/ingest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAKE_SOON_US = 100000 }; /* less than any wait of the Nomad connector's */

struct ingest {
    struct stop *stop;
    enum source_start start;
    struct ingest_resume resume;
    uint64_t next_seq;
    struct buf told; /* one line a call: "attached", "message 7 Job/web,Job/db", "malformed ..." */
    struct buf raw;  /* every message and malformed line, each with "\n" */
    struct buf last_detail; /* of the last BACKOFF */
    size_t messages, events, malformed, heartbeats, flushes, attached, backoffs, ended;
    /* Requests the stop once so many were told; 0: never. */
    size_t stop_after_messages, stop_after_backoffs, stop_after_heartbeats, stop_after_attached;
    bool refuse;         /* ingest_message fails */
    uint64_t last_index; /* what ingest_last_index says; messages below it are out of place */
    bool judged;         /* told that the index started over, or that this server lags */
    /* Called where not NULL: when it is attached, and at the flush of that number. */
    void (*on_attached)(void *arg), (*on_flush)(void *arg);
    void *arg;
    size_t on_flushes;
    int64_t backoff_us; /* when the last BACKOFF was told */
    size_t again, soon; /* so often it connected after one, and did not wait for that */
};

static inline struct ingest fake_ingest(void)
{
    return (struct ingest){.stop = stop_new(), .start = SOURCE_START_OLDEST, .next_seq = 1};
}

static inline void fake_ingest_fini(struct ingest *in)
{
    stop_free(&in->stop);
    buf_fini(&in->told);
    buf_fini(&in->raw);
    buf_fini(&in->last_detail);
}

static inline void fake_stop_at(struct ingest *in, size_t count, size_t at)
{
    if (at > 0 && count >= at)
        stop_request(in->stop);
}

struct str ingest_source(const struct ingest *in)
{
    (void)in;
    return STR("fake");
}

struct stop *ingest_stop(struct ingest *in)
{
    return in->stop;
}

enum source_start ingest_start(const struct ingest *in)
{
    return in->start;
}

struct ingest_resume ingest_resume(struct ingest *in)
{
    return in->resume;
}

uint64_t ingest_next_seq(const struct ingest *in)
{
    return in->next_seq;
}

void ingest_state(struct ingest *in, enum source_state state, const char *server,
                  const char *detail)
{
    (void)server;
    switch (state) {
    case SOURCE_CONNECTING:
        in->again += in->backoff_us > 0;
        in->soon += in->backoff_us > 0 && clock_mono_us() - in->backoff_us < FAKE_SOON_US;
        break;
    case SOURCE_ATTACHED:
        if (in->on_attached != NULL)
            in->on_attached(in->arg);
        buf_append_cstr(&in->told, "attached\n");
        fake_stop_at(in, ++in->attached, in->stop_after_attached);
        break;
    case SOURCE_BACKOFF:
        buf_clear(&in->last_detail);
        buf_append_cstr(&in->last_detail, detail);
        buf_append_cstr(&in->told, "backoff\n");
        in->backoff_us = clock_mono_us();
        fake_stop_at(in, ++in->backoffs, in->stop_after_backoffs);
        break;
    case SOURCE_ENDED:
        in->ended++;
        buf_append_cstr(&in->told, "ended\n");
        break;
    case SOURCE_FAILED:
        buf_append_cstr(&in->told, "failed\n");
        break;
    }
}

void ingest_heartbeat(struct ingest *in)
{
    fake_stop_at(in, ++in->heartbeats, in->stop_after_heartbeats);
}

int ingest_message(struct ingest *in, struct str raw, const struct found_event *events, size_t n,
                   struct err *err)
{
    if (in->refuse)
        return err_set(err, ERR_FATAL, "the fake refuses");
    buf_printf(&in->told, "message %llu", (unsigned long long)(n > 0 ? events[0].index : 0));
    for (size_t i = 0; i < n; i++)
        buf_printf(&in->told, "%s%.*s/%.*s", i > 0 ? "," : " ", STR_ARG(events[i].topic),
                   STR_ARG(events[i].key));
    buf_append_char(&in->told, '\n');
    buf_append_str(&in->raw, raw);
    buf_append_char(&in->raw, '\n');
    in->events += n;
    fake_stop_at(in, ++in->messages, in->stop_after_messages);
    return 0;
}

uint64_t ingest_last_index(struct ingest *in)
{
    return in->last_index;
}

bool ingest_is_out_of_place(struct ingest *in, const struct found_event *events, size_t n)
{
    return !in->judged && n > 0 && events[0].index < in->last_index;
}

int ingest_started_over(struct ingest *in, struct err *err)
{
    (void)err;
    in->judged = true;
    in->resume = (struct ingest_resume){0};
    buf_append_cstr(&in->told, "started over\n");
    return 0;
}

void ingest_lags(struct ingest *in)
{
    in->judged = true;
    buf_append_cstr(&in->told, "lags\n");
}

int ingest_missed(struct ingest *in, uint64_t from, uint64_t to, const char *reason,
                  struct err *err)
{
    (void)reason, (void)err;
    buf_printf(&in->told, "missed %llu to %llu\n", (unsigned long long)from,
               (unsigned long long)to);
    return 0;
}

int ingest_malformed(struct ingest *in, struct str raw, uint64_t size, const char *reason,
                     struct err *err)
{
    (void)err;
    buf_printf(&in->told, "malformed %llu: %s\n", (unsigned long long)size, reason);
    buf_append_str(&in->raw, raw);
    buf_append_char(&in->raw, '\n');
    in->malformed++;
    return 0;
}

int ingest_flush(struct ingest *in, struct err *err)
{
    (void)err;
    if (++in->flushes == in->on_flushes)
        in->on_flush(in->arg);
    return 0;
}

/* The resync's side: nobody calls it here, the linker asks for it. */

void ingest_get_status(struct ingest *in, struct ingest_status *out)
{
    (void)in;
    *out = (struct ingest_status){.state = SOURCE_FAILED};
}

bool ingest_take_latest(struct ingest *in, struct latest *latest)
{
    (void)in, (void)latest;
    return false;
}

enum latest_end ingest_latest_end(const struct ingest *in)
{
    (void)in;
    return LATEST_GOES_ON;
}

int ingest_lock(struct ingest *in, struct err *err)
{
    (void)in;
    return err_set(err, ERR_FATAL, "a fake");
}

int ingest_unlock(struct ingest *in, struct err *err)
{
    return ingest_lock(in, err);
}

int ingest_tell_own(struct ingest *in, const char *type, struct str payload, uint64_t *seq,
                    struct err *err)
{
    (void)type, (void)payload, (void)seq;
    return ingest_lock(in, err);
}

int ingest_tell_object(struct ingest *in, const struct found_event *object, bool *told,
                       struct err *err)
{
    (void)object, (void)told;
    return ingest_lock(in, err);
}

#endif
