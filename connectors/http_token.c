/* http_token.c - a token that is kept in a file and changes while the bridge runs. */
#include "connectors/http_token.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_EVERY_MS = 500 };

struct http_token {
    char *path;
    pthread_mutex_t lock; /* the stream's thread and a resync's */
    struct buf good;      /* the last one that could be read */
    bool failing;         /* and this was said */
};

const char *http_token_expected(const char *token)
{
    for (; *token != '\0'; token++)
        if ((unsigned char)*token <= ' ' || *token == 0x7f)
            return "a token without blanks, line breaks or control characters";
    return NULL;
}

static const char *read_all(const char *path, char *into, size_t size, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold us up */
    ssize_t n = 0;
    *len = 0;
    if (fd < 0)
        return strerrordesc_np(errno);
    while (*len < size && (n = read(fd, into + *len, size - *len)) > 0)
        *len += (size_t)n;
    const char *why = n < 0 ? strerrordesc_np(errno) : NULL;
    close(fd);
    return why;
}

const char *http_token_read_file(const char *path, struct buf *out)
{
    char text[HTTP_TOKEN_MAX + 2];
    size_t len;
    const char *why = read_all(path, text, sizeof text - 1, &len);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    text[len] = '\0';
    if (why == NULL && len == 0)
        why = "it is empty";
    else if (why == NULL && len > HTTP_TOKEN_MAX)
        why = "it is too long for a token";
    else if (why == NULL && (strlen(text) != len || http_token_expected(text) != NULL))
        why = "it has blanks or control characters";
    if (why == NULL)
        buf_append(out, text, len);
    explicit_bzero(text, sizeof text);
    return why;
}

const char *http_token_expected_file(const char *path)
{
    struct buf token = {0};
    if (path[0] == '\0')
        return NULL;
    buf_reserve(&token, HTTP_TOKEN_MAX + 1);
    const char *why = http_token_read_file(path, &token);
    buf_wipe(&token);
    return why != NULL ? "a file that can be read and holds one token" : NULL;
}

struct http_token *http_token_new(const char *path)
{
    if (path == NULL || path[0] == '\0')
        return NULL;
    struct http_token *token = mem_zalloc(sizeof *token);
    token->path = mem_strdup(path);
    pthread_mutex_init(&token->lock, NULL);
    return token;
}

void http_token_free(struct http_token **token)
{
    struct http_token *t = *token;
    if (t == NULL)
        return;
    pthread_mutex_destroy(&t->lock);
    buf_wipe(&t->good);
    free(t->path);
    free(t);
    *token = NULL;
}

/* Under the lock. `now` is wiped or kept. */
static void take(struct http_token *t, struct buf *now, const char *why)
{
    if (why != NULL && !t->failing)
        log_warn("token_file_unreadable", LOG_STR("file", t->path), LOG_STR("err", why),
                 LOG_STR("hint", t->good.len > 0 ? "the last token that it had is still used"
                                                 : "no token is sent"));
    t->failing = why != NULL;
    if (why != NULL || str_eq(buf_str(now), buf_str(&t->good))) {
        buf_wipe(now);
        return;
    }
    if (t->good.len > 0)
        log_info("token_file_changed", LOG_STR("file", t->path));
    buf_wipe(&t->good);
    t->good = *now;
}

void http_token_append(struct http_token *t, struct buf *out)
{
    struct buf now = {0};
    pthread_mutex_lock(&t->lock);
    take(t, &now, http_token_read_file(t->path, &now));
    buf_append_str(out, buf_str(&t->good));
    pthread_mutex_unlock(&t->lock);
}

void http_token_choose(struct http_token *kept, const char *path, const char *literal,
                       struct buf *out)
{
    buf_reserve(out, HTTP_TOKEN_MAX + 1); /* at once: nothing is left behind unwiped */
    if (kept != NULL)
        http_token_append(kept, out);
    else if (path != NULL && path[0] != '\0')
        http_token_read_file(path, out);
    else if (literal != NULL)
        buf_append_cstr(out, literal);
}

static bool has_news(struct http_token *t)
{
    struct buf now = {0};
    bool readable = http_token_read_file(t->path, &now) == NULL;
    pthread_mutex_lock(&t->lock);
    bool other = readable && !str_eq(buf_str(&now), buf_str(&t->good));
    pthread_mutex_unlock(&t->lock);
    buf_wipe(&now);
    return other;
}

void http_token_wait(struct http_token *t, struct stop *stop, int timeout_ms)
{
    int64_t until_ms = clock_mono_ms() + timeout_ms;
    while (t != NULL && timeout_ms > LOOK_EVERY_MS) {
        if (stop_wait(stop, LOOK_EVERY_MS) || has_news(t))
            return;
        timeout_ms = (int)(until_ms - clock_mono_ms());
    }
    if (timeout_ms > 0)
        stop_wait(stop, timeout_ms);
}
