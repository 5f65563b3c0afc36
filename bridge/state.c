/* state.c - the state table: applying the journal, finding objects. */
#include "bridge/state_internal.h"

#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "bridge/own.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { WRITES_MAX = 32768 };
static const size_t dirty_pages = 4096;

/* ---- transactions ---- */

uint32_t state_meta_crc(const struct state_meta *meta)
{
    size_t from = offsetof(struct state_meta, journal);
    return crc32c(0, (const char *)meta + from, sizeof *meta - from);
}

/* So that about dirty_pages are touched at most, where any page may be: in a small table they are
 * soon all touched, then more writing costs nothing; in a large one each may touch another page. */
static size_t writes_max(size_t pages)
{
    return pages <= dirty_pages ? WRITES_MAX : dirty_pages + dirty_pages * dirty_pages / pages;
}

int state_begin(struct state *st, struct err *err)
{
    MDB_stat stat;
    if (st->txn != NULL)
        return 0;
    int rc = mdb_txn_begin(st->env, NULL, 0, &st->txn);
    if (rc == 0)
        rc = mdb_cursor_open(st->txn, st->objects_db, &st->cursor);
    if (rc == 0)
        rc = mdb_stat(st->txn, st->objects_db, &stat);
    if (rc != 0)
        return state_fail(st, rc, "begin", err);
    st->writes_max = writes_max(stat.ms_leaf_pages);
    return 0;
}

static int put_meta(struct state *st)
{
    st->meta.version = STATE_VERSION;
    st->meta.crc = state_meta_crc(&st->meta);
    MDB_val key = {4, (void *)"meta"}, value = {sizeof st->meta, &st->meta};
    return mdb_put(st->txn, st->meta_db, &key, &value, 0);
}

int state_end(struct state *st, struct err *err)
{
    st->writes = 0;
    if (st->txn == NULL)
        return 0;
    mdb_cursor_close(st->cursor);
    int rc = st->dirty ? put_meta(st) : 0;
    if (rc == 0 && st->dirty)
        rc = mdb_txn_commit(st->txn);
    else
        mdb_txn_abort(st->txn);
    st->txn = NULL;
    st->dirty = false;
    return rc == 0 ? 0 : state_fail(st, rc, "commit", err);
}

int state_commit(struct state *st, struct stop *stop, struct err *err)
{
    if (st->dirty && state_begin(st, err) != 0)
        return -1;
    if (state_end(st, err) != 0)
        return -1;
    return state_make_room(st, stop, err);
}

bool state_is_due(const struct state *st)
{
    return st->txn != NULL &&
           (st->writes >= st->writes_max || st->meta.bytes > st->o.bytes_max + st->o.bytes_max / 8);
}

/* ---- entries ---- */

/* FNV-1a twice, side by side: with its own multiplier (hash.h), and with the golden ratio's. */
static void hash_bytes(uint64_t h[2], const void *data, size_t len)
{
    const unsigned char *p = data;
    uint64_t a = h[0], b = h[1];
    for (size_t i = 0; i < len; i++) {
        a = (a ^ p[i]) * UINT64_C(0x100000001b3);
        b = (b ^ p[i]) * UINT64_C(0x9e3779b97f4a7c15);
    }
    h[0] = a;
    h[1] = b;
}

static void hash_str(uint64_t h[2], struct str s)
{
    uint32_t len = (uint32_t)s.len;
    hash_bytes(h, &len, sizeof len);
    hash_bytes(h, s.p, s.len);
}

void state_hash(const struct state_id *id, unsigned char key[STATE_KEY])
{
    uint64_t h[2] = {HASH64_START, HASH64_START};
    hash_str(h, id->topic);
    hash_str(h, id->ns);
    hash_str(h, id->key);
    memcpy(key, h, STATE_KEY);
}

bool state_parse(MDB_val value, struct state_entry *entry, struct str strings[4])
{
    if (value.mv_size < sizeof *entry)
        return false;
    memcpy(entry, value.mv_data, sizeof *entry);
    const char *p = (const char *)value.mv_data + sizeof *entry;
    size_t left = value.mv_size - sizeof *entry;
    for (size_t i = 0; i < 4; i++) {
        strings[i] = (struct str){p, entry->len[i]};
        if (entry->len[i] > left)
            return false;
        p += entry->len[i];
        left -= entry->len[i];
    }
    return left == 0;
}

/* An entry and the object that it is of, as it is to stand in the table. */
struct row {
    unsigned char key[STATE_KEY];
    struct state_entry entry;
    struct str strings[4];
    bool found;
    size_t bytes; /* of what was found */
};

