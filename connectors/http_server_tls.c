/* http_server_tls.c - the certificate that an HTTP server shows, and records of TLS.
 *
 * Every session is given its credentials when it begins, so that another certificate is shown from
 * one connection to the next; those that run keep theirs, each counted. Files are noticed by what
 * stat tells. Who renews them writes one after the other: they are read when they have not changed
 * for a look, and again at the next change, whatever came of it. */
#include "connectors/http_server_tls.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/pem_file.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct http_tls_shown {
    gnutls_certificate_credentials_t credentials;
    size_t users; /* the server itself, while it is the newest, and sessions */
};

/* How a file is known again; all zero: it is not there. Zeroed before it is filled, for memcmp. */
struct mark {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec modified, changed;
};

struct marks {
    struct mark certificate, key;
};

struct http_tls {
    const char *certificate_path, *key_path;
    struct buf certificate, key;
    struct http_tls_shown *newest;
    struct marks tried; /* read last, for good or bad */
    struct marks seen;  /* at the last look */
};

/* ---- the files ---- */

static void mark_file(const char *path, struct mark *mark)
{
    struct stat st;
    memset(mark, 0, sizeof *mark);
    if (stat(path, &st) != 0)
        return;
    mark->dev = st.st_dev;
    mark->ino = st.st_ino;
    mark->size = st.st_size;
    mark->modified = st.st_mtim;
    mark->changed = st.st_ctim;
}

static void mark_both(const struct http_tls *tls, struct marks *marks)
{
    mark_file(tls->certificate_path, &marks->certificate);
    mark_file(tls->key_path, &marks->key);
}

static int make_credentials(const struct http_tls *tls, struct buf *certificate, struct buf *key,
                            gnutls_certificate_credentials_t *out, struct err *err)
{
    gnutls_datum_t cert_datum = {(unsigned char *)certificate->p, (unsigned)certificate->len};
    gnutls_datum_t key_datum = {(unsigned char *)key->p, (unsigned)key->len};
    if (gnutls_certificate_allocate_credentials(out) != 0)
        abort();
    int rc = gnutls_certificate_set_x509_key_mem2(*out, &cert_datum, &key_datum,
                                                  GNUTLS_X509_FMT_PEM, NULL, 0);
    if (rc >= 0)
        return 0;
    gnutls_certificate_free_credentials(*out);
    return err_set(err, ERR_FATAL, "certificate %s and key %s: can't be used together: %s",
                   tls->certificate_path, tls->key_path, gnutls_strerror(rc));
}

/* Reads both and shows them from now on. */
static int take_files(struct http_tls *tls, struct buf *certificate, struct buf *key,
                      struct err *err)
{
    gnutls_certificate_credentials_t credentials;
    if (pem_file_read("certificate", tls->certificate_path, certificate, err) != 0 ||
        pem_file_read("key", tls->key_path, key, err) != 0 ||
        make_credentials(tls, certificate, key, &credentials, err) != 0)
        return -1;
    http_tls_leave(&tls->newest);
    tls->newest = mem_zalloc(sizeof *tls->newest);
    tls->newest->credentials = credentials;
    tls->newest->users = 1;
    return 0;
}

/* Until when the certificate is good, as text; "" where it can't be told. */
static void tell_end(gnutls_certificate_credentials_t credentials, char out[CLOCK_TEXT_MAX])
{
    gnutls_x509_crt_t *chain;
    unsigned n = 0;
    out[0] = '\0';
    if (gnutls_certificate_get_x509_crt(credentials, 0, &chain, &n) != 0)
        return;
    if (n > 0)
        clock_format(gnutls_x509_crt_get_expiration_time(chain[0]) * 1000000, out);
    for (unsigned i = 0; i < n; i++)
        gnutls_x509_crt_deinit(chain[i]);
    gnutls_free(chain);
}

static void take_again(struct http_tls *tls)
{
    struct buf certificate = {0};
    struct buf key = {0};
    struct err err;
    char end[CLOCK_TEXT_MAX];
    if (take_files(tls, &certificate, &key, &err) == 0) {
        tell_end(tls->newest->credentials, end);
        log_info("tls_renewed", LOG_STR("certificate", tls->certificate_path),
                 LOG_STR("valid_until", end));
    } else {
        log_warn("tls_not_renewed", LOG_STR("err", err.msg), LOG_STR("shown", "the former"));
    }
    buf_fini(&certificate);
    buf_wipe(&key);
}

void http_tls_look(struct http_tls *tls)
{
    struct marks now;
    mark_both(tls, &now);
    bool rests = memcmp(&now, &tls->seen, sizeof now) == 0;
    tls->seen = now;
    if (!rests || memcmp(&now, &tls->tried, sizeof now) == 0)
        return;
    tls->tried = now;
    take_again(tls);
}

/* ---- open and close ---- */

int http_tls_open(struct http_tls **out, const char *certificate, const char *key, struct err *err)
{
    struct http_tls *tls = mem_zalloc(sizeof *tls);
    tls->certificate_path = certificate;
    tls->key_path = key;
    mark_both(tls, &tls->tried); /* before they are read: what is written meanwhile is noticed */
    tls->seen = tls->tried;
    *out = tls;
    if (take_files(tls, &tls->certificate, &tls->key, err) == 0)
        return 0;
    http_tls_close(out);
    return -1;
}

void http_tls_close(struct http_tls **tls)
{
    if (*tls == NULL)
        return;
    http_tls_leave(&(*tls)->newest);
    buf_fini(&(*tls)->certificate);
    buf_wipe(&(*tls)->key);
    free(*tls);
    *tls = NULL;
}

const char *http_tls_first_certificate(struct http_tls *tls)
{
    return buf_cstr(&tls->certificate);
}

const char *http_tls_first_key(struct http_tls *tls)
{
    return buf_cstr(&tls->key);
}

/* ---- sessions ---- */

struct http_tls_shown *http_tls_enter(struct http_tls *tls, void *session)
{
    if (gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->newest->credentials) != 0)
        return NULL; /* it has those of the start */
    tls->newest->users++;
    return tls->newest;
}

void http_tls_leave(struct http_tls_shown **shown)
{
    struct http_tls_shown *s = *shown;
    *shown = NULL;
    if (s == NULL || --s->users > 0)
        return;
    gnutls_certificate_free_credentials(s->credentials);
    free(s);
}

/* ---- records ---- */

enum http_tls_sent http_tls_send(void *session, const char *p, size_t len, size_t *taken)
{
    ssize_t n;
    do
        n = gnutls_record_send(session, p, len);
    while (n == GNUTLS_E_INTERRUPTED);
    *taken = n >= 0 ? (size_t)n : 0;
    return n >= 0 ? HTTP_TLS_SENT : n == GNUTLS_E_AGAIN ? HTTP_TLS_FULL : HTTP_TLS_BROKEN;
}

enum http_tls_sent http_tls_flush(void *session, size_t *taken)
{
    return http_tls_send(session, NULL, 0, taken);
}
