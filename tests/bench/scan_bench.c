/* scan_bench.c - what the hot path pays for reading: ns per event and MB/s, all in one run.
 *
 *     scan_bench [FILE.ndjson [SECONDS]]
 *
 * FILE: lines of Nomad's event stream, the recorded ones by default. Compares with the floor (find
 * the line's end, copy it) and with jansson's tree; the last column is the ratio to the floor. CPU
 * time of this process; the machine may be noisy, so each row is the best of its rounds: trust the
 * ratios. */
#include "bridge/base/buf.h"
#include "bridge/redact.h"
#include "connectors/json_scan.h"
#include "connectors/ndjson.h"
#include "connectors/nomad_line.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINES_MAX = 65536, CHUNK = 16384 };

struct input {
    struct buf text;
    struct str *lines;
    size_t n_lines;
    size_t n_events;
    char *copy; /* as large as the text */
    struct str *events;
    struct redact *deep, *exact; /* three paths each */
};

/* Goes once over the input; the result only keeps the compiler from leaving work out. */
typedef size_t pass_fn(const struct input *in);

static size_t floor_pass(const struct input *in)
{
    const char *p = in->text.p, *end = p + in->text.len;
    char *to = in->copy;
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((lf != NULL ? lf : end) - p);
        memcpy(to, p, len);
        __asm__ volatile("" : : "r"(to) : "memory");
        to += len;
        p += len + 1;
    }
    return (size_t)(to - in->copy);
}

static size_t scan_pass(const struct input *in)
{
    size_t good = 0;
    for (size_t i = 0; i < in->n_lines; i++) {
        struct json_scan scan;
        json_scan_init(&scan, in->lines[i]);
        good += json_scan_skip(&scan, NULL) && json_scan_end(&scan);
    }
    return good;
}

static size_t line_pass(const struct input *in)
{
    static struct nomad_line line;
    size_t events = 0;
    for (size_t i = 0; i < in->n_lines; i++)
        if (nomad_line_parse(&line, in->lines[i], NULL) == 0)
            events += line.n_events;
    return events;
}

static size_t framed_pass(const struct input *in)
{
    static struct nomad_line line;
    struct ndjson framer;
    ndjson_init(&framer, 0);
    size_t events = 0;
    for (size_t at = 0; at < in->text.len; at += CHUNK) {
        size_t left = in->text.len - at;
        ndjson_push(&framer, (struct str){in->text.p + at, left < CHUNK ? left : CHUNK});
        struct ndjson_line raw;
        while (ndjson_next(&framer, &raw))
            if (nomad_line_parse(&line, raw.bytes, NULL) == 0)
                events += line.n_events;
    }
    ndjson_fini(&framer);
    return events;
}

static size_t redact_all(const struct input *in, const struct redact *redact)
{
    static struct buf out;
    size_t replaced = 0;
    for (size_t i = 0; i < in->n_events; i++)
        replaced += redact_apply(redact, in->events[i], &out);
    return replaced;
}

static size_t deep_pass(const struct input *in)
{
    return redact_all(in, in->deep);
}

static size_t exact_pass(const struct input *in)
{
    return redact_all(in, in->exact);
}

static size_t jansson_pass(const struct input *in)
{
    size_t good = 0;
    for (size_t i = 0; i < in->n_lines; i++) {
        json_t *tree = json_loadb(in->lines[i].p, in->lines[i].len, JSON_ALLOW_NUL, NULL);
        good += tree != NULL;
        json_decref(tree);
    }
    return good;
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The best time of one pass, in seconds. */
static double measure(const struct input *in, pass_fn *pass, double seconds)
{
    double best = 1e9, until = cpu_seconds() + seconds;
    volatile size_t result = 0;
    do {
        double from = cpu_seconds();
        result = pass(in);
        double took = cpu_seconds() - from;
        best = took < best ? took : best;
    } while (cpu_seconds() < until);
    (void)result;
    return best;
}

static void prepare_redact(struct input *in)
{
    static const char *const deep[] = {"$..Env", "$..Meta", "$..EmbeddedTmpl"};
    static const char *const exact[] = {
        "$.Payload.Job.Meta",
        "$.Payload.Job.TaskGroups[*].Tasks[*].Env",
        "$.Payload.Job.TaskGroups[*].Tasks[*].Templates[*].EmbeddedTmpl",
    };
    static struct nomad_line line;
    size_t n = 0;
    in->events = mem_alloc((in->n_events + 1) * sizeof *in->events);
    for (size_t i = 0; i < in->n_lines; i++)
        if (nomad_line_parse(&line, in->lines[i], NULL) == 0)
            for (size_t j = 0; j < line.n_events && n < in->n_events; j++)
                in->events[n++] = line.events[j].data;
    redact_new(&in->deep, &(struct setting_list){deep, 3}, NULL);
    redact_new(&in->exact, &(struct setting_list){exact, 3}, NULL);
}

static int read_input(struct input *in, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return -1;
    size_t got;
    while ((got = fread(buf_reserve(&in->text, 65536), 1, 65536, file)) > 0)
        in->text.len += got;
    fclose(file);
    in->lines = mem_alloc(LINES_MAX * sizeof *in->lines);
    in->copy = mem_zalloc(in->text.len + 1);
    const char *p = in->text.p, *end = p + in->text.len, *lf;
    while (p < end && in->n_lines < LINES_MAX && (lf = memchr(p, '\n', (size_t)(end - p)))) {
        in->lines[in->n_lines++] = (struct str){p, (size_t)(lf - p)};
        p = lf + 1;
    }
    in->text.len = (size_t)(p - in->text.p);
    in->n_events = line_pass(in);
    prepare_redact(in);
    return in->n_events > 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        pass_fn *pass;
    } rows[] = {
        {"memchr + memcpy (floor)", floor_pass},
        {"json_scan_skip", scan_pass},
        {"nomad_line_parse", line_pass},
        {"ndjson + nomad_line_parse", framed_pass},
        {"redact, $..Env and the like", deep_pass},
        {"redact, $.Payload.Job.…", exact_pass},
        {"jansson, tree", jansson_pass},
    };
    const char *path = argc > 1 ? argv[1] : "tests/fixtures/nomad/capture.ndjson";
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 1;
    struct input in = {0};
    if (read_input(&in, path) < 0) {
        fprintf(stderr, "scan_bench: %s: no events in it\n", path);
        return 1;
    }
    printf("%zu events on %zu lines, %zu bytes an event\n", in.n_events, in.n_lines,
           in.text.len / in.n_events);
    double base = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double best = measure(&in, rows[i].pass, seconds);
        base = i == 0 ? best : base;
        printf("%-28s %9.0f ns/event %9.0f MB/s %7.1f x\n", rows[i].name,
               best * 1e9 / (double)in.n_events, (double)in.text.len / best / 1e6, best / base);
    }
    free(in.lines);
    free(in.copy);
    free(in.events);
    redact_free(&in.deep);
    redact_free(&in.exact);
    buf_fini(&in.text);
    return 0;
}
