/* main.c - the command line: busbar run | check | settings | version.
 *
 * Exit status: 0 asked to stop, 1 failure, 2 configuration or usage, 3 everything is fenced and no
 * standby is wanted. */
#include "bridge/base/log.h"
#include "bridge/base/stop.h"
#include "bridge/bridge.h"
#include "bridge/setup.h"
#include "bridge/version.h"
#include "connectors/mirror/mirror.h"
#include "connectors/registry.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { EXIT_ASKED = 0, EXIT_FAILED = 1, EXIT_CONFIG = 2, EXIT_FENCED = 3 };

/* Blocks of the journal come and go by 256 KiB; from the heap, not each from the kernel. */
enum { MMAP_THRESHOLD = 8 << 20, TRIM_THRESHOLD = 16 << 20, ARENAS = 4 };

/* Everything a configuration file gives. */
struct loaded {
    struct settings *file;
    struct setup *setup;
    struct mirror_settings mirror;
};

static void unload(struct loaded *loaded)
{
    setup_free(&loaded->setup);
    settings_free(&loaded->file);
}

/* Reads and checks; 0, or EXIT_CONFIG after telling every mistake. */
static int load(struct loaded *loaded, const char *path)
{
    loaded->file = settings_load(path);
    loaded->setup = setup_read(loaded->file, &registry);
    const struct settings_node *http = loaded->setup->http;
    if (http != NULL &&
        settings_apply(loaded->file, http, "http", mirror_rows, NULL, &loaded->mirror) == 0)
        mirror_check(loaded->file, http, &loaded->mirror);
    if (settings_problems(loaded->file) == 0)
        return 0;
    settings_print_problems(loaded->file, stderr);
    return EXIT_CONFIG;
}

static int check(const char *path)
{
    struct loaded loaded = {0};
    int rc = load(&loaded, path);
    if (rc == 0)
        printf("%s: ok\n", path);
    unload(&loaded);
    return rc;
}

/* ---- run ---- */

static void prepare_process(void)
{
    mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
    mallopt(M_ARENA_MAX, ARENAS);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* Before the first thread: they inherit the mask, so that only this descriptor sees the signals. */
static int stop_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static int wait_for_end(struct bridge *bridge, int signals)
{
    struct pollfd fds[2] = {
        {.fd = signals, .events = POLLIN},
        {.fd = bridge_end_fd(bridge), .events = POLLIN},
    };
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        ;
    if (fds[0].revents != 0) {
        log_info("stopping", LOG_STR("why", "asked to"));
        return EXIT_ASKED;
    }
    if (bridge_end(bridge) == BRIDGE_FENCED) {
        log_error("stopping",
                  LOG_STR("why", "another instance of this name publishes to every sink"));
        return EXIT_FENCED;
    }
    log_error("stopping", LOG_STR("why", "no source is left"));
    return EXIT_FAILED;
}

static int run_loaded(const struct loaded *loaded, struct err *err)
{
    int signals = stop_signals();
    struct bridge *bridge = NULL;
    struct mirror *mirror = NULL;
    const struct setup *setup = loaded->setup;
    int rc = EXIT_FAILED;
    if (bridge_open(&bridge, setup, err) == 0 &&
        (setup->http == NULL ||
         mirror_open(&mirror, &loaded->mirror, setup->name, bridge, err) == 0)) {
        bridge_start(bridge);
        rc = wait_for_end(bridge, signals);
    } else {
        log_error("start_failed", LOG_STR("err", err->msg));
    }
    mirror_close(&mirror);
    bridge_close(&bridge);
    close(signals);
    return rc;
}

static int run(const char *path)
{
    struct loaded loaded = {0};
    struct err err = {ERR_FATAL, ""};
    int rc = load(&loaded, path);
    if (rc == 0) {
        prepare_process();
        log_setup((enum log_format)loaded.setup->log_format,
                  (enum log_level)loaded.setup->log_level);
        log_info("starting", LOG_STR("version", BUSBAR_VERSION), LOG_STR("config", path),
                 LOG_INT("pid", getpid()));
        rc = run_loaded(&loaded, &err);
        log_info("stopped", LOG_INT("exit", rc));
    }
    unload(&loaded);
    return rc;
}

/* ---- the command line ---- */

static int usage(FILE *to, int rc)
{
    fputs("usage: busbar run -c FILE       bridge as FILE says, until SIGTERM or SIGINT\n"
          "       busbar check -c FILE     read and check FILE; connects to nothing\n"
          "       busbar settings          every key of the configuration, as Markdown\n"
          "       busbar version\n",
          to);
    return rc;
}

static int settings_reference(void)
{
    setup_document(&registry, stdout);
    settings_document(mirror_rows, "http", stdout);
    return 0;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    bool with_file = argc == 4 && strcmp(argv[2], "-c") == 0;
    if (strcmp(command, "run") == 0 && with_file)
        return run(argv[3]);
    if (strcmp(command, "check") == 0 && with_file)
        return check(argv[3]);
    if (strcmp(command, "settings") == 0 && argc == 2)
        return settings_reference();
    if ((strcmp(command, "version") == 0 || strcmp(command, "--version") == 0) && argc == 2) {
        puts("busbar " BUSBAR_VERSION);
        return 0;
    }
    if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0 ||
        strcmp(command, "-h") == 0)
        return usage(stdout, 0);
    if (*command != '\0' && strcmp(command, "run") != 0 && strcmp(command, "check") != 0)
        fprintf(stderr, "busbar: unknown command or words too many: \"%s\"\n", command);
    return usage(stderr, EXIT_CONFIG);
}
