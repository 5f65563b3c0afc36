/* http_stream_failure.c - puts into words why there was no connection, or why it broke off.
 *
 * The texts looked for are libcurl's (7.88: lib/vtls/openssl.c, lib/http_proxy.c) and OpenSSL's
 * names of TLS alerts (RFC 8446, section 6.2). With TLS 1.3 a server refuses a client's certificate
 * after the handshake: it is then an error of the first read, or of the first write, which comes
 * before the alert can be read (two times of three, with Go's server and a certificate of another
 * CA). */
#include "connectors/http_stream_failure.h"

#include <string.h>

enum { REASON_BYTES = 160 };

struct http_failure http_failure_expect(const struct http_request *request, int connect_timeout_ms)
{
    const struct http_access none = {0};
    const struct http_access *access = request->access != NULL ? request->access : &none;
    return (struct http_failure){
        .detail = "",
        .connect_timeout_ms = connect_timeout_ms,
        .tls = strncmp(request->url, "https://", 8) == 0,
        .has_ca = access->ca != NULL,
        .has_cert = access->cert != NULL,
        .has_proxy = access->proxy != NULL && access->proxy[0] != '\0',
        .has_socket = access->unix_socket != NULL,
    };
}

static bool says(const struct http_failure *f, const char *what)
{
    return strstr(f->detail, what) != NULL;
}

static const char *words(const struct http_failure *f)
{
    return f->detail[0] != '\0' ? f->detail : curl_easy_strerror(f->result);
}

/* What the system said, or curl where the system was not asked. */
static const char *system_reason(const struct http_failure *f)
{
    return f->system_errno != 0 ? strerrordesc_np(f->system_errno) : words(f);
}

/* ---- TLS ---- */

/* OpenSSL's reason, without its numbers. */
static const char *tls_reason(const struct http_failure *f, char out[REASON_BYTES])
{
    static const char before[] = "SSL routines::";
    const char *reason = strstr(f->detail, before);
    reason = reason != NULL ? reason + sizeof before - 1 : words(f);
    snprintf(out, REASON_BYTES, "%.*s", (int)strcspn(reason, ","), reason);
    return out;
}

