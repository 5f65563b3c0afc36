/* http_server.c - HTTP for those who are called, over libmicrohttpd's external epoll mode.
 *
 * The loop waits, in the writer's epoll, on the library's, an eventfd (poke), the stop flag and the
 * writer's sockets, lets the owner take its turn, and then lets the library run: reading, handlers,
 * content readers and resuming all happen on this one thread, so a stream that has nothing can't
 * miss the news that come while it is put to sleep.
 *
 * A stream is the writer's once its head is sent, with its TLS session, where there is one. A sweep
 * once a second ends connections whose request does not become whole in time. */
#include "connectors/http_server.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/http_server_request.h"
#include "connectors/http_server_socket.h"
#include "connectors/http_server_tls.h"
#include "connectors/http_server_writer.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define TLS_PRIORITIES "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1"

enum {
    POOL_BYTES = 6 * 1024, /* per connection; bounds a request, without its body, to some 5 KiB */
    SWEEP_MS = 1000,
    SWEEP_BATCH = 512,
    TURN_MAX_MS = 1000,
    RUNS_MAX = 32,
};

/* One connection. All lie in one array: heap-scattered ones cost twice the CPU at 10,000. */
struct http_stream {
    struct http_server *server;
    struct MHD_Connection *connection; /* NULL: a free slot */
    struct http_sending sending;       /* its `ops` are set: a stream */
    struct buf body;                   /* up to body_max */
    int64_t since_ms;                  /* of the wait for a request, or of the last one's end */
    struct http_tls_shown *shown;      /* the certificate that its peer sees */
    int fd;
    bool answered;
    bool body_over;
    bool asleep;
    bool over; /* the next read closes … */
    bool said; /* … in good order: the owner had it ended */
    enum http_closed why;
    struct http_stream *next_free;
};

struct http_server {
    struct http_server_options options;
    char address[HTTP_ADDRESS_MAX];
    struct MHD_Daemon *daemon;
    int poke_fd;
    struct http_writer *writer;
    struct http_tls *tls; /* NULL: nothing is encrypted */
    struct http_stream *slots;
    size_t n_slots;
    size_t used; /* slots from here on were never used */
    struct http_stream *free;
    int64_t swept_ms;
    uint64_t accepted;
};

/* ---- streams ---- */

static void put_to_sleep(struct http_stream *s)
{
    s->asleep = true;
    MHD_suspend_connection(s->connection);
}

/* NULL: nothing is encrypted. */
static void *tls_session(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    return info != NULL ? info->tls_session : NULL;
}

/* Asked for the first time when the head has been sent, so from here on the writer has it. */
static ssize_t read_stream(void *cls, uint64_t pos, char *out, size_t max)
{
    (void)pos;
    (void)out;
    (void)max;
    struct http_stream *s = cls;
    if (s->over)
        return s->said ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
    s->sending.fd = s->fd;
    s->sending.tls = tls_session(s->connection);
    if (!http_writer_add(s->server->writer, &s->sending))
        return MHD_CONTENT_READER_END_WITH_ERROR;
    put_to_sleep(s);
    return 0;
}

static void resume(struct http_stream *s)
{
    if (!s->asleep)
        return;
    s->asleep = false;
    MHD_resume_connection(s->connection);
}

static void end_stream(struct http_stream *s, enum http_closed why, bool said)
{
    if (s->over)
        return;
    s->over = true;
    s->said = said;
    s->why = why;
    resume(s);
}

static void on_sent_end(struct http_sending *sending, enum http_closed why)
{
    char *at = (char *)sending - offsetof(struct http_stream, sending);
    end_stream((struct http_stream *)(void *)at, why, why == HTTP_CLOSED_ENDED);
}

void http_stream_wake(struct http_stream *stream)
{
    if (stream->sending.added)
        http_writer_wake(stream->server->writer, &stream->sending);
}

void http_stream_end(struct http_stream *stream)
{
    if (stream->sending.added)
        http_writer_end(stream->server->writer, &stream->sending, HTTP_CLOSED_ENDED);
    else
        end_stream(stream, HTTP_CLOSED_ENDED, true);
}

const char *http_stream_address(const struct http_stream *stream)
{
    static _Thread_local char text[HTTP_ADDRESS_MAX];
    http_server_tell_peer(stream->fd, text);
    return text;
}

static struct MHD_Response *make_response(struct http_stream *s, const struct http_answer *answer)
{
    struct MHD_Response *response;
    if (answer->ops != NULL) {
        /* A block of one byte: the writer needs none of it. */
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1, read_stream, s, NULL);
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
            s->sending.ops = answer->ops;
            s->sending.client = answer->client;
            MHD_set_connection_option(s->connection, MHD_CONNECTION_OPTION_TIMEOUT,
                                      s->server->options.stream_timeout_s);
            answer->ops->opened(answer->client, s);
        } else {
            answer->ops->closed(answer->client, HTTP_CLOSED_ENDED);
        }
    }
    http_server_answer_fini(answer);
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

static bool wants_body(struct http_stream *s, const char *path, const char *method)
{
    const struct http_server_options *o = &s->server->options;
    struct http_request request = {s->connection, method, path, {"", 0}};
    return o->body_max > 0 && (o->wants_body == NULL || o->wants_body(o->arg, &request));
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
        if (has_body(connection) && !wants_body(s, url, method))
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
    if (s->over)
        return s->why;
    if (code == MHD_REQUEST_TERMINATED_COMPLETED_OK ||
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
    const struct http_stream_ops *ops = s->sending.ops;
    void *client = s->sending.client;
    http_writer_remove(s->server->writer, &s->sending);
    s->sending.ops = NULL;
    if (ops != NULL)
        ops->closed(client, closed_why(s, code));
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
            if (server->tls != NULL)
                s->shown = http_tls_enter(server->tls, tls_session(connection));
        }
        *context = s;
        return;
    }
    struct http_stream *s = *context;
    if (s == NULL)
        return;
    http_tls_leave(&s->shown);
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
        if (is_done(streams[i]))
            shutdown(fds[i].fd, SHUT_RDWR);
    }
}

