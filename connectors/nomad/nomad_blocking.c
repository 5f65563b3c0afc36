/* nomad_blocking.c - a Nomad region as a source without its event stream: the thread.
 *
 * One server at a time: which tables there are, has the index started over, then long polls that
 * only say that something changed (nomad_blocking_watch), and a round through the tables each time
 * they do (nomad_blocking_round). On a busy cluster a round follows the other with as long a pause
 * as it took. Any trouble ends the connection; the next server of the list follows, and what was
 * known goes with it. */
#include "connectors/nomad/nomad_blocking.h"

#include "bridge/base/clock.h"
#include "connectors/nomad/nomad_blocking_round.h"
#include "connectors/nomad/nomad_blocking_watch.h"
#include "connectors/nomad/nomad_leader.h"
#include "connectors/nomad/nomad_region.h"
#include "connectors/nomad/nomad_settings.h"

#include <stdlib.h>

enum {
    ROUND_EVERY_MS = 250, /* on the average, from beginning to beginning, at most */
    ROUNDS_IN_A_ROW = 4,  /* after a quiet time: a change is seldom alone */
    /* From a change to the round that reads it: Nomad applies one index in several steps (a job,
     * its evaluation, the job's status), some 100 µs apart, and a table that says the same index
     * twice does not say that it changed. */
    SETTLE_MS = 20,
    LOOK_MS = 100,
    QUIET_MS = 10000, /* without an answer for so long: is the server still there? */
    LABEL_MAX = 256,
};

struct nomad_blocking {
    struct nomad_region region;
    struct blocking poll;
};

/* One connection. */
struct visit {
    struct blocking *poll;
    struct blocking_watch *watch;
    const char *server;
    bool fruitful;    /* a round came to its end */
    int64_t round_ms; /* the next one not before this */
    int64_t paced_ms; /* when it would be due by ROUND_EVERY_MS alone */
    int64_t quiet_ms;
};

static void *create(const void *settings, struct ingest *ingest)
{
    struct nomad_blocking *self = mem_zalloc(sizeof *self);
    struct str source = ingest_source(ingest);
    nomad_region_init(&self->region, settings, ingest);
    self->poll.settings = &self->region.settings;
    self->poll.ingest = ingest;
    self->poll.filter = nomad_filter(settings);
    snprintf(self->poll.source, sizeof self->poll.source, "%.*s", STR_ARG(source));
    return self;
}

static void destroy(void *arg)
{
    struct nomad_blocking *self = arg;
    if (self != NULL) {
        blocking_fini(&self->poll);
        nomad_region_fini(&self->region);
    }
    free(self);
}

/* ---- where to begin ---- */

/* Once in a process. After a restart what was modified at the last index is told again: of that
 * index the rest may be missing, and what is known is marked as a repeat. */
static void place(struct blocking *b)
{
    struct ingest_resume resume = ingest_resume(b->ingest);
    if (b->placed)
        return;
    b->placed = true;
    if (resume.known) {
        uint64_t last = ingest_last_index(b->ingest);
        order_start(&b->order, last, last);
    } else if (ingest_start(b->ingest) == SOURCE_START_OLDEST) {
        order_start(&b->order, 0, 0);
    } else {
        order_start(&b->order, blocking_newest(b) + 1, 0);
    }
}

/* All tables are below what was told: has the index started over, or does who answers only lag? */
static int check_place(struct visit *v, struct err *err)
{
    struct blocking *b = v->poll;
    enum leader_verdict verdict;
    uint64_t last = ingest_last_index(b->ingest);
    if (blocking_newest(b) >= last)
        return 0;
    if (nomad_leader_judge(b->settings, v->server, ingest_stop(b->ingest), last, &verdict, err) !=
        0)
        return err_wrap(err, "an index below the last: a rebuilt cluster or a server that lags?");
    if (verdict != LEADER_STARTED_OVER)
        return 0;
    order_reset(&b->order);
    if (ingest_started_over(b->ingest, err) == 0)
        return 0;
    b->failed = true;
    b->failure = *err;
    return -1;
}

static int attach(struct visit *v, const char *label, struct err *err)
{
    struct blocking *b = v->poll;
    if (blocking_survey(b, err) != 0)
        return -1;
    place(b);
    if (check_place(v, err) != 0)
        return -1;
    ingest_state(b->ingest, SOURCE_ATTACHED, label, NULL);
    v->watch = blocking_watch_start(b->settings, v->server, b->tables, b->n_tables);
    v->quiet_ms = clock_mono_ms();
    v->round_ms = v->quiet_ms + SETTLE_MS;
    return 0;
}

/* ---- staying ---- */

