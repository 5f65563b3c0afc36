/* test_replay_marathon.c - a capture of Marathon's events is told once more, byte for byte, in its
 * order, and goes on where it stood though times go back and events are equal. */
#include "tests/unit/fake_ingest.h"

#include "connectors/replay/replay.h"
#include "tests/unit/fixture.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <unistd.h>

#define DATA(ms, app)                                                                     \
    "{\"appId\":\"" app "\",\"eventType\":\"app_terminated_event\",\"timestamp\":\"1970-" \
    "01-01T00:00:00." #ms "Z\"}"
#define FRAME(ms, app) "event: app_terminated_event\r\ndata: " DATA(ms, app) "\r\n\r\n"

struct fixture {
    char path[64];
    struct ingest in;
    struct replay_settings settings;
    struct err err;
    int rc;
};

static int set_up(void **state)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    snprintf(f->path, sizeof f->path, "%s", P_tmpdir "/busbar-replay-XXXXXX");
    int fd = mkstemp(f->path);
    if (fd < 0)
        return -1;
    close(fd);
    f->in = fake_ingest();
    f->settings.path = f->path;
    for (const char *const *name = replay_source.rows[1].choices; *name != NULL; name++)
        if (strcmp(*name, "marathon") == 0)
            f->settings.format = (int)(name - replay_source.rows[1].choices);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    unlink(f->path);
    fake_ingest_fini(&f->in);
    free(f);
    return 0;
}

static void run(struct fixture *f)
{
    void *self = replay_source.create(&f->settings, &f->in);
    f->rc = replay_source.run(self, &f->err);
    replay_source.destroy(self);
}

static void replay(struct fixture *f, const char *capture)
{
    FILE *to = fopen(f->path, "w");
    assert_non_null(to);
    fputs(capture, to);
    fclose(to);
    run(f);
}

#define assert_told(f, text) assert_string_equal(buf_cstr(&(f)->in.told), text)

static void says_whose_events_it_tells(void **state)
{
    struct fixture *f = *state;
    const char *region = NULL;
    assert_true(replay_source.is_marathon(&f->settings));
    assert_false(replay_source.is_nomad(&f->settings, &region));
    f->settings.format = 0;
    assert_false(replay_source.is_marathon(&f->settings));
    assert_true(replay_source.is_nomad(&f->settings, &region));
    assert_false(replay_source.no_replay); /* the file is still there after a restart */
}

static void tells_every_event_verbatim_in_its_order_then_ends(void **state)
{
    struct fixture *f = *state;
    replay(f, FRAME(007, "/a") "\r\n" FRAME(009, "/b") "\r\n\r\n" FRAME(008, "/c"));
    assert_int_equal(f->rc, 0);
    assert_told(f, "attached\nmessage 7 App//a\nmessage 9 App//b\nmessage 8 App//c\nended\n");
    assert_string_equal(buf_cstr(&f->in.raw),
                        DATA(007, "/a") "\n" DATA(009, "/b") "\n" DATA(008, "/c") "\n");
}

static void takes_any_framing_of_the_standard(void **state)
{
    struct fixture *f = *state;
    replay(f, "event: app_terminated_event\ndata: " DATA(
                  001, "/a") "\n\n"
                             ": a comment\rid: 7\revent:app_terminated_event\rdata:" DATA(
                                 002, "/b") "\r\r"
                                            "retry: 1\r\ndata: {\"appId\":\"/c\",\r\ndata: "
                                            "\"eventType\":\"x\"}\r\n\r\n");
    assert_told(f, "attached\nmessage 1 App//a\nmessage 2 App//b\nmessage 0 Other//c\nended\n");
    assert_non_null(strstr(buf_cstr(&f->in.raw), "{\"appId\":\"/c\",\n\"eventType\":\"x\"}\n"));
}

/* Wherever an earlier run ended: times that go back, equal events and unreadable ones included. */
static void a_restart_tells_what_is_left_and_nothing_twice(void **state)
{
    struct fixture *f = *state;
    const char *const whole[] = {
        "message 9 App//a\n",
        "message 7 App//b\n",
        "message 9 App//a\n",
        "message 9 App//a\n",
        "malformed 3: byte 1: a member without a name\n",
        "message 1 App//c\n",
    };
    enum { EVENTS = sizeof whole / sizeof *whole };
    for (size_t told = 0; told <= EVENTS; told++) {
        struct buf expected = {0};
        buf_append_cstr(&expected, "attached\n");
        for (size_t i = told; i < EVENTS; i++)
            buf_append_cstr(&expected, whole[i]);
        buf_append_cstr(&expected, "ended\n");
        buf_clear(&f->in.told);
        f->in.next_seq = told + 1;
        replay(f, FRAME(009, "/a") FRAME(007, "/b") "data:\n\n" FRAME(009, "/a")
                      FRAME(009, "/a") "event: x\r\ndata: {no\r\n\r\n" FRAME(001, "/c"));
        assert_told(f, buf_cstr(&expected));
        buf_fini(&expected);
    }
}

