/* bounded.c - bytes put together from parts up to a ceiling; past it only the beginning is kept. */
#include "connectors/bounded.h"

void bounded_init(struct bounded *b, size_t max)
{
    *b = (struct bounded){.max = max};
}

void bounded_fini(struct bounded *b)
{
    buf_fini(&b->bytes);
    b->size = 0;
    b->cut = false;
}

void bounded_clear(struct bounded *b)
{
    if (b->bytes.cap > BOUNDED_IDLE)
        buf_fini(&b->bytes);
    buf_clear(&b->bytes);
    b->size = 0;
    b->cut = false;
}

void bounded_omit(struct bounded *b, uint64_t n)
{
    b->size += n;
    b->cut = true;
}

/* What is there outgrew the ceiling: keeps its beginning, gives the memory behind it back. */
static void cut(struct bounded *b, size_t head)
{
    b->cut = true;
    if (b->bytes.len > head)
        b->bytes.len = head;
    if (b->bytes.cap > BOUNDED_IDLE) {
        b->bytes.p = mem_realloc(b->bytes.p, head);
        b->bytes.cap = head;
    }
}

void bounded_append(struct bounded *b, struct str part)
{
    b->size += part.len;
    if (b->cut)
        return;
    if (b->size <= b->max) {
        buf_append_str(&b->bytes, part);
        return;
    }
    /* It was not cut before: all that is there and `part` are more than max, so more than head. */
    size_t head = b->max < BOUNDED_HEAD ? b->max : BOUNDED_HEAD;
    cut(b, head);
    buf_append(&b->bytes, part.p, head - b->bytes.len);
}
