/* stop.c - an eventfd that stays readable. */
#include "bridge/base/stop.h"

#include "bridge/base/buf.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct stop {
    atomic_bool requested;
    int fd;
};

struct stop *stop_new(void)
{
    struct stop *stop = mem_zalloc(sizeof *stop);
    stop->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop->fd < 0)
        abort();
    return stop;
}

void stop_free(struct stop **stop)
{
    if (*stop == NULL)
        return;
    close((*stop)->fd);
    free(*stop);
    *stop = NULL;
}

void stop_request(struct stop *stop)
{
    atomic_store(&stop->requested, true);
    eventfd_write(stop->fd, 1);
}

bool stop_requested(const struct stop *stop)
{
    return atomic_load(&stop->requested);
}

bool stop_wait(struct stop *stop, int timeout_ms)
{
    struct pollfd p = {.fd = stop->fd, .events = POLLIN};
    if (!stop_requested(stop))
        poll(&p, 1, timeout_ms);
    return stop_requested(stop);
}

int stop_fd(const struct stop *stop)
{
    return stop->fd;
}
