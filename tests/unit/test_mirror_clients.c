/* test_mirror_clients.c - many clients, slow ones, dead ones, and those beyond the limit. */
#include "tests/unit/mirror_kit.h"

#include <signal.h>
#include <sys/resource.h>

enum { SOURCES = 2 };

static int setup(void **state)
{
    struct kit *kit = mem_zalloc(sizeof *kit);
    kit->bridge = kit_bridge(SOURCES, 256 << 20);
    kit->settings = kit_settings();
    kit->settings.shared_buffer = 1 << 20;
    *state = kit;
    return 0;
}

static void open_kit(struct kit *kit)
{
    kit->mirror = kit_mirror(kit->bridge, &kit->settings);
    kit->address = mirror_address(kit->mirror);
}

/* ---- numbered events whose content tells whether it is whole ---- */

static size_t size_of(int n)
{
    if (n % 500 == 0)
        return 400 << 10; /* larger than a chunk of the ring */
    if (n % 37 == 0)
        return 20 << 10; /* larger than what is read at once */
    return 40 + (size_t)(n * 131 % 3000);
}

static char fill_of(int n, size_t at)
{
    return (char)('a' + ((size_t)n * 7 + at) % 26);
}

static void add_event(struct kit *kit, int n)
{
    size_t size = size_of(n);
    char *data = mem_alloc(size + 1);
    size_t at = (size_t)snprintf(data, size, "n=%d;", n);
    for (; at < size; at++)
        data[at] = fill_of(n, at);
    kit_append(
        kit->bridge, (size_t)(n % SOURCES),
        (struct event){.type = n % 10 == 0 ? STR("Tenth") : STR("Other"), .data = {data, size}});
    kit_commit(kit->bridge, (size_t)(n % SOURCES));
    free(data);
}

/* A client of its own thread that checks what it gets. */
struct reader {
    pthread_t thread;
    struct peer peer;
    const char *address;
    const char *target;
    int step; /* it wants every step-th number */
    int first, last;
    int pause_every; /* bytes; 0: never */
    int pause_ms;
    bool resumes; /* closes now and then, and comes back with the last id */
    char problem[256];
};

static bool check_data(struct reader *r, const char *data, size_t len, int expected)
{
    int n = (int)strtol(data + 2, NULL, 10);
    if (n != expected || len != size_of(n)) {
        snprintf(r->problem, sizeof r->problem, "expected %d, got %d of %zu bytes", expected, n,
                 len);
        return false;
    }
    for (size_t at = strcspn(data, ";") + 1; at < len; at++)
        if (data[at] != fill_of(n, at)) {
            snprintf(r->problem, sizeof r->problem, "%d is broken at %zu", n, at);
            return false;
        }
    return true;
}

static char *take_frame(struct reader *r, size_t *paused_at, size_t *total)
{
    for (;;) {
        char *end = r->peer.got.len > 1 ? memmem(r->peer.got.p, r->peer.got.len, "\n\n", 2) : NULL;
        if (end != NULL) {
            size_t len = (size_t)(end - r->peer.got.p) + 2;
            char *frame = mem_strndup(r->peer.got.p, len);
            buf_consume(&r->peer.got, len);
            return frame;
        }
        if (r->pause_every > 0 && *total - *paused_at > (size_t)r->pause_every) {
            poll(NULL, 0, r->pause_ms);
            *paused_at = *total;
        }
        ssize_t n = peer_read(&r->peer, 4 * KIT_WAIT_MS);
        if (n <= 0)
            return NULL;
        *total += (size_t)n;
    }
}

static void come_back(struct reader *r, const char *id)
{
    char header[160];
    snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", id);
    peer_close(&r->peer);
    r->peer = peer_get(r->address, r->target, header);
}

static void *read_all(void *arg)
{
    struct reader *r = arg;
    size_t paused_at = 0, total = 0;
    for (int expected = r->first; expected <= r->last; expected += r->step) {
        char *frame = NULL;
        const char *data = NULL;
        do {
            free(frame);
            frame = take_frame(r, &paused_at, &total);
            data = frame != NULL ? strstr(frame, "data: n=") : NULL;
        } while (frame != NULL && data == NULL);
        if (frame == NULL || !check_data(r, data + 6, strlen(data + 6) - 2, expected)) {
            if (frame == NULL)
                snprintf(r->problem, sizeof r->problem, "ended before %d", expected);
            free(frame);
            return NULL;
        }
        const char *id = strstr(frame, "id: ");
        frame[strcspn(frame, "\n")] = '\0';
        if (r->resumes && expected % 211 < r->step)
            come_back(r, id + 4);
        free(frame);
    }
    return NULL;
}

