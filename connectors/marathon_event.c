/* marathon_event.c - reads one event of a Marathon's event bus without building a tree.
 *
 * One pass collects the few members that some type's key may stand in, then the type's row in the
 * table says which of them counts. Strings are views into the data wherever they stand there as
 * they are; the few that need unescaping go into one buffer whose room is reserved before the first
 * of them, so that it never moves under a view: a string's value is never longer than its text. */
#include "connectors/marathon_event.h"

#include "bridge/base/clock.h"
#include "connectors/json_scan.h"

#include <string.h>

enum { MEMORY_KEPT = 1 << 20, KEYS_MAX = 4 };
#define AHEAD_MAX_US (INT64_C(24) * 3600 * 1000000)

/* A struct str as a constant. */
#define TEXT(literal)                \
    {                                \
        literal, sizeof(literal) - 1 \
    }

/* What is looked for. */
enum field {
    NO_FIELD,
    EVENT_TYPE,
    TIMESTAMP,
    APP_ID,
    RUN_SPEC_ID,
    GROUP_ID,
    ID,
    PLAN,           /* its id */
    APP_DEFINITION, /* its id */
    URI,
    FRAMEWORK_ID,
    EXECUTOR_ID,
    CALLBACK_URL,
    REMOTE_ADDRESS,
    N_FIELDS,
};

static const struct str field_names[N_FIELDS] = {
    [EVENT_TYPE] = TEXT("eventType"),
    [TIMESTAMP] = TEXT("timestamp"),
    [APP_ID] = TEXT("appId"),
    [RUN_SPEC_ID] = TEXT("runSpecId"),
    [GROUP_ID] = TEXT("groupId"),
    [ID] = TEXT("id"),
    [PLAN] = TEXT("plan"),
    [APP_DEFINITION] = TEXT("appDefinition"),
    [URI] = TEXT("uri"),
    [FRAMEWORK_ID] = TEXT("frameworkId"),
    [EXECUTOR_ID] = TEXT("executorId"),
    [CALLBACK_URL] = TEXT("callbackUrl"),
    [REMOTE_ADDRESS] = TEXT("remoteAddress"),
};

/* The first of `keys` that is a string and not empty is the key. */
struct kind {
    struct str type, topic;
    enum field keys[KEYS_MAX];
};

/* As Marathon 0.7 to 1.11 write them; the most frequent first. */
static const struct kind kinds[] = {
    {TEXT("instance_changed_event"), TEXT("Instance"), {RUN_SPEC_ID, APP_ID}},
    {TEXT("status_update_event"), TEXT("Task"), {APP_ID, RUN_SPEC_ID}},
    {TEXT("deployment_info"), TEXT("Deployment"), {PLAN, ID}},
    {TEXT("deployment_success"), TEXT("Deployment"), {PLAN, ID}},
    {TEXT("deployment_failed"), TEXT("Deployment"), {PLAN, ID}},
    {TEXT("deployment_step_success"), TEXT("Deployment"), {PLAN, ID}},
    {TEXT("deployment_step_failure"), TEXT("Deployment"), {PLAN, ID}},
    {TEXT("group_change_success"), TEXT("Group"), {GROUP_ID}},
    {TEXT("group_change_failed"), TEXT("Group"), {GROUP_ID}},
    {TEXT("instance_health_changed_event"), TEXT("Instance"), {RUN_SPEC_ID, APP_ID}},
    {TEXT("unknown_instance_terminated_event"), TEXT("Instance"), {RUN_SPEC_ID, APP_ID}},
    {TEXT("unhealthy_instance_kill_event"), TEXT("Instance"), {RUN_SPEC_ID, APP_ID}},
    {TEXT("unhealthy_task_kill_event"), TEXT("Task"), {APP_ID, RUN_SPEC_ID}},
    {TEXT("unknown_task_terminated_event"), TEXT("Task"), {APP_ID, RUN_SPEC_ID}},
    {TEXT("health_status_changed_event"), TEXT("HealthCheck"), {APP_ID}},
    {TEXT("failed_health_check_event"), TEXT("HealthCheck"), {APP_ID}},
    {TEXT("add_health_check_event"), TEXT("HealthCheck"), {APP_ID}},
    {TEXT("remove_health_check_event"), TEXT("HealthCheck"), {APP_ID}},
    {TEXT("api_post_event"), TEXT("App"), {APP_DEFINITION, APP_ID}},
    {TEXT("app_terminated_event"), TEXT("App"), {APP_DEFINITION, APP_ID}},
    {TEXT("pod_created_event"), TEXT("Pod"), {URI}},
    {TEXT("pod_updated_event"), TEXT("Pod"), {URI}},
    {TEXT("pod_deleted_event"), TEXT("Pod"), {URI}},
    {TEXT("scheduler_registered_event"), TEXT("Scheduler"), {FRAMEWORK_ID}},
    {TEXT("scheduler_reregistered_event"), TEXT("Scheduler"), {FRAMEWORK_ID}},
    {TEXT("scheduler_disconnected_event"), TEXT("Scheduler"), {FRAMEWORK_ID}},
    {TEXT("framework_message_event"), TEXT("FrameworkMessage"), {EXECUTOR_ID}},
    {TEXT("subscribe_event"), TEXT("Subscription"), {CALLBACK_URL, REMOTE_ADDRESS}},
    {TEXT("unsubscribe_event"), TEXT("Subscription"), {CALLBACK_URL, REMOTE_ADDRESS}},
    {TEXT("event_stream_attached"), TEXT("Subscription"), {CALLBACK_URL, REMOTE_ADDRESS}},
    {TEXT("event_stream_detached"), TEXT("Subscription"), {CALLBACK_URL, REMOTE_ADDRESS}},
};

