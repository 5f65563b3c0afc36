/* nomad_query.c - what a GET /v1/event/stream asks for, read as Nomad 1.5.0 reads it. */
#include "connectors/mirror/nomad_query.h"

#include <stdlib.h>
#include <string.h>

enum { STATUS_BAD = 400, TEXT_MAX = 256 /* of what a refusal repeats of the request */ };

/* The query as it is being read. `has` tells the first of its name from later ones. */
struct reading {
    struct nomad_query *query;
    struct http_answer *answer;
    struct str ns; /* empty: none was named */
    struct {
        bool index, ns, region, stale;
    } has;
    struct str index; /* lives as long as the request */
    struct str stale;
    struct str bad_topic; /* the first that can't be read; p NULL: none */
};

void nomad_query_refuse(struct http_answer *answer, unsigned status, const char *text)
{
    answer->status = status;
    answer->content_type = "application/json";
    http_answer_header(answer, "Cache-Control", "no-cache");
    buf_append_cstr(&answer->body, text);
}

/* A refusal from before Nomad has set its headers. */
static unsigned refuse_early(struct http_answer *answer, const char *what, struct str of,
                             const char *why)
{
    if (of.len > TEXT_MAX)
        of.len = TEXT_MAX;
    answer->status = STATUS_BAD;
    answer->content_type = "text/plain; charset=utf-8";
    buf_append_cstr(&answer->body, what);
    if (why != NULL) {
        buf_append_json(&answer->body, of); /* Go's %q, for whatever can be printed */
        buf_append_cstr(&answer->body, why);
    } else {
        buf_append_str(&answer->body, of);
    }
    return STATUS_BAD;
}

static unsigned refuse(struct http_answer *answer, const char *text)
{
    nomad_query_refuse(answer, STATUS_BAD, text);
    return STATUS_BAD;
}

/* ---- parameters ---- */

static void add_topic(struct reading *r, struct str topic)
{
    size_t colons = 0;
    for (size_t i = 0; i < topic.len; i++)
        colons += topic.p[i] == ':';
    if (colons > 1 && r->bad_topic.p == NULL)
        r->bad_topic = topic;
    filter_add_topic(r->query->wanted.filter, topic);
    wanted_note(&r->query->wanted, 'o', topic);
}

/* True for the first of its name that says something: Nomad's defaults stand for empty ones. */
static bool is_given(bool *has, struct str value)
{
    bool first = !*has;
    *has = true;
    return first && value.len > 0;
}

static bool on_parameter(void *arg, struct str name, struct str value)
{
    struct reading *r = arg;
    struct nomad_query *query = r->query;
    if (str_is(name, "topic"))
        add_topic(r, value);
    else if (str_is(name, "index") && is_given(&r->has.index, value))
        r->index = value;
    else if (str_is(name, "stale") && is_given(&r->has.stale, value))
        r->stale = value;
    else if (str_is(name, "namespace") && is_given(&r->has.ns, value))
        r->ns = value;
    else if (str_is(name, "region") && is_given(&r->has.region, value))
        query->region = mem_strndup(value.p, value.len);
    return true;
}

/* ---- the index ---- */

/* The number as Go's strconv.Atoi takes it; the reason where it does not. */
static const char *parse_index(struct str text, bool *is_signed, uint64_t *index)
{
    size_t at = text.len > 0 && (text.p[0] == '+' || text.p[0] == '-') ? 1 : 0;
    uint64_t max = INT64_MAX;
    bool negative = at == 1 && text.p[0] == '-', over = false;
    *is_signed = at == 1;
    *index = 0;
    if (at == text.len && text.len > 0)
        return ": invalid syntax";
    for (; at < text.len; at++) {
        unsigned digit = (unsigned)((unsigned char)text.p[at] - '0');
        if (digit > 9)
            return ": invalid syntax";
        over = over || *index > (max + negative - digit) / 10;
        *index = over ? 0 : *index * 10 + digit;
    }
    return over ? ": value out of range" : NULL;
}

/* strconv.ParseBool */
static bool is_boolean(struct str text)
{
    static const char *const words[] = {"1", "t", "T", "TRUE",  "true",  "True",
                                        "0", "f", "F", "FALSE", "false", "False"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (str_is(text, words[i]))
            return true;
    return text.len == 0;
}

static unsigned refuse_stale(struct http_answer *answer, struct str stale)
{
    struct buf text = {0};
    int len = stale.len < TEXT_MAX ? (int)stale.len : TEXT_MAX;
    buf_printf(&text, "Expect `true` or `false` for `stale` query string parameter, got %.*s", len,
               stale.p);
    refuse(answer, buf_cstr(&text));
    buf_fini(&text);
    return STATUS_BAD;
}

/* In Nomad's own order: what is wrong first is what is told. */
static unsigned check(struct reading *r)
{
    bool is_signed;
    const char *why = parse_index(r->index, &is_signed, &r->query->index);
    if (why != NULL)
        return refuse_early(r->answer, "Unable to parse index: strconv.Atoi: parsing ", r->index,
                            why);
    if (r->bad_topic.p != NULL)
        return refuse_early(r->answer,
                            "Invalid topic query: error parsing topics: "
                            "Invalid key value pair for topic, topic: ",
                            r->bad_topic, NULL);
    if (!is_boolean(r->stale))
        return refuse_stale(r->answer, r->stale);
    if (is_signed) /* read a second time, as an unsigned one */
        return refuse(r->answer, "Invalid index");
    return 0;
}

/* What is of no namespace has an empty one. */
static void add_namespace(struct wanted *wanted, struct str ns)
{
    if (str_is(ns, "*"))
        return;
    if (ns.len == 0)
        ns = STR("default");
    filter_add_namespace(wanted->filter, ns);
    filter_add_namespace(wanted->filter, STR(""));
    wanted_note(wanted, 'a', ns);
}

unsigned nomad_query_read(struct nomad_query *query, const struct http_request *request,
                          struct http_answer *answer)
{
    *query = (struct nomad_query){.wanted.filter = filter_new()};
    struct reading r = {.query = query, .answer = answer};
    http_request_query(request, on_parameter, &r);
    add_namespace(&query->wanted, r.ns);
    unsigned status = check(&r);
    if (status != 0)
        nomad_query_fini(query);
    return status;
}

void nomad_query_fini(struct nomad_query *query)
{
    wanted_fini(&query->wanted);
    free(query->region);
    *query = (struct nomad_query){0};
}
