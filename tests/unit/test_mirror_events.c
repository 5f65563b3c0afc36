/* test_mirror_events.c - GET /events: what comes, from where on, and what a gap looks like. */
#include "tests/unit/mirror_kit.h"

#include <signal.h>

static int setup_sized(void **state, uint64_t journal_bytes)
{
    struct kit *kit = mem_zalloc(sizeof *kit);
    kit->bridge = kit_bridge(2, journal_bytes);
    kit->settings = kit_settings();
    kit->settings.heartbeat_ms = 200;
    kit->settings.shared_buffer = 1 << 20;
    kit->mirror = kit_mirror(kit->bridge, &kit->settings);
    kit->address = mirror_address(kit->mirror);
    *state = kit;
    return 0;
}

static int setup(void **state)
{
    return setup_sized(state, 64 << 20);
}

static int setup_small(void **state)
{
    return setup_sized(state, 1 << 20);
}

static struct peer get(const struct kit *kit, const char *target)
{
    struct peer p = peer_get(kit->address, target, "");
    peer_expect(&p, "HTTP/1.1 200 OK\r\n");
    peer_expect(&p, "\r\n\r\n: busbar\n\n");
    return p;
}

static struct peer resume(const struct kit *kit, const char *target, const char *id)
{
    char header[160];
    snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", id);
    struct peer p = peer_get(kit->address, target, header);
    peer_expect(&p, ": busbar\n\n");
    return p;
}

static void add_numbered(struct kit *kit, size_t source, int from, int to)
{
    char data[32];
    for (int i = from; i <= to; i++) {
        snprintf(data, sizeof data, "{\"n\":%d}", i);
        kit_add(kit->bridge, source, data);
    }
}

static void expect_numbers(struct peer *p, int from, int to)
{
    char frame[32];
    for (int i = from; i <= to; i++) {
        snprintf(frame, sizeof frame, "data: {\"n\":%d}\n\n", i);
        char *taken = peer_take(p, "\n\n", KIT_WAIT_MS);
        while (taken != NULL && taken[0] == ':') {
            free(taken);
            taken = peer_take(p, "\n\n", KIT_WAIT_MS);
        }
        if (taken == NULL || strstr(taken, frame) == NULL)
            fail_msg("expected %s, got %s", frame, taken != NULL ? taken : "nothing");
        free(taken);
    }
}

static void tells_how_it_is_to_be_read_at_once(void **state)
{
    struct kit *kit = *state;
    struct peer p = peer_get(kit->address, "/events", "");
    char *head = peer_take(&p, ": busbar\n\n", KIT_WAIT_MS);
    assert_non_null(head);
    assert_non_null(strstr(head, "Content-Type: text/event-stream\r\n"));
    assert_non_null(strstr(head, "Cache-Control: no-cache\r\n"));
    assert_non_null(strstr(head, "X-Accel-Buffering: no\r\n"));
    assert_null(strstr(head, "chunked"));
    free(head);
    peer_close(&p);
}

static void begins_with_the_moment_of_the_request(void **state)
{
    struct kit *kit = *state;
    add_numbered(kit, 0, 1, 5);
    struct peer p = get(kit, "/events");
    add_numbered(kit, 0, 6, 9);
    expect_numbers(&p, 6, 9);
    peer_close(&p);
}

static void an_event_looks_like_the_contract_says(void **state)
{
    struct kit *kit = *state;
    struct peer p = get(kit, "/events");
    int64_t arrival = kit_append(
        kit->bridge, 1,
        (struct event){
            .type = STR("NodeDrain"), .data = STR("a\nb"), .pos_index = 7, .ordinal = 3});
    kit_commit(kit->bridge, 1);
    char expected[256];
    snprintf(expected, sizeof expected,
             "id: test:7.3@%" PRId64 ".%016" PRIx64 "\nevent: NodeDrain\ndata: a\ndata: b\n\n",
             arrival, journal_id(kit->bridge->journals[1]));
    peer_expect(&p, expected);
    peer_close(&p);
}

static void gives_everything_from_the_oldest(void **state)
{
    struct kit *kit = *state;
    add_numbered(kit, 0, 1, 50);
    struct peer p = get(kit, "/events?last_event_id=");
    add_numbered(kit, 0, 51, 60);
    expect_numbers(&p, 1, 60);
    peer_close(&p);
}

