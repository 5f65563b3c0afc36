/* test_redis.c - the Redis sink without a Redis: URL, settings, ids, wire format, errors, waiting.
 */
#include "config/settings.h"
#include "connectors/redis/redis_batch.h"
#include "connectors/redis/redis_command.h"
#include "connectors/redis/redis_error.h"
#include "connectors/redis/redis_settings.h"
#include "connectors/redis/redis_sink.h"
#include "connectors/redis/redis_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- the URL ---- */

static void expect_url(const char *text, const struct redis_url *want)
{
    struct redis_url url;
    struct err err;
    if (redis_url_parse(&url, text, &err) != 0)
        fail_msg("%s: %s", text, err.msg);
    const char *got[] = {url.user, url.password, url.host, url.path};
    const char *wanted[] = {want->user, want->password, want->host, want->path};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(got[i] == NULL, wanted[i] == NULL);
        if (got[i] != NULL)
            assert_string_equal(got[i], wanted[i]);
    }
    if (want->host != NULL)
        assert_int_equal(url.port, want->port);
    assert_int_equal(url.db, want->db);
    redis_url_fini(&url);
}

static void url_reads_every_form(void **state)
{
    (void)state;
    char h[] = "h", u[] = "u", p[] = "p", v6[] = "::1", sock[] = "/run/r.sock", at[] = "a@b:c/d%";
    expect_url("redis://h", &(struct redis_url){.host = h, .port = 6379});
    expect_url("redis://h/", &(struct redis_url){.host = h, .port = 6379});
    expect_url("redis://h:1/15", &(struct redis_url){.host = h, .port = 1, .db = 15});
    expect_url("redis://[::1]", &(struct redis_url){.host = v6, .port = 6379});
    expect_url("redis://[::1]:65535/0", &(struct redis_url){.host = v6, .port = 65535});
    expect_url("redis://:p@h", &(struct redis_url){.password = p, .host = h, .port = 6379});
    expect_url("redis://u:p@h:7",
               &(struct redis_url){.user = u, .password = p, .host = h, .port = 7});
    expect_url("redis://:a%40b%3ac%2Fd%25@h",
               &(struct redis_url){.password = at, .host = h, .port = 6379});
    expect_url("unix:///run/r.sock", &(struct redis_url){.path = sock});
    expect_url("redis+unix:///run/r.sock?db=3", &(struct redis_url){.path = sock, .db = 3});
    expect_url("unix://u:p@/run/r.sock",
               &(struct redis_url){.user = u, .password = p, .path = sock});
}

static void url_takes_an_at_sign_in_the_password(void **state)
{
    (void)state;
    char h[] = "h", p[] = "a@b:c";
    expect_url("redis://:a@b:c@h", &(struct redis_url){.password = p, .host = h, .port = 6379});
}

static void expect_bad_url(const char *text, const char *word)
{
    struct redis_url url;
    struct err err;
    if (redis_url_parse(&url, text, &err) == 0)
        fail_msg("taken: %s", text);
    assert_int_equal(err.kind, ERR_INPUT);
    if (strstr(err.msg, word) == NULL)
        fail_msg("%s: \"%s\" without \"%s\"", text, err.msg, word);
    assert_null(strstr(err.msg, "secret"));
    redis_url_fini(&url);
}

static void url_says_what_is_wrong_and_keeps_the_password(void **state)
{
    (void)state;
    expect_bad_url("rediss://:secret@h", "stunnel");
    expect_bad_url("http://h", "redis://HOST:PORT");
    expect_bad_url("h:6379", "redis://HOST:PORT");
    expect_bad_url("", "redis://HOST:PORT");
    expect_bad_url("redis://", "no host");
    expect_bad_url("redis://:secret@", "no host");
    expect_bad_url("redis://h:0", "`0`");
    expect_bad_url("redis://h:65536", "`65536`");
    expect_bad_url("redis://:secret@h:12x", "`12x`");
    expect_bad_url("redis://h:", "port");
    expect_bad_url("redis://[::1", "`]`");
    expect_bad_url("redis://[::1]6379", "port");
    expect_bad_url("redis://:secret@h/x", "database `x`");
    expect_bad_url("redis://h/0/1", "`0/1`");
    expect_bad_url("redis://h?db=1", "`?db=1`");
    expect_bad_url("redis://:secret%4@h", "password");
    expect_bad_url("redis://:secret%00@h", "password");
    expect_bad_url("redis://%zz:secret@h", "user");
    expect_bad_url("unix://run/r.sock", "unix:///PATH");
    expect_bad_url("unix:///", "unix:///PATH");
    expect_bad_url("unix:///r?x=1", "?db=");
    expect_bad_url("unix:///r?db=", "database");
}

