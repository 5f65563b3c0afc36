/* test_sse.c - text/event-stream as the HTML standard reads it, the same whatever the chunks. */
#include "connectors/json_scan.h"
#include "connectors/sse.h"
#include "tests/unit/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* Appends "type|id|data\n" for each event; "!SIZE" where it was too long. */
static void feed(struct sse *framer, struct str text, size_t step, struct buf *out)
{
    for (size_t at = 0; at < text.len; at += step) {
        size_t len = text.len - at < step ? text.len - at : step;
        char *chunk = mem_alloc(len);
        memcpy(chunk, text.p + at, len);
        sse_push(framer, (struct str){chunk, len});
        struct sse_event event;
        while (sse_next(framer, &event)) {
            buf_append_str(out, event.type);
            buf_append_char(out, '|');
            buf_append_str(out, event.id);
            buf_append_char(out, '|');
            buf_append_str(out, event.data);
            if (event.oversized)
                buf_printf(out, "!%llu", (unsigned long long)event.size);
            else
                assert_int_equal(event.size, event.data.len);
            buf_append_char(out, '\n');
        }
        free(chunk);
    }
}

/* The events of `text` are `want` for every size of chunks; returns whether something was left. */
static bool frames(struct str text, size_t event_max, const char *want)
{
    bool partial = false;
    for (size_t step = 1; step <= text.len; step++) {
        struct sse framer;
        struct buf out = {0};
        sse_init(&framer, event_max);
        feed(&framer, text, step, &out);
        assert_string_equal(buf_cstr(&out), want);
        if (step > 1)
            assert_int_equal(partial, sse_is_partial(&framer));
        partial = sse_is_partial(&framer);
        sse_fini(&framer);
        buf_fini(&out);
    }
    return partial;
}

static void reads_the_examples_of_the_standard(void **state)
{
    (void)state;
    frames(STR("data: YHOO\ndata: +2\ndata: 10\n\n"), 0, "||YHOO\n+2\n10\n");
    /* four blocks: a comment, two events, the last one without its blank line */
    assert_true(frames(STR(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n"
                           "data:  third event\n"),
                       0, "|1|first event\n||second event\n"));
    assert_true(frames(STR("data\n\ndata\ndata\n\ndata:"), 0, "||\n||\n\n"));
    assert_false(frames(STR("data:test\n\ndata: test\n\n"), 0, "||test\n||test\n"));
}

static void takes_every_kind_of_line_end(void **state)
{
    (void)state;
    const char *want = "a||1\nb||2\n";
    assert_false(frames(STR("event:a\ndata:1\n\nevent:b\ndata:2\n\n"), 0, want));
    assert_false(frames(STR("event:a\r\ndata:1\r\n\r\nevent:b\r\ndata:2\r\n\r\n"), 0, want));
    assert_false(frames(STR("event:a\rdata:1\r\revent:b\rdata:2\r\r"), 0, want));
    assert_false(frames(STR("event:a\rdata:1\r\n\revent:b\ndata:2\r\n\n"), 0, want));
}

static void gives_an_event_before_the_second_half_of_its_last_line_end(void **state)
{
    (void)state;
    struct sse framer;
    struct sse_event event;
    sse_init(&framer, 0);
    sse_push(&framer, STR("data: x\r\n\r"));
    assert_true(sse_next(&framer, &event) && str_is(event.data, "x"));
    assert_false(sse_next(&framer, &event));
    /* Marathon's heartbeat, flushed byte by byte, is nothing, and closes nothing */
    const struct str rest[] = {STR("\n"),        STR("\r"), STR("\n"),
                               STR("data: y\r"), STR("\n"), STR("\r")};
    for (size_t i = 0; i + 1 < sizeof rest / sizeof *rest; i++) {
        sse_push(&framer, rest[i]);
        assert_false(sse_next(&framer, &event));
    }
    sse_push(&framer, rest[5]);
    assert_true(sse_next(&framer, &event) && str_is(event.data, "y"));
    sse_fini(&framer);
}

