/* test_mirror_frame.c - frames and their ids. */
#include "connectors/mirror/frame.h"
#include "tests/unit/check.h"

#include <string.h>

static const struct event job = {
    .topic = {"Job", 3},
    .type = {"JobRegistered", 13},
    .data = {"{\"a\":1}", 7},
    .pos_index = 1234,
    .ordinal = 2,
    .arrival_us = 1790000000000001,
};

static void expect_frame(const struct event *event, const char *expected)
{
    struct buf out = {0};
    frame_append_event(&out, "prod", 0xabc, event);
    assert_string_equal(expected, buf_cstr(&out));
    buf_fini(&out);
}

static void tells_id_type_and_bytes(void **state)
{
    (void)state;
    expect_frame(&job, "id: prod:1234.2@1790000000000001.0000000000000abc\n"
                       "event: JobRegistered\n"
                       "data: {\"a\":1}\n\n");
}

/* The position stays where it was; a resync's objects are no place in the stream. */
static void the_id_has_the_epoch_once_the_index_started_over(void **state)
{
    (void)state;
    struct event e = job;
    e.epoch = 3;
    e.index = 7;
    expect_frame(&e, "id: prod:7~3.2@1790000000000001.0000000000000abc\n"
                     "event: JobRegistered\n"
                     "data: {\"a\":1}\n\n");
    e.origin = EVENT_SNAPSHOT;
    expect_frame(&e, "id: prod:0~3.2@1790000000000001.0000000000000abc\n"
                     "event: JobRegistered\n"
                     "data: {\"a\":1}\n\n");
}

static void gives_each_line_of_the_data_its_own_field(void **state)
{
    (void)state;
    struct event e = job;
    e.type = (struct str){"x\ny\rz", 5};
    e.data = STR("a\nb\r\nc\rd\n\n");
    expect_frame(&e, "id: prod:1234.2@1790000000000001.0000000000000abc\n"
                     "event: x y z\n"
                     "data: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: \n\n");
}

static void a_marathons_frame_has_no_id_and_ends_its_lines_in_crlf(void **state)
{
    (void)state;
    struct buf out = {0};
    frame_append_marathon(&out, STR("a_type"), STR("{\"a\":1}"));
    assert_string_equal("event: a_type\r\ndata: {\"a\":1}\r\n\r\n", buf_cstr(&out));
    buf_clear(&out);
    frame_append_marathon(&out, (struct str){"x\ny\rz", 5}, STR("a\nb\r\nc\rd\n"));
    assert_string_equal(
        "event: x y z\r\ndata: a\r\ndata: b\r\ndata: c\r\ndata: d\r\ndata: \r\n\r\n",
        buf_cstr(&out));
    buf_fini(&out);
}

static void leaves_out_an_empty_type_but_not_empty_data(void **state)
{
    (void)state;
    struct event e = job;
    e.type = e.data = (struct str){"", 0};
    expect_frame(&e, "id: prod:1234.2@1790000000000001.0000000000000abc\ndata: \n\n");
}

static void tells_a_gap_in_the_form_of_busbars_own_events(void **state)
{
    (void)state;
    struct frame_gap gap = {.from = 5, .to = 9, .ordinal = 1, .arrival_us = 77, .reason = "why"};
    struct buf out = {0};
    frame_append_gap(&out, "prod", 0xabc, &gap);
    assert_string_equal(
        "id: prod:9.1@77.0000000000000abc\n"
        "event: Gap\n"
        "data: {\"Topic\":\"Busbar\",\"Type\":\"Gap\",\"Key\":\"prod\",\"Namespace\":\"\","
        "\"Index\":9,\"Payload\":{\"From\":5,\"To\":9,\"Reason\":\"why\"}}\n\n",
        buf_cstr(&out));
    assert_true(out.len < FRAME_GAP_MAX);
    buf_fini(&out);
}

static void reads_the_ids_it_writes(void **state)
{
    (void)state;
    struct frame_id id;
    assert_true(frame_parse_id(STR("prod:1234.2@1790000000000001.0000000000000abc"), &id));
    assert_true(str_is(id.source, "prod"));
    assert_int_equal(1234, id.index);
    assert_int_equal(0, id.epoch);
    assert_int_equal(2, id.ordinal);
    assert_int_equal(1790000000000001, id.arrival_us);
    assert_int_equal(0xabc, id.journal_id);
    assert_true(frame_parse_id(STR("a:18446744073709551615.4294967295@9223372036854775807."
                                   "ffffffffffffffff"),
                               &id));
    assert_true(id.index == UINT64_MAX && id.ordinal == UINT32_MAX);
    assert_true(id.arrival_us == INT64_MAX && id.journal_id == UINT64_MAX);
    assert_true(frame_parse_id(STR("a:7~4294967295.2@3.0000000000000abc"), &id));
    assert_true(id.index == 7 && id.epoch == UINT32_MAX && id.ordinal == 2);
}

static void refuses_what_is_not_an_id(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "prod",
        ":1.0@2.0000000000000abc",
        "prod:",
        "prod:1",
        "prod:1.0",
        "prod:1.0@2",
        "prod:1.0@2.",
        "prod:1.0@2.abc",
        "prod:1.0@2.0000000000000ABC",
        "prod:1.0@2.0000000000000abcd",
        "prod:1.0@2.000000000000 abc",
        "prod:.0@2.0000000000000abc",
        "prod:-1.0@2.0000000000000abc",
        "prod:1.0@-2.0000000000000abc",
        "prod:18446744073709551616.0@2.0000000000000abc",
        "prod:1.4294967296@2.0000000000000abc",
        "prod:1.0@9223372036854775808.0000000000000abc",
        "prod:1~.0@2.0000000000000abc",
        "prod:~1.0@2.0000000000000abc",
        "prod:1~1~1.0@2.0000000000000abc",
        "prod:1~4294967296.0@2.0000000000000abc",
        "prod:1.0~1@2.0000000000000abc",
        "42",
    };
    struct frame_id id;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (frame_parse_id(str_from(bad[i]), &id))
            fail_msg("\"%s\" was taken for an id", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_id_type_and_bytes),
        cmocka_unit_test(the_id_has_the_epoch_once_the_index_started_over),
        cmocka_unit_test(gives_each_line_of_the_data_its_own_field),
        cmocka_unit_test(a_marathons_frame_has_no_id_and_ends_its_lines_in_crlf),
        cmocka_unit_test(leaves_out_an_empty_type_but_not_empty_data),
        cmocka_unit_test(tells_a_gap_in_the_form_of_busbars_own_events),
        cmocka_unit_test(reads_the_ids_it_writes),
        cmocka_unit_test(refuses_what_is_not_an_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
