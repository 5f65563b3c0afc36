/* fuzz_json_scan.c - any bytes: json_scan says and reads what jansson says and reads. */
#include "tests/fuzz/json_oracle.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *wrong = json_oracle_compare((struct str){(const char *)data, size});
    if (wrong != NULL) {
        fprintf(stderr, "json_scan and jansson: %s\n", wrong);
        abort();
    }
    return 0;
}
