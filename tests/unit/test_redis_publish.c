/* test_redis_publish.c - two batches under way: what is sent when, and what becomes of the younger
 * one when the older fails; against a small model of Redis that runs transactions. */
#include "connectors/redis/redis_settings.h"
#include "connectors/redis/redis_sink.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <hiredis/hiredis.h>

enum { N = 16, LOOK_MS = 1, ENTRIES_MAX = 256 };

/* One stream, one checkpoint, one owner. An answer to a check is held back until the sink is told
 * to end a batch, and what it had sent by then is read: what came before did not wait for it. */
struct model {
    char path[80];
    int listener;
    pthread_t thread;
    char log[512]; /* a letter for each command, A for the held answer, | for a connection */
    char checkpoint[512], queued_checkpoint[512];
    char last_id[64];
    bool silent, in_multi, held;
    atomic_bool may_answer;                 /* once */
    size_t entries[ENTRIES_MAX], n_entries; /* the numbers of the events */
    size_t queued[ENTRIES_MAX], n_queued;
    char queued_id[64];
    size_t execs;      /* that carry something */
    size_t touch_at;   /* before this one of them somebody touches the streams; 0: before none */
    size_t foreign_at; /* behind this one somebody adds an entry */
    size_t fenced_at;  /* behind this one another instance is the owner */
    size_t hang_up_at; /* behind this one the connection breaks */
    bool fenced, ended;
    char answer[600];
};

static void note(struct model *m, char letter)
{
    size_t len = strlen(m->log);
    assert_true(len + 1 < sizeof m->log);
    if (letter != 'x' || len == 0 || m->log[len - 1] != 'x')
        m->log[len] = letter;
}

