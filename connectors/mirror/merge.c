/* merge.c - the journals of several sources read as one, in order of arrival. */
#include "connectors/mirror/merge.h"

#include <stdlib.h>

static const char GAP_PRUNED[] = "no longer in the journal";

/* One source's part in it. */
struct leg {
    struct journal_reader *reader; /* NULL: not added */
    struct block *block;           /* the one being read, NULL: none */
    size_t at;                     /* into the block's events */
    int64_t from_us;               /* earlier ones are left out */
    uint64_t last_index;           /* of the last event passed, 0: none */
    uint32_t last_epoch;
    bool first;  /* nothing was read yet */
    bool oldest; /* it began at the oldest that is held */
    bool begun;  /* an event was passed */
    enum merge_tell tell;
    bool idle; /* had nothing since the last refresh */
    bool gap;  /* to be told before its next event */
};

struct merge {
    const struct mirror_source *sources;
    size_t n;
    struct leg legs[];
};

struct merge *merge_new(const struct mirror_source *sources, size_t n_sources)
{
    struct merge *merge = mem_zalloc(sizeof *merge + n_sources * sizeof merge->legs[0]);
    merge->sources = sources;
    merge->n = n_sources;
    return merge;
}

void merge_free(struct merge **merge)
{
    if (*merge == NULL)
        return;
    for (size_t i = 0; i < (*merge)->n; i++) {
        block_unref(&(*merge)->legs[i].block);
        journal_reader_free(&(*merge)->legs[i].reader);
    }
    free(*merge);
    *merge = NULL;
}

void merge_add(struct merge *merge, size_t source, int64_t from_us, enum merge_tell tell)
{
    struct leg *leg = &merge->legs[source];
    leg->reader = journal_reader_new(merge->sources[source].journal);
    leg->oldest = journal_reader_seek_arrival(leg->reader, from_us);
    leg->from_us = from_us;
    leg->first = true;
    leg->tell = tell;
}

void merge_refresh(struct merge *merge)
{
    for (size_t i = 0; i < merge->n; i++)
        merge->legs[i].idle = false;
}

/* Only a leg's first block can show that something it wanted is missing, and only the journal's
 * oldest block does. */
static bool first_block_lost(const struct leg *leg)
{
    const struct block *b = leg->block;
    int64_t late_us = b->events[0].arrival_us - leg->from_us;
    if (!leg->oldest)
        return false;
    if (leg->tell == MERGE_TELL_UNPROVEN)
        return late_us > MERGE_OVERLAP_US;
    return leg->tell == MERGE_TELL_PRUNED && b->first_seq > 1 && late_us > 0;
}

static bool empty_journal_lost(const struct leg *leg, struct journal *journal)
{
    uint64_t first = journal_first_seq(journal);
    if (leg->tell == MERGE_TELL_NONE || first != journal_next_seq(journal))
        return false;
    return (first > 1 && journal_tail(journal).arrival_us >= leg->from_us) ||
           (leg->tell == MERGE_TELL_UNPROVEN && leg->from_us == 0);
}

static bool skip_passed(struct leg *leg)
{
    while (leg->at < leg->block->n_events) {
        const struct event *e = &leg->block->events[leg->at];
        if (!e->repeat && e->arrival_us >= leg->from_us)
            return true;
        leg->at++;
    }
    block_unref(&leg->block);
    return false;
}

static int read_block(struct leg *leg, struct journal *journal, struct err *err)
{
    switch (journal_reader_next(leg->reader, 0, &leg->block, err)) {
    case JOURNAL_BLOCK:
        leg->at = 0;
        if (leg->first && first_block_lost(leg))
            leg->gap = true;
        leg->first = false;
        return 0;
    case JOURNAL_LOST:
        leg->gap = leg->gap || !leg->first || leg->tell != MERGE_TELL_NONE;
        leg->first = false;
        return 0;
    case JOURNAL_NOTHING:
        if (leg->first && empty_journal_lost(leg, journal))
            leg->gap = true;
        leg->first = false;
        leg->idle = true;
        return 0;
    case JOURNAL_STOPPED:
        leg->idle = true;
        return 0;
    case JOURNAL_ERROR:
    default:
        return -1;
    }
}

