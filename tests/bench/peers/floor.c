/* floor.c - the limit: Nomad's events into Kafka and Redis as fast as it goes, with no promise.
 *
 *     floor --source http://IPv4:PORT --name NAME [--kafka BROKERS] [--redis redis://IPv4:PORT/DB]
 *           [--max-entries N] [--idempotent] [--full]
 *
 * What a good programmer writes in an afternoon. Bytes are read from a bare socket into blocks and
 * never copied: an event's slice goes to librdkafka by pointer (the block lives until its last
 * delivery report) and to Redis by writev. An event ends where the next one's `{"FilterKeys":`
 * begins, its key is the first "Key", its topic the last but one string: nothing is parsed.
 *
 * It leaves out: a journal, a checkpoint, transactions, idempotence, resuming, reconnecting, the
 * detection of gaps, the validation of JSON, escapes in keys, HTTP beyond chunked bodies, several
 * sources, metrics. --full adds busbar's headers and fields, --idempotent that producer. */
#include "tests/bench/peers/floor_event.h"

#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <librdkafka/rdkafka.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    BLOCK_BYTES = 4 << 20,
    READ_MIN = 256 << 10, /* less room than this at the end of a block: take the next one */
    LOW_WATER = 64 << 10, /* sleep until so much is there ... */
    WAIT_MS = 5,          /* ... or so much time is over */
    TOPICS_MAX = 64,
    PRODUCE_BATCH = 256, /* messages of one topic handed over at once */
    XADD_BATCH = 128,
    FIELDS = 8,
};

/* What is read is sliced in place; lent counts the messages that librdkafka still points to. */
struct block {
    size_t len;
    size_t lent;
    struct block *next;
    char bytes[BLOCK_BYTES];
};

struct topic {
    char name[256];
    struct slice event_topic; /* in name */
    char stream_arg[320];     /* the stream as RESP */
    size_t stream_arg_len;
    rd_kafka_topic_t *handle;
    rd_kafka_message_t batch[PRODUCE_BATCH];
    int n_batch;
};

/* One XADD of the batch: what stands before the data, the data, CRLF. */
struct xadds {
    struct iovec parts[XADD_BATCH * 3];
    char heads[XADD_BATCH][1024];
    int n;
    int unanswered;
};

static struct {
    const char *source, *name, *kafka, *redis, *max_entries;
    bool idempotent, full;
} options = {.max_entries = "20000"};

static rd_kafka_t *producer;
static redisContext *redis;
static struct xadds xadds;
static struct topic topics[TOPICS_MAX];
static size_t n_topics;
static struct block *spare;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "floor: %s: %s\n", what, why);
    exit(1);
}

/* ---- blocks ---- */

static struct block *block_take(void)
{
    struct block *block = spare;
    if (block != NULL)
        spare = block->next;
    else if ((block = malloc(sizeof *block)) == NULL)
        die("block", "out of memory");
    block->len = block->lent = 0;
    block->next = NULL;
    return block;
}

static void block_return(struct block *block)
{
    if (--block->lent > 0)
        return;
    block->next = spare;
    spare = block;
}

/* ---- into Kafka ---- */

static void delivered(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
    (void)handle;
    (void)opaque;
    if (message->err != 0)
        die("delivery", rd_kafka_err2str(message->err));
    block_return(message->_private);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char err[256];
    if (rd_kafka_conf_set(conf, name, value, err, sizeof err) != RD_KAFKA_CONF_OK)
        die(name, err);
}

static void kafka_open(void)
{
    char err[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", options.kafka);
    set(conf, "compression.type", "lz4");
    set(conf, "linger.ms", "50");
    set(conf, "batch.size", "1000000");
    set(conf, "queue.buffering.max.messages", "1000000");
    set(conf, "queue.buffering.max.kbytes", "16384");
    if (options.idempotent)
        set(conf, "enable.idempotence", "true");
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, err, sizeof err);
    if (producer == NULL)
        die("kafka", err);
}