static void say(struct model *m, int fd, const char *text)
{
    if (!m->silent)
        (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static void add(size_t *to, size_t *n, const redisReply *id_field)
{
    assert_true(*n < ENTRIES_MAX);
    to[(*n)++] = strtoul(strchr(id_field->str, '/') + 1, NULL, 10); /* src/INDEX/… */
}

static void run_exec(struct model *m, int fd)
{
    m->in_multi = false;
    if (m->n_queued == 0) {
        say(m, fd, "*0\r\n");
        return;
    }
    m->execs++;
    bool touched = m->execs == m->touch_at;
    for (size_t i = 0; i < m->n_queued && !touched; i++)
        m->entries[m->n_entries++] = m->queued[i];
    if (!touched) {
        memcpy(m->checkpoint, m->queued_checkpoint, sizeof m->checkpoint);
        memcpy(m->last_id, m->queued_id, sizeof m->last_id);
    }
    if (m->execs == m->foreign_at)
        snprintf(m->last_id, sizeof m->last_id, "999999-7");
    m->fenced = m->fenced || m->execs == m->fenced_at;
    m->ended = m->execs == m->hang_up_at;
    m->n_queued = 0;
}

static void run_check(struct model *m, const redisReply *c)
{
    const char *expected = c->element[c->elements - 1]->str;
    if (m->fenced)
        snprintf(m->answer, sizeof m->answer, "*3\r\n$5\r\nOWNER\r\n$7\r\n9 other\r\n$0\r\n\r\n");
    else if (strcmp(expected, m->checkpoint) == 0)
        snprintf(m->answer, sizeof m->answer, "*2\r\n$2\r\nOK\r\n$%zu\r\n%s\r\n",
                 strlen(m->last_id), m->last_id);
    else
        snprintf(m->answer, sizeof m->answer, "*2\r\n$10\r\nCHECKPOINT\r\n$%zu\r\n%s\r\n",
                 strlen(m->checkpoint), m->checkpoint);
    m->held = true;
}

/* EVALSHA sha 4 checkpoint owner lease stream, owner expected next 0 src instance term, count, then
 * 8 words an event. */
static void run_script(struct model *m, int fd, const redisReply *c)
{
    if (strcmp(c->element[8]->str, m->checkpoint) != 0) {
        say(m, fd, "*2\r\n$10\r\nCHECKPOINT\r\n$0\r\n\r\n");
        return;
    }
    for (size_t i = 15; i + 7 < c->elements; i += 8) {
        add(m->entries, &m->n_entries, c->element[i + 1]);
        snprintf(m->last_id, sizeof m->last_id, "%.60s", c->element[i]->str);
    }
    snprintf(m->checkpoint, sizeof m->checkpoint, "%.500s", c->element[9]->str);
    say(m, fd, "*1\r\n$2\r\nOK\r\n");
}

static void run_queued(struct model *m, const redisReply *c)
{
    const char *word = c->element[0]->str;
    if (strcmp(word, "XADD") == 0) {
        add(m->queued, &m->n_queued, c->element[4]);
        snprintf(m->queued_id, sizeof m->queued_id, "%.60s", c->element[2]->str);
        note(m, 'x');
    } else if (strcmp(word, "EVAL") == 0) {
        snprintf(m->queued_checkpoint, sizeof m->queued_checkpoint, "%.500s",
                 c->element[c->elements - 1]->str);
    } else {
        assert_string_equal(word, "XSETID");
    }
}

static void run(struct model *m, int fd, const redisReply *c)
{
    const char *word = c->element[0]->str;
    if (strcmp(word, "EXEC") == 0) {
        note(m, 'E');
        run_exec(m, fd);
    } else if (m->in_multi) {
        run_queued(m, c);
    } else if (strcmp(word, "CLIENT") == 0) {
        m->silent = strcmp(c->element[2]->str, "OFF") == 0;
        note(m, m->silent ? 'O' : 'N');
        say(m, fd, "+OK\r\n");
    } else if (strcmp(word, "MULTI") == 0) {
        note(m, 'M');
        m->in_multi = true;
        say(m, fd, "+OK\r\n");
    } else if (strcmp(word, "WATCH") == 0) {
        note(m, 'W');
        say(m, fd, "+OK\r\n");
    } else if (strcmp(word, "EVALSHA") == 0) {
        note(m, 's');
        run_script(m, fd, c);
    } else if (strcmp(word, "EVAL") == 0 && strstr(c->element[1]->str, "'OLD'") != NULL) {
        note(m, 'K');
        run_check(m, c);
    } else if (strcmp(word, "EVAL") == 0) {
        note(m, 'c');
        say(m, fd, "*2\r\n$2\r\nOK\r\n$7\r\n3 token\r\n");
    } else if (strcmp(word, "GET") == 0) {
        char text[600];
        snprintf(text, sizeof text, "$%zu\r\n%s\r\n", strlen(m->checkpoint), m->checkpoint);
        say(m, fd, m->checkpoint[0] != '\0' ? text : "$-1\r\n");
    } else if (strcmp(word, "SCRIPT") == 0) {
        say(m, fd, "$40\r\n0123456789012345678901234567890123456789\r\n");
    } else {
        say(m, fd, "$14\r\n\nmaxmemory:0\r\n\r\n"); /* INFO */
    }
}

static void serve(struct model *m, int fd)
{
    redisReader *reader = redisReaderCreate();
    m->silent = m->in_multi = m->held = m->ended = false;
    m->n_queued = 0;
    note(m, '|');
    while (!m->ended) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        char bytes[65536];
        bool may_answer = atomic_load(&m->may_answer);
        if (poll(&ready, 1, !m->held ? -1 : may_answer ? 0 : LOOK_MS) == 0) {
            if (!may_answer)
                continue;
            m->held = false;
            atomic_store(&m->may_answer, false);
            note(m, 'A');
            (void)!send(fd, m->answer, strlen(m->answer), MSG_NOSIGNAL);
            continue;
        }
        ssize_t n = read(fd, bytes, sizeof bytes);
        void *command = NULL;
        if (n <= 0 || redisReaderFeed(reader, bytes, (size_t)n) != REDIS_OK)
            break;
        while (!m->ended && redisReaderGetReply(reader, &command) == REDIS_OK && command != NULL) {
            run(m, fd, command);
            freeReplyObject(command);
        }
    }
    redisReaderFree(reader);
    close(fd);
}

static void *model_run(void *arg)
{
    struct model *m = arg;
    int fd;
    while ((fd = accept(m->listener, NULL, NULL)) >= 0)
        serve(m, fd);
    return NULL;
}

/* ---- the sink before it ---- */

enum { BATCHES = 6 };

struct rig {
    struct model model;
    char url[100];
    struct redis_settings settings;
    struct sink_pair pair;
    void *sink;
    struct err err;
    struct event events[BATCHES * N];
    const struct event *list[BATCHES * N];
    struct batch batches[BATCHES];
    struct checkpoint next[BATCHES];
};

static void fill_batches(struct rig *rig)
{
    for (size_t i = 0; i < BATCHES * N; i++) {
        rig->events[i] = (struct event){.topic = STR("Job"),
                                        .type = STR("T"),
                                        .key = STR("k"),
                                        .data = STR("{}"),
                                        .index = i + 1,
                                        .pos_index = i + 1,
                                        .ident = i + 1};
        rig->list[i] = &rig->events[i];
    }
    for (size_t i = 0; i < BATCHES; i++) {
        rig->batches[i] = (struct batch){
            .events = rig->list + i * N, .n = N, .bytes = (size_t)2 * N, .source = STR("src")};
        rig->next[i].seq = rig->next[i].index = (i + 1) * N;
    }
}

static void listen_at(struct model *m)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(m->path, sizeof m->path, P_tmpdir "/busbar-test-publish.%d", (int)getpid());
    memcpy(addr.sun_path, m->path, sizeof m->path);
    unlink(m->path);
    m->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(m->listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(m->listener, 4), 0);
}