static void gives_one_line_of_data_as_a_view(void **state)
{
    (void)state;
    struct sse framer;
    struct sse_event event;
    struct str chunk = STR("event: e\r\ndata: {\"a\":1}\r\n\r\n");
    sse_init(&framer, 0);
    sse_push(&framer, chunk);
    assert_true(sse_next(&framer, &event));
    assert_ptr_equal(event.data.p, chunk.p + 16);
    assert_false(sse_is_partial(&framer));
    assert_false(sse_next(&framer, &event));
    /* also behind a line that had to be put together */
    sse_push(&framer, STR("eve"));
    assert_false(sse_next(&framer, &event));
    struct str next = STR("nt: f\ndata: 2\n\n");
    sse_push(&framer, next);
    assert_true(sse_next(&framer, &event) && str_is(event.type, "f"));
    assert_ptr_equal(event.data.p, next.p + 12);
    sse_fini(&framer);
}

static void skips_one_byte_order_mark_at_the_start(void **state)
{
    (void)state;
    frames(STR("\xef\xbb\xbf"
               "data: a\n\n\xef\xbb\xbf"
               "data: b\n\ndata: c\n\n"),
           0, "||a\n||c\n");
    frames(STR("\xef\xbb\xbf\xef\xbb\xbf"
               "data: a\n\ndata: b\n\n"),
           0, "||b\n");
    frames(STR("\xef\xbb"
               "data: a\n\ndata: b\n\n"),
           0, "||b\n");
}

static void ignores_comments_and_unknown_fields(void **state)
{
    (void)state;
    frames(STR(": hello\n:\ndata: a\nfoo: bar\nDATA: b\n data: c\ndatas: d\nfoo\n: data: e\n\n"), 0,
           "||a\n");
}

static void dispatches_nothing_without_data(void **state)
{
    (void)state;
    /* the type does not live on, the id does */
    frames(STR("event: lost\nid: 7\n\n\n\ndata: a\n\n"), 0, "|7|a\n");
}

static void strips_one_space_and_keeps_colons(void **state)
{
    (void)state;
    frames(STR("data:  a: b \nevent:x:y\n\ndata: \n\n"), 0, "x:y|| a: b \n||\n");
}

static void the_last_type_and_id_count(void **state)
{
    (void)state;
    frames(STR("event:a\nid:1\ndata:d\nevent:b\nid:2\n\ndata:e\n\n"), 0, "b|2|d\n|2|e\n");
}

static void ignores_an_id_with_a_nul(void **state)
{
    (void)state;
    frames(STR("id:1\ndata:a\n\nid:2\0\ndata:b\n\nid\ndata:c\n\n"), 0, "|1|a\n|1|b\n||c\n");
}

static uint64_t retry_after(struct str text)
{
    struct sse framer;
    struct buf out = {0};
    sse_init(&framer, 0);
    feed(&framer, text, text.len, &out);
    sse_fini(&framer);
    buf_fini(&out);
    return framer.retry_ms;
}

static void keeps_the_retry_that_is_all_digits(void **state)
{
    (void)state;
    assert_int_equal(retry_after(STR("data: x\n\n")), UINT64_MAX);
    assert_int_equal(retry_after(STR("retry: 2500\n")), 2500);
    assert_int_equal(retry_after(STR("retry: 0\n")), 0);
    assert_int_equal(retry_after(STR("retry: 10\nretry: 1s\nretry: -1\nretry:\nretry:  5\n")), 10);
    uint64_t huge = retry_after(STR("retry: 99999999999999999999999999\n"));
    assert_true(huge > UINT64_C(1000000000000000) && huge != UINT64_MAX);
}

static void keeps_bytes_that_are_not_utf8(void **state)
{
    (void)state;
    frames(STR("data: \xff\xfe \xe2\x80\xa8\n\n"), 0, "||\xff\xfe \xe2\x80\xa8\n");
}

