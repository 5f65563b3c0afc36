/* resume.c - going on in one journal where an id of another one ends.
 *
 * The index of an id means the same here only where this journal followed the source at the time of
 * the id (an event from then, or up to the overlap later, in the id's epoch). From then on a Gap,
 * or another epoch, shows in the journal that the index may have been left: it is read from there,
 * and the skipping ends at either.
 *
 * A Marathon's index is a time, and each who listens is told another order: there nothing is
 * skipped, and it begins some seconds before that time, by Marathon's own clock. */
#include "connectors/mirror/resume.h"

static const char GAP_NOT_HELD[] = "the index that the id names is not in this journal";

/* An event of the journal, without its strings. */
struct mark {
    bool found;
    struct event event;
};

static bool is_of_stream(const struct event *event)
{
    return event->origin == EVENT_SOURCE || event->origin == EVENT_MALFORMED;
}

static bool is_at_or_past(const struct event *event, uint32_t epoch, uint64_t index)
{
    if (event->epoch != epoch)
        return event->epoch > epoch;
    return frame_index(event) >= index;
}

/* ---- looking at the journal ---- */

/* The first event that has all of this. */
struct match {
    uint64_t seq;
    uint64_t pos_index;
    uint32_t epoch;
    int64_t arrival_us;
    int64_t until_us; /* looks no further; 0: to the end */
};

static bool is_match(const struct event *event, const struct match *match)
{
    return event->seq >= match->seq && event->pos_index >= match->pos_index &&
           event->epoch >= match->epoch && event->arrival_us >= match->arrival_us;
}

/* True where the search has ended, in a mark or without. */
static bool search_block(const struct block *block, const struct match *match, struct mark *mark)
{
    for (size_t i = 0; i < block->n_events; i++) {
        const struct event *event = &block->events[i];
        if (match->until_us > 0 && event->arrival_us > match->until_us)
            return true;
        if (is_match(event, match)) {
            *mark = (struct mark){true, *event};
            return true;
        }
    }
    return false;
}

/* From the reader on. */
static int find(struct journal_reader *reader, const struct match *match, struct mark *mark,
                struct err *err)
{
    bool ended = false;
    *mark = (struct mark){0};
    while (!ended) {
        struct block *block = NULL;
        enum journal_read got = journal_reader_next(reader, 0, &block, err);
        if (got == JOURNAL_ERROR)
            return -1;
        if (got == JOURNAL_BLOCK)
            ended = search_block(block, match, mark);
        else
            ended = got != JOURNAL_LOST;
        block_unref(&block);
    }
    return 0;
}

/* What is looked for, and where the journal was at the time of the id. */
struct wanted {
    const struct frame_id *id;
    int64_t since_us; /* the id's arrival, less the overlap … */
    int64_t until_us; /* … and with it */
};

struct view {
    struct mark oldest; /* of all */
    struct mark begin;  /* the first of the stream, if it is in the oldest block, else as oldest */
    struct mark then;   /* the first in the id's epoch since its time; else any, or the newest */
    struct mark at;     /* the first whose position has the id's index */
};

static int find_begin(struct journal_reader *reader, struct view *view, struct err *err)
{
    struct block *block = NULL;
    enum journal_read got;
    do
        got = journal_reader_next(reader, 0, &block, err);
    while (got == JOURNAL_LOST);
    for (size_t i = 0; got == JOURNAL_BLOCK && i < block->n_events; i++) {
        const struct event *event = &block->events[i];
        if (i == 0)
            view->oldest = view->begin = (struct mark){true, *event};
        if (is_of_stream(event)) {
            view->begin.event = *event;
            break;
        }
    }
    block_unref(&block);
    return got == JOURNAL_ERROR ? -1 : 0;
}

/* The other may have noticed some seconds earlier that the index had started over. */
static int find_then(struct journal_reader *reader, uint64_t newest, const struct wanted *wanted,
                     struct mark *then, struct err *err)
{
    struct match match = {.arrival_us = wanted->since_us};
    journal_reader_seek_arrival(reader, match.arrival_us);
    if (find(reader, &match, then, err) != 0)
        return -1;
    if (!then->found) {
        match = (struct match){.seq = newest};
        journal_reader_seek(reader, newest);
        return find(reader, &match, then, err);
    }
    if (then->event.epoch >= wanted->id->epoch)
        return 0;
    struct mark later;
    match.epoch = wanted->id->epoch;
    match.until_us = wanted->until_us;
    journal_reader_seek(reader, then->event.seq);
    if (find(reader, &match, &later, err) != 0)
        return -1;
    if (later.found)
        *then = later;
    return 0;
}

static int look(struct journal *journal, const struct wanted *wanted, struct view *view,
                struct err *err)
{
    struct journal_reader *reader = journal_reader_new(journal);
    uint64_t newest = journal_next_seq(journal) - 1;
    struct match at = {.pos_index = wanted->id->index};
    *view = (struct view){0};
    int rc = find_begin(reader, view, err);
    if (rc == 0 && view->oldest.found)
        rc = find_then(reader, newest, wanted, &view->then, err);
    if (rc == 0 && view->then.found) {
        journal_reader_seek_index(reader, at.pos_index);
        rc = find(reader, &at, &view->at, err);
    }
    journal_reader_free(&reader);
    return rc;
}