static void merges_sources_by_arrival(void **state)
{
    struct kit *kit = *state;
    for (int i = 1; i <= 100; i++)
        add_numbered(kit, (size_t)(i * 7 % 3) % 2, i, i);
    struct peer p = get(kit, "/events?last_event_id=");
    for (int i = 101; i <= 200; i++)
        add_numbered(kit, (size_t)(i * 5 % 3) % 2, i, i);
    expect_numbers(&p, 1, 200);
    peer_close(&p);
}

/* Source 1 took a time and has not written yet: what source 0 wrote later has to wait for it. */
static void never_passes_an_event_that_is_still_being_written(void **state)
{
    struct kit *kit = *state;
    struct peer p = get(kit, "/events");
    kit_append(kit->bridge, 1, (struct event){.data = STR("{\"n\":1}")});
    add_numbered(kit, 0, 2, 3);
    peer_expect_silence(&p, 300);
    kit_commit(kit->bridge, 1);
    expect_numbers(&p, 1, 3);
    peer_close(&p);
}

static void leaves_repeats_out(void **state)
{
    struct kit *kit = *state;
    add_numbered(kit, 0, 1, 1);
    kit_append(kit->bridge, 0, (struct event){.data = STR("{\"n\":1}"), .repeat = true});
    kit_commit(kit->bridge, 0);
    struct peer old = get(kit, "/events?last_event_id=");
    struct peer new = get(kit, "/events");
    kit_append(kit->bridge, 0, (struct event){.data = STR("{\"n\":1}"), .repeat = true});
    kit_commit(kit->bridge, 0);
    add_numbered(kit, 0, 2, 2);
    expect_numbers(&old, 1, 2);
    expect_numbers(&new, 2, 2);
    peer_close(&old);
    peer_close(&new);
}

static void begins_at_a_time(void **state)
{
    struct kit *kit = *state;
    add_numbered(kit, 0, 1, 5);
    poll(NULL, 0, 5);
    char since[CLOCK_TEXT_MAX];
    clock_format(clock_wall_us(), since);
    poll(NULL, 0, 5);
    add_numbered(kit, 0, 6, 9);
    char target[128];
    snprintf(target, sizeof target, "/events?since=%s", since);
    struct peer p = get(kit, target);
    expect_numbers(&p, 6, 9);
    peer_close(&p);
    p = get(kit, "/events?since=2020-01-01T02:00:00+02:00");
    expect_numbers(&p, 1, 9);
    peer_close(&p);
    p = get(kit, "/events?since=2222-01-01T00:00:00Z");
    add_numbered(kit, 0, 10, 10);
    peer_expect_silence(&p, 300);
    peer_close(&p);
}

/* ---- filters ---- */

static void add_as(struct kit *kit, const char *topic, const char *type, const char *key,
                   const char *ns)
{
    struct buf data = {0};
    buf_printf(&data, "%s/%s/%s/%s", topic, type, key, ns);
    kit_append(
        kit->bridge, 0,
        (struct event){.topic = str_from(topic),
                       .type = str_from(type),
                       .key = str_from(key),
                       .ns = str_from(ns),
                       .origin = str_is(str_from(topic), "Busbar") ? EVENT_OWN : EVENT_SOURCE,
                       .data = buf_str(&data)});
    kit_commit(kit->bridge, 0);
    buf_fini(&data);
}

/* The data of what comes, separated by spaces, up to the n-th Gap. */
static char *take_up_to_gap(struct peer *p, int n)
{
    struct buf got = {0};
    int64_t until = clock_mono_ms() + KIT_WAIT_MS;
    while (n > 0 && clock_mono_ms() < until) {
        char *frame = peer_take(p, "\n\n", KIT_WAIT_MS);
        const char *data = frame != NULL ? strstr(frame, "data: ") : NULL;
        if (data != NULL)
            buf_printf(&got, "%.*s ", (int)strcspn(data + 6, "\n"), data + 6);
        if (data != NULL && strstr(data, "Busbar") != NULL && --n > 0)
            buf_clear(&got);
        free(frame);
    }
    char *text = mem_strdup(buf_cstr(&got));
    buf_fini(&got);
    return text;
}

/* `expected`: the data of what passes. The same from the journal (all rounds so far) as live. */
static void expect_filtered(struct kit *kit, int round, const char *query, const char *expected)
{
    char target[256];
    snprintf(target, sizeof target, "/events?%s", query);
    struct peer live = get(kit, target);
    snprintf(target, sizeof target, "/events?last_event_id=&%s", query);
    struct peer old = get(kit, target);
    add_as(kit, "Job", "JobRegistered", "web", "default");
    add_as(kit, "Job", "JobDeregistered", "db", "system");
    add_as(kit, "Node", "NodeDrain", "n:1", "");
    add_as(kit, "Busbar", "Gap", "prod", "");
    char *from_live = take_up_to_gap(&live, 1);
    char *from_old = take_up_to_gap(&old, round);
    if (strcmp(from_live, expected) != 0 || strcmp(from_old, expected) != 0)
        fail_msg("%s: expected %s, got %s and %s", query, expected, from_live, from_old);
    free(from_live);
    free(from_old);
    peer_close(&live);
    peer_close(&old);
}

