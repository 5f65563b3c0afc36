/* test_mirror_groups.c - who shares a group, and what chunks of frames remember for it. */
#include "connectors/mirror/groups.h"
#include "tests/unit/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOURCES = 2 };

static void want_topic(struct wanted *w, const char *topic)
{
    if (w->filter == NULL)
        w->filter = filter_new();
    filter_add_topic(w->filter, str_from(topic));
    wanted_note(w, 'o', str_from(topic));
}

static void want_type(struct wanted *w, const char *type)
{
    if (w->filter == NULL)
        w->filter = filter_new();
    filter_add_type(w->filter, str_from(type));
    wanted_note(w, 'y', str_from(type));
}

static void want_source(struct wanted *w, size_t source)
{
    if (w->sources == NULL)
        w->sources = mem_zalloc(SOURCES * sizeof(bool));
    w->sources[source] = true;
}

static void add(struct chunk *chunk, size_t source, int n, const char *topic, const char *type)
{
    char frame[64];
    struct event event = {
        .topic = str_from(topic), .type = str_from(type), .arrival_us = 10 * n, .pos_index = 1};
    event.origin = strcmp(type, "Gap") == 0 ? EVENT_OWN : EVENT_SOURCE;
    int len = snprintf(frame, sizeof frame, "<%d>", n);
    chunk_append(chunk, source, &event, (struct str){frame, (size_t)len});
}

/* All that a group is sent of a chunk, from a place on, in one text. */
static char *sent(struct chunk *chunk, const struct group *g, struct chunk_place place)
{
    struct buf text = {0};
    struct iovec parts[4];
    const struct verdict *v = chunk_judge(chunk, &g->wish);
    place.frame = chunk_next(chunk, v, place.frame);
    while (place.frame < chunk->n) {
        size_t n = chunk_parts(chunk, v, &place, parts, 4), last, bytes = 0;
        for (size_t i = 0; i < n; i++) {
            buf_append(&text, parts[i].iov_base, parts[i].iov_len);
            bytes += parts[i].iov_len;
        }
        assert_true(chunk_pass(chunk, v, &place, bytes, &last) > 0);
        place.frame = chunk_next(chunk, v, place.frame);
    }
    char *copy = mem_strdup(buf_cstr(&text));
    buf_fini(&text);
    return copy;
}

static void expect_sent(struct chunk *chunk, const struct group *g, size_t from, const char *text)
{
    char *got = sent(chunk, g, (struct chunk_place){from, 0});
    assert_string_equal(text, got);
    free(got);
}

static void filters_that_mean_the_same_are_one_group(void **state)
{
    (void)state;
    struct groups *groups = groups_new(SOURCES);
    struct wanted a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0};
    want_topic(&a, "Job");
    want_type(&a, "X");
    want_type(&a, "Y");
    want_type(&b, "Y");
    want_type(&b, "X");
    want_topic(&b, "Job");
    want_type(&b, "Y");
    want_topic(&c, "X"); /* the words of a, but other lists */
    want_type(&c, "Job");
    want_type(&c, "Y");
    want_topic(&d, "Job");
    want_type(&d, "XY"); /* no two words can be taken for one */
    struct group *of_a = groups_join(groups, &a);
    assert_ptr_equal(of_a, groups_join(groups, &b));
    assert_int_equal(2, of_a->n_clients);
    struct group *of_c = groups_join(groups, &c), *of_d = groups_join(groups, &d);
    assert_true(of_c != of_a && of_d != of_a && of_d != of_c);
    want_source(&e, 1);
    struct group *of_e = groups_join(groups, &e), *of_f = groups_join(groups, &f);
    assert_true(of_e != of_f);
    assert_int_equal(5, groups_count(groups));
    groups_leave(groups, of_a);
    assert_int_equal(5, groups_count(groups));
    groups_leave(groups, of_a);
    groups_leave(groups, of_c);
    assert_int_equal(3, groups_count(groups));
    groups_free(&groups);
}

