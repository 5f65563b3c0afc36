/* test_base.c - buf, clock, hash, map, err, stop: what all else stands on. */
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/err.h"
#include "bridge/base/hash.h"
#include "bridge/base/map.h"
#include "bridge/base/stop.h"
#include "tests/unit/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
    int64_t times[] = {0, 1, 999999, 1732212345678901, 1732212345678000, 253402300799000000};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char text[CLOCK_TEXT_MAX];
        int64_t back = -1;
        clock_format(times[i], text);
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

/* Random puts and removes against a plain array. Few keys in few homes, so that clusters form. */
static void map_agrees_with_a_plain_array(void **state)
{
    (void)state;
    struct map map = {0};
    bool there[512] = {0};
    srand(7);
    for (int i = 0; i < 200000; i++) {
        uint64_t k = (uint64_t)(rand() % 512);
        if (rand() % 2) {
            map_at(&map, k);
            there[k] = true;
        } else {
            map_remove(&map, k);
            there[k] = false;
        }
        k = (uint64_t)(rand() % 512);
        assert_int_equal(map_has(&map, k), there[k]);
    }
    map_clear(&map);
    assert_false(map_has(&map, 1));
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
        cmocka_unit_test(map_agrees_with_a_plain_array),
        cmocka_unit_test(stop_wakes_and_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
