/* test_redis_owner.c - who may publish to Redis: the lease is asked for, kept, lost and given up,
 * against a Redis that answers what the test wrote down. */
#include "bridge/base/clock.h"
#include "connectors/redis/redis_conn.h"
#include "connectors/redis/redis_owner.h"
#include "connectors/redis/redis_settings.h"
#include "connectors/redis/redis_sink.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define OURS "aaaaaaaaaaaaaaaa"
#define OTHER "bbbbbbbbbbbbbbbb"
#define LOADED "$40\r\n0123456789012345678901234567890123456789\r\n"
#define INFO "$14\r\n\nmaxmemory:0\r\n\r\n"
#define OWNED "*2\r\n$2\r\nOK\r\n$7\r\n3 token\r\n"
#define HELD_BY(id) "*3\r\n$4\r\nHELD\r\n$7\r\n2 other\r\n$16\r\n" id "\r\n"
#define KEPT "*1\r\n$2\r\nOK\r\n"
#define LOST(owner_bulk, id_bulk) "*3\r\n$5\r\nOWNER\r\n" owner_bulk id_bulk
#define NOTHING "" /* no answer */
#define HANG_UP NULL

enum { WORDS_MAX = 16, COMMANDS_MAX = 16 };

/* Answers the n-th command with says[n] (but see `second`); notes what each was. */
struct fake {
    const char *const *says;
    size_t n_says;
    char path[80];
    int listener;
    pthread_t thread;
    size_t at;     /* of says, the next */
    size_t second; /* the second connection begins here; 0: it goes on */
    size_t connections, n_commands;
    char commands[COMMANDS_MAX][256]; /* the words of at most 40 bytes */
};

static void note_command(struct fake *fake, const redisReply *command)
{
    char *at = fake->commands[fake->n_commands++], *end = at + sizeof fake->commands[0];
    for (size_t i = 0; i < command->elements; i++)
        if (command->element[i]->len <= 40)
            at += snprintf(at, (size_t)(end - at), "%s ", command->element[i]->str);
}

/* False where the connection is over. */
static bool answer_next(struct fake *fake, int fd, redisReader *reader)
{
    void *command = NULL;
    while (command == NULL) {
        char bytes[65536];
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n <= 0 || redisReaderFeed(reader, bytes, (size_t)n) != REDIS_OK ||
            redisReaderGetReply(reader, &command) != REDIS_OK)
            return false;
    }
    assert_true(fake->at < fake->n_says);
    const char *say = fake->says[fake->at++];
    note_command(fake, command);
    freeReplyObject(command);
    return say != HANG_UP && send(fd, say, strlen(say), MSG_NOSIGNAL) >= 0;
}

static void *fake_run(void *arg)
{
    struct fake *fake = arg;
    int fd;
    while ((fd = accept(fake->listener, NULL, NULL)) >= 0) {
        redisReader *reader = redisReaderCreate();
        if (++fake->connections == 2 && fake->second > 0)
            fake->at = fake->second;
        while (answer_next(fake, fd, reader))
            ;
        redisReaderFree(reader);
        close(fd);
    }
    return NULL;
}

/* A sink and the Redis it speaks to. */
struct rig {
    struct fake fake;
    char url[100];
    struct redis_settings settings;
    struct sink_pair pair;
    void *sink;
    struct err err;
};

static struct rig *rig_new(const char *const *says, size_t n, bool standby)
{
    struct rig *rig = mem_zalloc(sizeof *rig);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    rig->fake.says = says;
    rig->fake.n_says = n;
    snprintf(rig->fake.path, sizeof rig->fake.path, P_tmpdir "/busbar-test-owner.%d",
             (int)getpid());
    memcpy(addr.sun_path, rig->fake.path, sizeof rig->fake.path);
    unlink(rig->fake.path);
    rig->fake.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(rig->fake.listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(rig->fake.listener, 4), 0);
    assert_int_equal(pthread_create(&rig->fake.thread, NULL, fake_run, &rig->fake), 0);
    snprintf(rig->url, sizeof rig->url, "unix://%s", rig->fake.path);
    rig->settings = (struct redis_settings){
        .url = rig->url, .stream = "s", .prefix = "p", .buckets = 1, .timeout_ms = 20000};
    rig->pair = (struct sink_pair){.bridge = "b",
                                   .source = "src",
                                   .sink = "snk",
                                   .settings = &rig->settings,
                                   .instance = OURS,
                                   .standby = standby,
                                   .stop = stop_new()};
    struct sink_limits limits;
    rig->sink = redis_sink.create(&rig->pair, &limits);
    return rig;
}

