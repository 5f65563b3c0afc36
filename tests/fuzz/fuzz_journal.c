/* fuzz_journal.c - what lies on disk may be anything: blocks, indexes and whole segments made of
 * arbitrary bytes are refused or stay within their bounds.
 *
 * The first byte chooses: 0 a block (header without its CRC, then the body), 1 an index file, else
 * a segment file, whose block headers and bodies get the CRCs that they should have. */
#include "bridge/base/hash.h"
#include "bridge/journal_block.h"
#include "bridge/journal_segment.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sum;

static void touch(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        sum += (unsigned char)s.p[i];
}

static void touch_block(const struct block *block)
{
    size_t events = 0;
    for (size_t i = 0; i < block->n_messages; i++) {
        touch(block->messages[i].raw);
        events += block->messages[i].n_events;
    }
    if (events != block->n_events)
        abort();
    for (size_t i = 0; i < block->n_events; i++) {
        const struct event *e = &block->events[i];
        touch(e->topic);
        touch(e->type);
        touch(e->key);
        touch(e->ns);
        touch(e->filter_keys);
        touch(e->data);
    }
}

static void try_block(const uint8_t *data, size_t size)
{
    struct journal_block_header header;
    if (size < JOURNAL_BLOCK_HEADER || !journal_format_get_block_unchecked(data, &header))
        return;
    size_t body = size - JOURNAL_BLOCK_HEADER;
    if (journal_format_body_size(&header) != body)
        return;
    char *memory = mem_alloc(body);
    memcpy(memory, data + JOURNAL_BLOCK_HEADER, body);
    struct block *block = journal_block_from_body(&header, memory, body);
    if (block != NULL)
        touch_block(block);
    else
        free(memory);
    block_unref(&block);
}

static void try_index(const uint8_t *data, size_t size)
{
    struct journal_index_summary summary;
    struct journal_index index = {0};
    char *copy = mem_strndup((const char *)data, size);
    if (size >= JOURNAL_INDEX_HEADER) {
        uint32_t crc = crc32c(0, copy + 12, size - 12);
        memcpy(copy + 8, &crc, sizeof crc);
    }
    if (journal_format_get_index((struct str){copy, size}, &summary, &index)) {
        struct journal_target target = {.by = JOURNAL_BY_SEQ, .seq = summary.last.seq};
        journal_index_find(&index, &target);
    }
    journal_index_fini(&index);
    free(copy);
}

/* Makes what looks like a block one whose CRCs are right. */
static void seal(uint8_t *p, size_t size)
{
    for (size_t at = 0; at + JOURNAL_BLOCK_HEADER <= size; at++) {
        struct journal_block_header header;
        if (memcmp(p + at, JOURNAL_BLOCK_MAGIC, JOURNAL_BLOCK_MAGIC_LEN) != 0 ||
            !journal_format_get_block_unchecked(p + at, &header))
            continue;
        size_t body = journal_format_body_size(&header);
        if (body <= size - at - JOURNAL_BLOCK_HEADER)
            header.body_crc = crc32c(0, p + at + JOURNAL_BLOCK_HEADER, body);
        header.offset = at;
        journal_format_put_block(p + at, &header);
    }
}

static void try_segment(const uint8_t *data, size_t size)
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("segment", MFD_CLOEXEC);
    uint8_t *copy = (uint8_t *)mem_strndup((const char *)data, size);
    seal(copy, size);
    if (ftruncate(fd, 0) < 0 || journal_segment_pwrite(fd, copy, size, 0) < 0)
        abort();
    free(copy);
    struct journal_mark before = {0};
    struct journal_scan scan;
    for (int bodies = 0; bodies < 2; bodies++) {
        if (journal_segment_scan(fd, size, &before, bodies != 0, &scan) < 0 ||
            (scan.end > size && scan.end != JOURNAL_SEGMENT_HEADER))
            abort();
        journal_index_fini(&scan.index);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 0)
        try_block(data + 1, size - 1);
    else if (data[0] == 1)
        try_index(data + 1, size - 1);
    else
        try_segment(data + 1, size - 1);
    return 0;
}
