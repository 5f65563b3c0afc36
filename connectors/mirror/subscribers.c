/* subscribers.c - the callbacks of all Marathons: the list, the file, the one who keeps both. */
#include "connectors/mirror/subscribers.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/mirror/subscriber.h"
#include "connectors/mirror/subscriber_url.h"
#include "connectors/mirror/subscribers_file.h"

#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    KEEP_MS = 1000,
    LAST_ANSWERS_MS = 2000,
    LAST_LOOK_MS = 5,
};

/* What there is of one source. */
struct part {
    const char *name;
    struct journal *journal;
    struct metrics *metrics; /* NULL: not a Marathon */
    struct subscriber **list;
    size_t n;
    struct buf written;  /* what the file says */
    uint64_t changes;    /* of the list */
    bool only_in_memory; /* what the file says may not be on the disk yet */
    bool failed;         /* told once */
};

struct subscribers {
    struct subscribers_options o;
    struct part *parts;
    pthread_t keeper;
    bool started;

    pthread_mutex_t lock; /* guards all below, and the parts */
    pthread_cond_t wake;
    bool stopping;
    bool work;
    size_t n;
    struct subscriber **leaving; /* to be joined */
    size_t n_leaving;            /* those that are just being joined included */
    size_t n_listed;             /* those of them in `leaving` */
};

bool subscribers_are_on(const struct subscribers *all)
{
    return all->o.max > 0;
}

/* ---- the file; with the lock held ---- */

static void render(const struct part *part, struct buf *text)
{
    struct subscriber_status status;
    subscribers_file_begin(text);
    for (size_t i = 0; i < part->n; i++) {
        subscriber_get_status(part->list[i], &status);
        subscribers_file_append(text, subscriber_url(part->list[i]), &status.place);
    }
    subscribers_file_end(text);
}

static void note_written(struct part *part, struct buf *text, bool synced)
{
    buf_fini(&part->written);
    part->written = *text;
    *text = (struct buf){0};
    part->only_in_memory = !synced;
    if (part->failed)
        log_info("subscribers_written", LOG_STR("source", part->name));
    part->failed = false;
}

static void note_not_written(struct part *part, const struct err *err)
{
    if (!part->failed)
        log_error("subscribers_not_written", LOG_STR("source", part->name),
                  LOG_STR("err", err->msg),
                  LOG_STR("hint", "after a restart callbacks get events again"));
    part->failed = true;
}

static void wake_keeper(struct subscribers *all)
{
    all->work = true;
    pthread_cond_signal(&all->wake);
}

/* Into the file, and left to the keeper to see to the disk. */
static int write_now(struct subscribers *all, struct part *part, struct err *err)
{
    const char *dir = journal_dir(part->journal);
    struct buf text = {0};
    render(part, &text);
    part->changes++;
    part->only_in_memory = true;
    int rc = subscribers_file_prepare(dir, buf_str(&text), false, err);
    if (rc == 0)
        rc = subscribers_file_replace(dir, false, err);
    if (rc == 0)
        note_written(part, &text, false);
    buf_fini(&text);
    wake_keeper(all);
    return rc;
}

/* Without the lock: onto the disk, where something has changed. */
static void write_synced(struct subscribers *all, struct part *part)
{
    const char *dir = journal_dir(part->journal);
    struct buf text = {0};
    struct err err;
    pthread_mutex_lock(&all->lock);
    render(part, &text);
    uint64_t changes = part->changes;
    bool same = !part->only_in_memory && str_eq(buf_str(&text), buf_str(&part->written));
    pthread_mutex_unlock(&all->lock);
    int rc = same ? 0 : subscribers_file_prepare(dir, buf_str(&text), true, &err);
    pthread_mutex_lock(&all->lock);
    bool current = !same && changes == part->changes;
    if (rc == 0 && current)
        rc = subscribers_file_replace(dir, true, &err);
    if (rc != 0)
        note_not_written(part, &err);
    else if (current)
        note_written(part, &text, true);
    else if (!same)
        all->work = true; /* the list has changed meanwhile: once more */
    pthread_mutex_unlock(&all->lock);
    if (rc == 0 && current)
        subscribers_file_sync_dir(dir);
    buf_fini(&text);
}

/* ---- the list; with the lock held ---- */

static size_t find(const struct part *part, const char *url)
{
    size_t i = 0;
    while (i < part->n && strcmp(subscriber_url(part->list[i]), url) != 0)
        i++;
    return i;
}

