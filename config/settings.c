/* settings.c - a loaded file: its tree, its memory and its problems. */
#include "config/settings.h"

#include "config/settings_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct kept {
    struct kept *next;
    max_align_t memory[];
};

struct problem {
    int line;
    char *text;
};

struct settings {
    char *name;
    struct kept *kept;
    const struct settings_node *root;
    bool unusable;            /* no tree could be read: what is missing in it is no news */
    struct problem *problems; /* by line, without doubles */
    size_t n_problems;
    size_t unkept_problems;
};

/* ---- memory ---- */

void *settings_keep(struct settings *settings, size_t size)
{
    struct kept *kept = mem_zalloc(sizeof *kept + size);
    kept->next = settings->kept;
    settings->kept = kept;
    return kept->memory;
}

const char *settings_keep_text(struct settings *settings, const char *p, size_t len)
{
    char *text = settings_keep(settings, len + 1);
    if (len > 0)
        memcpy(text, p, len);
    return text;
}

/* ---- loading ---- */

static const char *read_all(int fd, size_t max, struct buf *out)
{
    for (;;) {
        char *at = buf_reserve(out, 16384);
        ssize_t n = read(fd, at, 16384);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return strerror(errno);
        if (n == 0)
            return NULL;
        out->len += (size_t)n;
        if (out->len > max)
            return max >= SETTINGS_FILE_MAX ? "larger than 1 MiB" : "larger than 64 KiB";
    }
}

const char *settings_read_file(const char *path, size_t max, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return strerror(errno);
    const char *why = read_all(fd, max, out); /* of a folder: EISDIR */
    close(fd);
    return why;
}

static struct settings *new_settings(const char *name)
{
    struct settings *settings = mem_zalloc(sizeof *settings);
    settings->name = mem_strdup(name);
    struct settings_node *root = settings_keep(settings, sizeof *root);
    root->kind = SETTINGS_MAPPING;
    root->line = 1;
    root->broken = true;
    settings->root = root;
    settings->unusable = true;
    return settings;
}

static void parse(struct settings *settings, const char *text, size_t len)
{
    settings->unusable = false;
    const struct settings_node *root = settings_read_yaml(settings, text, len);
    if (root != NULL)
        settings->root = root;
    else
        settings->unusable = true;
}

struct settings *settings_load(const char *path)
{
    struct settings *settings = new_settings(path);
    struct buf text = {0};
    const char *why = settings_read_file(path, SETTINGS_FILE_MAX, &text);
    if (why == NULL) {
        parse(settings, text.p, text.len);
    } else {
        settings_problem_at(settings, 1, "cannot be read (%s): expected a readable YAML file", why);
    }
    buf_fini(&text);
    return settings;
}

struct settings *settings_parse(const char *name, const char *text, size_t len)
{
    struct settings *settings = new_settings(name);
    if (len <= SETTINGS_FILE_MAX)
        parse(settings, text, len);
    else
        settings_problem_at(settings, 1,
                            "cannot be read (larger than 1 MiB): expected a readable YAML file");
    return settings;
}

void settings_free(struct settings **settings)
{
    struct settings *s = *settings;
    if (s == NULL)
        return;
    while (s->kept != NULL) {
        struct kept *next = s->kept->next;
        free(s->kept);
        s->kept = next;
    }
    for (size_t i = 0; i < s->n_problems; i++)
        free(s->problems[i].text);
    free(s->problems);
    free(s->name);
    free(s);
    *settings = NULL;
}

/* ---- the tree ---- */

const struct settings_node *settings_root(const struct settings *settings)
{
    return settings->root;
}

const struct settings_node *settings_get(const struct settings_node *mapping, const char *key)
{
    if (!settings_is_mapping(mapping))
        return NULL;
    for (size_t i = 0; i < mapping->n; i++) {
        if (strcmp(mapping->entries[i].key, key) == 0)
            return mapping->entries[i].value;
    }
    return NULL;
}

size_t settings_count(const struct settings_node *sequence)
{
    return settings_is_sequence(sequence) ? sequence->n : 0;
}

const struct settings_node *settings_item(const struct settings_node *sequence, size_t i)
{
    return i < settings_count(sequence) ? sequence->items[i] : NULL;
}

bool settings_is_mapping(const struct settings_node *node)
{
    return node != NULL && node->kind == SETTINGS_MAPPING;
}

bool settings_is_sequence(const struct settings_node *node)
{
    return node != NULL && node->kind == SETTINGS_SEQUENCE;
}

const char *settings_text(const struct settings_node *node)
{
    return node != NULL && node->kind == SETTINGS_SCALAR && !node->null ? node->text : NULL;
}

int settings_line(const struct settings_node *node)
{
    return node != NULL ? node->line : 1;
}

/* ---- problems ---- */

