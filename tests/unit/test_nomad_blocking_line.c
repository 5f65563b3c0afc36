/* test_nomad_blocking_line.c - polled events put together to lines as Nomad's stream has them. */
#include "connectors/nomad/nomad_blocking_line.h"
#include "connectors/nomad_line.h"
#include "tests/unit/check.h"
#include "tests/unit/fake_ingest.h"

struct rig {
    struct ingest ingest;
    struct blocking_line line;
    struct err err;
};

static int set_up(void **state)
{
    struct rig *r = mem_zalloc(sizeof *r);
    r->ingest = fake_ingest();
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    blocking_line_fini(&r->line);
    fake_ingest_fini(&r->ingest);
    free(r);
    return 0;
}

/* What is added need not outlive the call. */
static void add(struct rig *r, const char *key, uint64_t index, size_t size)
{
    struct buf data = {0}, text = {0};
    buf_append_cstr(&text, key);
    buf_printf(&data,
               "{\"FilterKeys\":null,\"Index\":%llu,\"Key\":\"%s\",\"Namespace\":\"default\","
               "\"Payload\":{\"padding\":\"",
               (unsigned long long)index, key);
    memset(buf_reserve(&data, size), 'x', size);
    data.len += size;
    buf_append_cstr(&data, "\"},\"Topic\":\"Job\",\"Type\":\"Polled\"}");
    struct found_event event = {.topic = STR("Job"),
                                .type = STR("Polled"),
                                .key = buf_str(&text),
                                .ns = STR("default"),
                                .filter_keys = STR(""),
                                .index = index,
                                .data = buf_str(&data)};
    assert_int_equal(blocking_line_add(&r->line, &r->ingest, &event, &r->err), 0);
    memset(data.p, '?', data.len);
    memset(text.p, '?', text.len);
    buf_fini(&data);
    buf_fini(&text);
}

static void send(struct rig *r)
{
    assert_int_equal(blocking_line_send(&r->line, &r->ingest, &r->err), 0);
}

static void events_of_one_index_share_a_line(void **state)
{
    struct rig *r = *state;
    add(r, "web", 7, 3);
    add(r, "api", 7, 3);
    add(r, "db", 8, 3);
    assert_string_equal(buf_cstr(&r->ingest.told), "message 7 Job/web,Job/api\n");
    send(r);
    send(r); /* nothing is left */
    assert_string_equal(buf_cstr(&r->ingest.told), "message 7 Job/web,Job/api\nmessage 8 Job/db\n");
}

static void a_line_reads_as_one_of_the_streams(void **state)
{
    struct rig *r = *state;
    struct nomad_line line;
    add(r, "web", 7, 3);
    add(r, "api", 7, 3);
    send(r);
    nomad_line_init(&line);
    struct str raw = buf_str(&r->ingest.raw);
    assert_int_equal(nomad_line_parse(&line, (struct str){raw.p, raw.len - 1}, &r->err), 0);
    assert_int_equal(line.index, 7);
    assert_int_equal(line.n_events, 2);
    assert_true(str_is(line.events[1].key, "api"));
    assert_true(str_is(line.events[1].type, "Polled"));
    nomad_line_fini(&line);
}

static void a_line_is_bounded(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < 3; i++)
        add(r, "web", 7, LINE_BYTES_MAX / 2);
    send(r);
    assert_int_equal(r->ingest.messages, 3);
    for (int i = 0; i < LINE_EVENTS_MAX + 1; i++)
        add(r, "web", 8, 0);
    send(r);
    assert_int_equal(r->ingest.messages, 5);
    add(r, "large", 9, 3 * LINE_BYTES_MAX);
    send(r);
    assert_int_equal(r->ingest.events, 3 + LINE_EVENTS_MAX + 1 + 1);
}

static void what_ingest_refuses_is_an_error(void **state)
{
    struct rig *r = *state;
    add(r, "web", 7, 0);
    r->ingest.refuse = true;
    assert_int_equal(blocking_line_send(&r->line, &r->ingest, &r->err), -1);
    assert_int_equal(r->err.kind, ERR_FATAL);
}

static void a_deletion_has_the_streams_shape(void **state)
{
    struct buf out = {0}, keys = {0};
    (void)state;
    event_pack_filter_key(&keys, STR("web"));
    event_pack_filter_key(&keys, STR("a\"b"));
    struct found_event event = {.topic = STR("Allocation"),
                                .key = STR("id\n1"),
                                .ns = STR("default"),
                                .filter_keys = buf_str(&keys),
                                .index = 9};
    blocking_line_deleted(&out, &event);
    assert_string_equal(buf_cstr(&out),
                        "{\"FilterKeys\":[\"web\",\"a\\\"b\"],\"Index\":9,\"Key\":\"id\\n1\","
                        "\"Namespace\":\"default\",\"Payload\":{},\"Topic\":\"Allocation\","
                        "\"Type\":\"Deleted\"}");
    buf_clear(&out);
    event.filter_keys = STR("");
    blocking_line_deleted(&out, &event);
    assert_memory_equal(out.p, "{\"FilterKeys\":null,", 19);
    buf_fini(&out);
    buf_fini(&keys);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(events_of_one_index_share_a_line),
        TEST(a_line_reads_as_one_of_the_streams),
        TEST(a_line_is_bounded),
        TEST(what_ingest_refuses_is_an_error),
        TEST(a_deletion_has_the_streams_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