/* Waits for room where the queue is full. */
static void produce_batch(struct topic *topic)
{
    while (topic->n_batch > 0) {
        rd_kafka_produce_batch(topic->handle, RD_KAFKA_PARTITION_UA, 0, topic->batch,
                               topic->n_batch);
        int kept = 0;
        for (int i = 0; i < topic->n_batch; i++)
            if (topic->batch[i].err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
                topic->batch[kept++] = topic->batch[i];
            else if (topic->batch[i].err != 0)
                die("produce", rd_kafka_err2str(topic->batch[i].err));
        topic->n_batch = kept;
        rd_kafka_poll(producer, kept > 0 ? 10 : 0);
    }
}

/* As busbar writes them, but for the time, which busbar takes from the payload where it is told. */
static rd_kafka_headers_t *headers_of(const struct event *event)
{
    char id[EVENT_ID_MAX];
    size_t id_len = event_id(event, options.name, id);
    const struct {
        const char *name;
        struct slice value;
    } all[] = {
        {"ce_specversion", {"1.0", 3}},
        {"ce_id", {id, id_len}},
        {"ce_source", {options.name, strlen(options.name)}},
        {"ce_type", event->type},
        {"ce_subject", event->key},
        {"ce_time", {"2026-01-01T00:00:00.000000Z", 27}},
        {"content-type", {"application/json", 16}},
        {"ce_topic", event->topic},
        {"ce_namespace", event->namespace},
        {"ce_index", event->index},
    };
    rd_kafka_headers_t *headers = rd_kafka_headers_new(sizeof all / sizeof *all);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        rd_kafka_header_add(headers, all[i].name, -1, all[i].value.p, (ssize_t)all[i].value.len);
    return headers;
}

static void produce_full(struct topic *topic, const struct event *event, struct block *block)
{
    rd_kafka_vu_t all[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic->handle},
        {.vtype = RD_KAFKA_VTYPE_VALUE,
         .u.mem = {(void *)(uintptr_t)event->data.p, event->data.len}},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)(uintptr_t)event->key.p, event->key.len}},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers_of(event)},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = block},
    };
    rd_kafka_error_t *error;
    while ((error = rd_kafka_produceva(producer, all, sizeof all / sizeof *all)) != NULL) {
        if (rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("produce", rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
        rd_kafka_poll(producer, 10);
    }
    block->lent++;
    rd_kafka_poll(producer, 0);
}

static void to_kafka(struct topic *topic, const struct event *event, struct block *block)
{
    if (options.full) {
        produce_full(topic, event, block);
        return;
    }
    topic->batch[topic->n_batch++] = (rd_kafka_message_t){
        .payload = (void *)(uintptr_t)event->data.p,
        .len = event->data.len,
        .key = (void *)(uintptr_t)event->key.p,
        .key_len = event->key.len,
        ._private = block,
    };
    block->lent++;
    if (topic->n_batch == PRODUCE_BATCH)
        produce_batch(topic);
}

/* ---- into Redis ---- */

static void redis_open(void)
{
    char host[64];
    int port = 6379;
    if (sscanf(options.redis, "redis://%63[^:/]:%d", host, &port) < 1)
        die(options.redis, "expected redis://IPv4:PORT");
    redis = redisConnect(host, port);
    if (redis == NULL || redis->err != 0)
        die("redis", redis != NULL ? redis->errstr : "out of memory");
    /* Answers are only counted: hiredis parses them and makes no objects. */
    redis->reader->fn = NULL;
}

static void redis_answers(int left)
{
    for (; xadds.unanswered > left; xadds.unanswered--) {
        void *type = NULL;
        if (redisGetReply(redis, &type) != REDIS_OK)
            die("redis", redis->errstr);
        if ((uintptr_t)type == REDIS_REPLY_ERROR)
            die("redis", "an XADD was refused");
    }
}

/* Sends what is gathered while the batch before is still being answered. */
static void redis_send(void)
{
    struct iovec *part = xadds.parts;
    int n = xadds.n * 3;
    while (n > 0) {
        ssize_t sent = writev(redis->fd, part, n);
        if (sent < 0)
            die("redis", strerror(errno));
        for (; n > 0 && (size_t)sent >= part->iov_len; n--, part++)
            sent -= (ssize_t)part->iov_len;
        if (n > 0) {
            part->iov_base = (char *)part->iov_base + sent;
            part->iov_len -= (size_t)sent;
        }
    }
    xadds.unanswered += xadds.n;
    xadds.n = 0;
    redis_answers(XADD_BATCH);
}

static char *put(char *to, const char *p, size_t len)
{
    memcpy(to, p, len);
    return to + len;
}

static char *put_number(char *to, size_t n)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    return put(to, digits + at, sizeof digits - at);
}

static char *put_bulk(char *to, const char *p, size_t len)
{
    *to++ = '$';
    to = put(put_number(to, len), "\r\n", 2);
    return put(put(to, p, len), "\r\n", 2);
}

