/* route.h - which events go where: filters and name templates. */
#ifndef BUSBAR_ROUTE_H
#define BUSBAR_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/buf.h"
#include "bridge/base/err.h"
#include "bridge/event.h"

/* ---- filters: immutable after they are built, then any thread ----
 *
 * A list that is empty lets all pass. `topics`: "*", "Topic", "Topic:*" or "Topic:key" (key = Key
 * or one of FilterKeys, may hold colons); `types` and `namespaces`: exact, or "*". All lists must
 * let an event pass. Busbar's own events (topic Busbar) always do: no gap is silent. */
struct filter;

struct filter *filter_new(void);
void filter_free(struct filter **filter);
void filter_add_topic(struct filter *filter, struct str pattern);
void filter_add_type(struct filter *filter, struct str type);
void filter_add_namespace(struct filter *filter, struct str ns);
bool filter_is_empty(const struct filter *filter); /* lets everything pass */
bool filter_match(const struct filter *filter, const struct event *event);

/* ---- templates: "%{source}.%{topic}" ----
 *
 * Variables: source topic type key namespace filter_key bucket (hash64 of the key modulo
 * `buckets`). */
struct template;

/* ERR_INPUT: an unknown variable or an unclosed brace, named. */
int template_new(struct template **out, const char *text, unsigned buckets, struct err *err);
void template_free(struct template **tpl);
/* Appends to `out`, which the caller cleared. */
void template_render(const struct template *tpl, struct str source, const struct event *event,
                     struct buf *out);
/* True where the text depends on nothing but source (and constants). */
bool template_is_constant(const struct template *tpl);

#endif
