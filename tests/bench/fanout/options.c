/* options.c - one row per option. */
#include "tests/bench/fanout/options.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type { NUMBER, REAL, TEXT, FLAG };

struct row {
    const char *name;
    enum type type;
    void *to;
    const char *help;
};

static const char USAGE[] = "usage: clients [OPTION...] http://127.0.0.1:PORT/PATH\n"
                            "\n"
                            "So many readers of a stream in one process. Prints a line of JSON "
                            "when all are attached, when\n"
                            "the window begins and ends, and one with all that was seen.\n\n";

static void usage(const struct row *rows)
{
    fputs(USAGE, stderr);
    for (const struct row *row = rows; row->name != NULL; row++)
        fprintf(stderr, "  %-18s %s\n", row->name, row->help);
    exit(2);
}

static void read_url(struct options *options, const char *url, const struct row *rows)
{
    options->plan.tls = strncmp(url, "https://", 8) == 0;
    const char *host = strstr(url, "://");
    const char *path = host != NULL ? strchr(host + 3, '/') : NULL;
    const char *colon = host != NULL ? strchr(host + 3, ':') : NULL;
    if (path == NULL || colon == NULL || colon > path)
        usage(rows);
    options->plan.path = path;
    char *name = mem_strndup(host + 3, (size_t)(path - host - 3));
    options->plan.host = name;
    options->plan.server.sin_family = AF_INET;
    options->plan.server.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    char *address = mem_strndup(name, (size_t)(colon - host - 3));
    if (inet_pton(AF_INET, address, &options->plan.server.sin_addr) != 1)
        usage(rows);
    free(address);
}

static bool read_value(const struct row *row, const char *value)
{
    char *end = NULL;
    if (value == NULL)
        return false;
    if (row->type == NUMBER)
        *(long *)row->to = strtol(value, &end, 10);
    else if (row->type == REAL)
        *(double *)row->to = strtod(value, &end);
    else
        *(const char **)row->to = value;
    return row->type == TEXT || (end != NULL && end != value && *end == '\0');
}

static const char *read_words(const struct row *rows, int argc, char **argv)
{
    const char *url = NULL;
    for (int i = 1; i < argc; i++) {
        const struct row *row = rows;
        while (row->name != NULL && strcmp(row->name, argv[i]) != 0)
            row++;
        if (row->name == NULL && argv[i][0] != '-' && url == NULL) {
            url = argv[i];
        } else if (row->name != NULL && row->type == FLAG) {
            *(bool *)row->to = true;
        } else if (row->name == NULL || !read_value(row, i + 1 < argc ? argv[++i] : NULL)) {
            fprintf(stderr, "clients: %s\n", argv[i < argc ? i : argc - 1]);
            usage(rows);
        }
    }
    if (url == NULL)
        usage(rows);
    return url;
}

static void set_defaults(struct options *options)
{
    *options = (struct options){
        .clients = 100,
        .groups = 1,
        .seconds = 5,
        .warm = 1,
        .patience = 60,
        .reconnect_ms = -1,
    };
}

void options_read(struct options *options, int argc, char **argv)
{
    long addresses = 8;
    long receive_buffer = 0;
    long until_number = 0;
    bool anything = false;
    double late = 1;
    set_defaults(options);
    const struct row rows[] = {
        {"--clients", NUMBER, &options->clients, "how many (100)"},
        {"--seconds", REAL, &options->seconds, "the window (5); 0: until SIGTERM or --until"},
        {"--warm", REAL, &options->warm, "from the last attachment to the window (1)"},
        {"--connect-rate", REAL, &options->connect_rate, "connections/s; 0: all at once (0)"},
        {"--patience", REAL, &options->patience, "to attach, and to reach --until (60)"},
        {"--addresses", NUMBER, &addresses, "source addresses, from 127.0.0.1 on (8)"},
        {"--receive-buffer", NUMBER, &receive_buffer, "SO_RCVBUF; 0: the kernel's (0)"},
        {"--last-event-id", TEXT, &options->ids_from, "a file of --write-ids, spread over all"},
        {"--write-ids", TEXT, &options->ids_to, "a file for the ids that come: `ID NUMBER`"},
        {"--query", TEXT, &options->plan.query, "of the URL; %u becomes the client's group"},
        {"--filters", NUMBER, &options->groups, "so many groups (1)"},
        {"--any-number", FLAG, &anything, "numbers may skip: the stream is filtered"},
        {"--header", TEXT, &options->plan.header, "one more, as `Name: value`"},
        {"--until", NUMBER, &until_number, "end once all readers have this number"},
        {"--until-caught", FLAG, &options->until_caught, "end once all readers have caught up"},
        {"--late", REAL, &late, "seconds from which on an event is not live (1)"},
        {"--slow", NUMBER, &options->slow, "so many read some 25 KB/s"},
        {"--stopped", NUMBER, &options->stopped, "so many stop reading"},
        {"--stop-after", REAL, &options->stop_after, "seconds after the last attachment (0)"},
        {"--resume-after", REAL, &options->resume_after, "seconds after that; 0: never (0)"},
        {"--closed", NUMBER, &options->closed, "so many never read"},
        {"--reconnect", NUMBER, &options->reconnect_ms, "come back after so many ms (nobody does)"},
        {"--ca", TEXT, &options->ca, "for https: what the server must be signed by"},
        {0},
    };
    read_url(options, read_words(rows, argc, argv), rows);
    options->plan.addresses = (unsigned)addresses;
    options->plan.receive_buffer = (int)receive_buffer;
    options->plan.consecutive = !anything;
    options->plan.late_us = (int64_t)(late * 1e6);
    options->plan.keeps_ids = options->reconnect_ms >= 0 || options->ids_to != NULL;
    options->until_number = (uint64_t)until_number;
}
