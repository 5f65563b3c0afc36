/* http_server.c - HTTP for those who are called, over libmicrohttpd's external epoll mode.
 *
 * The loop waits on the library's epoll, an eventfd (poke) and the stop flag, lets the owner take
 * its turn, and then lets the library run: reading, handlers, content readers and resuming all
 * happen on this one thread, so a stream that has nothing can't miss the news that come while it is
 * put to sleep.
 *
 * A sleeping (suspended) connection is not watched by the library: once a second all of them are
 * polled for a peer that went away. That sweep also ends connections whose request does not become
 * whole in time, however slowly its bytes drip, or can't come any more. */
#include "connectors/http_server.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/http_server_socket.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    POOL_BYTES = 8 * 1024,  /* per connection; bounds a request, without its body, to some 7 KiB */
    BLOCK_BYTES = 8 * 1024, /* per stream; at least HTTP_READ_MIN */
    SWEEP_MS = 1000,
    SWEEP_BATCH = 512,
    TURN_MAX_MS = 1000,
    RUNS_MAX = 32,
};

/* One connection; a stream while `ops` is set. They lie in one array: heap-scattered ones cost
 * twice the CPU at 10,000. */
struct http_stream {
    struct http_server *server;
    struct MHD_Connection *connection; /* NULL: a free slot */
    const struct http_stream_ops *ops;
    void *client;
    struct buf body;  /* up to body_max */
    int64_t since_ms; /* of the wait for a request, or of the last one's end */
    int fd;
    bool answered;
    bool body_over;
    bool asleep;
    bool ending; /* the server ends it, or its peer is gone: the next read closes */
    bool gone;
    struct http_stream *next_free;
};

struct http_server {
    struct http_server_options options;
    char address[HTTP_ADDRESS_MAX];
    struct MHD_Daemon *daemon;
    int epoll_fd;
    int poke_fd;
    struct http_stream *slots;
    size_t n_slots;
    size_t used; /* slots from here on were never used */
    struct http_stream *free;
    int64_t swept_ms;
    uint64_t accepted;
};

struct http_request {
    struct MHD_Connection *connection;
    const char *method;
    const char *path;
    struct str body;
};

/* ---- requests and answers ---- */

const char *http_request_method(const struct http_request *request)
{
    return request->method;
}

const char *http_request_path(const struct http_request *request)
{
    return request->path;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

struct str http_request_body(const struct http_request *request)
{
    return request->body;
}

struct each_query {
    bool (*fn)(void *arg, struct str name, struct str value);
    void *arg;
};

static enum MHD_Result one_query(void *cls, enum MHD_ValueKind kind, const char *name,
                                 size_t name_len, const char *value, size_t value_len)
{
    (void)kind;
    struct each_query *each = cls;
    struct str v = {value != NULL ? value : "", value != NULL ? value_len : 0};
    return each->fn(each->arg, (struct str){name, name_len}, v) ? MHD_YES : MHD_NO;
}

void http_request_query(const struct http_request *request,
                        bool (*fn)(void *arg, struct str name, struct str value), void *arg)
{
    struct each_query each = {fn, arg};
    MHD_get_connection_values_n(request->connection, MHD_GET_ARGUMENT_KIND, one_query, &each);
}

void http_answer_header(struct http_answer *answer, const char *name, const char *value)
{
    if (answer->n_headers == HTTP_ANSWER_HEADERS_MAX)
        abort();
    answer->headers[answer->n_headers].name = name;
    answer->headers[answer->n_headers++].value = mem_strdup(value);
}

static void answer_fini(struct http_answer *answer)
{
    buf_fini(&answer->body);
    for (size_t i = 0; i < answer->n_headers; i++)
        free(answer->headers[i].value);
}

/* ---- streams ---- */

static ssize_t read_stream(void *cls, uint64_t pos, char *out, size_t max)
{
    (void)pos;
    struct http_stream *s = cls;
    if (s->ending || s->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    ssize_t n = s->ops->read(s->client, out, max);
    if (n > 0)
        return n;
    if (n < 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    s->asleep = true;
    MHD_suspend_connection(s->connection);
    return 0;
}

void http_stream_wake(struct http_stream *stream)
{
    if (!stream->asleep)
        return;
    stream->asleep = false;
    MHD_resume_connection(stream->connection);
}

static struct MHD_Response *make_response(struct http_stream *s, const struct http_answer *answer)
{
    struct MHD_Response *response;
    if (answer->ops != NULL) {
        response =
            MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_stream, s, NULL);
        if (response != NULL)
            MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    } else {
        response = MHD_create_response_from_buffer(answer->body.len, answer->body.p,
                                                   MHD_RESPMEM_MUST_COPY);
    }
    if (response == NULL)
        return NULL;
    if (answer->content_type != NULL)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->content_type);
    if (answer->close && answer->ops == NULL)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    for (size_t i = 0; i < answer->n_headers; i++)
        MHD_add_response_header(response, answer->headers[i].name, answer->headers[i].value);
    return response;
}

static enum MHD_Result queue_answer(struct http_stream *s, const char *method,
                                    struct http_answer *answer)
{
    struct MHD_Response *response = make_response(s, answer);
    enum MHD_Result rc = MHD_NO;
    if (response != NULL) {
        rc = MHD_queue_response(s->connection, answer->status, response);
        MHD_destroy_response(response);
    }
    s->answered = true;
    if (answer->ops != NULL) {
        if (rc == MHD_YES && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
            s->ops = answer->ops;
            s->client = answer->client;
            MHD_set_connection_option(s->connection, MHD_CONNECTION_OPTION_TIMEOUT,
                                      s->server->options.stream_timeout_s);
            s->ops->opened(s->client, s);
        } else {
            answer->ops->closed(answer->client, HTTP_CLOSED_ENDED);
        }
    }
    answer_fini(answer);
    return rc;
}

/* ---- the library's callbacks ---- */

static enum MHD_Result answer_request(struct http_stream *s, const char *path, const char *method)
{
    const struct http_server_options *o = &s->server->options;
    struct http_request request = {s->connection, method, path, buf_str(&s->body)};
    struct http_answer answer = {.status = MHD_HTTP_OK};
    if (s->body_over) {
        answer.status = MHD_HTTP_CONTENT_TOO_LARGE;
        answer.content_type = "text/plain; charset=utf-8";
        answer.close = true;
        buf_printf(&answer.body, "at most %zu bytes, please\n", o->body_max);
    } else {
        o->handle(o->arg, &request, &answer);
    }
    return queue_answer(s, method, &answer);
}

static bool has_body(struct MHD_Connection *connection)
{
    const char *length =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return (length != NULL && strcmp(length, "0") != 0) ||
           MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
                                       MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
}

static void take_body(struct http_stream *s, const char *data, size_t len)
{
    if (s->body_over || len > s->server->options.body_max - s->body.len) {
        s->body_over = true;
        buf_fini(&s->body);
        return;
    }
    buf_append(&s->body, data, len);
}

/* Called when the headers are whole (*state NULL), for each part of a body, and at the end. */
/* NOLINTNEXTLINE(readability-function-size): the library's signature */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **state)
{
    (void)cls;
    (void)version;
    if (*state == NULL) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        struct http_stream *s = info != NULL ? info->socket_context : NULL;
        if (s == NULL)
            return MHD_NO;
        *state = s;
        if (s->server->options.body_max == 0 && has_body(connection))
            return answer_request(s, url, method);
        return MHD_YES;
    }
    struct http_stream *s = *state;
    if (*len > 0) {
        take_body(s, data, *len);
        *len = 0;
        return MHD_YES;
    }
    return answer_request(s, url, method);
}

