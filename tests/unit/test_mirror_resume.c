/* test_mirror_resume.c - GET /events with an id of another journal: nothing is lost unsaid, and
 * what can be known to have been told is not told again. */
#include "tests/unit/mirror_kit.h"

#include <signal.h>

struct resumed {
    struct bridge *bridge;
    struct mirror_settings settings;
    struct mirror *mirror;
    const char *address;
    struct peer peer;
};

/* Indexes 100 to 102 are there, with their index as data. */
static int setup_kind(void **state, bool is_marathon, int64_t heartbeat_ms)
{
    struct resumed *kit = mem_zalloc(sizeof *kit);
    kit->bridge = kit_bridge(2, 64 << 20);
    kit->bridge->is_marathon[0] = is_marathon;
    kit->settings = kit_settings();
    kit->settings.heartbeat_ms = heartbeat_ms;
    kit->mirror = kit_mirror(kit->bridge, &kit->settings);
    kit->address = mirror_address(kit->mirror);
    kit->peer.fd = -1;
    for (int i = 100; i <= 102; i++) {
        char data[16];
        snprintf(data, sizeof data, "<%d>", i);
        kit_add(kit->bridge, 0, data);
    }
    *state = kit;
    return 0;
}

static int setup(void **state)
{
    return setup_kind(state, false, 200);
}

static int setup_quiet(void **state)
{
    return setup_kind(state, false, 60000);
}

static int setup_marathon(void **state)
{
    return setup_kind(state, true, 200);
}

static int teardown(void **state)
{
    struct resumed *kit = *state;
    if (kit->peer.fd >= 0)
        peer_close(&kit->peer);
    mirror_close(&kit->mirror);
    kit_bridge_free(&kit->bridge);
    free(kit);
    return 0;
}

/* `position` as in an id, told by another journal so many ms ago. */
static void resume_by(struct resumed *kit, const char *target, const char *position, int64_t ago_ms)
{
    char header[160];
    int64_t arrival_us = clock_wall_us() - ago_ms * 1000;
    snprintf(header, sizeof header, "Last-Event-ID: prod:%s@%" PRId64 ".00000000deadbeef\r\n",
             position, arrival_us);
    kit->peer = peer_get(kit->address, target, header);
    peer_expect(&kit->peer, ": busbar\n\n");
}

static void resume_at(struct resumed *kit, const char *position)
{
    resume_by(kit, "/events", position, 0);
}

static void add_event(struct resumed *kit, struct event event)
{
    char data[32];
    snprintf(data, sizeof data, "<%" PRIu64 ">", event.index > 0 ? event.index : event.pos_index);
    event.data = str_from(data);
    kit_append(kit->bridge, 0, event);
    kit_commit(kit->bridge, 0);
}

static void add(struct resumed *kit, uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i <= last; i++)
        add_event(kit, (struct event){.pos_index = i});
}

/* The source's index has started over: the position stays where it is. */
static void add_over(struct resumed *kit, uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i <= last; i++)
        add_event(kit, (struct event){.pos_index = 102, .ordinal = 1, .index = i, .epoch = 1});
}

static void add_own_gap(struct resumed *kit, uint32_t epoch)
{
    add_event(kit, (struct event){.topic = STR("Busbar"),
                                  .type = STR("Gap"),
                                  .pos_index = 102,
                                  .ordinal = 1,
                                  .epoch = epoch,
                                  .origin = EVENT_OWN});
}

/* The next frame that is more than a comment; NULL where none comes. */
static char *take_frame(struct resumed *kit)
{
    int64_t until = clock_mono_ms() + KIT_WAIT_MS;
    while (clock_mono_ms() < until) {
        char *taken = peer_take(&kit->peer, "\n\n", KIT_WAIT_MS);
        if (taken == NULL || taken[0] != ':')
            return taken;
        free(taken);
    }
    return NULL;
}

/* The next frames have this type and data, in this order; nothing else comes between. */
static void expect(struct resumed *kit, const char *type, const char *data)
{
    char expected[64];
    snprintf(expected, sizeof expected, "\nevent: %s\ndata: %s", type, data);
    char *taken = take_frame(kit);
    if (taken == NULL || strstr(taken, expected) == NULL)
        fail_msg("expected %s, got %s", expected, taken != NULL ? taken : "nothing");
    free(taken);
}

