/* test_nomad_request.c - what a Nomad server is shown, and a token that is kept in a file. */
#include "connectors/nomad/nomad_request.h"

#include "bridge/base/clock.h"
#include "connectors/http_token.h"
#include "connectors/nomad/nomad_access.h"
#include "connectors/nomad/nomad_settings.h"
#include "tests/unit/settings_kit.h"
#include "tests/unit/stopwatch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fixture {
    char path[64];
    struct nomad_settings settings;
    struct nomad_request request;
    struct stop *stop;
};

static int set_up(void **state)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    snprintf(f->path, sizeof f->path, "%s", P_tmpdir "/busbar-token-XXXXXX");
    int fd = mkstemp(f->path);
    if (fd < 0)
        return -1;
    close(fd);
    f->settings.ns = "*";
    f->stop = stop_new();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    http_token_free(&f->settings.file_token);
    stop_free(&f->stop);
    unlink(f->path);
    free(f);
    return 0;
}

static void write_token(const struct fixture *f, const char *text)
{
    FILE *file = fopen(f->path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void init(struct fixture *f, const char *server)
{
    nomad_request_init(&f->request, &f->settings, server, "/v1/jobs", NULL);
}

/* The first header of a new request, "" where there is none. */
static void assert_token(struct fixture *f, const char *expected)
{
    init(f, "http://a:1");
    const char *const *headers = f->request.http.headers;
    assert_string_equal(headers != NULL ? headers[0] : "", expected);
    nomad_request_fini(&f->request);
}

static void shows_a_literal_token(void **state)
{
    struct fixture *f = *state;
    assert_token(f, "");
    f->settings.token = "";
    assert_token(f, "");
    f->settings.token = "s3cret";
    assert_token(f, "X-Nomad-Token: s3cret");
}

static void reads_a_file_anew_for_each_request(void **state)
{
    struct fixture *f = *state;
    f->settings.token_file = f->path;
    f->settings.file_token = http_token_new(f->path);
    write_token(f, "one\n");
    assert_token(f, "X-Nomad-Token: one");
    write_token(f, "two\r\n\n");
    assert_token(f, "X-Nomad-Token: two");
}

static void keeps_the_last_good_token(void **state)
{
    struct fixture *f = *state;
    f->settings.token_file = f->path;
    f->settings.file_token = http_token_new(f->path);
    char *long_one = mem_zalloc(HTTP_TOKEN_MAX + 2);
    memset(long_one, 'x', HTTP_TOKEN_MAX + 1);
    const char *const bad[] = {"", "\n", "two words", "two\nlines", "tab\t", long_one};
    assert_token(f, "");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_token(f, "good");
        assert_token(f, "X-Nomad-Token: good");
        write_token(f, bad[i]);
        assert_token(f, "X-Nomad-Token: good");
    }
    unlink(f->path);
    assert_token(f, "X-Nomad-Token: good");
    long_one[HTTP_TOKEN_MAX] = '\0';
    write_token(f, long_one);
    init(f, "http://a:1");
    assert_int_equal(strlen(f->request.http.headers[0]),
                     strlen("X-Nomad-Token: ") + HTTP_TOKEN_MAX);
    nomad_request_fini(&f->request);
    free(long_one);
}

static void reads_a_file_that_nobody_keeps(void **state)
{
    struct fixture *f = *state;
    f->settings.token_file = f->path;
    write_token(f, "alone");
    assert_token(f, "X-Nomad-Token: alone");
}

static void *write_soon(void *arg)
{
    usleep(200 * 1000);
    write_token(arg, "new");
    return NULL;
}

static void waits_no_longer_than_for_a_new_token(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    f->settings.token_file = f->path;
    f->settings.file_token = http_token_new(f->path);
    write_token(f, "old");
    assert_token(f, "X-Nomad-Token: old");
    struct stopwatch before = stopwatch_start();
    http_token_wait(f->settings.file_token, f->stop, 700);
    assert_took(&before, 690, 10000);
    before = stopwatch_start();
    pthread_create(&thread, NULL, write_soon, f);
    http_token_wait(f->settings.file_token, f->stop, 20000);
    assert_took(&before, 150, 10000);
    pthread_join(thread, NULL);
}

static void waits_without_a_file_too(void **state)
{
    struct fixture *f = *state;
    struct stopwatch before = stopwatch_start();
    http_token_wait(NULL, f->stop, 100);
    assert_took(&before, 95, 10000);
    http_token_wait(NULL, f->stop, 0);
    stop_request(f->stop);
    http_token_wait(NULL, f->stop, 20000);
    assert_took(&before, 95, 10000);
}

static void shows_further_headers_behind_the_token(void **state)
{
    struct fixture *f = *state;
    const struct setting_pair pairs[] = {{.key = "X-A", .value = "1"},
                                         {.key = "X-B", .value = "2"}};
    f->settings.token = "s3cret";
    f->settings.access.headers = (struct setting_map){pairs, 2};
    init(f, "https://a:1/");
    assert_string_equal(f->request.http.url, "https://a:1/v1/jobs");
    assert_string_equal(f->request.http.headers[1], "X-A: 1");
    assert_string_equal(f->request.http.headers[2], "X-B: 2");
    assert_null(f->request.http.headers[3]);
    nomad_request_fini(&f->request);
}

static void keeps_the_header_of_the_token_to_itself(void **state)
{
    struct fixture *f = *state;
    struct settings *file = parse("servers: http://a:1\ntoken: a\nheaders:\n  x-nomad-token: b\n");
    settings_apply(file, settings_root(file), "source x", nomad_rows, NULL, &f->settings);
    nomad_access_check(file, settings_root(file), &f->settings);
    expect_of(file, "b.yaml:4: header x-nomad-token: expected token or token_file\n");
    f->settings = (struct nomad_settings){.ns = "*"};
}

static void takes_empty_settings_for_none(void **state)
{
    struct fixture *f = *state;
    struct http_access_settings *set = &f->settings.access;
    set->tls_ca = set->tls_cert = set->tls_key = set->tls_server_name = "";
    set->username = set->password = set->proxy = "";
    init(f, "https://a:1");
    const struct http_access *access = f->request.http.access;
    assert_null(access->ca);
    assert_null(access->cert);
    assert_null(access->key);
    assert_null(access->server_name);
    assert_null(access->user);
    assert_null(access->proxy);
    assert_null(access->unix_socket);
    nomad_request_fini(&f->request);
}

static void tells_no_proxy_from_an_unsaid_one(void **state)
{
    struct fixture *f = *state;
    f->settings.access.proxy = "none";
    init(f, "http://a:1");
    assert_string_equal(f->request.http.access->proxy, "");
    nomad_request_fini(&f->request);
}

static void asks_a_socket_by_its_path(void **state)
{
    struct fixture *f = *state;
    init(f, "unix:///run/nomad.sock");
    assert_string_equal(f->request.http.url, "http://localhost/v1/jobs");
    assert_string_equal(f->request.http.access->unix_socket, "/run/nomad.sock");
    nomad_request_fini(&f->request);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(shows_a_literal_token),
        TEST(reads_a_file_anew_for_each_request),
        TEST(keeps_the_last_good_token),
        TEST(reads_a_file_that_nobody_keeps),
        TEST(waits_no_longer_than_for_a_new_token),
        TEST(waits_without_a_file_too),
        TEST(shows_further_headers_behind_the_token),
        TEST(keeps_the_header_of_the_token_to_itself),
        TEST(takes_empty_settings_for_none),
        TEST(tells_no_proxy_from_an_unsaid_one),
        TEST(asks_a_socket_by_its_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