static void open_sink(struct rig *rig)
{
    struct checkpoint cp = {0};
    bool found;
    assert_int_equal(redis_sink.open(rig->sink, &rig->err), SINK_DONE);
    assert_int_equal(redis_sink.read_checkpoint(rig->sink, &cp, &found, &rig->err), SINK_DONE);
    checkpoint_fini(&cp);
}

static void publish(struct rig *rig, size_t i)
{
    atomic_store(&rig->model.may_answer, true);
    assert_int_equal(redis_sink.publish(rig->sink, &rig->batches[i], &rig->next[i], &rig->err),
                     SINK_DONE);
}

/* Open, and its first batch published: by script, with a proof behind it. */
static struct rig *rig_new(const struct model *how)
{
    struct rig *rig = mem_zalloc(sizeof *rig);
    rig->model = *how;
    fill_batches(rig);
    listen_at(&rig->model);
    snprintf(rig->url, sizeof rig->url, "unix://%s", rig->model.path);
    rig->settings = (struct redis_settings){
        .url = rig->url, .stream = "s", .prefix = "p", .buckets = 1, .timeout_ms = 20000};
    rig->pair = (struct sink_pair){.bridge = "b",
                                   .source = "src",
                                   .sink = "snk",
                                   .settings = &rig->settings,
                                   .instance = "aaaaaaaaaaaaaaaa",
                                   .stop = stop_new()};
    assert_int_equal(pthread_create(&rig->model.thread, NULL, model_run, &rig->model), 0);
    struct sink_limits limits;
    rig->sink = redis_sink.create(&rig->pair, &limits);
    open_sink(rig);
    publish(rig, 0);
    return rig;
}

static void begin(struct rig *rig, size_t i)
{
    redis_sink.begin(rig->sink, &rig->batches[i], &rig->next[i]);
}

static void end(struct rig *rig, enum sink_result result)
{
    atomic_store(&rig->model.may_answer, true);
    assert_int_equal(redis_sink.end(rig->sink, &rig->err), result);
}

/* Ends both. The model has the events of the first `n` batches once, in order, and was told so:
 * `log`, NULL where that depends on time. */
static void rig_end(struct rig *rig, size_t n, const char *log)
{
    redis_sink.destroy(rig->sink);
    shutdown(rig->model.listener, SHUT_RDWR);
    pthread_join(rig->model.thread, NULL);
    close(rig->model.listener);
    unlink(rig->model.path);
    stop_free(&rig->pair.stop);
    if (log != NULL)
        assert_string_equal(rig->model.log, log);
    assert_int_equal(rig->model.n_entries, n * N);
    for (size_t i = 0; i < n * N; i++)
        assert_int_equal(rig->model.entries[i], i + 1);
    free(rig);
}

