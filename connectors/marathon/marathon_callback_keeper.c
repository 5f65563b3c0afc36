/* marathon_callback_keeper.c - keeps the callback registered at a Marathon.
 *
 * One question is under way at a time; its answer decides on the next one:
 *
 *   LIST: is the callback there? no: REGISTER. yes, but no call came since it is awaited, or none
 *   for long: REGISTER too, which changes nothing in Marathon, but is told to all subscribers. Else
 *   LEADER, METRICS (what Marathon counts as lost), then rest until the next check.
 *   UNREGISTER, followed by REGISTER: where no call comes after a registration; Marathon forgets
 *   its backoff for who is no subscriber (1.4: HttpEventActor.broadcast).
 *
 * As read in Marathon 1.4: core/event/impl/callback. */
#include "connectors/marathon/marathon_callback_keeper.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/http_stream.h"
#include "connectors/marathon/marathon_callback_answer.h"
#include "connectors/marathon/marathon_callback_ask.h"
#include "connectors/marathon/marathon_callback_url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ASKING_LOOK_MS = 10, /* how often is looked whether an answer came */
    ANSWER_MS = 10000,   /* for a whole answer, on top of connect_timeout */
    LEAVE_MS = 2000,     /* for the last DELETE */
    LEAVE_PAUSE_MS = 50, /* before another server is asked for it */
    CALL_MS = 3000,      /* a call has to come so soon after a registration; else: a backoff? */
    UNREACHABLE_MIN_MS = 6000, /* not even after one that ends backoffs: it can't be reached */
    UNREACHABLE_SHARE = 3,     /* at least so often connect_timeout */
    RETRY_LEAST_MS = 15000,    /* before it is tried again then */
    BACKOFF_LEAST_MS = 250,
    RETRY_MOST_MS = 60000,
    LABEL_MAX = 256,
};

enum question { NOTHING, LIST, LEADER, METRICS, REGISTER, UNREGISTER, LEAVE };

struct keeper {
    struct keeper_options o;
    struct callback_ask ask;
    enum question question;
    struct buf path; /* of eventSubscriptions, with the callback's URL */
    size_t server;   /* which of the settings' */
    char label[LABEL_MAX];
    char leader[CALLBACK_LEADER_MAX]; /* as /v2/leader has it; "": not known */
    bool leader_told;
    uint64_t losses;   /* as Marathon counts them, of all callbacks */
    bool losses_known; /* since Marathon calls, from this leader */
    bool is_only;      /* no other callback is in the list */
    bool listed;       /* it is in the list, as far as is known */
    bool called;       /* Marathon has called since that was to be awaited */
    bool suspect;      /* there is reason to believe that Marathon backs off */
    bool renewed;      /* the registration was made anew since a call is awaited */
    bool unsure;       /* calls may still be of a registration that has ended */
    bool unchecked;    /* it calls, and answers nothing: told */
    bool left;
    int64_t next_ms;    /* the next look at the list */
    int64_t asked_ms;   /* of the last registration */
    int64_t awaited_ms; /* since when a call is awaited; 0: it isn't */
    int64_t heard_ms;   /* when Marathon called last */
    int64_t sure_ms;    /* when it answered last, or had called though it did not */
    int64_t leave_ms;   /* no longer than until then */
    unsigned failures;  /* questions in a row without an answer that helps */
    unsigned unreached; /* how often in a row no call came */
};

/* ---- questions ---- */

static const char *server_of(const struct keeper *k)
{
    return k->o.settings->servers.items[k->server];
}

static void set_server(struct keeper *k, size_t server)
{
    struct buf label = {0};
    k->server = server;
    http_url_label(&label, server_of(k));
    snprintf(k->label, sizeof k->label, "%s", buf_cstr(&label));
    buf_fini(&label);
}

static void ask(struct keeper *k, enum question question, const char *method, const char *path)
{
    int64_t timeout_ms =
        question == LEAVE ? LEAVE_MS : k->o.settings->connect_timeout_ms + ANSWER_MS;
    k->question = question;
    callback_ask_open(&k->ask, server_of(k), method, path, timeout_ms);
}