static void unlist(struct subscribers *all, struct part *part, size_t i)
{
    part->n--;
    all->n--;
    memmove(&part->list[i], &part->list[i + 1], (part->n - i) * sizeof(struct subscriber *));
}

/* It has to be joined, which may take a while. */
static void let_go(struct subscribers *all, struct subscriber *subscriber)
{
    subscriber_end(subscriber, true);
    all->leaving = mem_realloc(all->leaving, (all->n_listed + 1) * sizeof(struct subscriber *));
    all->leaving[all->n_listed++] = subscriber;
    all->n_leaving++;
    wake_keeper(all);
}

/* On the subscriber's thread. */
static void on_over(void *arg)
{
    struct subscribers *all = arg;
    pthread_mutex_lock(&all->lock);
    wake_keeper(all);
    pthread_mutex_unlock(&all->lock);
}

static struct subscriber *enlist(struct subscribers *all, struct part *part, const char *url,
                                 const struct subscriber_place *place)
{
    struct subscriber_options options = {
        .source = part->name,
        .url = url,
        .journal = part->journal,
        .redact = all->o.redact,
        .metrics = part->metrics,
        .give_up_ms = all->o.give_up_ms,
        .over = on_over,
        .arg = all,
    };
    struct subscriber *subscriber = subscriber_new(&options, place);
    part->list = mem_realloc(part->list, (part->n + 1) * sizeof *part->list);
    part->list[part->n++] = subscriber;
    all->n++;
    return subscriber;
}

/* ---- the one who keeps it ---- */

static void drop_given_up(struct subscribers *all)
{
    struct subscriber_status status;
    for (size_t p = 0; p < all->o.n_sources; p++) {
        struct part *part = &all->parts[p];
        for (size_t i = part->n; i-- > 0;) {
            subscriber_get_status(part->list[i], &status);
            if (status.state != SUBSCRIBER_GIVEN_UP)
                continue;
            struct subscriber *gone = part->list[i];
            unlist(all, part, i);
            part->changes++;
            let_go(all, gone);
        }
    }
}

/* With the lock held, which it leaves meanwhile. */
static void join_leaving(struct subscribers *all)
{
    struct subscriber **gone = all->leaving;
    size_t n = all->n_listed;
    all->leaving = NULL;
    all->n_listed = 0;
    pthread_mutex_unlock(&all->lock);
    for (size_t i = 0; i < n; i++)
        subscriber_free(&gone[i]);
    free(gone);
    pthread_mutex_lock(&all->lock);
    all->n_leaving -= n;
}

static void wait_for_work(struct subscribers *all)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += KEEP_MS / 1000;
    while (!all->stopping && !all->work &&
           pthread_cond_timedwait(&all->wake, &all->lock, &until) == 0)
        ;
    all->work = false;
}

static void *keep(void *arg)
{
    struct subscribers *all = arg;
    pthread_mutex_lock(&all->lock);
    while (!all->stopping) {
        wait_for_work(all);
        drop_given_up(all);
        join_leaving(all);
        pthread_mutex_unlock(&all->lock);
        for (size_t i = 0; i < all->o.n_sources; i++)
            if (all->parts[i].metrics != NULL)
                write_synced(all, &all->parts[i]);
        pthread_mutex_lock(&all->lock);
    }
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

/* ---- open and close ---- */

/* With nobody else there yet. */
static int take_up(struct subscribers *all, struct part *part, struct err *err)
{
    struct kept_subscriber *kept;
    size_t n;
    if (subscribers_file_read(journal_dir(part->journal), &kept, &n, err) != 0)
        return -1;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (find(part, kept[i].url) < part->n)
            continue;
        if (all->n >= all->o.max) {
            log_error("callback_dropped", LOG_STR("source", part->name),
                      LOG_STR("why", "more are registered than max_subscribers"));
            continue;
        }
        struct subscriber_place place = subscriber_place_in(part->journal, &kept[i].place);
        rc = subscriber_start(enlist(all, part, kept[i].url, &place), err);
    }
    if (n > 0)
        log_info("callbacks_taken_up", LOG_STR("source", part->name),
                 LOG_INT("callbacks", part->n));
    render(part, &part->written);
    subscribers_file_free(kept, n);
    return rc;
}

