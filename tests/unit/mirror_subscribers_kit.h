/* mirror_subscribers_kit.h - a mirror of two sources of which the first is a Marathon, who asks it
 * about callbacks, and two callbacks. Include it once. */
#ifndef BUSBAR_TESTS_MIRROR_SUBSCRIBERS_KIT_H
#define BUSBAR_TESTS_MIRROR_SUBSCRIBERS_KIT_H

#include "tests/unit/mirror_kit.h"
#include "tests/unit/mirror_receiver.h"

#include <jansson.h>
#include <sys/stat.h>

#define PATH "/v2/eventSubscriptions"

struct rig {
    struct bridge *bridge;
    struct mirror *mirror;
    struct mirror_settings settings;
    struct receiver a, b;
};

static inline void open_rig(struct rig *r)
{
    r->mirror = kit_mirror(r->bridge, &r->settings);
}

static inline void restart(struct rig *r)
{
    mirror_close(&r->mirror);
    open_rig(r);
}

static inline int set_up(void **state)
{
    struct rig *r = mem_zalloc(sizeof *r);
    r->bridge = kit_bridge(2, 1 << 20);
    r->bridge->is_marathon[0] = true;
    r->settings = kit_settings();
    r->settings.max_subscribers = 8;
    *state = r;
    return 0;
}

static inline int tear_down(void **state)
{
    struct rig *r = *state;
    mirror_close(&r->mirror);
    if (r->a.wake[1] != 0)
        receiver_close(&r->a);
    if (r->b.wake[1] != 0)
        receiver_close(&r->b);
    kit_bridge_free(&r->bridge);
    free(r);
    return 0;
}

/* ---- asking ---- */

/* The whole answer; the caller frees it. */
static inline char *ask(struct rig *r, const char *method, const char *query, const char *headers)
{
    struct buf head = {0};
    buf_printf(&head, "%s %s%s HTTP/1.1\r\n%s", method, PATH, query, headers);
    char *answer = kit_ask(mirror_address(r->mirror), buf_cstr(&head));
    buf_fini(&head);
    return answer;
}

static inline void expect(struct rig *r, const char *method, const char *query, const char *status,
                          const char *body)
{
    char *answer = ask(r, method, query, "");
    char *got = strstr(answer, "\r\n\r\n");
    if (got == NULL || strncmp(answer + 9, status, strlen(status)) != 0 ||
        strstr(got + 4, body) == NULL)
        fail_msg("%s %s: expected %s and %s, got %s", method, query, status, body, answer);
    free(answer);
}

static inline void subscribe(struct rig *r, const char *url)
{
    struct buf query = {0};
    buf_printf(&query, "?callbackUrl=%s", url);
    expect(r, "POST", buf_cstr(&query), "200", "subscribe_event");
    buf_fini(&query);
}

/* And takes the subscribe_event. */
static inline void subscribe_receiver(struct rig *r, struct receiver *receiver)
{
    receiver_open(receiver, 0);
    subscribe(r, receiver->url);
    assert_non_null(strstr(receiver_body(receiver, 0), "\"subscribe_event\""));
}

static inline void say(struct rig *r, const char *data)
{
    kit_add(r->bridge, 0, data);
}

static inline void say_numbers(struct rig *r, int from, int to)
{
    for (int i = from; i <= to; i++) {
        char data[64];
        snprintf(data, sizeof data, "{\"n\":%d}", i);
        say(r, data);
    }
}

static inline void expect_numbers(struct receiver *receiver, size_t at, int from, int to)
{
    for (int i = from; i <= to; i++) {
        char data[64];
        snprintf(data, sizeof data, "{\"n\":%d}", i);
        assert_string_equal(data, receiver_body(receiver, at + (size_t)(i - from)));
    }
}

/* What /status tells of the first callback; the caller frees it. */
static inline json_t *told(struct rig *r)
{
    json_t *source = json_object();
    r->bridge->add_status(r->bridge->add_status_arg, 0, source);
    json_t *first = json_incref(json_array_get(json_object_get(source, "subscribers"), 0));
    json_decref(source);
    return first;
}

static inline bool tells(struct rig *r, const char *name, const char *text)
{
    json_t *first = told(r);
    const char *got = json_string_value(json_object_get(first, name));
    bool same = got != NULL && strstr(got, text) != NULL;
    json_decref(first);
    return same;
}

static inline void wait_told(struct rig *r, const char *name, const char *text)
{
    for (int i = 0; i < 6000 && !tells(r, name, text); i++)
        poll(NULL, 0, 5);
    assert_true(tells(r, name, text));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
