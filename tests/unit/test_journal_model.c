/* test_journal_model.c - the journal against a model of it, by random operations; and its blocks
 * and indexes against bytes that nobody wrote. */
#include "tests/unit/test_journal_kit.h"

#include "bridge/journal_internal.h"
#include "bridge/journal_segment.h"

#include <stdbool.h>
#include <sys/mman.h>

enum { READERS = 3, OPERATIONS = 6000 };

struct model {
    struct kit_dir dir, copy;
    struct journal *journal;
    struct journal_options options;
    struct journal_reader *readers[READERS];
    uint64_t id;
    uint64_t committed; /* next seq by what was committed */
    uint64_t pending;   /* next seq by what was appended */
    uint64_t random;
    unsigned blocks, losses, reopened;
};

static uint64_t pick(struct model *model, uint64_t n)
{
    model->random = kit_mix(model->random + 1);
    return (model->random >> 16) % n;
}

static void open_readers(struct model *model)
{
    for (int i = 0; i < READERS; i++)
        model->readers[i] = journal_reader_new(model->journal);
}

static void close_readers(struct model *model)
{
    for (int i = 0; i < READERS; i++)
        journal_reader_free(&model->readers[i]);
}

static void check_whole(const struct model *model, struct journal *journal)
{
    assert_int_equal(journal_id(journal), model->id);
    assert_int_equal(journal_next_seq(journal), model->committed);
    assert_in_range(journal_bytes(journal), 64, model->options.max_size);
    if (model->committed > 1)
        assert_int_equal(journal_tail(journal).pos_index, 100 + (model->committed - 1) / 3);
}

static void do_append(struct model *model)
{
    struct err err;
    size_t n = kit_append(model->journal, model->pending, &err);
    assert_true(n > 0);
    /* A full block may have been written by that. */
    model->committed = journal_next_seq(model->journal);
    model->pending += n;
    assert_true(model->committed <= model->pending);
}

static void do_commit(struct model *model)
{
    struct err err;
    assert_int_equal(journal_commit(model->journal, &err), 0);
    model->committed = model->pending;
    assert_int_equal(journal_next_seq(model->journal), model->committed);
}

static void do_read(struct model *model)
{
    struct journal_reader *reader = model->readers[pick(model, READERS)];
    struct block *block;
    struct err err;
    uint64_t wanted = journal_reader_seq(reader);
    switch (journal_reader_next(reader, 0, &block, &err)) {
    case JOURNAL_BLOCK:
        kit_check_block(block);
        assert_in_range(wanted, block->first_seq, block->first_seq + block->n_events - 1);
        assert_int_equal(journal_reader_seq(reader), block->first_seq + block->n_events);
        block_unref(&block);
        model->blocks++;
        break;
    case JOURNAL_NOTHING:
        assert_true(wanted >= model->committed);
        break;
    case JOURNAL_LOST:
        assert_true(wanted < journal_first_seq(model->journal));
        assert_int_equal(journal_reader_seq(reader), journal_first_seq(model->journal));
        model->losses++;
        break;
    case JOURNAL_STOPPED:
    case JOURNAL_ERROR:
        fail();
    }
}

static void do_seek(struct model *model)
{
    struct journal_reader *reader = model->readers[pick(model, READERS)];
    uint64_t seq = 1 + pick(model, model->committed + 3);
    uint64_t first = journal_first_seq(model->journal);
    switch (pick(model, 3)) {
    case 0:
        journal_reader_seek(reader, seq);
        assert_int_equal(journal_reader_seq(reader), seq);
        break;
    case 1:
        /* Arrivals of one message's events are closer than those of two: at most 3 off. */
        journal_reader_seek_arrival(reader, kit_arrival(seq));
        seq = seq > model->committed ? model->committed : seq;
        if (seq >= first)
            assert_in_range(journal_reader_seq(reader), seq, seq + 3);
        break;
    default:
        journal_reader_seek_index(reader, 100 + seq / 3);
        assert_in_range(journal_reader_seq(reader), 1, model->committed);
        if (seq < model->committed && seq >= first)
            assert_true(journal_reader_seq(reader) <= seq);
    }
}

static void do_reopen(struct model *model)
{
    close_readers(model);
    journal_close(&model->journal);
    model->committed = model->pending; /* closing commits */
    model->journal = kit_open_with(&model->options);
    model->journal->ring.bytes_max = pick(model, 3) * 200000;
    check_whole(model, model->journal);
    open_readers(model);
    model->reopened++;
}