static bool is_same(const struct row *row, const struct state_id *id)
{
    return (row->entry.flags & STATE_BARE) != 0 ||
           (str_eq(row->strings[0], id->topic) && str_eq(row->strings[1], id->ns) &&
            str_eq(row->strings[2], id->key));
}

/* Finds the row of `id`; the cursor stands on what has its hash. */
static int look_up(struct state *st, const struct state_id *id, struct row *row, struct err *err)
{
    *row = (struct row){.found = false};
    if (state_begin(st, err) != 0)
        return -1;
    state_hash(id, row->key);
    MDB_val key = {STATE_KEY, row->key}, value;
    int rc = mdb_cursor_get(st->cursor, &key, &value, MDB_SET_KEY);
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc != 0)
        return state_fail(st, rc, "get", err);
    if (!state_parse(value, &row->entry, row->strings))
        return state_fail(st, MDB_CORRUPTED, "get", err);
    row->bytes = value.mv_size;
    row->found = is_same(row, id);
    if (!row->found) {
        st->forgotten++;
        log_warn("state_collision", LOG_STR("source", st->o.source),
                 LOG_STR("note", "two objects have one hash: the one told last is kept"));
    }
    return 0;
}

static void set_strings(struct row *row, const struct state_id *id, struct str filter_keys)
{
    const struct str strings[4] = {id->topic, id->ns, id->key, filter_keys};
    size_t total = 0;
    for (size_t i = 0; i < 4; i++)
        total += strings[i].len;
    bool bare = total > STATE_STRINGS_MAX;
    row->entry.flags = bare ? STATE_BARE : 0;
    for (size_t i = 0; i < 4; i++) {
        row->strings[i] = bare ? STR("") : strings[i];
        row->entry.len[i] = (uint16_t)row->strings[i].len;
    }
}

/* Writes the row where look_up found it, or anew. */
static int write_row(struct state *st, struct row *row, struct err *err)
{
    struct buf *b = &st->value;
    buf_clear(b);
    buf_append(b, &row->entry, sizeof row->entry);
    for (size_t i = 0; i < 4; i++)
        buf_append_str(b, row->strings[i]);
    row->entry.crc = crc32c(0, b->p + sizeof row->entry.crc, b->len - sizeof row->entry.crc);
    memcpy(b->p, &row->entry.crc, sizeof row->entry.crc);
    MDB_val key = {STATE_KEY, row->key}, value = {b->len, b->p};
    int rc = mdb_cursor_put(st->cursor, &key, &value, row->bytes > 0 ? MDB_CURRENT : 0);
    if (rc != 0)
        return state_fail(st, rc, "put", err);
    st->meta.bytes += b->len - row->bytes + (row->bytes > 0 ? 0 : STATE_KEY);
    st->counted = st->counted && row->bytes > 0;
    st->writes++;
    st->dirty = true;
    return 0;
}

static int remove_row(struct state *st, const struct row *row, struct err *err)
{
    int rc = mdb_cursor_del(st->cursor, 0);
    if (rc != 0)
        return state_fail(st, rc, "del", err);
    st->meta.bytes -= row->bytes + STATE_KEY;
    st->counted = false;
    st->writes++;
    st->dirty = true;
    return 0;
}

static int compare(uint32_t epoch_a, uint64_t index_a, uint32_t epoch_b, uint64_t index_b)
{
    if (epoch_a != epoch_b)
        return epoch_a < epoch_b ? -1 : 1;
    return index_a < index_b ? -1 : index_a > index_b;
}

/* ---- applying ---- */

static struct state_id id_of(const struct event *e)
{
    return (struct state_id){e->topic, e->ns, e->key};
}

static bool is_here(const struct state *st, const struct row *row)
{
    return row->found && row->entry.journal == st->meta.journal;
}

/* The source says that the object is no more: one that tells deletions as such
 * (source_ops.tells_state), and Marathon's event bus, whose times go back, so that there what comes
 * later is newer. */
static bool is_deletion(const struct event *e, int newer)
{
    static const char *const marathon[] = {"app_terminated_event", "pod_deleted_event",
                                           "deployment_success", "deployment_failed"};
    if (e->origin != EVENT_SOURCE)
        return false;
    for (size_t i = 0; i < sizeof marathon / sizeof marathon[0]; i++)
        if (str_is(e->type, marathon[i]))
            return true;
    return newer >= 0 && str_is(e->type, "Deleted");
}

