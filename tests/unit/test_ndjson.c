/* test_ndjson.c - the same lines whatever the chunks, and memory that stays within its ceiling. */
#include "connectors/ndjson.h"
#include "tests/unit/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* Pushes `text` in chunks of `step` bytes, each a copy that is gone afterwards; appends
 * "size|bytes\n" for each line to `out`. */
static void feed(struct ndjson *framer, struct str text, size_t step, struct buf *out)
{
    for (size_t at = 0; at < text.len; at += step) {
        size_t len = text.len - at < step ? text.len - at : step;
        char *chunk = mem_alloc(len);
        memcpy(chunk, text.p + at, len);
        ndjson_push(framer, (struct str){chunk, len});
        struct ndjson_line line;
        while (ndjson_next(framer, &line)) {
            buf_printf(out, "%llu%s|", (unsigned long long)line.size, line.oversized ? "!" : "");
            buf_append_str(out, line.bytes);
            buf_append_char(out, '\n');
        }
        free(chunk);
    }
}

static void gives_lines_of_one_chunk_as_views(void **state)
{
    (void)state;
    struct ndjson framer;
    struct ndjson_line line;
    struct str chunk = STR("one\ntwo\nthr");
    ndjson_init(&framer, 0);
    ndjson_push(&framer, chunk);
    assert_true(ndjson_next(&framer, &line));
    assert_ptr_equal(line.bytes.p, chunk.p);
    assert_true(str_is(line.bytes, "one") && line.size == 3 && !line.oversized);
    assert_true(ndjson_next(&framer, &line));
    assert_ptr_equal(line.bytes.p, chunk.p + 4);
    assert_false(ndjson_next(&framer, &line));
    assert_false(ndjson_next(&framer, &line));
    ndjson_fini(&framer);
}

static void gives_the_same_lines_whatever_the_chunks(void **state)
{
    (void)state;
    struct str text = STR("{}\n\n{\"a\":1}\r\n\nlonger than the others\nx\ntail");
    for (size_t step = 1; step <= text.len; step++) {
        struct ndjson framer;
        struct ndjson_line tail;
        struct buf out = {0};
        ndjson_init(&framer, 0);
        feed(&framer, text, step, &out);
        assert_string_equal(buf_cstr(&out),
                            "2|{}\n0|\n8|{\"a\":1}\r\n0|\n22|longer than the others\n1|x\n");
        assert_true(ndjson_tail(&framer, &tail) && str_is(tail.bytes, "tail"));
        ndjson_fini(&framer);
        buf_fini(&out);
    }
}

static void loses_nothing_of_a_recorded_stream(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 7, 1000, 4096, 16384, 1 << 24};
    struct buf file = fixture_read("nomad/capture.ndjson");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct ndjson framer;
        struct ndjson_line line;
        struct buf out = {0};
        ndjson_init(&framer, 0);
        for (size_t at = 0; at < file.len; at += steps[i]) {
            size_t left = file.len - at;
            ndjson_push(&framer, (struct str){file.p + at, left < steps[i] ? left : steps[i]});
            while (ndjson_next(&framer, &line)) {
                buf_append_str(&out, line.bytes);
                buf_append_char(&out, '\n');
            }
        }
        assert_true(str_eq(buf_str(&out), buf_str(&file)));
        assert_false(ndjson_tail(&framer, &line));
        ndjson_fini(&framer);
        buf_fini(&out);
    }
    buf_fini(&file);
}

static void tells_the_beginning_and_size_of_a_line_that_is_too_long(void **state)
{
    (void)state;
    struct str text = STR("12345678\n123456789\nnext\n12345678901234567890\n\n12345678\n");
    for (size_t step = 1; step <= text.len; step++) {
        struct ndjson framer;
        struct buf out = {0};
        ndjson_init(&framer, 8);
        feed(&framer, text, step, &out);
        assert_string_equal(buf_cstr(&out),
                            "8|12345678\n9!|12345678\n4|next\n20!|12345678\n0|\n8|12345678\n");
        ndjson_fini(&framer);
        buf_fini(&out);
    }
}

