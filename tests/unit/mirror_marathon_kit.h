/* mirror_marathon_kit.h - a mirror of a Marathon whose journal the test fills, and its listeners.
 * Includes mirror_kit.h: include it once. */
#ifndef BUSBAR_TESTS_MIRROR_MARATHON_KIT_H
#define BUSBAR_TESTS_MIRROR_MARATHON_KIT_H

#include "tests/unit/mirror_kit.h"

#define STREAM "/v2/events"
#define ACCEPT "Accept: text/event-stream\r\n"

/* ---- a mirror of a Marathon, and who asks it ---- */

struct rig {
    struct bridge *bridge;
    struct mirror *mirror;
    struct mirror_settings settings;
    const char *address;
};

static inline void open_rig(struct rig *r)
{
    r->mirror = kit_mirror(r->bridge, &r->settings);
    r->address = mirror_address(r->mirror);
}

static inline int set_up(void **state)
{
    struct rig *r = mem_zalloc(sizeof *r);
    r->bridge = kit_bridge(2, 16 << 20);
    r->bridge->is_marathon[0] = true;
    r->settings = kit_settings();
    *state = r;
    return 0;
}

static inline int tear_down(void **state)
{
    struct rig *r = *state;
    mirror_close(&r->mirror);
    kit_bridge_free(&r->bridge);
    free(r);
    return 0;
}

static inline void say(struct rig *r, size_t source, struct event event)
{
    event.topic = STR("Task");
    if (event.type.len == 0)
        event.type = STR("status_update_event");
    kit_append(r->bridge, source, event);
    kit_commit(r->bridge, source);
}

static inline void say_numbers(struct rig *r, int from, int to, size_t padding)
{
    struct buf data = {0};
    for (int i = from; i <= to; i++) {
        buf_clear(&data);
        buf_printf(&data, "{\"n\":%d,\"x\":\"%0*d\"}", i, (int)padding, 0);
        say(r, 0, (struct event){.data = buf_str(&data)});
    }
    buf_fini(&data);
}

/* Up to the empty line behind the head, which is given. */
static inline char *listen_to(struct rig *r, struct peer *p, const char *target,
                              const char *headers)
{
    struct buf all = {0};
    buf_printf(&all, ACCEPT "%s", headers);
    *p = peer_get(r->address, target, buf_cstr(&all));
    buf_fini(&all);
    char *head = peer_take(p, "\r\n\r\n", KIT_WAIT_MS);
    if (head == NULL || strncmp(head, "HTTP/1.1 200 OK\r\n", 17) != 0)
        fail_msg("%s: %s%s", target, head, buf_cstr(&p->got));
    return head;
}

/* Whoever listens is greeted, unless it does not want that. */
static inline struct peer listener(struct rig *r, const char *query)
{
    struct buf target = {0};
    struct peer p;
    buf_printf(&target, STREAM "%s", query);
    free(listen_to(r, &p, buf_cstr(&target), ""));
    buf_fini(&target);
    return p;
}

static inline struct peer greeted(struct rig *r, const char *query)
{
    struct peer p = listener(r, query);
    peer_expect(&p, "event: event_stream_attached\r\n");
    peer_expect(&p, "\r\n\r\n");
    return p;
}

static inline void expect_next_at(struct peer *p, const char *text, int line)
{
    char *got = peer_take(p, "\r\n\r\n", KIT_WAIT_MS);
    if (got == NULL || strcmp(got, text) != 0)
        fail_msg("line %d: expected %s, got %s%s", line, text, got, buf_cstr(&p->got));
    free(got);
}
#define expect_next(p, text) expect_next_at((p), (text), __LINE__)

#endif