#define RIG(says, standby) rig_new(says, sizeof(says) / sizeof *(says), standby)

/* Ends both; then what the fake noted may be looked at until rig_free. */
static void rig_end(struct rig *rig)
{
    redis_sink.destroy(rig->sink);
    shutdown(rig->fake.listener, SHUT_RDWR);
    pthread_join(rig->fake.thread, NULL);
    close(rig->fake.listener);
    unlink(rig->fake.path);
    stop_free(&rig->pair.stop);
}

static enum sink_result rig_open(struct rig *rig)
{
    return redis_sink.open(rig->sink, &rig->err);
}

static enum sink_result rig_keep_when_due(struct rig *rig)
{
    usleep((REDIS_LEASE_MS / 3 + 50) * 1000);
    return redis_sink.keep(rig->sink, &rig->err);
}

static enum sink_result rig_publish_nothing(struct rig *rig)
{
    struct batch batch = {.source = STR("src")};
    struct checkpoint cp = {0};
    return redis_sink.publish(rig->sink, &batch, &cp, &rig->err);
}

static void expect_words(const struct rig *rig, size_t nth, const char *words)
{
    if (strstr(rig->fake.commands[nth], words) == NULL)
        fail_msg("command %zu was \"%s\", not \"%s\"", nth, rig->fake.commands[nth], words);
}

static void expect_told(const struct rig *rig, const char *text)
{
    if (strstr(rig->err.msg, text) == NULL)
        fail_msg("\"%s\" without \"%s\"", rig->err.msg, text);
}

/* ---- asking ---- */

static void a_standby_asks_again_on_the_connection_it_has(void **state)
{
    (void)state;
    const char *const says[] = {HELD_BY(OTHER), HELD_BY(OTHER), HELD_BY(OTHER),
                                OWNED,          INFO,           LOADED};
    struct rig *rig = RIG(says, true);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rig_open(rig), SINK_STANDBY);
        assert_string_equal(redis_sink.owner(rig->sink), OTHER);
        expect_told(rig, OTHER " owns it");
    }
    assert_int_equal(rig_open(rig), SINK_DONE);
    assert_string_equal(redis_sink.owner(rig->sink), OURS);
    rig_end(rig);
    assert_int_equal(rig->fake.connections, 1);
    assert_int_equal(rig->fake.n_commands, 6);
    expect_words(rig, 3, "p:{src}:b.snk:owner p:{src}:b.snk:lease 0 ");
    expect_words(rig, 3, OURS " 5000 wait ");
    free(rig);
}

static void a_standby_whose_connection_broke_asks_on_a_new_one(void **state)
{
    (void)state;
    const char *const says[] = {HELD_BY(OTHER), HANG_UP, HELD_BY(OTHER)};
    struct rig *rig = RIG(says, true);
    assert_int_equal(rig_open(rig), SINK_STANDBY);
    assert_int_equal(rig_open(rig), SINK_STANDBY);
    rig_end(rig);
    assert_int_equal(rig->fake.connections, 2);
    free(rig);
}

static void without_standby_the_pair_is_taken_by_force(void **state)
{
    (void)state;
    const char *const says[] = {OWNED, INFO, LOADED};
    struct rig *rig = RIG(says, false);
    assert_int_equal(rig_open(rig), SINK_DONE);
    rig_end(rig);
    expect_words(rig, 0, OURS " 5000 force ");
    free(rig);
}