/* Whatever is new. */
static const struct kind other = {TEXT(""), TEXT("Other"), {APP_ID, RUN_SPEC_ID, GROUP_ID, ID}};

/* One event being read. */
struct reader {
    struct json_scan scan;
    struct buf *text;
    size_t room; /* `text` may become so long */
    struct str fields[N_FIELDS];
};

void marathon_event_init(struct marathon_event *event)
{
    *event = (struct marathon_event){0};
}

void marathon_event_fini(struct marathon_event *event)
{
    buf_fini(&event->text);
    marathon_event_init(event);
}

static void clear(struct marathon_event *event)
{
    if (event->text.cap > MEMORY_KEPT)
        buf_fini(&event->text);
    buf_clear(&event->text);
    event->found = (struct found_event){.ns = STR(""), .filter_keys = STR("")};
}

/* The value of a string just read; stays where it is, or goes behind what `text` holds. */
static struct str value_of(struct reader *r, const struct json_scan_string *string)
{
    if (!string->escaped)
        return string->raw;
    buf_reserve(r->text, r->room - r->text->len);
    size_t from = r->text->len;
    json_scan_unescape(r->text, string->raw);
    return (struct str){r->text->p + from, r->text->len - from};
}

static enum field field_of(struct reader *r, const struct json_scan_string *string)
{
    size_t kept = r->text->len;
    struct str name = value_of(r, string);
    r->text->len = kept; /* a name need not last */
    for (enum field field = NO_FIELD + 1; field < N_FIELDS; field++)
        if (str_eq(name, field_names[field]))
            return field;
    return NO_FIELD;
}

/* Consumes any value; a string is kept. */
static void take_string(struct reader *r, struct str *out)
{
    struct json_scan_string string;
    *out = STR("");
    if (json_scan_peek(&r->scan) != JSON_SCAN_STRING)
        json_scan_skip(&r->scan, NULL);
    else if (json_scan_string(&r->scan, &string))
        *out = value_of(r, &string);
}

/* Consumes any value; the id of an object is kept. */
static void take_id_within(struct reader *r, struct str *out)
{
    struct json_scan_string name;
    *out = STR("");
    if (json_scan_peek(&r->scan) != JSON_SCAN_OBJECT) {
        json_scan_skip(&r->scan, NULL);
        return;
    }
    json_scan_object(&r->scan);
    while (json_scan_member(&r->scan, &name))
        if (field_of(r, &name) == ID)
            take_string(r, out);
        else
            json_scan_skip(&r->scan, NULL);
}

