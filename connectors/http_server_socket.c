/* http_server_socket.c - the listening socket of an HTTP server. */
#include "connectors/http_server_socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BACKLOG = 4096,     /* a whole fleet reconnects at once; the kernel caps it at somaxconn */
    FILES_RESERVE = 512 /* for journals, their readers, sinks and sources */
};

bool http_server_split(const char *listen_on, char *host, size_t size, const char **port)
{
    const char *colon = strrchr(listen_on, ':');
    if (colon == NULL)
        return false;
    size_t len = (size_t)(colon - listen_on);
    if (len >= 2 && listen_on[0] == '[' && colon[-1] == ']') {
        listen_on++;
        len -= 2;
    }
    if (len >= size)
        return false;
    memcpy(host, listen_on, len);
    host[len] = '\0';
    *port = colon + 1;
    return true;
}

static int open_one(const struct addrinfo *ai, size_t send_buffer)
{
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
    if (fd < 0)
        return -1;
    int on = 1;
    int bytes = (int)send_buffer;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bytes > 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static void write_address(const struct sockaddr_storage *ss, socklen_t len,
                          char address[HTTP_ADDRESS_MAX])
{
    char host[64] = "?";
    char port[8] = "?";
    if (len > 0)
        getnameinfo((const struct sockaddr *)ss, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(address, HTTP_ADDRESS_MAX, ss->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
             port);
}

static void tell_address(int fd, char address[HTTP_ADDRESS_MAX])
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    bool known = getsockname(fd, (struct sockaddr *)&ss, &len) == 0;
    write_address(&ss, known ? len : 0, address);
}

void http_server_tell_peer(int fd, char address[HTTP_ADDRESS_MAX])
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    bool known = getpeername(fd, (struct sockaddr *)&ss, &len) == 0;
    write_address(&ss, known ? len : 0, address);
}

int http_server_socket(const char *listen_on, size_t send_buffer, char address[HTTP_ADDRESS_MAX],
                       struct err *err)
{
    char host[256];
    const char *port;
    if (!http_server_split(listen_on, host, sizeof host, &port))
        return err_set(err, ERR_FATAL, "listen %s: not HOST:PORT", listen_on);

    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found);
    if (rc != 0)
        return err_set(err, ERR_FATAL, "listen %s: %s", listen_on, gai_strerror(rc));
    int fd = -1;
    for (const struct addrinfo *ai = found; ai != NULL && fd < 0; ai = ai->ai_next)
        fd = open_one(ai, send_buffer);
    int saved = errno;
    freeaddrinfo(found);
    if (fd < 0)
        return err_set(err, ERR_FATAL, "listen %s: %s", listen_on, strerror(saved));
    tell_address(fd, address);
    return fd;
}

unsigned http_server_raise_files(unsigned wanted)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return wanted;
    rlim_t need = (rlim_t)wanted + FILES_RESERVE;
    if (limit.rlim_cur < need) {
        limit.rlim_cur = need < limit.rlim_max ? need : limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur >= need)
        return wanted;
    unsigned possible = (unsigned)limit.rlim_cur;
    return possible > FILES_RESERVE + FILES_RESERVE / 2 ? possible - FILES_RESERVE : possible / 3;
}
