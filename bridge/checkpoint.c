/* checkpoint.c - how far a sink has come. */
#include "bridge/checkpoint.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

void checkpoint_fini(struct checkpoint *cp)
{
    free(cp->hashes);
    *cp = (struct checkpoint){0};
}

static void reserve(struct checkpoint *cp, size_t n)
{
    if (cp->hashes_cap >= n)
        return;
    cp->hashes_cap = n + n / 2 + 16;
    cp->hashes = mem_realloc(cp->hashes, cp->hashes_cap * sizeof *cp->hashes);
}

void checkpoint_copy(struct checkpoint *to, const struct checkpoint *from)
{
    reserve(to, from->n_hashes);
    uint64_t *hashes = to->hashes;
    size_t cap = to->hashes_cap;
    *to = *from;
    to->hashes = hashes;
    to->hashes_cap = cap;
    if (from->n_hashes > 0)
        memcpy(hashes, from->hashes, from->n_hashes * sizeof *hashes);
}

void checkpoint_pass(struct checkpoint *cp, uint64_t seq, uint64_t index, uint64_t ident)
{
    cp->seq = seq;
    if (cp->index != index)
        cp->n_hashes = 0;
    cp->index = index;
    if (cp->n_hashes ==
        CHECKPOINT_HASHES_MAX) { /* the oldest go: half of them at once, so that it stays cheap */
        cp->n_hashes /= 2;
        memmove(cp->hashes, cp->hashes + cp->n_hashes, cp->n_hashes * sizeof *cp->hashes);
    }
    reserve(cp, cp->n_hashes + 1);
    cp->hashes[cp->n_hashes++] = ident;
}

bool checkpoint_has(const struct checkpoint *cp, uint64_t ident)
{
    for (size_t i = 0; i < cp->n_hashes; i++)
        if (cp->hashes[i] == ident)
            return true;
    return false;
}

void checkpoint_encode(const struct checkpoint *cp, struct buf *out)
{
    buf_printf(out,
               "{\"v\":%d,\"journal\":\"%016" PRIx64 "\",\"seq\":%" PRIu64 ",\"index\":%" PRIu64
               ",\"epoch\":%" PRIu64 ",\"resync\":%s,\"hashes\":[",
               CHECKPOINT_VERSION, cp->journal_id, cp->seq, cp->index, cp->epoch,
               cp->resync_open ? "true" : "false");
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

static int decode_tree(struct checkpoint *cp, const json_t *root, struct err *err)
{
    uint64_t version;
    if (!parse_u64(json_object_get(root, "v"), &version))
        return err_set(err, ERR_FATAL, "not a checkpoint: \"v\" is missing");
    if (version > CHECKPOINT_VERSION)
        return err_set(err, ERR_FATAL,
                       "written by a newer busbar (version %" PRIu64 ", this one reads up to %d)",
                       version, CHECKPOINT_VERSION);
    const json_t *hashes = json_object_get(root, "hashes");
    const json_t *resync = json_object_get(root, "resync");
    if (!parse_hex(json_object_get(root, "journal"), &cp->journal_id) ||
        !parse_u64(json_object_get(root, "seq"), &cp->seq) ||
        !parse_u64(json_object_get(root, "index"), &cp->index) ||
        !parse_u64(json_object_get(root, "epoch"), &cp->epoch) || !json_is_boolean(resync) ||
        !json_is_array(hashes) || json_array_size(hashes) > CHECKPOINT_HASHES_MAX)
        return err_set(err, ERR_FATAL, "not a checkpoint: a field is missing or of another type");
    cp->resync_open = json_is_true(resync);
    cp->n_hashes = json_array_size(hashes);
    reserve(cp, cp->n_hashes);
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
