/* test_journal_format.c - a journal that the format-1 program wrote (fixtures/journal-format-1: 19
 * events of the first 12 lines of nomad/capture.ndjson) is read, and goes on in today's format. */
#include "tests/unit/test_journal_kit.h"

#include "bridge/journal_internal.h"
#include "bridge/journal_segment.h"
#include "tests/unit/fixture.h"

#include <jansson.h>

#define OLD_ID UINT64_C(0xb1471a96d416d748)
enum { OLD_EVENTS = 19, OLD_LINES = 12, NEW_EVENTS = 60 };

static const char old_segment[] = "00000000000000000001.seg";

static void put_file(const char *path, struct str bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes.p, bytes.len), bytes.len);
    close(fd);
}

static void path_of(const struct kit_dir *dir, const char *name, char out[512])
{
    snprintf(out, 512, "%s/%.63s", dir->path, name);
}

/* The fixture, or its first `size` bytes. */
static void put_old(const struct kit_dir *dir, size_t size)
{
    char path[512];
    kit_dir_empty(dir);
    struct buf segment = fixture_read("journal-format-1/00000000000000000001.seg");
    struct buf meta = fixture_read("journal-format-1/meta");
    path_of(dir, old_segment, path);
    put_file(path, (struct str){segment.p, size < segment.len ? size : segment.len});
    path_of(dir, "meta", path);
    put_file(path, buf_str(&meta));
    buf_fini(&segment);
    buf_fini(&meta);
}

/* As a kill leaves it, where kit_open's boot goes on. */
static void put_old_meta_in_use(const struct kit_dir *dir)
{
    char path[512];
    struct buf text = {0};
    buf_printf(&text, "format=1\nid=%016" PRIx64 "\nboot=boot-1\nclosed=no\nnext_seq=1\n", OLD_ID);
    buf_printf(&text, "crc=%08" PRIx32 "\n", crc32c(0, text.p, text.len));
    path_of(dir, "meta", path);
    put_file(path, buf_str(&text));
    buf_fini(&text);
}

/* ---- what the fixture says, told by its capture ---- */

static struct str string_of(json_t *event, const char *name)
{
    json_t *value = json_object_get(event, name);
    assert_true(json_is_string(value));
    return (struct str){json_string_value(value), json_string_length(value)};
}

static void check_filter_keys(const struct event *e, json_t *keys)
{
    struct str rest = e->filter_keys, key;
    size_t n = 0;
    for (; event_next_filter_key(&rest, &key); n++) {
        json_t *wanted = json_array_get(keys, n);
        kit_check_str(key, (struct str){json_string_value(wanted), json_string_length(wanted)});
    }
    assert_int_equal(n, json_is_array(keys) ? json_array_size(keys) : 0);
}

static void check_old_event(const struct event *e, json_t *wanted, uint64_t seq)
{
    json_t *data = json_loadb(e->data.p, e->data.len, 0, NULL);
    assert_true(json_equal(data, wanted));
    json_decref(data);
    struct str topic = string_of(wanted, "Topic"), type = string_of(wanted, "Type");
    struct str key = string_of(wanted, "Key"), ns = string_of(wanted, "Namespace");
    kit_check_str(e->topic, topic);
    kit_check_str(e->type, type);
    kit_check_str(e->key, key);
    kit_check_str(e->ns, ns);
    check_filter_keys(e, json_object_get(wanted, "FilterKeys"));
    uint64_t index = (uint64_t)json_integer_value(json_object_get(wanted, "Index"));
    assert_int_equal(e->seq, seq);
    assert_int_equal(e->index, index);
    assert_int_equal(e->pos_index, index);
    assert_int_equal(e->ident, event_hash(index, topic, ns, key, type, e->occurrence));
    assert_int_equal(e->time_us, 0);
    assert_int_equal(e->epoch, 0);
    assert_int_equal(e->origin, EVENT_SOURCE);
    assert_false(e->repeat);
}

/* One message is one line, to the byte. */
static void check_old_message(const struct block *block, const struct journal_message *message,
                              struct str line, int64_t *arrival_us)
{
    kit_check_str(message->raw, line);
    json_t *whole = json_loadb(line.p, line.len, 0, NULL);
    json_t *events = json_object_get(whole, "Events");
    assert_int_equal(message->n_events, json_array_size(events));
    for (size_t i = 0; i < message->n_events; i++) {
        const struct event *e = &block->events[message->first_event + i];
        check_old_event(e, json_array_get(events, i), block->first_seq + message->first_event + i);
        assert_true(e->arrival_us > *arrival_us);
        assert_in_range(e->data.p - message->raw.p, 0, message->raw.len - e->data.len);
        *arrival_us = e->arrival_us;
    }
    json_decref(whole);
}

