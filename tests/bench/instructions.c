/* instructions.c - the hot path's parts on fixed input, for counting their instructions.
 *
 *     instructions PART PASSES FOLDER [FILE.ndjson]
 *     instructions built
 *
 * Goes PASSES times over the recorded lines of Nomad's event stream with one part, and prints how
 * many events one pass has; FOLDER is for what the part writes. `built` tells by what it was
 * compiled: counts of another compiler or library are not to be compared. tests/bench/instructions
 * runs it under valgrind with two numbers of passes, so that what comes before the first one
 * cancels out. Nothing here depends on the clock. */
#include "bridge/base/buf.h"
#include "bridge/ingest.h"
#include "bridge/journal.h"
#include "connectors/kafka/kafka_headers.h"
#include "connectors/mirror/frame.h"
#include "connectors/mirror/ring.h"
#include "connectors/ndjson.h"
#include "connectors/nomad_line.h"
#include "connectors/redis/redis_batch.h"

#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINES_MAX = 4096,
    EVENTS_MAX = 16384,
    CHUNK = 128 * 1024,
    RING_BYTES = 4 << 20,
    JOURNAL_BYTES = 16 << 20,
};
#define INDEXES_A_PASS UINT64_C(1000000000)
#define FIRST_ARRIVAL_US INT64_C(1790000000000000)
#define JOURNAL_ID UINT64_C(0x0123456789abcdef)

struct input {
    struct buf text;
    const char *folder;
    struct nomad_line lines[LINES_MAX];
    struct str raw[LINES_MAX];
    size_t n_lines;
    struct event events[EVENTS_MAX]; /* as the journal gives them */
    size_t n_events;
    uint64_t pass; /* from 1 */
};

static struct input in;

static void check(int result, const struct err *err)
{
    if (result == 0)
        return;
    fprintf(stderr, "instructions: %s\n", err->msg);
    exit(1);
}

/* ---- the parts; each is one pass ---- */

static void scan(void)
{
    static struct nomad_line line;
    static struct ndjson framer;
    size_t events = 0;
    if (in.pass == 1)
        ndjson_init(&framer, 0);
    for (size_t at = 0; at < in.text.len; at += CHUNK) {
        size_t left = in.text.len - at;
        struct ndjson_line raw;
        ndjson_push(&framer, (struct str){in.text.p + at, left < CHUNK ? left : CHUNK});
        while (ndjson_next(&framer, &raw))
            if (nomad_line_parse(&line, raw.bytes, NULL) == 0)
                events += line.n_events;
    }
    if (events != in.n_events)
        abort();
}

static struct journal *open_journal(void)
{
    struct journal *journal;
    struct err err;
    const struct journal_options options = {
        .dir = in.folder,
        .max_size = JOURNAL_BYTES, /* some passes: segments begin, end, go */
        .sync_ms = JOURNAL_SYNC_NEVER,
        .boot_id = "instructions",
    };
    check(journal_open(&journal, &options, &err), &err);
    return journal;
}

static void append(void)
{
    static struct journal *journal;
    static int64_t arrival_us = FIRST_ARRIVAL_US;
    struct err err;
    if (in.pass == 1)
        journal = open_journal();
    const struct event *event = in.events;
    for (size_t i = 0; i < in.n_lines; i++) {
        size_t n = in.lines[i].n_events;
        if (n == 0)
            continue;
        check(journal_append(journal, in.raw[i], arrival_us, event, n, &err), &err);
        event += n;
        arrival_us += (int64_t)n + 100;
    }
    check(journal_commit(journal, &err), &err);
}

static void no_news(void *arg)
{
    (void)arg;
}

static uint64_t nothing_passed(void *arg)
{
    (void)arg;
    return 0;
}

static bool no_checkpoint(void *arg, struct known_checkpoint *known)
{
    (void)arg;
    (void)known;
    return true;
}

static struct ingest *open_ingest(void)
{
    static struct arrival arrival;
    struct ingest *ingest;
    struct err err;
    arrival_init(&arrival, 1);
    arrival_raise(&arrival, FIRST_ARRIVAL_US * 2); /* ahead of the clock: it is not looked at */
    const struct ingest_options options = {
        .source = "prod",
        .journal = open_journal(),
        .arrival = &arrival,
        .metrics = metrics_new(metrics_all_new(), METRICS_SOURCE, "prod", NULL),
        .checkpoints = no_checkpoint,
        .news = no_news,
        .passed = nothing_passed,
    };
    check(ingest_new(&ingest, &options, &err), &err);
    ingest_state(ingest, SOURCE_ATTACHED, "recorded", NULL);
    return ingest;
}

static void take(void)
{
    static struct ingest *ingest;
    struct err err;
    if (in.pass == 1)
        ingest = open_ingest();
    for (size_t i = 0; i < in.n_lines; i++) {
        struct nomad_line *line = &in.lines[i];
        for (size_t k = 0; k < line->n_events; k++)
            line->events[k].index += INDEXES_A_PASS; /* new in each pass */
        if (line->n_events > 0)
            check(ingest_message(ingest, in.raw[i], line->events, line->n_events, &err), &err);
    }
}

