/* test_replay.c - a capture is told once more, byte for byte, and goes on where it stood. */
#include "tests/unit/fake_ingest.h"

#include "bridge/base/clock.h"
#include "connectors/replay/replay.h"
#include "tests/unit/stopwatch.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#define LINE(index, key)                                                                        \
    "{\"Events\":[{\"Index\":" #index ",\"Key\":\"" key                                         \
    "\",\"Namespace\":\"default\",\"Payload\":{\"n\": 12345678901234567890},\"Topic\":\"Job\"," \
    "\"Type\":\"JobRegistered\"}],\"Index\":" #index "}"

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

static void replay(struct fixture *f, const char *capture)
{
    FILE *to = fopen(f->path, "w");
    assert_non_null(to);
    fputs(capture, to);
    fclose(to);
    void *self = replay_source.create(&f->settings, &f->in);
    f->rc = replay_source.run(self, &f->err);
    replay_source.destroy(self);
}

#define assert_told(f, text) assert_non_null(strstr(buf_cstr(&(f)->in.told), (text)))

static void tells_every_message_verbatim_then_ends(void **state)
{
    struct fixture *f = *state;
    replay(f, "{}\n" LINE(3, "a") "\n{}\n" LINE(4, "b") "\n");
    assert_int_equal(f->rc, 0);
    assert_string_equal(buf_cstr(&f->in.raw), LINE(3, "a") "\n" LINE(4, "b") "\n");
    assert_string_equal(buf_cstr(&f->in.told),
                        "attached\nmessage 3 Job/a\nmessage 4 Job/b\nended\n");
    assert_true(f->in.flushes > 0);
}

static void goes_on_at_the_index_the_journal_stands_at(void **state)
{
    struct fixture *f = *state;
    f->in.resume = (struct ingest_resume){.known = true, .index = 4, .last = 5};
    replay(f, "{}\n" LINE(3, "a") "\n{broken\n" LINE(4, "b") "\n" LINE(
                  4, "b2") "\n"
                           "{broken\n" LINE(2, "late") "\n");
    assert_told(f, "attached\nmessage 4 Job/b\nmessage 4 Job/b2\nmalformed 7: ");
    assert_told(f, "\nmessage 2 Job/late\nended\n");
}

static void takes_a_whole_last_line_without_a_line_break(void **state)
{
    struct fixture *f = *state;
    replay(f, LINE(3, "a") "\n" LINE(4, "b"));
    assert_int_equal(f->in.messages, 2);
}

static void leaves_out_half_a_last_line(void **state)
{
    struct fixture *f = *state;
    replay(f, LINE(3, "a") "\n{\"Events\":[{\"Ind");
    assert_int_equal(f->rc, 0);
    assert_int_equal(f->in.messages, 1);
    assert_int_equal(f->in.malformed, 0);
    assert_int_equal(f->in.ended, 1);
}

static void tells_an_unreadable_line_in_the_middle_as_malformed(void **state)
{
    struct fixture *f = *state;
    replay(f, LINE(3, "a") "\n{\"Events\":[{]}\n" LINE(4, "b") "\n");
    assert_int_equal(f->in.malformed, 1);
    assert_int_equal(f->in.messages, 2);
    assert_non_null(strstr(buf_cstr(&f->in.raw), "\n{\"Events\":[{]}\n"));
}

static void refuses_a_file_of_something_else(void **state)
{
    struct fixture *f = *state;
    replay(f, "{}\n");
    assert_int_equal(f->rc, 0);
    replay(f, "name: busbar\nsources: []\n");
    assert_int_equal(f->rc, -1);
    assert_int_equal(f->err.kind, ERR_INPUT);
    assert_non_null(strstr(f->err.msg, "line 1"));
    assert_int_equal(f->in.malformed, 0);
}

static void refuses_what_is_no_file(void **state)
{
    struct fixture *f = *state;
    const char *const paths[] = {"/nonexistent/capture", "/tmp", "/dev/null"};
    const char *const says[] = {"No such file", "a directory", "not a regular file"};
    for (size_t i = 0; i < 3; i++) {
        f->settings.path = paths[i];
        void *self = replay_source.create(&f->settings, &f->in);
        assert_int_equal(replay_source.run(self, &f->err), -1);
        assert_int_equal(f->err.kind, ERR_INPUT);
        assert_non_null(strstr(f->err.msg, says[i]));
        replay_source.destroy(self);
    }
}

static void keeps_to_the_rate(void **state)
{
    struct fixture *f = *state;
    f->settings.rate = 20;
    bool each_alone = false;
    /* What is due at once, as after the machine stood still, is one flush: not each time. */
    for (size_t tries = 1; tries <= 10 && !each_alone; tries++) {
        size_t flushes = f->in.flushes;
        struct stopwatch before = stopwatch_start();
        replay(f, LINE(1, "a") "\n" LINE(2, "b") "\n" LINE(3, "c") "\n");
        assert_took(&before, 95, 10000);
        assert_int_equal(f->in.messages, 3 * tries);
        each_alone = f->in.flushes >= flushes + 3;
    }
    assert_true(each_alone);
}

static void stops_when_asked_to_in_the_middle(void **state)
{
    struct fixture *f = *state;
    f->settings.rate = 1;
    struct stopwatch before = stopwatch_start();
    for (size_t i = 1; i <= 10; i++) {
        f->in.stop_after_messages = i;
        replay(f, LINE(1, "a") "\n" LINE(2, "b") "\n" LINE(3, "c") "\n");
        assert_int_equal(f->rc, 0);
        assert_int_equal(f->in.messages, i);
        stop_free(&f->in.stop);
        f->in.stop = stop_new();
    }
    assert_took(&before, 0, 8000); /* ten waits for the next line would take 10 s */
    assert_int_equal(f->in.ended, 0);
}

static void hands_on_the_error_of_ingest(void **state)
{
    struct fixture *f = *state;
    f->in.refuse = true;
    replay(f, LINE(1, "a") "\n");
    assert_int_equal(f->rc, -1);
    assert_string_equal(f->err.msg, "the fake refuses");
    assert_int_equal(f->in.ended, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tells_every_message_verbatim_then_ends),
        TEST(goes_on_at_the_index_the_journal_stands_at),
        TEST(takes_a_whole_last_line_without_a_line_break),
        TEST(leaves_out_half_a_last_line),
        TEST(tells_an_unreadable_line_in_the_middle_as_malformed),
        TEST(refuses_a_file_of_something_else),
        TEST(refuses_what_is_no_file),
        TEST(keeps_to_the_rate),
        TEST(stops_when_asked_to_in_the_middle),
        TEST(hands_on_the_error_of_ingest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
