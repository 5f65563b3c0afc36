/* nomad_rig.h - runs the Nomad connector against a stub server and a fake ingest. */
#ifndef BUSBAR_TESTS_NOMAD_RIG_H
#define BUSBAR_TESTS_NOMAD_RIG_H

#include "connectors/nomad/nomad.h"
#include "tests/unit/fake_ingest.h"
#include "tests/unit/stub_server.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
#define EVENT(index, key)                                                                      \
    "{\"FilterKeys\":null,\"Index\":" #index ",\"Key\":\"" key                                 \
    "\",\"Namespace\":\"default\",\"Payload\":{\"n\":12345678901234567890},\"Topic\":\"Job\"," \
    "\"Type\":\"JobRegistered\"}"
#define LINE(index, key) "{\"Events\":[" EVENT(index, key) "],\"Index\":" #index "}"
/* What the server answers, connection by connection; the last one again and again. */
#define ANSWERS(...)                           \
    (const struct stub_answer[]){__VA_ARGS__}, \
        sizeof((const struct stub_answer[]){__VA_ARGS__}) / sizeof(struct stub_answer)

struct rig {
    struct ingest in;
    struct nomad_settings settings;
    const char *servers[9];
    const char *topics[2];
    struct stub_server *server;
    struct err err;
    int rc;
};

static inline int set_up_rig(void **state)
{
    struct rig *r = mem_zalloc(sizeof *r);
    r->in = fake_ingest();
    r->topics[0] = "*";
    r->settings = (struct nomad_settings){
        .servers = {r->servers, 1},
        .topics = {r->topics, 1},
        .ns = "*",
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

/* Returns once the fake ingest has asked to stop. */
static inline void run_rig(struct rig *r, const struct stub_answer *answers, size_t n)
{
    r->server = stub_start(answers, n);
    r->servers[r->settings.servers.n - 1] = r->server->url;
    void *self = nomad_source.create(&r->settings, &r->in);
    r->rc = nomad_source.run(self, &r->err);
    nomad_source.destroy(self);
    stub_join(r->server); /* `answers` may live in the caller's frame only */
}

#define assert_told(r, text) assert_string_equal(buf_cstr(&(r)->in.told), (text))
#define assert_told_last(r, text)                                                         \
    do {                                                                                  \
        const char *told_ = buf_cstr(&(r)->in.told), *last_ = (text);                     \
        size_t from_ = strlen(told_) > strlen(last_) ? strlen(told_) - strlen(last_) : 0; \
        assert_string_equal(told_ + from_, last_);                                        \
    } while (0)
#define assert_asked(r, i, text) assert_non_null(strstr((r)->server->requests[i], (text)))
#define assert_detail(r, text)                                                              \
    do {                                                                                    \
        if (strstr(buf_cstr(&(r)->in.last_detail), (text)) == NULL)                         \
            fail_msg("\"%s\" does not say \"%s\"", buf_cstr(&(r)->in.last_detail), (text)); \
    } while (0)

#endif
