/* http_stream.c - libcurl's multi interface, driven by one blocking call.
 *
 * curl hands a body over in pieces: per chunk of the transfer coding, or 16 KiB. Each read lets
 * curl work, which empties the socket or goes on to a ceiling, and collects the pieces in one
 * buffer that the caller then sees as a whole; or it hands each to the request's taker. At the
 * ceiling curl is told to pause, and copies what it has received already, twice. Where a sender is
 * fast, collecting thus costs two to three copies of a body (0.1 µs a KiB each), taking none.
 * All waiting is in curl_multi_poll, which also watches the stop's descriptor. */
#include "connectors/http_stream.h"

#include "bridge/base/clock.h"
#include "connectors/http_stream_access.h"
#include "connectors/http_stream_failure.h"
#include "connectors/http_stream_raw.h"

#include <assert.h>
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

enum {
    RECEIVE_BYTES = 128 * 1024, /* what one look at the socket may bring */
    /* The same for a taker: the fewer looks, the fewer acknowledgements, which on one machine are
     * carried out at the receiver's cost (figures: README). */
    RECEIVE_BYTES_TAKEN = 512 * 1024,
    CONNECT_TIMEOUT_MS = 10000,
    REFUSAL_WAIT_MS = 2000, /* for the body of an answer other than 200 */
    KEEPALIVE_IDLE_S = 30,
    KEEPALIVE_EVERY_S = 10,
};

/* How far the request has come that is spoken by hand (http_stream_raw.h). */
enum raw { RAW_NOT, RAW_CONNECTING, RAW_HEAD, RAW_BODY };

struct http_stream {
    char *url;
    enum raw raw;
    CURLM *multi;
    bool multi_is_shared; /* it is the session's, with the connections in it */
    CURL *easy;
    struct curl_slist *headers;
    struct curl_slist *connect_to;
    struct http_failure failure; /* what is known of it before there is one */
    struct stop *stop;
    struct buf body; /* ceiling: HTTP_COLLECT_MAX */
    struct http_taker taker;
    size_t brought; /* by this read, of a 200's body */
    size_t head_bytes;
    int status;
    int64_t head_at_ms; /* when the head was complete */
    int connect_timeout_ms;
    bool is_get;
    bool done;
    bool paused; /* curl holds on to a piece that found no room */
    bool more;
    char detail[CURL_ERROR_SIZE];
};

struct http_session {
    CURLM *multi; /* curl keeps idle connections in it */
};

static void init_curl(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort();
}

static void init_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
}

static size_t take_header(char *line, size_t size, size_t n, void *arg)
{
    struct http_stream *s = arg;
    size_t len = size * n;
    s->head_bytes += len;
    if (s->head_bytes > HTTP_HEAD_MAX)
        return 0;
    if (len > 2 || (line[0] != '\r' && line[0] != '\n'))
        return len;
    long status = 0;
    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200) { /* not a 1xx before the answer */
        s->status = (int)status;
        s->head_at_ms = clock_mono_ms();
    }
    return len;
}

static size_t take_body(char *piece, size_t size, size_t n, void *arg)
{
    struct http_stream *s = arg;
    size_t len = size * n, max = s->taker.take != NULL ? HTTP_TAKE_MAX : HTTP_COLLECT_MAX;
    if (s->status != 200) {
        size_t room = HTTP_REFUSAL_MAX - s->body.len;
        buf_append(&s->body, piece, len < room ? len : room);
        return len;
    }
    if (s->brought + len > max && s->brought > 0) {
        /* One curl_multi_perform receives up to 100 times where a sender is fast. */
        s->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    s->brought += len;
    if (s->taker.take != NULL)
        return s->taker.take(s->taker.arg, (struct str){piece, len}) ? len : 0;
    buf_append(&s->body, piece, len);
    return len;
}

static void set_up_transfer(struct http_stream *s)
{
    CURL *e = s->easy;
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, s->headers);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "busbar");
    curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, s);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE,
                     (long)(s->taker.take != NULL ? RECEIVE_BYTES_TAKEN : RECEIVE_BYTES));
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, s->detail);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)s->connect_timeout_ms);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* closing never waits for a name server */
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_IDLE_S);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_EVERY_S);
}