static struct str next_line(struct str *rest)
{
    const char *end = memchr(rest->p, '\n', rest->len);
    assert_non_null(end);
    struct str line = {rest->p, (size_t)(end - rest->p)};
    *rest = (struct str){end + 1, rest->len - line.len - 1};
    return line;
}

/* Reads the old events and stands behind them. */
static void check_old(struct journal_reader *reader)
{
    struct buf capture = fixture_read("nomad/capture.ndjson");
    struct str rest = buf_str(&capture);
    struct block *block;
    struct err err;
    int64_t arrival_us = 0;
    uint64_t events = 0;
    for (size_t lines = 0; events < OLD_EVENTS;) {
        assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
        assert_int_equal(block->first_seq, events + 1);
        for (size_t i = 0; i < block->n_messages; lines++) {
            assert_true(lines < OLD_LINES);
            struct str line = next_line(&rest);
            if (!str_is(line, "{}"))
                check_old_message(block, &block->messages[i++], line, &arrival_us);
        }
        events += block->n_events;
        block_unref(&block);
    }
    assert_int_equal(events, OLD_EVENTS);
    buf_fini(&capture);
}

/* All that is there is the old and `n` newer ones. */
static void check_all(struct journal *journal, uint64_t n)
{
    struct journal_reader *reader = journal_reader_new(journal);
    check_old(reader);
    assert_int_equal(kit_drain(reader), n);
    assert_int_equal(OLD_EVENTS + n + 1, journal_next_seq(journal));
    journal_reader_free(&reader);
}

static uint32_t format_of(const struct kit_dir *dir, const char *name)
{
    char path[512];
    unsigned char bytes[JOURNAL_SEGMENT_HEADER];
    struct journal_segment_header header;
    path_of(dir, name, path);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, bytes, sizeof bytes), sizeof bytes);
    close(fd);
    assert_true(journal_format_get_segment(bytes, &header));
    return header.format;
}

/* Closes and opens it: nothing changes. */
static void again(struct journal **journal, const struct kit_dir *dir)
{
    uint64_t id = journal_id(*journal), next = journal_next_seq(*journal);
    journal_close(journal);
    *journal = kit_open(dir);
    assert_int_equal(journal_id(*journal), id);
    assert_int_equal(journal_next_seq(*journal), next);
}

static void gives_back_every_event_of_format_1(void **state)
{
    put_old(*state, SIZE_MAX);
    struct journal *journal = kit_open(*state);
    assert_int_equal(journal_id(journal), OLD_ID);
    assert_int_equal(journal_first_seq(journal), 1);
    check_all(journal, 0);
    again(&journal, *state);
    check_all(journal, 0);
    journal_close(&journal);
}

static void goes_on_behind_it_in_a_segment_of_its_own(void **state)
{
    put_old(*state, SIZE_MAX);
    struct journal *journal = kit_open(*state);
    assert_null(journal->segments[0].file); /* nobody has the old one open */
    kit_write(journal, NEW_EVENTS, 3);
    uint64_t n = journal_next_seq(journal) - 1 - OLD_EVENTS;
    check_all(journal, n);
    char names[8][64];
    assert_int_equal(kit_dir_list(*state, ".seg", names, 8), 2);
    assert_int_equal(format_of(*state, names[0]), 1);
    assert_int_equal(format_of(*state, names[1]), JOURNAL_FORMAT);
    again(&journal, *state);
    check_all(journal, n); /* from disk */
    again(&journal, *state);
    assert_int_equal(kit_dir_list(*state, ".seg", names, 8), 2);
    journal_close(&journal);
}

static void finds_what_is_before_and_behind_the_change(void **state)
{
    put_old(*state, SIZE_MAX);
    struct journal *journal = kit_open(*state);
    struct block *block;
    struct err err;
    kit_write(journal, NEW_EVENTS, 3);
    again(&journal, *state);
    struct journal_reader *reader = journal_reader_new(journal);
    for (uint64_t seq = 1; seq < journal_next_seq(journal); seq++) {
        journal_reader_seek(reader, seq);
        assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
        assert_in_range(seq, block->first_seq, block->first_seq + block->n_events - 1);
        block_unref(&block);
    }
    journal_reader_seek_index(reader, 15); /* of the fixture's last but four */
    assert_in_range(journal_reader_seq(reader), 1, OLD_EVENTS);
    journal_reader_seek_index(reader, 100);
    assert_int_equal(journal_reader_seq(reader), OLD_EVENTS + 1);
    journal_reader_free(&reader);
    journal_close(&journal);
}

/* The fixture's one block, and once more the same behind it as a block of the next numbers, of
 * which `size` bytes are there. Its size whole. */