static char *put_fields(char *to, const struct event *event)
{
    const struct {
        const char *name;
        struct slice value;
    } all[] = {
        {"source", {options.name, strlen(options.name)}},
        {"topic", event->topic},
        {"type", event->type},
        {"key", event->key},
        {"namespace", event->namespace},
        {"time", {"2026-01-01T00:00:00.000000Z", 27}},
    };
    char id[EVENT_ID_MAX];
    size_t id_len = event_id(event, options.name, id);
    to = put_bulk(put_bulk(to, "id", 2), id, id_len);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        to = put_bulk(put_bulk(to, all[i].name, strlen(all[i].name)), all[i].value.p,
                      all[i].value.len);
    return to;
}

/* XADD STREAM MAXLEN ~ N * [fields] data DATA */
static void to_redis(const struct topic *topic, const struct event *event)
{
    char *head = xadds.heads[xadds.n], *to = head;
    to = put(to, topic->stream_arg, topic->stream_arg_len);
    if (options.full)
        to = put_fields(to, event);
    to = put(to, "$4\r\ndata\r\n$", 11);
    to = put(put_number(to, event->data.len), "\r\n", 2);
    struct iovec *part = xadds.parts + (size_t)xadds.n * 3;
    part[0] = (struct iovec){head, (size_t)(to - head)};
    part[1] = (struct iovec){(void *)(uintptr_t)event->data.p, event->data.len};
    part[2] = (struct iovec){(void *)(uintptr_t) "\r\n", 2};
    if (++xadds.n == XADD_BATCH)
        redis_send();
}

/* ---- slicing ---- */

static struct topic *topic_new(struct slice name)
{
    if (n_topics == TOPICS_MAX)
        die("topics", "too many");
    struct topic *topic = &topics[n_topics++];
    size_t prefix = strlen(options.name) + 1;
    if (prefix + name.len >= sizeof topic->name)
        die("topics", "a name is too long");
    int len =
        snprintf(topic->name, sizeof topic->name, "%s.%.*s", options.name, (int)name.len, name.p);
    topic->event_topic = (struct slice){topic->name + prefix, name.len};
    if (producer != NULL)
        topic->handle = rd_kafka_topic_new(producer, topic->name, NULL);
    topic->stream_arg_len = (size_t)snprintf(
        topic->stream_arg, sizeof topic->stream_arg,
        "*%d\r\n$4\r\nXADD\r\n$%d\r\n%s:%.*s\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$%zu\r\n%s\r\n$1\r\n*"
        "\r\n",
        options.full ? 6 + 2 * FIELDS : 8, len, options.name, (int)name.len, name.p,
        strlen(options.max_entries), options.max_entries);
    return topic;
}

static struct topic *topic_of(struct slice name)
{
    for (size_t i = 0; i < n_topics; i++)
        if (topics[i].event_topic.len == name.len &&
            memcmp(topics[i].event_topic.p, name.p, name.len) == 0)
            return &topics[i];
    return topic_new(name);
}

static void take_event(const char *start, const char *end, struct block *block)
{
    struct event event;
    if (!event_slice(&event, start, end, options.full))
        die("event", "not as Nomad writes it");
    struct topic *topic = topic_of(event.topic);
    if (producer != NULL)
        to_kafka(topic, &event, block);
    if (redis != NULL)
        to_redis(topic, &event);
}

/* {"Events":[E,E,…],"Index":N} */
static void take_line(const char *start, const char *end, struct block *block)
{
    static const char opening[] = "{\"Events\":[", between[] = "},{\"FilterKeys\":";
    if ((size_t)(end - start) < sizeof opening + 1)
        return; /* a heartbeat */
    const char *close = memrchr(start, ']', (size_t)(end - start));
    if (close == NULL || memcmp(start, opening, sizeof opening - 1) != 0)
        die("line", "not as Nomad writes it");
    const char *from = start + sizeof opening - 1, *next;
    while ((next = memmem(from, (size_t)(close - from), between, sizeof between - 1)) != NULL) {
        take_event(from, next + 1, block);
        from = next + 2;
    }
    if (close > from)
        take_event(from, close, block);
}

/* ---- reading ---- */

struct reader {
    int fd;
    struct block *block;
    size_t line; /* where the unfinished line begins; its bytes end at pos */
    size_t pos;  /* raw bytes from here on */
    size_t chunk_left;
};

