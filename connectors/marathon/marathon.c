/* marathon.c - a Marathon as a source: the thread that keeps a stream open.
 *
 * What Marathon tells while nobody listens is lost, so all here is about being back soon. A stream
 * that stood is followed at once by one try of each server; then a tenth of the time without a
 * stream passes between two rounds through the list, from 0.05 s to 10 s. So the time without a
 * stream is at most some tenth longer than Marathon itself was away. Redirects to the leader are
 * followed; those that lead to a dead one (for 9 s after a SIGKILL) or round in a circle are a
 * fruitless try like any other. */
#include "connectors/marathon/marathon.h"

#include "bridge/base/clock.h"
#include "connectors/http_token.h"
#include "connectors/marathon/marathon_settings.h"
#include "connectors/marathon/marathon_snapshot.h"
#include "connectors/marathon/marathon_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HOPS_MAX = 5,
    WAIT_LEAST_MS = 50,
    WAIT_MOST_MS = 10000,
    REFUSED_LEAST_MS = 250,
    AWAY_SHARE = 10,       /* of the time without a stream */
    DEAD_LEADER_SHARE = 5, /* of connect_timeout, for one that could not be reached before */
};

/* What a server of the list said last. */
struct trouble {
    char msg[sizeof((struct err *)0)->msg];
    char label[MARATHON_LABEL_MAX];
};

struct marathon {
    struct marathon_settings settings; /* with the token's file, which has a state */
    struct ingest *ingest;
    struct marathon_place place;
    struct trouble *troubles;              /* of each server since the last stream that stood */
    struct trouble told;                   /* the last one that was told to ingest */
    char dead_leader[MARATHON_SERVER_MAX]; /* no connection to it since then; "": none */
};

static void *create(const void *settings, struct ingest *ingest)
{
    struct marathon *self = mem_zalloc(sizeof *self);
    self->settings = *(const struct marathon_settings *)settings;
    self->settings.file_token = http_token_new(self->settings.token_file);
    self->ingest = ingest;
    self->troubles = mem_zalloc(self->settings.servers.n * sizeof *self->troubles);
    pthread_mutex_init(&self->place.lock, NULL);
    return self;
}

static void destroy(void *arg)
{
    struct marathon *self = arg;
    if (self == NULL)
        return;
    http_token_free(&self->settings.file_token);
    pthread_mutex_destroy(&self->place.lock);
    free(self->troubles);
    free(self);
}

/* On another thread than `run`: of the source it shares what never changes, and the place. */
static int snapshot(void *arg, struct resync *resync, struct err *err)
{
    struct marathon *self = arg;
    char server[MARATHON_SERVER_MAX];
    marathon_place_get(&self->place, server);
    return marathon_snapshot(&self->settings, self->ingest, server, resync, err);
}

/* ---- to the leader ---- */

/* The servers of one try: the one of the list, and where its redirects led; as
 * marathon_leader_normal writes them. */
struct chain {
    char hops[HOPS_MAX][MARATHON_SERVER_MAX];
    size_t n;
};

static int add_hop(struct chain *chain, const char *server, struct err *err)
{
    for (size_t i = 0; i < chain->n; i++)
        if (strcmp(chain->hops[i], server) == 0)
            return err_set(err, ERR_RETRY,
                           "the redirects to the leader go round in a circle: it is not known "
                           "there yet who leads");
    if (chain->n == HOPS_MAX)
        return err_set(err, ERR_RETRY, "redirected %d times, and still not at the leader",
                       HOPS_MAX);
    snprintf(chain->hops[chain->n++], MARATHON_SERVER_MAX, "%s", server);
    return 0;
}

static bool is_dead_leader(const struct marathon *self, const char *server)
{
    return strcmp(self->dead_leader, server) == 0;
}

/* One that could not be reached is not waited for as long again: whoever names it may know better
 * any moment. */
static void ask_leader(struct marathon *self, const char *leader, const char *named_by,
                       struct marathon_outcome *out)
{
    struct marathon_settings settings = self->settings;
    if (is_dead_leader(self, leader))
        settings.connect_timeout_ms /= DEAD_LEADER_SHARE;
    marathon_stream_run(&settings, self->ingest, &self->place, leader, out);
    bool silent = out->end == MARATHON_LOST && !out->answered;
    if (silent)
        snprintf(self->dead_leader, sizeof self->dead_leader, "%s", leader);
    else if (out->answered)
        self->dead_leader[0] = '\0';
    if (out->end == MARATHON_LOST && !out->attached)
        err_wrap(&out->err, "the leader that %.120s names", named_by);
}

