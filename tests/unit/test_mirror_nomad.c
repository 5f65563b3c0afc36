/* test_mirror_nomad.c - GET /v1/event/stream: what a Nomad's client asks for, and what it gets. */
#include "tests/unit/mirror_kit.h"
#include "tests/unit/nomad_lines_kit.h"

#define STREAM "/v1/event/stream"

/* ---- a source that tells lines ---- */

static char *say_at(struct bridge *b, uint64_t index, uint32_t epoch, const struct line_event *of,
                    size_t n)
{
    struct line_message m;
    struct err err;
    static uint64_t pos_index, seen_by;
    if (seen_by != (uintptr_t)b->journals[0]) /* another test's */
        pos_index = 0;
    seen_by = (uintptr_t)b->journals[0];
    line_make(&m, index, epoch, of, n);
    for (size_t i = 0; i < n; i++) {
        pos_index = m.events[i].origin == EVENT_SOURCE && index > pos_index ? index : pos_index;
        m.events[i].pos_index = pos_index;
        m.events[i].ordinal = (uint32_t)i;
    }
    int64_t arrival = arrival_take(&b->arrival, 0, n);
    assert_int_equal(0,
                     journal_append(b->journals[0], buf_str(&m.raw), arrival, m.events, n, &err));
    kit_commit(b, 0);
    char *line = mem_strdup(buf_cstr(&m.raw));
    line_free(&m);
    return line;
}

static void say(struct bridge *b, uint64_t index, struct line_event of)
{
    free(say_at(b, index, 0, &of, 1));
}

static void say_many(struct bridge *b, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i <= to; i++)
        say(b, i, (struct line_event){0});
}

/* ---- a mirror, and who asks it ---- */

struct rig {
    struct bridge *bridge;
    struct mirror *mirror;
    struct mirror_settings settings;
    const char *address;
};

static void open_rig(struct rig *r)
{
    r->mirror = kit_mirror(r->bridge, &r->settings);
    r->address = mirror_address(r->mirror);
}

static int set_up(void **state)
{
    struct rig *r = mem_zalloc(sizeof *r);
    r->bridge = kit_bridge(2, 16 << 20);
    r->bridge->not_nomad[1] = true;
    r->settings = kit_settings();
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    mirror_close(&r->mirror);
    kit_bridge_free(&r->bridge);
    free(r);
    return 0;
}

static struct peer stream(const struct rig *r, const char *query)
{
    struct buf target = {0};
    buf_printf(&target, "%s%s", STREAM, query);
    struct peer p = peer_get(r->address, buf_cstr(&target), "");
    buf_fini(&target);
    peer_expect(&p, "HTTP/1.1 200 OK\r\n");
    peer_expect(&p, "\r\n\r\n");
    peer_expect(&p, "{}\n");
    return p;
}

/* The indexes of the lines that come, up to that of `last`, as text. */
static void expect_indexes(const struct rig *r, const char *query, uint64_t first, uint64_t last)
{
    struct peer p = stream(r, query);
    for (uint64_t i = first; i <= last; i++) {
        char *line = peer_take(&p, "\n", KIT_WAIT_MS);
        char end[64];
        snprintf(end, sizeof end, "],\"Index\":%" PRIu64 "}\n", i);
        if (line == NULL || strstr(line, end) == NULL)
            fail_msg("%s: expected index %" PRIu64 ", got %s", query, i, line);
        free(line);
    }
    peer_expect_silence(&p, 50);
    assert_int_equal(0, p.got.len);
    peer_close(&p);
}

static void expect_answer(const struct rig *r, const char *request, const char *status,
                          const char *type, const char *body)
{
    struct buf head = {0};
    buf_printf(&head, "%s\r\n", request);
    char *answer = kit_ask(r->address, buf_cstr(&head));
    const char *got = strstr(answer, "\r\n\r\n");
    if (strncmp(answer + 9, status, strlen(status)) != 0 || strstr(answer, type) == NULL ||
        strcmp(got + 4, body) != 0)
        fail_msg("%s: %s", request, answer);
    free(answer);
    buf_fini(&head);
}

/* ---- tests ---- */

