/* test_base.c - buf, clock, hash, map, err, stop: what all else stands on. */
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/err.h"
#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "bridge/base/map.h"
#include "bridge/base/stop.h"
#include "tests/unit/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void buf_grows_and_keeps_what_it_holds(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 5000; i++)
        buf_printf(&b, "%d,", i % 10);
    assert_int_equal(b.len, 10000);
    buf_consume(&b, 9998);
    assert_string_equal(buf_cstr(&b), "9,");
    buf_fini(&b);
}

static void numbers_are_appended_in_decimal(void **state)
{
    (void)state;
    uint64_t numbers[] = {0, 9, 10, 1234567890, UINT64_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct buf ours = {0}, theirs = {0};
        buf_append_u64(&ours, numbers[i]);
        buf_printf(&theirs, "%" PRIu64, numbers[i]);
        assert_string_equal(buf_cstr(&ours), buf_cstr(&theirs));
        buf_fini(&ours);
        buf_fini(&theirs);
    }
}

static void json_strings_are_escaped(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append_json(&b, STR("a\"b\\c\n\x01\xc3\xa9"));
    assert_string_equal(buf_cstr(&b), "\"a\\\"b\\\\c\\n\\u0001\xc3\xa9\"");
    buf_fini(&b);
}

static void err_wrap_puts_nouns_before_and_stays_terminated(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(err_set(&err, ERR_RETRY, "refused by %s", "peer"), -1);
    err_wrap(&err, "connect %d", 7);
    assert_string_equal(err.msg, "connect 7: refused by peer");
    for (int i = 0; i < 200; i++)
        err_wrap(&err, "noun");
    assert_true(strlen(err.msg) < sizeof err.msg);
    assert_int_equal(err.kind, ERR_RETRY);
}

static void times_survive_text(void **state)
{
    (void)state;
    struct clock_kept kept = {0};
    int64_t times[] = {0,  1,       999999,  1732212345678901, 1732212345678000, 253402300799000000,
                       -1, -999999, 1000001, -1000000000};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char text[CLOCK_TEXT_MAX];
        int64_t back = -1;
        clock_format(times[i], text);
        for (int twice = 0; twice < 2; twice++)
            assert_true(str_is(clock_format_kept(&kept, times[i]), text));
        assert_true(clock_parse(str_from(text), &back));
        assert_int_equal(back, times[i]);
    }
}

static void times_of_rfc_3339_are_read(void **state)
{
    (void)state;
    int64_t us;
    assert_true(clock_parse(STR("1985-04-12T23:20:50.52Z"), &us));
    assert_int_equal(us, 482196050520000);
    assert_true(clock_parse(STR("1996-12-19T16:39:57-08:00"), &us));
    assert_int_equal(us, 851042397000000);
    const char *bad[] = {"",
                         "1985",
                         "1985-13-12T23:20:50Z",
                         "1985-04-12T23:20:50",
                         "now",
                         "1985-04-12T23:20:50.Z",
                         "1985-04-12T23:20:50Zx"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(clock_parse(str_from(bad[i]), &us));
}

static void backoff_doubles_within_its_bounds(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 40; n++) {
        int wait = clock_backoff_ms(n, 250, 30000);
        assert_in_range(wait, 125, 30000);
        if (n == 1)
            assert_in_range(wait, 125, 250);
        if (n > 10)
            assert_in_range(wait, 15000, 30000);
    }
}

static void crc32c_gives_the_published_values(void **state)
{
    (void)state;
    unsigned char zeros[32] = {0}, rising[32];
    for (unsigned i = 0; i < 32; i++)
        rising[i] = (unsigned char)i;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa); /* RFC 3720, B.4 */
    assert_int_equal(crc32c(0, rising, 32), 0x46dd794e);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

/* The definition, bit by bit, against whatever the machine's fast way is: all lengths around a
 * lane, cut anywhere. */
static void crc32c_agrees_with_its_definition(void **state)
{
    (void)state;
    unsigned char data[7000];
    srand(3);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)rand();
    for (size_t len = 0; len <= sizeof data; len += len % 1024 > 2 && len % 1024 < 1020 ? 173 : 1) {
        uint32_t crc = ~UINT32_C(0);
        for (size_t i = 0; i < len; i++) {
            crc ^= data[i];
            for (int bit = 0; bit < 8; bit++)
                crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
        }
        assert_int_equal(crc32c(0, data, len), ~crc);
        size_t cut = len / 3;
        assert_int_equal(crc32c(crc32c(0, data, cut), data + cut, len - cut), ~crc);
    }
}

