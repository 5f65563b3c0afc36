/* subscriber.c - one callback: what comes next, and what became of it.
 *
 * The thread alone moves the cursor; what others may see of it is copied under the lock. It holds a
 * block of the journal only while its events are being taken. */
#include "connectors/mirror/subscriber.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/mirror/subscriber_post.h"
#include "connectors/mirror/subscriber_url.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ANSWER_TIMEOUT_MS = 10000, /* Marathon's own patience */
    BACKOFF_LEAST_MS = 250,
    BACKOFF_MOST_MS = 30000,
    LOOK_MS = 200,     /* how often one that waits for news looks whether it is to end */
    JOURNAL_MS = 1000, /* before a journal that can't be read is tried again */
    ASIDES_MAX = 64,
    SCRATCH_KEEP = 1 << 20,
};

/* An event of the mirror's own making. */
struct aside {
    uint64_t seq; /* comes before this one */
    struct str bytes;
};

struct subscriber {
    struct subscriber_options o;
    char *url;
    struct buf label; /* as logs show it */
    pthread_t thread;
    bool started;
    struct stop *cut;

    /* The thread's own. */
    struct poster *poster;
    struct journal_reader *reader;
    struct block *block; /* NULL: none */
    size_t at;           /* in it */
    struct buf redacted;
    unsigned attempts;     /* fruitless ones in a row */
    int64_t failing_at_ms; /* monotonic: of the first of them */
    bool journal_failed;   /* told once */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* ending, again */
    bool ending;
    bool again;
    struct aside asides[ASIDES_MAX];
    size_t n_asides;
    struct subscriber_status status;
};

/* ---- places ---- */

struct subscriber_place subscriber_place_now(struct journal *journal)
{
    /* In this order: what is committed in between may come twice elsewhere, but is not left out. */
    int64_t arrival_us = journal_tail(journal).arrival_us;
    return (struct subscriber_place){
        .journal_id = journal_id(journal),
        .seq = journal_next_seq(journal),
        .arrival_us = arrival_us,
        .since_us = clock_wall_us(),
    };
}

struct subscriber_place subscriber_place_in(struct journal *journal,
                                            const struct subscriber_place *place)
{
    struct subscriber_place here = *place;
    uint64_t end_seq = journal_next_seq(journal);
    if (place->journal_id == journal_id(journal)) {
        here.seq = here.seq < end_seq ? here.seq : end_seq;
        return here;
    }
    here.journal_id = journal_id(journal);
    if (journal_tail(journal).arrival_us <= place->arrival_us) {
        /* All of it was passed. Not by time from here on: this machine's clock may have gone back.
         */
        here.seq = end_seq;
        return here;
    }
    struct journal_reader *reader = journal_reader_new(journal);
    journal_reader_seek_arrival(reader, place->arrival_us + 1);
    here.seq = journal_reader_seq(reader);
    journal_reader_free(&reader);
    return here;
}

/* ---- what others see ---- */

const char *subscriber_state_name(enum subscriber_state state)
{
    static const char *const names[] = {
        [SUBSCRIBER_WAITING] = "waiting",   [SUBSCRIBER_DELIVERING] = "delivering",
        [SUBSCRIBER_RETRYING] = "retrying", [SUBSCRIBER_GIVEN_UP] = "given_up",
        [SUBSCRIBER_ENDED] = "ended",
    };
    return names[state];
}

/* With the lock held. */
static void set_state(struct subscriber *s, enum subscriber_state state)
{
    if (s->status.state == state)
        return;
    s->status.state = state;
    s->status.state_us = clock_wall_us();
}

static void enter(struct subscriber *s, enum subscriber_state state)
{
    pthread_mutex_lock(&s->lock);
    set_state(s, state);
    pthread_mutex_unlock(&s->lock);
}

const char *subscriber_url(const struct subscriber *s)
{
    return s->url;
}

void subscriber_get_status(struct subscriber *s, struct subscriber_status *out)
{
    uint64_t first = journal_first_seq(s->o.journal), next = journal_next_seq(s->o.journal);
    pthread_mutex_lock(&s->lock);
    *out = s->status;
    pthread_mutex_unlock(&s->lock);
    uint64_t from = out->place.seq > first ? out->place.seq : first;
    out->lag_events = next > from ? next - from : 0;
}

void subscriber_tell(struct subscriber *s, struct str bytes)
{
    uint64_t seq = journal_next_seq(s->o.journal);
    pthread_mutex_lock(&s->lock);
    if (s->n_asides < ASIDES_MAX) {
        struct str kept = {mem_strndup(bytes.p, bytes.len), bytes.len};
        s->asides[s->n_asides++] = (struct aside){seq, kept};
    }
    pthread_mutex_unlock(&s->lock);
}