static void start_reader(struct kit *kit, struct reader *r)
{
    r->address = kit->address;
    r->peer = peer_get(kit->address, r->target, "");
    peer_expect(&r->peer, ": busbar\n\n");
    r->step = r->step > 0 ? r->step : 1;
    assert_int_equal(0, pthread_create(&r->thread, NULL, read_all, r));
}

static void end_reader(struct reader *r)
{
    pthread_join(r->thread, NULL);
    peer_close(&r->peer);
    if (r->problem[0] != '\0')
        fail_msg("%s pause=%d resumes=%d: %s", r->target, r->pause_ms, r->resumes, r->problem);
}

/* The ring is of 1 MiB, some 20 MiB go by: the slow ones fall behind it, read the journals, and
 * come back to it, in the middle of frames too. */
static void everybody_gets_everything_once_and_in_order(void **state)
{
    struct kit *kit = *state;
    enum { LAST = 6000 };
    open_kit(kit);
    for (int n = 1; n <= 500; n++)
        add_event(kit, n);
    struct reader readers[] = {
        {.target = "/events", .first = 501, .last = LAST},
        {.target = "/events?last_event_id=", .first = 1, .last = LAST},
        {.target = "/events", .first = 501, .last = LAST, .pause_every = 1 << 20, .pause_ms = 100},
        {.target = "/events", .first = 501, .last = LAST, .pause_every = 100000, .pause_ms = 5},
        {.target = "/events", .first = 501, .last = LAST, .resumes = true},
        {.target = "/events?type=Tenth", .first = 510, .last = LAST, .step = 10},
        {.target = "/events?last_event_id=&type=Tenth", .first = 10, .last = LAST, .step = 10},
        {.target = "/events?source=prod", .first = 502, .last = LAST, .step = 2, .resumes = true},
        {.target = "/events?last_event_id=&source=test",
         .first = 1,
         .last = LAST - 1,
         .step = 2,
         .pause_every = 1 << 20,
         .pause_ms = 50},
    };
    size_t n_readers = sizeof readers / sizeof readers[0];
    for (size_t i = 0; i < n_readers; i++)
        start_reader(kit, &readers[i]);
    for (int n = 501; n <= LAST; n++) {
        add_event(kit, n);
        if (n % 64 == 0)
            poll(NULL, 0, 2);
    }
    for (size_t i = 0; i < n_readers; i++)
        end_reader(&readers[i]);
    assert_int_equal(0, kit_metric(kit->bridge, "busbar_clients_cut_total"));
    assert_true(kit_becomes(kit->bridge, "busbar_clients", 0));
}

static void more_clients_than_may_hold_readers_come_back_at_once(void **state)
{
    struct kit *kit = *state;
    enum { CLIENTS = 90, LAST = 800 };
    static struct reader readers[CLIENTS];
    open_kit(kit);
    for (int n = 1; n <= LAST - 10; n++)
        add_event(kit, n);
    for (int i = 0; i < CLIENTS; i++) {
        readers[i] = (struct reader){
            .target = "/events?last_event_id=", .first = 1, .last = LAST, .pause_ms = 30};
        readers[i].pause_every = i % 3 == 0 ? 200000 : 0;
        start_reader(kit, &readers[i]);
    }
    for (int n = LAST - 9; n <= LAST; n++)
        add_event(kit, n);
    for (int i = 0; i < CLIENTS; i++)
        end_reader(&readers[i]);
}

/* ---- what is too slow ---- */

static void fill(struct kit *kit, size_t source, int events)
{
    static char data[32 << 10];
    memset(data, 'x', sizeof data - 1);
    for (int i = 0; i < events; i++)
        kit_add(kit->bridge, source, data);
}

/* Reads on until `text` comes; false where the stream ends before it. Keeps the end of what came.
 */
static bool reads_up_to(struct peer *p, const char *text, bool *gap)
{
    static const char told[] = "\nevent: Gap\ndata: {\"Topic\":\"Busbar\"";
    for (;;) {
        *gap =
            *gap || (p->got.len > 0 && memmem(p->got.p, p->got.len, told, sizeof told - 1) != NULL);
        if (p->got.len > 0 && memmem(p->got.p, p->got.len, text, strlen(text)) != NULL)
            return true;
        if (p->got.len > 200000)
            buf_consume(&p->got, p->got.len - 100000);
        if (peer_read(p, KIT_WAIT_MS) <= 0)
            return false;
    }
}