/* Asks a server of the list, and whom it calls the leader, and so on. */
static void visit(struct marathon *self, const char *server, struct marathon_outcome *out)
{
    struct chain chain = {.n = 1};
    if (!marathon_leader_normal(server, chain.hops[0]))
        snprintf(chain.hops[0], MARATHON_SERVER_MAX, "%s", server);
    marathon_stream_run(&self->settings, self->ingest, &self->place, server, out);
    while (out->end == MARATHON_REDIRECT) {
        if (add_hop(&chain, out->leader, &out->err) != 0) {
            out->end = MARATHON_LOST;
            return;
        }
        ask_leader(self, chain.hops[chain.n - 1], chain.hops[chain.n - 2], out);
    }
}

/* ---- the thread ---- */

/* The servers of a list may each have a trouble of their own: each is told once, not whenever the
 * next one's turn has come. */
static void tell_trouble(struct marathon *self, size_t i, const struct marathon_outcome *out)
{
    struct trouble *last = &self->troubles[i];
    if (out->attached)
        memset(self->troubles, 0, self->settings.servers.n * sizeof *self->troubles);
    if (strcmp(last->msg, out->err.msg) != 0) {
        snprintf(last->msg, sizeof last->msg, "%s", out->err.msg);
        snprintf(last->label, sizeof last->label, "%s", out->label);
        self->told = *last;
    }
    ingest_state(self->ingest, SOURCE_BACKOFF, self->told.label, self->told.msg);
}

/* For one that was away so long. */
static int away_wait_ms(int64_t away_ms)
{
    int64_t wait_ms = away_ms / AWAY_SHARE;
    if (wait_ms < WAIT_LEAST_MS)
        wait_ms = WAIT_LEAST_MS;
    if (wait_ms > WAIT_MOST_MS)
        wait_ms = WAIT_MOST_MS;
    return clock_backoff_ms(1, (int)wait_ms, (int)wait_ms);
}

/* Between two rounds through the list. Who is refused asks less and less often. */
static void wait_a_while(struct marathon *self, size_t fruitless, int64_t since_ms, bool refused)
{
    size_t n = self->settings.servers.n;
    if (fruitless == 0 || fruitless % n != 0)
        return;
    int wait_ms = refused
                      ? clock_backoff_ms((unsigned)(fruitless / n), REFUSED_LEAST_MS, WAIT_MOST_MS)
                      : away_wait_ms(clock_mono_ms() - since_ms);
    http_token_wait(self->settings.file_token, ingest_stop(self->ingest), wait_ms);
}

static int run(void *arg, struct err *err)
{
    struct marathon *self = arg;
    const struct setting_list *servers = &self->settings.servers;
    struct stop *stop = ingest_stop(self->ingest);
    struct marathon_outcome out = {.end = MARATHON_LOST};
    size_t fruitless = 0; /* tries since a stream stood */
    int64_t since_ms = clock_mono_ms();
    for (size_t i = 0; !stop_requested(stop);) {
        visit(self, servers->items[i], &out);
        if (out.end != MARATHON_LOST)
            break;
        tell_trouble(self, i, &out);
        fruitless = out.stood ? 0 : fruitless + 1;
        if (out.stood)
            since_ms = clock_mono_ms();
        else
            i = (i + 1) % servers->n;
        wait_a_while(self, fruitless, since_ms, out.refused);
    }
    if (out.end != MARATHON_FAILED || stop_requested(stop))
        return 0;
    *err = out.err;
    return -1;
}

const struct source_ops marathon_source = {
    .type = "marathon",
    .rows = marathon_rows,
    .settings_size = sizeof(struct marathon_settings),
    .check = marathon_check,
    .filter = marathon_filter,
    .start = marathon_start,
    .no_replay = true,
    .is_marathon = marathon_is_marathon,
    .snapshot_rate = marathon_snapshot_rate,
    .snapshot = snapshot,
    .create = create,
    .run = run,
    .destroy = destroy,
};
