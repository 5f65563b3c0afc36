/* test_http_access.c - what `check` says of the settings that every guarded server has, for a
 * source of another kind than Nomad. How a server is reached by them: test_nomad_request.c. */
#include "connectors/http_access.h"

#include "connectors/http_token.h"
#include "tests/unit/settings_kit.h"

struct source {
    struct http_access_settings access;
    struct setting_list servers;
    const char *token_file;
};

static const struct setting rows[] = {
    {.name = "servers",
     .type = SETTING_LIST,
     .offset = offsetof(struct source, servers),
     .required = true,
     .check = http_access_expected_server,
     .help = "s"},
    {.name = "token_file",
     .type = SETTING_STRING,
     .offset = offsetof(struct source, token_file),
     .check = http_token_expected_file,
     .help = "t"},
    {.name = NULL, .rest = http_access_rows},
};

/* Reads `yaml` as a source's section, and expects exactly these problems. */
static void expect_with(const char *const *reserved, const char *yaml, const char *problems)
{
    struct settings *file = parse(yaml);
    struct source source = {0};
    settings_apply(file, settings_root(file), "source x", rows, NULL, &source);
    http_access_check(file, settings_root(file), &source.access, &source.servers, reserved);
    expect_of(file, problems);
}

static void fills_the_settings_that_stand_first(void **state)
{
    (void)state;
    struct settings *file = parse("servers: https://a:1\ntls_server_name: n\nusername: u\n"
                                  "password: p\nproxy: none\nheaders: {X-A: b}\n");
    struct source source = {0};
    assert_int_equal(settings_apply(file, settings_root(file), "x", rows, NULL, &source), 0);
    assert_string_equal(source.servers.items[0], "https://a:1");
    assert_string_equal(source.access.tls_server_name, "n");
    assert_string_equal(source.access.username, "u");
    assert_string_equal(source.access.password, "p");
    assert_string_equal(source.access.proxy, "none");
    assert_string_equal(source.access.headers.pairs[0].value, "b");
    expect_of(file, "");
}

static void takes_addresses_and_sockets(void **state)
{
    (void)state;
    char path[128] = "unix:///";
    memset(path + 8, 'p', sizeof path - 9);
    static const char *const fine[] = {"http://a", "https://a:8443/", "unix:///run/m.sock"};
    const char *const odd[] = {
        "a:8080", "ftp://a", "http://u@a:1", "http://a:1/v2", "unix://run/m.sock", "unix://", path};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
        assert_null(http_access_expected_server(fine[i]));
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        assert_non_null(http_access_expected_server(odd[i]));
}

static void knows_which_headers_have_a_place_of_their_own(void **state)
{
    (void)state;
    static const char *const reserved[] = {"Accept", "X-Nomad-Token: token or token_file", NULL};
    expect_with(reserved,
                "servers: http://a:1\n"
                "headers:\n"
                "  ACCEPT: x\n"
                "  x-nomad-token: x\n"
                "  Host: x\n"
                "  Acc: x\n"
                "  Accept-Language: x\n"
                "  X-Nomad: x\n"
                "  Authorization: x\n",
                "b.yaml:3: header ACCEPT: expected none: it is set already\n"
                "b.yaml:4: header x-nomad-token: expected token or token_file\n"
                "b.yaml:5: header Host: expected another address in servers\n");
}

static void wants_one_way_to_authorize(void **state)
{
    (void)state;
    expect_with(
        NULL, "servers: http://a:1\nusername: u\nheaders: {authorization: x}\n",
        "b.yaml:3: header authorization: expected it, or username and password, not both\n");
    expect_with(NULL, "servers: http://a:1\npassword: p\n",
                "b.yaml:2: password without username: expected both, or neither\n");
}

static void wants_headers_that_are_headers(void **state)
{
    (void)state;
    expect_with(NULL, "servers: http://a:1\nheaders:\n  \"X A\": x\n  X-B: x\n  x-b: y\n",
                "b.yaml:3: no name for a header: expected letters, digits and \"-\"\n"
                "b.yaml:5: header x-b a second time: expected it once\n");
}

static void wants_https_for_what_tls_is_about(void **state)
{
    (void)state;
    static const char name[] = "tls_server_name: n\n";
    char yaml[128];
    snprintf(yaml, sizeof yaml, "servers: [http://a:1, https://b:1]\n%s", name);
    expect_with(NULL, yaml, "");
    snprintf(yaml, sizeof yaml, "servers: [http://a:1, unix:///x]\n%s", name);
    expect_with(NULL, yaml,
                "b.yaml:2: tls_server_name, and no https:// in servers: expected "
                "https://HOST:PORT there\n");
}

static void wants_a_file_with_one_token(void **state)
{
    (void)state;
    char folder[] = P_tmpdir "/busbar-access-XXXXXX", path[64];
    static const char *const bad[] = {"", "\n", "two words\n", "two\nlines\n"};
    static const char *const names[] = {"t", NULL};
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/t", folder);
    assert_null(http_token_expected_file(""));
    assert_non_null(http_token_expected_file(path));
    write_file(folder, "t", "s3cret\n", 7);
    assert_null(http_token_expected_file(path));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(folder, "t", bad[i], strlen(bad[i]));
        assert_non_null(http_token_expected_file(path));
    }
    assert_int_equal(remove_files(folder, names), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_the_settings_that_stand_first),
        cmocka_unit_test(takes_addresses_and_sockets),
        cmocka_unit_test(knows_which_headers_have_a_place_of_their_own),
        cmocka_unit_test(wants_one_way_to_authorize),
        cmocka_unit_test(wants_headers_that_are_headers),
        cmocka_unit_test(wants_https_for_what_tls_is_about),
        cmocka_unit_test(wants_a_file_with_one_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
