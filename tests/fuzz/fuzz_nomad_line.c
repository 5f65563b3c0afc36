/* fuzz_nomad_line.c - any bytes as a line: what is read in it is what jansson reads, a line that is
 * refused has a reason and leaves nothing behind. */
#include "tests/fuzz/nomad_oracle.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "nomad_line: %s\n", what);
    abort();
}

/* The result is used again and again, as the connector does. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct nomad_line line;
    struct err err = {0};
    struct str raw = {(const char *)data, size};
    if (nomad_line_parse(&line, raw, &err) < 0) {
        must(err.msg[0] != '\0' && err.kind == ERR_INPUT, "no reason");
        must(line.n_events == 0 && !line.heartbeat, "something is left");
        return 0;
    }
    const char *wrong = nomad_oracle_compare(&line, raw);
    must(wrong == NULL, wrong);
    return 0;
}