static void goes_on_in_a_capture_that_has_grown(void **state)
{
    struct fixture *f = *state;
    replay(f, FRAME(001, "/a") "event: app_terminated_event\r\ndata: {\"appId\":\"/b\"");
    assert_told(f, "attached\nmessage 1 App//a\nended\n");
    f->in.next_seq = 2;
    replay(f, FRAME(001, "/a") "event: app_terminated_event\r\ndata: {\"appId\":\"/b\"}\r\n\r\n");
    assert_told(f, "attached\nmessage 1 App//a\nended\nattached\nmessage 0 App//b\nended\n");
}

/* The caller calls buf_fini. */
static struct buf replay_fixture(struct fixture *f, const char *name)
{
    struct buf bytes = fixture_read(name);
    FILE *to = fopen(f->path, "w");
    assert_int_equal(fwrite(bytes.p, 1, bytes.len, to), bytes.len);
    fclose(to);
    run(f);
    return bytes;
}

static void passes_over_the_head_of_an_answer(void **state)
{
    struct fixture *f = *state;
    struct buf bytes = replay_fixture(f, "marathon/wire-true-servlet.bin");
    assert_memory_equal(bytes.p, "HTTP/1.1 200 OK\r\n", 17);
    assert_int_equal(f->rc, 0);
    assert_int_equal(f->in.messages, 33);
    assert_int_equal(f->in.malformed, 0);
    buf_fini(&bytes);
}

static void tells_the_whole_real_capture(void **state)
{
    struct fixture *f = *state;
    struct buf bytes = replay_fixture(f, "marathon/real-1.11.sse");
    assert_int_equal(f->rc, 0);
    assert_int_equal(f->in.messages, 6370);
    assert_int_equal(f->in.malformed, 0);
    /* Every line of data, in order: the file without anything else. */
    const char *told = buf_cstr(&f->in.raw);
    buf_cstr(&bytes);
    for (char *line = strtok(bytes.p, "\r\n"); line != NULL; line = strtok(NULL, "\r\n")) {
        if (strncmp(line, "data: ", 6) != 0)
            continue;
        size_t len = strlen(line + 6);
        assert_memory_equal(told, line + 6, len);
        assert_int_equal(told[len], '\n');
        told += len + 1;
    }
    assert_int_equal(*told, '\0');
    buf_fini(&bytes);
}

static void a_stop_in_the_middle_ends_it_without_an_error(void **state)
{
    struct fixture *f = *state;
    f->in.stop_after_messages = 2;
    replay(f, FRAME(001, "/a") FRAME(002, "/b") FRAME(003, "/c"));
    assert_int_equal(f->rc, 0);
    assert_told(f, "attached\nmessage 1 App//a\nmessage 2 App//b\n");
}

static void refuses_a_file_of_something_else(void **state)
{
    struct fixture *f = *state;
    const char *const captures[][2] = {
        {"{}\n{\"Events\":[],\"Index\":7}\n", "no event in it"},
        {"name: busbar\nsources: []\n", "no event in it"},
        {"data: hello\n\n" FRAME(001, "/a"), "event 1: byte 0: not a value"},
        {"data: {}\n\n", "event 1: \"eventType\" is missing"},
    };
    for (size_t i = 0; i < sizeof captures / sizeof *captures; i++) {
        replay(f, captures[i][0]);
        assert_int_equal(f->rc, -1);
        assert_int_equal(f->err.kind, ERR_INPUT);
        assert_non_null(strstr(f->err.msg, captures[i][1]));
        assert_non_null(strstr(f->err.msg, "expected a capture of Marathon's event stream"));
    }
    assert_int_equal(f->in.malformed + f->in.messages, 0);
}

static void a_capture_of_heartbeats_is_a_quiet_one(void **state)
{
    struct fixture *f = *state;
    replay(f, "\r\n\r\n\r\n");
    assert_int_equal(f->rc, 0);
    assert_told(f, "attached\nended\n");
}

static void hands_on_the_error_of_ingest(void **state)
{
    struct fixture *f = *state;
    f->in.refuse = true;
    replay(f, FRAME(001, "/a"));
    assert_int_equal(f->rc, -1);
    assert_string_equal(f->err.msg, "the fake refuses");
    assert_int_equal(f->in.ended, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(says_whose_events_it_tells),
        TEST(tells_every_event_verbatim_in_its_order_then_ends),
        TEST(takes_any_framing_of_the_standard),
        TEST(a_restart_tells_what_is_left_and_nothing_twice),
        TEST(goes_on_in_a_capture_that_has_grown),
        TEST(passes_over_the_head_of_an_answer),
        TEST(tells_the_whole_real_capture),
        TEST(a_stop_in_the_middle_ends_it_without_an_error),
        TEST(refuses_a_file_of_something_else),
        TEST(a_capture_of_heartbeats_is_a_quiet_one),
        TEST(hands_on_the_error_of_ingest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