static void an_event_cut_off_by_the_end_is_none(void **state)
{
    (void)state;
    assert_true(frames(STR("data: a\n\ndata: b\n"), 0, "||a\n"));
    assert_true(frames(STR("data: a\n\ndata"), 0, "||a\n"));
    assert_true(frames(STR("data: a\n\nevent: b\n"), 0, "||a\n"));
    assert_false(frames(STR("data: a\n\n: b\n"), 0, "||a\n"));
}

static void tells_the_beginning_and_size_of_what_is_too_long(void **state)
{
    (void)state;
    /* one long line: `data: ` counts in the line, not in the data */
    frames(STR("data: 123456\n\ndata: 1234567\n\ndata: x\n\n"), 12, "||123456\n||123456!7\n||x\n");
    /* many short ones; what follows a cut never joins its beginning */
    frames(STR("data:123\ndata:456\ndata:789\ndata:\ndata:z\n\n"), 8, "||123\n456\n!14\n");
    frames(STR("data:1\ndata:23456789\ndata:z\n\ndata:ok\n\n"), 8, "||1\n234!12\n||ok\n");
    /* comments of any length are none of that; a type is */
    frames(STR(": a long comment\ndata:1\n\nevent:123456789\ndata:2\n\nid:123456789\ndata:3\n\n"),
           8, "||1\n12||2!1\n||3\n");
}

static void buffers_no_more_than_its_ceiling(void **state)
{
    (void)state;
    enum { MAX = 2 << 20, CHUNK = 60000 };
    char *chunk = mem_alloc(CHUNK);
    memset(chunk, 'x', CHUNK);
    struct sse framer;
    struct sse_event event;
    sse_init(&framer, MAX);
    for (int line = 0; line < 5; line++) {
        sse_push(&framer, STR("data: "));
        assert_false(sse_next(&framer, &event));
        for (int i = 0; i < 100; i++) {
            sse_push(&framer, (struct str){chunk, CHUNK});
            assert_false(sse_next(&framer, &event));
            assert_true(framer.line.bytes.cap <= MAX + MAX / 2 + 1);
            assert_true(framer.data.bytes.cap <= MAX + MAX / 2 + 1);
        }
        sse_push(&framer, STR("\n"));
        assert_false(sse_next(&framer, &event));
    }
    sse_push(&framer, STR("\n"));
    assert_true(sse_next(&framer, &event) && event.oversized);
    assert_int_equal(event.size, 5 * 100 * CHUNK + 4);
    assert_true(event.data.len <= BOUNDED_HEAD && event.data.len > BOUNDED_HEAD - 10);
    sse_fini(&framer);
    free(chunk);
}

static void a_reset_forgets_all_but_retry(void **state)
{
    (void)state;
    struct sse framer;
    struct buf out = {0};
    sse_init(&framer, 0);
    feed(&framer, STR("retry: 5\nid: 1\nevent: a\ndata: x\nda"), 5, &out);
    assert_true(sse_is_partial(&framer));
    sse_reset(&framer);
    assert_false(sse_is_partial(&framer));
    feed(&framer,
         STR("\xef\xbb\xbf"
             "data: y\n\n"),
         100, &out);
    assert_string_equal(buf_cstr(&out), "||y\n");
    assert_int_equal(framer.retry_ms, 5);
    sse_fini(&framer);
    buf_fini(&out);
}

/* ---- what Marathon sent ---- */

/* Appends what a plain reader of lines finds: good for a file of `event:` and `data:` lines only.
 */
