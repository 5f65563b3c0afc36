/* fuzz_redact.c - any paths, one a line, an empty line, any bytes: JSON is redacted as the plain
 * reading of the paths says; on anything else nothing happens but that it is replaced or passed. */
#include "tests/fuzz/redact_oracle.h"

#include <stdint.h>
#include <stdio.h>

enum { PATHS_MAX = 8, DATA_MAX = 4096 }; /* the oracle is slow on much that is deep */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Cuts the lines off `text` and terminates them; returns what follows the empty line. */
static char *take_paths(char *text, const char **items, struct setting_list *paths)
{
    char *p = text, *lf;
    paths->items = items;
    while (paths->n < PATHS_MAX && (lf = strchr(p, '\n')) != NULL && lf != p) {
        *lf = '\0';
        items[paths->n++] = p;
        p = lf + 1;
    }
    return *p == '\n' ? p + 1 : p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *items[PATHS_MAX];
    struct setting_list paths = {0};
    struct redact *redact = NULL;
    struct err err = {ERR_FATAL, ""};
    if (size > DATA_MAX)
        return 0;
    char *text = mem_strndup((const char *)data, size);
    char *rest = take_paths(text, items, &paths);
    bool good = redact_new(&redact, &paths, &err) == 0;
    if (good == (err.msg[0] != '\0') || (!good && err.kind != ERR_INPUT)) {
        fprintf(stderr, "redact: refused without a reason\n");
        abort();
    }
    /* In memory of its own, so that a byte read behind it is seen. */
    size_t len = size - (size_t)(rest - text);
    char *bytes = mem_alloc(len > 0 ? len : 1);
    memcpy(bytes, rest, len);
    const char *wrong =
        good ? redact_oracle_compare(redact, &paths, (struct str){bytes, len}) : NULL;
    if (wrong != NULL) {
        fprintf(stderr, "redact: %s\n", wrong);
        abort();
    }
    redact_free(&redact);
    free(bytes);
    free(text);
    return 0;
}
