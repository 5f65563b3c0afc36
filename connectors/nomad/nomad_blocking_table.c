/* nomad_blocking_table.c - how a polled table is asked whether it changed.
 *
 * Every list has the index of its table's last change in X-Nomad-Index, whatever part of it was
 * asked for: so a page of one entry does (before 1.3 there are no pages, the whole list comes). An
 * index of 0 in a question means "don't wait", therefore a table that was never changed, whose
 * index is 0 or 1, counts as being at 1. */
#include "connectors/nomad/nomad_blocking_table.h"

#include "connectors/http_stream.h"

#include <inttypes.h>

int blocking_table_ask(struct snapshot_http *http, const struct snapshot_topic *topic,
                       uint64_t after, struct snapshot_answer *answer, uint64_t *index,
                       struct err *err)
{
    struct buf query = {0};
    buf_append_cstr(&query, "per_page=1");
    if (topic->query != NULL)
        buf_printf(&query, "&%s", topic->query);
    if (topic->namespaced) {
        buf_append_cstr(&query, "&namespace=");
        http_url_encode(&query, http->settings->ns);
    }
    if (after > 0)
        buf_printf(&query, "&index=%" PRIu64 "&wait=%" PRId64 "ms", after, http->settings->wait_ms);
    int rc = snapshot_http_get(http, topic->list, buf_cstr(&query), answer, err);
    buf_fini(&query);
    /* 1.5 answers for host volumes, which it has not, without an index. */
    bool is_list = rc == 0 && answer->status == 200 && answer->has_index;
    *index = is_list && answer->index > 0 ? answer->index : is_list;
    return rc;
}
