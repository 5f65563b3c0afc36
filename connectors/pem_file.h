/* pem_file.h - a file of certificates or of a key, read whole. */
#ifndef BUSBAR_CONNECTORS_PEM_FILE_H
#define BUSBAR_CONNECTORS_PEM_FILE_H

#include "bridge/base/buf.h"
#include "bridge/base/err.h"

/* At most 1 MiB of it, terminated; `what` names it in errors. ERR_FATAL where it can't be read or
 * has no part as RFC 7468, section 2, begins them. The caller wipes what may be a key. */
int pem_file_read(const char *what, const char *path, struct buf *out, struct err *err);

#endif
