/* replay.c - a capture of a source's messages as a source.
 *
 * It behaves like a Nomad whose buffer is the file: asked for an index it starts at the first
 * message with that index or a later one, and ingest removes what it has seen before. So a restart
 * goes on where the journal stands, and continuity is proven the same way. */
#include "connectors/replay/replay.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/ndjson.h"
#include "connectors/nomad_line.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 256 * 1024, RATE_MAX = 1000000, PACE_MAX_MS = 200 };

/* ---- settings ---- */

static const char *check_path(const char *value)
{
    return value[0] != '\0' ? NULL : "the path of a capture";
}

static const char *const format_names[] = {"nomad", NULL};

#define AT(field) offsetof(struct replay_settings, field)
static const struct setting rows[] = {
    {.name = "path",
     .type = SETTING_STRING,
     .offset = AT(path),
     .required = true,
     .check = check_path,
     .help = "Capture to read, one message a line"},
    {.name = "format",
     .type = SETTING_CHOICE,
     .offset = AT(format),
     .fallback = "nomad",
     .choices = format_names,
     .help = "nomad: lines of /v1/event/stream"},
    {.name = "rate",
     .type = SETTING_INT,
     .offset = AT(rate),
     .fallback = "0",
     .min = 0,
     .max = RATE_MAX,
     .help = "Events a second; 0: as fast as they are taken"},
    {.name = NULL},
};

/* ---- one run through the file ---- */

struct replay {
    const struct replay_settings *settings;
    struct ingest *ingest;
    struct stop *stop;
    int fd;
    char *piece;
    struct ndjson framer;
    struct nomad_line line;
    uint64_t from;  /* messages before this index are passed over */
    uint64_t lines; /* read so far, for messages to people */
    bool valid;     /* a line of the format was seen */
    int64_t started_us;
    uint64_t paced; /* events told since then */
};

static void *create(const void *settings, struct ingest *ingest)
{
    struct replay *self = mem_zalloc(sizeof *self);
    self->settings = settings;
    self->ingest = ingest;
    self->stop = ingest_stop(ingest);
    self->fd = -1;
    ndjson_init(&self->framer, 0);
    nomad_line_init(&self->line);
    return self;
}

static void destroy(void *arg)
{
    struct replay *self = arg;
    if (self == NULL)
        return;
    if (self->fd >= 0)
        close(self->fd);
    nomad_line_fini(&self->line);
    ndjson_fini(&self->framer);
    free(self->piece);
    free(self);
}

static int open_capture(struct replay *self, struct err *err)
{
    const char *path = self->settings->path;
    struct stat st;
    /* Non-blocking: a FIFO has to be refused, not waited for. */
    self->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (self->fd < 0 || fstat(self->fd, &st) != 0)
        return err_set(err, ERR_INPUT, "%s: %s: expected a capture of events (`path`)", path,
                       strerrordesc_np(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INPUT, "%s: %s: expected a capture of events (`path`)", path,
                       S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    return 0;
}

/* Waits until the next n events are due, the journal written before; 1 where stopped. */
static int pace(struct replay *self, size_t n, struct err *err)
{
    if (self->settings->rate == 0)
        return stop_requested(self->stop);
    int64_t due_us =
        self->started_us + (int64_t)(self->paced * UINT64_C(1000000)) / self->settings->rate;
    self->paced += n;
    for (;;) {
        int64_t left_us = due_us - clock_mono_us();
        if (left_us < 1000)
            return stop_requested(self->stop);
        if (ingest_flush(self->ingest, err) != 0)
            return -1;
        int64_t left_ms = left_us / 1000;
        if (stop_wait(self->stop, (int)(left_ms < PACE_MAX_MS ? left_ms : PACE_MAX_MS)))
            return 1;
    }
}

static int take_unreadable(struct replay *self, const struct ndjson_line *line, const char *why,
                           struct err *err)
{
    if (!self->valid)
        return err_set(err, ERR_INPUT,
                       "%s: line %" PRIu64 ": %s: expected a line of Nomad's event "
                       "stream, {\"Events\":[...],\"Index\":N}",
                       self->settings->path, self->lines, why);
    if (self->from > 0)
        return 0; /* told by an earlier run */
    return ingest_malformed(self->ingest, line->bytes, line->size, why, err);
}

/* 0 to go on, 1 where stopped, -1 with err. */
static int take_line(struct replay *self, const struct ndjson_line *line, struct err *err)
{
    struct err why = {.msg = "longer than any message"};
    struct nomad_line *read = &self->line;
    self->lines++;
    if (line->oversized || nomad_line_parse(read, line->bytes, &why) != 0)
        return take_unreadable(self, line, why.msg, err);
    self->valid = self->valid || read->heartbeat || read->n_events > 0;
    if (read->n_events == 0 || read->index < self->from)
        return 0;
    self->from = 0;
    int rc = pace(self, read->n_events, err);
    if (rc != 0)
        return rc;
    return ingest_message(self->ingest, line->bytes, read->events, read->n_events, err);
}

static int take_piece(struct replay *self, struct str piece, struct err *err)
{
    struct ndjson_line line;
    int rc = 0;
    ndjson_push(&self->framer, piece);
    while (rc == 0 && ndjson_next(&self->framer, &line))
        rc = take_line(self, &line, err);
    return rc;
}

/* The file may end without a line break: the text counts as a line where it is a whole one. */
static int take_tail(struct replay *self, struct err *err)
{
    struct ndjson_line tail;
    struct err why;
    if (!ndjson_tail(&self->framer, &tail))
        return 0;
    if (tail.oversized || nomad_line_parse(&self->line, tail.bytes, &why) != 0) {
        self->lines++;
        if (!self->valid)
            return take_unreadable(self, &tail, "not a whole line", err);
        log_warn("capture_cut", LOG_STR("path", self->settings->path), LOG_INT("bytes", tail.size),
                 LOG_STR("detail", "the last line is not whole: left out"));
        return 0;
    }
    return take_piece(self, STR("\n"), err);
}

static int tell_all(struct replay *self, struct err *err)
{
    self->piece = mem_alloc(PIECE_BYTES);
    for (;;) {
        ssize_t n = read(self->fd, self->piece, PIECE_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_INPUT, "%s: %s", self->settings->path, strerrordesc_np(errno));
        int rc = n > 0 ? take_piece(self, (struct str){self->piece, (size_t)n}, err)
                       : take_tail(self, err);
        if (rc != 0 || n == 0)
            return rc;
    }
}

static int run(void *arg, struct err *err)
{
    struct replay *self = arg;
    if (open_capture(self, err) != 0)
        return -1;
    self->from = ingest_resume(self->ingest).index;
    ingest_state(self->ingest, SOURCE_ATTACHED, self->settings->path, NULL);
    self->started_us = clock_mono_us();
    int rc = tell_all(self, err);
    if (stop_requested(self->stop))
        rc = 1;
    if (rc < 0 || ingest_flush(self->ingest, err) != 0)
        return -1;
    if (rc == 0)
        ingest_state(self->ingest, SOURCE_ENDED, self->settings->path, NULL);
    return 0;
}

const struct source_ops replay_source = {
    .type = "replay",
    .rows = rows,
    .settings_size = sizeof(struct replay_settings),
    .create = create,
    .run = run,
    .destroy = destroy,
};
