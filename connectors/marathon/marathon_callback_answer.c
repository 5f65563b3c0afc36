/* marathon_callback_answer.c - what Marathon's answers say of the callback. */
#include "connectors/marathon/marathon_callback_answer.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

static json_t *parse(struct str body)
{
    return json_loadb(body.p != NULL ? body.p : "", body.len, 0, NULL);
}

int callback_answer_list(struct str body, const char *url, struct callback_list *out,
                         struct err *err)
{
    json_t *root = parse(body), *urls = json_object_get(root, "callbackUrls");
    bool fine = json_is_array(urls);
    *out = (struct callback_list){.n = json_array_size(urls)};
    for (size_t i = 0; i < out->n; i++) {
        const char *text = json_string_value(json_array_get(urls, i));
        out->listed = out->listed || (text != NULL && strcmp(text, url) == 0);
    }
    json_decref(root);
    if (fine)
        return 0;
    return err_set(err, ERR_RETRY,
                   "what it answers is no list of subscribers: not a Marathon? Check `servers`");
}

void callback_answer_leader(struct str body, char out[CALLBACK_LEADER_MAX])
{
    json_t *root = parse(body);
    const char *leader = json_string_value(json_object_get(root, "leader"));
    snprintf(out, CALLBACK_LEADER_MAX, "%s", leader != NULL ? leader : "");
    json_decref(root);
}

/* The "count" of the meter whose name ends so. It is searched for, not parsed: there are some
 * hundred kilobytes of others. */
static bool find_count(struct str body, const char *name, uint64_t *count)
{
    static const char member[] = "\"count\"";
    const char *end = body.p + body.len;
    const char *at = memmem(body.p, body.len, name, strlen(name));
    const char *close = at != NULL ? memchr(at, '}', (size_t)(end - at)) : NULL;
    if (close == NULL)
        return false;
    const char *found = memmem(at, (size_t)(close - at), member, sizeof member - 1);
    if (found == NULL)
        return false;
    found += sizeof member - 1;
    while (found < close && (isspace((unsigned char)*found) || *found == ':'))
        found++;
    for (*count = 0; found < close && isdigit((unsigned char)*found); found++)
        *count = *count * 10 + (uint64_t)(*found - '0');
    return true;
}

bool callback_answer_losses(struct str body, uint64_t *losses)
{
    uint64_t failed, skipped;
    if (body.p == NULL || !find_count(body, "HttpEventActor.failed-callbacks\"", &failed) ||
        !find_count(body, "HttpEventActor.skipped-callbacks\"", &skipped))
        return false;
    *losses = failed + skipped;
    return true;
}
