/* test_route.c - filters, name templates, identities, checkpoints. */
#include "bridge/checkpoint.h"
#include "bridge/event.h"
#include "bridge/own.h"
#include "bridge/route.h"
#include "tests/unit/check.h"

#include <jansson.h>
#include <string.h>

static struct event sample(struct buf *packed)
{
    event_pack_filter_key(packed, STR("web"));
    event_pack_filter_key(packed, STR("a:b"));
    return (struct event){
        .topic = STR("Allocation"),
        .type = STR("AllocationUpdated"),
        .key = STR("8f2/x"),
        .ns = STR("default"),
        .filter_keys = buf_str(packed),
        .data = STR("{}"),
        .index = 1234,
        .pos_index = 1234,
        .ordinal = 3,
        .seq = 77,
    };
}

static bool passes(const char *topic, const char *type, const char *ns)
{
    struct buf packed = {0};
    struct event e = sample(&packed);
    struct filter *f = filter_new();
    if (topic != NULL)
        filter_add_topic(f, str_from(topic));
    if (type != NULL)
        filter_add_type(f, str_from(type));
    if (ns != NULL)
        filter_add_namespace(f, str_from(ns));
    bool passed = filter_match(f, &e);
    filter_free(&f);
    buf_fini(&packed);
    return passed;
}

static void filters_match_topic_key_and_filter_keys(void **state)
{
    (void)state;
    assert_true(passes(NULL, NULL, NULL));
    assert_true(passes("*", NULL, NULL));
    assert_true(passes("Allocation", NULL, NULL));
    assert_true(passes("Allocation:*", NULL, NULL));
    assert_true(passes("Allocation:8f2/x", NULL, NULL));
    assert_true(passes("Allocation:web", NULL, NULL));
    assert_true(passes("Allocation:a:b", NULL, NULL)); /* a key may hold colons */
    assert_true(passes("*:web", NULL, NULL));
    assert_false(passes("Allocation:we", NULL, NULL));
    assert_false(passes("Job", NULL, NULL));
    assert_false(passes("allocation", NULL, NULL));
    assert_true(passes("Allocation", "AllocationUpdated", "default"));
    assert_false(passes("Allocation", "JobRegistered", NULL));
    assert_false(passes(NULL, NULL, "prod"));
    assert_true(passes(NULL, "*", "*"));
}

static void busbars_own_events_pass_every_filter(void **state)
{
    (void)state;
    struct event gap = own_event("Gap", STR("prod"), STR("{}"));
    struct filter *f = filter_new();
    filter_add_topic(f, STR("Job"));
    filter_add_type(f, STR("JobRegistered"));
    assert_true(filter_match(f, &gap));
    assert_false(filter_is_empty(f));
    filter_free(&f);
}

static void a_filter_of_stars_is_empty(void **state)
{
    (void)state;
    struct filter *f = filter_new();
    assert_true(filter_is_empty(f));
    filter_add_topic(f, STR("*"));
    filter_add_namespace(f, STR("*"));
    assert_true(filter_is_empty(f));
    assert_true(filter_is_empty(NULL));
    filter_free(&f);
}

static void renders(const char *text, const char *expected)
{
    struct buf packed = {0}, out = {0};
    struct event e = sample(&packed);
    struct template *t;
    struct err err;
    assert_int_equal(template_new(&t, text, 8, &err), 0);
    template_render(t, STR("prod"), &e, &out);
    assert_string_equal(buf_cstr(&out), expected);
    template_free(&t);
    buf_fini(&packed);
    buf_fini(&out);
}

static void templates_put_values_in(void **state)
{
    (void)state;
    renders("%{source}.%{topic}", "prod.Allocation");
    renders("{%{source}}:%{type}/%{key}-%{namespace}", "{prod}:AllocationUpdated/8f2/x-default");
    renders("%{filter_key}", "web");
    renders("plain % text", "plain % text");
    renders("b%{bucket}", "b4");
    renders("", "");
}

static void templates_refuse_what_they_do_not_know(void **state)
{
    (void)state;
    struct template *t = NULL;
    struct err err;
    assert_int_equal(template_new(&t, "%{topci}", 1, &err), -1);
    assert_non_null(strstr(err.msg, "%{topci}"));
    assert_int_equal(template_new(&t, "a%{topic", 1, &err), -1);
    assert_non_null(strstr(err.msg, "not closed"));
    assert_int_equal(template_new(&t, "%{source}-x", 1, &err), 0);
    assert_true(template_is_constant(t));
    template_free(&t);
}