static void frame(void)
{
    static struct ring *ring;
    static struct buf out;
    if (in.pass == 1)
        ring = ring_new(RING_BYTES, FIRST_ARRIVAL_US - 1);
    for (size_t i = 0; i < in.n_events; i++) {
        struct event event = in.events[i];
        event.arrival_us += (int64_t)(in.pass * INDEXES_A_PASS);
        buf_clear(&out);
        frame_append_event(&out, "prod", JOURNAL_ID, &event);
        ring_append(ring, 0, &event, buf_str(&out));
    }
}

static void redis(bool in_transactions)
{
    static struct redis_batch plan;
    static struct redis_command cmd;
    static struct template *stream;
    struct err err;
    const struct redis_publish publish = {
        .sha = "0000000000000000000000000000000000000000",
        .checkpoint_key = "busbar:checkpoint",
        .owner_key = "busbar:owner",
        .lease_key = "busbar:lease",
        .instance = "0123456789abcdef",
        .owner = STR("0123456789abcdef"),
        .expected = STR("{}"),
        .next = STR("{}"),
        .max_entries = 20000,
    };
    if (in.pass == 1)
        check(template_new(&stream, "%{source}:%{topic}", 1, &err), &err);
    for (size_t at = 0; at < in.n_events; at += REDIS_BATCH_EVENTS_MAX) {
        const struct event *events[REDIS_BATCH_EVENTS_MAX];
        struct batch batch = {.events = events, .source = STR("prod"), .journal_id = JOURNAL_ID};
        for (; batch.n < REDIS_BATCH_EVENTS_MAX && at + batch.n < in.n_events; batch.n++)
            events[batch.n] = &in.events[at + batch.n];
        size_t pieces;
        redis_command_clear(&cmd);
        redis_batch_plan(&plan, stream, &batch);
        if (in_transactions)
            redis_batch_xadds(&plan, &publish, &batch, &cmd);
        else
            redis_batch_command(&plan, &publish, &batch, &cmd);
        redis_command_pieces(&cmd, &pieces);
    }
}

static void script(void)
{
    redis(false);
}

static void xadds(void)
{
    redis(true);
}

static void headers(void)
{
    static struct kafka_headers made;
    for (size_t i = 0; i < in.n_events; i++)
        rd_kafka_headers_destroy(kafka_headers_of(&made, STR("prod"), JOURNAL_ID, &in.events[i]));
}

/* ---- input ---- */

static void add_event(const struct found_event *found)
{
    size_t n = in.n_events;
    if (n == EVENTS_MAX)
        abort();
    in.events[in.n_events++] = (struct event){
        .topic = found->topic,
        .type = found->type,
        .key = found->key,
        .ns = found->ns,
        .filter_keys = found->filter_keys,
        .data = found->data,
        .seq = n + 1,
        .index = found->index,
        .pos_index = found->index,
        .ordinal = (uint32_t)n,
        .ident = n,
        .arrival_us = FIRST_ARRIVAL_US + (int64_t)n * 100,
    };
}

static void add_line(struct str raw)
{
    struct err err;
    if (in.n_lines == LINES_MAX)
        abort();
    struct nomad_line *line = &in.lines[in.n_lines];
    in.raw[in.n_lines++] = raw;
    check(nomad_line_parse(line, raw, &err), &err);
    for (size_t i = 0; i < line->n_events; i++)
        add_event(&line->events[i]);
}

static int read_input(const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t got;
    if (file == NULL)
        return -1;
    while ((got = fread(buf_reserve(&in.text, 65536), 1, 65536, file)) > 0)
        in.text.len += got;
    fclose(file);
    const char *p = in.text.p, *end = p + in.text.len, *lf;
    for (; p < end && (lf = memchr(p, '\n', (size_t)(end - p))) != NULL; p = lf + 1)
        add_line((struct str){p, (size_t)(lf - p)});
    return in.n_events > 0 ? 0 : -1;
}

static void print_built(void)
{
#if defined(__clang__)
    printf("clang %s", __clang_version__);
#else
    printf("gcc %s", __VERSION__);
#endif
#if !defined(__OPTIMIZE__)
    printf(" without optimization");
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    printf(" with a sanitizer");
#endif
#if defined(__x86_64__)
    printf(", x86_64");
#else
    printf(", not x86_64");
#endif
    printf(", glibc %s, librdkafka %s\n", gnu_get_libc_version(), rd_kafka_version_str());
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*pass)(void);
    } parts[] = {
        {"scan", scan},     {"append", append}, {"ingest", take},     {"frame", frame},
        {"script", script}, {"xadds", xadds},   {"headers", headers},
    };
    if (argc == 2 && strcmp(argv[1], "built") == 0) {
        print_built();
        return 0;
    }
    const char *path = argc > 4 ? argv[4] : "tests/fixtures/nomad/capture.ndjson";
    for (size_t i = 0; argc > 3 && i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(argv[1], parts[i].name) != 0)
            continue;
        in.folder = argv[3];
        if (read_input(path) != 0)
            break;
        uint64_t passes = strtoull(argv[2], NULL, 10);
        for (in.pass = 1; in.pass <= passes; in.pass++)
            parts[i].pass();
        printf("%zu\n", in.n_events);
        return 0;
    }
    fprintf(stderr,
            "instructions: usage: scan|append|ingest|frame|script|xadds|headers PASSES FOLDER "
            "[FILE.ndjson]\n");
    return 2;
}
