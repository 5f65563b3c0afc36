/* instance.c - who this instance is. */
#include "bridge/instance.h"

#include "bridge/base/buf.h"
#include "bridge/base/hash.h"
#include "bridge/journal_meta.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { INSTANCES_MAX = 256 };

/* What the file says, or what it is to say from now on. */
static int read_or_make(struct instance *in)
{
    char text[INSTANCE_ID_LEN + 2] = "";
    ssize_t n = pread(in->fd, text, INSTANCE_ID_LEN, 0);
    if (n < 0)
        return -1;
    if (n != INSTANCE_ID_LEN || strspn(text, "0123456789abcdef") != INSTANCE_ID_LEN) {
        snprintf(text, sizeof text, "%016" PRIx64 "\n", hash_random());
        if (ftruncate(in->fd, 0) < 0 || pwrite(in->fd, text, sizeof text - 1, 0) < 0 ||
            fsync(in->fd) < 0)
            return -1;
    }
    memcpy(in->id, text, INSTANCE_ID_LEN);
    in->id[INSTANCE_ID_LEN] = '\0';
    return 0;
}

/* 1: another process has it. */
static int take_file(struct instance *in, int dirfd, const char *name)
{
    in->fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (in->fd < 0)
        return -1;
    if (flock(in->fd, LOCK_EX | LOCK_NB) == 0)
        return read_or_make(in);
    int busy = errno == EWOULDBLOCK ? 1 : -1;
    instance_release(in);
    return busy;
}

int instance_take(struct instance *in, const char *dir, struct err *err)
{
    int dirfd = -1, rc = 1;
    in->fd = -1;
    if (journal_meta_open_dir(dir, &dirfd, err) != 0)
        return -1;
    for (int i = 0; i < INSTANCES_MAX && rc == 1; i++) {
        char name[32] = "busbar.instance";
        if (i > 0)
            snprintf(name, sizeof name, "busbar.instance.%d", i);
        rc = take_file(in, dirfd, name);
    }
    int why = errno;
    close(dirfd);
    if (rc == 0)
        return 0;
    instance_release(in);
    return err_set(err, ERR_FATAL, "%s/busbar.instance: %s", dir,
                   rc > 0 ? "too many processes share this directory" : strerror(why));
}

void instance_release(struct instance *in)
{
    if (in->fd >= 0)
        close(in->fd);
    in->fd = -1;
}
