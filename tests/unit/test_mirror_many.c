/* test_mirror_many.c - many who come back at once share what is read; who is too slow is cut. */
#include "tests/unit/mirror_kit.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>

enum { EVENTS = 4000, BYTES = 1000, HERD = 50 };

static void add(struct kit *kit, int n)
{
    char data[BYTES + 1];
    memset(data, 'x', BYTES);
    data[BYTES] = '\0';
    data[snprintf(data, BYTES, "n=%d;", n)] = 'x';
    kit_append(
        kit->bridge, (size_t)(n % 2),
        (struct event){.type = n % 100 == 0 ? STR("Rare") : STR("Often"), .data = str_from(data)});
    if (n % 50 == 49)
        for (size_t i = 0; i < 2; i++)
            kit_commit(kit->bridge, i);
}

static void add_all(struct kit *kit, int from, int to)
{
    for (int n = from; n < to; n++)
        add(kit, n);
    for (size_t i = 0; i < 2; i++)
        kit_commit(kit->bridge, i);
}

static int begin(void **state, struct mirror_settings settings)
{
    struct kit *kit = mem_zalloc(sizeof *kit);
    kit->bridge = kit_bridge(2, 64 << 20);
    kit->settings = settings;
    kit->settings.shared_buffer = 1 << 20;
    kit->mirror = kit_mirror(kit->bridge, &kit->settings);
    kit->address = mirror_address(kit->mirror);
    *state = kit;
    return 0;
}

static int setup(void **state)
{
    return begin(state, kit_settings());
}

static int setup_lag(void **state)
{
    struct mirror_settings settings = kit_settings();
    settings.client_lag_ms = 300;
    settings.client_buffer = 4096;
    return begin(state, settings);
}

/* Beats so often that each turn of the loop keeps house. */
static int setup_pause(void **state)
{
    struct mirror_settings settings = kit_settings();
    settings.client_lag_ms = 300;
    settings.heartbeat_ms = 4;
    return begin(state, settings);
}

static void expect_events(struct peer *p, int from, int to, int step)
{
    char expected[32];
    for (int n = from; n < to; n += step) {
        snprintf(expected, sizeof expected, "data: n=%d;", n);
        char *taken = peer_take(p, "data: n=", KIT_WAIT_MS);
        assert_non_null(taken);
        free(taken);
        char *number = peer_take(p, ";", KIT_WAIT_MS);
        assert_non_null(number);
        assert_int_equal(n, strtol(number, NULL, 10));
        free(number);
    }
}

/* Ids spread over the journal; the ids of a client that reads all of it. */
static void take_ids(struct kit *kit, char *ids[HERD], int numbers[HERD])
{
    struct peer p = peer_get(kit->address, "/events?last_event_id=", "");
    for (int n = 0, taken = 0; taken < HERD; n++) {
        char *id = peer_take_id(&p);
        if (n % (EVENTS / HERD) == 0) {
            numbers[taken] = n;
            ids[taken++] = id;
        } else {
            free(id);
        }
    }
    peer_close(&p);
}

static bool has_last(struct peer *p)
{
    char last[32];
    int len = snprintf(last, sizeof last, "data: n=%d;", EVENTS - 1);
    size_t n = p->got.len < 2 * BYTES ? p->got.len : 2 * BYTES;
    return n > 0 && memmem(p->got.p + p->got.len - n, n, last, (size_t)len) != NULL;
}

/* All of them read at once, until each has the last event. */
static void read_together(struct peer herd[HERD])
{
    int64_t until_ms = clock_mono_ms() + 4 * KIT_WAIT_MS;
    for (int left = HERD; left > 0 && clock_mono_ms() < until_ms;) {
        left = 0;
        for (int i = 0; i < HERD; i++) {
            peer_read(&herd[i], 0);
            left += !has_last(&herd[i]);
        }
    }
    for (int i = 0; i < HERD; i++) /* the rest of that one */
        while (herd[i].got.p[herd[i].got.len - 1] != '\n' && peer_read(&herd[i], KIT_WAIT_MS) > 0)
            ;
}