static int take_members(struct reader *r, struct err *err)
{
    struct json_scan_string name;
    enum json_scan_type type = json_scan_peek(&r->scan);
    if (type != JSON_SCAN_OBJECT && json_scan_skip(&r->scan, NULL) && json_scan_end(&r->scan))
        return err_set(err, ERR_INPUT, "not an object");
    if (type != JSON_SCAN_OBJECT)
        return json_scan_fail(&r->scan, err);
    json_scan_object(&r->scan);
    while (json_scan_member(&r->scan, &name)) {
        enum field field = field_of(r, &name);
        if (field == NO_FIELD)
            json_scan_skip(&r->scan, NULL);
        else if (field == PLAN || field == APP_DEFINITION)
            take_id_within(r, &r->fields[field]);
        else
            take_string(r, &r->fields[field]);
    }
    return json_scan_end(&r->scan) ? 0 : json_scan_fail(&r->scan, err);
}

static const struct kind *kind_of(struct str type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (str_eq(type, kinds[i].type))
            return &kinds[i];
    return &other;
}

/* What follows /v2/pods in `uri`, with one slash, without what is asked of the pod (::status) or a
 * query: Marathon tells the path as the client wrote it, /v2/pods//p/web and /v2/pods/p/web. */
static struct str pod_of(struct str uri)
{
    const struct str pods = STR("/v2/pods");
    if (uri.len == 0)
        return STR("");
    const char *end = uri.p + uri.len;
    const char *p = memmem(uri.p, uri.len, pods.p, pods.len);
    if (p == NULL)
        return STR("");
    p += pods.len;
    if (p == end || *p != '/')
        return STR("");
    while (end - p > 1 && p[1] == '/')
        p++;
    const char *stop = p;
    while (stop < end && *stop != '?' && *stop != '#' &&
           !(*stop == ':' && end - stop > 1 && stop[1] == ':'))
        stop++;
    while (stop > p && stop[-1] == '/')
        stop--;
    return (struct str){p, (size_t)(stop - p)};
}

static struct str key_of(const struct reader *r, const struct kind *kind)
{
    for (size_t i = 0; i < KEYS_MAX && kind->keys[i] != NO_FIELD; i++) {
        struct str value = r->fields[kind->keys[i]];
        if (kind->keys[i] == URI)
            value = pod_of(value);
        if (value.len > 0)
            return value;
    }
    return STR("");
}

static int64_t time_of(struct str timestamp)
{
    int64_t us;
    if (!clock_parse(timestamp, &us) || us < 1000 || us > clock_wall_us() + AHEAD_MAX_US)
        return 0;
    return us;
}

/* The event's type: as the frame names it. Nothing validated that name, so what is not plain in it
 * has to stand in the object too, which is UTF-8. */
static int take_type(const struct reader *r, struct str named, struct str *out, struct err *err)
{
    struct str told = r->fields[EVENT_TYPE];
    bool plain = true;
    for (size_t i = 0; i < named.len; i++)
        plain = plain && named.p[i] >= 0x20 && named.p[i] < 0x7f;
    *out = named.len > 0 ? named : told;
    if (out->len == 0)
        return err_set(err, ERR_INPUT, "\"eventType\" is missing");
    if (!plain && !str_eq(named, told))
        return err_set(err, ERR_INPUT, "the frame's type is neither plain nor \"eventType\"");
    return 0;
}

int marathon_event_read(struct marathon_event *event, struct str type, struct str data,
                        struct err *err)
{
    clear(event);
    struct reader r = {.text = &event->text, .room = data.len};
    json_scan_init(&r.scan, data);
    if (take_members(&r, err) < 0 || take_type(&r, type, &type, err) < 0)
        return -1;
    const struct kind *kind = kind_of(type);
    int64_t time_us = time_of(r.fields[TIMESTAMP]);
    event->found.topic = kind->topic;
    event->found.type = type;
    event->found.key = key_of(&r, kind);
    event->found.data = data;
    event->found.time_us = time_us;
    event->found.index = (uint64_t)time_us / 1000;
    return 0;
}
