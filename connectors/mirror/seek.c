/* seek.c - where in one journal a client begins that names an index.
 *
 * First backwards, in windows that are each read forwards, until enough of the newest messages are
 * known: all of them, or one, which tells the present epoch and index. Then, where an index was
 * named: while the index has never started over, the journal knows it by position; else positions
 * have not fallen with it, and the epoch's part of the journal is searched by halves. */
#include "connectors/mirror/seek.h"

#include <stdlib.h>

enum { WINDOW_LEAST = 256, WINDOW_MOST = 16384 }; /* events */

struct seek {
    struct journal_reader *reader;
    struct journal *journal;
    uint64_t index;
    uint64_t end;  /* of the journal, when it was asked: what comes later is told in any case */
    size_t wanted; /* of the newest messages; those behind `high` and those of this window: */
    size_t behind;
    size_t here;
    uint64_t oldest;              /* of those behind */
    uint64_t starts[SEEK_NEWEST]; /* of the newest `wanted` ones here */
    uint64_t low, high;           /* the window; later: the halves */
    uint64_t window;
    bool open;    /* the window has been begun */
    bool aligned; /* `low` is the start of a block */
    bool older;   /* an older epoch has been met */
    bool halves;
    struct {
        uint64_t seq, pos_index, index;
        uint32_t epoch;
    } newest; /* the newest message told; seq 0: not met yet */
};

const struct event *seek_told(const struct block *block, const struct journal_message *message)
{
    for (size_t i = 0; i < message->n_events; i++) {
        const struct event *e = &block->events[message->first_event + i];
        if (event_is_told(e))
            return e;
    }
    return NULL;
}

struct seek *seek_new(struct journal *journal, uint64_t index)
{
    struct seek *s = mem_zalloc(sizeof *s);
    s->journal = journal;
    s->reader = journal_reader_new(journal);
    s->index = index;
    s->wanted = index == 0 ? SEEK_NEWEST : 1;
    s->end = s->high = journal_next_seq(journal);
    s->window = WINDOW_LEAST;
    return s;
}

void seek_free(struct seek **seek)
{
    if (*seek == NULL)
        return;
    journal_reader_free(&(*seek)->reader);
    free(*seek);
    *seek = NULL;
}

/* ---- backwards ---- */

static void open_window(struct seek *s)
{
    uint64_t first = journal_first_seq(s->journal);
    s->low = s->high > first && s->high - first > s->window ? s->high - s->window : first;
    s->open = true;
    s->aligned = false;
    s->here = 0;
    journal_reader_seek(s->reader, s->low);
}

static void count(struct seek *s, const struct event *told, uint64_t seq)
{
    if (s->newest.seq > 0 && told->epoch < s->newest.epoch) {
        s->older = true;
        return;
    }
    if (s->newest.seq == 0 || told->epoch > s->newest.epoch) {
        s->older = s->newest.seq > 0;
        s->here = 0;
        s->newest.epoch = told->epoch;
    }
    s->starts[s->here++ % s->wanted] = seq;
    if (seq > s->newest.seq) {
        s->newest.seq = seq;
        s->newest.index = told->index;
        s->newest.pos_index = told->pos_index;
    }
}

static void count_block(struct seek *s, const struct block *block)
{
    if (!s->aligned)
        s->low = block->first_seq;
    s->aligned = true;
    for (size_t i = 0; i < block->n_messages; i++) {
        const struct journal_message *m = &block->messages[i];
        const struct event *told = seek_told(block, m);
        uint64_t seq = block->events[m->first_event].seq;
        if (told != NULL && seq < s->high)
            count(s, told, seq);
    }
}

/* The window has been read; true where no further one is needed. *from: the oldest wanted. */
static bool close_window(struct seek *s, uint64_t *from)
{
    s->open = false;
    if (s->behind + s->here >= s->wanted) {
        *from = s->starts[(s->here - (s->wanted - s->behind)) % s->wanted];
        return true;
    }
    if (s->here > 0)
        s->oldest = s->starts[0];
    s->behind += s->here;
    s->high = s->low;
    if (s->window < WINDOW_MOST)
        s->window *= 2;
    *from = s->behind > 0 ? s->oldest : s->end;
    return s->older || s->low <= journal_first_seq(s->journal);
}

/* ---- an index ---- */

static void start_at(const struct seek *s, uint64_t seq, struct seek_start *start)
{
    *start = (struct seek_start){
        .seq = seq < s->newest.seq ? seq : s->newest.seq,
        .skips = true,
        .epoch = s->newest.epoch,
        .index = s->index,
        .newest = s->newest.seq,
    };
}

static enum seek_step place(struct seek *s, uint64_t newest, struct seek_start *start)
{
    uint64_t end = s->newest.epoch == 0 ? s->newest.pos_index : s->newest.index;
    *start = (struct seek_start){.seq = newest};
    if (s->index == 0 || s->newest.seq == 0 || s->index > end)
        return SEEK_DONE;
    if (s->newest.epoch == 0) {
        journal_reader_seek_index(s->reader, s->index);
        start_at(s, journal_reader_seq(s->reader), start);
        return SEEK_DONE;
    }
    s->halves = true;
    s->low = journal_first_seq(s->journal);
    s->high = s->newest.seq;
    return SEEK_MORE;
}

/* True where the whole block lies before the index; where it does not say, false: what is passed
 * over later costs time only. */
static bool is_before(const struct seek *s, const struct block *block)
{
    for (size_t i = block->n_events; i-- > 0;) {
        const struct event *e = &block->events[i];
        if (e->epoch != s->newest.epoch)
            return e->epoch < s->newest.epoch;
        if (event_is_told(e))
            return e->index < s->index;
    }
    return false;
}

static enum seek_step halve(struct seek *s, struct seek_start *start, struct err *err)
{
    struct block *block;
    if (s->low >= s->high) {
        start_at(s, s->high, start);
        return SEEK_DONE;
    }
    uint64_t middle = s->low + (s->high - s->low) / 2;
    journal_reader_seek(s->reader, middle);
    switch (journal_reader_next(s->reader, 0, &block, err)) {
    case JOURNAL_BLOCK:
        if (is_before(s, block))
            s->low = block->first_seq + block->n_events;
        else
            s->high = block->first_seq;
        block_unref(&block);
        return SEEK_MORE;
    case JOURNAL_LOST:
        s->low = journal_reader_seq(s->reader);
        return SEEK_MORE;
    case JOURNAL_NOTHING:
    case JOURNAL_STOPPED:
        s->high = middle;
        return SEEK_MORE;
    case JOURNAL_ERROR:
        break;
    }
    return SEEK_FAILED;
}

enum seek_step seek_step(struct seek *s, struct seek_start *start, struct err *err)
{
    struct block *block;
    uint64_t from;
    bool over = true;
    if (s->halves)
        return halve(s, start, err);
    if (!s->open)
        open_window(s);
    switch (journal_reader_next(s->reader, 0, &block, err)) {
    case JOURNAL_BLOCK:
        count_block(s, block);
        block_unref(&block);
        over = journal_reader_seq(s->reader) >= s->high;
        break;
    case JOURNAL_LOST:
        over = journal_reader_seq(s->reader) >= s->high;
        break;
    case JOURNAL_NOTHING:
    case JOURNAL_STOPPED:
        break;
    case JOURNAL_ERROR:
        return SEEK_FAILED;
    }
    return over && close_window(s, &from) ? place(s, from, start) : SEEK_MORE;
}
