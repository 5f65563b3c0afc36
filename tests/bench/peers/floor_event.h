/* floor_event.h - an event of a Nomad's line, sliced by looking for its strings: floor.c's own.
 *
 * …"Index":I,"Key":"K","Namespace":"N","Payload":{…},"Topic":"T","Type":"U"} is how Nomad orders
 * its keys (and busbar does not rely on); a key with an escape in it is left as it stands. */
#ifndef TESTS_BENCH_PEERS_FLOOR_EVENT_H
#define TESTS_BENCH_PEERS_FLOOR_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { EVENT_ID_MAX = 512 };

struct slice {
    const char *p;
    size_t len;
};

struct event {
    struct slice data, key, topic, type, namespace, index;
};

/* The text from `from` to the next quote; no text where there is none. */
static inline struct slice event_text(const char *from, const char *end)
{
    const char *quote = from != NULL ? memchr(from, '"', (size_t)(end - from)) : NULL;
    return quote != NULL ? (struct slice){from, (size_t)(quote - from)} : (struct slice){NULL, 0};
}

/* Where `name`, such as "Key":, ends first; NULL where it is not. */
static inline const char *event_behind(const char *from, const char *end, const char *name)
{
    size_t len = strlen(name);
    const char *at = memmem(from, (size_t)(end - from), name, len);
    return at != NULL ? at + len : NULL;
}

/* The last string before *end, which becomes its opening quote. */
static inline struct slice event_last_text(const char *start, const char **end)
{
    const char *close = memrchr(start, '"', (size_t)(*end - start));
    const char *open = close != NULL ? memrchr(start, '"', (size_t)(close - start)) : NULL;
    if (open == NULL)
        return (struct slice){NULL, 0};
    *end = open;
    return (struct slice){open + 1, (size_t)(close - open - 1)};
}

/* Finds the topic and the key, and with `full` the rest too. False: not as Nomad writes it. */
static inline bool event_slice(struct event *event, const char *start, const char *end, bool full)
{
    const char *tail = end;
    *event = (struct event){.data = {start, (size_t)(end - start)}};
    event->key = event_text(event_behind(start, end, "\"Key\":\""), end);
    event->type = event_last_text(start, &tail);
    event_last_text(start, &tail); /* "Type" */
    event->topic = event_last_text(start, &tail);
    if (event->key.p == NULL || event->topic.p == NULL)
        return false;
    if (!full)
        return true;
    event->namespace = event_text(event_behind(event->key.p, end, "\"Namespace\":\""), end);
    event->index.p = event_behind(start, event->key.p, "\"Index\":");
    if (event->namespace.p == NULL || event->index.p == NULL)
        return false;
    event->index.len = strspn(event->index.p, "0123456789");
    return true;
}

/* Busbar's id of an event that is alone of its kind at its index. to: EVENT_ID_MAX bytes. Returns
 * the length; 0: too long. */
static inline size_t event_id(const struct event *event, const char *source, char *to)
{
    const struct slice parts[] = {
        {source, strlen(source)},
        event->index,
        event->topic,
        event->namespace,
        event->key,
        event->type,
        {"0", 1},
    };
    char *at = to;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if ((size_t)(at - to) + parts[i].len + 1 > EVENT_ID_MAX)
            return 0;
        memcpy(at, parts[i].p, parts[i].len);
        at += parts[i].len;
        *at++ = '/';
    }
    return (size_t)(at - 1 - to);
}

#endif
