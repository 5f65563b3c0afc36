/* test_redis_transaction.c - the cheaper way to publish: what is sent, what may go so, how a proof
 * is judged. */
#include "connectors/redis/redis_transaction.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = REDIS_TRANSACTION_EVENTS_MIN };

/* A batch of N events, the i-th at position 9.i; every third one is of the topic Node. */
struct scene {
    struct event events[N];
    const struct event *list[N];
    struct batch batch;
    struct template *stream;
    struct redis_batch plan;
    struct redis_transaction tx;
    struct redis_command cmd;
    struct redis_publish publish;
};

static void replan(struct scene *s)
{
    redis_batch_plan(&s->plan, s->stream, &s->batch);
}

static int make(void **state)
{
    struct scene *s = mem_zalloc(sizeof *s);
    for (uint32_t i = 0; i < N; i++) {
        s->events[i] = (struct event){.topic = i % 3 == 2 ? STR("Node") : STR("Job"),
                                      .type = STR("T"),
                                      .key = STR("k"),
                                      .ns = STR("n"),
                                      .data = STR("{}"),
                                      .index = 9,
                                      .pos_index = 9,
                                      .ordinal = i,
                                      .arrival_us = 1500000};
        s->list[i] = &s->events[i];
    }
    s->batch =
        (struct batch){.events = s->list, .n = N, .bytes = (size_t)2 * N, .source = STR("s")};
    s->publish = (struct redis_publish){.sha = "SHA",
                                        .checkpoint_key = "C",
                                        .owner_key = "O",
                                        .lease_key = "L",
                                        .instance = "me",
                                        .owner = STR("1 t"),
                                        .expected = STR("{e}"),
                                        .next = STR("{n}"),
                                        .max_entries = 7};
    assert_int_equal(template_new(&s->stream, "%{topic}", 1, NULL), 0);
    replan(s);
    *state = s;
    return 0;
}

static int free_scene(void **state)
{
    struct scene *s = *state;
    redis_transaction_fini(&s->tx);
    redis_batch_fini(&s->plan);
    redis_command_fini(&s->cmd);
    template_free(&s->stream);
    free(s);
    return 0;
}

#define YES "+OK\r\n+OK\r\n*0\r\n+OK\r\n"
#define IDS "*3\r\n$2\r\nOK\r\n$3\r\n9-1\r\n$3\r\n4-0\r\n"

/* Judges what Redis would have said; `before` is {e}. */
static enum redis_proof judge(struct scene *s, const char *wire)
{
    redisReader *reader = redisReaderCreate();
    redisReaderFeed(reader, wire, strlen(wire));
    redisReply *replies[REDIS_PROOF_REPLIES];
    for (size_t i = 0; i < REDIS_PROOF_REPLIES; i++) {
        void *reply = NULL;
        assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
        assert_non_null(reply);
        replies[i] = reply;
    }
    enum redis_proof proof = redis_transaction_judge(&s->tx, STR("{e}"), replies);
    for (size_t i = 0; i < REDIS_PROOF_REPLIES; i++)
        freeReplyObject(replies[i]);
    redisReaderFree(reader);
    return proof;
}

static void prove(struct scene *s)
{
    redis_transaction_prove(&s->tx, &s->plan, &s->publish, &s->cmd);
    assert_int_equal(judge(s, YES IDS), REDIS_PROOF_HOLDS);
    assert_true(s->tx.proven);
}

/* The batch as it goes where nothing is before it. */
static void send_whole(struct scene *s)
{
    redis_command_clear(&s->cmd);
    redis_transaction_queue(&s->tx, &s->plan, &s->publish, &s->batch, &s->cmd);
    redis_transaction_commit(&s->tx, &s->publish, &s->cmd);
}

static bool fits(struct scene *s)
{
    return redis_transaction_fits(&s->tx, &s->plan, &s->batch);
}

static char *wire_of(struct redis_command *cmd)
{
    struct buf wire = {0};
    size_t n;
    const struct iovec *pieces = redis_command_pieces(cmd, &n);
    for (size_t i = 0; i < n; i++)
        buf_append(&wire, pieces[i].iov_base, pieces[i].iov_len);
    buf_cstr(&wire);
    return wire.p;
}