void subscriber_again(struct subscriber *s)
{
    pthread_mutex_lock(&s->lock);
    s->again = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* ---- the cursor ---- */

/* One of what others set. */
static bool is_set(struct subscriber *s, const bool *flag)
{
    pthread_mutex_lock(&s->lock);
    bool set = *flag;
    pthread_mutex_unlock(&s->lock);
    return set;
}

/* Everything up to `event` has been passed. */
static void pass(struct subscriber *s, const struct event *event)
{
    pthread_mutex_lock(&s->lock);
    s->status.place.seq = event->seq + 1;
    s->status.place.arrival_us = event->arrival_us;
    pthread_mutex_unlock(&s->lock);
}

static void skip_to(struct subscriber *s, uint64_t seq, const char *why)
{
    uint64_t from = s->status.place.seq;
    uint64_t n = seq > from ? seq - from : 0;
    log_warn("callback_events_skipped", LOG_STR("source", s->o.source),
             LOG_STR("url", buf_cstr(&s->label)), LOG_INT("events", n), LOG_STR("why", why));
    metrics_add(s->o.metrics, METRIC_CALLBACKS_SKIPPED, n);
    pthread_mutex_lock(&s->lock);
    s->status.skipped += n;
    s->status.place.seq = seq;
    pthread_mutex_unlock(&s->lock);
}

/* Where it has registered again, it begins anew with its failures. */
static void forgive(struct subscriber *s)
{
    pthread_mutex_lock(&s->lock);
    bool again = s->again;
    s->again = false;
    if (again)
        s->status.place.failing_ms = 0;
    pthread_mutex_unlock(&s->lock);
    if (again && s->attempts > 1)
        s->attempts = 1; /* already told, and soon again */
    if (again)
        s->failing_at_ms = clock_mono_ms();
}

/* Until the time is over, or it is to end or to try again. */
static void pause_for(struct subscriber *s, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (int64_t)ms * 1000000;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&s->lock);
    while (!s->ending && !s->again && pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&s->lock);
    forgive(s);
}

static void leave_block(struct subscriber *s)
{
    block_unref(&s->block);
}

/* The block of the event that comes next; waits a moment where there is none. */
static void fetch(struct subscriber *s)
{
    struct err err = {ERR_RETRY, ""};
    uint64_t seq = s->status.place.seq;
    if (journal_reader_seq(s->reader) != seq)
        journal_reader_seek(s->reader, seq);
    enum journal_read read = journal_reader_next(s->reader, 0, &s->block, &err);
    if (read == JOURNAL_NOTHING) {
        enter(s, SUBSCRIBER_WAITING);
        read = journal_reader_next(s->reader, LOOK_MS, &s->block, &err);
    }
    if (read == JOURNAL_LOST)
        skip_to(s, journal_reader_seq(s->reader), err.msg);
    if (read == JOURNAL_ERROR && !s->journal_failed)
        log_error("mirror_journal", LOG_STR("source", s->o.source), LOG_STR("err", err.msg));
    s->journal_failed = read == JOURNAL_ERROR;
    if (read == JOURNAL_ERROR || read == JOURNAL_STOPPED)
        pause_for(s, JOURNAL_MS);
    s->at = 0;
}

/* In the block at hand, the next event that the source told; NULL where it has no more. */
static const struct event *next_in_block(struct subscriber *s)
{
    for (; s->at < s->block->n_events; s->at++) {
        const struct event *event = &s->block->events[s->at];
        if (event->seq < s->status.place.seq)
            continue;
        if (event_is_told(event))
            return event;
        pass(s, event);
    }
    leave_block(s);
    return NULL;
}

/* The aside that comes before the event of that seq; only the thread takes it away. */
static bool next_aside(struct subscriber *s, uint64_t seq, struct str *bytes)
{
    pthread_mutex_lock(&s->lock);
    bool due = s->n_asides > 0 && s->asides[0].seq <= seq;
    if (due)
        *bytes = s->asides[0].bytes;
    pthread_mutex_unlock(&s->lock);
    return due;
}

static void drop_aside(struct subscriber *s)
{
    pthread_mutex_lock(&s->lock);
    char *gone = (char *)s->asides[0].bytes.p;
    s->n_asides--;
    memmove(s->asides, s->asides + 1, s->n_asides * sizeof s->asides[0]);
    pthread_mutex_unlock(&s->lock);
    free(gone);
}

/* ---- delivering ---- */

static void note_delivered(struct subscriber *s)
{
    metrics_add(s->o.metrics, METRIC_CALLBACKS_DELIVERED, 1);
    if (s->attempts > 0)
        log_info("callback_recovered", LOG_STR("source", s->o.source),
                 LOG_STR("url", buf_cstr(&s->label)), LOG_INT("attempts", s->attempts));
    s->attempts = 0;
    pthread_mutex_lock(&s->lock);
    set_state(s, SUBSCRIBER_DELIVERING);
    s->status.delivered++;
    s->status.delivered_us = clock_wall_us();
    s->status.place.failing_ms = 0;
    s->status.detail[0] = '\0';
    pthread_mutex_unlock(&s->lock);
}