static int go_round(struct visit *v, struct err *err)
{
    int64_t begun_ms = clock_mono_ms();
    if (blocking_round(v->poll, err) != 0)
        return -1;
    v->fruitful = true;
    v->quiet_ms = clock_mono_ms();
    int64_t took_ms = v->quiet_ms - begun_ms;
    int64_t earliest_ms = begun_ms - (int64_t)(ROUNDS_IN_A_ROW - 1) * ROUND_EVERY_MS;
    v->paced_ms = (v->paced_ms > earliest_ms ? v->paced_ms : earliest_ms) + ROUND_EVERY_MS;
    v->round_ms = v->quiet_ms + (took_ms > SETTLE_MS ? took_ms : SETTLE_MS);
    if (v->round_ms < v->paced_ms)
        v->round_ms = v->paced_ms;
    blocking_charge(v->poll, blocking_watch_resume(v->watch));
    ingest_heartbeat(v->poll->ingest);
    return 0;
}

/* Long polls stay open for minutes, also those to a server that is frozen or cut off. */
static int check_quiet(struct visit *v, struct err *err)
{
    struct blocking *b = v->poll;
    int64_t now_ms = clock_mono_ms(), heard_ms = blocking_watch_heard_ms(v->watch);
    if (heard_ms > v->quiet_ms)
        v->quiet_ms = heard_ms;
    if (now_ms - v->quiet_ms < QUIET_MS)
        return 0;
    if (nomad_leader_is_known(b->settings, v->server, ingest_stop(b->ingest),
                              (int)b->settings->connect_timeout_ms, err) != 0)
        return -1;
    v->quiet_ms = clock_mono_ms();
    ingest_heartbeat(b->ingest);
    return 0;
}

static int step(struct visit *v, struct err *err)
{
    int64_t left_ms = v->round_ms - clock_mono_ms();
    bool due = blocking_is_due(v->poll);
    if (due && left_ms <= 0)
        return go_round(v, err);
    if (due && stop_wait(ingest_stop(v->poll->ingest), left_ms < LOOK_MS ? (int)left_ms : LOOK_MS))
        return 0;
    if (blocking_watch_wait(v->watch, due ? 0 : LOOK_MS, err) < 0)
        return -1;
    if (!due && left_ms < SETTLE_MS)
        v->round_ms = clock_mono_ms() + SETTLE_MS;
    return blocking_flush(v->poll, err) == 0 ? check_quiet(v, err) : -1;
}

/* From connecting to the end of it; -1 with the reason, unless it is time to stop. */
static int visit(struct visit *v, struct err *err)
{
    struct blocking *b = v->poll;
    struct buf label = {0};
    char name[LABEL_MAX];
    http_url_label(&label, v->server);
    snprintf(name, sizeof name, "%s", buf_cstr(&label));
    buf_fini(&label);
    ingest_state(b->ingest, SOURCE_CONNECTING, name, NULL);
    blocking_open(b, v->server);
    int rc = attach(v, name, err);
    while (rc == 0 && !stop_requested(ingest_stop(b->ingest)))
        rc = step(v, err);
    blocking_watch_stop(&v->watch);
    blocking_close(b);
    struct err flush_err;
    if (!b->failed && ingest_flush(b->ingest, &flush_err) != 0) {
        b->failed = true;
        b->failure = flush_err;
    }
    if (rc != 0 && !b->failed && !stop_requested(ingest_stop(b->ingest)))
        ingest_state(b->ingest, SOURCE_BACKOFF, name, err->msg);
    return rc;
}

/* ---- the thread ---- */

static int run(void *arg, struct err *err)
{
    struct nomad_blocking *self = arg;
    const struct setting_list *servers = &self->region.settings.servers;
    struct stop *stop = ingest_stop(self->region.ingest);
    unsigned fruitless = 0;
    for (size_t i = 0; !stop_requested(stop); i = (i + 1) % servers->n) {
        struct visit v = {.poll = &self->poll, .server = servers->items[i]};
        struct err why = {ERR_RETRY, ""};
        visit(&v, &why);
        if (self->poll.failed && !stop_requested(stop)) {
            *err = self->poll.failure;
            return -1;
        }
        fruitless = v.fruitful ? 0 : fruitless + 1;
        nomad_region_wait(&self->region, fruitless);
    }
    return 0;
}

const struct source_ops nomad_blocking_source = {
    .type = "nomad_blocking",
    .rows = nomad_blocking_rows,
    .settings_size = sizeof(struct nomad_settings),
    .check = nomad_check,
    .filter = nomad_filter,
    .start = nomad_start,
    .digest = nomad_digest_if_wanted,
    .tells_state = true,
    .is_nomad = nomad_region_is_nomad,
    .snapshot_rate = nomad_region_snapshot_rate,
    .snapshot = nomad_region_snapshot,
    .create = create,
    .run = run,
    .destroy = destroy,
};
