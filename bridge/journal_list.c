/* journal_list.c - the list of segments, oldest first, and the files that are open. */
#include "bridge/journal_internal.h"

#include "bridge/journal_segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct journal_segment *journal_list_active(struct journal *journal)
{
    return &journal->segments[journal->n_segments - 1];
}

static struct journal_file *file_new(struct journal_segment *segment, int fd)
{
    struct journal_file *file = mem_alloc(sizeof *file);
    *file = (struct journal_file){.segment = segment->first_seq, .fd = fd, .refs = 1};
    segment->file = file;
    return file;
}

void journal_list_add(struct journal *journal, const struct journal_segment *segment, int fd)
{
    if (journal->n_segments == journal->segments_cap) {
        journal->segments_cap = journal->segments_cap > 0 ? journal->segments_cap * 2 : 32;
        journal->segments =
            mem_realloc(journal->segments, journal->segments_cap * sizeof *journal->segments);
    }
    struct journal_segment *added = &journal->segments[journal->n_segments++];
    *added = *segment;
    journal->bytes += added->size;
    if (fd >= 0)
        file_new(added, fd);
}

void journal_list_remove(struct journal *journal, size_t i)
{
    journal->bytes -= journal->segments[i].size;
    journal->n_segments--;
    memmove(&journal->segments[i], &journal->segments[i + 1],
            (journal->n_segments - i) * sizeof *journal->segments);
}

struct journal_extent journal_list_extent(const struct journal *journal, size_t i)
{
    const struct journal_segment *segment = &journal->segments[i];
    bool active = i + 1 == journal->n_segments;
    return (struct journal_extent){
        .first_seq = segment->first_seq,
        .limit_seq = active ? journal->tail.seq + 1 : journal->segments[i + 1].first_seq,
        .end = segment->size,
        .active = active,
    };
}

/* True where the target lies before the end of segment `i`, readable or not. */
static bool reaches(const struct journal *journal, size_t i, const struct journal_target *target)
{
    if (target->by == JOURNAL_BY_SEQ)
        return target->seq < journal_list_extent(journal, i).limit_seq;
    return journal_mark_reaches(&journal->segments[i].last, target);
}

size_t journal_list_find(const struct journal *journal, const struct journal_target *target)
{
    size_t low = 0, high = journal->n_segments;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (reaches(journal, middle, target))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

struct journal_file *journal_list_open(struct journal *journal, size_t i)
{
    struct journal_segment *segment = &journal->segments[i];
    if (segment->file != NULL) {
        segment->file->refs++;
        return segment->file;
    }
    char name[JOURNAL_NAME_MAX];
    journal_segment_name(name, segment->first_seq, ".seg");
    int fd = openat(journal->dirfd, name, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? NULL : file_new(segment, fd);
}

void journal_list_close(struct journal *journal, struct journal_file **file)
{
    struct journal_file *gone = *file;
    *file = NULL;
    if (gone == NULL || --gone->refs > 0)
        return;
    for (size_t i = 0; i < journal->n_segments; i++)
        if (journal->segments[i].file == gone)
            journal->segments[i].file = NULL;
    close(gone->fd);
    free(gone);
}