/* True where that is the end of it. */
static bool gives_up(struct subscriber *s)
{
    int64_t failing_ms = s->status.place.failing_ms;
    if (s->o.give_up_ms == 0 || failing_ms < s->o.give_up_ms || is_set(s, &s->again))
        return false;
    log_warn("callback_given_up", LOG_STR("source", s->o.source),
             LOG_STR("url", buf_cstr(&s->label)), LOG_INT("failing_ms", failing_ms),
             LOG_STR("err", s->status.detail));
    metrics_add(s->o.metrics, METRIC_CALLBACKS_GIVEN_UP, 1);
    pthread_mutex_lock(&s->lock);
    set_state(s, SUBSCRIBER_GIVEN_UP);
    s->ending = true;
    pthread_mutex_unlock(&s->lock);
    return true;
}

static void note_failed(struct subscriber *s, const struct err *err)
{
    int64_t now_ms = clock_mono_ms();
    metrics_add(s->o.metrics, METRIC_CALLBACKS_FAILED, 1);
    if (s->attempts++ == 0) {
        s->failing_at_ms = now_ms - s->status.place.failing_ms;
        log_warn("callback_failing", LOG_STR("source", s->o.source),
                 LOG_STR("url", buf_cstr(&s->label)), LOG_STR("err", err->msg));
    }
    pthread_mutex_lock(&s->lock);
    set_state(s, SUBSCRIBER_RETRYING);
    s->status.retried++;
    s->status.place.failing_ms = now_ms - s->failing_at_ms;
    snprintf(s->status.detail, sizeof s->status.detail, "%.255s", err->msg);
    pthread_mutex_unlock(&s->lock);
}

/* True once it was taken. Else a pause is over, and it is to be looked for anew. */
static bool deliver(struct subscriber *s, struct str bytes, const char *id)
{
    struct err err = {ERR_RETRY, ""};
    if (s->attempts == 0)
        enter(s, SUBSCRIBER_DELIVERING);
    forgive(s); /* what registers while this attempt is under way makes another at once */
    if (poster_send(s->poster, bytes, id, ANSWER_TIMEOUT_MS, &err) == 0) {
        note_delivered(s);
        return true;
    }
    leave_block(s);
    if (is_set(s, &s->ending))
        return false;
    note_failed(s, &err);
    if (!gives_up(s))
        pause_for(s, clock_backoff_ms(s->attempts, BACKOFF_LEAST_MS, BACKOFF_MOST_MS));
    return false;
}

static void deliver_event(struct subscriber *s, const struct event *event)
{
    char id[64];
    snprintf(id, sizeof id, "%016" PRIx64 "/%" PRIu64, s->status.place.journal_id, event->seq);
    if (s->redacted.cap > SCRATCH_KEEP)
        buf_fini(&s->redacted);
    struct str bytes =
        redact_event(s->o.redact, event, &s->redacted) ? buf_str(&s->redacted) : event->data;
    if (deliver(s, bytes, id))
        pass(s, event);
}

static void *run(void *arg)
{
    struct subscriber *s = arg;
    s->poster = poster_new(s->url, s->cut);
    s->reader = journal_reader_new(s->o.journal);
    while (!is_set(s, &s->ending)) {
        struct str aside;
        const struct event *event = s->block != NULL ? next_in_block(s) : NULL;
        if (next_aside(s, event != NULL ? event->seq : s->status.place.seq, &aside)) {
            if (deliver(s, aside, NULL))
                drop_aside(s);
        } else if (event != NULL) {
            deliver_event(s, event);
        } else {
            fetch(s);
        }
    }
    leave_block(s);
    journal_reader_free(&s->reader);
    poster_free(&s->poster);
    pthread_mutex_lock(&s->lock);
    bool given_up = s->status.state == SUBSCRIBER_GIVEN_UP;
    if (!given_up)
        set_state(s, SUBSCRIBER_ENDED);
    pthread_mutex_unlock(&s->lock);
    if (given_up)
        s->o.over(s->o.arg);
    return NULL;
}

/* ---- its life ---- */

struct subscriber *subscriber_new(const struct subscriber_options *options,
                                  const struct subscriber_place *place)
{
    struct subscriber *s = mem_zalloc(sizeof *s);
    s->o = *options;
    s->url = mem_strdup(options->url);
    s->o.url = s->url;
    subscriber_url_label(&s->label, s->url);
    buf_cstr(&s->label);
    s->cut = stop_new();
    s->status.place = *place;
    s->status.state_us = clock_wall_us();
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    return s;
}

int subscriber_start(struct subscriber *s, struct err *err)
{
    int rc = pthread_create(&s->thread, NULL, run, s);
    if (rc != 0)
        return err_set(err, ERR_RETRY, "thread: %s", strerror(rc));
    s->started = true;
    return 0;
}

void subscriber_end(struct subscriber *s, bool cut)
{
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (cut)
        stop_request(s->cut);
}

void subscriber_join(struct subscriber *s)
{
    if (s->started)
        pthread_join(s->thread, NULL);
    s->started = false;
}

void subscriber_free(struct subscriber **subscriber)
{
    struct subscriber *s = *subscriber;
    if (s == NULL)
        return;
    subscriber_end(s, true);
    subscriber_join(s);
    while (s->n_asides > 0)
        drop_aside(s);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    stop_free(&s->cut);
    buf_fini(&s->redacted);
    buf_fini(&s->label);
    free(s->url);
    free(s);
    *subscriber = NULL;
}
