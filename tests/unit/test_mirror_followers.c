/* test_mirror_followers.c - followers of /v1/event/stream and /v2/events that are too slow. */
#include "tests/unit/mirror_kit.h"
#include "tests/unit/nomad_lines_kit.h"

#include <stdio.h>

enum { NOMAD, MARATHON, LAG_MS = 300, LONG_LAG_MS = 3000, LINES = 6000, PADDING = 1000 };

/* ---- what the log says ---- */

static int log_fd = -1, real_fd = -1;

static void log_begin(void)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    log_fd = dup(fileno(file));
    fclose(file);
    real_fd = dup(STDERR_FILENO);
    dup2(log_fd, STDERR_FILENO);
}

/* The line of the first cut. */
static char *log_end(void)
{
    static char text[16384];
    dup2(real_fd, STDERR_FILENO);
    close(real_fd);
    ssize_t n = pread(log_fd, text, sizeof text - 1, 0);
    close(log_fd);
    text[n > 0 ? n : 0] = '\0';
    char *line = strstr(text, "event=client_cut");
    assert_non_null(line);
    line[strcspn(line, "\n")] = '\0';
    return line;
}

/* ---- a mirror of a Nomad and of a Marathon ---- */

static int set_up_lag(void **state, int64_t lag_ms)
{
    struct kit *kit = mem_zalloc(sizeof *kit);
    kit->bridge = kit_bridge(2, 64 << 20);
    kit->bridge->is_marathon[MARATHON] = true;
    kit->settings = kit_settings();
    kit->settings.client_lag_ms = lag_ms;
    kit->settings.client_buffer = 4096;
    kit->settings.heartbeat_ms = 100;
    kit->mirror = kit_mirror(kit->bridge, &kit->settings);
    kit->address = mirror_address(kit->mirror);
    *state = kit;
    return 0;
}

static int set_up(void **state)
{
    return set_up_lag(state, LAG_MS);
}

static int set_up_long(void **state)
{
    return set_up_lag(state, LONG_LAG_MS);
}

static void say(struct kit *kit, size_t source, uint64_t n, uint32_t epoch)
{
    struct line_message m;
    struct err err;
    struct line_event of = {.padding = PADDING};
    line_make(&m, n, epoch, &of, 1);
    m.events[0].pos_index = kit->bridge->next_index++;
    int64_t arrival = arrival_take(&kit->bridge->arrival, source, 1);
    assert_int_equal(0, journal_append(kit->bridge->journals[source], buf_str(&m.raw), arrival,
                                       m.events, 1, &err));
    kit_commit(kit->bridge, source);
    line_free(&m);
}

static const char *const targets[] = {"/v1/event/stream", "/v2/events"};

static struct peer follow(struct kit *kit, size_t source, const char *query)
{
    struct buf target = {0};
    buf_printf(&target, "%s%s", targets[source], query);
    struct peer p = peer_get(kit->address, buf_cstr(&target), "Accept: text/event-stream\r\n");
    buf_fini(&target);
    peer_expect(&p, "HTTP/1.1 200 OK\r\n");
    peer_expect(&p, "\r\n\r\n");
    return p;
}

static void expect_line(struct peer *p, uint64_t n)
{
    char text[48];
    snprintf(text, sizeof text, "{\"Index\":%" PRIu64 ",", n);
    peer_expect(p, text);
}

/* Says lines while one takes nothing and another one takes all, at once, until the first is cut;
 * returns the number of the last one. */
