/* nomad_snapshot_service.c - services: listed by namespace and name
 * ([{"Namespace":…,"Services":[{"ServiceName":…}]}]), in full by /v1/service/NAME. */
#include "connectors/nomad/nomad_snapshot_service.h"

#include "connectors/json_scan.h"
#include "connectors/nomad/nomad_snapshot_one.h"

#include <string.h>

struct services {
    const struct snapshot_list *list; /* as the caller wants the services in full */
    size_t *unreadable;
};

bool snapshot_is_service(const struct snapshot_topic *topic)
{
    return strcmp(topic->name, "Service") == 0;
}

static int read_name(struct services *s, struct str ns, struct str name, struct err *err)
{
    struct snapshot_list list = *s->list;
    struct buf path = {0}, query = {0};
    buf_append_cstr(&path, "/v1/service/");
    snapshot_append_encoded(&path, name);
    buf_append_cstr(&query, "namespace=");
    snapshot_append_encoded(&query, ns);
    int rc = snapshot_list_read_path(&list, buf_cstr(&path), buf_cstr(&query), err);
    if (rc == 0 && (list.broken || list.refused))
        ++*s->unreadable;
    buf_fini(&path);
    buf_fini(&query);
    return rc;
}

/* One of "Services". */
static int take_service(struct services *s, struct json_scan *scan, struct str ns, struct err *err)
{
    struct json_scan_string name, value;
    struct buf text = {0};
    int rc = 0;
    if (json_scan_peek(scan) != JSON_SCAN_OBJECT) {
        json_scan_skip(scan, NULL);
        ++*s->unreadable;
        return 0;
    }
    json_scan_object(scan);
    while (json_scan_member(scan, &name)) {
        if (!str_is(name.raw, "ServiceName") || json_scan_peek(scan) != JSON_SCAN_STRING) {
            json_scan_skip(scan, NULL);
        } else if (json_scan_string(scan, &value)) {
            buf_clear(&text);
            json_scan_unescape(&text, value.raw);
        }
    }
    if (text.len > 0)
        rc = read_name(s, ns, buf_str(&text), err);
    else
        ++*s->unreadable;
    buf_fini(&text);
    return rc;
}

static int take_services(struct services *s, struct str raw, struct str ns, struct err *err)
{
    struct json_scan scan;
    json_scan_init(&scan, raw);
    if (json_scan_peek(&scan) != JSON_SCAN_ARRAY)
        return 0;
    json_scan_array(&scan);
    while (json_scan_element(&scan))
        if (take_service(s, &scan, ns, err) != 0)
            return -1;
    return 0;
}

static int take_namespace(void *arg, struct str raw, struct err *err)
{
    struct services *s = arg;
    struct json_scan scan;
    struct json_scan_string name, value = {.raw = STR("")};
    struct str services = STR("null");
    struct buf ns = {0};
    json_scan_init(&scan, raw);
    if (json_scan_peek(&scan) != JSON_SCAN_OBJECT) {
        ++*s->unreadable;
        return 0;
    }
    json_scan_object(&scan);
    while (json_scan_member(&scan, &name)) {
        if (str_is(name.raw, "Namespace") && json_scan_peek(&scan) == JSON_SCAN_STRING)
            json_scan_string(&scan, &value);
        else if (!json_scan_skip(&scan, str_is(name.raw, "Services") ? &services : NULL))
            break;
    }
    json_scan_unescape(&ns, value.raw);
    int rc = take_services(s, services, ns.len > 0 ? buf_str(&ns) : STR("default"), err);
    buf_fini(&ns);
    return rc;
}

/* How many services a page of names stands for is not known yet, only how new it is. */
static void expect_names(void *arg, size_t n)
{
    struct services *s = arg;
    (void)n;
    if (s->list->expect != NULL)
        s->list->expect(s->list->arg, 0);
}

int snapshot_service_read(struct snapshot_list *list, size_t *unreadable, struct err *err)
{
    struct services s = {list, unreadable};
    struct snapshot_list names = *list;
    names.take = take_namespace;
    names.expect = expect_names;
    names.arg = &s;
    int rc = snapshot_list_read(&names, err);
    list->refused = names.refused;
    list->denied = names.denied;
    list->broken = names.broken;
    list->index = names.index;
    memcpy(list->said, names.said, sizeof list->said);
    return rc;
}
