/* checkpoint.c - how far a sink has come. */
#include "bridge/checkpoint.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_SLACK = 256 /* forgotten at once, so that it stays cheap */ };

void checkpoint_fini(struct checkpoint *cp)
{
    free(cp->hashes);
    free(cp->arrivals);
    *cp = (struct checkpoint){0};
}

static void reserve(struct checkpoint *cp, size_t n)
{
    if (cp->hashes_cap >= n)
        return;
    cp->hashes_cap = n + n / 2 + 16;
    cp->hashes = mem_realloc(cp->hashes, cp->hashes_cap * sizeof *cp->hashes);
    cp->arrivals = mem_realloc(cp->arrivals, cp->hashes_cap * sizeof *cp->arrivals);
}

void checkpoint_copy(struct checkpoint *to, const struct checkpoint *from)
{
    reserve(to, from->n_hashes);
    uint64_t *hashes = to->hashes;
    int64_t *arrivals = to->arrivals;
    size_t cap = to->hashes_cap;
    *to = *from;
    to->hashes = hashes;
    to->arrivals = arrivals;
    to->hashes_cap = cap;
    if (from->n_hashes > 0)
        memcpy(hashes, from->hashes, from->n_hashes * sizeof *hashes);
    if (from->n_hashes > 0 && from->window)
        memcpy(arrivals, from->arrivals, from->n_hashes * sizeof *arrivals);
}

int checkpoint_compare(const struct checkpoint *cp, const struct event *event)
{
    if (event->epoch != cp->epoch)
        return event->epoch < cp->epoch ? -1 : 1;
    return event->index < cp->index ? -1 : event->index > cp->index;
}

void checkpoint_pass(struct checkpoint *cp, const struct event *event)
{
    if (checkpoint_compare(cp, event) != 0)
        cp->n_hashes = 0;
    cp->seq = event->seq;
    cp->epoch = event->epoch;
    cp->index = event->index;
    if (cp->n_hashes ==
        CHECKPOINT_HASHES_MAX) { /* the oldest go: half of them at once, so that it stays cheap */
        cp->n_hashes /= 2;
        memmove(cp->hashes, cp->hashes + cp->n_hashes, cp->n_hashes * sizeof *cp->hashes);
    }
    reserve(cp, cp->n_hashes + 1);
    cp->hashes[cp->n_hashes++] = event->ident;
}

/* The oldest go, where the window may do without them. */
static void narrow(struct checkpoint *cp)
{
    if (cp->n_hashes < CHECKPOINT_WINDOW_MAX + WINDOW_SLACK &&
        cp->arrivals[WINDOW_SLACK - 1] > cp->until_us - CHECKPOINT_WINDOW_US)
        return;
    cp->n_hashes -= WINDOW_SLACK;
    memmove(cp->hashes, cp->hashes + WINDOW_SLACK, cp->n_hashes * sizeof *cp->hashes);
    memmove(cp->arrivals, cp->arrivals + WINDOW_SLACK, cp->n_hashes * sizeof *cp->arrivals);
    if (cp->arrivals[0] > 0)
        cp->from_us = cp->arrivals[0];
    else if (cp->from_us == 0)
        cp->from_us = 1; /* it is older than this process: long ago is not wrong */
}

void checkpoint_pass_window(struct checkpoint *cp, const struct event *event)
{
    cp->window = true;
    cp->seq = event->seq;
    cp->epoch = event->epoch;
    if (event->index > cp->index)
        cp->index = event->index;
    reserve(cp, cp->n_hashes + 1);
    cp->arrivals[cp->n_hashes] = event->arrival_us;
    cp->hashes[cp->n_hashes++] = event->ident;
    cp->until_us = event->arrival_us;
    if (cp->n_hashes >= CHECKPOINT_WINDOW_MIN + WINDOW_SLACK)
        narrow(cp);
}

void checkpoint_pass_gap(struct checkpoint *cp, uint64_t from, uint64_t to)
{
    if (cp->n_gaps == CHECKPOINT_GAPS_MAX)
        memmove(cp->gaps, cp->gaps + 1, --cp->n_gaps * sizeof *cp->gaps);
    cp->gaps[cp->n_gaps++] = (struct checkpoint_gap){from, to};
}

bool checkpoint_is_in_gap(const struct checkpoint *cp, uint64_t index)
{
    for (size_t i = 0; i < cp->n_gaps; i++)
        if (index > cp->gaps[i].from && index < cp->gaps[i].to)
            return true;
    return false;
}

bool checkpoint_has(const struct checkpoint *cp, uint64_t ident)
{
    for (size_t i = 0; i < cp->n_hashes; i++)
        if (cp->hashes[i] == ident)
            return true;
    return false;
}

static const char *const resync_names[] = {"none", "owed", "open"};

static void encode_window(const struct checkpoint *cp, struct buf *out)
{
    buf_printf(out, "\"window\":[%" PRId64 ",%" PRId64 "],\"gaps\":[", cp->from_us, cp->until_us);
    for (size_t i = 0; i < cp->n_gaps; i++)
        buf_printf(out, "%s[%" PRIu64 ",%" PRIu64 "]", i > 0 ? "," : "", cp->gaps[i].from,
                   cp->gaps[i].to);
    buf_append_cstr(out, "],");
}