/* The next in less than two frames' bytes: under a sanitizer a search reads all it is given. */
static const char *find_near(const char *at, const char *end, const char *text)
{
    size_t n = end - at < 2 * BYTES ? (size_t)(end - at) : 2 * BYTES;
    return memmem(at, n, text, strlen(text));
}

/* What has come is these, and no more. */
static void expect_all(struct peer *p, int from, int to)
{
    const char *at = buf_cstr(&p->got), *end = at + p->got.len;
    for (int n = from; n < to; n++) {
        at = find_near(at, end, "data: n=");
        if (at == NULL)
            fail_msg("ended before %d, of %d to %d: %.300s", n, from, to, buf_cstr(&p->got));
        at += strlen("data: n=");
        assert_int_equal(n, strtol(at, NULL, 10));
    }
    assert_null(strstr(at, "data: "));
    buf_clear(&p->got);
}

/* Of the source of the even numbers these, and no more; of the other one what lies around. Where
 * the journal begins with the first, it can't show that none is missing. */
static void expect_even_from(struct peer *p, int even)
{
    bool gap = even == 0;
    const char *at = buf_cstr(&p->got), *end = at + p->got.len;
    int odd = -1;
    while ((at = find_near(at, end, "data: n=")) != NULL) {
        at += strlen("data: n=");
        int n = (int)strtol(at, NULL, 10), *next = n % 2 == 0 ? &even : &odd;
        assert_int_equal(*next < 0 ? n : *next, n);
        *next = n + 2;
    }
    assert_int_equal(EVENTS, even);
    assert_int_equal(EVENTS + 1, odd);
    assert_true(gap == (strstr(p->got.p, "Gap") != NULL));
    buf_clear(&p->got);
}

/* They come back at once, each with its id, of that journal where it is not NULL. */
static void herd_comes_back(struct kit *kit, struct peer herd[HERD], int numbers[HERD],
                            const char *journal)
{
    char *ids[HERD], header[160];
    add_all(kit, 0, EVENTS);
    take_ids(kit, ids, numbers);
    for (int i = 0; i < HERD; i++) {
        char *own = strrchr(ids[i], '.') + 1;
        snprintf(header, sizeof header, "Last-Event-ID: %.*s%s\r\n", (int)(own - ids[i]), ids[i],
                 journal != NULL ? journal : own);
        herd[i] = peer_get(kit->address, "/events", header);
        free(ids[i]);
    }
    read_together(herd);
}

/* And from the ring. The journal is some 18 pages; each for itself, they would read 9 of these on
 * average. */
static void herd_goes_on(struct kit *kit, struct peer herd[HERD])
{
    add_all(kit, EVENTS, EVENTS + 10);
    for (int i = 0; i < HERD; i++) {
        expect_events(&herd[i], EVENTS, EVENTS + 10, 1);
        peer_close(&herd[i]);
    }
    long pages = kit_metric(kit->bridge, "busbar_mirror_pages_read_total");
    if (pages < 10 || pages > HERD * 9 / 3)
        fail_msg("%ld pages", pages);
}

static void a_herd_reads_the_journal_once_together(void **state)
{
    struct kit *kit = *state;
    int numbers[HERD];
    struct peer herd[HERD];
    herd_comes_back(kit, herd, numbers, NULL);
    for (int i = 0; i < HERD; i++)
        expect_all(&herd[i], numbers[i] + 1, EVENTS);
    herd_goes_on(kit, herd);
}

/* Each skips another part of what all of them are sent. */
static void a_herd_of_another_journal_does_so_too(void **state)
{
    struct kit *kit = *state;
    int numbers[HERD];
    struct peer herd[HERD];
    herd_comes_back(kit, herd, numbers, "0123456789abcdef");
    for (int i = 0; i < HERD; i++)
        expect_even_from(&herd[i], numbers[i]);
    herd_goes_on(kit, herd);
}

