/* marathon_callback_door.c - where Marathon's calls come in.
 *
 * Each answer ends its connection: who keeps one open may send the next call at the moment in which
 * the idle one is closed here, and Marathon's client doesn't send a POST again: it would be lost.
 */
#include "connectors/marathon/marathon_callback_door.h"

#include "connectors/http_server.h"
#include "connectors/marathon/marathon_callback_url.h"

#include <stdlib.h>
#include <string.h>

enum {
    STATUS_NOT_FOUND = 404,
    STATUS_TOO_LARGE = 413,
    QUERY_MAX = 4 * CALLBACK_URL_MAX,
};

struct callback_door {
    struct callback_door_options options;
    struct callback_target target;
    struct http_server *server;
    struct buf query; /* of the request at hand */
};

static bool add_query(void *arg, struct str name, struct str value)
{
    struct buf *query = arg;
    callback_target_add(query, name, value);
    return query->len < QUERY_MAX;
}

static bool is_for_us(struct callback_door *door, const struct http_request *request)
{
    buf_clear(&door->query);
    http_request_query(request, add_query, &door->query);
    return callback_target_is(&door->target, str_from(http_request_path(request)),
                              buf_str(&door->query)) &&
           strcmp(http_request_method(request), "POST") == 0;
}

/* What the head says of the body's size; 0: nothing. */
static uint64_t told_size(const struct http_request *request)
{
    const char *length = http_request_header(request, "Content-Length");
    return length != NULL ? strtoull(length, NULL, 10) : 0;
}

static bool on_head(void *arg, const struct http_request *request)
{
    return is_for_us(arg, request) && told_size(request) <= CALLBACK_BODY_MAX;
}

static void on_request(void *arg, const struct http_request *request, struct http_answer *answer)
{
    struct callback_door *door = arg;
    uint64_t size = told_size(request);
    answer->close = true;
    if (!is_for_us(door, request)) {
        answer->status = STATUS_NOT_FOUND;
    } else if (size > CALLBACK_BODY_MAX) {
        door->options.oversized(door->options.arg, size);
        answer->status = STATUS_TOO_LARGE;
    } else {
        answer->status = door->options.called(door->options.arg, http_request_body(request));
    }
}

static int on_turn(void *arg)
{
    struct callback_door *door = arg;
    return door->options.turn(door->options.arg);
}

int callback_door_open(struct callback_door **out, const struct callback_door_options *options,
                       struct err *err)
{
    struct callback_door *door = mem_zalloc(sizeof *door);
    door->options = *options;
    callback_target_init(&door->target, options->url);
    struct http_server_options server = {
        .listen = options->listen,
        .connections_max = CALLBACK_CONNECTIONS_MAX,
        .body_max = CALLBACK_BODY_MAX,
        .request_timeout_s = CALLBACK_REQUEST_S,
        .stream_timeout_s = CALLBACK_REQUEST_S,
        .wants_body = on_head,
        .handle = on_request,
        .turn = on_turn,
        .arg = door,
    };
    if (http_server_open(&door->server, &server, err) != 0) {
        callback_door_close(&door);
        return -1;
    }
    *out = door;
    return 0;
}

const char *callback_door_address(const struct callback_door *door)
{
    return http_server_address(door->server);
}

void callback_door_run(struct callback_door *door, struct stop *stop)
{
    http_server_run(door->server, stop);
}

void callback_door_close(struct callback_door **door)
{
    struct callback_door *d = *door;
    if (d == NULL)
        return;
    http_server_close(&d->server);
    callback_target_fini(&d->target);
    buf_fini(&d->query);
    free(d);
    *door = NULL;
}