static size_t put_two_blocks(const struct kit_dir *dir, size_t size)
{
    put_old(dir, SIZE_MAX);
    put_old_meta_in_use(dir);
    char path[512];
    path_of(dir, old_segment, path);
    struct buf bytes = fixture_read("journal-format-1/00000000000000000001.seg");
    unsigned char *block = (unsigned char *)bytes.p + JOURNAL_SEGMENT_HEADER;
    struct journal_block_header header;
    assert_true(journal_format_get_block(block, JOURNAL_SEGMENT_HEADER, &header));
    assert_int_equal(header.format, 1);
    size_t whole = bytes.len - JOURNAL_SEGMENT_HEADER;
    assert_int_equal(JOURNAL_BLOCK_HEADER + journal_format_body_size(&header), whole);
    header.first_seq = OLD_EVENTS + 1;
    header.arrival_us += 1000000;
    header.last.arrival_us += 1000000;
    header.offset = bytes.len;
    journal_format_put_block(block, &header);
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, block, size < whole ? size : whole), size < whole ? size : whole);
    close(fd);
    buf_fini(&bytes);
    return whole;
}

static void a_torn_tail_of_format_1_is_cut_wherever_it_was_torn(void **state)
{
    size_t whole = put_two_blocks(*state, 0);
    for (size_t size = whole; size-- > 0; size -= size > 200 ? size % 997 : 0) {
        put_two_blocks(*state, size);
        struct journal *journal = kit_open(*state);
        assert_int_equal(journal_id(journal), OLD_ID); /* nobody has seen what was half-written */
        assert_int_equal(journal_next_seq(journal), OLD_EVENTS + 1);
        kit_write(journal, 5, 2);
        again(&journal, *state);
        check_all(journal, journal_next_seq(journal) - 1 - OLD_EVENTS);
        journal_close(&journal);
    }
    put_two_blocks(*state, whole);
    struct journal *journal = kit_open(*state);
    assert_int_equal(journal_next_seq(journal), 2 * OLD_EVENTS + 1);
    journal_close(&journal);
}

static void a_torn_first_block_of_format_1_leaves_an_empty_journal(void **state)
{
    for (size_t size = 38000; size > JOURNAL_SEGMENT_HEADER; size -= size / 7) {
        put_old(*state, size);
        put_old_meta_in_use(*state);
        struct journal *journal = kit_open(*state);
        assert_int_equal(journal_id(journal), OLD_ID);
        assert_int_equal(journal_next_seq(journal), 1);
        kit_write(journal, 5, 2);
        again(&journal, *state);
        assert_int_equal(kit_drain_all(journal) + 1, journal_next_seq(journal));
        journal_close(&journal);
    }
}

static void an_empty_segment_of_format_1_becomes_a_new_one(void **state)
{
    put_old(*state, JOURNAL_SEGMENT_HEADER);
    put_old_meta_in_use(*state);
    struct journal *journal = kit_open(*state);
    assert_int_equal(journal_id(journal), OLD_ID);
    assert_int_equal(format_of(*state, old_segment), JOURNAL_FORMAT);
    kit_write(journal, NEW_EVENTS, 3);
    again(&journal, *state);
    assert_int_equal(kit_drain_all(journal) + 1, journal_next_seq(journal));
    char names[8][64];
    assert_int_equal(kit_dir_list(*state, ".seg", names, 8), 1);
    journal_close(&journal);
}

static void a_kill_while_it_is_upgraded_costs_nothing(void **state)
{
    char name[JOURNAL_NAME_MAX], path[512];
    journal_segment_name(name, OLD_EVENTS + 1, ".seg");
    path_of(*state, name, path);
    for (off_t size = -1; size <= JOURNAL_SEGMENT_HEADER; size += 13) {
        put_old(*state, SIZE_MAX);
        struct journal *journal = kit_open(*state); /* meta, index and segment are new */
        journal_close(&journal);
        put_old_meta_in_use(*state);
        if (size < 0)
            unlink(path);
        else
            assert_int_equal(truncate(path, size), 0);
        journal = kit_open(*state);
        assert_int_equal(journal_id(journal), OLD_ID);
        kit_write(journal, 5, 2);
        check_all(journal, journal_next_seq(journal) - 1 - OLD_EVENTS);
        journal_close(&journal);
    }
}