static void filters_by_what_the_query_names(void **state)
{
    struct kit *kit = *state;
    expect_filtered(kit, 1, "topic=Job",
                    "Job/JobRegistered/web/default Job/JobDeregistered/db/system "
                    "Busbar/Gap/prod/ ");
    expect_filtered(kit, 2, "topic=Job:web", "Job/JobRegistered/web/default Busbar/Gap/prod/ ");
    expect_filtered(kit, 3, "topic=Node:n:1", "Node/NodeDrain/n:1/ Busbar/Gap/prod/ ");
    expect_filtered(kit, 4, "topic=Job:web&topic=Node",
                    "Job/JobRegistered/web/default Node/NodeDrain/n:1/ Busbar/Gap/prod/ ");
    expect_filtered(kit, 5, "type=NodeDrain", "Node/NodeDrain/n:1/ Busbar/Gap/prod/ ");
    expect_filtered(kit, 6, "namespace=system", "Job/JobDeregistered/db/system Busbar/Gap/prod/ ");
    expect_filtered(kit, 7, "namespace=", "Node/NodeDrain/n:1/ Busbar/Gap/prod/ ");
    expect_filtered(kit, 8, "topic=Job&namespace=default",
                    "Job/JobRegistered/web/default Busbar/Gap/prod/ ");
    expect_filtered(kit, 9, "topic=Job&type=NodeDrain", "Busbar/Gap/prod/ ");
}

static void filters_by_source(void **state)
{
    struct kit *kit = *state;
    struct peer test = get(kit, "/events?source=test");
    struct peer both = get(kit, "/events?source=test&source=prod");
    add_numbered(kit, 0, 1, 3);
    add_numbered(kit, 1, 4, 5);
    expect_numbers(&test, 4, 5);
    expect_numbers(&both, 1, 5);
    peer_close(&test);
    peer_close(&both);
}

static void a_filtered_client_learns_how_far_it_is(void **state)
{
    struct kit *kit = *state;
    struct peer p = get(kit, "/events?topic=Node");
    add_numbered(kit, 0, 1, 20);
    peer_expect(&p, ": heartbeat\n\nid: ");
    char *id = peer_take(&p, "\n\n", KIT_WAIT_MS);
    assert_non_null(id);
    id[strcspn(id, "\n")] = '\0';
    assert_non_null(strstr(id, "prod:119.0@"));
    peer_expect_without(&p, ": heartbeat\n\n", "id:"); /* once is enough */
    peer_expect_without(&p, ": heartbeat\n\n", "id:");
    peer_close(&p);
    p = resume(kit, "/events", id);
    add_numbered(kit, 0, 21, 22);
    expect_numbers(&p, 21, 22);
    peer_close(&p);
    free(id);
}

static void beats_while_nothing_happens(void **state)
{
    struct kit *kit = *state;
    struct peer p = get(kit, "/events");
    add_numbered(kit, 0, 1, 1);
    expect_numbers(&p, 1, 1);
    for (int i = 0; i < 3; i++)
        peer_expect_without(&p, ": heartbeat\n\n", "id:");
    peer_close(&p);
}

/* ---- resuming ---- */

static void goes_on_exactly_after_the_last_event_id(void **state)
{
    struct kit *kit = *state;
    char *ids[61];
    struct peer p = get(kit, "/events?last_event_id=");
    for (int i = 1; i <= 60; i++)
        add_numbered(kit, (size_t)(i % 2), i, i);
    for (int i = 1; i <= 60; i++)
        ids[i] = peer_take_id(&p);
    peer_close(&p);
    for (int i = 1; i <= 60; i += 7) {
        p = resume(kit, "/events", ids[i]);
        expect_numbers(&p, i + 1, 60);
        peer_close(&p);
        char target[160];
        snprintf(target, sizeof target, "/events?last_event_id=%s", ids[i]);
        p = get(kit, target);
        expect_numbers(&p, i + 1, 60);
        peer_close(&p);
    }
    p = resume(kit, "/events?last_event_id=nonsense&since=nonsense", ids[30]); /* the header wins */
    expect_numbers(&p, 31, 60);
    peer_close(&p);
    for (int i = 1; i <= 60; i++)
        free(ids[i]);
}