/* ---- settings ---- */

/* The problems of one sink section, as `busbar check` would print them. */
static char *problems_of(const char *yaml, struct redis_settings *out)
{
    struct settings *file = settings_parse("f.yaml", yaml, strlen(yaml));
    const struct settings_node *root = settings_root(file);
    memset(out, 0, sizeof *out);
    settings_apply(file, root, "sink cache", redis_settings_rows, NULL, out);
    redis_sink.check(file, root, out);
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    settings_print_problems(file, to);
    fclose(to);
    settings_free(&file);
    return text;
}

static void expect_problem(const char *yaml, const char *word)
{
    struct redis_settings settings;
    char *text = problems_of(yaml, &settings);
    if (word == NULL ? *text != '\0' : strstr(text, word) == NULL)
        fail_msg("%s: \"%s\", wanted \"%s\"", yaml, text, word != NULL ? word : "none");
    assert_null(strstr(text, "secret"));
    free(text);
}

static void settings_have_their_defaults(void **state)
{
    (void)state;
    struct redis_settings settings;
    const char yaml[] = "url: redis://h\n";
    struct settings *file = settings_parse("f.yaml", yaml, sizeof yaml - 1);
    settings_apply(file, settings_root(file), "sink cache", redis_settings_rows, NULL, &settings);
    assert_int_equal(settings_problems(file), 0);
    assert_string_equal(settings.url, "redis://h");
    assert_null(settings.password);
    assert_string_equal(settings.stream, "%{source}:%{topic}");
    assert_string_equal(settings.prefix, "busbar");
    assert_int_equal(settings.max_entries, 100000);
    assert_int_equal(settings.timeout_ms, 5000);
    assert_false(settings.cluster);
    settings_free(&file);
}

static void settings_check_their_values(void **state)
{
    (void)state;
    expect_problem("url: redis://h\n", NULL);
    expect_problem("stream: x\n", "url");
    expect_problem("stream: x\nurl: rediss://:secret@h\n", "f.yaml:2:");
    expect_problem("url: redis://:secret@h:x\n", "port `x`");
    expect_problem("url: redis://h\nstream: '%{nope}'\n", "f.yaml:2:");
    expect_problem("url: redis://h\nstream: ''\n", "stream");
    expect_problem("url: redis://h\nprefix: 'a{b'\n", "braces");
    expect_problem("url: redis://h\nmax_entries: -1\n", "max_entries");
    expect_problem("url: redis://h\ntimeout: 1ms\n", "timeout");
}

static void cluster_wants_the_source_as_hash_tag(void **state)
{
    (void)state;
    expect_problem("url: redis://h\ncluster: true\n", "{%{source}}");
    expect_problem("url: redis://h\ncluster: true\nstream: '{%{source}}:%{topic}'\n", NULL);
    expect_problem("url: redis://h\ncluster: true\nstream: 'ev:{%{source}}:%{key}'\n", NULL);
    /* A key may hold a brace and would be the tag then. */
    expect_problem("url: redis://h\ncluster: true\nstream: '%{key}:{%{source}}'\n", "f.yaml:3:");
    expect_problem("url: redis://h\ncluster: true\nstream: '{x}{%{source}}'\n", "f.yaml:3:");
}

/* ---- ids ---- */

struct position {
    const char *topic;
    uint64_t index;
    uint32_t ordinal;
};

static void plan_of(struct redis_batch *plan, const struct position *at, size_t n)
{
    struct event events[REDIS_BATCH_EVENTS_MAX];
    const struct event *list[REDIS_BATCH_EVENTS_MAX];
    for (size_t i = 0; i < n; i++) {
        events[i] = (struct event){
            .topic = str_from(at[i].topic), .pos_index = at[i].index, .ordinal = at[i].ordinal};
        list[i] = &events[i];
    }
    struct template *stream = NULL;
    assert_int_equal(template_new(&stream, "%{source}:%{topic}", 1, NULL), 0);
    struct batch batch = {.events = list, .n = n, .source = STR("s")};
    redis_batch_plan(plan, stream, &batch);
    template_free(&stream);
}