static void gives_a_line_as_it_came(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    struct peer p = stream(r, "");
    struct line_event two[] = {{.key = "a"}, {.topic = "Evaluation", .key = "b"}};
    char *line = say_at(r->bridge, 7, 0, two, 2);
    char *got = peer_take(&p, "\n", KIT_WAIT_MS);
    assert_non_null(got);
    got[strlen(got) - 1] = '\0';
    assert_string_equal(line, got);
    free(line);
    free(got);
    peer_close(&p);
}

static void leaves_out_what_nomad_did_not_tell_now(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    struct line_event mixed[] = {{.key = "again", .repeat = true}, {.key = "new"}};
    free(say_at(r->bridge, 7, 0, mixed, 2));
    say(r->bridge, 8, (struct line_event){.key = "own", .origin = EVENT_OWN});
    say(r->bridge, 8, (struct line_event){.key = "bad", .origin = EVENT_MALFORMED});
    say(r->bridge, 8, (struct line_event){.key = "snapshot", .origin = EVENT_SNAPSHOT});
    say(r->bridge, 8, (struct line_event){.key = "repeat", .repeat = true});
    say(r->bridge, 9, (struct line_event){.key = "last"});
    struct peer p = stream(r, "?index=1");
    peer_expect(&p, "{\"Events\":[{\"Index\":7,\"Key\":\"new\",\"Payload\":{\"x\":\"\"},"
                    "\"Topic\":\"Job\"}],\"Index\":7}\n"
                    "{\"Events\":[{\"Index\":9,\"Key\":\"last\"");
    peer_close(&p);
}

static void say_raw(struct bridge *b, struct str raw, struct event *events, size_t n)
{
    struct err err;
    int64_t arrival = arrival_take(&b->arrival, 0, n);
    assert_int_equal(0, journal_append(b->journals[0], raw, arrival, events, n, &err));
    kit_commit(b, 0);
}

/* A bare event; and one that stands twice in its line, of which the source took one. */
static void composes_a_line_where_the_message_is_none(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    kit_append(r->bridge, 0, (struct event){.data = STR("{\"bare\":1}"), .pos_index = 3});
    struct str raw = STR("{\"Events\":[{\"e\":1},{\"e\":1}],\"Index\":4}");
    struct event first = {.data = {raw.p + 11, 7}, .topic = STR("Job"), .pos_index = 4, .index = 4};
    say_raw(r->bridge, raw, &first, 1);
    raw = STR("{\"Events\":[{\"e\":1},{\"e\":1},{\"e\":2}],\"Index\":5}");
    struct event two[2] = {first, first};
    two[0].data.p = raw.p + 11;
    two[1].data.p = raw.p + 27;
    two[0].index = two[1].index = two[0].pos_index = two[1].pos_index = 5;
    two[1].ordinal = 1;
    say_raw(r->bridge, raw, two, 2);
    struct peer p = stream(r, "?index=1");
    peer_expect(&p, "{\"Events\":[{\"bare\":1}],\"Index\":3}\n"
                    "{\"Events\":[{\"e\":1}],\"Index\":4}\n"
                    "{\"Events\":[{\"e\":1},{\"e\":2}],\"Index\":5}\n");
    peer_close(&p);
}

static void what_is_redacted_does_not_leave(void **state)
{
    struct rig *r = *state;
    static const char *const paths[] = {"$..x"};
    r->settings.redact = (struct setting_list){.items = paths, .n = 1};
    open_rig(r);
    struct line_event two[] = {{.key = "a", .padding = 9}, {.key = "b", .padding = 9}};
    free(say_at(r->bridge, 7, 0, two, 2));
    struct peer p = stream(r, "?index=1");
    peer_expect_without(&p, "\"Payload\":{\"x\":\"[redacted]\"},\"Topic\":\"Job\"}],\"Index\":7}\n",
                        "abcdefghi");
    peer_close(&p);
}