/* The stream or a resync told the object: as it says now, and at most at this epoch and index. */
static int apply_object(struct state *st, const struct latest_object *object, struct err *err)
{
    const struct event *e = &object->last;
    struct row row;
    struct state_id id = id_of(e);
    if (look_up(st, &id, &row, err) != 0)
        return -1;
    struct state_entry *entry = &row.entry;
    if (!is_here(st, &row))
        *entry = (struct state_entry){.journal = st->meta.journal};
    if (compare(object->epoch_max, object->index_max, entry->epoch, entry->index) > 0) {
        entry->epoch = object->epoch_max;
        entry->index = object->index_max;
    }
    int newer = compare(e->epoch, e->index, entry->epoch, entry->index);
    if (e->origin == EVENT_SNAPSHOT) {
        entry->mark = st->meta.resync.number;
        entry->seen = st->attempt;
        st->meta.resync.objects++;
    }
    set_strings(&row, &id, e->filter_keys);
    /* The row stays, so that no older object is told behind it. */
    if (is_deletion(e, newer))
        entry->flags |= STATE_DELETED;
    return write_row(st, &row, err);
}

static int apply_told(struct state *st, const struct event *e, struct err *err)
{
    struct latest_object object = {*e, e->epoch, e->index};
    return apply_object(st, &object, err);
}

static int apply_vanished(struct state *st, const struct event *e, struct err *err)
{
    struct row row;
    struct state_id id = id_of(e);
    if (look_up(st, &id, &row, err) != 0)
        return -1;
    st->meta.resync.vanished++;
    if (!row.found ||
        (is_here(st, &row) && compare(row.entry.epoch, row.entry.index, e->epoch, e->index) > 0))
        return 0;
    return remove_row(st, &row, err);
}

bool state_is_after_restart(const char *reason)
{
    return strcmp(reason, STATE_AFTER_RESTART) == 0;
}

static void copy_reason(const struct event *e, char out[STATE_REASON_MAX])
{
    json_t *root = json_loadb(e->data.p, e->data.len, JSON_REJECT_DUPLICATES, NULL);
    const char *reason =
        json_string_value(json_object_get(json_object_get(root, "Payload"), "Reason"));
    snprintf(out, STATE_REASON_MAX, "%s", reason != NULL ? reason : "");
    json_decref(root);
}

static void apply_own(struct state *st, const struct event *e)
{
    struct state_resync *r = &st->meta.resync;
    if (str_is(e->type, "Gap")) {
        if (!r->wanted || state_is_after_restart(r->wanted_reason))
            copy_reason(e, r->wanted_reason);
        r->wanted = true;
    } else if (str_is(e->type, OWN_RESYNC_STARTED)) {
        memset(r, 0, sizeof *r); /* its padding too, it goes to disk as it stands */
        r->open = true;
        r->number = e->seq;
        r->started_us = e->arrival_us;
        copy_reason(e, r->reason);
    } else if (str_is(e->type, OWN_RESYNC_FINISHED)) {
        r->open = false;
        r->finished_us = e->arrival_us;
    }
}

int state_apply(struct state *st, const struct event *e, struct err *err)
{
    if (e->seq < st->meta.next_seq)
        return 0;
    st->meta.next_seq = e->seq + 1;
    st->dirty = true;
    if (e->repeat)
        return 0;
    switch (e->origin) {
    case EVENT_OWN:
        apply_own(st, e);
        return 0;
    case EVENT_SOURCE:
        return apply_told(st, e, err);
    case EVENT_SNAPSHOT:
        return str_is(e->type, "Vanished") ? apply_vanished(st, e, err) : apply_told(st, e, err);
    case EVENT_MALFORMED:
        break;
    }
    return 0;
}

int state_apply_latest(struct state *st, const struct latest *latest, struct stop *stop,
                       struct err *err)
{
    if (latest->to == latest->from || latest->to <= st->meta.next_seq)
        return 0;
    assert(latest->from <= 1 || latest->from <= st->meta.next_seq);
    for (size_t i = 0; i < latest->n; i++) {
        struct latest_object object = latest_object(latest, i);
        if (apply_object(st, &object, err) != 0 ||
            (state_is_due(st) && state_commit(st, stop, err) != 0))
            return -1;
    }
    st->meta.next_seq = latest->to;
    st->dirty = true;
    return 0;
}

/* ---- which journal, which resync ---- */

uint64_t state_next_seq(const struct state *st)
{
    return st->meta.next_seq;
}

const struct state_resync *state_resync(const struct state *st)
{
    return &st->meta.resync;
}

int state_want(struct state *st, const char *reason, struct err *err)
{
    struct state_resync *r = &st->meta.resync;
    if (r->wanted && !state_is_after_restart(r->wanted_reason))
        return 0;
    r->wanted = true;
    snprintf(r->wanted_reason, sizeof r->wanted_reason, "%s", reason);
    st->dirty = true;
    return state_begin(st, err);
}

