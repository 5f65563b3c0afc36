/* clients_sweep.c - those who are behind the ring, and the pages that they share.
 *
 * Pages are read in sweeps through the journals, each for all who are at it, so that ten thousand
 * who come back at once read them once or twice, not ten thousand times. Whoever took a page's
 * share waits for the next one, which is next in the sweep: those who keep up travel along with it.
 * A turn of the loop sends so much of pages and no more, as the newest events go first in each. */
#include "connectors/mirror/client.h"

enum {
    SWEEP_BYTES = 48 << 20, /* offered per turn, of which sockets take some third … */
    SWEEP_LOADS = 4,        /* … of at most so many pages that had to be read */
    LOOK_SHARE = 2,
};

void client_wait(struct client *c)
{
    struct clients *all = c->all;
    if (c->waiting.owner != NULL)
        return;
    list_add(&all->waiting, &c->waiting, c);
    if (all->waiting.first == all->waiting.last && all->o.work != NULL)
        all->o.work(all->o.work_arg);
}

void client_page_over(struct client *c, const struct page *page)
{
    c->after_us = page->to_us;
    c->cursor = (struct ring_cursor){0};
    c->ticket = false;
}

static bool is_nearer(const struct clients *all, const struct client *c, const struct client *than)
{
    if (than == NULL)
        return true;
    bool ahead = c->after_us >= all->sweep_us, than_ahead = than->after_us >= all->sweep_us;
    return ahead != than_ahead ? ahead : c->after_us < than->after_us;
}

/* The next to the sweep's place, or the first of all where none is ahead; NULL: nobody waits. */
static struct client *next_waiting(const struct clients *all)
{
    struct client *next = NULL;
    for (const struct list_item *item = all->waiting.first; item != NULL; item = item->next)
        if (is_nearer(all, item->owner, next))
            next = item->owner;
    return next;
}

/* Gives its turn to one who is at this page; returns how many bytes that may be. To look at what
 * one skips costs some of what it would cost to send it. */
static size_t give_page(struct client *c, struct page *page)
{
    const struct chunk *chunk = &page->chunk;
    const struct verdict *v = chunk_judge(&page->chunk, &c->group->wish);
    size_t place = pages_place(page, c->after_us);
    size_t rest = place < chunk->n ? chunk->frames.len - chunk->entries[place].start : 0;
    bool own = c->own != NULL;
    c->cursor = (struct ring_cursor){page->number, place};
    c->cursor.frame = client_next_frame(c, chunk, v);
    if (c->cursor.frame == chunk->n) { /* nothing of it is for him */
        client_page_over(c, page);
        if (ring_seek(c->all->feed->ring, c->after_us, &c->cursor)) {
            list_remove(&c->all->waiting, &c->waiting);
            c->state = CLIENT_RING;
            http_stream_wake(c->stream);
        }
        return own ? rest / LOOK_SHARE : 0;
    }
    list_remove(&c->all->waiting, &c->waiting);
    c->ticket = true;
    http_stream_wake(c->stream);
    return chunk->frames.len - chunk->entries[c->cursor.frame].start;
}

static size_t give_page_to_all(struct clients *all, struct page *page, size_t bytes_max)
{
    size_t bytes = 0;
    for (struct list_item *next, *item = all->waiting.first; item != NULL && bytes < bytes_max;
         item = next) {
        struct client *c = item->owner;
        next = item->next;
        if (page->after_us <= c->after_us && c->after_us < page->to_us)
            bytes += give_page(c, page);
    }
    return bytes;
}

bool clients_sweep(struct clients *all)
{
    size_t loads = 0;
    struct client *c;
    for (size_t bytes = 0; bytes < SWEEP_BYTES && (c = next_waiting(all)) != NULL;) {
        struct page *page = pages_find(all->pages, c->after_us);
        all->sweep_us = c->after_us;
        if (page == NULL) {
            bool failed = false;
            if (loads++ == SWEEP_LOADS)
                break;
            page = pages_load(all->pages, c->after_us, &failed);
            metrics_set(all->metrics, METRIC_PAGES_READ, pages_loaded(all->pages));
            if (failed)
                return false;
        }
        if (page == NULL) { /* there is nothing any more: the ring has what comes */
            list_remove(&all->waiting, &c->waiting);
            c->after_us = all->feed->fed_us;
            http_stream_wake(c->stream);
            continue;
        }
        bytes += give_page_to_all(all, page, SWEEP_BYTES - bytes);
    }
    return true;
}
