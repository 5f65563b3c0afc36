/* state_internal.h - what state.c (applying, finding) and state_open.c (files, checks, room) share.
 */
#ifndef BUSBAR_STATE_INTERNAL_H
#define BUSBAR_STATE_INTERNAL_H

#include "bridge/state.h"

#include <lmdb.h>

enum { STATE_VERSION = 1, STATE_KEY = 16, STATE_STRINGS_MAX = 4096 };

/* Stands in the database `meta` under the key "meta". Version first, for ever. Numbers as the
 * machine has them, as in all of LMDB's file. */
struct state_meta {
    uint32_t version;
    uint32_t crc; /* of what follows */
    uint64_t journal;
    uint64_t next_seq;
    uint64_t bytes; /* of all entries */
    struct state_resync resync;
};

enum {
    STATE_BARE = 1,    /* the strings were too long to be kept */
    STATE_DELETED = 2, /* the source has told that it was deleted */
};

/* A value in the database `objects`, under the hash; then topic, namespace, key, filter keys. */
struct state_entry {
    uint32_t crc; /* of what follows, the strings included */
    uint32_t epoch;
    uint64_t index;
    uint64_t journal; /* that says so */
    uint64_t mark;
    uint64_t seen;
    uint16_t len[4];
    uint64_t flags;
};

struct state {
    struct state_options o;
    MDB_env *env;
    MDB_dbi meta_db, objects_db;
    MDB_txn *txn; /* the open one, or NULL */
    MDB_cursor *cursor;
    struct state_meta meta;
    bool dirty, broken, damaged;
    size_t writes, writes_max; /* in the transaction; how many there should be */
    uint64_t attempt;
    uint64_t forgotten;
    uint64_t objects; /* how many, where they were counted since the last change */
    bool counted;
    bool told_full;
    struct buf value; /* under construction */
};

/* ---- state.c ---- */

/* Has a transaction open. */
int state_begin(struct state *state, struct err *err);
/* Commits or, where nothing was changed, ends it. */
int state_end(struct state *state, struct err *err);
void state_hash(const struct state_id *id, unsigned char key[STATE_KEY]);
/* Takes an entry's value apart; false where it is no entry. */
bool state_parse(MDB_val value, struct state_entry *entry, struct str strings[4]);
uint32_t state_meta_crc(const struct state_meta *meta);

/* ---- state_open.c ---- */

/* From what LMDB returned; a damaged table is marked as such. Returns -1. */
int state_fail(struct state *state, int rc, const char *what, struct err *err);
/* Where there is too much, forgets until an eighth is free. */
int state_make_room(struct state *state, struct stop *stop, struct err *err);

#endif
