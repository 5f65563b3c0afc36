/* checkpoint.h - how far a sink has come, kept in the sink itself and moved atomically with the
 * data.
 *
 * As text (one line of JSON, the same in Kafka and Redis):
 * {"v":1,"journal":"16 hex","seq":N,"index":N,"epoch":N,"resync":false,"hashes":["16 hex",…]} */
#ifndef BUSBAR_CHECKPOINT_H
#define BUSBAR_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"

enum { CHECKPOINT_VERSION = 1, CHECKPOINT_HASHES_MAX = 65536 };

struct checkpoint {
    uint64_t journal_id;
    uint64_t seq;   /* the last event passed: published or left out by the filter */
    uint64_t index; /* the source's index of that event */
    uint64_t epoch;
    bool resync_open;
    uint64_t *hashes; /* identities passed at `index`, in order */
    size_t n_hashes;
    size_t hashes_cap;
};

void checkpoint_fini(struct checkpoint *cp);
void checkpoint_copy(struct checkpoint *to, const struct checkpoint *from);
/* Notes that an event of the source with this index and identity was passed. */
void checkpoint_pass(struct checkpoint *cp, uint64_t seq, uint64_t index, uint64_t ident);
bool checkpoint_has(const struct checkpoint *cp, uint64_t ident);

void checkpoint_encode(const struct checkpoint *cp, struct buf *out);
/* ERR_FATAL where the text is not one, or of a newer version. */
int checkpoint_decode(struct checkpoint *cp, struct str text, struct err *err);

#endif