/* Which of libcurl's ways of sending fits: it knows a body only as a POST's. */
static void set_up_method(struct http_stream *s, const struct http_request *request)
{
    CURL *e = s->easy;
    const char *method = request->method != NULL ? request->method : "GET";
    s->is_get = strcmp(method, "GET") == 0 && request->body.len == 0;
    if (s->is_get)
        return;
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
    } else if (http_access_has_body(request)) {
        curl_easy_setopt(e, CURLOPT_POST, 1L);
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
        curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, request->body.len > 0 ? request->body.p : "");
    }
    curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, method);
}

struct http_session *http_session_new(void)
{
    init_once();
    struct http_session *session = mem_zalloc(sizeof *session);
    session->multi = curl_multi_init();
    if (session->multi == NULL)
        abort(); /* out of memory */
    curl_multi_setopt(session->multi, CURLMOPT_MAXCONNECTS, 1L);
    return session;
}

void http_session_free(struct http_session **session)
{
    if (*session == NULL)
        return;
    curl_multi_cleanup((*session)->multi);
    free(*session);
    *session = NULL;
}

struct http_stream *http_stream_open(const struct http_request *request)
{
    init_once();
    struct http_stream *s = mem_zalloc(sizeof *s);
    s->stop = request->stop;
    s->taker = request->taker;
    s->connect_timeout_ms =
        request->connect_timeout_ms > 0 ? request->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    s->multi_is_shared = request->session != NULL;
    s->multi = s->multi_is_shared ? request->session->multi : curl_multi_init();
    s->easy = curl_easy_init();
    if (s->multi == NULL || s->easy == NULL)
        abort(); /* out of memory */
    s->url = mem_strdup(request->url);
    s->headers = http_access_headers(request);
    s->connect_to = http_access_apply(s->easy, request);
    s->failure = http_failure_expect(request, s->connect_timeout_ms);
    set_up_transfer(s);
    set_up_method(s, request);
    curl_multi_add_handle(s->multi, s->easy);
    return s;
}

void http_stream_close(struct http_stream **stream)
{
    struct http_stream *s = *stream;
    if (s == NULL)
        return;
    curl_multi_remove_handle(s->multi, s->easy);
    curl_easy_cleanup(s->easy);
    if (!s->multi_is_shared)
        curl_multi_cleanup(s->multi);
    http_access_free_headers(s->headers);
    curl_slist_free_all(s->connect_to);
    buf_fini(&s->body);
    free(s->url);
    free(s);
    *stream = NULL;
}

static void finish(struct http_stream *s, CURLcode result)
{
    s->done = true;
    s->failure.result = result;
    if (result == CURLE_OK && s->status == 0) /* to libcurl a head may end anywhere */
        s->failure.result = CURLE_PARTIAL_FILE;
}

