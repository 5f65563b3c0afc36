/* replay.c - a capture of a source's messages as a source: its settings, the file, the pace.
 *
 * What stands in the file is read by its format: replay_nomad.c, replay_marathon.c. Both go on
 * after a restart where the journal stands and tell nothing twice, each in the way its events
 * allow. */
#include "connectors/replay/replay_internal.h"

#include "bridge/base/clock.h"

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

enum { FORMAT_NOMAD, FORMAT_MARATHON };
static const char *const format_names[] = {"nomad", "marathon", NULL};
static const struct replay_format *const formats[] = {&replay_nomad, &replay_marathon};

#define AT(field) offsetof(struct replay_settings, field)
static const struct setting rows[] = {
    {.name = "path",
     .type = SETTING_STRING,
     .offset = AT(path),
     .required = true,
     .check = check_path,
     .help = "Capture to read"},
    {.name = "format",
     .type = SETTING_CHOICE,
     .offset = AT(format),
     .fallback = "nomad",
     .choices = format_names,
     .help = "nomad: lines of /v1/event/stream; marathon: events of /v2/events"},
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

static void *create(const void *settings, struct ingest *ingest)
{
    struct replay *self = mem_zalloc(sizeof *self);
    self->settings = settings;
    self->format = formats[self->settings->format];
    self->ingest = ingest;
    self->stop = ingest_stop(ingest);
    self->fd = -1;
    ndjson_init(&self->lines, 0);
    nomad_line_init(&self->line);
    sse_init(&self->frames, 0);
    marathon_event_init(&self->event);
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
    ndjson_fini(&self->lines);
    marathon_event_fini(&self->event);
    sse_fini(&self->frames);
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

int replay_pace(struct replay *self, size_t n, struct err *err)
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

static int tell_all(struct replay *self, struct err *err)
{
    self->piece = mem_alloc(PIECE_BYTES);
    for (;;) {
        ssize_t n = read(self->fd, self->piece, PIECE_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_INPUT, "%s: %s", self->settings->path, strerrordesc_np(errno));
        int rc = n > 0 ? self->format->take(self, (struct str){self->piece, (size_t)n}, err)
                       : self->format->end(self, err);
        if (rc != 0 || n == 0)
            return rc;
    }
}

static int run(void *arg, struct err *err)
{
    struct replay *self = arg;
    if (open_capture(self, err) != 0)
        return -1;
    self->format->begin(self);
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

static bool is_nomad(const void *settings, const char **region)
{
    (void)region;
    return ((const struct replay_settings *)settings)->format == FORMAT_NOMAD;
}

static bool is_marathon(const void *settings)
{
    return ((const struct replay_settings *)settings)->format == FORMAT_MARATHON;
}

const struct source_ops replay_source = {
    .type = "replay",
    .rows = rows,
    .settings_size = sizeof(struct replay_settings),
    .is_nomad = is_nomad,
    .is_marathon = is_marathon,
    .create = create,
    .run = run,
    .destroy = destroy,
};
