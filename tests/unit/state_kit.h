/* state_kit.h - a state table of its own, and events for it. */
#ifndef BUSBAR_TESTS_STATE_KIT_H
#define BUSBAR_TESTS_STATE_KIT_H

#include "bridge/state.h"
#include "tests/unit/scratch.h"

#include <inttypes.h>
#include <string.h>

enum { JOURNAL = 77 };

struct bench {
    char *parent;
    struct buf dir;
    uint64_t bytes_max;
    struct state *state;
    uint64_t seq;
    struct err err;
};

static inline void open_it(struct bench *b)
{
    struct state_options o = {
        .dir = buf_cstr(&b->dir), .source = "prod", .bytes_max = b->bytes_max};
    if (state_open(&b->state, &o, &b->err) != 0 || state_verify(b->state, NULL, &b->err) != 0)
        fail_msg("%s", b->err.msg);
    assert_int_equal(state_set_journal(b->state, JOURNAL, UINT64_MAX, &b->err), 0);
}

static inline void setup(struct bench *b)
{
    *b = (struct bench){.parent = scratch_dir(), .bytes_max = 1 << 24};
    buf_printf(&b->dir, "%s/state", b->parent);
    open_it(b);
}

static inline void teardown(struct bench *b)
{
    state_close(&b->state);
    buf_fini(&b->dir);
    scratch_remove(b->parent);
}

static inline void commit(struct bench *b)
{
    assert_int_equal(state_commit(b->state, NULL, &b->err), 0);
}

static inline void reopen(struct bench *b)
{
    state_close(&b->state);
    open_it(b);
}

static inline void apply(struct bench *b, struct event e)
{
    if (e.seq == 0)
        e.seq = ++b->seq;
    if (state_apply(b->state, &e, &b->err) != 0)
        fail_msg("%s", b->err.msg);
}

static inline struct event job(const char *key, uint32_t epoch, uint64_t index)
{
    return (struct event){
        .topic = STR("Job"),
        .type = STR("JobRegistered"),
        .key = str_from(key),
        .ns = STR("default"),
        .epoch = epoch,
        .index = index,
        .origin = EVENT_SOURCE,
    };
}

static inline struct event snapshot(const char *key, uint64_t index, const char *type)
{
    struct event e = job(key, 0, index);
    e.origin = EVENT_SNAPSHOT;
    e.type = str_from(type);
    return e;
}

static inline struct event own(const char *type, const char *data)
{
    return (struct event){.topic = STR("Busbar"),
                          .type = str_from(type),
                          .key = STR("prod"),
                          .data = str_from(data),
                          .arrival_us = 5000000,
                          .origin = EVENT_OWN};
}

static inline struct event gap(void)
{
    return own("Gap", "{\"Payload\":{\"Reason\":\"cut\"}}");
}

static inline struct event started(void)
{
    return own("ResyncStarted", "{\"Payload\":{\"Reason\":\"cut\"}}");
}

static inline bool find(struct bench *b, const char *key, struct state_object *object)
{
    struct state_id id = {STR("Job"), STR("default"), str_from(key)};
    int found = state_find(b->state, &id, object, &b->err);
    assert_true(found >= 0);
    return found == 1;
}

static inline void is_at(struct bench *b, const char *key, uint32_t epoch, uint64_t index)
{
    struct state_object object;
    if (!find(b, key, &object))
        fail_msg("%s is not known", key);
    assert_int_equal(object.epoch, epoch);
    assert_int_equal(object.index, index);
    assert_true(str_is(object.id.key, key));
}

static inline void is_unknown(struct bench *b, const char *key)
{
    struct state_object object;
    assert_false(find(b, key, &object));
}

#endif
