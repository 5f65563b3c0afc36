/* http_server_socket.h - the listening socket of an HTTP server. */
#ifndef BUSBAR_CONNECTORS_HTTP_SERVER_SOCKET_H
#define BUSBAR_CONNECTORS_HTTP_SERVER_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/err.h"

enum { HTTP_ADDRESS_MAX = 80 };

/* Binds and listens on HOST:PORT or [ADDRESS]:PORT, non-blocking; `send_buffer` (bytes, 0: the
 * kernel's default) is inherited by every connection. Returns the socket, and where it really
 * listens; -1 with ERR_FATAL. */
int http_server_socket(const char *listen_on, size_t send_buffer, char address[HTTP_ADDRESS_MAX],
                       struct err *err);

/* Who is at the other end of a connection, as IP:PORT. */
void http_server_tell_peer(int fd, char address[HTTP_ADDRESS_MAX]);

/* Splits at the last colon; brackets around the host are taken off. False where there is no port,
 * or the host does not fit. */
bool http_server_split(const char *listen_on, char *host, size_t size, const char **port);

/* Raises the limit of open files as far as allowed, so that `wanted` connections fit; returns how
 * many do. */
unsigned http_server_raise_files(unsigned wanted);

#endif