static void sweep(struct http_server *server, int64_t now_ms)
{
    struct http_stream *streams[SWEEP_BATCH];
    struct pollfd fds[SWEEP_BATCH];
    size_t n = 0;
    int64_t patience_ms = (int64_t)server->options.request_timeout_s * 1000;
    int64_t stream_patience_ms = (int64_t)server->options.stream_timeout_s * 1000;
    server->swept_ms = now_ms;
    for (size_t i = 0; i < server->used; i++) {
        struct http_stream *s = &server->slots[i];
        if (s->connection == NULL || (s->answered && !s->asleep))
            continue;
        if (s->sending.added) {
            http_writer_expire(server->writer, &s->sending, now_ms, stream_patience_ms);
            continue;
        }
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

static void wait_for_work(struct http_server *server, int wait_ms)
{
    MHD_UNSIGNED_LONG_LONG library_ms;
    if (MHD_get_timeout(server->daemon, &library_ms) == MHD_YES &&
        library_ms < (MHD_UNSIGNED_LONG_LONG)wait_ms)
        wait_ms = (int)library_ms;
    http_writer_wait(server->writer, wait_ms);
}

/* One run accepts 10 connections at most, and may serve thousands: a fleet that comes back at once
 * would wait for long. But a handshake is a ms of CPU: 10 of them between two turns, or those who
 * are served would wait for the whole fleet. */
static void run_library(struct http_server *server)
{
    uint64_t before;
    int runs = 0, most = server->tls != NULL ? 1 : RUNS_MAX;
    do {
        before = server->accepted;
        MHD_run(server->daemon);
    } while (server->accepted != before && ++runs < most);
}

void http_server_run(struct http_server *server, struct stop *stop)
{
    http_writer_watch(server->writer, stop_fd(stop), false); /* else it is noticed a second late */
    while (!stop_requested(stop)) {
        int wait_ms = TURN_MAX_MS;
        if (server->options.turn != NULL) {
            int wanted_ms = server->options.turn(server->options.arg);
            wait_ms = wanted_ms < wait_ms ? wanted_ms : wait_ms;
        }
        int64_t now_ms = clock_mono_ms();
        if (now_ms - server->swept_ms >= SWEEP_MS) {
            sweep(server, now_ms);
            if (server->tls != NULL)
                http_tls_look(server->tls);
        }
        http_writer_run(server->writer);
        run_library(server);
        wait_for_work(server, wait_ms);
    }
    http_writer_unwatch(server->writer, stop_fd(stop));
}

void http_server_poke(struct http_server *server)
{
    eventfd_write(server->poke_fd, 1);
}

/* ---- open and close ---- */

static struct MHD_OptionItem option(enum MHD_OPTION which, const char *value)
{
    return (struct MHD_OptionItem){which, 0, (void *)value};
}

static struct MHD_Daemon *start_daemon(struct http_server *server, int listen_fd)
{
    const struct http_server_options *o = &server->options;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem tls[] = {{MHD_OPTION_END, 0, NULL}, {0}, {0}, {0}};
    if (server->tls != NULL) {
        flags |= MHD_USE_TLS;
        tls[0] = option(MHD_OPTION_HTTPS_MEM_CERT, http_tls_first_certificate(server->tls));
        tls[1] = option(MHD_OPTION_HTTPS_MEM_KEY, http_tls_first_key(server->tls));
        tls[2] = option(MHD_OPTION_HTTPS_PRIORITIES, TLS_PRIORITIES);
        tls[3] = option(MHD_OPTION_END, NULL);
    }
    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT, o->connections_max,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        o->request_timeout_s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
}

static int start(struct http_server *server, int fd, struct err *err)
{
    server->n_slots = server->options.connections_max;
    server->slots = mem_zalloc(server->n_slots * sizeof *server->slots);
    server->poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    server->writer = http_writer_new(on_sent_end);
    server->daemon =
        server->poke_fd >= 0 && server->writer != NULL ? start_daemon(server, fd) : NULL;
    if (server->daemon == NULL)
        return err_set(err, ERR_FATAL, "start HTTP server: %s", strerror(errno));
    int library_fd = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    if (!http_writer_watch(server->writer, library_fd, false) ||
        !http_writer_watch(server->writer, server->poke_fd, true))
        return err_set(err, ERR_FATAL, "start HTTP server: %s", strerror(errno));
    return 0;
}

int http_server_open(struct http_server **out, const struct http_server_options *options,
                     struct err *err)
{
    struct http_server *server = mem_zalloc(sizeof *server);
    server->options = *options;
    server->options.connections_max = http_server_raise_files(options->connections_max);
    server->poke_fd = -1;
    *out = server;

    int fd = -1;
    int rc = 0;
    if (options->tls_certificate != NULL)
        rc = http_tls_open(&server->tls, options->tls_certificate, options->tls_key, err);
    if (rc == 0)
        fd = http_server_socket(options->listen, options->send_buffer, server->address, err);
    rc = fd >= 0 ? start(server, fd, err) : -1;
    if (rc != 0) {
        if (fd >= 0 && server->daemon == NULL) /* else the library closes it */
            close(fd);
        http_server_close(out);
    }
    return rc;
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
        end_stream(&server->slots[i], HTTP_CLOSED_ENDED, false);
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
    http_writer_free(&s->writer);
    http_tls_close(&s->tls);
    free(s->slots);
    free(s);
    *server = NULL;
}