static void a_filter_passes_pages_over_without_a_byte(void **state)
{
    struct kit *kit = *state;
    add_all(kit, 0, EVENTS);
    struct peer p = peer_get(kit->address, "/events?type=Rare&since=2020-01-01T00:00:00Z", "");
    struct peer none = peer_get(kit->address, "/events?type=No&since=2020-01-01T00:00:00Z", "");
    expect_events(&p, 0, EVENTS, 100);
    peer_expect_silence(&none, 100);
    kit_append(kit->bridge, 0, (struct event){.type = STR("No"), .data = STR("n=7;")});
    kit_commit(kit->bridge, 0);
    expect_events(&none, 7, 8, 1);
    assert_int_equal(2, kit_metric(kit->bridge, "busbar_client_groups"));
    peer_close(&p);
    peer_close(&none);
}

/* It takes nothing while some MiB go by; another one has all of it, and at once. */
static void who_falls_behind_is_cut_and_can_come_back(void **state)
{
    struct kit *kit = *state;
    struct peer slow = peer_get(kit->address, "/events", ""), other;
    peer_expect(&slow, ": busbar\n\n");
    other = peer_get(kit->address, "/events", "");
    peer_expect(&other, ": busbar\n\n");
    int small = 4096;
    setsockopt(slow.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    int next = 0;
    for (; next < EVENTS / 2; next += 50) { /* so few wait for it that it is never behind */
        add_all(kit, next, next + 50);
        expect_events(&other, next, next + 50, 1);
    }
    for (; kit_metric(kit->bridge, "busbar_clients_cut_lag_total") == 0 && next < EVENTS; next++) {
        add_all(kit, next, next + 1);
        expect_events(&other, next, next + 1, 1);
        poll(NULL, 0, 10);
    }
    assert_true(kit_becomes(kit->bridge, "busbar_clients_cut_lag_total", 1));
    assert_int_equal(1, kit_metric(kit->bridge, "busbar_clients_cut_total"));
    peer_expect_end(&slow);
    /* All it has are whole frames but for the last; it goes on behind the last whole one. */
    const char *last = NULL, *at = buf_cstr(&slow.got);
    int number = -1;
    while ((at = strstr(at, "id: ")) != NULL) {
        const char *data = strstr(at, "data: n="), *end = strstr(at, "\n\n");
        if (data == NULL || end == NULL)
            break;
        last = at + 4;
        number = (int)strtol(data + 8, NULL, 10);
        at = end;
    }
    assert_non_null(last);
    char header[160];
    snprintf(header, sizeof header, "Last-Event-ID: %.*s\r\n", (int)strcspn(last, "\n"), last);
    peer_close(&slow);
    slow = peer_get(kit->address, "/events", header);
    expect_events(&slow, number + 1, next, 1);
    peer_close(&slow);
    peer_close(&other);
}

/* The newest event is then later than the last that a client has by more than it may be behind. */
static void nobody_is_cut_for_a_pause(void **state)
{
    struct kit *kit = *state;
    struct peer early = peer_get(kit->address, "/events?last_event_id=", "");
    struct peer now = peer_get(kit->address, "/events", "");
    peer_expect(&early, ": busbar\n\n");
    peer_expect(&now, ": busbar\n\n");
    for (int n = 0; n < 4; n++) {
        poll(NULL, 0, 700);
        add_all(kit, n, n + 1);
        expect_events(&early, n, n + 1, 1);
        expect_events(&now, n, n + 1, 1);
    }
    assert_int_equal(0, kit_metric(kit->bridge, "busbar_clients_cut_total"));
    peer_close(&early);
    peer_close(&now);
}

#define WITH(test, setup) cmocka_unit_test_setup_teardown(test, setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_herd_reads_the_journal_once_together, setup),
        WITH(a_herd_of_another_journal_does_so_too, setup),
        WITH(a_filter_passes_pages_over_without_a_byte, setup),
        WITH(who_falls_behind_is_cut_and_can_come_back, setup_lag),
        WITH(nobody_is_cut_for_a_pause, setup_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