static int open_parts(struct subscribers *all, struct err *err)
{
    for (size_t i = 0; i < all->o.n_sources; i++) {
        const struct mirror_source *source = &all->o.sources[i];
        all->parts[i] = (struct part){.name = source->name, .journal = source->journal};
        if (!source->is_marathon || all->o.max == 0)
            continue;
        all->parts[i].metrics =
            metrics_new(bridge_metrics(all->o.bridge), METRICS_CALLBACKS, source->name, NULL);
        if (take_up(all, &all->parts[i], err) != 0)
            return -1;
    }
    return 0;
}

static void on_status(void *arg, size_t i, struct json_t *source);

int subscribers_open(struct subscribers **out, const struct subscribers_options *options,
                     struct err *err)
{
    struct subscribers *all = mem_zalloc(sizeof *all);
    *out = all;
    all->o = *options;
    all->parts = mem_zalloc((options->n_sources + 1) * sizeof *all->parts);
    pthread_mutex_init(&all->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&all->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (open_parts(all, err) != 0) {
        subscribers_close(out);
        return err_wrap(err, "callbacks");
    }
    bridge_on_status(options->bridge, on_status, all);
    int rc = options->max > 0 ? pthread_create(&all->keeper, NULL, keep, all) : 0;
    all->started = rc == 0 && options->max > 0;
    if (rc != 0) {
        subscribers_close(out);
        return err_set(err, ERR_FATAL, "callbacks: thread: %s", strerror(rc));
    }
    return 0;
}

static void stop_keeper(struct subscribers *all)
{
    if (!all->started)
        return;
    pthread_mutex_lock(&all->lock);
    all->stopping = true;
    wake_keeper(all);
    pthread_mutex_unlock(&all->lock);
    pthread_join(all->keeper, NULL);
}

static void end_all(struct subscribers *all, bool cut)
{
    for (size_t p = 0; p < all->o.n_sources; p++)
        for (size_t i = 0; i < all->parts[p].n; i++)
            subscriber_end(all->parts[p].list[i], cut);
}

static bool all_ended(struct subscribers *all)
{
    struct subscriber_status status;
    for (size_t p = 0; p < all->o.n_sources; p++)
        for (size_t i = 0; i < all->parts[p].n; i++) {
            subscriber_get_status(all->parts[p].list[i], &status);
            if (status.state != SUBSCRIBER_ENDED && status.state != SUBSCRIBER_GIVEN_UP)
                return false;
        }
    return true;
}

static void close_part(struct subscribers *all, struct part *part)
{
    for (size_t i = 0; i < part->n; i++)
        subscriber_join(part->list[i]);
    if (all->started && part->metrics != NULL)
        write_synced(all, part);
    for (size_t i = 0; i < part->n; i++)
        subscriber_free(&part->list[i]);
    free(part->list);
    buf_fini(&part->written);
}

void subscribers_close(struct subscribers **subscribers)
{
    struct subscribers *all = *subscribers;
    if (all == NULL)
        return;
    bridge_on_status(all->o.bridge, NULL, NULL);
    stop_keeper(all);
    end_all(all, false);
    /* By looks, not by the clock: where the machine stood still, no answer could come. */
    for (int looks = LAST_ANSWERS_MS / LAST_LOOK_MS; looks > 0 && !all_ended(all); looks--)
        poll(NULL, 0, LAST_LOOK_MS);
    end_all(all, true);
    for (size_t i = 0; i < all->o.n_sources; i++)
        close_part(all, &all->parts[i]);
    pthread_mutex_lock(&all->lock);
    join_leaving(all);
    pthread_mutex_unlock(&all->lock);
    pthread_cond_destroy(&all->wake);
    pthread_mutex_destroy(&all->lock);
    free(all->parts);
    free(all);
    *subscribers = NULL;
}

/* ---- the mirror's thread ---- */

/* With the lock held. */
static enum subscribers_answer add(struct subscribers *all, struct part *part, const char *url,
                                   struct err *err)
{
    if (all->n >= all->o.max || all->n_leaving >= all->o.max)
        return SUBSCRIBERS_FULL;
    struct subscriber_place place = subscriber_place_now(part->journal);
    struct subscriber *subscriber = enlist(all, part, url, &place);
    if (write_now(all, part, err) == 0 && subscriber_start(subscriber, err) == 0)
        return SUBSCRIBERS_DONE;
    unlist(all, part, part->n - 1);
    part->changes++;
    let_go(all, subscriber);
    return SUBSCRIBERS_FAILED;
}

enum subscribers_answer subscribers_add(struct subscribers *all, size_t source, const char *url,
                                        struct err *err)
{
    struct part *part = &all->parts[source];
    enum subscribers_answer answer = SUBSCRIBERS_DONE;
    if (all->o.max == 0)
        return SUBSCRIBERS_OFF;
    pthread_mutex_lock(&all->lock);
    size_t i = find(part, url);
    if (i < part->n)
        subscriber_again(part->list[i]);
    else
        answer = add(all, part, url, err);
    pthread_mutex_unlock(&all->lock);
    return answer;
}

enum subscribers_answer subscribers_remove(struct subscribers *all, size_t source, const char *url)
{
    struct part *part = &all->parts[source];
    struct err err;
    if (all->o.max == 0)
        return SUBSCRIBERS_OFF;
    pthread_mutex_lock(&all->lock);
    size_t i = find(part, url);
    if (i < part->n) {
        struct subscriber *gone = part->list[i];
        unlist(all, part, i);
        let_go(all, gone);
        if (write_now(all, part, &err) != 0)
            note_not_written(part, &err);
    }
    pthread_mutex_unlock(&all->lock);
    return SUBSCRIBERS_DONE;
}

void subscribers_tell(struct subscribers *all, size_t source, struct str bytes)
{
    struct part *part = &all->parts[source];
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < part->n; i++)
        subscriber_tell(part->list[i], bytes);
    pthread_mutex_unlock(&all->lock);
}

