/* clients.c - ten thousand readers of a stream in one process.
 *
 * One thread, one epoll. They connect from several loopback addresses, so that no port runs out,
 * attach, and once all are attached (and a while has passed) a window opens: what is delivered in
 * it, how late, at what cost in CPU of this process, is the result. Throughout, each client checks
 * that it is told the numbers of the generator's events one by one: `missed` and `repeated` must be
 * 0 however often it was cut and came back. It shares the machine with what it measures: at two
 * cores, its own `cpu_s` says how much of them it took. */
#include "tests/bench/fanout/client.h"
#include "tests/bench/fanout/options.h"

#include "bridge/base/clock.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, TICK_MS = 10, LAST_READS = 4 };

enum phase { PHASE_ATTACHING, PHASE_WARMING, PHASE_WINDOW, PHASE_OVER };

static struct {
    struct options options;
    struct tally tally;
    struct client *clients;
    size_t n;
    size_t waiting;  /* of the clients, those in CLIENT_WAITING */
    size_t attached; /* of them, now */
    int epoll_fd;
    struct buf scratch;
    enum phase phase;
    int64_t start_us;
    int64_t phase_us; /* when it began */
    int64_t all_us;   /* when all had attached first */
    bool halted;      /* those who stop have */
    bool resumed;
    double window_s;
    double cpu_s;      /* at the window's begin; then of the window */
    size_t halted_cut; /* ended while they did not read */
} run;

static volatile sig_atomic_t asked_to_end;

static void on_signal(int number)
{
    (void)number;
    asked_to_end = 1;
}

static double own_cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static double since_s(int64_t us)
{
    return (double)(clock_mono_us() - us) / 1e6;
}

/* ---- coming and going ---- */

static void watch(struct client *c, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(run.epoll_fd, how, c->fd, &event) != 0)
        abort();
}

static void wait_again(struct client *c, int64_t delay_us)
{
    c->state = CLIENT_WAITING;
    c->due_us = clock_mono_us() + delay_us;
    run.waiting++;
}

static bool is_attached(const struct client *c)
{
    return c->state == CLIENT_STREAM || c->state == CLIENT_DEAD;
}

static void leave(struct client *c)
{
    bool was_attached = is_attached(c);
    run.attached -= was_attached;
    client_close(c);
    c->new_id[0] = '\0';
    if (was_attached) {
        c->wish_us = clock_mono_us();
        c->caught = false;
    }
    /* One that never came about tries again in any case: its server may be coming up. */
    if (!was_attached || run.options.reconnect_ms >= 0)
        wait_again(c, 1000 * (run.options.reconnect_ms >= 0 ? run.options.reconnect_ms : 100));
    else
        c->state = CLIENT_OVER;
}