/* Either in the stream, or, where a frame of which it has a part is gone, by being cut: then it is
 * told when it comes back, as often as it takes. */
static void a_client_that_falls_behind_the_journal_is_told(void **state)
{
    struct kit *kit = *state;
    kit_bridge_free(&kit->bridge);
    kit->bridge = kit_bridge(SOURCES, 2 << 20);
    open_kit(kit);
    struct peer p = peer_get(kit->address, "/events", "");
    peer_expect(&p, ": busbar\n\n");
    kit_add(kit->bridge, 0, "the beginning");
    char *id = peer_take_id(&p);
    for (int i = 0; i < 100 && journal_first_seq(kit->bridge->journals[0]) < 600; i++)
        fill(kit, 0, 64); /* more than all buffers on the way hold */
    kit_add(kit->bridge, 0, "the end");
    bool gap = false;
    for (int cuts = 1; !reads_up_to(&p, "data: the end\n\n", &gap); cuts++) {
        assert_true(cuts < 10);
        assert_int_equal(cuts, kit_metric(kit->bridge, "busbar_clients_cut_pruned_total"));
        char header[160];
        snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", id);
        peer_close(&p);
        p = peer_get(kit->address, "/events", header);
    }
    assert_true(gap);
    peer_close(&p);
    free(id);
}

/* Its readers were let go in the middle of the first frame behind the gap: the gap is not told
 * again, and the frame is whole. */
static void a_pause_behind_a_gap_changes_nothing(void **state)
{
    struct kit *kit = *state;
    enum { BYTES = 3 << 19 };
    kit_bridge_free(&kit->bridge);
    kit->bridge = kit_bridge(SOURCES, 8 << 20);
    open_kit(kit);
    char id[128];
    snprintf(id, sizeof id, "prod:1.0@%" PRId64 ".%016" PRIx64,
             kit_add(kit->bridge, 0, "the beginning"), journal_id(kit->bridge->journals[0]));
    char *data = mem_zalloc(BYTES + 1);
    memset(data, 'x', BYTES);
    for (int i = 0; i < 30; i++)
        kit_add(kit->bridge, 0, data);
    kit_add(kit->bridge, 0, "the end");
    char header[160];
    snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", id);
    struct peer p = peer_get(kit->address, "/events", header);
    peer_expect(&p, "event: Gap\n");
    poll(NULL, 0, 2500);
    peer_expect(&p, "\n\nid: ");
    char *frame = peer_take(&p, "\n\n", KIT_WAIT_MS);
    assert_non_null(frame);
    assert_int_equal(BYTES, strlen(strstr(frame, "data: ")) - strlen("data: \n\n"));
    free(frame);
    bool gap = false;
    assert_true(reads_up_to(&p, "data: the end\n\n", &gap));
    assert_false(gap);
    peer_close(&p);
    free(data);
}

static void a_client_that_takes_nothing_is_cut(void **state)
{
    struct kit *kit = *state;
    kit->settings.client_timeout_ms = 1000;
    open_kit(kit);
    struct peer stuck = peer_get(kit->address, "/events", "");
    struct peer fine = peer_get(kit->address, "/events", "");
    peer_expect(&stuck, ": busbar\n\n");
    peer_expect(&fine, ": busbar\n\n");
    for (int i = 0; i < 400; i++) { /* for one of them never more than lies in its socket */
        char data[32], frame[48];
        snprintf(data, sizeof data, "mark %d", i);
        snprintf(frame, sizeof frame, "data: %s\n\n", data);
        fill(kit, 0, 1);
        kit_add(kit->bridge, 0, data);
        peer_expect(&fine, frame);
    }
    assert_true(kit_becomes(kit->bridge, "busbar_clients_cut_total", 1));
    assert_true(kit_becomes(kit->bridge, "busbar_clients", 1));
    kit_add(kit->bridge, 0, "after");
    peer_expect(&fine, "data: after\n\n");
    peer_close(&stuck);
    peer_close(&fine);
}

