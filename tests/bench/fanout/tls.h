/* tls.h - a client's side of TLS over a socket that does not block (GnuTLS inside). */
#ifndef BUSBAR_FANOUT_TLS_H
#define BUSBAR_FANOUT_TLS_H

#include <stddef.h>
#include <sys/types.h>

struct tls_session;

/* Once, before all; `ca`: a PEM file that the server must be signed by (its name is not looked at),
 * NULL: any server is taken. */
void tls_init(const char *ca);
struct tls_session *tls_new(int fd);
void tls_free(struct tls_session **session);

enum { TLS_AGAIN = -1, TLS_BROKEN = -2 };
/* 0: done; TLS_AGAIN, TLS_BROKEN. */
int tls_handshake(struct tls_session *session);
/* As send() and recv(): bytes, 0 at the end, TLS_AGAIN, TLS_BROKEN. */
ssize_t tls_send(struct tls_session *session, const void *p, size_t len);
ssize_t tls_receive(struct tls_session *session, void *p, size_t max);

#endif