/* Ends a text that was cut at `len` before the character that it cut in two. */
static void end_before_half_character(char *text, size_t len)
{
    size_t start = len;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
        start--;
    if (start > 0 && (unsigned char)text[start - 1] >= 0xc0)
        start--;
    else
        start = len;
    text[start] = '\0';
}

/* A problem is one line, whatever it quotes. */
static void make_one_line(char *text)
{
    for (char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    }
}

static bool has_problem(const struct settings *settings, int line, const char *text)
{
    for (size_t i = 0; i < settings->n_problems; i++) {
        const struct problem *p = &settings->problems[i];
        if (p->line == line && strcmp(p->text, text) == 0)
            return true;
    }
    return false;
}

static void insert_problem(struct settings *settings, int line, const char *text)
{
    size_t n = settings->n_problems, at = n;
    settings->problems = mem_realloc(settings->problems, (n + 1) * sizeof *settings->problems);
    while (at > 0 && settings->problems[at - 1].line > line)
        at--;
    struct problem *place = &settings->problems[at];
    memmove(place + 1, place, (n - at) * sizeof *place);
    *place = (struct problem){.line = line, .text = mem_strdup(text)};
    settings->n_problems++;
}

static void add_problem(struct settings *settings, int line, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

static void add_problem(struct settings *settings, int line, const char *fmt, va_list ap)
{
    char text[SETTINGS_PROBLEM_TEXT_MAX];
    int len = vsnprintf(text, sizeof text, fmt, ap);
    if (len < 0)
        text[0] = '\0';
    else if ((size_t)len >= sizeof text)
        end_before_half_character(text, sizeof text - 1);
    make_one_line(text);
    if (has_problem(settings, line, text))
        return;
    if (settings->n_problems < SETTINGS_PROBLEMS_MAX)
        insert_problem(settings, line, text);
    else
        settings->unkept_problems++;
}

void settings_problem_at(struct settings *settings, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add_problem(settings, line, fmt, ap);
    va_end(ap);
}

void settings_problem(struct settings *settings, const struct settings_node *node, const char *fmt,
                      ...)
{
    if (settings->unusable || (node != NULL && node->broken))
        return;
    va_list ap;
    va_start(ap, fmt);
    add_problem(settings, settings_line(node), fmt, ap);
    va_end(ap);
}

size_t settings_problems(const struct settings *settings)
{
    return settings->n_problems + settings->unkept_problems;
}

void settings_print_problems(const struct settings *settings, FILE *to)
{
    int line = 1;
    for (size_t i = 0; i < settings->n_problems; i++) {
        line = settings->problems[i].line;
        fprintf(to, "%s:%d: %s\n", settings->name, line, settings->problems[i].text);
    }
    if (settings->unkept_problems > 0)
        fprintf(to, "%s:%d: %zu more mistakes: expected none\n", settings->name, line,
                settings->unkept_problems);
}

/* ---- quoting ---- */

enum { SHOWN_MAX = 80 };

/* Passwords stand before the last "@" of a URL; a wrong URL is no reason to show them. */
static const char *find_credentials(const char *text, size_t *head)
{
    const char *at = strrchr(text, '@');
    if (at == NULL)
        return NULL;
    const char *scheme = strstr(text, "://");
    bool is_url = scheme != NULL && scheme < at;
    const char *start = is_url ? scheme + 3 : text;
    if (!is_url && memchr(start, ':', (size_t)(at - start)) == NULL)
        return NULL;
    *head = (size_t)(start - text);
    return at;
}

void settings_quote_text(const char *text, char out[SETTINGS_QUOTE_TEXT_MAX])
{
    char shown[SHOWN_MAX + 1];
    size_t head = 0;
    const char *at = find_credentials(text, &head);
    int len = at != NULL ? snprintf(shown, sizeof shown, "%.*s***%s", (int)head, text, at)
                         : snprintf(shown, sizeof shown, "%s", text);
    bool cut = len < 0 || (size_t)len >= sizeof shown;
    if (cut)
        end_before_half_character(shown, sizeof shown - 1);
    snprintf(out, SETTINGS_QUOTE_TEXT_MAX, cut ? "\"%s...\"" : "\"%s\"", shown);
}

void settings_quote(const struct settings_node *node, char out[SETTINGS_QUOTE_MAX])
{
    char text[SETTINGS_QUOTE_TEXT_MAX];
    settings_quote_text(node->text, text);
    if (node->written == NULL) {
        snprintf(out, SETTINGS_QUOTE_MAX, "%s", text);
        return;
    }
    char written[SETTINGS_QUOTE_TEXT_MAX];
    settings_quote_text(node->written, written);
    if (node->hidden) {
        snprintf(out, SETTINGS_QUOTE_MAX, "the value of %s", written);
        return;
    }
    snprintf(out, SETTINGS_QUOTE_MAX, "%s (from %s)", text, written);
}