static void clients_that_went_away_are_noticed_while_nothing_happens(void **state)
{
    struct kit *kit = *state;
    open_kit(kit);
    struct peer peers[20];
    for (int i = 0; i < 20; i++) {
        peers[i] = peer_get(kit->address, "/events", "");
        peer_expect(&peers[i], ": busbar\n\n");
    }
    assert_int_equal(20, kit_metric(kit->bridge, "busbar_clients"));
    for (int i = 0; i < 20; i++)
        peer_close(&peers[i]);
    assert_true(kit_becomes(kit->bridge, "busbar_clients", 0));
    assert_int_equal(20, kit_metric(kit->bridge, "busbar_clients_total"));
}

/* ---- limits ---- */

static void turns_away_who_comes_beyond_the_limit(void **state)
{
    struct kit *kit = *state;
    kit->settings.max_clients = 2;
    open_kit(kit);
    struct peer peers[2];
    for (int i = 0; i < 2; i++) {
        peers[i] = peer_get(kit->address, "/events", "");
        peer_expect(&peers[i], ": busbar\n\n");
    }
    char *tool = kit_ask(kit->address, "GET /events HTTP/1.1\r\n");
    assert_non_null(strstr(tool, "HTTP/1.1 503 "));
    assert_non_null(strstr(tool, "\r\nRetry-After: "));
    free(tool);
    /* Any other status would end a browser's EventSource for good. */
    char *browser = kit_ask(kit->address, "GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n");
    assert_non_null(strstr(browser, "HTTP/1.1 200 "));
    assert_non_null(strstr(browser, "\nretry: "));
    free(browser);
    assert_int_equal(2, kit_metric(kit->bridge, "busbar_clients_refused_total"));
    free(kit_ask(kit->address, "GET /status HTTP/1.1\r\n")); /* others are answered */
    peer_close(&peers[0]);
    assert_true(kit_becomes(kit->bridge, "busbar_clients", 1));
    peers[0] = peer_get(kit->address, "/events", "");
    peer_expect(&peers[0], ": busbar\n\n");
    peer_close(&peers[0]);
    peer_close(&peers[1]);
}

static void serves_a_thousand(void **state)
{
    struct kit *kit = *state;
    enum { CLIENTS = 1000 };
    static struct peer peers[CLIENTS];
    struct rlimit limit;
    assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 3 * CLIENTS)
        skip();
    kit->settings.max_clients = CLIENTS;
    open_kit(kit);
    for (int i = 0; i < CLIENTS; i++)
        peers[i] = peer_get(kit->address, i % 2 == 0 ? "/events" : "/events?type=Tenth", "");
    for (int i = 0; i < CLIENTS; i++)
        peer_expect(&peers[i], ": busbar\n\n");
    for (int n = 1; n <= 30; n++)
        add_event(kit, n);
    for (int i = 0; i < CLIENTS; i++)
        for (int n = i % 2 == 0 ? 1 : 10; n <= 30; n += i % 2 == 0 ? 1 : 10) {
            char data[24];
            snprintf(data, sizeof data, "data: n=%d;", n);
            peer_expect(&peers[i], data);
        }
    assert_true(kit_becomes(kit->bridge, "busbar_delivered_total", CLIENTS / 2 * 33));
    for (int i = 0; i < CLIENTS; i++)
        peer_close(&peers[i]);
    assert_true(kit_becomes(kit->bridge, "busbar_clients", 0));
}

static void ends_its_streams_when_it_closes(void **state)
{
    struct kit *kit = *state;
    open_kit(kit);
    struct peer p = peer_get(kit->address, "/events", "");
    struct peer half = {.fd = kit_connect(kit->address)};
    peer_send(&half, "GET /events HT");
    peer_expect(&p, ": busbar\n\n");
    add_event(kit, 1);
    mirror_close(&kit->mirror);
    peer_expect_end(&p);
    peer_expect_end(&half);
    peer_close(&p);
    peer_close(&half);
}

#define WITH_KIT(fn) cmocka_unit_test_setup_teardown(fn, setup, kit_teardown)

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        WITH_KIT(everybody_gets_everything_once_and_in_order),
        WITH_KIT(more_clients_than_may_hold_readers_come_back_at_once),
        WITH_KIT(a_client_that_falls_behind_the_journal_is_told),
        WITH_KIT(a_pause_behind_a_gap_changes_nothing),
        WITH_KIT(a_client_that_takes_nothing_is_cut),
        WITH_KIT(clients_that_went_away_are_noticed_while_nothing_happens),
        WITH_KIT(turns_away_who_comes_beyond_the_limit),
        WITH_KIT(serves_a_thousand),
        WITH_KIT(ends_its_streams_when_it_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
