/* tls.c - GnuTLS for ten thousand clients: what they can share, they share. */
#include "tests/bench/fanout/tls.h"

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static gnutls_certificate_credentials_t credentials;
static gnutls_priority_t priorities;
static bool verifies;

void tls_init(const char *ca)
{
    gnutls_certificate_allocate_credentials(&credentials);
    gnutls_priority_init(&priorities, "NORMAL", NULL);
    verifies = ca != NULL;
    if (verifies &&
        gnutls_certificate_set_x509_trust_file(credentials, ca, GNUTLS_X509_FMT_PEM) <= 0) {
        fprintf(stderr, "clients: no certificate in %s\n", ca);
        exit(2);
    }
}

struct tls_session *tls_new(int fd)
{
    gnutls_session_t session;
    if (gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) != 0)
        abort();
    gnutls_priority_set(session, priorities);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
    if (verifies)
        gnutls_session_set_verify_cert(session, NULL, 0);
    gnutls_transport_set_int(session, fd);
    return (struct tls_session *)session;
}

void tls_free(struct tls_session **session)
{
    if (*session != NULL)
        gnutls_deinit((gnutls_session_t)*session);
    *session = NULL;
}

static int verdict(ssize_t rc)
{
    return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED ? TLS_AGAIN : TLS_BROKEN;
}

int tls_handshake(struct tls_session *session)
{
    int rc = gnutls_handshake((gnutls_session_t)session);
    return rc == 0 ? 0 : verdict(rc);
}

ssize_t tls_send(struct tls_session *session, const void *p, size_t len)
{
    ssize_t n = gnutls_record_send((gnutls_session_t)session, p, len);
    return n >= 0 ? n : verdict(n);
}

/* One record a call; those of a whole buffer are taken, so that epoll tells of the next. */
ssize_t tls_receive(struct tls_session *session, void *p, size_t max)
{
    size_t len = 0;
    do {
        ssize_t n = gnutls_record_recv((gnutls_session_t)session, (char *)p + len, max - len);
        if (n <= 0)
            return len > 0 ? (ssize_t)len : n == 0 ? 0 : verdict(n);
        len += (size_t)n;
    } while (len < max && gnutls_record_check_pending((gnutls_session_t)session) > 0);
    return (ssize_t)len;
}
