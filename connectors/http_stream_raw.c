/* http_stream_raw.c - a GET spoken by hand over a connection of libcurl's. */
#include "connectors/http_stream_raw.h"

#include <stdlib.h>
#include <string.h>

bool http_raw_is_needed(CURLcode result, const char *detail)
{
    return result == CURLE_UNSUPPORTED_PROTOCOL && strstr(detail, "(0.0)") != NULL;
}

static bool has_header(const struct curl_slist *headers, const char *name)
{
    size_t len = strlen(name);
    for (; headers != NULL; headers = headers->next)
        if (strncasecmp(headers->data, name, len) == 0 && headers->data[len] == ':')
            return true;
    return false;
}

/* "/path?query" and "host:port" of a URL that libcurl has already taken once. */
static void append_request(struct buf *out, const char *url, const struct curl_slist *headers)
{
    const char *host = strstr(url, "://");
    host = host != NULL ? host + 3 : url;
    size_t authority = strcspn(host, "/?#");
    const char *at = memrchr(host, '@', authority);
    const char *path = host + authority;
    if (at != NULL)
        authority -= (size_t)(at + 1 - host);
    buf_printf(out, "GET %s%s HTTP/1.1\r\n", *path == '/' ? "" : "/", path);
    if (!has_header(headers, "Host"))
        buf_printf(out, "Host: %.*s\r\n", (int)authority, at != NULL ? at + 1 : host);
    if (!has_header(headers, "User-Agent"))
        buf_append_cstr(out, "User-Agent: busbar\r\n");
    if (!has_header(headers, "Accept"))
        buf_append_cstr(out, "Accept: */*\r\n");
    for (; headers != NULL; headers = headers->next)
        buf_printf(out, "%s\r\n", headers->data);
    buf_append_cstr(out, "\r\n");
}

CURLcode http_raw_send(CURL *easy, const char *url, const struct curl_slist *headers)
{
    struct buf request = {0};
    size_t sent = 0, size = strlen(url) + 128;
    for (const struct curl_slist *h = headers; h != NULL; h = h->next)
        size += strlen(h->data) + 2;
    buf_reserve(&request, size); /* at once, so that no copy of a token is left behind */
    append_request(&request, url, headers);
    /* Some hundred bytes into an empty socket buffer: in one piece, or something is wrong. */
    CURLcode result = curl_easy_send(easy, request.p, request.len, &sent);
    if (result == CURLE_OK && sent < request.len)
        result = CURLE_SEND_ERROR;
    explicit_bzero(request.p, request.len);
    buf_fini(&request);
    return result;
}

CURLcode http_raw_receive(CURL *easy, struct buf *into, size_t max)
{
    while (into->len < max) {
        size_t got = 0, room = max - into->len;
        CURLcode result = curl_easy_recv(easy, buf_reserve(into, room), room, &got);
        if (result != CURLE_OK)
            return result;
        if (got == 0)
            return CURLE_GOT_NOTHING;
        into->len += got;
    }
    return CURLE_OK;
}

static int status_of(const char *head)
{
    const char *space = strncmp(head, "HTTP/", 5) == 0 ? strchr(head, ' ') : NULL;
    int status = 0;
    for (int i = 1; i <= 3; i++) {
        if (space == NULL || space[i] < '0' || space[i] > '9')
            return -1;
        status = status * 10 + (space[i] - '0');
    }
    return status;
}

int http_raw_take_head(struct buf *from)
{
    const char *end = from->p != NULL ? memmem(from->p, from->len, "\r\n\r\n", 4) : NULL;
    if (end == NULL)
        return 0;
    size_t len = (size_t)(end - from->p) + 4;
    char *head = mem_strndup(from->p, len);
    int status = status_of(head);
    if (strcasestr(head, "\r\nTransfer-Encoding:") != NULL)
        status = -1;
    free(head);
    buf_consume(from, len);
    return status;
}