static void expect_indexes(struct resumed *kit, int first, int last)
{
    for (int i = first; i <= last; i++) {
        char data[16];
        snprintf(data, sizeof data, "<%d>\n", i);
        expect(kit, "JobRegistered", data);
    }
}

/* The mirror's own. */
static void expect_gap(struct resumed *kit, int from, int to)
{
    char payload[64];
    char *taken = take_frame(kit);
    snprintf(payload, sizeof payload, "\"Payload\":{\"From\":%d,\"To\":%d,\"Reason\":", from, to);
    if (taken == NULL || strstr(taken, payload) == NULL)
        fail_msg("expected a Gap with %s, got %s", payload, taken != NULL ? taken : "nothing");
    free(taken);
}

/* ---- what was told ---- */

static void what_comes_again_below_the_named_index_is_skipped(void **state)
{
    struct resumed *kit = *state;
    resume_at(kit, "105.0");
    add(kit, 103, 104);
    peer_expect_silence(&kit->peer, 300);
    add(kit, 105, 107);
    expect_indexes(kit, 105, 107);
}

static void what_came_again_in_part_is_skipped_too(void **state)
{
    struct resumed *kit = *state;
    add(kit, 103, 103);
    resume_at(kit, "105.0");
    add(kit, 104, 107);
    expect_indexes(kit, 105, 107);
}

static void what_came_again_before_is_skipped(void **state)
{
    struct resumed *kit = *state;
    add(kit, 103, 107);
    resume_at(kit, "105.0");
    expect_indexes(kit, 105, 107);
}

static void after_a_long_time_down_too(void **state)
{
    struct resumed *kit = *state;
    arrival_raise(&kit->bridge->arrival, clock_wall_us() + 120 * INT64_C(1000000));
    add(kit, 103, 103);
    resume_at(kit, "105.0");
    add(kit, 104, 107);
    expect_indexes(kit, 105, 107);
}

/* The other instance was behind by more than the overlap. */
static void the_named_index_may_have_come_here_long_before(void **state)
{
    struct resumed *kit = *state;
    arrival_raise(&kit->bridge->arrival, clock_wall_us() + 20 * INT64_C(1000000));
    add(kit, 103, 103);
    resume_by(kit, "/events", "101.0", -20000);
    expect_indexes(kit, 101, 103);
}

static void other_sources_are_not_skipped(void **state)
{
    struct resumed *kit = *state;
    kit_append(kit->bridge, 1, (struct event){.data = STR("<6>"), .pos_index = 6});
    kit_commit(kit->bridge, 1);
    resume_at(kit, "105.0");
    add(kit, 103, 103);
    kit_append(kit->bridge, 1, (struct event){.data = STR("<7>"), .pos_index = 7});
    kit_commit(kit->bridge, 1);
    expect_indexes(kit, 6, 7);
    add(kit, 104, 105);
    expect_indexes(kit, 105, 105);
}

static void what_is_skipped_may_lie_among_what_all_are_sent(void **state)
{
    struct resumed *kit = *state;
    resume_at(kit, "105.0");
    peer_expect_silence(&kit->peer, 200); /* it has all, and reads no journal any more */
    kit_append(kit->bridge, 1, (struct event){.data = STR("<6>"), .pos_index = 6});
    kit_append(kit->bridge, 0, (struct event){.data = STR("<103>"), .pos_index = 103});
    kit_append(kit->bridge, 1, (struct event){.data = STR("<7>"), .pos_index = 7});
    kit_commit(kit->bridge, 0); /* which waits for what is earlier: all three come at once */
    kit_commit(kit->bridge, 1);
    expect_indexes(kit, 6, 7);
    add(kit, 104, 106);
    expect_indexes(kit, 105, 106);
}

static void what_a_resync_tells_is_no_place_in_the_stream(void **state)
{
    struct resumed *kit = *state;
    resume_at(kit, "105.0");
    add_event(kit, (struct event){.type = STR("Snapshot"),
                                  .index = 900,
                                  .pos_index = 102,
                                  .ordinal = 1,
                                  .origin = EVENT_SNAPSHOT});
    expect(kit, "Snapshot", "<900>\n");
    add(kit, 103, 105);
    expect_indexes(kit, 105, 105);
}