static void ask_list(struct keeper *k)
{
    if (!k->called)
        k->o.asking(k->o.arg, k->label);
    ask(k, LIST, NULL, "/v2/eventSubscriptions");
}

/* A call that comes before the answer to this is one that was awaited. */
static void ask_register(struct keeper *k)
{
    k->asked_ms = clock_mono_ms();
    if (k->awaited_ms == 0)
        k->awaited_ms = k->asked_ms;
    ask(k, REGISTER, "POST", buf_cstr(&k->path));
}

static void lose(struct keeper *k, const char *why)
{
    k->called = k->losses_known = false;
    k->o.lost(k->o.arg, k->label, why);
}

/* ---- answers ---- */

static bool needs_a_call(const struct keeper *k)
{
    return !k->called || clock_mono_ms() - k->heard_ms > k->o.settings->silence_ms;
}

static void rest(struct keeper *k)
{
    k->question = NOTHING;
    if (k->suspect)
        return;
    k->next_ms = clock_mono_ms() + k->o.settings->check_ms;
}

static void renew(struct keeper *k, const char *why)
{
    lose(k, why);
    k->renewed = true;
    k->suspect = false;
    if (k->awaited_ms == 0)
        k->awaited_ms = clock_mono_ms();
    log_info("callback_renewed", LOG_STR("source", k->o.source), LOG_STR("server", k->label),
             LOG_STR("why", why));
    ask(k, UNREGISTER, "DELETE", buf_cstr(&k->path));
}

/* It may have called all the same: what was under way when a registration of before ended. */
static void on_missing(struct keeper *k)
{
    if (k->listed || k->called)
        lose(k, "Marathon's list of subscribers does not have this callback any more: deleted, or "
                "Marathon lost its storage");
    k->listed = false;
    k->unsure = true;
    k->awaited_ms = 0;
    ask_register(k);
}

static int on_list(struct keeper *k, struct err *err)
{
    struct callback_list list;
    if (callback_answer_list(buf_str(&k->ask.body), k->o.settings->callback_url, &list, err) != 0)
        return -1;
    k->is_only = list.n == 1;
    if (!list.listed) {
        on_missing(k);
        return 0;
    }
    if (!k->listed)
        log_info("callback_found", LOG_STR("source", k->o.source), LOG_STR("server", k->label));
    k->listed = true;
    if (k->unsure && k->called) /* its subscribe_event did not come */
        k->o.missed(k->o.arg, "it was registered anew, and was not told of that");
    k->unsure = k->unsure && !k->called;
    k->o.checked(k->o.arg);
    if (k->suspect)
        renew(k, "Marathon backs off after calls that failed");
    else if (k->awaited_ms == 0 && needs_a_call(k))
        ask_register(k);
    else
        ask(k, LEADER, NULL, "/v2/leader");
    return 0;
}

static void on_leader(struct keeper *k)
{
    char leader[CALLBACK_LEADER_MAX], why[2 * CALLBACK_LEADER_MAX + 128];
    callback_answer_leader(buf_str(&k->ask.body), leader);
    bool changed = leader[0] != '\0' && k->leader[0] != '\0' && strcmp(leader, k->leader) != 0;
    if (changed && !k->leader_told && k->called) {
        snprintf(why, sizeof why,
                 "Marathon's leader changed from %s to %s: what happened in between was told to "
                 "nobody",
                 k->leader, leader);
        k->o.missed(k->o.arg, why);
    }
    k->leader_told = false;
    if (changed)
        k->losses_known = false;
    if (leader[0] != '\0')
        snprintf(k->leader, sizeof k->leader, "%s", leader);
    ask(k, METRICS, NULL, "/metrics");
}

/* Only what can be no other callback's is told: one that is dead for good would be a Gap at each
 * look. */
static void on_metrics(struct keeper *k)
{
    uint64_t losses;
    char why[256];
    bool known = callback_answer_losses(buf_str(&k->ask.body), &losses);
    if (known && k->losses_known && losses > k->losses && k->is_only && k->called) {
        snprintf(why, sizeof why,
                 "Marathon counts %llu calls more that failed, or that it skipped after such, and "
                 "there is no other callback than this one",
                 (unsigned long long)(losses - k->losses));
        k->o.missed(k->o.arg, why);
    }
    k->losses_known = known && k->called;
    k->losses = known ? losses : 0;
    rest(k);
}

