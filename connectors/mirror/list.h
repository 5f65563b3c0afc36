/* list.h - those who wait for something, or were used lately: an item lies in its owner, in one
 * list at most. */
#ifndef BUSBAR_MIRROR_LIST_H
#define BUSBAR_MIRROR_LIST_H

#include <stdbool.h>

struct list_item {
    void *owner; /* NULL: in no list */
    struct list_item *next, *previous;
};

/* All zero: empty. */
struct list {
    struct list_item *first, *last;
};

/* At the end. */
void list_add(struct list *list, struct list_item *item, void *owner);
/* In no list: fine. */
void list_remove(struct list *list, struct list_item *item);
void *list_first(const struct list *list); /* NULL: it is empty */

#endif