static void a_flipped_byte_of_format_1_is_told(void **state)
{
    struct buf whole = fixture_read("journal-format-1/00000000000000000001.seg");
    char path[512];
    path_of(*state, old_segment, path);
    for (off_t at = JOURNAL_SEGMENT_HEADER; at < (off_t)whole.len; at += 997) {
        put_old(*state, SIZE_MAX);
        struct journal *journal = kit_open(*state);
        kit_write(journal, 5, 2);
        uint64_t new_ones = journal_next_seq(journal) - 1 - OLD_EVENTS;
        again(&journal, *state);
        kit_file_flip(path, at);
        struct journal_reader *reader = journal_reader_new(journal);
        struct block *block;
        struct err err;
        uint64_t lost = 0, seq = 1;
        enum journal_read result;
        while ((result = journal_reader_next(reader, 0, &block, &err)) != JOURNAL_NOTHING) {
            if (result == JOURNAL_LOST)
                lost += journal_reader_seq(reader) - seq;
            else
                assert_int_equal(result, JOURNAL_BLOCK);
            seq = journal_reader_seq(reader);
            block_unref(&block);
        }
        assert_in_range(lost, 1, OLD_EVENTS);
        assert_int_equal(seq, OLD_EVENTS + new_ones + 1);
        journal_reader_free(&reader);
        journal_close(&journal);
    }
    buf_fini(&whole);
}

static void behind_a_bad_block_of_format_1_the_next_is_found(void **state)
{
    struct block *block;
    struct err err;
    char path[512];
    path_of(*state, old_segment, path);
    for (int at = 0; at < JOURNAL_BLOCK_HEADER + 20; at++) {
        put_two_blocks(*state, SIZE_MAX);
        kit_file_flip(path, JOURNAL_SEGMENT_HEADER + at);
        struct journal *journal = kit_open(*state);
        struct journal_reader *reader = journal_reader_new(journal);
        assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_LOST);
        assert_int_equal(journal_reader_next(reader, 0, &block, &err), JOURNAL_BLOCK);
        assert_int_equal(block->first_seq, OLD_EVENTS + 1);
        assert_int_equal(block->n_events, OLD_EVENTS);
        block_unref(&block);
        journal_reader_free(&reader);
        journal_close(&journal);
    }
}

static void each_format_knows_its_own_origins(void **state)
{
    (void)state;
    struct event event = {.origin = EVENT_SNAPSHOT, .epoch = 7, .repeat = true}, got;
    struct journal_refs refs = {0};
    unsigned char record[JOURNAL_EVENT_RECORD];
    journal_format_put_event(record, &event, &refs);
    struct journal_place place = {.format = JOURNAL_FORMAT, .area = STR("")};
    assert_true(journal_format_get_event(record, &place, &got));
    assert_true(got.origin == EVENT_SNAPSHOT && got.epoch == 7 && got.repeat);
    place.format = 1; /* its program could not have written that */
    assert_false(journal_format_get_event(record, &place, &got));
    record[88] = 4 | EVENT_OWN;
    assert_true(journal_format_get_event(record, &place, &got));
    assert_true(got.origin == EVENT_OWN && got.epoch == 0);
    record[88] = 8;
    place.format = JOURNAL_FORMAT;
    assert_false(journal_format_get_event(record, &place, &got));
}

static void an_index_of_format_1_is_good_and_one_of_none_is_not(void **state)
{
    (void)state;
    for (uint32_t format = 0; format < 4; format++) {
        struct journal_index index = {0};
        struct journal_index_summary summary = {1, 1000, {5, 6, 7, 8}}, got;
        struct buf bytes = {0};
        journal_format_put_index(&bytes, &summary, &index);
        bytes.p[12] = (char)format;
        uint32_t crc = crc32c(0, bytes.p + 12, bytes.len - 12);
        for (int i = 0; i < 4; i++)
            bytes.p[8 + i] = (char)(crc >> (8 * i));
        assert_int_equal(journal_format_get_index(buf_str(&bytes), &got, NULL),
                         format == 1 || format == JOURNAL_FORMAT);
        buf_fini(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(gives_back_every_event_of_format_1),
        KIT_TEST(goes_on_behind_it_in_a_segment_of_its_own),
        KIT_TEST(finds_what_is_before_and_behind_the_change),
        KIT_TEST(a_torn_tail_of_format_1_is_cut_wherever_it_was_torn),
        KIT_TEST(a_torn_first_block_of_format_1_leaves_an_empty_journal),
        KIT_TEST(an_empty_segment_of_format_1_becomes_a_new_one),
        KIT_TEST(a_kill_while_it_is_upgraded_costs_nothing),
        KIT_TEST(a_flipped_byte_of_format_1_is_told),
        KIT_TEST(behind_a_bad_block_of_format_1_the_next_is_found),
        cmocka_unit_test(each_format_knows_its_own_origins),
        cmocka_unit_test(an_index_of_format_1_is_good_and_one_of_none_is_not),
    };
    log_setup(LOG_LOGFMT, LOG_ERROR);
    kit_first_us = INT64_C(1900000000000000); /* after the fixture's */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