static void expect_id(const struct redis_batch *plan, size_t i, uint64_t ms, uint64_t seq)
{
    assert_int_equal(plan->entries[i].ms, ms);
    assert_int_equal(plan->entries[i].seq, seq);
}

static void ids_are_the_positions(void **state)
{
    (void)state;
    struct redis_batch *plan = mem_zalloc(sizeof *plan);
    plan_of(plan, (struct position[]){{"A", 5, 0}, {"B", 5, 1}, {"A", 5, 2}, {"A", 6, 0}}, 4);
    assert_int_equal(plan->n_streams, 2);
    assert_int_equal(plan->names.len, strlen("s:As:B"));
    assert_int_equal(plan->streams[0].count, 3);
    assert_int_equal(plan->streams[1].count, 1);
    expect_id(plan, 0, 5, 0);
    expect_id(plan, 1, 5, 1);
    expect_id(plan, 2, 5, 2);
    expect_id(plan, 3, 6, 0);
    redis_batch_fini(plan);
    free(plan);
}

static void ids_rise_where_positions_do_not(void **state)
{
    (void)state;
    struct redis_batch *plan = mem_zalloc(sizeof *plan);
    plan_of(plan,
            (struct position[]){
                {"A", 0, 0}, {"A", 7, 3}, {"A", 7, 3}, {"A", 7, 4}, {"A", 2, 0}, {"B", 2, 0}},
            6);
    expect_id(plan, 0, 0, 1); /* 0-0 is no valid id */
    expect_id(plan, 1, 7, 3);
    expect_id(plan, 2, 7, 4);
    expect_id(plan, 3, 7, 5);
    expect_id(plan, 4, 7, 6);
    expect_id(plan, 5, 2, 0); /* another stream has its own last id */
    redis_batch_fini(plan);
    free(plan);
}

static void every_event_may_have_a_stream_of_its_own(void **state)
{
    (void)state;
    struct redis_batch *plan = mem_zalloc(sizeof *plan);
    struct position at[REDIS_BATCH_EVENTS_MAX];
    char topics[REDIS_BATCH_EVENTS_MAX][16];
    for (size_t i = 0; i < REDIS_BATCH_EVENTS_MAX; i++) {
        snprintf(topics[i], sizeof topics[i], "t%zu", i);
        at[i] = (struct position){topics[i], 9, (uint32_t)i};
    }
    for (int round = 0; round < 2; round++) {
        plan_of(plan, at, REDIS_BATCH_EVENTS_MAX);
        assert_int_equal(plan->n_streams, REDIS_BATCH_EVENTS_MAX);
    }
    redis_batch_fini(plan);
    free(plan);
}

/* ---- the wire ---- */

static void expect_wire(struct redis_command *cmd, struct str want)
{
    struct buf wire = {0};
    size_t n;
    const struct iovec *pieces = redis_command_pieces(cmd, &n);
    for (size_t i = 0; i < n; i++)
        buf_append(&wire, pieces[i].iov_base, pieces[i].iov_len);
    assert_int_equal(wire.len, want.len);
    assert_memory_equal(wire.p, want.p, want.len);
    buf_fini(&wire);
}

static void command_is_an_array_of_bulk_strings(void **state)
{
    (void)state;
    struct redis_command cmd = {0};
    redis_command_begin(&cmd, 5);
    redis_command_add_cstr(&cmd, "GET");
    redis_command_add(&cmd, STR("a\0\r\n"));
    redis_command_add_u64(&cmd, UINT64_MAX);
    redis_command_add_u64(&cmd, 0);
    redis_command_add(&cmd, (struct str){NULL, 0});
    expect_wire(&cmd, STR("*5\r\n$3\r\nGET\r\n$4\r\na\0\r\n\r\n$20\r\n18446744073709551615\r\n"
                          "$1\r\n0\r\n$0\r\n\r\n"));
    redis_command_fini(&cmd);
}

