/* test_unchanged.c - events that tell nothing new of their key are left out, and no others. */
#include "tests/unit/ingest_kit.h"

#include "bridge/base/hash.h"
#include "bridge/unchanged.h"
#include "connectors/nomad/nomad_digest.h"
#include "tests/unit/fixture.h"

#include <jansson.h>

/* ---- the digest ---- */

static uint64_t digest_of(const char *payload)
{
    struct buf event = {0};
    buf_printf(&event, "{\"Index\":%zu,\"Payload\":%s,\"Topic\":\"Job\"}", strlen(payload),
               payload);
    uint64_t digest = nomad_digest(buf_str(&event));
    buf_fini(&event);
    return digest;
}

static void same(const char *a, const char *b)
{
    if (digest_of(a) != digest_of(b))
        fail_msg("differ: %s and %s", a, b);
}

static void differ(const char *a, const char *b)
{
    if (digest_of(a) == digest_of(b))
        fail_msg("the same: %s and %s", a, b);
}

static void the_order_of_members_is_of_no_account(void **state)
{
    (void)state;
    same("{\"a\":1,\"b\":{\"c\":[1,2],\"d\":\"x\"}}", "{\"b\":{\"d\":\"x\",\"c\":[1,2]},\"a\":1}");
    same("{}", "{ }");
    differ("{\"a\":[1,2]}", "{\"a\":[2,1]}");
}

static void every_value_and_its_place_count(void **state)
{
    (void)state;
    static const char *const payloads[] = {
        "{}",
        "[]",
        "null",
        "{\"a\":1}",
        "{\"a\":2}",
        "{\"b\":1}",
        "{\"a\":1,\"b\":1}",
        "{\"a\":\"1\"}",
        "{\"a\":null}",
        "{\"a\":[]}",
        "{\"a\":{}}",
        "{\"a\":[[]]}",
        "{\"a\":[{}]}",
        "{\"a\":[1]}",
        "{\"a\":[1,1]}",
        "{\"a\":{\"a\":1}}",
        "{\"a\":{\"b\":1},\"b\":{\"a\":1}}",
        "{\"a\":{\"a\":1},\"b\":{\"b\":1}}",
        "{\"a\":{\"b\":1,\"c\":2}}",
        "{\"a\":{\"b\":2,\"c\":1}}",
        "{\"a\":{\"b\":1},\"c\":2}",
    };
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++)
        for (size_t k = 0; k < i; k++)
            differ(payloads[i], payloads[k]);
}

static void indexes_and_modify_time_do_not_count(void **state)
{
    (void)state;
    same("{\"Job\":{\"ID\":\"a\",\"ModifyIndex\":7,\"JobModifyIndex\":9,\"ModifyTime\":1}}",
         "{\"Job\":{\"ID\":\"a\",\"ModifyIndex\":8,\"JobModifyIndex\":10,\"ModifyTime\":2}}");
    same("{\"A\":[{\"CreateIndex\":1}]}", "{\"A\":[{\"CreateIndex\":2}]}");
    same("{\"Node\":{\"LastAllocUpdateIndex\":1}}", "{\"Node\":{\"LastAllocUpdateIndex\":2}}");
    differ("{\"Node\":{\"Indexes\":1}}", "{\"Node\":{\"Indexes\":2}}");
    differ("{\"Node\":{\"ndex\":1}}", "{\"Node\":{\"ndex\":2}}");
    differ("{\"Job\":{\"ModifyIndex\":7}}", "{\"Job\":{\"ModifyIndex\":\"7\"}}");
    differ("{\"Meta\":{\"ModifyIndex\":\"a\"}}", "{\"Meta\":{\"ModifyIndex\":\"b\"}}");
    differ("{\"Job\":{\"SubmitTime\":1}}", "{\"Job\":{\"SubmitTime\":2}}");
    differ("{\"Job\":{\"Version\":1}}", "{\"Job\":{\"Version\":2}}");
}

static void what_can_not_be_read_has_a_digest_too(void **state)
{
    (void)state;
    assert_int_equal(nomad_digest(STR("")), nomad_digest(STR("[1")));
    nomad_digest(STR("{\"Payload\":{\"a\":"));
    nomad_digest(STR("{\"Payload\":[[[{\"a\":[1,"));
    struct buf deep = {0};
    buf_append_cstr(&deep, "{\"Payload\":");
    for (size_t i = 0; i < 2000; i++)
        buf_append_cstr(&deep, "[");
    nomad_digest(buf_str(&deep));
    buf_fini(&deep);
}