/* An id of this journal would make it forget. */
static void no_heartbeat_tells_an_id_meanwhile(void **state)
{
    struct resumed *kit = *state;
    resume_at(kit, "105.0");
    add(kit, 103, 103);
    for (int i = 0; i < 3; i++)
        peer_expect_without(&kit->peer, ": heartbeat\n\n", "id:");
}

/* ---- what can't be known ---- */

static void the_named_index_that_never_comes_is_a_gap(void **state)
{
    struct resumed *kit = *state;
    resume_at(kit, "105.0");
    add(kit, 103, 103);
    add(kit, 107, 108);
    expect_gap(kit, 105, 107);
    expect_indexes(kit, 107, 108);
}

static void the_named_index_that_never_came_is_a_gap(void **state)
{
    struct resumed *kit = *state;
    add(kit, 107, 108);
    resume_at(kit, "105.0");
    expect_gap(kit, 105, 107);
    expect_indexes(kit, 107, 108);
}

static void no_filter_hides_that_gap(void **state)
{
    struct resumed *kit = *state;
    resume_by(kit, "/events?type=Other", "105.0", 0);
    add(kit, 107, 107);
    expect_gap(kit, 105, 107);
    add_event(kit, (struct event){.type = STR("Other"), .pos_index = 108});
    expect(kit, "Other", "<108>\n");
}

static void after_a_gap_of_the_source_everything_is_told(void **state)
{
    struct resumed *kit = *state;
    resume_at(kit, "105.0");
    add_own_gap(kit, 0);
    add(kit, 103, 105);
    expect(kit, "Gap", "<102>\n");
    expect_indexes(kit, 103, 105);
}

static void after_a_gap_since_the_id_everything_is_told(void **state)
{
    struct resumed *kit = *state;
    add_own_gap(kit, 0);
    add(kit, 103, 105);
    resume_at(kit, "105.0");
    expect(kit, "Gap", "<102>\n");
    expect_indexes(kit, 103, 105);
}

static void an_index_that_starts_over_is_told_from_its_start(void **state)
{
    struct resumed *kit = *state;
    resume_at(kit, "105.0");
    add_own_gap(kit, 1);
    add_over(kit, 1, 3);
    expect(kit, "Gap", "<102>\n");
    expect_indexes(kit, 1, 3);
}

static void an_index_that_starts_over_unsaid_is_a_gap(void **state)
{
    struct resumed *kit = *state;
    resume_at(kit, "105.0");
    add_over(kit, 1, 3);
    expect_gap(kit, 0, 1);
    expect_indexes(kit, 1, 3);
}

/* The other journal was of another cluster, or began with another count. */
static void skipping_does_not_last(void **state)
{
    struct resumed *kit = *state;
    resume_at(kit, "90000.0");
    add(kit, 103, 105);
    peer_expect_silence(&kit->peer, 300);
    arrival_raise(&kit->bridge->arrival, clock_wall_us() + 61 * INT64_C(1000000));
    add(kit, 106, 108);
    expect_gap(kit, 0, 106);
    expect_indexes(kit, 106, 108);
}

static void a_journal_that_began_later_tells_all_behind_a_gap(void **state)
{
    struct resumed *kit = *state;
    resume_by(kit, "/events?source=prod", "105.0", 60000);
    expect_gap(kit, 0, 100);
    expect_indexes(kit, 100, 102);
    add(kit, 103, 106);
    expect_indexes(kit, 103, 106);
}

static void a_journal_that_began_later_and_has_the_index_goes_on_there(void **state)
{
    struct resumed *kit = *state;
    resume_by(kit, "/events?source=prod", "101.0", 60000);
    expect_indexes(kit, 101, 102);
}

/* ---- ids with an epoch ---- */

static void an_id_has_the_epoch_and_the_index_in_it(void **state)
{
    struct resumed *kit = *state;
    resume_at(kit, "102.0");
    add_over(kit, 3, 3);
    peer_expect(&kit->peer, "id: prod:102.0@");
    peer_expect(&kit->peer, "id: prod:3~1.1@");
}