/* Did the server refuse the client's certificate, or miss it? */
static bool is_refused_client(const struct http_failure *f)
{
    static const char *const refused[] = {
        "alert bad certificate", "alert certificate required",    "alert unknown ca",
        "alert certificate ",    "alert unsupported certificate",
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (says(f, refused[i]))
            return true;
    return false;
}

static const char *client_hint(const struct http_failure *f)
{
    return f->has_cert ? "is `tls_cert` signed by the server's CA, not expired, and for clients?"
                       : "set `tls_cert` and `tls_key`";
}

static int say_refused_client(const struct http_failure *f, struct err *err)
{
    char reason[REASON_BYTES];
    return err_set(err, ERR_RETRY, "the server %s (tls: %s): %s",
                   f->has_cert ? "does not accept the client certificate"
                               : "wants a client certificate",
                   tls_reason(f, reason), client_hint(f));
}

/* Maybe for the same reason. */
static int say_broken_off(const struct http_failure *f, struct err *err)
{
    if (!f->tls || f->answered)
        return err_set(err, ERR_RETRY, "the connection broke off: %s", system_reason(f));
    return err_set(err, ERR_RETRY,
                   "the connection broke off before the answer (%s): does the server %s "
                   "client certificate? If so, %s",
                   system_reason(f), f->has_cert ? "not accept the" : "want a", client_hint(f));
}

static int say_untrusted(const struct http_failure *f, struct err *err)
{
    const char *why = words(f);
    if (says(f, "subject name"))
        return err_set(err, ERR_RETRY,
                       "the server's certificate is for another name (%s): name that in "
                       "`tls_server_name` (a Nomad's is like server.global.nomad)",
                       why);
    if (says(f, "expired") || says(f, "not yet valid"))
        return err_set(err, ERR_RETRY, "the server's certificate is not valid now (%s)", why);
    if (f->has_ca)
        return err_set(err, ERR_RETRY,
                       "the server's certificate is not trusted (%s): was it signed by another CA "
                       "than that in `tls_ca`?",
                       why);
    return err_set(err, ERR_RETRY,
                   "the server's certificate is not trusted (%s): name its CA's file in `tls_ca`, "
                   "or add it to the system's",
                   why);
}

static int say_own_certificate(const struct http_failure *f, struct err *err)
{
    return err_set(err, ERR_RETRY,
                   "the client certificate can't be used (%s): is `tls_key` the key of "
                   "`tls_cert`, both PEM, without a passphrase?",
                   words(f));
}

/* ---- the proxy ---- */

/* It answered something else than 200 to CONNECT. */
static bool is_refused_by_proxy(const struct http_failure *f)
{
    return says(f, "CONNECT tunnel failed") || says(f, "from proxy after CONNECT");
}

static int say_refused_by_proxy(const struct http_failure *f, struct err *err)
{
    if (says(f, "407"))
        return err_set(err, ERR_RETRY,
                       "the proxy wants other credentials (407): set them in `proxy`, as "
                       "http://USER:PASSWORD@HOST:PORT");
    return err_set(err, ERR_RETRY, "the proxy does not let through, or finds no server (%s)",
                   words(f));
}

/* ---- the rest ---- */

static int say_not_connected(const struct http_failure *f, struct err *err)
{
    const char *hint = f->has_socket  ? "is that path the socket of a running server?"
                       : f->has_proxy ? "is the `proxy` up, and its port right?"
                                      : "is the server up, and the port right?";
    return err_set(err, ERR_RETRY, "can't connect%s: %s: %s", f->has_proxy ? " to the proxy" : "",
                   system_reason(f), hint);
}

static int say_too_late(const struct http_failure *f, struct err *err)
{
    return err_set(err, ERR_RETRY, "no connection within %d ms: %s", f->connect_timeout_ms,
                   says(f, "SSL")
                       ? "the TLS handshake got no answer; a port that speaks plain http needs "
                         "http://"
                       : "is the host up, is a firewall in between?");
}

static int say_connect_failure(const struct http_failure *f, struct err *err)
{
    char reason[REASON_BYTES];
    switch ((int)f->result) { /* the rest of curl's hundred codes has curl's own words */
    case CURLE_COULDNT_RESOLVE_HOST:
        return err_set(err, ERR_RETRY, "the host name can't be resolved: check the name and DNS");
    case CURLE_COULDNT_RESOLVE_PROXY:
        return err_set(err, ERR_RETRY,
                       "the proxy's name can't be resolved: check `proxy`, or http_proxy and "
                       "https_proxy in the environment");
    case CURLE_COULDNT_CONNECT:
        return say_not_connected(f, err);
    case CURLE_OPERATION_TIMEDOUT:
        return say_too_late(f, err);
    case CURLE_SSL_CONNECT_ERROR:
        return err_set(err, ERR_RETRY,
                       "the TLS handshake failed (%s): a port that speaks plain http needs http://",
                       tls_reason(f, reason));
    case CURLE_PEER_FAILED_VERIFICATION:
        return say_untrusted(f, err);
    case CURLE_SSL_CERTPROBLEM:
        return say_own_certificate(f, err);
    case CURLE_SSL_CACERT_BADFILE:
        return err_set(err, ERR_RETRY, "`tls_ca` can't be read (%s)", words(f));
    default:
        return err_set(err, ERR_RETRY, "%s", words(f));
    }
}

int http_failure_say(const struct http_failure *f, struct err *err)
{
    if (is_refused_client(f))
        return say_refused_client(f, err);
    if (is_refused_by_proxy(f))
        return say_refused_by_proxy(f, err);
    switch ((int)f->result) {
    case CURLE_GOT_NOTHING:
        return err_set(err, ERR_RETRY, "the connection was closed without an answer%s",
                       f->tls ? "" : ": does the port speak https?");
    case CURLE_PARTIAL_FILE:
        return err_set(err, ERR_RETRY, "the connection broke off in the middle of the answer");
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        return say_broken_off(f, err);
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        return err_set(err, ERR_RETRY, "the port does not answer in HTTP/1 (%s)", f->detail);
    default:
        return say_connect_failure(f, err);
    }
}