static void on_registered(struct keeper *k)
{
    if (!k->listed)
        log_info("callback_registered", LOG_STR("source", k->o.source),
                 LOG_STR("server", k->label));
    k->listed = true;
    ask(k, LEADER, NULL, "/v2/leader");
}

/* Until the next one, or at once where another server is left to be asked. */
static void on_trouble(struct keeper *k, const struct err *err)
{
    size_t n = k->o.settings->servers.n;
    int64_t now_ms = clock_mono_ms();
    char server[LABEL_MAX];
    snprintf(server, sizeof server, "%s", k->label);
    k->question = NOTHING;
    k->failures++;
    set_server(k, (k->server + 1) % n);
    k->next_ms = now_ms;
    if (k->failures % n != 0)
        return;
    int most_ms = (int)k->o.settings->check_ms;
    k->next_ms += clock_backoff_ms((unsigned)(k->failures / n), BACKOFF_LEAST_MS,
                                   most_ms > BACKOFF_LEAST_MS ? most_ms : BACKOFF_LEAST_MS);
    k->awaited_ms = 0;
    k->renewed = false;
    if (k->heard_ms > k->sure_ms) {
        if (!k->unchecked)
            log_warn("callback_unchecked", LOG_STR("source", k->o.source),
                     LOG_STR("server", server), LOG_STR("err", err->msg),
                     LOG_STR("note", "it calls, but what may be missing can't be found out"));
        k->unchecked = true;
        k->sure_ms = now_ms;
        return;
    }
    k->called = k->losses_known = false;
    k->o.lost(k->o.arg, server, err->msg);
}

static void on_said(struct keeper *k)
{
    struct err err;
    switch (k->question) {
    case LIST:
        if (on_list(k, &err) != 0) {
            on_trouble(k, &err);
            return;
        }
        break;
    case LEADER:
        on_leader(k);
        break;
    case METRICS:
        on_metrics(k);
        break;
    case REGISTER:
        on_registered(k);
        break;
    case UNREGISTER:
        if (k->called)
            lose(k, "its registration was made anew");
        k->unsure = true;
        ask_register(k);
        break;
    case LEAVE:
        k->left = true;
        k->question = NOTHING;
        return;
    case NOTHING:
        return;
    }
    k->failures = 0;
    k->sure_ms = clock_mono_ms();
    k->unchecked = false;
}

/* Not to know the leader or its counts is no trouble: the list was there. */
static void on_failed(struct keeper *k, const struct err *err)
{
    if (k->question == LEAVE) {
        set_server(k, (k->server + 1) % k->o.settings->servers.n);
        k->question = NOTHING;
        k->next_ms = clock_mono_ms() + LEAVE_PAUSE_MS;
    } else if (k->question == LEADER || k->question == METRICS) {
        k->losses_known = false;
        rest(k);
    } else {
        on_trouble(k, err);
    }
}

/* ---- turns ---- */

static void poll_answer(struct keeper *k)
{
    struct err err;
    switch (callback_ask_poll(&k->ask, &err)) {
    case CALLBACK_ASKING:
        break;
    case CALLBACK_SAID:
        on_said(k);
        break;
    case CALLBACK_REFUSED:
    case CALLBACK_FAILED:
        on_failed(k, &err);
        break;
    }
}

static void on_unreachable(struct keeper *k, int64_t now_ms)
{
    struct buf why = {0};
    buf_append_cstr(&why, "registered, but Marathon does not call: can its machines reach ");
    const char *url = k->o.settings->callback_url;
    buf_append(&why, url, callback_url_origin(url)); /* the path is secret */
    buf_append_cstr(&why, " (`callback_url`), and does that lead to `listen`?");
    k->awaited_ms = 0;
    k->renewed = false;
    k->next_ms = now_ms + clock_backoff_ms(++k->unreached, RETRY_LEAST_MS, RETRY_MOST_MS);
    lose(k, buf_cstr(&why));
    buf_fini(&why);
}