/* Fails unless `wire` has it, and returns what is behind it. */
static const char *behind(const char *wire, const char *wanted)
{
    const char *at = strstr(wire, wanted);
    if (at == NULL)
        fail_msg("no \"%s\" in \"%s\"", wanted, wire);
    return at + strlen(wanted);
}

static void a_batch_stands_between_silence_and_a_proof(void **state)
{
    struct scene *s = *state;
    prove(s);
    assert_true(fits(s));
    s->publish.lease_ms = 5000;
    send_whole(s);
    assert_false(s->tx.proven); /* until it is answered */
    char *wire = wire_of(&s->cmd);
    const char *at = wire;
    at = behind(at, "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n*1\r\n$5\r\nMULTI\r\n");
    assert_ptr_equal(behind(at, "*3\r\n$6\r\nXSETID\r\n$3\r\nJob\r\n$3\r\n9-1\r\n"),
                     at + strlen("*3\r\n$6\r\nXSETID\r\n$3\r\nJob\r\n$3\r\n9-1\r\n"));
    at = behind(at, "$6\r\nXSETID\r\n$4\r\nNode\r\n$3\r\n4-0\r\n");
    at = behind(at,
                "*19\r\n$4\r\nXADD\r\n$3\r\nJob\r\n$3\r\n9-2\r\n$2\r\nid\r\n$15\r\ns/9/Job/n/k/T/0"
                "\r\n$6\r\nsource\r\n$1\r\ns\r\n$5\r\ntopic\r\n$3\r\nJob\r\n$4\r\ntype\r\n"
                "$1\r\nT\r\n$3\r\nkey\r\n$1\r\nk\r\n$9\r\nnamespace\r\n$1\r\nn\r\n$4\r\ntime\r\n"
                "$24\r\n1970-01-01T00:00:01.500Z\r\n$4\r\ndata\r\n$2\r\n{}\r\n");
    at = behind(at, "*5\r\n$5\r\nXTRIM\r\n$3\r\nJob\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$1\r\n7\r\n");
    at = behind(at, "$4\r\nXADD\r\n$4\r\nNode\r\n$3\r\n9-2\r\n");
    at = behind(at, "*7\r\n$4\r\nEVAL\r\n");
    at = behind(at, "$1\r\n3\r\n$1\r\nC\r\n$3\r\nJob\r\n$4\r\nNode\r\n$3\r\n{n}\r\n"
                    "*5\r\n$3\r\nSET\r\n$1\r\nL\r\n$2\r\nme\r\n$2\r\nPX\r\n$4\r\n5000\r\n"
                    "*1\r\n$4\r\nEXEC\r\n*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$2\r\nON\r\n"
                    "*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nEXEC\r\n"
                    "*5\r\n$5\r\nWATCH\r\n$1\r\nC\r\n$1\r\nO\r\n$3\r\nJob\r\n$4\r\nNode\r\n"
                    "*10\r\n$4\r\nEVAL\r\n");
    behind(at, "$1\r\n5\r\n$1\r\nC\r\n$1\r\nO\r\n$1\r\nL\r\n$3\r\nJob\r\n$4\r\nNode\r\n"
               "$3\r\n1 t\r\n$3\r\n{n}\r\n");
    free(wire);
}

static void ids_follow_the_last_of_their_stream(void **state)
{
    struct scene *s = *state;
    prove(s);
    assert_true(fits(s));
    const uint64_t seqs[] = {2, 3, 2, 4, 5, 5}; /* of Job behind 9-1, of Node as they are */
    for (size_t i = 0; i < sizeof seqs / sizeof *seqs; i++) {
        assert_int_equal(s->plan.entries[i].ms, 9);
        assert_int_equal(s->plan.entries[i].seq, seqs[i]);
    }
}

/* The proof that the planned batch is there, with the last ids that it gave to Job and to Node. */
static enum redis_proof judge_planned(struct scene *s)
{
    char said[200];
    snprintf(said, sizeof said,
             YES "*3\r\n$2\r\nOK\r\n$4\r\n9-%02" PRIu64 "\r\n$4\r\n9-%02" PRIu64 "\r\n",
             s->plan.entries[N - 1].seq, s->plan.entries[N - 2].seq);
    return judge(s, said);
}