static enum http_closed closed_why(const struct http_stream *s,
                                   enum MHD_RequestTerminationCode code)
{
    if (s->ending || code == MHD_REQUEST_TERMINATED_COMPLETED_OK ||
        code == MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN)
        return HTTP_CLOSED_ENDED;
    return code == MHD_REQUEST_TERMINATED_TIMEOUT_REACHED ? HTTP_CLOSED_TIMEOUT : HTTP_CLOSED_PEER;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)connection;
    struct http_stream *s = *state;
    if (s == NULL)
        return;
    *state = NULL;
    buf_fini(&s->body);
    s->body_over = false;
    s->answered = false;
    s->asleep = false;
    s->since_ms = clock_mono_ms();
    if (s->ops != NULL) {
        const struct http_stream_ops *ops = s->ops;
        s->ops = NULL;
        ops->closed(s->client, closed_why(s, code));
    }
}

static struct http_stream *take_slot(struct http_server *server)
{
    struct http_stream *s = server->free;
    if (s != NULL)
        server->free = s->next_free;
    else if (server->used < server->n_slots)
        s = &server->slots[server->used++];
    if (s != NULL)
        *s = (struct http_stream){.server = server, .since_ms = clock_mono_ms()};
    return s;
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        server->accepted++;
        struct http_stream *s = take_slot(server);
        if (s != NULL) {
            s->connection = connection;
            s->fd =
                MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        }
        *context = s;
        return;
    }
    struct http_stream *s = *context;
    if (s == NULL)
        return;
    s->connection = NULL;
    s->next_free = server->free;
    server->free = s;
    *context = NULL;
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *fmt, va_list ap)
{
    (void)cls;
    char text[512];
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\r\n")] = '\0';
    log_debug("http_library", LOG_STR("text", text));
}

/* ---- the sweep ---- */

/* The peer has closed its side and left nothing to read: no request will come. The library, which
 * was told of that together with the last data, does not look again. */