/* A call is awaited. */
static void check_call(struct keeper *k, int64_t now_ms)
{
    int64_t most_ms = UNREACHABLE_SHARE * k->o.settings->connect_timeout_ms;
    if (now_ms - k->awaited_ms > (most_ms > UNREACHABLE_MIN_MS ? most_ms : UNREACHABLE_MIN_MS))
        on_unreachable(k, now_ms);
    else if (!k->renewed && now_ms - k->asked_ms > CALL_MS)
        renew(k, "Marathon did not call though it has this callback in its list: it backs off "
                 "after calls that failed, or can't reach callback_url");
}

static void turn_leaving(struct keeper *k, int64_t now_ms)
{
    if (now_ms >= k->leave_ms)
        k->left = true;
    else if (k->question == NOTHING && now_ms >= k->next_ms)
        ask(k, LEAVE, "DELETE", buf_cstr(&k->path));
}

int keeper_turn(struct keeper *k)
{
    int64_t now_ms = clock_mono_ms();
    if (k->question != NOTHING)
        poll_answer(k);
    if (k->leave_ms != 0)
        turn_leaving(k, now_ms);
    else if (k->question == NOTHING && k->awaited_ms != 0)
        check_call(k, now_ms);
    if (k->question == NOTHING && k->leave_ms == 0 && now_ms >= k->next_ms)
        ask_list(k);
    if (k->question != NOTHING || k->leave_ms != 0)
        return ASKING_LOOK_MS;
    int64_t left_ms = k->next_ms - clock_mono_ms();
    if (k->awaited_ms != 0 && left_ms > CALL_MS / 4)
        left_ms = CALL_MS / 4;
    return left_ms <= 0 ? 0 : left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
}

/* ---- what its owner knows ---- */

void keeper_heard(struct keeper *k)
{
    k->heard_ms = clock_mono_ms();
    if (k->suspect)
        return; /* it may have waited here since before */
    k->called = true;
    k->awaited_ms = 0;
    k->renewed = false;
    k->unreached = 0;
}

bool keeper_is_unsure(const struct keeper *k)
{
    return k->unsure;
}

void keeper_registration_told(struct keeper *k)
{
    k->unsure = false;
}

/* What was asked before says nothing of what has happened since. */
static void look_at_once(struct keeper *k)
{
    if (k->question == LIST || k->question == LEADER || k->question == METRICS) {
        callback_ask_close(&k->ask);
        k->question = NOTHING;
    }
    k->next_ms = 0;
}

void keeper_suspect(struct keeper *k)
{
    k->called = k->losses_known = false;
    k->suspect = true;
    look_at_once(k);
}

void keeper_leader_told(struct keeper *k)
{
    k->leader_told = true;
    look_at_once(k);
}

void keeper_leave(struct keeper *k)
{
    bool asked = k->listed || k->question == REGISTER || k->question == UNREGISTER;
    callback_ask_close(&k->ask);
    k->question = NOTHING;
    k->next_ms = 0;
    k->leave_ms = clock_mono_ms() + LEAVE_MS;
    k->left = !asked;
}

bool keeper_has_left(const struct keeper *k)
{
    return k->left;
}

const char *keeper_label(const struct keeper *k)
{
    return k->label;
}

const char *keeper_server(const struct keeper *k)
{
    return server_of(k);
}

/* ---- its life ---- */

struct keeper *keeper_new(const struct keeper_options *options)
{
    struct keeper *k = mem_zalloc(sizeof *k);
    k->o = *options;
    k->ask.settings = options->settings;
    buf_append_cstr(&k->path, "/v2/eventSubscriptions?callbackUrl=");
    http_url_encode(&k->path, options->settings->callback_url);
    set_server(k, 0);
    return k;
}

void keeper_free(struct keeper **keeper)
{
    struct keeper *k = *keeper;
    if (k == NULL)
        return;
    callback_ask_fini(&k->ask);
    buf_fini(&k->path);
    free(k);
    *keeper = NULL;
}