static void an_id_with_an_epoch_is_found_in_it(void **state)
{
    struct resumed *kit = *state;
    add_own_gap(kit, 1);
    add_over(kit, 1, 5);
    resume_by(kit, "/events", "3~1.7", 0);
    expect(kit, "Gap", "<102>\n"); /* it is that fresh */
    expect_indexes(kit, 1, 5);
    peer_close(&kit->peer);
    arrival_raise(&kit->bridge->arrival, clock_wall_us() + 20 * INT64_C(1000000));
    add_over(kit, 6, 6);
    resume_by(kit, "/events", "8~1.7", -20000);
    add_over(kit, 7, 9);
    expect_indexes(kit, 8, 9);
}

/* Another instance began to count later: its index means nothing here. */
static void an_id_of_another_epoch_is_a_gap(void **state)
{
    struct resumed *kit = *state;
    resume_by(kit, "/events?source=prod", "3~1.7", 0);
    expect_gap(kit, 0, 100);
    expect_indexes(kit, 100, 102);
}

/* Another instance was told another order, so that what is below the index may not have been told.
 */
static void of_a_marathon_the_last_seconds_by_its_own_clock_are_told(void **state)
{
    struct resumed *kit = *state;
    for (uint64_t at = 20000; at <= 30000; at += 1000)
        add(kit, at, at);
    resume_at(kit, "26000.3");
    for (int at = 21000; at <= 30000; at += 1000)
        expect_indexes(kit, at, at);
    peer_close(&kit->peer);
    add_own_gap(kit, 0); /* its position lies before what was missed */
    for (uint64_t i = 1; i <= 80; i++)
        add_event(kit, (struct event){.topic = STR("App"),
                                      .type = STR("Snapshot"),
                                      .pos_index = 30000,
                                      .ordinal = (uint32_t)i,
                                      .origin = EVENT_SNAPSHOT});
    add(kit, 50000, 50000);
    resume_at(kit, "40000.3");
    expect(kit, "Gap", "<102>\n");
    for (int i = 1; i <= 80; i++)
        expect(kit, "Snapshot", "<30000>\n");
    expect_indexes(kit, 50000, 50000);
    peer_close(&kit->peer);
    resume_at(kit, "5000.0"); /* it can't be shown that this journal began before */
    expect_gap(kit, 0, 100);
    expect_indexes(kit, 100, 102);
}

#define WITH(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        WITH(what_comes_again_below_the_named_index_is_skipped),
        WITH(what_came_again_in_part_is_skipped_too),
        WITH(what_came_again_before_is_skipped),
        WITH(after_a_long_time_down_too),
        WITH(the_named_index_may_have_come_here_long_before),
        WITH(other_sources_are_not_skipped),
        cmocka_unit_test_setup_teardown(what_is_skipped_may_lie_among_what_all_are_sent,
                                        setup_quiet, teardown),
        WITH(what_a_resync_tells_is_no_place_in_the_stream),
        WITH(no_heartbeat_tells_an_id_meanwhile),
        WITH(the_named_index_that_never_comes_is_a_gap),
        WITH(the_named_index_that_never_came_is_a_gap),
        WITH(no_filter_hides_that_gap),
        WITH(after_a_gap_of_the_source_everything_is_told),
        WITH(after_a_gap_since_the_id_everything_is_told),
        WITH(an_index_that_starts_over_is_told_from_its_start),
        WITH(an_index_that_starts_over_unsaid_is_a_gap),
        WITH(skipping_does_not_last),
        WITH(a_journal_that_began_later_tells_all_behind_a_gap),
        WITH(a_journal_that_began_later_and_has_the_index_goes_on_there),
        WITH(an_id_has_the_epoch_and_the_index_in_it),
        WITH(an_id_with_an_epoch_is_found_in_it),
        WITH(an_id_of_another_epoch_is_a_gap),
        cmocka_unit_test_setup_teardown(of_a_marathon_the_last_seconds_by_its_own_clock_are_told,
                                        setup_marathon, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
