/* nomad_blocking_watch.c - long polls, one thread and one connection for each table.
 *
 *     asking ──above what was asked with──▶ changed ──blocking_watch_resume──▶ asking
 *       └──no answer, none of this table, a lower index──▶ failed (the first one's error counts)
 *
 * A table that changed is not asked for again before its change was read: a busy cluster is asked
 * as often as it is read, not as often as it changes. */
#include "connectors/nomad/nomad_blocking_watch.h"

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/hash.h"
#include "bridge/base/stop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum {
    GRACE_MS = 10000, /* for an answer that is due */
    STACK_BYTES = 512 * 1024,
    LEAST_MS =
        1000, /* a server that answers "nothing changed" sooner than this is asked no faster */
};

struct watcher {
    struct blocking_watch *watch;
    const struct snapshot_topic *topic;
    size_t table;
    pthread_t thread;
    uint64_t after; /* what is asked with; guarded */
    bool changed;   /* guarded */
};

struct blocking_watch {
    const struct nomad_settings *settings;
    const char *server;
    struct blocking_table *tables;
    struct watcher watchers[BLOCKING_TABLES_MAX];
    size_t n;
    struct stop *stop;
    pthread_mutex_t lock;
    pthread_cond_t news, go;
    /* guarded: */
    bool ended, failed, any_changed;
    struct err err;
    int64_t heard_ms;
};

static void fail(struct blocking_watch *w, const struct err *err)
{
    pthread_mutex_lock(&w->lock);
    if (!w->failed)
        w->err = *err;
    w->failed = true;
    pthread_cond_signal(&w->news);
    pthread_mutex_unlock(&w->lock);
}

/* False where it is time to end. */
static bool wait_for_go(struct watcher *self, uint64_t *after)
{
    struct blocking_watch *w = self->watch;
    pthread_mutex_lock(&w->lock);
    while (self->changed && !w->ended)
        pthread_cond_wait(&w->go, &w->lock);
    *after = self->after;
    bool go = !w->ended;
    pthread_mutex_unlock(&w->lock);
    return go;
}

static void take_index(struct watcher *self, uint64_t index)
{
    struct blocking_watch *w = self->watch;
    pthread_mutex_lock(&w->lock);
    w->heard_ms = clock_mono_ms();
    if (index > self->after) {
        self->after = index;
        self->changed = w->any_changed = true;
        pthread_cond_signal(&w->news);
    }
    pthread_mutex_unlock(&w->lock);
}

/* One question; -1 ends the thread. */
static int ask(struct watcher *self, struct snapshot_http *http, struct snapshot_answer *answer,
               uint64_t after)
{
    uint64_t index;
    struct err err;
    int64_t asked_ms = clock_mono_ms();
    if (blocking_table_ask(http, self->topic, after, answer, &index, &err) != 0) {
        fail(self->watch, &err);
        return -1;
    }
    if (index < after) {
        char said[128];
        snapshot_answer_describe(answer, said, sizeof said);
        if (index == 0)
            err_set(&err, ERR_RETRY, "%s: the server answered %s", self->topic->list, said);
        else
            err_set(&err, ERR_RETRY, "%s: its index went back, from %llu to %llu",
                    self->topic->list, (unsigned long long)after, (unsigned long long)index);
        fail(self->watch, &err);
        return -1;
    }
    take_index(self, index);
    int64_t took_ms = clock_mono_ms() - asked_ms;
    if (index == after && took_ms < LEAST_MS)
        stop_wait(self->watch->stop, (int)(LEAST_MS - took_ms));
    return 0;
}

static void *run(void *arg)
{
    struct watcher *self = arg;
    struct blocking_watch *w = self->watch;
    const struct snapshot_asker asker = {.stop = w->stop};
    struct snapshot_trouble trouble = {0};
    struct snapshot_answer answer = {0};
    struct snapshot_http http;
    uint64_t after;
    snapshot_http_init(&http, w->settings, &asker, w->server, &trouble);
    /* Nomad adds up to a sixteenth to the wait. */
    http.silence_ms = (int)(w->settings->wait_ms + w->settings->wait_ms / 16) + GRACE_MS;
    while (wait_for_go(self, &after) && ask(self, &http, &answer, after) == 0)
        ;
    snapshot_answer_fini(&answer);
    snapshot_http_fini(&http);
    return NULL;
}

/* ---- the other side ---- */

static void start_thread(struct watcher *watcher)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    if (pthread_create(&watcher->thread, &attr, run, watcher) != 0)
        abort();
    pthread_attr_destroy(&attr);
}

struct blocking_watch *blocking_watch_start(const struct nomad_settings *settings,
                                            const char *server, struct blocking_table *tables,
                                            size_t n)
{
    struct blocking_watch *w = mem_zalloc(sizeof *w);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&w->go, NULL);
    pthread_mutex_init(&w->lock, NULL);
    w->settings = settings;
    w->server = server;
    w->tables = tables;
    w->stop = stop_new();
    w->heard_ms = clock_mono_ms();
    for (size_t i = 0; i < n; i++)
        if (tables[i].readable)
            w->watchers[w->n++] = (struct watcher){
                .watch = w, .topic = tables[i].topic, .table = i, .after = tables[i].seen};
    for (size_t i = 0; i < w->n; i++)
        start_thread(&w->watchers[i]);
    return w;
}

void blocking_watch_stop(struct blocking_watch **watch)
{
    struct blocking_watch *w = *watch;
    if (w == NULL)
        return;
    stop_request(w->stop);
    pthread_mutex_lock(&w->lock);
    w->ended = true;
    pthread_cond_broadcast(&w->go);
    pthread_mutex_unlock(&w->lock);
    for (size_t i = 0; i < w->n; i++)
        pthread_join(w->watchers[i].thread, NULL);
    stop_free(&w->stop);
    pthread_cond_destroy(&w->news);
    pthread_cond_destroy(&w->go);
    pthread_mutex_destroy(&w->lock);
    free(w);
    *watch = NULL;
}

static struct timespec deadline(int timeout_ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += timeout_ms / 1000;
    at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

int blocking_watch_wait(struct blocking_watch *w, int timeout_ms, struct err *err)
{
    struct timespec until = deadline(timeout_ms);
    pthread_mutex_lock(&w->lock);
    while (!w->any_changed && !w->failed &&
           pthread_cond_timedwait(&w->news, &w->lock, &until) != ETIMEDOUT)
        ;
    int rc = w->any_changed ? 1 : 0;
    for (size_t i = 0; i < w->n; i++) {
        struct blocking_table *table = &w->tables[w->watchers[i].table];
        if (w->watchers[i].after > table->seen)
            table->seen = w->watchers[i].after;
    }
    if (w->failed) {
        *err = w->err;
        rc = -1;
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

size_t blocking_watch_resume(struct blocking_watch *w)
{
    size_t n = 0;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->n; i++) {
        struct watcher *watcher = &w->watchers[i];
        struct blocking_table *table = &w->tables[watcher->table];
        if (watcher->after > table->seen)
            table->seen = watcher->after; /* changed since blocking_watch_wait */
        watcher->after = table->seen;     /* of the next question */
        n += watcher->changed;
        watcher->changed = false;
    }
    w->any_changed = false;
    pthread_cond_broadcast(&w->go);
    pthread_mutex_unlock(&w->lock);
    return n;
}

int64_t blocking_watch_heard_ms(struct blocking_watch *w)
{
    pthread_mutex_lock(&w->lock);
    int64_t heard_ms = w->heard_ms;
    pthread_mutex_unlock(&w->lock);
    return heard_ms;
}