static void takes_an_empty_header_for_none(void **state)
{
    struct kit *kit = *state;
    add_numbered(kit, 0, 1, 3);
    struct peer p = resume(kit, "/events", "");
    add_numbered(kit, 0, 4, 4);
    expect_numbers(&p, 4, 4);
    peer_close(&p);
}

static void resumes_an_id_of_the_future_from_now(void **state)
{
    struct kit *kit = *state;
    add_numbered(kit, 0, 1, 3);
    char id[128];
    snprintf(id, sizeof id, "prod:100.0@9000000000000000000.%016" PRIx64,
             journal_id(kit->bridge->journals[0]));
    struct peer p = resume(kit, "/events", id);
    add_numbered(kit, 0, 4, 4);
    expect_numbers(&p, 4, 4);
    peer_close(&p);
}

/* Another instance's id: its source from the start of that index, the others by time with an
 * overlap. */
static void resumes_what_another_instance_told(void **state)
{
    struct kit *kit = *state;
    add_numbered(kit, 1, 1, 1);
    add_numbered(kit, 0, 2, 2);
    for (uint32_t i = 0; i < 3; i++) {
        kit_append(kit->bridge, 0,
                   (struct event){.data = STR("{\"n\":3}"), .pos_index = 500, .ordinal = i});
        kit_commit(kit->bridge, 0);
    }
    kit->bridge->next_index = 501;
    add_numbered(kit, 0, 4, 4);
    char id[128];
    snprintf(id, sizeof id, "prod:500.1@%" PRId64 ".00000000deadbeef", clock_wall_us());
    struct peer p = resume(kit, "/events?source=prod", id);
    expect_numbers(&p, 3, 3);
    expect_numbers(&p, 3, 3);
    expect_numbers(&p, 3, 4);
    peer_close(&p);
    p = resume(kit, "/events", id);
    expect_numbers(&p, 1, 1); /* of the other source, by its time */
    expect_numbers(&p, 3, 3);
    peer_close(&p);
}

static void says_a_gap_where_another_instance_was_further_back(void **state)
{
    struct kit *kit = *state;
    add_numbered(kit, 0, 1, 3);
    struct peer p = resume(kit, "/events?source=prod", "prod:42.0@1000.00000000deadbeef");
    peer_expect(&p, "event: Gap\ndata: {\"Topic\":\"Busbar\",\"Type\":\"Gap\",\"Key\":\"prod\","
                    "\"Namespace\":\"\",\"Index\":100,");
    peer_expect(&p, "\n\n");
    expect_numbers(&p, 1, 3);
    add_numbered(kit, 0, 4, 4);
    expect_numbers(&p, 4, 4);
    peer_close(&p);
}

/* What is missing of one source is not forgotten while another one is read. */
static void says_a_gap_for_each_source(void **state)
{
    struct kit *kit = *state;
    char data[1000];
    for (int i = 0; i < 30; i++) {
        memset(data, 'x', sizeof data - 1);
        data[sizeof data - 1] = '\0';
        kit_add(kit->bridge, 1, data);
    }
    add_numbered(kit, 0, 1, 2);
    struct peer p = resume(kit, "/events", "prod:42.0@1000.00000000deadbeef");
    peer_expect(&p, "event: Gap\ndata: {\"Topic\":\"Busbar\",\"Type\":\"Gap\",\"Key\":\"test\"");
    peer_expect(&p, "event: Gap\ndata: {\"Topic\":\"Busbar\",\"Type\":\"Gap\",\"Key\":\"prod\"");
    peer_expect(&p, "\n\n");
    expect_numbers(&p, 1, 2);
    peer_close(&p);
}

/* The ring has all that came since, but not what came elsewhere before this journal began. */
static void says_a_gap_where_only_the_ring_would_be_read(void **state)
{
    struct kit *kit = *state;
    struct peer first = get(kit, "/events");
    int64_t arrival = kit_add(kit->bridge, 1, "{\"n\":1}");
    arrival_raise(&kit->bridge->arrival, arrival + 10000000);
    add_numbered(kit, 0, 2, 3);
    expect_numbers(&first, 1, 3);
    char id[128];
    snprintf(id, sizeof id, "elsewhere:1.0@%" PRId64 ".00000000deadbeef", arrival);
    struct peer p = resume(kit, "/events", id);
    expect_numbers(&p, 1, 1);
    peer_expect(&p, "event: Gap\ndata: {\"Topic\":\"Busbar\",\"Type\":\"Gap\",\"Key\":\"prod\"");
    peer_expect(&p, "\n\n");
    expect_numbers(&p, 2, 3);
    peer_close(&first);
    peer_close(&p);
}

