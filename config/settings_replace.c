/* settings_replace.c - ${VAR}, ${VAR:-default}, ${file:PATH} and $$ in one value.
 *
 * It happens after the YAML is read, so what a variable holds can change a value but never the
 * structure. What was put in is not looked at again. As in a shell, `:-` also stands in for a
 * variable that is set but empty; a "$" before anything but "{" or "$" is itself. */
#include "config/settings_tree.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct replacement {
    struct settings *settings;
    struct settings_replaced *so_far;
    struct settings_node *node;
    struct buf out;
};

static const char file_prefix[] = "file:";

static bool is_variable(const char *name)
{
    if (!isalpha((unsigned char)name[0]) && name[0] != '_')
        return false;
    for (const char *c = name; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && *c != '_')
            return false;
    }
    return true;
}

/* By its name: a problem with such a variable in a wrong place does not print what it holds. */
static bool names_secret(const char *variable)
{
    static const char *const words[] = {"TOKEN", "SECRET", "PASS", "KEY", "CREDENTIAL", "AUTH"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasestr(variable, words[i]) != NULL)
            return true;
    }
    return false;
}

/* How long the UTF-8 character at `p` is; 0 where it is none (RFC 3629, section 4). */
static size_t character_length(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80)
        return p[0] != '\0';
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool outside = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
    return overlong || outside ? 0 : n;
}

static bool is_text(const char *p, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = character_length((const unsigned char *)p + i, len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

/* `what` names where it comes from. */
static bool put(struct replacement *r, const char *what, const char *p, size_t len)
{
    r->so_far->bytes += len;
    if (r->so_far->bytes > SETTINGS_REPLACED_MAX) {
        settings_problem(r->settings, r->node,
                         "${%s} is more than all replacements together may bring: expected at most "
                         "1 MiB",
                         what);
        return false;
    }
    if (!is_text(p, len)) {
        settings_problem(r->settings, r->node, "${%s} is not UTF-8 text: expected text", what);
        return false;
    }
    buf_append(&r->out, p, len);
    return true;
}

static bool put_file(struct replacement *r, const char *what)
{
    r->node->hidden = true;
    struct buf text = {0};
    const char *why = settings_read_file(what + strlen(file_prefix), SETTINGS_SECRET_MAX, &text);
    if (why != NULL)
        settings_problem(r->settings, r->node,
                         "${%s} cannot be read (%s): expected a readable file", what, why);
    while (text.len > 0 && (text.p[text.len - 1] == '\n' || text.p[text.len - 1] == '\r'))
        text.len--;
    bool fine = why == NULL && put(r, what, text.p, text.len);
    buf_fini(&text);
    return fine;
}

/* `name` without and `fallback` with what stands behind ":-", or NULL. */
static bool put_variable(struct replacement *r, const char *name, const char *fallback)
{
    if (!is_variable(name) || (fallback != NULL && strchr(fallback, '$') != NULL)) {
        settings_problem(r->settings, r->node,
                         "\"${...}\" that is no replacement: expected ${VAR}, ${VAR:-default} or "
                         "${file:PATH}, or $$ for a plain \"$\"");
        return false;
    }
    const char *value = getenv(name);
    if (fallback != NULL && (value == NULL || value[0] == '\0'))
        value = fallback;
    if (value == NULL) {
        settings_problem(r->settings, r->node,
                         "undefined variable ${%s}: expected it in the environment, or a default "
                         "as in ${%s:-default}",
                         name, name);
        return false;
    }
    r->node->hidden = r->node->hidden || names_secret(name);
    return put(r, name, value, strlen(value));
}

/* What stands between the braces. */
static bool put_reference(struct replacement *r, const char *p, size_t len)
{
    char *inside = mem_strndup(p, len);
    bool fine;
    if (strncmp(inside, file_prefix, strlen(file_prefix)) == 0) {
        fine = put_file(r, inside);
    } else {
        char *fallback = strstr(inside, ":-");
        if (fallback != NULL) {
            *fallback = '\0';
            fallback += 2;
        }
        fine = put_variable(r, inside, fallback);
    }
    free(inside);
    return fine;
}

/* From the "$" at `p`; returns what follows, NULL where it can't be replaced. */
static const char *put_dollar(struct replacement *r, const char *p)
{
    if (p[1] != '{') {
        buf_append_char(&r->out, '$');
        return p + (p[1] == '$' ? 2 : 1);
    }
    const char *end = strchr(p, '}');
    if (end == NULL) {
        settings_problem(r->settings, r->node,
                         "\"${\" without \"}\": expected ${VAR}, ${VAR:-default} or ${file:PATH}, "
                         "or $$ for a plain \"$\"");
        return NULL;
    }
    return put_reference(r, p + 2, (size_t)(end - p - 2)) ? end + 1 : NULL;
}

void settings_replace(struct settings *settings, struct settings_replaced *so_far,
                      struct settings_node *scalar)
{
    struct replacement r = {.settings = settings, .so_far = so_far, .node = scalar};
    const char *p = scalar->text;
    if (strchr(p, '$') == NULL)
        return;
    while (p != NULL && *p != '\0') {
        const char *dollar = strchrnul(p, '$');
        buf_append(&r.out, p, (size_t)(dollar - p));
        p = *dollar != '\0' ? put_dollar(&r, dollar) : dollar;
    }
    if (p != NULL) {
        scalar->written = scalar->text;
        scalar->text = settings_keep_text(settings, r.out.p, r.out.len);
    } else {
        scalar->broken = true;
    }
    buf_fini(&r.out);
}