/* The journal begins below the index, and the index means the same in it. */
static bool is_known(const struct view *view, const struct wanted *wanted)
{
    const struct frame_id *id = wanted->id;
    if (!view->then.found || view->then.event.epoch != id->epoch)
        return false;
    const struct event *begin = &view->begin.event;
    if (is_at_or_past(begin, id->epoch, id->index) ||
        (begin->epoch == id->epoch && id->epoch > 0 && !is_of_stream(begin)))
        return false;
    if (view->oldest.event.arrival_us <= wanted->until_us)
        return true;
    return id->epoch == 0 && view->at.found;
}

/* When the last event of the stream in seqs from..to arrived; *last_us stays where there is none.
 */
static int find_last(struct journal_reader *reader, uint64_t from, uint64_t to, int64_t *last_us,
                     struct err *err)
{
    journal_reader_seek(reader, from);
    for (;;) {
        struct block *block = NULL;
        enum journal_read got = journal_reader_next(reader, 0, &block, err);
        if (got == JOURNAL_LOST)
            continue;
        if (got != JOURNAL_BLOCK)
            return got == JOURNAL_ERROR ? -1 : 0;
        bool ended = block->first_seq + block->n_events > to;
        for (size_t i = 0; i < block->n_events && block->events[i].seq < to; i++)
            if (block->events[i].seq >= from && is_of_stream(&block->events[i]))
                *last_us = block->events[i].arrival_us;
        block_unref(&block);
        if (ended)
            return 0;
    }
}

/* Behind the last event of the stream before `to`, so that a Gap in between is told. */
static int find_behind(struct journal *journal, struct journal_reader *reader, uint64_t to,
                       int64_t *from_us, struct err *err)
{
    uint64_t first = journal_first_seq(journal);
    int64_t last_us = 0;
    for (uint64_t back = 64; last_us == 0; back *= 16) {
        uint64_t from = to > first + back ? to - back : first;
        if (find_last(reader, from, to, &last_us, err) != 0)
            return -1;
        if (from == first)
            break;
    }
    *from_us = last_us + 1;
    return 0;
}

/* Begins where the journal's positions, which are times in ms, reach the id's, less the overlap. */
static int find_time(struct journal *journal, const struct frame_id *id, int64_t *from_us,
                     struct err *err)
{
    uint64_t overlap_ms = MERGE_OVERLAP_US / 1000;
    uint64_t next = journal_next_seq(journal);
    struct match match = {.pos_index = id->index > overlap_ms ? id->index - overlap_ms : 1};
    struct journal_reader *reader = journal_reader_new(journal);
    struct view view = {0};
    int rc = find_begin(reader, &view, err);
    const struct event *begin = &view.begin.event;
    if (rc == 0 && view.begin.found && is_of_stream(begin) && begin->pos_index < match.pos_index) {
        journal_reader_seek_index(reader, match.pos_index);
        rc = find(reader, &match, &view.at, err);
        if (rc == 0)
            rc = find_behind(journal, reader, view.at.found ? view.at.event.seq : next, from_us,
                             err);
    }
    journal_reader_free(&reader);
    return rc;
}

int resume_find(const struct mirror_source *source, const struct frame_id *id,
                struct resume *resume, int64_t *from_us, struct err *err)
{
    int64_t since_us = resume->since_us;
    struct wanted wanted = {id, since_us, since_us + 2 * (int64_t)MERGE_OVERLAP_US};
    struct view view;
    *from_us = 0;
    if (source->is_marathon)
        return find_time(source->journal, id, from_us, err);
    if (look(source->journal, &wanted, &view, err) != 0)
        return -1;
    if (!is_known(&view, &wanted))
        return 0;
    resume->on = true;
    resume->epoch = id->epoch;
    resume->index = id->index;
    int64_t oldest_us = view.oldest.event.arrival_us;
    *from_us = since_us > oldest_us ? since_us : oldest_us;
    if (view.at.found && view.at.event.arrival_us < *from_us)
        *from_us = view.at.event.arrival_us;
    return 0;
}

/* ---- skipping ---- */

/* For too long: the other journal's index was not the one that is followed here. */
static bool lasts_too_long(struct resume *resume, const struct event *event)
{
    if (event->arrival_us < resume->now_us)
        return false;
    if (resume->until_us == 0)
        resume->until_us = event->arrival_us + RESUME_SKIP_MAX_US;
    return event->arrival_us > resume->until_us;
}

static void owe_gap(struct resume *resume, const struct event *event)
{
    uint64_t to = frame_index(event);
    bool past = event->epoch == resume->epoch && to > resume->index;
    resume->gap_due = true;
    resume->gap = (struct frame_gap){
        .from = past ? resume->index : 0,
        .to = to,
        .epoch = event->epoch,
        .ordinal = event->ordinal,
        .arrival_us = event->arrival_us - 1,
        .reason = GAP_NOT_HELD,
    };
}

bool resume_passes(struct resume *resume, const struct event *event)
{
    if (!resume->on)
        return true;
    if (!is_of_stream(event)) {
        bool news = event->arrival_us >= resume->since_us;
        if (news && event->origin == EVENT_OWN && str_is(event->type, "Gap"))
            resume->on = false;
        return news;
    }
    bool reached = is_at_or_past(event, resume->epoch, resume->index);
    if (!reached && !lasts_too_long(resume, event))
        return false;
    resume->on = false;
    if (!reached || event->epoch != resume->epoch || frame_index(event) != resume->index)
        owe_gap(resume, event);
    return true;
}
