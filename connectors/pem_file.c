/* pem_file.c - a file of certificates or of a key, read whole. */
#include "connectors/pem_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PEM_MAX = 1 << 20 };

int pem_file_read(const char *what, const char *path, struct buf *out, struct err *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return err_set(err, ERR_FATAL, "%s %s: %s", what, path, strerror(errno));
    out->len = fread(buf_reserve(out, PEM_MAX), 1, PEM_MAX - 1, file);
    int saved = ferror(file) != 0 ? errno : 0;
    fclose(file);
    if (saved != 0)
        return err_set(err, ERR_FATAL, "%s %s: %s", what, path, strerror(saved));
    if (out->len == 0 || memmem(out->p, out->len, "-----BEGIN", 10) == NULL)
        return err_set(err, ERR_FATAL, "%s %s: not a PEM file", what, path);
    return 0;
}