int state_set_journal(struct state *st, uint64_t journal_id, uint64_t next_seq, struct err *err)
{
    struct state_meta *m = &st->meta;
    if (m->journal == journal_id && m->next_seq <= next_seq)
        return 0;
    /* What was open or wanted may stand in what this journal has lost; where it does not, the
     * journal tells it again below, and the ResyncStarted in it settles this. */
    bool unsettled = m->resync.open || m->resync.wanted;
    char reason[STATE_REASON_MAX];
    memcpy(reason, m->resync.wanted ? m->resync.wanted_reason : m->resync.reason, sizeof reason);
    memset(&m->resync, 0, sizeof m->resync);
    m->journal = journal_id;
    m->next_seq = 0;
    st->dirty = true;
    return unsettled ? state_want(st, reason, err) : state_begin(st, err);
}

int state_lost(struct state *st, uint64_t seq, struct err *err)
{
    if (seq <= st->meta.next_seq)
        return 0;
    bool began = st->meta.next_seq == 0;
    st->meta.next_seq = seq;
    st->dirty = true;
    if (began)
        return state_begin(st, err);
    return state_want(
        st, "a stretch of the journal was lost before it was read for the state table", err);
}

/* ---- finding ---- */

uint64_t state_objects(struct state *st)
{
    if (st->counted)
        return st->objects;
    MDB_stat stat;
    MDB_txn *txn = st->txn;
    if (txn == NULL && mdb_txn_begin(st->env, NULL, MDB_RDONLY, &txn) != 0)
        return 0;
    st->counted = mdb_stat(txn, st->objects_db, &stat) == 0;
    st->objects = st->counted ? stat.ms_entries : 0;
    if (txn != st->txn)
        mdb_txn_abort(txn);
    return st->objects;
}

uint64_t state_forgotten(const struct state *st)
{
    return st->forgotten;
}

void state_set_attempt(struct state *st, uint64_t attempt)
{
    st->attempt = attempt;
}

static void fill(const struct state *st, const struct row *row, struct state_object *object)
{
    bool here = row->entry.journal == st->meta.journal;
    *object = (struct state_object){
        .id = {row->strings[0], row->strings[1], row->strings[2]},
        .filter_keys = row->strings[3],
        .epoch = row->entry.epoch,
        .index = row->entry.index,
        .mark = here ? row->entry.mark : 0,
        .here = here,
        .deleted = (row->entry.flags & STATE_DELETED) != 0,
        .seen = st->attempt != 0 && row->entry.seen == st->attempt,
    };
}

int state_find(struct state *st, const struct state_id *id, struct state_object *object,
               struct err *err)
{
    struct row row;
    if (look_up(st, id, &row, err) != 0)
        return -1;
    if (row.found)
        fill(st, &row, object);
    return row.found;
}

int state_see(struct state *st, const struct state_id *id, struct state_object *object,
              struct err *err)
{
    struct row row;
    if (look_up(st, id, &row, err) != 0)
        return -1;
    if (!row.found)
        return 0;
    fill(st, &row, object);
    row.entry.seen = st->attempt;
    if (!object->seen && write_row(st, &row, err) != 0)
        return -1;
    return 1;
}

int state_unsee(struct state *st, const struct state_id *id, struct err *err)
{
    struct row row;
    if (look_up(st, id, &row, err) != 0)
        return -1;
    if (!row.found || row.entry.seen == 0)
        return 0;
    row.entry.seen = 0;
    return write_row(st, &row, err);
}

int state_walk(struct state *st, struct state_cursor *cursor, struct state_object *object,
               struct err *err)
{
    if (state_begin(st, err) != 0)
        return -1;
    struct row row = {.found = true};
    MDB_val key = {STATE_KEY, cursor->at}, value;
    int rc = mdb_cursor_get(st->cursor, &key, &value, MDB_SET_RANGE);
    if (rc == 0 && cursor->begun && key.mv_size == STATE_KEY &&
        memcmp(key.mv_data, cursor->at, STATE_KEY) == 0)
        rc = mdb_cursor_get(st->cursor, &key, &value, MDB_NEXT);
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc != 0)
        return state_fail(st, rc, "walk", err);
    if (key.mv_size != STATE_KEY || !state_parse(value, &row.entry, row.strings))
        return state_fail(st, MDB_CORRUPTED, "walk", err);
    memcpy(cursor->at, key.mv_data, STATE_KEY);
    cursor->begun = true;
    fill(st, &row, object);
    return 1;
}