static uint64_t fall_behind(struct kit *kit, size_t source, struct peer *slow, struct peer *other)
{
    int small = 4096;
    uint64_t n = 0;
    setsockopt(slow->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    while (kit_metric(kit->bridge, "busbar_clients_cut_lag_total") == 0 && n < LINES) {
        say(kit, source, ++n, 0);
        expect_line(other, n);
        if (n > LINES / 4)
            poll(NULL, 0, 5);
    }
    assert_true(kit_becomes(kit->bridge, "busbar_clients_cut_lag_total", 1));
    assert_int_equal(1, kit_metric(kit->bridge, "busbar_clients_cut_total"));
    peer_expect_end(slow);
    return n;
}

/* Of the last line that came whole. */
static uint64_t last_index(struct peer *p)
{
    buf_cstr(&p->got);
    const char *mark = "],\"Index\":", *at = p->got.p, *next;
    uint64_t index = 0;
    while ((next = strstr(at, mark)) != NULL && strchr(next, '\n') != NULL) {
        at = next + strlen(mark);
        index = strtoull(at, NULL, 10);
    }
    return index;
}

static void a_nomads_client_is_told_the_index_to_go_on_with(void **state)
{
    struct kit *kit = *state;
    struct peer slow = follow(kit, NOMAD, ""), other = follow(kit, NOMAD, "");
    log_begin();
    uint64_t newest = fall_behind(kit, NOMAD, &slow, &other), last = last_index(&slow);
    const char *line = log_end();
    char position[64];
    snprintf(position, sizeof position, "index=%" PRIu64, last);
    assert_non_null(strstr(line, " path=/v1/event/stream reason=lag "));
    assert_non_null(strstr(line, position));
    assert_true(last > 0 && last < newest);
    peer_close(&slow);
    snprintf(position, sizeof position, "?index=%" PRIu64, last);
    slow = follow(kit, NOMAD, position);
    for (uint64_t n = last; n <= newest; n++)
        expect_line(&slow, n);
    peer_close(&slow);
    peer_close(&other);
}

/* The index that it had means nothing any more: all of the new one is what it lacks. */
static void an_index_that_started_over_is_begun_anew(void **state)
{
    struct kit *kit = *state;
    struct peer slow = follow(kit, NOMAD, ""), other = follow(kit, NOMAD, "");
    int small = 4096;
    setsockopt(slow.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    log_begin();
    for (uint64_t n = 1; n <= 200; n++) { /* far more than is taken for it, in less than the lag */
        say(kit, NOMAD, n, 0);
        expect_line(&other, n);
    }
    say(kit, NOMAD, 1, 1);
    for (uint64_t n = 2; kit_metric(kit->bridge, "busbar_clients_cut_lag_total") == 0; n++) {
        assert_true(n < LINES);
        say(kit, NOMAD, n, 1);
        expect_line(&other, n);
        poll(NULL, 0, 5);
    }
    const char *line = log_end();
    assert_non_null(strstr(line, " reason=lag "));
    const char *position = strstr(line, "index=");
    assert_non_null(position);
    assert_int_equal(1, strtol(position + 6, NULL, 10));
    peer_close(&slow);
    peer_close(&other);
}

static void a_marathons_client_has_nothing_to_go_on_with(void **state)
{
    struct kit *kit = *state;
    struct peer slow = follow(kit, MARATHON, ""), other = follow(kit, MARATHON, "");
    log_begin();
    fall_behind(kit, MARATHON, &slow, &other);
    const char *line = log_end();
    assert_non_null(strstr(line, " path=/v2/events reason=lag "));
    assert_null(strstr(line, "index="));
    peer_close(&slow);
    peer_close(&other);
}

/* Nothing comes for longer than one may be behind; and who asks for all there is begins as late. */
static void nobody_is_cut_for_a_pause(void **state)
{
    struct kit *kit = *state;
    struct peer now = follow(kit, NOMAD, ""), listener = follow(kit, MARATHON, "");
    for (uint64_t n = 1; n <= 3; n++) {
        poll(NULL, 0, 2 * LAG_MS);
        say(kit, NOMAD, n, 0);
        say(kit, MARATHON, n, 0);
        expect_line(&now, n);
        expect_line(&listener, n);
        struct peer all = follow(kit, NOMAD, "?index=1");
        for (uint64_t i = 1; i <= n; i++)
            expect_line(&all, i);
        peer_close(&all);
    }
    assert_int_equal(0, kit_metric(kit->bridge, "busbar_clients_cut_total"));
    peer_close(&now);
    peer_close(&listener);
}

#define WITH(test, set_up) cmocka_unit_test_setup_teardown(test, set_up, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_nomads_client_is_told_the_index_to_go_on_with, set_up),
        WITH(an_index_that_started_over_is_begun_anew, set_up_long),
        WITH(a_marathons_client_has_nothing_to_go_on_with, set_up),
        WITH(nobody_is_cut_for_a_pause, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