static void a_second_process_of_the_same_instance_is_told_why_it_waits(void **state)
{
    (void)state;
    const char *const says[] = {HELD_BY(OURS)};
    struct rig *rig = RIG(says, true);
    assert_int_equal(rig_open(rig), SINK_STANDBY);
    expect_told(rig, "was the journal's folder copied?");
    rig_end(rig);
    free(rig);
}

/* The answer to one command must not be taken for that to the next. */
static void an_answer_that_comes_too_late_is_nobodys(void **state)
{
    (void)state;
    const char *const says[] = {OWNED, NOTHING, OWNED, INFO, LOADED};
    struct rig *rig = RIG(says, false);
    rig->fake.second = 2; /* even where the first answer came too late */
    rig->settings.timeout_ms = 200;
    assert_int_equal(rig_open(rig), SINK_RETRY);
    expect_told(rig, "no answer within 200 ms");
    rig->settings.timeout_ms = 20000;
    assert_int_equal(rig_open(rig), SINK_DONE);
    rig_end(rig);
    assert_int_equal(rig->fake.connections, 2);
    free(rig);
}

/* ---- holding on ---- */

/* On a machine that stood still it is renewed once more, as it should. */
static bool is_due(int64_t from_ms)
{
    return clock_mono_ms() - from_ms >= REDIS_LEASE_MS / 3;
}

static void the_lease_is_renewed_when_a_third_of_it_is_over(void **state)
{
    (void)state;
    const char *const says[] = {OWNED, INFO, LOADED, KEPT, KEPT, KEPT};
    struct rig *rig = RIG(says, true);
    int64_t from = clock_mono_ms();
    assert_int_equal(rig_open(rig), SINK_DONE);
    assert_int_equal(redis_sink.keep(rig->sink, &rig->err), SINK_DONE);
    bool slow = is_due(from);
    from = clock_mono_ms() + REDIS_LEASE_MS / 3;
    assert_int_equal(rig_keep_when_due(rig), SINK_DONE);
    assert_int_equal(redis_sink.keep(rig->sink, &rig->err), SINK_DONE);
    slow = slow || is_due(from);
    rig_end(rig);
    if (!slow)
        assert_int_equal(rig->fake.n_commands, 4);
    expect_words(rig, 3, "p:{src}:b.snk:owner p:{src}:b.snk:lease 3 token " OURS " 5000 ");
    free(rig);
}

static void publishing_renews_it_in_the_same_call(void **state)
{
    (void)state;
    const char *const says[] = {OWNED, INFO, LOADED, "$-1\r\n", KEPT, KEPT, KEPT, KEPT};
    struct rig *rig = RIG(says, true);
    bool found;
    struct checkpoint cp = {0};
    int64_t from = clock_mono_ms();
    assert_int_equal(rig_open(rig), SINK_DONE);
    assert_int_equal(redis_sink.read_checkpoint(rig->sink, &cp, &found, &rig->err), SINK_DONE);
    assert_int_equal(rig_publish_nothing(rig), SINK_DONE);
    bool slow = is_due(from);
    usleep((REDIS_LEASE_MS / 3 + 50) * 1000);
    from = clock_mono_ms();
    assert_int_equal(rig_publish_nothing(rig), SINK_DONE);
    assert_int_equal(redis_sink.keep(rig->sink, &rig->err), SINK_DONE);
    assert_int_equal(rig_publish_nothing(rig), SINK_DONE);
    slow = slow || is_due(from);
    rig_end(rig);
    if (!slow) {
        assert_int_equal(rig->fake.n_commands, 7);
        expect_words(rig, 4, " src " OURS " 0 ");
        expect_words(rig, 6, " src " OURS " 0 ");
    }
    expect_words(rig, 5, " src " OURS " 5000 ");
    free(rig);
}

static void expect_keep(const char *answer, enum sink_result result, const char *told)
{
    const char *const says[] = {OWNED, INFO, LOADED, answer};
    struct rig *rig = RIG(says, true);
    assert_int_equal(rig_open(rig), SINK_DONE);
    assert_int_equal(rig_keep_when_due(rig), result);
    expect_told(rig, told);
    if (result == SINK_FENCED)
        assert_string_equal(redis_sink.owner(rig->sink), OTHER);
    rig_end(rig);
    free(rig);
}

