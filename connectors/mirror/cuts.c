/* cuts.c - clients that are cut. */
#include "connectors/mirror/cuts.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "connectors/mirror/frame.h"

static const struct {
    enum metric metric;
    const char *name;
} reasons[] = {
    [CUT_TIMEOUT] = {METRIC_CLIENTS_CUT_TIMEOUT, "timeout"},
    [CUT_LAG] = {METRIC_CLIENTS_CUT_LAG, "lag"},
    [CUT_PRUNED] = {METRIC_CLIENTS_CUT_PRUNED, "pruned"},
    [CUT_JOURNAL] = {METRIC_CLIENTS_CUT_JOURNAL, "journal"},
};

int64_t cuts_allow_ms(int64_t lag_ms, int64_t from_us)
{
    int64_t age_us = clock_wall_us() - from_us;
    return lag_ms + (age_us > 0 ? age_us / 1000 : 0);
}

/* The Last-Event-ID to come back with. */
static void append_position(struct buf *out, const struct cuts *cuts, const struct cut *cut)
{
    if (cut->position != NULL) {
        buf_append_cstr(out, cut->position);
    } else if (cut->told != NULL && cut->told->arrival_us > 0) {
        const struct told_id *told = cut->told;
        const struct mirror_source *source = &cuts->sources[told->source];
        struct frame_id id = {
            .source = str_from(source->name),
            .index = told->index,
            .epoch = told->epoch,
            .ordinal = told->ordinal,
            .arrival_us = told->arrival_us,
            .journal_id = source->journal_id,
        };
        frame_append_id(out, &id);
    }
}

void cuts_note(struct cuts *cuts, const struct cut *cut)
{
    metrics_add(cuts->metrics, METRIC_CLIENTS_CUT, 1);
    metrics_add(cuts->metrics, reasons[cut->reason].metric, 1);
    cuts_flush(cuts, clock_mono_ms());
    if (cuts->said == CUTS_SAID_MAX) {
        cuts->unsaid++;
        return;
    }
    cuts->said++;
    struct buf position = {0};
    append_position(&position, cuts, cut);
    log_warn("client_cut", LOG_STR("client", http_stream_address(cut->stream)),
             LOG_STR("path", cut->path), LOG_STR("reason", reasons[cut->reason].name),
             LOG_INT("behind_ms", cut->behind_ms), LOG_STR("position", buf_cstr(&position)));
    buf_fini(&position);
}

void cuts_flush(struct cuts *cuts, int64_t now_ms)
{
    if (now_ms - cuts->since_ms < 1000)
        return;
    if (cuts->unsaid > 0)
        log_warn("clients_cut", LOG_INT("more", cuts->unsaid));
    cuts->since_ms = now_ms;
    cuts->said = cuts->unsaid = 0;
}
