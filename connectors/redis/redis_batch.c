/* redis_batch.c - from a batch of events to the arguments of redis_script_publish. */
#include "connectors/redis/redis_batch.h"

#include "bridge/base/hash.h"
#include "connectors/redis/redis_script.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum { SLOTS = 2 * REDIS_BATCH_EVENTS_MAX, NAMES_KEEP = 1 << 20 };

void redis_batch_fini(struct redis_batch *plan)
{
    buf_fini(&plan->names);
    buf_fini(&plan->scratch);
}

static struct str stream_name(const struct redis_batch *plan, const struct redis_stream *stream)
{
    return (struct str){plan->names.p + stream->name_at, stream->name_len};
}

struct str redis_batch_stream(const struct redis_batch *plan, size_t i)
{
    return stream_name(plan, &plan->streams[i]);
}

/* The stream whose name was just appended to `names` at `name_at`; made where it is new. */
static struct redis_stream *find_stream(struct redis_batch *plan, size_t name_at)
{
    struct str name = {plan->names.p + name_at, plan->names.len - name_at};
    size_t slot = hash64(HASH64_START, name.p, name.len) % SLOTS;
    for (; plan->slots[slot] != 0; slot = (slot + 1) % SLOTS) {
        struct redis_stream *known = &plan->streams[plan->slots[slot] - 1];
        if (str_eq(stream_name(plan, known), name)) {
            plan->names.len = name_at;
            return known;
        }
    }
    struct redis_stream *stream = &plan->streams[plan->n_streams++];
    *stream = (struct redis_stream){.name_at = name_at, .name_len = name.len};
    plan->slots[slot] = (uint16_t)plan->n_streams;
    return stream;
}

/* The position, or the stream's last id plus one where that is not greater. */
static void give_id(struct redis_stream *stream, const struct event *event)
{
    bool greater = event->pos_index > stream->ms ||
                   (event->pos_index == stream->ms && event->ordinal > stream->seq);
    if (greater) {
        stream->ms = event->pos_index;
        stream->seq = event->ordinal;
    } else if (++stream->seq == 0) {
        stream->ms++;
    }
}

void redis_batch_plan(struct redis_batch *plan, const struct template *stream,
                      const struct batch *batch)
{
    assert(batch->n <= REDIS_BATCH_EVENTS_MAX);
    plan->n_streams = 0;
    if (plan->names.cap > NAMES_KEEP)
        buf_fini(&plan->names);
    buf_clear(&plan->names);
    memset(plan->slots, 0, sizeof plan->slots);
    for (size_t i = 0; i < batch->n; i++) {
        size_t name_at = plan->names.len;
        template_render(stream, batch->source, batch->events[i], &plan->names);
        struct redis_stream *to = find_stream(plan, name_at);
        give_id(to, batch->events[i]);
        plan->entries[i] = (struct redis_entry){.ms = to->ms, .seq = to->seq};
        if (to->count++ == 0)
            to->first = (uint16_t)i;
        else
            plan->entries[to->last].next = (uint16_t)i;
        to->last = (uint16_t)i;
    }
}

void redis_batch_number(struct redis_batch *plan, size_t i, const struct batch *batch, uint64_t ms,
                        uint64_t seq)
{
    struct redis_stream *stream = &plan->streams[i];
    uint16_t at = stream->first;
    stream->ms = ms;
    stream->seq = seq;
    for (uint16_t n = 0; n < stream->count; n++, at = plan->entries[at].next) {
        give_id(stream, batch->events[at]);
        plan->entries[at].ms = stream->ms;
        plan->entries[at].seq = stream->seq;
    }
}

static void add_scratch(struct redis_batch *plan, struct redis_command *cmd)
{
    redis_command_add(cmd, buf_str(&plan->scratch));
    buf_clear(&plan->scratch);
}

static void add_id(struct redis_batch *plan, const struct redis_entry *entry,
                   struct redis_command *cmd)
{
    buf_append_u64(&plan->scratch, entry->ms);
    buf_append_char(&plan->scratch, '-');
    buf_append_u64(&plan->scratch, entry->seq);
    add_scratch(plan, cmd);
}

static void add_time(struct redis_batch *plan, const struct event *event, struct redis_command *cmd)
{
    int64_t at = event->time_us != 0 ? event->time_us : event->arrival_us;
    redis_command_add(cmd, clock_format_kept(&plan->time, at));
}

static void add_event(struct redis_batch *plan, const struct redis_entry *entry,
                      const struct batch *batch, const struct event *event,
                      struct redis_command *cmd)
{
    add_id(plan, entry, cmd);
    event_append_id(&plan->scratch, batch->source, batch->journal_id, event);
    add_scratch(plan, cmd);
    redis_command_add_ref(cmd, event->topic);
    redis_command_add_ref(cmd, event->type);
    redis_command_add_ref(cmd, event->key);
    redis_command_add_ref(cmd, event->ns);
    add_time(plan, event, cmd);
    redis_command_add_ref(cmd, event->data);
}

