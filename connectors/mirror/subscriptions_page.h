/* subscriptions_page.h - /v2/eventSubscriptions, as Marathon answered it up to 1.4 (its
 * EventSubscriptionsResource and SubscribersKeeperActor):
 *
 *     GET                       {"callbackUrls":[URL,…]}
 *     POST ?callbackUrl=URL     the subscribe_event that all callbacks are told, the new one too
 *     DELETE ?callbackUrl=URL   the unsubscribe_event, also where there is no such callback
 *
 * Whoever may ask can have the events sent anywhere that this machine reaches, and so can a page in
 * a browser of somebody who may: POST and DELETE of pages (those with an Origin) are refused. */
#ifndef BUSBAR_MIRROR_SUBSCRIPTIONS_PAGE_H
#define BUSBAR_MIRROR_SUBSCRIPTIONS_PAGE_H

#include "connectors/mirror/routes.h"

routes_page subscriptions_page;

#endif