/* Once more from the start, this time without curl's reading of the answer. */
static void start_raw(struct http_stream *s)
{
    s->raw = RAW_CONNECTING;
    s->head_bytes = 0;
    buf_clear(&s->body);
    curl_multi_remove_handle(s->multi, s->easy);
    curl_easy_setopt(s->easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(s->easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
    curl_multi_add_handle(s->multi, s->easy);
}

static void end_transfer(struct http_stream *s, CURLcode result)
{
    if (s->raw == RAW_NOT && s->is_get && http_raw_is_needed(result, s->detail)) {
        start_raw(s);
        return;
    }
    if (s->raw != RAW_CONNECTING || result != CURLE_OK) {
        finish(s, result);
        return;
    }
    s->raw = RAW_HEAD;
    result = http_raw_send(s->easy, s->url, s->headers);
    if (result != CURLE_OK)
        finish(s, result);
}

static void work_by_curl(struct http_stream *s)
{
    int running = 0, left = 0;
    if (curl_multi_perform(s->multi, &running) != CURLM_OK) {
        finish(s, CURLE_FAILED_INIT);
        return;
    }
    for (const CURLMsg *m; (m = curl_multi_info_read(s->multi, &left)) != NULL;)
        if (m->msg == CURLMSG_DONE)
            end_transfer(s, m->data.result);
}

static void work_by_hand(struct http_stream *s)
{
    size_t max = s->raw == RAW_HEAD ? (size_t)HTTP_HEAD_MAX : (size_t)HTTP_COLLECT_MAX;
    CURLcode result = http_raw_receive(s->easy, &s->body, max);
    if (s->raw == RAW_BODY)
        s->paused = result == CURLE_OK;
    if (s->raw == RAW_HEAD) {
        int status = http_raw_take_head(&s->body);
        s->status = status > 0 ? status : 0;
        if (status == 200)
            s->raw = RAW_BODY;
        else if (status != 0 || result == CURLE_OK) /* such servers refuse by curl's HTTP */
            finish(s, CURLE_WEIRD_SERVER_REPLY);
    }
    if (!s->done && result != CURLE_OK && result != CURLE_AGAIN)
        finish(s, result != CURLE_GOT_NOTHING || s->raw == RAW_HEAD ? result : CURLE_OK);
}

/* Does what can be done now without waiting. */
static void work(struct http_stream *s)
{
    if (s->done)
        return;
    if (s->raw == RAW_NOT || s->raw == RAW_CONNECTING)
        work_by_curl(s);
    else
        work_by_hand(s);
}

/* There is room again: curl hands over what it held back, and may find the room used up again. */
static void resume(struct http_stream *s)
{
    if (!s->paused)
        return;
    s->paused = false;
    CURLcode result = s->raw == RAW_NOT ? curl_easy_pause(s->easy, CURLPAUSE_CONT) : CURLE_OK;
    if (result != CURLE_OK)
        finish(s, result);
}

/* An answer other than 200 is over when its body is, or is long or late enough. */
static bool refusal_is_whole(const struct http_stream *s)
{
    return s->done || s->body.len >= HTTP_REFUSAL_MAX ||
           clock_mono_ms() - s->head_at_ms >= REFUSAL_WAIT_MS;
}

static int say_failure(struct http_stream *s, struct err *err)
{
    long number = 0;
    curl_easy_getinfo(s->easy, CURLINFO_OS_ERRNO, &number);
    s->failure.system_errno = (int)number;
    s->failure.detail = s->detail;
    s->failure.answered = s->status != 0;
    if (s->head_bytes > HTTP_HEAD_MAX)
        return err_set(err, ERR_RETRY,
                       "the answer's head is longer than %d bytes: not the server "
                       "that was meant?",
                       HTTP_HEAD_MAX);
    return http_failure_say(&s->failure, err);
}

static enum http_read say_end(struct http_stream *s, struct err *err)
{
    if (s->failure.result == CURLE_OK)
        return s->status == 200 ? HTTP_CLOSED : HTTP_REFUSED;
    say_failure(s, err);
    return HTTP_FAILED;
}

/* Until something happens on the connection, or the stop is requested. */
static void wait_for_news(struct http_stream *s, int timeout_ms)
{
    struct curl_waitfd extra[2];
    unsigned n = 0;
    curl_socket_t socket = CURL_SOCKET_BAD;
    if (s->stop != NULL)
        extra[n++] = (struct curl_waitfd){.fd = stop_fd(s->stop), .events = CURL_WAIT_POLLIN};
    if (s->raw >= RAW_HEAD)
        curl_easy_getinfo(s->easy, CURLINFO_ACTIVESOCKET, &socket);
    if (socket != CURL_SOCKET_BAD)
        extra[n++] = (struct curl_waitfd){.fd = socket, .events = CURL_WAIT_POLLIN};
    curl_multi_poll(s->multi, extra, n, timeout_ms, NULL);
}

/* Before the head is whole, and with another status, `body` holds something else. */
static bool has_body(const struct http_stream *s)
{
    return s->status == 200 && (s->brought > 0 || s->body.len > 0);
}

static enum http_read deliver(struct http_stream *s, struct str *bytes)
{
    bool by_hand = s->taker.take != NULL && s->body.len > 0;
    if (by_hand && !s->taker.take(s->taker.arg, buf_str(&s->body)))
        finish(s, CURLE_WRITE_ERROR);
    if (by_hand)
        buf_clear(&s->body);
    *bytes = buf_str(&s->body);
    return HTTP_DATA;
}

enum http_read http_stream_read(struct http_stream *s, int timeout_ms, struct str *bytes,
                                struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    if (s->status == 200)
        buf_clear(&s->body);
    s->more = false;
    s->brought = 0;
    resume(s);
    for (;;) {
        work(s);
        bool refused = s->status != 0 && s->status != 200;
        if (refused && refusal_is_whole(s))
            return HTTP_REFUSED;
        if (s->paused) {
            s->more = true;
            return deliver(s, bytes);
        }
        if (s->done)
            return has_body(s) ? deliver(s, bytes) : say_end(s, err);
        if (has_body(s))
            return deliver(s, bytes);
        if (s->stop != NULL && stop_requested(s->stop))
            return HTTP_STOPPED;
        int64_t left_ms = deadline_ms - clock_mono_ms();
        if (left_ms <= 0)
            return HTTP_IDLE;
        wait_for_news(s, (int)(refused && left_ms > REFUSAL_WAIT_MS ? REFUSAL_WAIT_MS : left_ms));
    }
}

bool http_stream_more(const struct http_stream *s)
{
    return s->more;
}

int http_stream_status(const struct http_stream *s)
{
    return s->status;
}

const char *http_stream_header(struct http_stream *s, const char *name)
{
    struct curl_header *header = NULL;
    if (curl_easy_header(s->easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return "";
    return header->value;
}

struct str http_stream_refusal(const struct http_stream *s)
{
    return s->status == 200 ? STR("") : buf_str(&s->body);
}

static void copy_ip(struct http_stream *s, CURLINFO which, char *out, size_t size)
{
    const char *ip = NULL;
    assert(size >= HTTP_IP_MAX);
    curl_easy_getinfo(s->easy, which, &ip);
    snprintf(out, size, "%s", ip != NULL ? ip : "");
}

void http_stream_local(struct http_stream *s, char *out, size_t size)
{
    copy_ip(s, CURLINFO_LOCAL_IP, out, size);
}

void http_stream_peer(struct http_stream *s, char *out, size_t size)
{
    copy_ip(s, CURLINFO_PRIMARY_IP, out, size);
}

/* ---- short answers ---- */

void http_answer_fini(struct http_answer *answer)
{
    buf_fini(&answer->body);
}

static int read_answer(struct http_stream *s, int timeout_ms, size_t body_max,
                       struct http_answer *answer, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    for (;;) {
        int64_t left_ms = deadline_ms - clock_mono_ms();
        struct str bytes = {0};
        switch (http_stream_read(s, left_ms > 0 ? (int)left_ms : 0, &bytes, err)) {
        case HTTP_DATA:
            if (answer->body.len + bytes.len > body_max)
                return err_set(err, ERR_INPUT, "the answer is longer than %zu bytes", body_max);
            buf_append_str(&answer->body, bytes);
            break;
        case HTTP_REFUSED:
            buf_append_str(&answer->body, http_stream_refusal(s));
            return 0;
        case HTTP_CLOSED:
            return 0;
        case HTTP_IDLE:
            return err_set(err, ERR_RETRY, "no whole answer within %d ms", timeout_ms);
        case HTTP_STOPPED:
            return err_set(err, ERR_RETRY, "stopped");
        case HTTP_FAILED:
            return -1;
        }
    }
}

int http_ask(const struct http_request *request, int timeout_ms, size_t body_max,
             struct http_answer *answer, struct err *err)
{
    struct http_stream *s = http_stream_open(request);
    int result = read_answer(s, timeout_ms, body_max, answer, err);
    answer->status = http_stream_status(s);
    http_stream_close(&s);
    return result;
}

/* ---- URLs ---- */

void http_url_label(struct buf *out, const char *url)
{
    const char *host = strstr(url, "://");
    host = host != NULL ? host + 3 : url;
    size_t authority = strcspn(host, "/?#");
    const char *at = memrchr(host, '@', authority);
    buf_append(out, url, (size_t)(host - url));
    buf_append_cstr(out, at != NULL ? at + 1 : host);
}

void http_url_encode(struct buf *out, const char *value)
{
    for (const char *c = value; *c != '\0'; c++) {
        unsigned char byte = (unsigned char)*c;
        if ((byte < 0x80 && isalnum(byte)) || strchr("-._~", byte) != NULL)
            buf_append_char(out, *c);
        else
            buf_printf(out, "%%%02X", byte);
    }
}
