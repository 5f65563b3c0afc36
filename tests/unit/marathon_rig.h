/* marathon_rig.h - runs the Marathon connector against stub servers and a fake ingest. */
#ifndef BUSBAR_TESTS_MARATHON_RIG_H
#define BUSBAR_TESTS_MARATHON_RIG_H

#include "connectors/marathon/marathon.h"
#include "tests/unit/fake_ingest.h"
#include "tests/unit/stub_server.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#define HEAD                                                                                    \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=utf-8\r\nConnection: close\r\n" \
    "Server: Jetty(9.4.8.v20171121)\r\n\r\n"
#define FRAME(type, data) "event: " type "\r\ndata: " data "\r\n\r\n"
#define ATTACHED_DATA(address)                                                    \
    "{\"remoteAddress\":\"" address "\",\"eventType\":\"event_stream_attached\"," \
    "\"timestamp\":\"1970-01-01T00:00:00.001Z\"}"
#define ATTACHED FRAME("event_stream_attached", ATTACHED_DATA("127.0.0.1"))
#define GROUP_DATA(ms)                                     \
    "{\"groupId\":\"/g\",\"version\":\"v\",\"eventType\":" \
    "\"group_change_success\",\"timestamp\":\"1970-01-01T00:00:00." #ms "Z\"}"
#define GROUP(ms) FRAME("group_change_success", GROUP_DATA(ms))
/* What a server answers, connection by connection; the last one again and again. */
#define ANSWERS(...)                           \
    (const struct stub_answer[]){__VA_ARGS__}, \
        sizeof((const struct stub_answer[]){__VA_ARGS__}) / sizeof(struct stub_answer)

struct rig {
    struct ingest in;
    struct marathon_settings settings;
    const char *servers[3];
    const char *types[2];
    struct stub_server *server;
    struct err err;
    int rc;
};

static inline int set_up_rig(void **state)
{
    struct rig *r = mem_zalloc(sizeof *r);
    r->in = fake_ingest();
    r->settings = (struct marathon_settings){
        .servers = {r->servers, 1},
        .event_types = {r->types, 0},
        .silence_ms = 60000,
        .connect_timeout_ms = 30000,
    };
    *state = r;
    return 0;
}

static inline int tear_down_rig(void **state)
{
    struct rig *r = *state;
    if (r->server != NULL)
        stub_stop(&r->server);
    fake_ingest_fini(&r->in);
    free(r);
    return 0;
}

/* With all of settings.servers set. Returns once the fake ingest has asked to stop. */
static inline void run_source(struct rig *r)
{
    void *self = marathon_source.create(&r->settings, &r->in);
    r->rc = marathon_source.run(self, &r->err);
    marathon_source.destroy(self);
}

/* Against one server, the last of the list. */
static inline void run_rig(struct rig *r, const struct stub_answer *answers, size_t n)
{
    r->server = stub_start(answers, n);
    r->servers[r->settings.servers.n - 1] = r->server->url;
    run_source(r);
    stub_join(r->server); /* `answers` may live in the caller's frame only */
}

#define assert_told(r, text) assert_string_equal(buf_cstr(&(r)->in.told), (text))
#define assert_asked(r, i, text) assert_non_null(strstr((r)->server->requests[i], (text)))
#define assert_detail(r, text)                                                              \
    do {                                                                                    \
        if (strstr(buf_cstr(&(r)->in.last_detail), (text)) == NULL)                         \
            fail_msg("\"%s\" does not say \"%s\"", buf_cstr(&(r)->in.last_detail), (text)); \
    } while (0)

#endif
