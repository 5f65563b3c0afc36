/* nomad_access.c - the settings by which a guarded region is reached: those of every server that
 * speaks HTTP, and Nomad's token. */
#include "connectors/nomad/nomad_access.h"

#include "connectors/http_token.h"

static bool is_set(const char *value)
{
    return value != NULL && value[0] != '\0';
}

_Static_assert(offsetof(struct nomad_settings, access) == 0, "http_access_rows count from there");

#define AT(field) offsetof(struct nomad_settings, field)
const struct setting nomad_access_rows[] = {
    {.name = "token",
     .type = SETTING_SECRET,
     .offset = AT(token),
     .check = http_token_expected,
     .help = "ACL token; reading all topics needs a management token"},
    {.name = "token_file",
     .type = SETTING_STRING,
     .offset = AT(token_file),
     .check = http_token_expected_file,
     .help = "File with the ACL token, instead of `token`; read anew for each request, so that it "
             "may change"},
    {.name = NULL, .rest = http_access_rows},
};

void nomad_access_check(struct settings *file, const struct settings_node *node,
                        const struct nomad_settings *set)
{
    static const char *const reserved[] = {"X-Nomad-Token: token or token_file", NULL};
    if (is_set(set->token) && is_set(set->token_file))
        settings_problem(file, settings_get(node, "token_file"),
                         "token and token_file: expected one of them");
    http_access_check(file, node, &set->access, &set->servers, reserved);
}

bool nomad_access_has_token(const struct nomad_settings *set)
{
    return is_set(set->token) || is_set(set->token_file);
}
