/* settings_yaml_error.h - libyaml's complaints, told so that one sees what to change. */
#ifndef BUSBAR_SETTINGS_YAML_ERROR_H
#define BUSBAR_SETTINGS_YAML_ERROR_H

#include "config/settings.h"

#include <yaml.h>

/* Adds the one problem for which yaml_parser_parse failed. `text` is what the parser was given. */
void settings_yaml_error(struct settings *settings, const yaml_parser_t *parser, const char *text,
                         size_t len);

#endif