static void a_successor_fences_and_lost_data_does_not(void **state)
{
    (void)state;
    expect_keep(LOST("$7\r\n4 other\r\n", "$16\r\n" OTHER "\r\n"), SINK_FENCED, OTHER);
    expect_keep(LOST("$7\r\n3 other\r\n", "$16\r\n" OTHER "\r\n"), SINK_FENCED, OTHER);
    expect_keep(LOST("$7\r\n2 other\r\n", "$0\r\n\r\n"), SINK_UNKNOWN, "Redis lost data");
    expect_keep(LOST("$0\r\n\r\n", "$0\r\n\r\n"), SINK_UNKNOWN, "Redis lost data");
    expect_keep("-MISCONF Redis is configured to save\r\n", SINK_UNKNOWN, "cannot save");
    expect_keep("-MOVED 1 127.0.0.1:1\r\n", SINK_UNKNOWN, "MOVED");
}

static void a_connection_that_broke_is_not_used_again(void **state)
{
    (void)state;
    const char *const says[] = {OWNED, INFO, LOADED, HANG_UP};
    struct rig *rig = RIG(says, true);
    assert_int_equal(rig_open(rig), SINK_DONE);
    assert_int_equal(rig_keep_when_due(rig), SINK_UNKNOWN);
    assert_int_equal(redis_sink.keep(rig->sink, &rig->err), SINK_UNKNOWN);
    assert_int_equal(rig_publish_nothing(rig), SINK_UNKNOWN);
    stop_request(rig->pair.stop);
    redis_sink.close(rig->sink);
    rig_end(rig);
    assert_int_equal(rig->fake.connections, 1);
    free(rig);
}

/* ---- letting go ---- */

static void a_stop_gives_the_lease_up_and_a_close_does_not(void **state)
{
    (void)state;
    const char *const says[] = {OWNED, INFO, LOADED, OWNED, LOADED, KEPT};
    struct rig *rig = RIG(says, true);
    assert_int_equal(rig_open(rig), SINK_DONE);
    redis_sink.close(rig->sink);
    assert_int_equal(rig_open(rig), SINK_DONE);
    stop_request(rig->pair.stop);
    redis_sink.close(rig->sink);
    assert_string_equal(redis_sink.owner(rig->sink), "");
    redis_sink.close(rig->sink);
    rig_end(rig);
    assert_int_equal(rig->fake.n_commands, 6);
    expect_words(rig, 5, "3 token " OURS " 1 ");
    free(rig);
}

static void a_standby_has_nothing_to_give_up(void **state)
{
    (void)state;
    const char *const says[] = {HELD_BY(OTHER)};
    struct rig *rig = RIG(says, true);
    assert_int_equal(rig_open(rig), SINK_STANDBY);
    stop_request(rig->pair.stop);
    redis_sink.close(rig->sink);
    rig_end(rig);
    assert_int_equal(rig->fake.n_commands, 1);
    free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_standby_asks_again_on_the_connection_it_has),
        cmocka_unit_test(a_standby_whose_connection_broke_asks_on_a_new_one),
        cmocka_unit_test(without_standby_the_pair_is_taken_by_force),
        cmocka_unit_test(a_second_process_of_the_same_instance_is_told_why_it_waits),
        cmocka_unit_test(an_answer_that_comes_too_late_is_nobodys),
        cmocka_unit_test(the_lease_is_renewed_when_a_third_of_it_is_over),
        cmocka_unit_test(publishing_renews_it_in_the_same_call),
        cmocka_unit_test(a_successor_fences_and_lost_data_does_not),
        cmocka_unit_test(a_connection_that_broke_is_not_used_again),
        cmocka_unit_test(a_stop_gives_the_lease_up_and_a_close_does_not),
        cmocka_unit_test(a_standby_has_nothing_to_give_up),
    };
    return cmocka_run_group_tests_name("redis_owner", tests, NULL, NULL);
}