static void hash64_gives_the_published_values(void **state)
{
    (void)state;
    assert_true(hash64(HASH64_START, "", 0) == UINT64_C(0xcbf29ce484222325));
    assert_true(hash64(HASH64_START, "a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(hash64(HASH64_START, "foobar", 6) == UINT64_C(0x85944171f73967e8));
}

static void hash64_of_a_number_is_that_of_its_bytes(void **state)
{
    (void)state;
    srand(3);
    for (int i = 0; i < 64 * 20; i++) {
        uint64_t value = (hash_random() | 1) >> i % 64;
        unsigned char bytes[8];
        for (size_t at = 0; at < sizeof bytes; at++)
            bytes[at] = (unsigned char)(value >> 8 * at);
        assert_true(hash64_u64(17, value) == hash64(17, bytes, 8));
        assert_true(hash64_u32(17, (uint32_t)value) == hash64(17, bytes, 4));
    }
    assert_true(hash64_u64(17, 0) == hash64(17, "\0\0\0\0\0\0\0\0", 8));
    assert_true(hash64_u32(17, 0) == hash64(17, "\0\0\0\0", 4));
}

/* One random change of the map, and of the plain array of what it should hold (-1: nothing). */
static void change_map(struct map *map, int64_t *held, int keys)
{
    uint64_t k = (uint64_t)(rand() % keys);
    switch (rand() % 4) {
    case 0:
        map_remove(map, k);
        held[k] = -1;
        break;
    case 1:
        if (held[k] <= 0)
            break;
        map_lower(map, k);
        held[k] = held[k] > 1 ? held[k] - 1 : -1;
        break;
    default:
        held[k] = (held[k] < 0 ? 0 : held[k]) + 1;
        assert_int_equal(++*map_at(map, k), held[k]);
    }
}

/* Few keys in few homes, so that clusters form; cleared often. */
static void map_agrees_with_a_plain_array(void **state)
{
    (void)state;
    enum { KEYS = 512 };
    struct map map = {0};
    int64_t held[KEYS];
    srand(7);
    map_clear(&map);
    for (int clear = 0; clear < 60; clear++) {
        memset(held, -1, sizeof held);
        for (int i = 0; i < 4000; i++) {
            change_map(&map, held, KEYS);
            uint64_t k = (uint64_t)(rand() % KEYS);
            map_fetch(&map, k);
            assert_int_equal(map_has(&map, k), held[k] >= 0);
        }
        if (clear == 40)
            map_fini(&map);
        map_clear(&map);
        assert_int_equal(map.used, 0);
        for (uint64_t k = 0; k < KEYS; k++)
            assert_false(map_has(&map, k));
    }
    map_fini(&map);
}

static void map_holds_nothing_of_old_when_its_rounds_are_used_up(void **state)
{
    (void)state;
    struct map map = {0};
    map_at(&map, 1); /* in the first round */
    map_clear(&map);
    map.round = UINT32_MAX; /* so many later */
    assert_false(map_has(&map, 1));
    map_at(&map, 2);
    map_clear(&map);
    assert_false(map_has(&map, 1));
    assert_false(map_has(&map, 2));
    assert_int_equal(++*map_at(&map, 1), 1);
    map_fini(&map);
}

static void stop_wakes_and_stays(void **state)
{
    (void)state;
    struct stop *stop = stop_new();
    assert_false(stop_wait(stop, 1));
    stop_request(stop);
    stop_request(stop);
    assert_true(stop_wait(stop, 100000));
    assert_true(stop_requested(stop));
    stop_free(&stop);
    stop_free(&stop);
}

static void cuts_between_characters(void **state)
{
    (void)state;
    assert_true(str_eq(str_cut(STR("abc"), 3), STR("abc")));
    assert_true(str_eq(str_cut(STR("abc"), 2), STR("ab")));
    assert_true(str_eq(str_cut(STR("a\xc3\xa9z"), 2), STR("a")));
    assert_true(str_eq(str_cut(STR("a\xc3\xa9z"), 3), STR("a\xc3\xa9")));
    assert_true(str_eq(str_cut(STR("\xf0\x9f\x9a\x8c"), 3), STR("")));
    assert_true(str_eq(str_cut(STR(""), 0), STR("")));
}

static void encodes_utf8(void **state)
{
    (void)state;
    static const struct {
        uint32_t code;
        const char *bytes;
    } rows[] = {{0x41, "A"},
                {0x7f, "\x7f"},
                {0x80, "\xc2\x80"},
                {0x7ff, "\xdf\xbf"},
                {0x800, "\xe0\xa0\x80"},
                {0xffff, "\xef\xbf\xbf"},
                {0x10000, "\xf0\x90\x80\x80"},
                {0x10ffff, "\xf4\x8f\xbf\xbf"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char to[4];
        size_t n = utf8_encode(to, rows[i].code);
        assert_true(str_is((struct str){to, n}, rows[i].bytes));
    }
}

/* What one call writes. */
static struct buf logged(const char *value)
{
    struct buf line = {0};
    int ends[2], kept = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    log_warn("said", LOG_STR("what", value), LOG_INT("n", 7));
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(ends[1]);
    ssize_t got = read(ends[0], buf_reserve(&line, 65536), 65536);
    assert_true(got > 0);
    line.len = (size_t)got;
    close(ends[0]);
    return line;
}

static void logs_no_value_whole_that_is_huge(void **state)
{
    (void)state;
    char huge[20000];
    for (int quoted = 0; quoted < 2; quoted++) {
        memset(huge, 'k', sizeof huge - 1);
        huge[0] = quoted != 0 ? ' ' : 'k';
        huge[sizeof huge - 1] = '\0';
        struct buf line = logged(huge);
        assert_in_range(line.len, 1024, 1200);
        assert_non_null(strstr(buf_cstr(&line), "level=warn event=said what="));
        assert_non_null(strstr(buf_cstr(&line), " n=7 ts="));
        buf_fini(&line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buf_grows_and_keeps_what_it_holds),
        cmocka_unit_test(numbers_are_appended_in_decimal),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(err_wrap_puts_nouns_before_and_stays_terminated),
        cmocka_unit_test(times_survive_text),
        cmocka_unit_test(times_of_rfc_3339_are_read),
        cmocka_unit_test(backoff_doubles_within_its_bounds),
        cmocka_unit_test(crc32c_gives_the_published_values),
        cmocka_unit_test(crc32c_agrees_with_its_definition),
        cmocka_unit_test(hash64_gives_the_published_values),
        cmocka_unit_test(hash64_of_a_number_is_that_of_its_bytes),
        cmocka_unit_test(map_agrees_with_a_plain_array),
        cmocka_unit_test(map_holds_nothing_of_old_when_its_rounds_are_used_up),
        cmocka_unit_test(stop_wakes_and_stays),
        cmocka_unit_test(cuts_between_characters),
        cmocka_unit_test(encodes_utf8),
        cmocka_unit_test(logs_no_value_whole_that_is_huge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