static void buffers_no_more_than_its_ceiling(void **state)
{
    (void)state;
    enum { MAX = 8 << 20, CHUNK = 60000, CHUNKS = 1000 };
    char *chunk = mem_alloc(CHUNK);
    memset(chunk, 'x', CHUNK);
    struct ndjson framer;
    struct ndjson_line line;
    size_t most = 0;
    ndjson_init(&framer, MAX);
    for (int i = 0; i < CHUNKS; i++) {
        ndjson_push(&framer, (struct str){chunk, CHUNK});
        assert_false(ndjson_next(&framer, &line));
        most = framer.held.bytes.cap > most ? framer.held.bytes.cap : most;
    }
    assert_true(most <= MAX + MAX / 2 + 1);
    assert_true(framer.held.bytes.cap <= BOUNDED_IDLE); /* given back once it was too long */
    ndjson_push(&framer, STR("\nnext\n"));
    assert_true(ndjson_next(&framer, &line) && line.oversized);
    assert_int_equal(line.size, (uint64_t)CHUNK * CHUNKS);
    assert_int_equal(line.bytes.len, BOUNDED_HEAD);
    assert_int_equal(line.bytes.p[BOUNDED_HEAD - 1], 'x');
    assert_true(ndjson_next(&framer, &line) && str_is(line.bytes, "next"));
    assert_false(ndjson_next(&framer, &line));
    ndjson_fini(&framer);
    free(chunk);
}

static void gives_memory_back_after_a_huge_line(void **state)
{
    (void)state;
    struct ndjson framer;
    struct ndjson_line line;
    char *chunk = mem_alloc(1 << 20);
    memset(chunk, 'x', 1 << 20);
    ndjson_init(&framer, 0);
    for (int i = 0; i < 10; i++) {
        ndjson_push(&framer, (struct str){chunk, 1 << 20});
        assert_false(ndjson_next(&framer, &line));
    }
    ndjson_push(&framer, STR("\n"));
    assert_true(ndjson_next(&framer, &line) && !line.oversized);
    assert_int_equal(line.bytes.len, 10 << 20);
    assert_false(ndjson_next(&framer, &line));
    assert_true(framer.held.bytes.cap <= BOUNDED_IDLE);
    ndjson_fini(&framer);
    free(chunk);
}

static void tells_what_a_closed_stream_left(void **state)
{
    (void)state;
    struct ndjson framer;
    struct ndjson_line line;
    ndjson_init(&framer, 0);
    assert_false(ndjson_tail(&framer, &line));
    ndjson_push(&framer, STR("whole\n"));
    assert_true(ndjson_next(&framer, &line));
    assert_false(ndjson_next(&framer, &line));
    assert_false(ndjson_tail(&framer, &line));
    ndjson_push(&framer, STR("event dropped"));
    assert_false(ndjson_next(&framer, &line));
    ndjson_push(&framer, STR(""));
    ndjson_push(&framer, STR(" from buffer"));
    assert_false(ndjson_next(&framer, &line));
    assert_true(ndjson_tail(&framer, &line) && str_is(line.bytes, "event dropped from buffer"));
    ndjson_fini(&framer);
}

static void a_line_that_was_assembled_is_no_tail(void **state)
{
    (void)state;
    struct ndjson framer;
    struct ndjson_line line;
    ndjson_init(&framer, 0);
    ndjson_push(&framer, STR("ab"));
    assert_false(ndjson_next(&framer, &line));
    ndjson_push(&framer, STR("c\n"));
    assert_true(ndjson_next(&framer, &line) && str_is(line.bytes, "abc"));
    assert_false(ndjson_tail(&framer, &line));
    ndjson_fini(&framer);
}

static void forgets_what_was_left_at_a_reset(void **state)
{
    (void)state;
    struct ndjson framer;
    struct ndjson_line line;
    ndjson_init(&framer, 0);
    ndjson_push(&framer, STR("half a li"));
    assert_false(ndjson_next(&framer, &line));
    ndjson_push(&framer, STR("ne\nnever asked for\n"));
    assert_true(ndjson_next(&framer, &line));
    ndjson_reset(&framer);
    assert_false(ndjson_tail(&framer, &line));
    ndjson_push(&framer, STR("{}\n"));
    assert_true(ndjson_next(&framer, &line) && str_is(line.bytes, "{}"));
    ndjson_fini(&framer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_lines_of_one_chunk_as_views),
        cmocka_unit_test(gives_the_same_lines_whatever_the_chunks),
        cmocka_unit_test(loses_nothing_of_a_recorded_stream),
        cmocka_unit_test(tells_the_beginning_and_size_of_a_line_that_is_too_long),
        cmocka_unit_test(buffers_no_more_than_its_ceiling),
        cmocka_unit_test(gives_memory_back_after_a_huge_line),
        cmocka_unit_test(tells_what_a_closed_stream_left),
        cmocka_unit_test(a_line_that_was_assembled_is_no_tail),
        cmocka_unit_test(forgets_what_was_left_at_a_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