/* The next batch is planned behind what the one that is sent will leave; it may be committed where
 * the proof says just that. */
static void the_next_batch_builds_on_what_the_proof_is_to_say(void **state)
{
    struct scene *s = *state;
    prove(s);
    assert_true(fits(s));
    send_whole(s);
    uint64_t job = s->plan.entries[N - 1].seq, node = s->plan.entries[N - 2].seq;
    assert_true(fits(s));
    assert_int_equal(s->plan.entries[0].seq, job + 1);
    assert_int_equal(s->plan.entries[2].seq, node + 1);
    redis_command_clear(&s->cmd);
    redis_transaction_queue(&s->tx, &s->plan, &s->publish, &s->batch, &s->cmd);
    char *wire = wire_of(&s->cmd);
    assert_null(strstr(wire, "EXEC"));
    free(wire);
    judge(s, YES "*3\r\n$2\r\nOK\r\n$4\r\n9-99\r\n$4\r\n9-15\r\n");
    assert_true(s->tx.proven);
    assert_false(s->tx.as_foreseen);
    assert_true(fits(s));
    assert_int_equal(s->plan.entries[0].seq, 100);
    prove(s);
    assert_true(fits(s));
    send_whole(s);
    assert_int_equal(judge_planned(s), REDIS_PROOF_HOLDS);
    assert_true(s->tx.as_foreseen);
}

static void only_what_is_proven_goes_without_a_script(void **state)
{
    struct scene *s = *state;
    assert_false(fits(s));
    prove(s);
    s->batch.n--;
    assert_false(fits(s)); /* not worth it */
    s->batch.n++;
    s->batch.bytes = (size_t)1 << 30;
    assert_false(fits(s));
    s->batch.bytes = 2;
    s->events[N - 1].topic = STR("Other");
    replan(s);
    assert_false(fits(s)); /* a stream that is not watched */
    s->events[N - 1].topic = STR("Job");
    replan(s);
    assert_true(fits(s));
    redis_transaction_forget(&s->tx);
    assert_false(fits(s));
}

static void a_stream_with_no_id_left_is_left_to_the_script(void **state)
{
    struct scene *s = *state;
    redis_transaction_prove(&s->tx, &s->plan, &s->publish, &s->cmd);
    judge(s, YES "*3\r\n$2\r\nOK\r\n$22\r\n18446744073709551615-7\r\n$3\r\n4-0\r\n");
    assert_true(s->tx.proven);
    assert_false(fits(s));
}

static void a_key_that_is_no_stream_proves_nothing(void **state)
{
    struct scene *s = *state;
    redis_transaction_prove(&s->tx, &s->plan, &s->publish, &s->cmd);
    assert_int_equal(judge(s, YES "*3\r\n$2\r\nOK\r\n$3\r\n9-1\r\n$0\r\n\r\n"), REDIS_PROOF_HOLDS);
    assert_false(s->tx.proven);
    assert_false(s->tx.refused);
    prove(s); /* another time */
}

static void a_redis_that_refuses_a_part_is_not_asked_again(void **state)
{
    struct scene *s = *state;
    static const char *const answers[] = {
        "-NOPERM no CLIENT\r\n+OK\r\n*0\r\n+OK\r\n" IDS,
        "+OK\r\n-NOPERM no MULTI\r\n-ERR EXEC without MULTI\r\n+OK\r\n" IDS,
        "+OK\r\n+OK\r\n*0\r\n-NOPERM no WATCH\r\n" IDS,
        YES "*1\r\n$3\r\nOLD\r\n",
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        s->tx.refused = false;
        assert_true(redis_transaction_is_wanted(&s->tx, &s->plan, &s->batch));
        redis_transaction_prove(&s->tx, &s->plan, &s->publish, &s->cmd);
        assert_int_equal(judge(s, answers[i]), REDIS_PROOF_HOLDS);
        assert_false(s->tx.proven);
        assert_false(redis_transaction_is_wanted(&s->tx, &s->plan, &s->batch));
    }
}