static void start_one(struct client *c)
{
    run.waiting--;
    c->halted = false;
    if (!client_connect(c, &run.options.plan, (size_t)(c - run.clients))) {
        run.tally.failed++;
        wait_again(c, 100 * 1000);
        return;
    }
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

/* Those whose time has come; at a rate, no more than are due by now. */
static void start_due(void)
{
    int64_t now_us = clock_mono_us();
    double allowed = run.options.connect_rate * since_s(run.start_us);
    for (size_t i = 0; i < run.n && run.waiting > 0; i++) {
        if (run.options.connect_rate > 0 && run.all_us == 0 && (double)i >= allowed)
            return;
        if (run.clients[i].state == CLIENT_WAITING && run.clients[i].due_us <= now_us)
            start_one(&run.clients[i]);
    }
}

static void handle(struct client *c)
{
    if (c->halted) { /* cut: what it has not read can still be read */
        run.halted_cut++;
        watch(c, EPOLL_CTL_DEL, 0);
        c->halted = false;
        c->kind = CLIENT_NORMAL;
        leave(c);
        return;
    }
    enum client_state before = c->state;
    enum client_step step = client_step(c, &run.options.plan, &run.tally, &run.scratch);
    if (step == CLIENT_ATTACHED)
        run.attached++;
    if (step == CLIENT_ENDED)
        leave(c);
    else if (c->state == CLIENT_DEAD || (c->kind == CLIENT_SLOW && step == CLIENT_ATTACHED))
        watch(c, EPOLL_CTL_MOD, 0);
    else if (before == CLIENT_CONNECTING || before == CLIENT_SHAKING)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

/* ---- those who stop reading ---- */

static void halt_some(bool halt)
{
    for (size_t i = 0; i < run.n; i++) {
        struct client *c = &run.clients[i];
        if (c->kind != CLIENT_STOPS || c->state != CLIENT_STREAM)
            continue;
        c->halted = halt;
        watch(c, EPOLL_CTL_MOD, halt ? 0 : EPOLLIN);
    }
}

static void mind_stopped(void)
{
    if (run.all_us == 0 || run.options.stopped == 0)
        return;
    double since = since_s(run.all_us) - run.options.stop_after;
    if (!run.halted && since >= 0) {
        run.halted = true;
        halt_some(true);
    }
    if (!run.resumed && run.options.resume_after > 0 && since >= run.options.resume_after) {
        run.resumed = true;
        halt_some(false);
    }
}

static void read_slowly(void)
{
    for (size_t i = 0; i < run.n && run.options.slow > 0; i++)
        if (run.clients[i].kind == CLIENT_SLOW && run.clients[i].state == CLIENT_STREAM)
            handle(&run.clients[i]);
}

/* ---- phases ---- */

static void tell(const char *phase)
{
    printf("{\"phase\": \"%s\", \"attached\": %zu, \"seconds\": %.3f}\n", phase, run.attached,
           since_s(run.start_us));
    fflush(stdout);
}

static void turn_to(enum phase phase)
{
    run.phase = phase;
    run.phase_us = clock_mono_us();
}

/* Whether every client that reads has come as far as it should. */
static bool all_have_enough(void)
{
    uint64_t number = run.options.until_number;
    for (size_t i = 0; i < run.n; i++) {
        const struct client *c = &run.clients[i];
        if (c->kind != CLIENT_NORMAL)
            continue;
        if (c->last_number < number || (run.options.until_caught && !c->caught))
            return false;
    }
    return true;
}

static bool window_over(void)
{
    double since = since_s(run.phase_us);
    if (run.options.until_number > 0 || run.options.until_caught)
        return all_have_enough() || since >= run.options.patience;
    return run.options.seconds > 0 && since >= run.options.seconds;
}

/* Asked to end: what has come by then counts, however long this process was kept from reading. */
static void read_what_came(void)
{
    for (size_t i = 0; i < LAST_READS * run.n; i++) {
        struct client *c = &run.clients[i % run.n];
        if ((c->state == CLIENT_ASKING || c->state == CLIENT_STREAM) && !c->halted)
            handle(c);
    }
}

static void mind_phase(void)
{
    if (run.phase == PHASE_ATTACHING && run.attached == run.n) {
        run.all_us = clock_mono_us();
        tell("attached");
        turn_to(PHASE_WARMING);
    }
    if (run.phase == PHASE_WARMING && since_s(run.phase_us) >= run.options.warm) {
        tell("begin");
        run.tally.window = true;
        run.cpu_s = own_cpu_s();
        turn_to(PHASE_WINDOW);
    }
    bool late = run.phase == PHASE_ATTACHING && since_s(run.start_us) > run.options.patience;
    if ((run.phase == PHASE_WINDOW && window_over()) || asked_to_end || late) {
        if (asked_to_end)
            read_what_came();
        run.cpu_s = run.tally.window ? own_cpu_s() - run.cpu_s : 0;
        run.window_s = run.tally.window ? since_s(run.phase_us) : 0;
        run.tally.window = false;
        tell("end");
        turn_to(PHASE_OVER);
    }
}

static void loop(void)
{
    static struct epoll_event events[EVENTS_MAX];
    int64_t ticked_us = 0;
    while (run.phase != PHASE_OVER) {
        int n = epoll_wait(run.epoll_fd, events, EVENTS_MAX, TICK_MS);
        for (int i = 0; i < n; i++)
            handle(events[i].data.ptr);
        if (since_s(ticked_us) * 1000 < TICK_MS)
            continue;
        ticked_us = clock_mono_us();
        start_due();
        mind_stopped();
        read_slowly();
        mind_phase();
    }
}

/* ---- the result ---- */

static void print_times(const char *name, const struct histogram *h)
{
    printf(", \"%s\": {\"n\": %" PRIu64 ", \"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}", name,
           h->n, (double)histogram_at(h, 0.5) / 1e3, (double)histogram_at(h, 0.99) / 1e3,
           (double)h->max / 1e3);
}

/* Per group: how many clients, what the first of them has, how many have another set of numbers. */
static void print_groups(void)
{
    printf(", \"groups\": [");
    for (size_t g = 0; g < (size_t)run.options.groups && g < run.n; g++) {
        const struct client *first = &run.clients[g];
        size_t members = 0;
        size_t others = 0;
        for (size_t i = g; i < run.n; i += (size_t)run.options.groups, members++)
            others += run.clients[i].count != first->count || run.clients[i].hash != first->hash;
        printf("%s{\"clients\": %zu, \"count\": %" PRIu64 ", \"hash\": %" PRIu64
               ", \"differ\": %zu}",
               g > 0 ? ", " : "", members, first->count, first->hash, others);
    }
    printf("]");
}

static void print_counts(void)
{
    const struct tally *t = &run.tally;
    printf(", \"events\": %" PRIu64 ", \"replayed\": %" PRIu64 ", \"missed\": %" PRIu64
           ", \"repeated\": %" PRIu64 ", \"gaps\": %" PRIu64,
           t->events, t->replayed, t->missed, t->repeated, t->gaps);
    printf(", \"attached_ever\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"closed\": %" PRIu64
           ", \"failed\": %" PRIu64 ", \"halted_cut\": %zu",
           t->attached, t->refused, t->closed, t->failed, run.halted_cut);
}

static void print_result(void)
{
    const struct tally *t = &run.tally;
    size_t caught = 0;
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < run.n; i++) {
        caught += run.clients[i].caught;
        if (run.clients[i].kind == CLIENT_NORMAL && run.clients[i].last_number < least)
            least = run.clients[i].last_number;
    }
    struct buf words = {0};
    buf_append_json(&words, str_from(t->last_words));
    printf("{\"phase\": \"result\", \"clients\": %zu, \"attached\": %zu, \"caught\": %zu, "
           "\"least_number\": %" PRIu64 ", \"seconds\": %.3f, \"deliveries\": %" PRIu64
           ", \"reads\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"cpu_s\": %.3f",
           run.n, run.attached, caught, least, run.window_s, t->deliveries, t->reads, t->bytes,
           run.cpu_s);
    print_times("delay_ms", &t->delay_us);
    print_times("attach_ms", &t->attach_us);
    print_times("caught_ms", &t->caught_us);
    print_counts();
    print_groups();
    printf(", \"last_words\": %s}\n", buf_cstr(&words));
    buf_fini(&words);
}

/* ---- the start ---- */

struct id_line {
    char id[CLIENT_ID_MAX];
    uint64_t number;
};

/* Client i begins at line i * lines / clients. */
static void spread_ids(const char *path)
{
    FILE *file = fopen(path, "r");
    struct buf all = {0};
    struct id_line line;
    size_t lines = 0;
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    while (fscanf(file, "%95s %" SCNu64, line.id, &line.number) == 2) {
        buf_append(&all, &line, sizeof line);
        lines++;
    }
    fclose(file);
    for (size_t i = 0; i < run.n && lines > 0; i++) {
        memcpy(&line, all.p + i * lines / run.n * sizeof line, sizeof line);
        struct client *c = &run.clients[i];
        memcpy(c->id, line.id, sizeof c->id);
        c->last_number = line.number;
        c->knows_number = true;
        c->caught = false;
    }
    buf_fini(&all);
}

static void make_clients(void)
{
    const struct options *options = &run.options;
    run.n = (size_t)options->clients;
    run.clients = mem_zalloc(run.n * sizeof *run.clients);
    run.waiting = run.n;
    run.start_us = clock_mono_us();
    for (size_t i = 0; i < run.n; i++) {
        struct client *c = &run.clients[i];
        c->fd = -1;
        c->group = (unsigned)(i % (size_t)options->groups);
        c->wish_us = run.start_us;
        /* Those who don't read come last, so that groups begin with one who does. */
        if (i + (size_t)options->closed >= run.n)
            c->kind = CLIENT_NEVER_READS;
        else if (i + (size_t)(options->closed + options->stopped) >= run.n)
            c->kind = CLIENT_STOPS;
        else if (i + (size_t)(options->closed + options->stopped + options->slow) >= run.n)
            c->kind = CLIENT_SLOW;
    }
    if (options->ids_from != NULL)
        spread_ids(options->ids_from);
}

static void raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < (rlim_t)run.options.clients + 16) {
        fprintf(stderr, "clients: %ld of them need as many open files\n", run.options.clients);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    options_read(&run.options, argc, argv);
    raise_files();
    if (run.options.plan.tls)
        tls_init(run.options.ca);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    run.tally.ids = run.options.ids_to != NULL ? fopen(run.options.ids_to, "w") : NULL;
    run.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    make_clients();
    loop();
    print_result();
    for (size_t i = 0; i < run.n; i++)
        client_close(&run.clients[i]);
    if (run.tally.ids != NULL)
        fclose(run.tally.ids);
    free(run.clients);
    buf_fini(&run.scratch);
    return 0;
}
