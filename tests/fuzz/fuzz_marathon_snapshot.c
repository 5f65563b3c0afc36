/* fuzz_marathon_snapshot.c - any bytes as an answer of Marathon's API: taken apart in pieces it
 * gives what a whole walk gives, the same JSON is refused, and no object or tree of groups breaks
 * its reader. The first byte of the input sets the sizes of the pieces. */
#include "connectors/json_scan.h"
#include "connectors/marathon/marathon_snapshot_object.h"
#include "connectors/marathon/marathon_snapshot_split.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
    if (!good)
        abort();
}

static bool is_json(struct str text)
{
    struct json_scan scan;
    json_scan_init(&scan, text);
    json_scan_skip(&scan, NULL);
    return json_scan_end(&scan);
}

static void note(struct buf *out, struct str element)
{
    buf_append_str(out, element);
    buf_append_char(out, '\0');
}

/* What an object tells is JSON. */
static void tell(const struct marathon_topic *topic, struct str raw)
{
    struct marathon_object object = {.topic = NULL};
    struct err err;
    if (marathon_object_read(&object, topic, raw, &err) == 0) {
        must(is_json(raw) && object.event.key.len > 0);
        marathon_object_event(&object, 0);
        must(is_json(object.event.data));
    } else {
        must(err.kind == (is_json(raw) ? ERR_INPUT : ERR_RETRY));
    }
    marathon_object_fini(&object);
}

static int take(void *arg, struct str element, struct err *err)
{
    must(element.len > 0);
    note(arg, element);
    tell(&marathon_topics[0], element);
    return is_json(element) ? 0 : err_set(err, ERR_RETRY, "not JSON");
}

static int take_group(void *arg, struct str group, struct err *err)
{
    (void)err;
    must(is_json(group));
    tell(arg, group);
    return 0;
}

static int split(const char *member, struct str text, size_t piece, struct buf *out)
{
    struct marathon_split s;
    struct err err;
    int rc = 0;
    marathon_split_init(&s, member, SIZE_MAX / 4);
    s.take = take;
    s.arg = out;
    for (size_t at = 0; at < text.len && rc == 0; at += piece) {
        size_t len = text.len - at < piece ? text.len - at : piece;
        char *copy = mem_alloc(len);
        memcpy(copy, text.p + at, len);
        rc = marathon_split_feed(&s, (struct str){copy, len}, &err);
        free(copy);
    }
    if (rc == 0)
        rc = marathon_split_end(&s, &err);
    must(rc == 0 || err.kind == ERR_RETRY);
    marathon_split_fini(&s);
    return rc;
}

/* By a walk over all of the text: 0 where it is such an array. */
static int walk(struct str text, struct buf *out)
{
    struct json_scan scan;
    struct str element;
    json_scan_init(&scan, text);
    if (json_scan_peek(&scan) != JSON_SCAN_ARRAY)
        return -1;
    json_scan_array(&scan);
    while (json_scan_element(&scan) && json_scan_skip(&scan, &element))
        note(out, element);
    return json_scan_end(&scan) ? 0 : -1;
}

/* An element may be nested as deep as a text; within its array that is one too deep. */
static bool may_be_too_deep(const uint8_t *data, size_t size)
{
    size_t brackets = 0;
    for (size_t i = 0; i < size; i++)
        brackets += data[i] == '[' || data[i] == '{';
    return brackets >= JSON_SCAN_DEPTH_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || may_be_too_deep(data, size))
        return 0;
    struct str text = {(const char *)data + 1, size - 1}, value;
    struct buf pieces = {0}, whole = {0}, member = {0};
    struct err err;
    int is_array = walk(text, &whole);
    must(split(NULL, text, data[0] + 1u, &pieces) == is_array);
    must(is_array != 0 || str_eq(buf_str(&pieces), buf_str(&whole)));
    if (split("apps", text, data[0] + 1u, &member) == 0)
        must(marathon_member(text, "apps", &value, &err) == 0);
    marathon_groups_walk(text, take_group, (void *)(uintptr_t)&marathon_topics[2], &err);
    buf_fini(&pieces);
    buf_fini(&whole);
    buf_fini(&member);
    return 0;
}
