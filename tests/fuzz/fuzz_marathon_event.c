/* fuzz_marathon_event.c - a line with a frame's type, then any bytes as its data: what is found is
 * what jansson and the table say, what is refused has a reason and leaves nothing behind. */
#include "tests/fuzz/marathon_oracle.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "marathon_event: %s\n", what);
    abort();
}

/* The result is used again and again, as the connectors do. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct marathon_event event;
    struct err err = {0};
    const char *text = (const char *)data, *end = size > 0 ? memchr(text, '\n', size) : NULL;
    struct str type = {text, end != NULL ? (size_t)(end - text) : 0};
    struct str rest = {end != NULL ? end + 1 : text, end != NULL ? size - type.len - 1 : size};
    int got = marathon_event_read(&event, type, rest, &err);
    must(got == 0 || (err.msg[0] != '\0' && err.kind == ERR_INPUT), "no reason");
    must(got == 0 || event.found.type.p == NULL, "something is left");
    const char *wrong = marathon_oracle_compare(got == 0 ? &event.found : NULL, type, rest);
    must(wrong == NULL, wrong);
    return 0;
}