static void identities_read_as_the_contract_says(void **state)
{
    (void)state;
    struct buf packed = {0}, id = {0};
    struct event e = sample(&packed);
    event_append_id(&id, STR("prod"), 0xabc, &e);
    assert_string_equal(buf_cstr(&id), "prod/1234/Allocation/default/8f2/x/AllocationUpdated/0");
    buf_clear(&id);
    e.origin = EVENT_OWN;
    event_append_id(&id, STR("prod"), 0xabc, &e);
    assert_string_equal(buf_cstr(&id), "prod/0000000000000abc/77");
    buf_clear(&id);
    e.origin = EVENT_MALFORMED;
    e.ident = 0x1f;
    event_append_id(&id, STR("prod"), 0xabc, &e);
    assert_string_equal(buf_cstr(&id), "prod/malformed/000000000000001f");
    buf_clear(&id);
    event_append_position(&id, &e);
    assert_string_equal(buf_cstr(&id), "1234.3");
    buf_fini(&id);
    buf_fini(&packed);
}

static void identities_differ_where_fields_only_run_together(void **state)
{
    (void)state;
    uint64_t a = event_hash(1, STR("Job"), STR("ab"), STR("c"), STR("t"), 0);
    assert_true(a != event_hash(1, STR("Job"), STR("a"), STR("bc"), STR("t"), 0));
    assert_true(a != event_hash(1, STR("Job"), STR("ab"), STR("c"), STR("t"), 1));
    assert_true(a != event_hash(2, STR("Job"), STR("ab"), STR("c"), STR("t"), 0));
    assert_true(a == event_hash(1, STR("Job"), STR("ab"), STR("c"), STR("t"), 0));
}

static void pass_event(struct checkpoint *cp, uint64_t seq, uint64_t index, uint64_t ident)
{
    struct event e = {.seq = seq, .index = index, .ident = ident, .epoch = 3};
    checkpoint_pass(cp, &e);
}

static void checkpoints_survive_text(void **state)
{
    (void)state;
    struct checkpoint cp = {.journal_id = 0xfedcba9876543210, .resync = CHECKPOINT_RESYNC_OWED};
    struct checkpoint back = {0};
    pass_event(&cp, 9, 100, 1);
    pass_event(&cp, 10, 101, 0xffffffffffffffff);
    pass_event(&cp, 11, 101, 5);
    struct buf text = {0};
    struct err err;
    checkpoint_encode(&cp, &text);
    assert_string_equal(buf_cstr(&text),
                        "{\"v\":2,\"journal\":\"fedcba9876543210\",\"seq\":11,"
                        "\"index\":101,\"epoch\":3,\"resync\":\"owed\",\"hashes\":["
                        "\"ffffffffffffffff\",\"0000000000000005\"]}");
    assert_int_equal(checkpoint_decode(&back, buf_str(&text), &err), 0);
    assert_true(back.journal_id == cp.journal_id && back.seq == 11 && back.index == 101);
    assert_true(checkpoint_has(&back, 5) && !checkpoint_has(&back, 1));
    assert_true(back.epoch == 3 && back.resync == CHECKPOINT_RESYNC_OWED);
    buf_fini(&text);
    checkpoint_fini(&cp);
    checkpoint_fini(&back);
}

static void checkpoints_of_the_version_before_are_read(void **state)
{
    (void)state;
    struct checkpoint cp = {0};
    struct err err;
    assert_int_equal(checkpoint_decode(&cp,
                                       STR("{\"v\":1,\"journal\":\"fedcba9876543210\",\"seq\":11,"
                                           "\"index\":101,\"epoch\":0,\"resync\":true,"
                                           "\"hashes\":[\"0000000000000005\"]}"),
                                       &err),
                     0);
    assert_true(cp.seq == 11 && cp.index == 101 && cp.resync == CHECKPOINT_RESYNC_OPEN);
    checkpoint_fini(&cp);
}

