/* http_stream_access.c - how a connection of libcurl's reaches a server.
 *
 * libcurl checks a certificate for the host of the URL, and has no option for another name. Where
 * one is wanted, it is put into the URL, and CURLOPT_CONNECT_TO leads the connection to the address
 * that was configured; so SNI is that name too. The Host header stays the address, as with Go's
 * clients and their ServerName. */
#include "connectors/http_stream_access.h"

#include <stdlib.h>
#include <string.h>

static bool is_set(const char *value)
{
    return value != NULL && value[0] != '\0';
}

/* HOST:PORT or HOST of a URL, without a user. */
static struct str authority_of(const char *url)
{
    const char *host = strstr(url, "://");
    host = host != NULL ? host + 3 : url;
    size_t len = strcspn(host, "/?#");
    const char *at = memrchr(host, '@', len);
    if (at == NULL)
        return (struct str){host, len};
    return (struct str){at + 1, len - (size_t)(at + 1 - host)};
}

static bool is_renamed(const struct http_request *request)
{
    return request->access != NULL && is_set(request->access->server_name) &&
           strncmp(request->url, "https://", 8) == 0;
}

/* ---- headers ---- */

static struct curl_slist *append(struct curl_slist *list, const char *text)
{
    struct curl_slist *longer = curl_slist_append(list, text);
    if (longer == NULL)
        abort(); /* out of memory */
    return longer;
}

/* RFC 4648, section 4. */
static void append_base64(struct buf *out, struct str raw)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < raw.len; i += 3) {
        unsigned char three[3] = {0};
        size_t n = raw.len - i < 3 ? raw.len - i : 3;
        memcpy(three, raw.p + i, n);
        buf_append_char(out, digits[three[0] >> 2]);
        buf_append_char(out, digits[(three[0] & 3) << 4 | three[1] >> 4]);
        buf_append_char(out, (char)(n > 1 ? digits[(three[1] & 15) << 2 | three[2] >> 6] : '='));
        buf_append_char(out, (char)(n > 2 ? digits[three[2] & 63] : '='));
    }
}

static struct curl_slist *append_basic(struct curl_slist *headers, const struct http_access *access)
{
    const char *password = access->password != NULL ? access->password : "";
    size_t size = strlen(access->user) + strlen(password) + 2;
    struct buf pair = {0}, header = {0};
    buf_reserve(&pair, size); /* at once, so that no copy is left behind unwiped */
    buf_reserve(&header, 2 * size + 64);
    buf_printf(&pair, "%s:%s", access->user, password);
    buf_append_cstr(&header, "Authorization: Basic ");
    append_base64(&header, buf_str(&pair));
    headers = append(headers, buf_cstr(&header));
    buf_wipe(&pair);
    buf_wipe(&header);
    return headers;
}

bool http_access_has_body(const struct http_request *request)
{
    static const char *const methods[] = {"POST", "PUT", "PATCH"};
    for (size_t i = 0; request->method != NULL && i < sizeof methods / sizeof *methods; i++)
        if (strcmp(request->method, methods[i]) == 0)
            return true;
    return request->body.len > 0;
}

struct curl_slist *http_access_headers(const struct http_request *request)
{
    struct curl_slist *headers = NULL;
    for (const char *const *h = request->headers; h != NULL && *h != NULL; h++)
        headers = append(headers, *h);
    if (is_renamed(request)) {
        struct str authority = authority_of(request->url);
        struct buf host = {0};
        buf_printf(&host, "Host: %.*s", (int)authority.len, authority.p);
        headers = append(headers, buf_cstr(&host));
        buf_fini(&host);
    }
    if (http_access_has_body(request)) {
        /* libcurl would call it a form, and wait for a "100 Continue" before a large one. A name
         * without a value keeps it from that, and the caller's own header stays. */
        headers = append(headers, "Content-Type:");
        headers = append(headers, "Expect:");
    }
    if (request->access != NULL && is_set(request->access->user))
        headers = append_basic(headers, request->access);
    return headers;
}

void http_access_free_headers(struct curl_slist *headers)
{
    for (struct curl_slist *h = headers; h != NULL; h = h->next)
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(headers);
}

/* ---- where to ---- */

/* "https://NAME:PORT/path" into `url`, "::HOST:PORT" into the list: from wherever to there. */
static struct curl_slist *rename_host(const struct http_request *request, struct buf *url)
{
    struct str authority = authority_of(request->url);
    const char *colon = memrchr(authority.p, ':', authority.len);
    const char *bracket = memrchr(authority.p, ']', authority.len);
    bool has_port = colon != NULL && (bracket == NULL || colon > bracket);
    struct str port = {authority.p + authority.len, 0};
    if (has_port)
        port = (struct str){colon, (size_t)(authority.p + authority.len - colon)};
    buf_printf(url, "https://%s", request->access->server_name);
    buf_append_str(url, port);
    buf_append_cstr(url, authority.p + authority.len);
    struct buf to = {0};
    buf_printf(&to, "::%.*s%s", (int)authority.len, authority.p, has_port ? "" : ":");
    struct curl_slist *list = append(NULL, buf_cstr(&to));
    buf_fini(&to);
    return list;
}

static void apply_tls(CURL *e, const struct http_access *access)
{
    if (is_set(access->ca)) {
        curl_easy_setopt(e, CURLOPT_CAINFO, access->ca);
        curl_easy_setopt(e, CURLOPT_CAPATH, NULL); /* not the system's besides */
        curl_easy_setopt(e, CURLOPT_CA_CACHE_TIMEOUT, 0L);
    }
    if (is_set(access->cert))
        curl_easy_setopt(e, CURLOPT_SSLCERT, access->cert);
    if (is_set(access->key)) {
        curl_easy_setopt(e, CURLOPT_SSLKEY, access->key);
        curl_easy_setopt(e, CURLOPT_KEYPASSWD, ""); /* else OpenSSL asks the terminal for one */
    }
}

static void apply_route(CURL *e, const struct http_access *access)
{
    if (is_set(access->unix_socket)) {
        curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, access->unix_socket);
        curl_easy_setopt(e, CURLOPT_PROXY, "");
    } else if (access->proxy != NULL) {
        curl_easy_setopt(e, CURLOPT_PROXY, access->proxy);
        curl_easy_setopt(e, CURLOPT_NOPROXY, "");
    }
}

struct curl_slist *http_access_apply(CURL *easy, const struct http_request *request)
{
    struct buf url = {0};
    struct curl_slist *connect_to = NULL;
    if (is_renamed(request)) {
        connect_to = rename_host(request, &url);
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, connect_to);
    } else {
        buf_append_cstr(&url, request->url);
    }
    curl_easy_setopt(easy, CURLOPT_URL, buf_cstr(&url));
    buf_fini(&url);
    if (request->access != NULL) {
        apply_tls(easy, request->access);
        apply_route(easy, request->access);
    }
    return connect_to;
}
