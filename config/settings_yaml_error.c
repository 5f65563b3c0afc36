/* settings_yaml_error.c - libyaml's complaints, told so that one sees what to change.
 *
 * What stands in the file is not quoted beyond one character: it may be a secret. */
#include "config/settings_yaml_error.h"

#include "config/settings_tree.h"

#include <string.h>

enum where {
    AT_PROBLEM, /* where libyaml noticed */
    AT_CONTEXT, /* where the thing began that it was reading */
};

struct hint {
    const char *problem; /* libyaml's words */
    const char *context; /* NULL: any */
    enum where where;
    const char *say;
};

static const struct hint hints[] = {
    {"mapping values are not allowed in this context", NULL, AT_PROBLEM,
     "\": \" where no key can stand: expected \"key: value\" with the indentation of its "
     "neighbours, or quotes around a text with \": \""},
    {"did not find expected alphabetic or numeric character", "while scanning an alias", AT_CONTEXT,
     "\"*\" without quotes: expected quotes around a text that starts with \"*\""},
    {"did not find expected alphabetic or numeric character", "while scanning an anchor",
     AT_CONTEXT, "\"&\" without quotes: expected quotes around a text that starts with \"&\""},
    {"could not find expected ':'", NULL, AT_CONTEXT,
     "a line without \":\": expected \"key: value\""},
    {"found unexpected end of stream", "while scanning a quoted scalar", AT_CONTEXT,
     "a quote that is not closed: expected its end"},
    {"found a tab character that violates indentation", NULL, AT_PROBLEM,
     "a tab as indentation: expected spaces"},
    {"found a tab character where an indentation space is expected", NULL, AT_PROBLEM,
     "a tab as indentation: expected spaces"},
    {"did not find expected key", NULL, AT_PROBLEM,
     "no key where the next one should be: expected \"key: value\" with the indentation of its "
     "neighbours"},
    {"did not find expected '-' indicator", NULL, AT_PROBLEM,
     "no \"- \" where the next item should be: expected \"- value\" with the indentation of its "
     "neighbours"},
    {"did not find expected ',' or '}'", NULL, AT_PROBLEM,
     "no \",\" or \"}\" where one should be: expected the end of the \"{\", or quotes around a "
     "text with brackets"},
    {"did not find expected ',' or ']'", NULL, AT_PROBLEM,
     "no \",\" or \"]\" where one should be: expected the end of the \"[\", or quotes around a "
     "text with brackets"},
    {"block sequence entries are not allowed in this context", NULL, AT_PROBLEM,
     "\"- \" behind a key: expected it in a line of its own, or quotes around the text"},
};

static bool is(const char *a, const char *b)
{
    return a != NULL && strcmp(a, b) == 0;
}

static const struct hint *find_hint(const yaml_parser_t *parser)
{
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        if (is(parser->problem, hints[i].problem) &&
            (hints[i].context == NULL || is(parser->context, hints[i].context)))
            return &hints[i];
    }
    return NULL;
}

/* libyaml counts characters; the text is UTF-8 up to where it came. */
static char char_at(const char *text, size_t len, size_t index)
{
    size_t i = 0;
    for (; i < len; i++) {
        bool starts = ((unsigned char)text[i] & 0xc0) != 0x80;
        if (starts && index-- == 0)
            break;
    }
    if (i == len)
        return '\0';
    return text[i];
}

static int line_of_byte(const char *text, size_t len, size_t offset)
{
    int line = 1;
    for (size_t i = 0; i < offset && i < len; i++) {
        bool ends = text[i] == '\n' || (text[i] == '\r' && (i + 1 == len || text[i + 1] != '\n'));
        line += ends;
    }
    return line;
}

static void tell_start(struct settings *settings, const yaml_parser_t *parser, char c)
{
    int line = (int)parser->problem_mark.line + 1;
    if (c == '\t')
        settings_problem_at(settings, line, "a tab as indentation: expected spaces");
    else
        settings_problem_at(settings, line,
                            "\"%c\" without quotes: expected quotes around a text that starts "
                            "with \"%c\"",
                            c, c);
}

static void tell_bytes(struct settings *settings, const yaml_parser_t *parser, const char *text,
                       size_t len)
{
    settings_problem_at(settings, line_of_byte(text, len, parser->problem_offset),
                        "0x%02x (%s): expected UTF-8 text",
                        parser->problem_value < 0 ? 0U : (unsigned)parser->problem_value,
                        parser->problem);
}

static void tell_other(struct settings *settings, const yaml_parser_t *parser)
{
    int line = (int)parser->problem_mark.line + 1;
    if (parser->context != NULL)
        settings_problem_at(settings, line, "%s %s in line %zu: expected well-formed YAML",
                            parser->problem, parser->context, parser->context_mark.line + 1);
    else
        settings_problem_at(settings, line, "%s: expected well-formed YAML",
                            parser->problem != NULL ? parser->problem : "unreadable");
}

void settings_yaml_error(struct settings *settings, const yaml_parser_t *parser, const char *text,
                         size_t len)
{
    const struct hint *hint = find_hint(parser);
    if (parser->error == YAML_READER_ERROR) {
        tell_bytes(settings, parser, text, len);
    } else if (is(parser->problem, "found character that cannot start any token")) {
        tell_start(settings, parser, char_at(text, len, parser->problem_mark.index));
    } else if (hint != NULL) {
        const yaml_mark_t *mark =
            hint->where == AT_CONTEXT ? &parser->context_mark : &parser->problem_mark;
        settings_problem_at(settings, (int)mark->line + 1, "%s", hint->say);
    } else {
        tell_other(settings, parser);
    }
}