static void checkpoints_compare_epochs_before_indexes(void **state)
{
    (void)state;
    struct checkpoint cp = {.epoch = 1, .index = 10};
    assert_true(checkpoint_compare(&cp, &(struct event){.epoch = 0, .index = 99}) < 0);
    assert_true(checkpoint_compare(&cp, &(struct event){.epoch = 2, .index = 1}) > 0);
    assert_true(checkpoint_compare(&cp, &(struct event){.epoch = 1, .index = 9}) < 0);
    assert_true(checkpoint_compare(&cp, &(struct event){.epoch = 1, .index = 10}) == 0);
    assert_true(checkpoint_compare(&cp, &(struct event){.epoch = 1, .index = 11}) > 0);
}

static void checkpoints_that_are_none_are_refused(void **state)
{
    (void)state;
    const char *bad[] = {
        "",
        "{}",
        "[]",
        "{\"v\":3}",
        "{\"v\":2,\"journal\":\"fedcba9876543210\",\"seq\":1,\"index\":1,\"epoch\":0,"
        "\"resync\":\"sometimes\",\"hashes\":[]}",
        "{\"v\":2,\"journal\":\"fedcba9876543210\",\"seq\":1,\"index\":1,\"epoch\":4294967296,"
        "\"resync\":\"none\",\"hashes\":[]}",
        "{\"v\":1,\"journal\":\"xyz\",\"seq\":1,\"index\":1,\"epoch\":0,\"resync\":false,"
        "\"hashes\":[]}",
        "{\"v\":1,\"journal\":\"fedcba9876543210\",\"seq\":-1,\"index\":1,\"epoch\":0,\"resync\":"
        "false,"
        "\"hashes\":[]}",
        "{\"v\":1,\"journal\":\"fedcba9876543210\",\"seq\":1,\"index\":1,\"epoch\":0,\"resync\":"
        "false,"
        "\"hashes\":[1]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct checkpoint cp = {0};
        struct err err;
        assert_int_equal(checkpoint_decode(&cp, str_from(bad[i]), &err), -1);
        checkpoint_fini(&cp);
    }
}

static void checkpoints_bound_their_hashes(void **state)
{
    (void)state;
    struct checkpoint cp = {0};
    for (uint64_t i = 1; i <= 3 * CHECKPOINT_HASHES_MAX; i++)
        pass_event(&cp, i, 7, i);
    assert_true(cp.n_hashes <= CHECKPOINT_HASHES_MAX);
    assert_true(checkpoint_has(&cp, 3 * CHECKPOINT_HASHES_MAX));
    checkpoint_fini(&cp);
}

static void own_events_are_valid_json_in_the_order_of_the_contract(void **state)
{
    (void)state;
    struct buf payload = {0}, out = {0};
    own_malformed_payload(&payload, STR("\xff{bad"), 5, "not \"JSON\"");
    own_render(&out, "Malformed", STR("prod"), 12, buf_str(&payload));
    assert_string_equal(
        buf_cstr(&out),
        "{\"Topic\":\"Busbar\",\"Type\":\"Malformed\",\"Key\":\"prod\",\"Namespace\":"
        "\"\",\"Index\":12,\"Payload\":{\"Reason\":\"not \\\"JSON\\\"\",\"Size\":5,"
        "\"Truncated\":false,\"Base64\":\"/3tiYWQ=\"}}");
    json_t *tree = json_loads(buf_cstr(&out), 0, NULL);
    assert_non_null(tree);
    json_decref(tree);
    buf_fini(&payload);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_match_topic_key_and_filter_keys),
        cmocka_unit_test(busbars_own_events_pass_every_filter),
        cmocka_unit_test(a_filter_of_stars_is_empty),
        cmocka_unit_test(templates_put_values_in),
        cmocka_unit_test(templates_refuse_what_they_do_not_know),
        cmocka_unit_test(identities_read_as_the_contract_says),
        cmocka_unit_test(identities_differ_where_fields_only_run_together),
        cmocka_unit_test(checkpoints_survive_text),
        cmocka_unit_test(checkpoints_of_the_version_before_are_read),
        cmocka_unit_test(checkpoints_compare_epochs_before_indexes),
        cmocka_unit_test(checkpoints_that_are_none_are_refused),
        cmocka_unit_test(checkpoints_bound_their_hashes),
        cmocka_unit_test(own_events_are_valid_json_in_the_order_of_the_contract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