/* What a kill now would leave, read by somebody else. */
static void do_crash(struct model *model)
{
    kit_dir_copy(&model->dir, &model->copy);
    struct journal_options options = model->options;
    options.dir = model->copy.path;
    struct journal *journal = kit_open_with(&options);
    check_whole(model, journal);
    assert_int_equal(kit_drain_all(journal), model->committed - journal_first_seq(journal));
    journal_close(&journal);
}

static void step(struct model *model)
{
    uint64_t what = pick(model, 1000);
    if (what < 380)
        do_append(model);
    else if (what < 480)
        do_commit(model);
    else if (what < 930)
        do_read(model);
    else if (what < 990)
        do_seek(model);
    else if (what < 997)
        do_reopen(model);
    else
        do_crash(model);
}

static void behaves_like_its_model(void **state)
{
    struct model model = {.dir = *(struct kit_dir *)*state, .committed = 1, .pending = 1};
    model.options = kit_options(&model.dir);
    model.options.max_size = KIT_MIB;
    model.random = 4711;
    kit_dir_make(&model.copy);
    kit_pad = 3000;
    model.journal = kit_open_with(&model.options);
    model.id = journal_id(model.journal);
    open_readers(&model);
    for (int i = 0; i < OPERATIONS; i++)
        step(&model);
    assert_true(model.blocks > 1000 && model.losses > 10 && model.reopened > 10);
    close_readers(&model);
    journal_close(&model.journal);
    kit_dir_remove(&model.copy);
}

/* ---- hostile bytes ---- */

static char *image_of(size_t *size, struct journal_block_header *header)
{
    struct journal_build build = {0};
    struct kit_message m = {0};
    for (uint64_t seq = 1; seq < 20; seq += m.n) {
        kit_message(&m, seq);
        journal_build_add(&build, m.raw, m.arrival_us, m.events, m.n);
    }
    buf_fini(&m.packed);
    struct journal_image image;
    journal_build_image(&build, 1, 64, &image);
    *header = image.header;
    *size = journal_format_body_size(header);
    struct buf body = {0};
    buf_append(&body, image.data, header->data_len);
    buf_append_str(&body, buf_str(&build.messages));
    buf_append_str(&body, buf_str(&build.events));
    assert_int_equal(body.len, *size);
    char *copy = mem_strndup(body.p, body.len);
    buf_fini(&body);
    journal_build_fini(&build);
    return copy;
}

/* Adds up all that a block gives, so that a sanitizer sees what is out of bounds. */
static uint64_t touch(const struct block *block)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < block->n_messages; i++)
        sum = hash64(sum, block->messages[i].raw.p, block->messages[i].raw.len);
    for (size_t i = 0; i < block->n_events; i++) {
        const struct event *e = &block->events[i];
        const struct str all[] = {e->topic, e->type, e->key, e->ns, e->filter_keys, e->data};
        for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
            sum = hash64(sum, all[k].p, all[k].len);
    }
    return sum;
}

static void records_that_lie_are_refused_or_stay_within_the_block(void **state)
{
    (void)state;
    struct journal_block_header header;
    size_t size;
    char *sound = image_of(&size, &header);
    uint64_t sum = 0, refused = 0, accepted = 0;
    for (size_t at = header.data_len; at < size; at++) {
        for (int value = 0; value < 4; value++) {
            char *copy = mem_strndup(sound, size);
            copy[at] = (char)(copy[at] ^ (value == 0 ? 0xff : 1 << value));
            struct block *block = journal_block_from_body(&header, copy, size);
            if (block != NULL) {
                sum += touch(block);
                accepted++;
            } else {
                free(copy);
                refused++;
            }
            block_unref(&block);
        }
    }
    assert_true(refused > 100 && accepted > 100 && sum != 0);
    free(sound);
}

static void data_outside_its_message_is_refused(void **state)
{
    (void)state;
    struct journal_block_header header;
    size_t size;
    char *body = image_of(&size, &header);
    char *last = body + size - JOURNAL_EVENT_RECORD; /* its data: offset, length */
    memset(last, 0, 8);
    assert_null(journal_block_from_body(&header, body, size)); /* before it */
    free(body);
}