static void a_proof_tells_whether_the_batch_was_carried_out(void **state)
{
    struct scene *s = *state;
    prove(s);
    assert_int_equal(judge(s, YES "*2\r\n$10\r\nCHECKPOINT\r\n$3\r\n{e}\r\n"), REDIS_PROOF_BEFORE);
    assert_int_equal(judge(s, YES "*2\r\n$10\r\nCHECKPOINT\r\n$0\r\n\r\n"), REDIS_PROOF_OTHER);
    assert_int_equal(judge(s, YES "*3\r\n$5\r\nOWNER\r\n$3\r\n2 u\r\n$0\r\n\r\n"),
                     REDIS_PROOF_OWNER);
    assert_int_equal(judge(s, YES "-LOADING\r\n"), REDIS_PROOF_OTHER);
    assert_false(s->tx.proven);
}

static void a_watch_that_a_script_has_touched_is_no_refusal(void **state)
{
    struct scene *s = *state;
    prove(s);
    redis_transaction_forget(&s->tx);
    redis_transaction_prove(&s->tx, &s->plan, &s->publish, &s->cmd);
    assert_int_equal(judge(s, "+OK\r\n+OK\r\n*-1\r\n+OK\r\n" IDS), REDIS_PROOF_HOLDS);
    assert_true(s->tx.proven);
}

/* How many batches go by script until the next try. */
static unsigned calm(struct scene *s)
{
    unsigned n = 1;
    while (!redis_transaction_is_wanted(&s->tx, &s->plan, &s->batch))
        n++;
    return n;
}

static void where_others_write_it_is_tried_ever_more_rarely(void **state)
{
    struct scene *s = *state;
    assert_int_equal(calm(s), 1);
    unsigned was = 1;
    for (int i = 0; i < 20; i++) {
        judge(s, YES "*2\r\n$10\r\nCHECKPOINT\r\n$3\r\n{e}\r\n");
        unsigned now = calm(s);
        assert_true(now > was || (i > 8 && now == was));
        assert_true(now <= 1024);
        was = now;
        prove(s); /* a proof alone says nothing: the batch behind it has to be carried out */
    }
    send_whole(s);
    judge(s, YES IDS);
    assert_int_equal(calm(s), 1);
    judge(s, YES "*2\r\n$10\r\nCHECKPOINT\r\n$3\r\n{e}\r\n");
    assert_true(calm(s) < 8);
}

static void more_streams_than_are_watched_are_those_that_are_written_to(void **state)
{
    struct scene *s = *state;
    char topics[REDIS_WATCHED_MAX][16];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            snprintf(topics[i], sizeof topics[i], "t%d.%zu", round, i % REDIS_WATCHED_MAX);
            s->events[i].topic = str_from(topics[i]);
        }
        replan(s);
        assert_true(redis_transaction_is_wanted(&s->tx, &s->plan, &s->batch));
        redis_transaction_prove(&s->tx, &s->plan, &s->publish, &s->cmd);
        assert_int_equal(s->tx.n_streams, REDIS_WATCHED_MAX);
        char *wire = wire_of(&s->cmd);
        behind(wire, topics[REDIS_WATCHED_MAX - 1]);
        free(wire);
    }
}

int main(void)
{
#define SCENE(test) cmocka_unit_test_setup_teardown(test, make, free_scene)
    const struct CMUnitTest tests[] = {
        SCENE(a_batch_stands_between_silence_and_a_proof),
        SCENE(ids_follow_the_last_of_their_stream),
        SCENE(the_next_batch_builds_on_what_the_proof_is_to_say),
        SCENE(only_what_is_proven_goes_without_a_script),
        SCENE(a_stream_with_no_id_left_is_left_to_the_script),
        SCENE(a_key_that_is_no_stream_proves_nothing),
        SCENE(a_redis_that_refuses_a_part_is_not_asked_again),
        SCENE(a_proof_tells_whether_the_batch_was_carried_out),
        SCENE(a_watch_that_a_script_has_touched_is_no_refusal),
        SCENE(where_others_write_it_is_tried_ever_more_rarely),
        SCENE(more_streams_than_are_watched_are_those_that_are_written_to),
    };
    return cmocka_run_group_tests_name("redis_transaction", tests, NULL, NULL);
}
