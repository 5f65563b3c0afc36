/* registry.h - every connector and sink there is. A new one is one folder and one row in
 * registry.c. */
#ifndef BUSBAR_REGISTRY_H
#define BUSBAR_REGISTRY_H

#include "bridge/setup.h"

extern const struct registry registry;

#endif
