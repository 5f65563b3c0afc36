/* test_mirror_ring.c - the shared ring of frames. */
#include "connectors/mirror/ring.h"
#include "tests/unit/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20 };

static void add(struct ring *ring, int64_t arrival_us, struct str frame)
{
    struct event event = {
        .topic = STR("Job"),
        .type = STR("JobRegistered"),
        .key = STR("web"),
        .ns = STR("default"),
        .arrival_us = arrival_us,
    };
    ring_append(ring, 3, &event, frame);
}

/* Frames 1..n, each of `size` bytes, arriving at 10, 20, … */
static void add_many(struct ring *ring, int n, size_t size)
{
    char *frame = malloc(size);
    memset(frame, 'x', size);
    for (int i = 1; i <= n; i++)
        add(ring, 10 * i, (struct str){frame, size});
    free(frame);
}

/* The frame at the cursor. False at the end, and where it has gone. */
static bool at_cursor(const struct ring *ring, struct ring_cursor *cursor, struct ring_frame *out,
                      bool *gone)
{
    const struct chunk *chunk = ring_chunk(ring, cursor, gone);
    if (chunk == NULL || cursor->frame == chunk->n)
        return false;
    chunk_at(chunk, cursor->frame, out);
    return true;
}

static size_t count_from(const struct ring *ring, struct ring_cursor cursor, int64_t *first)
{
    struct ring_frame f;
    bool gone;
    size_t n = 0;
    int64_t last = 0;
    for (; at_cursor(ring, &cursor, &f, &gone); cursor.frame++) {
        if (n++ == 0)
            *first = f.arrival_us;
        assert_true(f.arrival_us > last);
        last = f.arrival_us;
    }
    assert_false(gone);
    return n;
}

static void gives_back_what_was_added(void **state)
{
    (void)state;
    struct ring *ring = ring_new(MIB, 0);
    add(ring, 10, STR("one"));
    add(ring, 20, STR("two"));
    struct ring_cursor cursor;
    struct ring_frame f;
    bool gone;
    assert_true(ring_seek(ring, 10, &cursor));
    assert_true(at_cursor(ring, &cursor, &f, &gone));
    assert_true(str_is(f.bytes, "two"));
    assert_int_equal(3, f.source);
    assert_int_equal(20, f.arrival_us);
    assert_true(str_is(f.event.topic, "Job") && str_is(f.event.type, "JobRegistered"));
    assert_true(str_is(f.event.key, "web") && str_is(f.event.ns, "default"));
    cursor.frame++;
    assert_false(at_cursor(ring, &cursor, &f, &gone));
    assert_false(gone);
    add(ring, 30, STR("three"));
    assert_true(at_cursor(ring, &cursor, &f, &gone));
    assert_true(str_is(f.bytes, "three"));
    ring_free(&ring);
}

static void an_empty_ring_knows_where_it_begins(void **state)
{
    (void)state;
    struct ring *ring = ring_new(MIB, 1000);
    struct ring_cursor cursor;
    struct ring_frame f;
    bool gone;
    assert_false(ring_seek(ring, 999, &cursor));
    assert_true(ring_seek(ring, 1000, &cursor));
    assert_false(at_cursor(ring, &cursor, &f, &gone));
    add(ring, 1001, STR("one"));
    assert_true(at_cursor(ring, &cursor, &f, &gone));
    assert_int_equal(1001, f.arrival_us);
    ring_free(&ring);
}

static void seeks_to_the_first_frame_after_a_time(void **state)
{
    (void)state;
    struct ring *ring = ring_new(8 * MIB, 0);
    add_many(ring, 3000, 1000); /* several chunks */
    for (int64_t after = 0; after <= 30000; after += 5) {
        struct ring_cursor cursor;
        int64_t first = 0;
        assert_true(ring_seek(ring, after, &cursor));
        size_t n = count_from(ring, cursor, &first);
        assert_int_equal(3000 - after / 10, n);
        if (n > 0)
            assert_int_equal((after / 10 + 1) * 10, first);
    }
    ring_free(&ring);
}

static void drops_the_oldest_and_stays_within_its_bytes(void **state)
{
    (void)state;
    struct ring *ring = ring_new(MIB, 0);
    struct ring_cursor start;
    struct ring_frame f;
    bool gone;
    assert_true(ring_seek(ring, 0, &start));
    add_many(ring, 10000, 1000);
    assert_true(ring_bytes(ring) <= MIB);
    assert_true(ring_bytes(ring) > MIB / 2);
    assert_false(at_cursor(ring, &start, &f, &gone));
    assert_true(gone);
    assert_false(ring_seek(ring, 50000, &start));
    assert_true(ring_seek(ring, 99990, &start));
    int64_t first = 0;
    assert_int_equal(1, count_from(ring, start, &first));
    ring_free(&ring);
}

static void holds_a_frame_larger_than_itself(void **state)
{
    (void)state;
    struct ring *ring = ring_new(MIB, 0);
    struct ring_cursor cursor;
    int64_t first = 0;
    add_many(ring, 100, 1000);
    char *huge = malloc(3 * MIB);
    memset(huge, 'h', 3 * MIB);
    add(ring, 5000, (struct str){huge, 3 * MIB});
    assert_true(ring_seek(ring, 1000, &cursor));
    assert_int_equal(1, count_from(ring, cursor, &first));
    assert_int_equal(5000, first);
    add(ring, 5001, STR("small"));
    assert_true(ring_seek(ring, 5000, &cursor));
    assert_int_equal(1, count_from(ring, cursor, &first));
    assert_true(ring_bytes(ring) < MIB);
    free(huge);
    ring_free(&ring);
}

static void survives_frames_of_every_size(void **state)
{
    (void)state;
    struct ring *ring = ring_new(MIB, 0);
    char *bytes = malloc(400 << 10);
    memset(bytes, 'b', 400 << 10);
    for (int i = 1; i <= 5000; i++) {
        size_t size = (size_t)((i * 7919) % 400) << (i % 7 == 0 ? 10 : 2);
        add(ring, i, (struct str){bytes, size});
        assert_true(ring_bytes(ring) <= MIB);
    }
    free(bytes);
    ring_free(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_back_what_was_added),
        cmocka_unit_test(an_empty_ring_knows_where_it_begins),
        cmocka_unit_test(seeks_to_the_first_frame_after_a_time),
        cmocka_unit_test(drops_the_oldest_and_stays_within_its_bytes),
        cmocka_unit_test(holds_a_frame_larger_than_itself),
        cmocka_unit_test(survives_frames_of_every_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
