/* kafka_memory.c - what an owner knows of its checkpoint when the checkpoint topic does not.
 *
 * The topic may be deleted, or emptied by a retention that somebody gave it, while its owner runs.
 * To begin at the oldest event then would publish all that the journal holds a second time. So the
 * owner goes on from what it committed last, and writes that down again before anything else. In
 * another cluster (an empty one under the old address) nothing was published yet: there the oldest
 * is right. An outcome that was unknown when the topic went can't be found out any more; such
 * events may be there twice, which is said. */
#include "connectors/kafka/kafka_pair.h"

#include "bridge/base/log.h"

#include <stdlib.h>
#include <string.h>

enum { CLUSTER_ID_MS = 2000, RESTORE_MS = 10000 };

/* The caller frees it; NULL where the brokers don't tell. */
static char *ask_cluster(struct kafka_pair *pair)
{
    char *told = rd_kafka_clusterid(pair->producer.rk, CLUSTER_ID_MS);
    char *id = told != NULL ? mem_strdup(told) : NULL;
    if (told != NULL)
        rd_kafka_mem_free(pair->producer.rk, told);
    return id;
}

void kafka_pair_remember(struct kafka_pair *pair, struct str checkpoint)
{
    if (pair->known.len == 0) {
        free(pair->cluster);
        pair->cluster = ask_cluster(pair);
    }
    buf_clear(&pair->known);
    buf_append_str(&pair->known, checkpoint);
}

void kafka_pair_forget(struct kafka_pair *pair)
{
    buf_fini(&pair->known);
    free(pair->cluster);
    pair->cluster = NULL;
}

/* True where it surely is another one. */
static bool is_other_cluster(struct kafka_pair *pair)
{
    char *now = ask_cluster(pair);
    bool other = now != NULL && pair->cluster != NULL && strcmp(now, pair->cluster) != 0;
    free(now);
    return other;
}

static enum sink_result failed(struct kafka_pair *pair, rd_kafka_resp_err_t code,
                               rd_kafka_error_t *error, struct err *err)
{
    const char *detail = error != NULL ? rd_kafka_error_string(error) : NULL;
    enum sink_result r =
        kafka_client_explain(&pair->producer, code, "write the checkpoint again", detail, err);
    if (error != NULL)
        rd_kafka_error_destroy(error);
    return r;
}

static enum sink_result write_again(struct kafka_pair *pair, struct err *err)
{
    rd_kafka_error_t *error = rd_kafka_begin_transaction(pair->producer.rk);
    if (error != NULL)
        return failed(pair, rd_kafka_error_code(error), error, err);
    pair->failures = (struct failures){0};
    rd_kafka_resp_err_t code = kafka_pair_produce_log(pair, pair->id, buf_str(&pair->known));
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return failed(pair, code, NULL, err);
    error = kafka_pair_step(pair, rd_kafka_commit_transaction, RESTORE_MS);
    return error != NULL ? failed(pair, rd_kafka_error_code(error), error, err) : SINK_DONE;
}

enum sink_result kafka_pair_restore(struct kafka_pair *pair, struct buf *checkpoint,
                                    struct err *err)
{
    if (pair->known.len == 0)
        return SINK_DONE;
    if (is_other_cluster(pair)) {
        log_warn("kafka_cluster_new", LOG_STR("source", pair->who.source),
                 LOG_STR("sink", pair->who.sink), LOG_STR("brokers", pair->settings->brokers),
                 LOG_STR("note", "another cluster than before, which has nothing of this pair: "
                                 "publishing all that the journal holds"));
        kafka_pair_forget(pair);
        return SINK_DONE;
    }
    enum sink_result r = write_again(pair, err);
    if (r != SINK_DONE)
        return r;
    log_error("kafka_checkpoint_lost", LOG_STR("source", pair->who.source),
              LOG_STR("sink", pair->who.sink), LOG_STR("topic", pair->settings->checkpoint_topic),
              LOG_STR("checkpoint", buf_cstr(&pair->known)),
              LOG_STR("note",
                      "the topic was deleted or emptied; written again from memory: nothing "
                      "is lost, and nothing twice unless a commit just before had no "
                      "answer; it must be compacted, never deleted"));
    buf_clear(checkpoint);
    buf_append_str(checkpoint, buf_str(&pair->known));
    return SINK_DONE;
}