static void filters_by_topic_key_and_namespace(void **state)
{
    static const struct {
        const char *query, *keys;
    } rows[] = {
        {"?index=1", "abcn"},
        {"?index=1&namespace=*", "abcdn"},
        {"?index=1&namespace=other", "dn"},
        {"?index=1&namespace=nowhere", "n"},
        {"?index=1&topic=Node", "n"},
        {"?index=1&topic=Job:a&topic=Job:x", "ab"},
        {"?index=1&topic=*:x", "b"},
        {"?index=1&topic=Job:a&topic=Job:*", "abc"},
        {"?index=1&topic=Job:a&topic=Job:a", "a"},
        {"?index=1&topic=Job:d&namespace=other", "d"},
        {"?index=1&topic=Nothing", ""},
    };
    struct rig *r = *state;
    open_rig(r);
    struct line_event all[] = {{.key = "a"},
                               {.key = "b", .filter_key = "x"},
                               {.key = "c"},
                               {.key = "d", .ns = "other"},
                               {.key = "n", .ns = "", .topic = "Node"}};
    free(say_at(r->bridge, 5, 0, all, 5));
    free(say_at(r->bridge, 6, 0, &(struct line_event){.key = "z", .ns = "", .topic = "Z"}, 1));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf query = {0};
        buf_printf(&query, "%s&topic=%s", rows[i].query,
                   strstr(rows[i].query, "topic") != NULL ? "Z" : "*");
        struct peer p = stream(r, buf_cstr(&query));
        char *got = peer_take(&p, "\"Key\":\"z\"", KIT_WAIT_MS);
        assert_non_null(got);
        struct buf keys = {0};
        for (const char *at = got; (at = strstr(at, "\"Key\":\"")) != NULL; at++)
            if (at[7] != 'z')
                buf_append_char(&keys, at[7]);
        if (strcmp(buf_cstr(&keys), rows[i].keys) != 0)
            fail_msg("%s: %s", rows[i].query, buf_cstr(&keys));
        buf_fini(&keys);
        buf_fini(&query);
        free(got);
        peer_close(&p);
    }
}

static void begins_where_nomad_would(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    say_many(r->bridge, 11, 160);
    say(r->bridge, 170, (struct line_event){0});
    expect_indexes(r, "?index=161", 170, 170);
    say(r->bridge, 171, (struct line_event){0});
    expect_indexes(r, "?index=171", 171, 171);
    expect_indexes(r, "?index=172", 171, 171);
    expect_indexes(r, "?index=9223372036854775807", 171, 171);
    struct peer p = stream(r, "?index=1");
    peer_expect(&p, "],\"Index\":11}\n");
    peer_close(&p);
    p = stream(r, "?index=97");
    peer_expect_without(&p, "],\"Index\":97}\n", "\"Index\":96");
    peer_close(&p);
    for (int i = 0; i < 2; i++) { /* the newest hundred: 170 and 171, and 63 to 160 */
        p = stream(r, i == 0 ? "" : "?index=0");
        peer_expect_without(&p, "],\"Index\":63}\n", "\"Index\":62");
        peer_close(&p);
    }
}

/* Below the last index, though new: another namespace's that was subscribed to late, say. */
static void a_late_event_is_not_waited_past(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    say(r->bridge, 10, (struct line_event){0});
    say(r->bridge, 20, (struct line_event){.repeat = true});
    say(r->bridge, 15, (struct line_event){0});
    struct peer p = stream(r, "?index=18");
    peer_expect(&p, "],\"Index\":15}\n");
    peer_close(&p);
}

static void tells_what_is_new_to_all(void **state)
{
    struct rig *r = *state;
    struct peer peers[20];
    open_rig(r);
    say_many(r->bridge, 1, 3);
    for (size_t i = 0; i < 20; i++)
        peers[i] = stream(r, i % 2 == 0 ? "" : "?topic=Node&index=3");
    for (uint64_t index = 4; index < 40; index++)
        say(r->bridge, index, (struct line_event){.topic = index % 4 == 0 ? "Node" : "Job"});
    for (size_t i = 0; i < 20; i++) {
        for (uint64_t index = i % 2 == 0 ? 1 : 4; index < 40; index += i % 2 == 0 ? 1 : 4) {
            char *line = peer_take(&peers[i], "\n", KIT_WAIT_MS), end[40];
            snprintf(end, sizeof end, "\"Index\":%" PRIu64 "}\n", index);
            assert_non_null(line);
            assert_non_null(strstr(line, end));
            free(line);
        }
        peer_close(&peers[i]);
    }
}

