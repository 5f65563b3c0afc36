/* fuzz_settings.c - any bytes as a configuration, applied to a table of every type.
 *
 * Besides what the sanitizers find: success means no problems, every problem is one line that
 * starts with its place, and a struct that was filled holds only what its rows allow. */
#include "config/settings.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct all {
    const char *text;
    const char *secret;
    bool flag;
    int64_t number;
    uint64_t size;
    int64_t time_ms;
    int choice;
    struct setting_list list;
    struct setting_map map;
};

static const char *const colours[] = {"red", "green", "blue", NULL};

#define AT(field) offsetof(struct all, field)

static const struct setting rows[] = {
    {.name = "text", .type = SETTING_STRING, .offset = AT(text), .required = true},
    {.name = "secret", .type = SETTING_SECRET, .offset = AT(secret), .check = check_http_url},
    {.name = "flag", .type = SETTING_BOOL, .offset = AT(flag), .fallback = "true"},
    {.name = "number", .type = SETTING_INT, .offset = AT(number), .min = -5, .max = 65535},
    {.name = "size", .type = SETTING_SIZE, .offset = AT(size), .fallback = "4GiB", .min = 1024},
    {.name = "time", .type = SETTING_DURATION, .offset = AT(time_ms), .max = 86400000},
    {.name = "choice", .type = SETTING_CHOICE, .offset = AT(choice), .choices = colours},
    {.name = "list",
     .type = SETTING_LIST,
     .offset = AT(list),
     .fallback = "a,b",
     .check = check_host_port},
    {.name = "map", .type = SETTING_MAP, .offset = AT(map), .check = check_name},
    {.name = "section", .type = SETTING_CUSTOM},
    {.name = NULL},
};

static void require(bool fine)
{
    if (!fine)
        abort();
}

static void check_values(const struct all *all)
{
    require(all->text == NULL || all->text[0] != '\0');
    require(all->secret == NULL || check_http_url(all->secret) == NULL);
    require((int)all->flag <= 1);
    require(all->number >= -5 && all->number <= 65535);
    require(all->size >= 1024 && all->size <= INT64_MAX);
    require(all->time_ms >= 0 && all->time_ms <= 86400000);
    require(all->choice >= 0 && all->choice <= 2);
    for (size_t i = 0; i < all->list.n; i++)
        require(strlen(all->list.items[i]) < 4 * 1024 * 1024);
    for (size_t i = 0; i < all->map.n; i++)
        require(all->map.pairs[i].line > 0 && check_name(all->map.pairs[i].value) == NULL);
}

/* Each is one line; at the last one ends the text. */
static void check_problems(const struct settings *settings)
{
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    settings_print_problems(settings, to);
    fclose(to);
    size_t lines = 0;
    for (char *line = text; *line != '\0'; lines++) {
        require(strncmp(line, "fuzz.yaml:", 10) == 0);
        line = strchr(line, '\n');
        require(line != NULL);
        line++;
    }
    size_t problems = settings_problems(settings);
    require(lines == (problems > 1000 ? 1001 : problems));
    free(text);
}

static void apply(struct settings *settings, const struct settings_node *node)
{
    struct all all;
    size_t before = settings_problems(settings);
    int result = settings_apply(settings, node, "section", rows, NULL, &all);
    require(result == 0 || settings_problems(settings) > 0);
    require(result == -1 || settings_problems(settings) == before);
    check_values(&all);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    setenv("A", "one", 1);
    setenv("B", "5", 1);
    setenv("EMPTY", "", 1);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Devices and pipes would make it wait for ever. */
    if (memmem(data, size, "file:/", 6) != NULL)
        return 0;
    struct settings *settings = settings_parse("fuzz.yaml", (const char *)data, size);
    const struct settings_node *root = settings_root(settings);
    require(settings_is_mapping(root));
    apply(settings, root);
    const struct settings_node *section = settings_get(root, "section");
    apply(settings, section);
    for (size_t i = 0; i < settings_count(section); i++)
        apply(settings, settings_item(section, i));
    check_problems(settings);
    settings_free(&settings);
    return 0;
}