static int connect_to(const char *url)
{
    char host[64], request[256];
    int port = 0;
    if (sscanf(url, "http://%63[^:/]:%d", host, &port) != 2)
        die(url, "expected http://IPv4:PORT");
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), low_water = LOW_WATER;
    if (inet_pton(AF_INET, host, &at.sin_addr) != 1 || fd < 0 ||
        connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
        die(url, strerror(errno));
    int len = snprintf(request, sizeof request,
                       "GET /v1/event/stream?topic=*&index=0 HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    if (send(fd, request, (size_t)len, 0) != len)
        die(url, strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low_water, sizeof low_water);
    return fd;
}

/* Takes the chunk's head at pos and closes the gap that it makes in a line. False: not all of it
 * is there. */
static bool next_chunk(struct reader *r)
{
    char *head = r->block->bytes + r->pos, *end = r->block->bytes + r->block->len;
    char *digits = end - head >= 2 && head[0] == '\r' ? head + 2 : head;
    char *lf = digits < end ? memchr(digits, '\n', (size_t)(end - digits)) : NULL;
    if (lf == NULL)
        return false;
    r->chunk_left = strtoul(digits, NULL, 16);
    if (r->chunk_left == 0)
        die("source", "the stream is over");
    size_t gap = (size_t)(lf + 1 - head), kept = r->pos - r->line;
    memmove(r->block->bytes + r->line + gap, r->block->bytes + r->line, kept);
    r->line += gap;
    r->pos += gap;
    return true;
}

static void take_bytes(struct reader *r)
{
    char *bytes = r->block->bytes;
    while (r->pos < r->block->len) {
        if (r->chunk_left == 0 && !next_chunk(r))
            return;
        size_t there = r->block->len - r->pos;
        size_t n = there < r->chunk_left ? there : r->chunk_left;
        char *from = bytes + r->pos, *end = from + n, *lf;
        while (from < end && (lf = memchr(from, '\n', (size_t)(end - from))) != NULL) {
            take_line(bytes + r->line, lf, r->block);
            from = lf + 1;
            r->line = (size_t)(from - bytes);
        }
        r->pos += n;
        r->chunk_left -= n;
    }
}

static void hand_over(void)
{
    for (size_t i = 0; i < n_topics; i++)
        produce_batch(&topics[i]);
    if (xadds.n > 0)
        redis_send();
}

/* What is unfinished goes on in another block. */
static void next_block(struct reader *r)
{
    struct block *old = r->block, *block = block_take();
    hand_over();
    block->lent = 1;
    block->len = old->len - r->line;
    if (block->len > BLOCK_BYTES / 2)
        die("source", "a line is too long");
    memcpy(block->bytes, old->bytes + r->line, block->len);
    r->pos -= r->line;
    r->line = 0;
    r->block = block;
    block_return(old);
}

/* Waits until it is worth the while; what is gathered goes out before a longer sleep. */
static void wait_for_bytes(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    if (poll(&pollfd, 1, WAIT_MS) > 0)
        return;
    hand_over();
    if (redis != NULL)
        redis_answers(0);
    if (producer != NULL)
        rd_kafka_poll(producer, 0);
}

static void read_some(struct reader *r)
{
    if (BLOCK_BYTES - r->block->len < READ_MIN)
        next_block(r);
    struct block *block = r->block;
    ssize_t n = recv(r->fd, block->bytes + block->len, BLOCK_BYTES - block->len, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        die("source", n == 0 ? "closed" : strerror(errno));
    if (n < 0)
        wait_for_bytes(r->fd);
    else
        block->len += (size_t)n;
}

static void read_head(struct reader *r)
{
    const char *end = NULL;
    while (end == NULL) {
        read_some(r);
        end = memmem(r->block->bytes, r->block->len, "\r\n\r\n", 4);
    }
    r->block->bytes[r->block->len] = '\0';
    if (strncmp(r->block->bytes, "HTTP/1.1 200", 12) != 0 ||
        strstr(r->block->bytes, "chunked") == NULL)
        die("source", "expected 200 and a chunked body");
    r->pos = r->line = (size_t)(end - r->block->bytes) + 4;
}

static bool take_option(const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **to;
    } all[] = {
        {"--source", &options.source},
        {"--name", &options.name},
        {"--kafka", &options.kafka},
        {"--redis", &options.redis},
        {"--max-entries", &options.max_entries},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all && value != NULL; i++)
        if (strcmp(name, all[i].name) == 0) {
            *all[i].to = value;
            return true;
        }
    return false;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--idempotent") == 0)
            options.idempotent = true;
        else if (strcmp(argv[i], "--full") == 0)
            options.full = true;
        else if (take_option(argv[i], argv[i + 1]))
            i++;
        else
            die(argv[i], "unknown, or without a value");
    if (options.source == NULL || options.name == NULL)
        die("usage", "--source and --name are needed");
    if (options.kafka != NULL)
        kafka_open();
    if (options.redis != NULL)
        redis_open();
    struct reader reader = {.fd = connect_to(options.source), .block = block_take()};
    reader.block->lent = 1;
    read_head(&reader);
    for (;;) {
        take_bytes(&reader);
        read_some(&reader);
    }
}