static void long_arguments_are_pointed_at_and_stand_in_their_place(void **state)
{
    (void)state;
    struct redis_command cmd = {0};
    char big[3000];
    memset(big, 'x', sizeof big);
    for (int round = 0; round < 2; round++) {
        struct buf want = {0};
        redis_command_begin(&cmd, 200);
        buf_printf(&want, "*200\r\n");
        for (int i = 0; i < 100; i++) {
            redis_command_add_ref(&cmd, (struct str){big, sizeof big});
            redis_command_add_ref(&cmd, STR("y"));
            buf_printf(&want, "$%zu\r\n%.*s\r\n$1\r\ny\r\n", sizeof big, (int)sizeof big, big);
        }
        size_t n;
        redis_command_pieces(&cmd, &n);
        assert_int_equal(n, 201);
        assert_true(cmd.head.len < sizeof big * 2); /* not copied */
        expect_wire(&cmd, buf_str(&want));
        buf_fini(&want);
    }
    redis_command_fini(&cmd);
}

static void publish_tells_each_stream_then_its_events(void **state)
{
    (void)state;
    struct event a = {.topic = STR("Job"),
                      .type = STR("T"),
                      .key = STR("k\"1"),
                      .ns = STR(""),
                      .data = STR("{}"),
                      .index = 9,
                      .pos_index = 9,
                      .ordinal = 4,
                      .arrival_us = 1500000};
    struct event b = a;
    b.topic = STR("Node");
    b.time_us = 2000000;
    const struct event *list[] = {&a, &b, &a};
    struct batch batch = {.events = list, .n = 3, .source = STR("s")};
    struct template *stream = NULL;
    assert_int_equal(template_new(&stream, "%{topic}", 1, NULL), 0);
    struct redis_batch *plan = mem_zalloc(sizeof *plan);
    redis_batch_plan(plan, stream, &batch);
    struct redis_publish publish = {.sha = "SHA",
                                    .checkpoint_key = "C",
                                    .owner_key = "O",
                                    .lease_key = "L",
                                    .instance = "me",
                                    .lease_ms = 5000,
                                    .owner = STR("1 t"),
                                    .expected = STR(""),
                                    .next = STR("{n}"),
                                    .max_entries = 7};
    struct redis_command cmd = {0};
    redis_batch_command(plan, &publish, &batch, &cmd);
    expect_wire(
        &cmd,
        STR("*41\r\n$7\r\nEVALSHA\r\n$3\r\nSHA\r\n$1\r\n5\r\n$1\r\nC\r\n$1\r\nO\r\n$1\r\nL\r\n"
            "$3\r\nJob\r\n$4\r\nNode\r\n$3\r\n1 t\r\n$0\r\n\r\n$3\r\n{n}\r\n$1\r\n7\r\n"
            "$1\r\ns\r\n$2\r\nme\r\n$4\r\n5000\r\n"
            "$1\r\n2\r\n"
            "$3\r\n9-4\r\n$16\r\ns/9/Job//k\"1/T/0\r\n$3\r\nJob\r\n$1\r\nT\r\n$3\r\nk\"1\r\n"
            "$0\r\n\r\n$24\r\n1970-01-01T00:00:01.500Z\r\n$2\r\n{}\r\n"
            "$3\r\n9-5\r\n$16\r\ns/9/Job//k\"1/T/0\r\n$3\r\nJob\r\n$1\r\nT\r\n$3\r\nk\"1\r\n"
            "$0\r\n\r\n$24\r\n1970-01-01T00:00:01.500Z\r\n$2\r\n{}\r\n"
            "$1\r\n1\r\n"
            "$3\r\n9-4\r\n$17\r\ns/9/Node//k\"1/T/0\r\n$4\r\nNode\r\n$1\r\nT\r\n"
            "$3\r\nk\"1\r\n$0\r\n\r\n$24\r\n1970-01-01T00:00:02.000Z\r\n$2\r\n{}\r\n"));
    redis_command_fini(&cmd);
    redis_batch_fini(plan);
    free(plan);
    template_free(&stream);
}

