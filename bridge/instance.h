/* instance.h - who this instance is: an id that it keeps over restarts, in a file beside its
 * journals. */
#ifndef BUSBAR_INSTANCE_H
#define BUSBAR_INSTANCE_H

#include "bridge/base/err.h"

enum { INSTANCE_ID_LEN = 16 };

struct instance {
    char id[INSTANCE_ID_LEN + 1]; /* 16 hex digits */
    int fd;                       /* holds the file's lock; -1: none */
};

/* Takes the id in DIR/busbar.instance, or makes it; where a process that runs has it (two instances
 * with different sources may share a directory), the one in DIR/busbar.instance.1, and so on. Makes
 * DIR where it is missing. ERR_FATAL where that can't be. */
int instance_take(struct instance *instance, const char *dir, struct err *err);
void instance_release(struct instance *instance);

#endif