static void each_group_is_sent_what_it_wants(void **state)
{
    (void)state;
    struct groups *groups = groups_new(SOURCES);
    struct wanted all = {0}, jobs = {0}, second = {0}, none = {0};
    want_topic(&jobs, "Job");
    want_source(&second, 1);
    want_topic(&none, "Node");
    struct group *g_all = groups_join(groups, &all), *g_jobs = groups_join(groups, &jobs);
    struct group *g_second = groups_join(groups, &second), *g_none = groups_join(groups, &none);
    struct chunk chunk = {0};
    add(&chunk, 0, 1, "Job", "X");
    add(&chunk, 0, 2, "Job", "X");
    expect_sent(&chunk, g_jobs, 0, "<1><2>"); /* all so far; then some */
    add(&chunk, 1, 3, "Alloc", "X");
    add(&chunk, 0, 4, "Job", "Y");
    add(&chunk, 1, 5, "Busbar", "Gap"); /* no gap is silent */
    add(&chunk, 0, 6, "Alloc", "Y");
    expect_sent(&chunk, g_all, 0, "<1><2><3><4><5><6>");
    expect_sent(&chunk, g_jobs, 0, "<1><2><4><5>");
    expect_sent(&chunk, g_jobs, 2, "<4><5>");
    expect_sent(&chunk, g_second, 0, "<3><5>");
    expect_sent(&chunk, g_none, 0, "<5>");
    chunk_fini(&chunk);
    groups_free(&groups);
}

/* The numbers are used again: what a chunk knew of the one before must not be taken for it. */
static void a_number_that_is_used_again_is_looked_at_anew(void **state)
{
    (void)state;
    struct groups *groups = groups_new(SOURCES);
    struct chunk chunk = {0};
    for (int i = 0; i < 200; i++)
        add(&chunk, 0, i, i % 3 == 0 ? "Job" : "Alloc", "X");
    struct wanted jobs = {0}, allocs = {0};
    want_topic(&jobs, "Job");
    struct group *g = groups_join(groups, &jobs);
    size_t number = g->wish.number;
    assert_int_equal(67, chunk_judge(&chunk, &g->wish)->passing);
    groups_leave(groups, g);
    want_topic(&allocs, "Alloc");
    g = groups_join(groups, &allocs);
    assert_int_equal(number, g->wish.number);
    assert_int_equal(133, chunk_judge(&chunk, &g->wish)->passing);
    chunk_fini(&chunk);
    groups_free(&groups);
}

/* Sockets take what they like: any number of bytes, within frames and between them. */
static void goes_on_wherever_a_socket_stopped(void **state)
{
    (void)state;
    struct groups *groups = groups_new(SOURCES);
    struct wanted jobs = {0};
    want_topic(&jobs, "Job");
    struct group *g = groups_join(groups, &jobs);
    struct chunk chunk = {0};
    for (int i = 0; i < 500; i++)
        add(&chunk, 0, i, i % 7 < 3 ? "Job" : "Alloc", "X");
    char *whole = sent(&chunk, g, (struct chunk_place){0});
    for (size_t step = 1; step < 40; step++) {
        struct chunk_place place = {0};
        struct buf text = {0};
        size_t frames = 0, last;
        const struct verdict *v = chunk_judge(&chunk, &g->wish);
        while ((place.frame = chunk_next(&chunk, v, place.frame)) < chunk.n) {
            struct iovec parts[2];
            size_t n = chunk_parts(&chunk, v, &place, parts, 2), taken = 0;
            for (size_t i = 0; i < n && taken < step; i++) {
                size_t len = parts[i].iov_len < step - taken ? parts[i].iov_len : step - taken;
                buf_append(&text, parts[i].iov_base, len);
                taken += len;
            }
            frames += chunk_pass(&chunk, v, &place, taken, &last);
        }
        assert_string_equal(whole, buf_cstr(&text));
        assert_int_equal(v->passing, frames);
        buf_fini(&text);
    }
    free(whole);
    chunk_fini(&chunk);
    groups_free(&groups);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_that_mean_the_same_are_one_group),
        cmocka_unit_test(each_group_is_sent_what_it_wants),
        cmocka_unit_test(a_number_that_is_used_again_is_looked_at_anew),
        cmocka_unit_test(goes_on_wherever_a_socket_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
