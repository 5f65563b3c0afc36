/* settings_kit.h - what the tests of the configuration share. */
#ifndef BUSBAR_TESTS_SETTINGS_KIT_H
#define BUSBAR_TESTS_SETTINGS_KIT_H

#include "bridge/base/buf.h"
#include "config/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What settings_print_problems prints; to be freed. */
static inline char *problems_of(const struct settings *settings)
{
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    settings_print_problems(settings, to);
    fclose(to);
    return text;
}

static inline struct settings *parse(const char *yaml)
{
    return settings_parse("b.yaml", yaml, strlen(yaml));
}

/* Expects exactly these problems, and frees. */
static inline void expect_of(struct settings *s, const char *problems)
{
    char *text = problems_of(s);
    assert_string_equal(text, problems);
    free(text);
    settings_free(&s);
}

static inline void expect(const char *yaml, const char *problems)
{
    expect_of(parse(yaml), problems);
}

/* The text at a key of the root. */
static inline const char *at(const struct settings *s, const char *key)
{
    return settings_text(settings_get(settings_root(s), key));
}

/* Parses, and expects that `x` has this value. */
static inline void expect_x(const char *yaml, const char *value)
{
    struct settings *s = parse(yaml);
    char *problems = problems_of(s);
    assert_string_equal(problems, "");
    assert_string_equal(at(s, "x"), value);
    free(problems);
    settings_free(&s);
}

/* A folder of a test's own: its name ends as mkdtemp wants it. */
static inline void write_file(const char *folder, const char *name, const char *text, size_t len)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    fclose(file);
}

/* Removes the files, then the folder. */
static inline int remove_files(const char *folder, const char *const *names)
{
    for (; *names != NULL; names++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", folder, *names);
        unlink(path);
    }
    return rmdir(folder);
}

#endif