static void oversized_events_are_found(void **state)
{
    (void)state;
    struct event fine = {.data = {"", REDIS_BULK_MAX}}, large = {.data = {"", REDIS_BULK_MAX + 1}};
    const struct event *list[] = {&fine, &large, &fine};
    struct batch batch = {.events = list, .n = 3};
    assert_int_equal(redis_batch_oversized(&batch), 1);
    batch.n = 1;
    assert_int_equal(redis_batch_oversized(&batch), 1);
}

/* ---- errors ---- */

static void expect_error(const char *text, enum sink_result result, const char *msg)
{
    struct err err;
    assert_int_equal(redis_error(text, &err), result);
    assert_int_equal(err.kind, result == SINK_FATAL ? ERR_FATAL : ERR_RETRY);
    if (strstr(err.msg, msg) == NULL)
        fail_msg("\"%s\" without \"%s\"", err.msg, msg);
    assert_null(strstr(err.msg, "user_script"));
}

static void errors_say_what_to_do(void **state)
{
    (void)state;
    expect_error("OOM command not allowed when used memory > 'maxmemory'. script: 0f, on "
                 "@user_script:79.",
                 SINK_RETRY, "'maxmemory': raise");
    expect_error("LOADING Redis is loading the dataset in memory", SINK_RETRY, "LOADING");
    expect_error("READONLY You can't write against a read only replica.", SINK_UNKNOWN, "primary");
    expect_error("WRONGPASS invalid username-password pair", SINK_FATAL, "password");
    expect_error("NOPERM this user has no permissions", SINK_FATAL, "+xadd");
    expect_error("ERR something new", SINK_FATAL, "something new");
}

static void errors_inside_a_script_of_an_older_redis_are_the_same(void **state)
{
    (void)state;
    expect_error("ERR Error running script (call to f_0f): @user_script:79: -OOM command not "
                 "allowed when used memory > 'maxmemory'.",
                 SINK_RETRY, "answers: OOM");
    expect_error("ERR Error running script (call to f_0f): @user_script:33: WRONGTYPE Operation "
                 "against a key holding the wrong kind of value",
                 SINK_FATAL, "answers: WRONGTYPE");
}

static void moved_tells_the_node(void **state)
{
    (void)state;
    char host[16];
    int port = 0;
    assert_true(redis_error_moved("MOVED 3999 127.0.0.1:6381", host, sizeof host, &port));
    assert_string_equal(host, "127.0.0.1");
    assert_int_equal(port, 6381);
    assert_true(redis_error_moved("MOVED 3999 ::1:7", host, sizeof host, &port));
    assert_string_equal(host, "::1");
    assert_true(redis_error_moved("MOVED 3999 :7", host, sizeof host, &port));
    assert_string_equal(host, "");
    assert_false(redis_error_moved("MOVED 3999", host, sizeof host, &port));
    assert_false(redis_error_moved("MOVED 3999 h:0", host, sizeof host, &port));
    assert_false(redis_error_moved("MOVED 3999 h:12x", host, sizeof host, &port));
    assert_false(
        redis_error_moved("MOVED 3999 a-name-that-is-too-long:1", host, sizeof host, &port));
    assert_false(redis_error_moved("ASK 3999 127.0.0.1:6381", host, sizeof host, &port));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(url_reads_every_form),
        cmocka_unit_test(url_takes_an_at_sign_in_the_password),
        cmocka_unit_test(url_says_what_is_wrong_and_keeps_the_password),
        cmocka_unit_test(settings_have_their_defaults),
        cmocka_unit_test(settings_check_their_values),
        cmocka_unit_test(cluster_wants_the_source_as_hash_tag),
        cmocka_unit_test(ids_are_the_positions),
        cmocka_unit_test(ids_rise_where_positions_do_not),
        cmocka_unit_test(every_event_may_have_a_stream_of_its_own),
        cmocka_unit_test(command_is_an_array_of_bulk_strings),
        cmocka_unit_test(long_arguments_are_pointed_at_and_stand_in_their_place),
        cmocka_unit_test(publish_tells_each_stream_then_its_events),
        cmocka_unit_test(oversized_events_are_found),
        cmocka_unit_test(errors_say_what_to_do),
        cmocka_unit_test(errors_inside_a_script_of_an_older_redis_are_the_same),
        cmocka_unit_test(moved_tells_the_node),
    };
    return cmocka_run_group_tests_name("redis", tests, NULL, NULL);
}