void subscribers_list(struct subscribers *all, size_t source, struct buf *out)
{
    struct part *part = &all->parts[source];
    buf_append_char(out, '[');
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < part->n; i++) {
        if (i > 0)
            buf_append_char(out, ',');
        buf_append_json(out, str_from(subscriber_url(part->list[i])));
    }
    pthread_mutex_unlock(&all->lock);
    buf_append_char(out, ']');
}

void subscribers_count(struct subscribers *all)
{
    pthread_mutex_lock(&all->lock);
    for (size_t p = 0; p < all->o.n_sources; p++) {
        struct part *part = &all->parts[p];
        struct subscriber_status status;
        uint64_t lag = 0, retrying = 0;
        if (part->metrics == NULL)
            continue;
        for (size_t i = 0; i < part->n; i++) {
            subscriber_get_status(part->list[i], &status);
            lag = status.lag_events > lag ? status.lag_events : lag;
            retrying += status.state == SUBSCRIBER_RETRYING;
        }
        metrics_set(part->metrics, METRIC_CALLBACK_SUBSCRIBERS, part->n);
        metrics_set(part->metrics, METRIC_CALLBACK_RETRYING, retrying);
        metrics_set(part->metrics, METRIC_CALLBACK_LAG_EVENTS, lag);
    }
    pthread_mutex_unlock(&all->lock);
}

/* ---- /status ---- */

static json_t *time_json(int64_t wall_us)
{
    char text[CLOCK_TEXT_MAX];
    if (wall_us == 0)
        return json_null();
    clock_format(wall_us, text);
    return json_string(text);
}

static json_t *subscriber_json(struct subscriber *subscriber)
{
    struct subscriber_status s;
    struct buf label = {0};
    subscriber_get_status(subscriber, &s);
    subscriber_url_label(&label, subscriber_url(subscriber));
    json_t *made =
        json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "url",
                  buf_cstr(&label), "state", subscriber_state_name(s.state), "since",
                  time_json(s.state_us), "registered", time_json(s.place.since_us), "seq",
                  (json_int_t)(s.place.seq - 1), "lag_events", (json_int_t)s.lag_events,
                  "delivered", (json_int_t)s.delivered, "retried", (json_int_t)s.retried, "skipped",
                  (json_int_t)s.skipped, "last_delivered", time_json(s.delivered_us), "last_error",
                  s.detail[0] != '\0' ? json_string(s.detail) : json_null());
    buf_fini(&label);
    return made;
}

static void on_status(void *arg, size_t i, struct json_t *source)
{
    struct subscribers *all = arg;
    struct part *part = &all->parts[i];
    if (part->metrics == NULL)
        return;
    json_t *list = json_array();
    pthread_mutex_lock(&all->lock);
    for (size_t k = 0; k < part->n; k++)
        json_array_append_new(list, subscriber_json(part->list[k]));
    pthread_mutex_unlock(&all->lock);
    json_object_set_new(source, "subscribers", list);
}