/* Its next event; NULL where it has none now (*err may be set: -1). */
static int leg_head(struct leg *leg, struct journal *journal, const struct event **head,
                    struct err *err)
{
    *head = NULL;
    while (leg->reader != NULL && !leg->idle) {
        if (leg->block != NULL && skip_passed(leg)) {
            *head = &leg->block->events[leg->at];
            return 0;
        }
        if (read_block(leg, journal, err) != 0)
            return -1;
    }
    return 0;
}

/* Told at `at_us` or before: of the others nothing later was passed. */
static void fill_gap(const struct leg *leg, struct journal *journal, const struct event *head,
                     int64_t at_us, struct frame_gap *gap)
{
    *gap = (struct frame_gap){.from = leg->last_index, .reason = GAP_PRUNED};
    if (head != NULL) {
        gap->to = frame_index(head);
        gap->epoch = head->epoch;
        gap->ordinal = head->ordinal;
        gap->arrival_us = head->arrival_us - 1;
    } else {
        struct journal_tail tail = journal_tail(journal);
        gap->to = leg->last_epoch > 0 ? leg->last_index : tail.pos_index;
        gap->epoch = leg->last_epoch;
        gap->ordinal = tail.ordinal;
        gap->arrival_us = tail.arrival_us;
    }
    if (gap->arrival_us > at_us)
        gap->arrival_us = at_us;
}

enum merge_item merge_peek(struct merge *merge, int64_t horizon_us, struct merge_next *next,
                           struct err *err)
{
    const struct event *best = NULL;
    size_t empty_gap = merge->n;
    for (size_t i = 0; i < merge->n; i++) {
        const struct event *head;
        if (leg_head(&merge->legs[i], merge->sources[i].journal, &head, err) != 0) {
            err_wrap(err, "%s", merge->sources[i].name);
            return MERGE_ERROR;
        }
        if (head == NULL && merge->legs[i].gap)
            empty_gap = i;
        if (head != NULL && head->arrival_us <= horizon_us &&
            (best == NULL || head->arrival_us < best->arrival_us)) {
            best = head;
            next->source = i;
        }
    }
    if (best == NULL && empty_gap == merge->n)
        return MERGE_NOTHING;
    if (best == NULL)
        next->source = empty_gap;
    next->event = best;
    struct leg *leg = &merge->legs[next->source];
    if (!leg->gap)
        return MERGE_EVENT;
    fill_gap(leg, merge->sources[next->source].journal, best, horizon_us, &next->gap);
    next->event = NULL;
    return MERGE_GAP;
}

bool merge_peek_gap(const struct merge *merge, int64_t at_us, struct merge_next *next)
{
    for (size_t i = 0; i < merge->n; i++) {
        const struct leg *leg = &merge->legs[i];
        if (!leg->gap)
            continue;
        const struct event *head = leg->block != NULL ? &leg->block->events[leg->at] : NULL;
        *next = (struct merge_next){.source = i};
        fill_gap(leg, merge->sources[i].journal, head, at_us, &next->gap);
        return true;
    }
    return false;
}

void merge_take(struct merge *merge, const struct merge_next *next)
{
    struct leg *leg = &merge->legs[next->source];
    if (next->event == NULL) {
        leg->gap = false;
        return;
    }
    leg->last_index = frame_index(next->event);
    leg->last_epoch = next->event->epoch;
    leg->begun = true;
    leg->at++;
}

bool merge_has_gap(const struct merge *merge)
{
    for (size_t i = 0; i < merge->n; i++)
        if (merge->legs[i].gap)
            return true;
    return false;
}

bool merge_has_begun(const struct merge *merge)
{
    for (size_t i = 0; i < merge->n; i++) {
        const struct leg *leg = &merge->legs[i];
        if (leg->reader != NULL && !leg->begun && !leg->idle)
            return false;
    }
    return true;
}
