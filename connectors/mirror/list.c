/* list.c - those who wait for something, or were used lately. */
#include "connectors/mirror/list.h"

#include <stddef.h>

void list_add(struct list *list, struct list_item *item, void *owner)
{
    *item = (struct list_item){.owner = owner, .previous = list->last};
    if (list->last != NULL)
        list->last->next = item;
    else
        list->first = item;
    list->last = item;
}

void list_remove(struct list *list, struct list_item *item)
{
    if (item->owner == NULL)
        return;
    if (item->next != NULL)
        item->next->previous = item->previous;
    else
        list->last = item->previous;
    if (item->previous != NULL)
        item->previous->next = item->next;
    else
        list->first = item->next;
    *item = (struct list_item){0};
}

void *list_first(const struct list *list)
{
    return list->first != NULL ? list->first->owner : NULL;
}