static void says_a_gap_for_a_source_that_has_nothing_here(void **state)
{
    struct kit *kit = *state;
    struct peer p = resume(kit, "/events?source=prod", "prod:42.0@1000.00000000deadbeef");
    peer_expect(&p, "event: Gap\n");
    peer_expect(&p, "\n\n");
    add_numbered(kit, 0, 1, 2);
    expect_numbers(&p, 1, 2);
    peer_close(&p);
}

/* ---- what the journal no longer has ---- */

/* Fills source 0's journal of 1 MiB until its beginning is pruned, and no longer in memory either;
 * returns the first number left. */
static int overfill(struct kit *kit)
{
    static char data[8000];
    int i = 1;
    for (; i <= 1500; i++) {
        int len = snprintf(data, sizeof data, "{\"n\":%d}\n", i);
        memset(data + len, 'x', sizeof data - 1 - (size_t)len);
        kit_add(kit->bridge, 0, data);
    }
    assert_true(journal_first_seq(kit->bridge->journals[0]) > 1);
    return (int)journal_first_seq(kit->bridge->journals[0]);
}

static void says_a_gap_for_what_was_pruned(void **state)
{
    struct kit *kit = *state;
    int64_t first = kit_add(kit->bridge, 0, "{\"n\":1}");
    kit_add(kit->bridge, 1, "of another source");
    overfill(kit);
    char id[128];
    snprintf(id, sizeof id, "prod:100.0@%" PRId64 ".%016" PRIx64, first,
             journal_id(kit->bridge->journals[0]));
    struct peer p = resume(kit, "/events", id);
    peer_expect_without(&p, "data: of another source\n\n", "data: {");
    char *gap_id = peer_take_id(&p);
    peer_expect(&p, "event: Gap\n");
    peer_expect(&p, "\"Key\":\"prod\"");
    peer_expect(&p, "\n\n");
    peer_expect(&p, "event: JobRegistered\n");
    peer_close(&p);
    /* Whoever saw the gap is not told again. */
    p = resume(kit, "/events", gap_id);
    peer_expect_without(&p, "data: {\"n\":", "Gap");
    peer_close(&p);
    free(gap_id);
}

static void the_oldest_is_not_a_gap_but_a_time_before_it_is(void **state)
{
    struct kit *kit = *state;
    overfill(kit);
    struct peer p = get(kit, "/events?last_event_id=");
    peer_expect_without(&p, "data: {\"n\":", "Gap");
    peer_close(&p);
    p = get(kit, "/events?since=2020-01-01T00:00:00Z");
    peer_expect(&p, "event: Gap\n");
    peer_expect(&p, "data: {\"n\":");
    peer_close(&p);
    p = get(kit, "/events?since=2020-01-01T00:00:00Z&source=test");
    add_numbered(kit, 1, 5, 5);
    expect_numbers(&p, 5, 5);
    peer_close(&p);
}

#define WITH(fn, before) cmocka_unit_test_setup_teardown(fn, before, kit_teardown)

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        WITH(tells_how_it_is_to_be_read_at_once, setup),
        WITH(begins_with_the_moment_of_the_request, setup),
        WITH(an_event_looks_like_the_contract_says, setup),
        WITH(gives_everything_from_the_oldest, setup),
        WITH(merges_sources_by_arrival, setup),
        WITH(never_passes_an_event_that_is_still_being_written, setup),
        WITH(leaves_repeats_out, setup),
        WITH(begins_at_a_time, setup),
        WITH(filters_by_what_the_query_names, setup),
        WITH(filters_by_source, setup),
        WITH(a_filtered_client_learns_how_far_it_is, setup),
        WITH(beats_while_nothing_happens, setup),
        WITH(goes_on_exactly_after_the_last_event_id, setup),
        WITH(takes_an_empty_header_for_none, setup),
        WITH(resumes_an_id_of_the_future_from_now, setup),
        WITH(resumes_what_another_instance_told, setup),
        WITH(says_a_gap_where_another_instance_was_further_back, setup),
        WITH(says_a_gap_for_a_source_that_has_nothing_here, setup),
        WITH(says_a_gap_for_each_source, setup),
        WITH(says_a_gap_where_only_the_ring_would_be_read, setup),
        WITH(says_a_gap_for_what_was_pruned, setup_small),
        WITH(the_oldest_is_not_a_gap_but_a_time_before_it_is, setup_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
