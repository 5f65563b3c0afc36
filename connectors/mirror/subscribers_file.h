/* subscribers_file.h - the callbacks of one source on disk: `subscribers` in its journal's folder,
 * which the journal locks for this process.
 *
 * JSON, {"version":1,"subscribers":[{"url","journal","seq","arrival_us","since_us","failing_s"}]},
 * readable by its owner only, as URLs may hold passwords. Replaced as a whole: whoever reads it
 * finds either the old or the new one. */
#ifndef BUSBAR_MIRROR_SUBSCRIBERS_FILE_H
#define BUSBAR_MIRROR_SUBSCRIBERS_FILE_H

#include <stddef.h>

#include "bridge/base/err.h"
#include "connectors/mirror/subscriber.h"

#define SUBSCRIBERS_FILE "subscribers"

struct kept_subscriber {
    char *url;
    struct subscriber_place place;
};

/* *n stays 0 where there is no such file. One that can't be understood is moved aside (`.bad`) and
 * logged; -1, ERR_FATAL: it can't be read, or a newer version wrote it. The caller frees the urls
 * and the array, by subscribers_file_free. */
int subscribers_file_read(const char *dir, struct kept_subscriber **out, size_t *n,
                          struct err *err);
void subscribers_file_free(struct kept_subscriber *kept, size_t n);

/* Appends one to what is to be written; begin and end make it whole. */
void subscribers_file_begin(struct buf *text);
void subscribers_file_append(struct buf *text, const char *url,
                             const struct subscriber_place *place);
void subscribers_file_end(struct buf *text);

/* Puts the text beside the file, and, `sync`, onto the disk; those with and without `sync` don't
 * get into each other's way. ERR_RETRY: no room and the like. */
int subscribers_file_prepare(const char *dir, struct str text, bool sync, struct err *err);
/* What was prepared so becomes the file. Fast. */
int subscribers_file_replace(const char *dir, bool sync, struct err *err);
/* So that this outlives a crash of the machine. */
void subscribers_file_sync_dir(const char *dir);

#endif