static uint64_t digest_of_tree(json_t *tree, size_t flags)
{
    char *text = json_dumps(tree, flags);
    uint64_t digest = nomad_digest(str_from(text));
    free(text);
    return digest;
}

/* Each event of the capture, with its members in two orders, and with one value changed. */
static void real_events_differ_where_a_value_does(void **state)
{
    (void)state;
    struct buf file = fixture_read("nomad/capture.ndjson");
    size_t tried = 0;
    for (char *line = strtok(file.p, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        json_t *root = json_loads(line, 0, NULL), *events = json_object_get(root, "Events"), *event;
        size_t i;
        json_array_foreach(events, i, event)
        {
            uint64_t was = digest_of_tree(event, JSON_SORT_KEYS | JSON_INDENT(1));
            json_t *object =
                json_object_iter_value(json_object_iter(json_object_get(event, "Payload")));
            json_t *index = json_object_get(object, "ModifyIndex");
            assert_int_equal(was, digest_of_tree(event, JSON_PRESERVE_ORDER | JSON_INDENT(1)));
            if (json_is_integer(index)) {
                json_integer_set(index, json_integer_value(index) + 1);
                assert_int_equal(was, digest_of_tree(event, JSON_PRESERVE_ORDER | JSON_INDENT(1)));
                json_object_set_new(object, "ID", json_string("changed"));
                tried++;
                assert_int_not_equal(was,
                                     digest_of_tree(event, JSON_PRESERVE_ORDER | JSON_INDENT(1)));
            }
        }
        json_decref(root);
    }
    assert_true(tried > 100);
    buf_fini(&file);
}

/* ---- in ingest ---- */

static void digest_setup(struct bench *b, struct filter *filter)
{
    bench_setup(b, NULL);
    ingest_free(&b->ingest);
    b->digest = nomad_digest;
    make_ingest(b, filter);
    ingest_state(b->ingest, SOURCE_ATTACHED, "s", NULL);
}

static struct found_event found(uint64_t index, const char *key, const char *type, struct buf *data)
{
    return (struct found_event){.topic = STR("Job"),
                                .type = str_from(type),
                                .key = str_from(key),
                                .index = index,
                                .data = buf_str(data)};
}

static void say(struct bench *b, uint64_t index, const char *key, const char *type, int value)
{
    struct buf data = {0};
    buf_printf(&data, "{\"Payload\":{\"ModifyIndex\":%" PRIu64 ",\"v\":%d}}", index, value);
    struct found_event f = found(index, key, type, &data);
    assert_int_equal(ingest_message(b->ingest, f.data, &f, 1, &b->err), 0);
    assert_int_equal(ingest_flush(b->ingest, &b->err), 0);
    buf_fini(&data);
}

static void tells_a_key_again_only_when_something_changed(void **state)
{
    (void)state;
    struct bench b;
    digest_setup(&b, NULL);
    say(&b, 1, "a", "T", 1);
    say(&b, 2, "a", "T", 1); /* nothing new */
    say(&b, 3, "b", "T", 1); /* another key */
    say(&b, 4, "a", "U", 1); /* another type */
    say(&b, 5, "a", "T", 1); /* and back: not the last one */
    say(&b, 6, "a", "T", 2);
    say(&b, 7, "a", "T", 1);
    say(&b, 8, "a", "T", 1); /* nothing new */
    journal_is(&b, "1 a/0 T 1.0, 3 b/0 T 3.0, 4 a/0 U 4.0, 5 a/0 T 5.0, 6 a/0 T 6.0, 7 a/0 T 7.0");
    assert_int_equal(metrics_get(b.metrics, METRIC_UNCHANGED), 2);
    assert_int_equal(metrics_get(b.metrics, METRIC_EVENTS), 6);
    bench_teardown(&b);
}

static void what_was_left_out_still_proves_continuity(void **state)
{
    (void)state;
    struct bench b;
    digest_setup(&b, NULL);
    say(&b, 1, "a", "T", 1);
    say(&b, 2, "a", "T", 1);
    say(&b, 3, "a", "T", 1);
    connect_again(&b);
    say(&b, 2, "a", "T", 1);
    say(&b, 3, "a", "T", 1);
    say(&b, 4, "a", "T", 2);
    journal_is(&b, "1 a/0 T 1.0, 4 a/0 T 4.0");
    assert_int_equal(metrics_get(b.metrics, METRIC_GAPS), 0);
    bench_teardown(&b);
}

/* What no exit was told can't be what an event is compared with. */
static void compares_with_what_was_told(void **state)
{
    (void)state;
    struct bench b;
    struct filter *filter = filter_new();
    filter_add_type(filter, STR("T"));
    digest_setup(&b, filter);
    say(&b, 1, "a", "T", 1);
    say(&b, 2, "a", "left out", 2);
    say(&b, 3, "a", "T", 1);
    say(&b, 4, "a", "T", 2);
    journal_is(&b, "1 a/0 T 1.0, 4 a/0 T 4.0");
    bench_teardown(&b);
}

static void a_snapshot_of_the_key_makes_its_next_event_new(void **state)
{
    (void)state;
    struct bench b;
    struct buf data = {0};
    bool told = false;
    digest_setup(&b, NULL);
    say(&b, 1, "a", "T", 1);
    buf_append_cstr(&data, "{\"Payload\":{\"v\":2}}");
    struct found_event object = found(2, "a", "Snapshot", &data);
    assert_int_equal(ingest_lock(b.ingest, &b.err), 0);
    assert_int_equal(ingest_tell_object(b.ingest, &object, &told, &b.err), 0);
    assert_int_equal(ingest_unlock(b.ingest, &b.err), 0);
    assert_true(told);
    say(&b, 3, "a", "T", 1);
    say(&b, 4, "a", "T", 1);
    journal_is(&b, "1 a/0 T 1.0, 2 a/0 Snapshot 1.1, 3 a/0 T 3.0");
    buf_fini(&data);
    bench_teardown(&b);
}

static void an_index_that_starts_over_tells_all_again(void **state)
{
    (void)state;
    struct bench b;
    digest_setup(&b, NULL);
    say(&b, 500, "a", "T", 1);
    assert_int_equal(ingest_started_over(b.ingest, &b.err), 0);
    say(&b, 7, "a", "T", 1);
    say(&b, 8, "a", "T", 1);
    assert_int_equal(metrics_get(b.metrics, METRIC_UNCHANGED), 1);
    assert_int_equal(metrics_get(b.metrics, METRIC_EVENTS), 2);
    bench_teardown(&b);
}

static void forgets_all_rather_than_grow_without_bound(void **state)
{
    (void)state;
    struct unchanged u = {0};
    char key[32];
    for (size_t i = 0; i <= UNCHANGED_KEYS_MAX; i++) {
        snprintf(key, sizeof key, "%zu", i);
        struct event e = {.topic = STR("Job"), .type = STR("T"), .key = str_from(key)};
        if (i == UNCHANGED_KEYS_MAX) {
            struct event first = {.topic = STR("Job"), .type = STR("T"), .key = STR("0")};
            assert_true(unchanged_note(&u, &first, 1));
            assert_false(unchanged_note(&u, &e, 1));
            assert_true(unchanged_note(&u, &e, 1));
            assert_false(unchanged_note(&u, &first, 1));
        } else {
            assert_false(unchanged_note(&u, &e, 1));
        }
    }
    assert_true(u.n == 2);
    unchanged_fini(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_members_is_of_no_account),
        cmocka_unit_test(every_value_and_its_place_count),
        cmocka_unit_test(indexes_and_modify_time_do_not_count),
        cmocka_unit_test(what_can_not_be_read_has_a_digest_too),
        cmocka_unit_test(real_events_differ_where_a_value_does),
        cmocka_unit_test(tells_a_key_again_only_when_something_changed),
        cmocka_unit_test(what_was_left_out_still_proves_continuity),
        cmocka_unit_test(compares_with_what_was_told),
        cmocka_unit_test(a_snapshot_of_the_key_makes_its_next_event_new),
        cmocka_unit_test(an_index_that_starts_over_tells_all_again),
        cmocka_unit_test(forgets_all_rather_than_grow_without_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