static void headers_that_lie_are_refused(void **state)
{
    (void)state;
    struct journal_block_header header, again;
    size_t size;
    free(image_of(&size, &header));
    unsigned char bytes[JOURNAL_BLOCK_HEADER];
    journal_format_put_block(bytes, &header);
    assert_true(journal_format_get_block(bytes, 64, &again));
    assert_int_equal(again.body_crc, header.body_crc);
    assert_int_equal(again.n_messages, header.n_messages);
    assert_int_equal(again.last.seq, header.last.seq);
    assert_int_equal(again.last.arrival_us, header.last.arrival_us);
    assert_int_equal(again.last.pos_index, header.last.pos_index);
    assert_int_equal(again.last.ordinal, header.last.ordinal);
    assert_false(journal_format_get_block(bytes, 65, &again)); /* a block elsewhere is none */
    for (size_t i = 0; i < sizeof bytes * 8; i++) {
        bytes[i / 8] ^= (unsigned char)(1 << i % 8);
        assert_false(journal_format_get_block(bytes, 64, &again));
        bytes[i / 8] ^= (unsigned char)(1 << i % 8);
    }
    struct journal_block_header lies[] = {header, header, header, header, header};
    lies[0].n_events = 0;
    lies[1].n_messages = 0;
    lies[2].data_len = JOURNAL_DATA_MAX + 1U;
    lies[3].first_seq = 0;
    lies[4].arrival_us = -1;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        journal_format_put_block(bytes, &lies[i]);
        assert_false(journal_format_get_block(bytes, 64, &again));
    }
}

static void a_header_is_found_wherever_it_begins(void **state)
{
    (void)state;
    enum { AROUND = 256 * 1024 }; /* files are searched in pieces of this */
    struct journal_block_header header, found;
    size_t size;
    char *body = image_of(&size, &header);
    int fd = memfd_create("segment", MFD_CLOEXEC);
    for (uint64_t at = AROUND - 70; at < AROUND + 5; at++) {
        unsigned char bytes[JOURNAL_BLOCK_HEADER];
        header.offset = at;
        journal_format_put_block(bytes, &header);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(journal_segment_pwrite(fd, bytes, sizeof bytes, at), 0);
        assert_int_equal(journal_segment_pwrite(fd, body, size, at + sizeof bytes), 0);
        uint64_t end = at + sizeof bytes + size;
        assert_int_equal(journal_segment_resync(fd, 0, end, 1, &found), JOURNAL_FOUND);
        assert_int_equal(found.offset, at);
        assert_int_equal(journal_segment_resync(fd, 0, end, 2, &found), JOURNAL_END);
        assert_int_equal(journal_segment_resync(fd, 0, end - 1, 1, &found), JOURNAL_END);
    }
    close(fd);
    free(body);
}

static void an_index_is_whole_or_refused(void **state)
{
    (void)state;
    struct journal_index index = {0}, again = {0};
    struct journal_block_header block = {.first_seq = 1};
    struct journal_mark before = {0};
    for (uint64_t i = 0; i < 50; i++) {
        block.offset = 64 + i * 40000; /* every other one is far enough */
        block.first_seq = 1 + i * 10;
        before.seq = block.first_seq - 1;
        journal_index_add(&index, &block, &before);
    }
    assert_int_equal(index.n, 25);
    struct journal_index_summary summary = {1, 2000064, {500, 5, 6, 7}}, got;
    struct buf bytes = {0};
    journal_format_put_index(&bytes, &summary, &index);
    assert_true(journal_format_get_index(buf_str(&bytes), &got, &again));
    assert_memory_equal(again.entries, index.entries, index.n * sizeof *index.entries);
    assert_int_equal(got.last.ordinal, 7);
    for (size_t len = 0; len < bytes.len; len++)
        assert_false(journal_format_get_index((struct str){bytes.p, len}, &got, NULL));
    for (size_t i = 0; i < bytes.len; i++) {
        bytes.p[i] ^= 4;
        assert_false(journal_format_get_index(buf_str(&bytes), &got, NULL));
        bytes.p[i] ^= 4;
    }
    struct journal_target target = {.by = JOURNAL_BY_SEQ, .seq = 45};
    assert_int_equal(journal_index_find(&again, &target)->first_seq, 41);
    target.seq = 41;
    assert_int_equal(journal_index_find(&again, &target)->first_seq, 41);
    target.seq = 0;
    assert_null(journal_index_find(&again, &target));
    journal_index_fini(&index);
    journal_index_fini(&again);
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(behaves_like_its_model),
        cmocka_unit_test(records_that_lie_are_refused_or_stay_within_the_block),
        cmocka_unit_test(data_outside_its_message_is_refused),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(a_header_is_found_wherever_it_begins),
        cmocka_unit_test(an_index_is_whole_or_refused),
    };
    log_setup(LOG_LOGFMT, LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