static void an_index_is_one_of_the_present_epoch(void **state)
{
    struct rig *r = *state;
    struct line_event one = {0};
    open_rig(r);
    say_many(r->bridge, 1, 300);
    free(say_at(r->bridge, 300, 1, &(struct line_event){.origin = EVENT_OWN}, 1));
    for (uint64_t i = 10; i < 60; i++)
        free(say_at(r->bridge, i, 1, &one, 1));
    expect_indexes(r, "?index=1", 10, 59);
    expect_indexes(r, "", 10, 59);
    expect_indexes(r, "?index=35", 35, 59);
    expect_indexes(r, "?index=60", 59, 59);
    expect_indexes(r, "?index=299", 59, 59);
}

static void an_index_that_is_no_longer_held_is_the_oldest(void **state)
{
    struct rig *r = *state;
    kit_bridge_free(&r->bridge);
    r->bridge = kit_bridge(1, 1 << 20);
    open_rig(r);
    for (uint64_t i = 1; i <= 100; i++)
        say(r->bridge, i, (struct line_event){.padding = 30000});
    assert_true(journal_first_seq(r->bridge->journals[0]) > 1);
    uint64_t oldest = journal_first_seq(r->bridge->journals[0]);
    expect_indexes(r, "?index=1", oldest, 100);
    expect_indexes(r, "", oldest, 100);
    expect_indexes(r, "?index=99", 99, 100);
}

static void lines_larger_than_any_buffer_come_whole(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    struct line_event big[] = {{.key = "a", .padding = 3 << 20}, {.key = "b", .padding = 70000}};
    char *line = say_at(r->bridge, 5, 0, big, 2);
    say(r->bridge, 6, (struct line_event){.key = "z"});
    struct peer p = stream(r, "?index=1");
    char *got = peer_take(&p, "\n", KIT_WAIT_MS);
    assert_non_null(got);
    assert_int_equal(strlen(line) + 1, strlen(got));
    assert_memory_equal(line, got, strlen(line));
    peer_expect(&p, "\"Key\":\"z\"");
    free(got);
    peer_close(&p);
    /* composed anew for each part that is sent, while others are too */
    struct peer two[2] = {stream(r, "?index=1&topic=Job:a"), stream(r, "?index=1&topic=Job:b")};
    for (int i = 0; i < 2; i++) {
        got = peer_take(&two[i], "\n", KIT_WAIT_MS);
        assert_non_null(got);
        assert_int_equal((i == 0 ? 3 << 20 : 70000) + 78, strlen(got));
        free(got);
        peer_close(&two[i]);
    }
    free(line);
}

static void a_line_that_fills_the_buffer_keeps_its_end(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    size_t bare = 76; /* of a line without padding and break, the key has one letter */
    for (size_t i = 0; i < 7; i++) {
        char key[] = {(char)('a' + i), '\0'};
        say(r->bridge, 5 + i, (struct line_event){.key = key, .padding = 8192 - bare - 3 + i});
    }
    say(r->bridge, 20, (struct line_event){.topic = "Z"});
    for (size_t i = 0; i < 7; i++) {
        char query[64];
        snprintf(query, sizeof query, "?index=1&topic=Z&topic=Job:%c", (char)('a' + i));
        struct peer p = stream(r, query);
        char *line = peer_take(&p, "\n", KIT_WAIT_MS);
        assert_non_null(line);
        assert_null(strstr(line, "\"Z\""));
        assert_in_range(strlen(line), 8180, 8210);
        free(line);
        peer_expect(&p, "\"Z\"");
        peer_close(&p);
    }
}

static void a_beat_never_comes_within_a_line(void **state)
{
    struct rig *r = *state;
    r->settings.heartbeat_ms = 20;
    r->settings.client_buffer = 4096;
    open_rig(r);
    say(r->bridge, 5, (struct line_event){.padding = 8 << 20});
    struct peer p = stream(r, "?index=1");
    for (int i = 0; i < 10; i++) {
        usleep(60000);
        assert_true(peer_read(&p, KIT_WAIT_MS) > 0);
    }
    char *got = peer_take(&p, "\"Index\":5}\n", KIT_WAIT_MS);
    assert_non_null(got);
    const char *line = strstr(got, "{\"Events\"");
    assert_non_null(line);
    assert_ptr_equal(strchr(line, '\n'), got + strlen(got) - 1);
    free(got);
    peer_close(&p);
}

