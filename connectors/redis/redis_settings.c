/* redis_settings.c - what a `type: redis` sink is told by the configuration. */
#include "connectors/redis/redis_settings.h"

#include "bridge/base/err.h"
#include "bridge/route.h"
#include "connectors/redis/redis_url.h"

#include <string.h>

static const char *check_prefix(const char *value)
{
    return *value == '\0' || strpbrk(value, "{}") != NULL ? "a text without braces" : NULL;
}

static const char *check_stream(const char *value)
{
    return *value == '\0' ? "a stream's name, such as %{source}:%{topic}" : NULL;
}

#define AT(field) offsetof(struct redis_settings, field)

const struct setting redis_settings_rows[] = {
    /* May hold a password, hence SECRET: its value appears in no message. */
    {.name = "url",
     .type = SETTING_SECRET,
     .offset = AT(url),
     .required = true,
     .help = "redis://[[USER]:PASSWORD@]HOST[:PORT][/DB] or unix:///PATH[?db=DB]"},
    {.name = "password",
     .type = SETTING_SECRET,
     .offset = AT(password),
     .help = "instead of one in url"},
    {.name = "stream",
     .type = SETTING_STRING,
     .offset = AT(stream),
     .fallback = "%{source}:%{topic}",
     .check = check_stream,
     .help = "which stream an event goes to; variables: source topic type key namespace filter_key "
             "bucket"},
    {.name = "max_entries",
     .type = SETTING_INT,
     .offset = AT(max_entries),
     .fallback = "100000",
     .min = 0,
     .max = INT64_C(1000000000000),
     .help = "about how many entries a stream keeps, the oldest go; 0: all"},
    {.name = "buckets",
     .type = SETTING_INT,
     .offset = AT(buckets),
     .fallback = "16",
     .min = 1,
     .max = 65536,
     .help = "how many values %{bucket} has"},
    {.name = "prefix",
     .type = SETTING_STRING,
     .offset = AT(prefix),
     .fallback = "busbar",
     .check = check_prefix,
     .help = "how the keys of Busbar's own begin (checkpoint, owner, lease)"},
    {.name = "cluster",
     .type = SETTING_BOOL,
     .offset = AT(cluster),
     .fallback = "false",
     .help = "a Redis Cluster: stream must begin with the hash tag {%{source}}"},
    {.name = "timeout",
     .type = SETTING_DURATION,
     .offset = AT(timeout_ms),
     .fallback = "5s",
     .min = 100,
     .max = 600000,
     .help = "how long Redis may stay silent"},
    {.name = NULL},
};

/* All keys of one script call must lie in one slot, so the first hash tag of each has to be the
 * source; what stands before it must not be able to bring another. */
static bool begins_with_tag(const char *stream)
{
    static const char tag[] = "{%{source}}";
    return strncmp(stream + strcspn(stream, "{"), tag, sizeof tag - 1) == 0;
}

void redis_settings_check(struct settings *file, const struct settings_node *node,
                          const void *settings)
{
    const struct redis_settings *redis = settings;
    struct err err;
    if (redis->url != NULL) {
        struct redis_url url;
        if (redis_url_parse(&url, redis->url, &err) != 0)
            settings_problem(file, settings_get(node, "url"), "url: %s", err.msg);
        redis_url_fini(&url);
    }
    if (redis->stream == NULL)
        return;
    const struct settings_node *at = settings_get(node, "stream");
    struct template *stream = NULL;
    if (template_new(&stream, redis->stream, 1, &err) != 0)
        settings_problem(file, at, "stream: %s", err.msg);
    template_free(&stream);
    if (redis->cluster && !begins_with_tag(redis->stream))
        settings_problem(file, at != NULL ? at : node,
                         "stream \"%s\": with cluster: true, {%%{source}} before any other brace "
                         "or variable, such as {%%{source}}:%%{topic}",
                         redis->stream);
}
