/* nomad_snapshot_one.c - one object of Nomad's HTTP API, asked for by its name. */
#include "connectors/nomad/nomad_snapshot_one.h"

#include <string.h>

void snapshot_append_encoded(struct buf *url, struct str text)
{
    struct buf terminated = {0};
    buf_append_str(&terminated, text);
    http_url_encode(url, buf_cstr(&terminated));
    buf_fini(&terminated);
}

int snapshot_one_get(struct snapshot_http *http, const struct snapshot_name *name,
                     struct snapshot_answer *answer, struct err *err)
{
    struct buf path = {0}, query = {0};
    buf_append_cstr(&path, name->topic->one);
    snapshot_append_encoded(&path, name->key);
    if (name->ns.len > 0) {
        buf_append_cstr(&query, "namespace=");
        snapshot_append_encoded(&query, name->ns);
    }
    int rc = snapshot_http_get(http, buf_cstr(&path), buf_cstr(&query), answer, err);
    buf_fini(&path);
    buf_fini(&query);
    return rc;
}

bool snapshot_name_is_askable(const struct snapshot_name *name)
{
    return memchr(name->key.p, '/', name->key.len) == NULL;
}