void redis_batch_command(struct redis_batch *plan, const struct redis_publish *publish,
                         const struct batch *batch, struct redis_command *cmd)
{
    size_t keys = 3 + plan->n_streams;
    redis_command_begin(cmd, 3 + keys + REDIS_PUBLISH_FIXED_ARGS + plan->n_streams +
                                 REDIS_PUBLISH_EVENT_ARGS * batch->n);
    redis_command_add_cstr(cmd, "EVALSHA");
    redis_command_add_cstr(cmd, publish->sha);
    redis_command_add_u64(cmd, keys);
    redis_command_add_cstr(cmd, publish->checkpoint_key);
    redis_command_add_cstr(cmd, publish->owner_key);
    redis_command_add_cstr(cmd, publish->lease_key);
    for (size_t i = 0; i < plan->n_streams; i++)
        redis_command_add_ref(cmd, stream_name(plan, &plan->streams[i]));
    redis_command_add_ref(cmd, publish->owner);
    redis_command_add_ref(cmd, publish->expected);
    redis_command_add_ref(cmd, publish->next);
    redis_command_add_u64(cmd, publish->max_entries);
    redis_command_add_ref(cmd, batch->source);
    redis_command_add_cstr(cmd, publish->instance);
    redis_command_add_u64(cmd, (uint64_t)publish->lease_ms);
    buf_clear(&plan->scratch);
    for (size_t i = 0; i < plan->n_streams; i++) {
        const struct redis_stream *stream = &plan->streams[i];
        redis_command_add_u64(cmd, stream->count);
        uint16_t at = stream->first;
        for (uint16_t n = 0; n < stream->count; n++, at = plan->entries[at].next)
            add_event(plan, &plan->entries[at], batch, batch->events[at], cmd);
    }
}

/* XADD STREAM ID, and each field's name before its value. */
enum { XADD_ARGS = 3 + 2 * 8 };

static void add_xadd(struct redis_batch *plan, const struct redis_entry *entry,
                     const struct batch *batch, const struct event *event,
                     struct redis_command *cmd)
{
    add_id(plan, entry, cmd);
    redis_command_add_raw(cmd, STR("$2\r\nid\r\n"));
    event_append_id(&plan->scratch, batch->source, batch->journal_id, event);
    add_scratch(plan, cmd);
    redis_command_add_raw(cmd, STR("$6\r\nsource\r\n"));
    redis_command_add(cmd, batch->source);
    redis_command_add_raw(cmd, STR("$5\r\ntopic\r\n"));
    redis_command_add_ref(cmd, event->topic);
    redis_command_add_raw(cmd, STR("$4\r\ntype\r\n"));
    redis_command_add_ref(cmd, event->type);
    redis_command_add_raw(cmd, STR("$3\r\nkey\r\n"));
    redis_command_add_ref(cmd, event->key);
    redis_command_add_raw(cmd, STR("$9\r\nnamespace\r\n"));
    redis_command_add_ref(cmd, event->ns);
    redis_command_add_raw(cmd, STR("$4\r\ntime\r\n"));
    add_time(plan, event, cmd);
    redis_command_add_raw(cmd, STR("$4\r\ndata\r\n"));
    redis_command_add_ref(cmd, event->data);
}

void redis_batch_xadds(struct redis_batch *plan, const struct redis_publish *publish,
                       const struct batch *batch, struct redis_command *cmd)
{
    buf_clear(&plan->scratch);
    for (size_t i = 0; i < plan->n_streams; i++) {
        const struct redis_stream *stream = &plan->streams[i];
        struct str name = stream_name(plan, stream);
        uint16_t at = stream->first;
        for (uint16_t n = 0; n < stream->count; n++, at = plan->entries[at].next) {
            redis_command_another(cmd, XADD_ARGS);
            redis_command_add_raw(cmd, STR("$4\r\nXADD\r\n"));
            redis_command_add_ref(cmd, name);
            add_xadd(plan, &plan->entries[at], batch, batch->events[at], cmd);
        }
        if (publish->max_entries == 0)
            continue;
        redis_command_another(cmd, 5);
        redis_command_add_cstr(cmd, "XTRIM");
        redis_command_add_ref(cmd, name);
        redis_command_add_cstr(cmd, "MAXLEN");
        redis_command_add_cstr(cmd, "~");
        redis_command_add_u64(cmd, publish->max_entries);
    }
}

size_t redis_batch_oversized(const struct batch *batch)
{
    for (size_t i = 0; i < batch->n; i++) {
        const struct event *event = batch->events[i];
        if (event->data.len > REDIS_BULK_MAX || event->key.len > REDIS_BULK_MAX)
            return i;
    }
    return batch->n;
}