static size_t expected(struct str text, struct buf *out)
{
    size_t n = 0;
    const char *p = text.p, *end = text.p + text.len, *cr;
    for (; p < end && (cr = memchr(p, '\r', (size_t)(end - p))) != NULL; p = cr + 2) {
        struct str line = {p, (size_t)(cr - p)};
        bool type = line.len > 7 && memcmp(p, "event: ", 7) == 0;
        bool data = line.len > 6 && memcmp(p, "data: ", 6) == 0;
        if (type)
            buf_append(out, p + 7, line.len - 7);
        if (data)
            buf_append_cstr(out, "||");
        if (data)
            buf_append(out, p + 6, line.len - 6);
        if (data)
            buf_append_char(out, '\n');
        n += data;
    }
    return n;
}

static void frames_all_of_a_real_marathon_whatever_the_chunks(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 2, 3, 7, 4096, 15000, 1 << 24};
    struct buf file = fixture_read("marathon/real-1.11.sse"), want = {0};
    assert_int_equal(expected(buf_str(&file), &want), 6370);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct sse framer;
        struct buf out = {0};
        sse_init(&framer, 0);
        feed(&framer, buf_str(&file), steps[i], &out);
        assert_true(str_eq(buf_str(&out), buf_str(&want)));
        assert_false(sse_is_partial(&framer));
        sse_fini(&framer);
        buf_fini(&out);
    }
    buf_fini(&want);
    buf_fini(&file);
}

/* The `eventType` in the data. */
static bool tells_its_type(const struct sse_event *event)
{
    struct json_scan scan;
    struct json_scan_string name, value;
    bool same = false;
    json_scan_init(&scan, event->data);
    json_scan_object(&scan);
    while (json_scan_member(&scan, &name)) {
        if (!str_is(name.raw, "eventType"))
            json_scan_skip(&scan, NULL);
        else
            same = json_scan_string(&scan, &value) && str_eq(value.raw, event->type);
    }
    return same && json_scan_end(&scan);
}

static void the_data_of_a_real_marathon_is_json_of_that_type(void **state)
{
    (void)state;
    static const char *const names[] = {"marathon/real-1.11.sse", "marathon/wire-true-servlet.bin"};
    for (size_t i = 0; i < 2; i++) {
        struct buf file = fixture_read(names[i]);
        struct sse framer;
        struct sse_event event;
        size_t n = 0;
        const char *body = file.p;
        if (i == 1) /* behind the response headers */
            body = (const char *)memmem(file.p, file.len, "\r\n\r\n", 4) + 4;
        sse_init(&framer, 0);
        sse_push(&framer, (struct str){body, (size_t)(file.p + file.len - body)});
        for (; sse_next(&framer, &event); n++)
            assert_true(tells_its_type(&event));
        assert_int_equal(n, i == 0 ? 6370 : 33);
        sse_fini(&framer);
        buf_fini(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_examples_of_the_standard),
        cmocka_unit_test(takes_every_kind_of_line_end),
        cmocka_unit_test(gives_an_event_before_the_second_half_of_its_last_line_end),
        cmocka_unit_test(gives_one_line_of_data_as_a_view),
        cmocka_unit_test(skips_one_byte_order_mark_at_the_start),
        cmocka_unit_test(ignores_comments_and_unknown_fields),
        cmocka_unit_test(dispatches_nothing_without_data),
        cmocka_unit_test(strips_one_space_and_keeps_colons),
        cmocka_unit_test(the_last_type_and_id_count),
        cmocka_unit_test(ignores_an_id_with_a_nul),
        cmocka_unit_test(keeps_the_retry_that_is_all_digits),
        cmocka_unit_test(keeps_bytes_that_are_not_utf8),
        cmocka_unit_test(an_event_cut_off_by_the_end_is_none),
        cmocka_unit_test(tells_the_beginning_and_size_of_what_is_too_long),
        cmocka_unit_test(buffers_no_more_than_its_ceiling),
        cmocka_unit_test(a_reset_forgets_all_but_retry),
        cmocka_unit_test(frames_all_of_a_real_marathon_whatever_the_chunks),
        cmocka_unit_test(the_data_of_a_real_marathon_is_json_of_that_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
