/* seek.h - where in one journal a client begins that names an index, as Nomad's broker would say it
 * (nomad/stream/event_buffer.go, StartAtClosest), if its buffer were the journal.
 *
 * The index is one of the present epoch, that of the newest message told: an index that started
 * over begins a new buffer, as a rebuilt cluster has.
 *
 *     0                      the newest SEEK_NEWEST messages, which is Nomad's default buffer
 *     at most the newest     the first message at or past it; the oldest held, where it is older
 *     past the newest        the newest message
 *
 * Found block by block, so that nobody waits for it. The mirror's thread. */
#ifndef BUSBAR_MIRROR_SEEK_H
#define BUSBAR_MIRROR_SEEK_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/err.h"
#include "bridge/journal.h"

enum { SEEK_NEWEST = 100 };

/* The first event of a message that the source told just then, or NULL: it is a repeat, Busbar's
 * own, a resync's. */
const struct event *seek_told(const struct block *block, const struct journal_message *message);

struct seek;

struct seek *seek_new(struct journal *journal, uint64_t index);
void seek_free(struct seek **seek);

/* Reading goes on from `seq`. Messages are passed over as long as they are below (epoch, index);
 * that at `newest` never is. */
struct seek_start {
    uint64_t seq;
    bool skips;
    uint32_t epoch;
    uint64_t index;
    uint64_t newest;
};

enum seek_step {
    SEEK_MORE,
    SEEK_DONE,
    SEEK_FAILED, /* a journal can't be read */
};

/* Reads one block at most. */
enum seek_step seek_step(struct seek *seek, struct seek_start *start, struct err *err);

#endif
