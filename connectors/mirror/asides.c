/* asides.c - what the mirror itself tells those who follow one source, beside its events. */
#include "connectors/mirror/asides.h"

#include <stdlib.h>

void asides_fini(struct asides *asides)
{
    for (size_t i = 0; asides->ring != NULL && i < ASIDES_MAX; i++)
        buf_fini(&asides->ring[i].frame);
    free(asides->ring);
    asides->ring = NULL;
}

struct aside *asides_add(struct asides *asides, uint64_t seq, const char *type)
{
    if (asides->ring == NULL)
        asides->ring = mem_zalloc(ASIDES_MAX * sizeof *asides->ring);
    struct aside *aside = &asides->ring[asides->next++ % ASIDES_MAX];
    aside->seq = seq;
    aside->type = type;
    buf_clear(&aside->frame);
    return aside;
}

const struct aside *asides_find(const struct asides *asides, uint64_t *number)
{
    if (*number + ASIDES_MAX < asides->next)
        *number = asides->next - ASIDES_MAX;
    return *number < asides->next ? &asides->ring[*number % ASIDES_MAX] : NULL;
}