#define OPENED "|csNMEWKA" /* by script, and a proof */
#define BATCH "OMxENMEWK"  /* a whole transaction, and a proof */
#define QUEUED "OMx"
#define COMMIT "ENMEWK"

static void a_batch_is_sent_while_the_one_before_is_carried_out_but_for_its_exec(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&(struct model){0});
    begin(rig, 1);
    begin(rig, 2);
    end(rig, SINK_DONE);
    begin(rig, 3);
    end(rig, SINK_DONE);
    end(rig, SINK_DONE);
    rig_end(rig, 4, OPENED BATCH QUEUED "A" COMMIT QUEUED "A" COMMIT "A");
}

static void what_cannot_go_yet_goes_when_it_can(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&(struct model){0});
    redis_sink.close(rig->sink);
    open_sink(rig); /* nothing is proven */
    begin(rig, 1);
    begin(rig, 2);
    end(rig, SINK_DONE);
    begin(rig, 3);
    end(rig, SINK_DONE);
    end(rig, SINK_DONE);
    rig_end(rig, 4, OPENED "|csNMEWKA" BATCH QUEUED "A" COMMIT "A");
}

static void a_batch_that_was_not_carried_out_goes_by_script_before_the_next(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&(struct model){.touch_at = 2});
    begin(rig, 1);
    begin(rig, 2);
    end(rig, SINK_DONE);
    begin(rig, 3);
    end(rig, SINK_DONE);
    end(rig, SINK_DONE);
    rig_end(rig, 4, OPENED BATCH QUEUED "A" COMMIT QUEUED "A|css");
}

static void a_batch_whose_ids_were_foreseen_wrongly_is_queued_anew(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&(struct model){.foreign_at = 1});
    begin(rig, 1);
    begin(rig, 2);
    end(rig, SINK_DONE);
    end(rig, SINK_DONE);
    rig_end(rig, 3, OPENED BATCH QUEUED "A|csNMEWKA");
}

static void behind_a_successor_nothing_is_carried_out(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&(struct model){.fenced_at = 1});
    begin(rig, 1);
    begin(rig, 2);
    end(rig, SINK_FENCED);
    rig_end(rig, 2, OPENED BATCH QUEUED "A");
}

static void a_broken_connection_says_so_and_nothing_follows(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&(struct model){.hang_up_at = 1});
    begin(rig, 1);
    begin(rig, 2);
    end(rig, SINK_UNKNOWN);
    assert_string_not_equal(rig->err.msg, ""); /* closed, reset, or a broken pipe */
    redis_sink.close(rig->sink);
    open_sink(rig); /* it says that the batch is there */
    publish(rig, 2);
    rig_end(rig, 3, NULL);
}

static void what_is_begun_when_it_closes_is_not_carried_out(void **state)
{
    (void)state;
    struct rig *rig = rig_new(&(struct model){0});
    begin(rig, 1);
    begin(rig, 2);
    end(rig, SINK_DONE); /* the second is in Redis' hands, */
    begin(rig, 3);       /* the third waits for it */
    stop_request(rig->pair.stop);
    redis_sink.close(rig->sink);
    rig_end(rig, 3, OPENED BATCH QUEUED "A" COMMIT QUEUED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_sent_while_the_one_before_is_carried_out_but_for_its_exec),
        cmocka_unit_test(what_cannot_go_yet_goes_when_it_can),
        cmocka_unit_test(a_batch_that_was_not_carried_out_goes_by_script_before_the_next),
        cmocka_unit_test(a_batch_whose_ids_were_foreseen_wrongly_is_queued_anew),
        cmocka_unit_test(behind_a_successor_nothing_is_carried_out),
        cmocka_unit_test(a_broken_connection_says_so_and_nothing_follows),
        cmocka_unit_test(what_is_begun_when_it_closes_is_not_carried_out),
    };
    return cmocka_run_group_tests_name("redis_publish", tests, NULL, NULL);
}