void checkpoint_encode(const struct checkpoint *cp, struct buf *out)
{
    buf_printf(out,
               "{\"v\":%d,\"journal\":\"%016" PRIx64 "\",\"seq\":%" PRIu64 ",\"index\":%" PRIu64
               ",\"epoch\":%" PRIu32 ",\"resync\":\"%s\",",
               cp->window ? CHECKPOINT_VERSION : 2, cp->journal_id, cp->seq, cp->index, cp->epoch,
               resync_names[cp->resync]);
    if (cp->window)
        encode_window(cp, out);
    buf_append_cstr(out, "\"hashes\":[");
    for (size_t i = 0; i < cp->n_hashes; i++)
        buf_printf(out, "%s\"%016" PRIx64 "\"", i > 0 ? "," : "", cp->hashes[i]);
    buf_append_cstr(out, "]}");
}

static bool parse_hex(const json_t *value, uint64_t *out)
{
    const char *text = json_string_value(value);
    if (text == NULL || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    *out = strtoull(text, NULL, 16);
    return true;
}

static bool parse_u64(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

/* Version 1 only knew whether one was open. */
static bool parse_resync(const json_t *value, enum checkpoint_resync *out)
{
    if (json_is_boolean(value)) {
        *out = json_is_true(value) ? CHECKPOINT_RESYNC_OPEN : CHECKPOINT_RESYNC_NONE;
        return true;
    }
    const char *name = json_string_value(value);
    for (int i = CHECKPOINT_RESYNC_NONE; name != NULL && i <= CHECKPOINT_RESYNC_OPEN; i++) {
        if (strcmp(name, resync_names[i]) == 0) {
            *out = (enum checkpoint_resync)i;
            return true;
        }
    }
    return false;
}

static bool parse_pair(const json_t *value, uint64_t *first, uint64_t *second)
{
    return parse_u64(json_array_get(value, 0), first) &&
           parse_u64(json_array_get(value, 1), second);
}

static bool parse_window(const json_t *root, struct checkpoint *cp)
{
    const json_t *window = json_object_get(root, "window"), *gaps = json_object_get(root, "gaps");
    uint64_t from, until;
    cp->window = window != NULL;
    if (!cp->window)
        return true;
    if (!parse_pair(window, &from, &until) || !json_is_array(gaps) ||
        json_array_size(gaps) > CHECKPOINT_GAPS_MAX)
        return false;
    cp->from_us = (int64_t)from;
    cp->until_us = (int64_t)until;
    cp->n_gaps = json_array_size(gaps);
    for (size_t i = 0; i < cp->n_gaps; i++)
        if (!parse_pair(json_array_get(gaps, i), &cp->gaps[i].from, &cp->gaps[i].to))
            return false;
    return true;
}

static int decode_tree(struct checkpoint *cp, const json_t *root, struct err *err)
{
    uint64_t version, epoch;
    if (!parse_u64(json_object_get(root, "v"), &version))
        return err_set(err, ERR_FATAL, "not a checkpoint: \"v\" is missing");
    if (version > CHECKPOINT_VERSION)
        return err_set(err, ERR_FATAL,
                       "written by a newer busbar (version %" PRIu64 ", this one reads up to %d)",
                       version, CHECKPOINT_VERSION);
    const json_t *hashes = json_object_get(root, "hashes");
    if (!parse_hex(json_object_get(root, "journal"), &cp->journal_id) ||
        !parse_u64(json_object_get(root, "seq"), &cp->seq) ||
        !parse_u64(json_object_get(root, "index"), &cp->index) ||
        !parse_u64(json_object_get(root, "epoch"), &epoch) || epoch > UINT32_MAX ||
        !parse_resync(json_object_get(root, "resync"), &cp->resync) || !parse_window(root, cp) ||
        !json_is_array(hashes) || json_array_size(hashes) > CHECKPOINT_HASHES_MAX)
        return err_set(err, ERR_FATAL, "not a checkpoint: a field is missing or of another type");
    cp->epoch = (uint32_t)epoch;
    cp->n_hashes = json_array_size(hashes);
    reserve(cp, cp->n_hashes);
    if (cp->n_hashes > 0)
        memset(cp->arrivals, 0, cp->n_hashes * sizeof *cp->arrivals);
    for (size_t i = 0; i < cp->n_hashes; i++)
        if (!parse_hex(json_array_get(hashes, i), &cp->hashes[i]))
            return err_set(err, ERR_FATAL, "not a checkpoint: hash %zu is none", i + 1);
    return 0;
}

int checkpoint_decode(struct checkpoint *cp, struct str text, struct err *err)
{
    json_error_t why;
    json_t *root = json_loadb(text.p, text.len, 0, &why);
    if (root == NULL)
        return err_set(err, ERR_FATAL, "not a checkpoint: %s", why.text);
    int rc = decode_tree(cp, root, err);
    json_decref(root);
    return rc;
}