static bool is_done(const struct http_stream *s)
{
    char byte;
    return !s->answered && recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void sweep_batch(struct http_stream *const *streams, struct pollfd *fds, size_t n)
{
    if (n == 0 || poll(fds, n, 0) <= 0)
        return;
    for (size_t i = 0; i < n; i++) {
        if ((fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0)
            continue;
        if (streams[i]->asleep) {
            streams[i]->gone = true;
            http_stream_wake(streams[i]);
        } else if (is_done(streams[i])) {
            shutdown(fds[i].fd, SHUT_RDWR);
        }
    }
}

static void sweep(struct http_server *server, int64_t now_ms)
{
    struct http_stream *streams[SWEEP_BATCH];
    struct pollfd fds[SWEEP_BATCH];
    size_t n = 0;
    int64_t patience_ms = (int64_t)server->options.request_timeout_s * 1000;
    server->swept_ms = now_ms;
    for (size_t i = 0; i < server->used; i++) {
        struct http_stream *s = &server->slots[i];
        if (s->connection == NULL || (s->answered && !s->asleep))
            continue;
        if (!s->answered && now_ms - s->since_ms > patience_ms)
            shutdown(s->fd, SHUT_RDWR); /* the library sees the end and cleans up */
        streams[n] = s;
        fds[n++] = (struct pollfd){.fd = s->fd, .events = POLLRDHUP};
        if (n == SWEEP_BATCH) {
            sweep_batch(streams, fds, n);
            n = 0;
        }
    }
    sweep_batch(streams, fds, n);
}

/* ---- the loop ---- */

static void wait_for_work(struct http_server *server, struct stop *stop, int wait_ms)
{
    MHD_UNSIGNED_LONG_LONG library_ms;
    if (MHD_get_timeout(server->daemon, &library_ms) == MHD_YES &&
        library_ms < (MHD_UNSIGNED_LONG_LONG)wait_ms)
        wait_ms = (int)library_ms;
    struct pollfd fds[] = {
        {.fd = server->epoll_fd, .events = POLLIN},
        {.fd = server->poke_fd, .events = POLLIN},
        {.fd = stop_fd(stop), .events = POLLIN},
    };
    if (poll(fds, 3, wait_ms) > 0 && fds[1].revents != 0) {
        eventfd_t ignored;
        eventfd_read(server->poke_fd, &ignored);
    }
}

/* One run accepts 10 connections at most, and may serve thousands: a fleet that comes back at once
 * would wait for long. */
static void run_library(struct http_server *server)
{
    uint64_t before;
    int runs = 0;
    do {
        before = server->accepted;
        MHD_run(server->daemon);
    } while (server->accepted != before && ++runs < RUNS_MAX);
}

void http_server_run(struct http_server *server, struct stop *stop)
{
    while (!stop_requested(stop)) {
        int wait_ms = TURN_MAX_MS;
        if (server->options.turn != NULL) {
            int wanted_ms = server->options.turn(server->options.arg);
            wait_ms = wanted_ms < wait_ms ? wanted_ms : wait_ms;
        }
        int64_t now_ms = clock_mono_ms();
        if (now_ms - server->swept_ms >= SWEEP_MS)
            sweep(server, now_ms);
        run_library(server);
        wait_for_work(server, stop, wait_ms);
    }
}

void http_server_poke(struct http_server *server)
{
    eventfd_write(server->poke_fd, 1);
}

/* ---- open and close ---- */

static struct MHD_Daemon *start_daemon(struct http_server *server, int listen_fd)
{
    const struct http_server_options *o = &server->options;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT, o->connections_max,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        o->request_timeout_s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_END);
}

int http_server_open(struct http_server **out, const struct http_server_options *options,
                     struct err *err)
{
    struct http_server *server = mem_zalloc(sizeof *server);
    server->options = *options;
    server->options.connections_max = http_server_raise_files(options->connections_max);
    server->poke_fd = -1;
    *out = server;

    int fd = http_server_socket(options->listen, options->send_buffer, server->address, err);
    if (fd < 0) {
        http_server_close(out);
        return -1;
    }
    server->n_slots = server->options.connections_max;
    server->slots = mem_zalloc(server->n_slots * sizeof *server->slots);
    server->poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    server->daemon = server->poke_fd >= 0 ? start_daemon(server, fd) : NULL;
    if (server->daemon == NULL) {
        int saved = errno;
        close(fd);
        http_server_close(out);
        return err_set(err, ERR_FATAL, "start HTTP server: %s", strerror(saved));
    }
    server->epoll_fd = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    return 0;
}

const char *http_server_address(const struct http_server *server)
{
    return server->address;
}

unsigned http_server_connections_max(const struct http_server *server)
{
    return server->options.connections_max;
}

/* The library aborts when it is stopped while something sleeps. */
static void end_streams(struct http_server *server)
{
    for (size_t i = 0; i < server->used; i++) {
        server->slots[i].ending = true;
        http_stream_wake(&server->slots[i]);
    }
    MHD_run(server->daemon);
}

void http_server_close(struct http_server **server)
{
    struct http_server *s = *server;
    if (s == NULL)
        return;
    if (s->daemon != NULL) {
        end_streams(s);
        MHD_stop_daemon(s->daemon);
    }
    if (s->poke_fd >= 0)
        close(s->poke_fd);
    free(s->slots);
    free(s);
    *server = NULL;
}
