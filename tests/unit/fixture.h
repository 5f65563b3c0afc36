/* fixture.h - reads a file of tests/fixtures/ whole, wherever the test was started. */
#ifndef BUSBAR_TESTS_FIXTURE_H
#define BUSBAR_TESTS_FIXTURE_H

#include "bridge/base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `name` as "nomad/capture.ndjson". A file that is not there ends the program. The caller calls
 * buf_fini. */
static inline struct buf fixture_read(const char *name)
{
    const char *here = __FILE__, *slash = strrchr(here, '/');
    struct buf path = {0}, bytes = {0};
    buf_printf(&path, "%.*s/../fixtures/%s", slash != NULL ? (int)(slash - here) : 1,
               slash != NULL ? here : ".", name);
    FILE *file = fopen(buf_cstr(&path), "rb");
    if (file == NULL) {
        perror(buf_cstr(&path));
        exit(1);
    }
    size_t got;
    while ((got = fread(buf_reserve(&bytes, 65536), 1, 65536, file)) > 0)
        bytes.len += got;
    fclose(file);
    buf_fini(&path);
    return bytes;
}

#endif