static void who_is_too_slow_for_the_journal_is_cut_in_nomads_words(void **state)
{
    struct rig *r = *state;
    kit_bridge_free(&r->bridge);
    r->bridge = kit_bridge(1, 1 << 20);
    r->settings.client_buffer = 4096;
    open_rig(r);
    struct peer p = stream(r, "?index=1");
    for (uint64_t i = 1; i <= 400; i++)
        say(r->bridge, i, (struct line_event){.padding = 30000});
    usleep(1300 * 1000); /* what it holds is let go */
    peer_expect_end(&p);
    buf_cstr(&p.got);
    const char *last = strrchr(p.got.p, '\n');
    assert_non_null(last);
    bool in_words = strcmp(last + 1, "event dropped from buffer") == 0;
    assert_true(in_words || strlen(last + 1) < 30100); /* or in the middle of a line */
    assert_null(strstr(p.got.p, "\"Index\":400}"));
    assert_int_equal(1, kit_metric(r->bridge, "busbar_clients_cut_total"));
    peer_close(&p);
}

static void refuses_as_nomad_does(void **state)
{
    static const struct {
        const char *request, *status, *type, *body;
    } rows[] = {
        {"POST " STREAM " HTTP/1.1", "405", "text/plain; charset=utf-8", "Invalid method"},
        {"HEAD " STREAM " HTTP/1.1", "405", "text/plain; charset=utf-8", ""},
        {"GET " STREAM "?index=a%22b HTTP/1.1", "400", "text/plain; charset=utf-8",
         "Unable to parse index: strconv.Atoi: parsing \"a\\\"b\": invalid syntax"},
        {"GET " STREAM "?index=9223372036854775808 HTTP/1.1", "400", "text/plain; charset=utf-8",
         "Unable to parse index: strconv.Atoi: parsing \"9223372036854775808\": value out of "
         "range"},
        {"GET " STREAM "?index=%2B5 HTTP/1.1", "400", "application/json", "Invalid index"},
        {"GET " STREAM "?topic=a:b:c HTTP/1.1", "400", "text/plain; charset=utf-8",
         "Invalid topic query: error parsing topics: Invalid key value pair for topic, topic: "
         "a:b:c"},
        {"GET " STREAM "?stale=maybe HTTP/1.1", "400", "application/json",
         "Expect `true` or `false` for `stale` query string parameter, got maybe"},
        {"GET " STREAM "?region=nowhere HTTP/1.1", "500", "application/json", "No path to region"},
    };
    struct rig *r = *state;
    r->bridge->regions[0] = "global";
    open_rig(r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect_answer(r, rows[i].request, rows[i].status, rows[i].type, rows[i].body);
    struct peer p = stream(r, "?region=global");
    peer_close(&p);
}

static void asks_for_its_token_as_nomad_does(void **state)
{
    struct rig *r = *state;
    r->settings.token = "s3cret";
    open_rig(r);
    expect_answer(r, "GET " STREAM " HTTP/1.1", "500", "application/json", "Permission denied");
    expect_answer(r, "GET " STREAM " HTTP/1.1\r\nX-Nomad-Token: s3cre", "403", "application/json",
                  "Permission denied");
    expect_answer(r, "GET /v1/status/leader HTTP/1.1", "500", "application/json",
                  "Permission denied");
    static const char *const heads[] = {"X-Nomad-Token: s3cret\r\n",
                                        "Authorization: bearer s3cret\r\n"};
    for (size_t i = 0; i < 2; i++) {
        struct peer p = peer_get(r->address, STREAM, heads[i]);
        peer_expect(&p, "200 OK");
        peer_expect(&p, "{}\n");
        peer_close(&p);
    }
}

static void several_nomads_are_asked_by_name_or_region(void **state)
{
    struct rig *r = *state;
    r->bridge->not_nomad[1] = false;
    r->bridge->regions[0] = "east";
    r->bridge->regions[1] = "west";
    open_rig(r);
    kit_append(r->bridge, 1, (struct event){.data = STR("{\"west\":1}")});
    kit_commit(r->bridge, 1);
    expect_answer(r, "GET " STREAM " HTTP/1.1", "400", "text/plain",
                  "several Nomads here, name one by region= or ask: /sources/prod/v1/event/stream "
                  "/sources/test/v1/event/stream\n");
    expect_answer(r, "GET " STREAM "?region=north HTTP/1.1", "500", "application/json",
                  "No path to region");
    expect_answer(r, "GET /sources/lab/v1/event/stream HTTP/1.1", "404", "text/plain",
                  "no such Nomad here, there are: /sources/prod/v1/event/stream "
                  "/sources/test/v1/event/stream\n");
    static const char *const targets[] = {"/sources/test/v1/event/stream", STREAM "?region=west"};
    for (size_t i = 0; i < 2; i++) {
        struct peer p = peer_get(r->address, targets[i], "");
        peer_expect(&p, "{\"west\":1}");
        peer_close(&p);
    }
}

static void tells_a_follower_how_far_it_is(void **state)
{
    struct rig *r = *state;
    open_rig(r);
    expect_answer(r, "GET /v1/status/leader HTTP/1.1", "200", "application/json",
                  "\"10.0.0.1:4646\"");
    expect_answer(r, "GET /v1/jobs?per_page=1&namespace=* HTTP/1.1", "200", "X-Nomad-Index: 99\r\n",
                  "");
    expect_answer(r, "GET /v1/jobs HTTP/1.1", "404", "text/plain",
                  "no state here, only events: ask a Nomad\n");
    r->bridge->unready = true;
    expect_answer(r, "GET /v1/status/leader HTTP/1.1", "200", "application/json", "\"\"");
    expect_answer(r, "GET /v1/jobs?per_page=1 HTTP/1.1", "500", "application/json",
                  "No cluster leader");
}

static void counts_among_the_clients(void **state)
{
    struct rig *r = *state;
    r->settings.max_clients = 2;
    open_rig(r);
    struct peer a = stream(r, ""), b = peer_get(r->address, "/events", "");
    peer_expect(&b, ": busbar\n");
    assert_int_equal(2, kit_metric(r->bridge, "busbar_clients"));
    struct peer c = peer_get(r->address, STREAM, "");
    peer_expect(&c, "503 Service Unavailable");
    peer_close(&c);
    peer_close(&a);
    for (int i = 0; i < 100 && kit_metric(r->bridge, "busbar_clients") == 2; i++)
        usleep(50000);
    a = stream(r, "");
    say(r->bridge, 4, (struct line_event){0});
    peer_expect(&a, "\"Index\":4}\n");
    assert_true(kit_becomes(r->bridge, "busbar_delivered_total", 2));
    peer_close(&a);
    peer_close(&b);
}

static void beats_whatever_else_comes(void **state)
{
    struct rig *r = *state;
    r->settings.heartbeat_ms = 100;
    open_rig(r);
    struct peer p = stream(r, "");
    for (uint64_t i = 1; i < 20; i++) {
        say(r->bridge, i, (struct line_event){0});
        usleep(50000);
    }
    peer_expect(&p, "\"Index\":19}\n");
    peer_close(&p);
    p = stream(r, "?topic=Node");
    for (int i = 0; i < 3; i++)
        peer_expect(&p, "{}\n");
    peer_close(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gives_a_line_as_it_came),
        TEST(leaves_out_what_nomad_did_not_tell_now),
        TEST(composes_a_line_where_the_message_is_none),
        TEST(what_is_redacted_does_not_leave),
        TEST(filters_by_topic_key_and_namespace),
        TEST(begins_where_nomad_would),
        TEST(a_late_event_is_not_waited_past),
        TEST(tells_what_is_new_to_all),
        TEST(an_index_is_one_of_the_present_epoch),
        TEST(an_index_that_is_no_longer_held_is_the_oldest),
        TEST(lines_larger_than_any_buffer_come_whole),
        TEST(a_line_that_fills_the_buffer_keeps_its_end),
        TEST(a_beat_never_comes_within_a_line),
        TEST(who_is_too_slow_for_the_journal_is_cut_in_nomads_words),
        TEST(refuses_as_nomad_does),
        TEST(asks_for_its_token_as_nomad_does),
        TEST(several_nomads_are_asked_by_name_or_region),
        TEST(tells_a_follower_how_far_it_is),
        TEST(counts_among_the_clients),
        TEST(beats_whatever_else_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
