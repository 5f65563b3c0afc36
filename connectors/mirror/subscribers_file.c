/* subscribers_file.c - the callbacks of one source on disk. */
#include "connectors/mirror/subscribers_file.h"

#include "bridge/base/log.h"
#include "connectors/mirror/subscriber_url.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    VERSION = 1,
    FILE_BYTES_MAX = 16 << 20,
    FAILING_STEP_S = 60, /* so that a failing one does not change the file each second */
};

/* The caller frees it. */
static char *path_of(const char *dir, const char *suffix)
{
    struct buf path = {0};
    buf_printf(&path, "%s/" SUBSCRIBERS_FILE "%s", dir, suffix);
    buf_cstr(&path);
    return path.p;
}

/* ---- reading ---- */

static bool read_place(json_t *one, struct kept_subscriber *kept)
{
    const char *url, *id;
    json_int_t seq, arrival_us, since_us, failing_s;
    if (json_unpack(one, "{s:s, s:s, s:I, s:I, s:I, s:I}", "url", &url, "journal", &id, "seq", &seq,
                    "arrival_us", &arrival_us, "since_us", &since_us, "failing_s", &failing_s) != 0)
        return false;
    char *end;
    errno = 0;
    uint64_t journal = strtoull(id, &end, 16);
    bool sound = errno == 0 && *id != '\0' && *end == '\0' && seq > 0 && arrival_us >= 0 &&
                 since_us >= 0 && failing_s >= 0 && failing_s < INT32_MAX &&
                 subscriber_url_check(str_from(url)) == NULL;
    if (!sound)
        return false;
    kept->url = mem_strdup(url);
    kept->place = (struct subscriber_place){
        .journal_id = journal,
        .seq = (uint64_t)seq,
        .arrival_us = arrival_us,
        .since_us = since_us,
        .failing_ms = failing_s * 1000,
    };
    return true;
}

void subscribers_file_free(struct kept_subscriber *kept, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(kept[i].url);
    free(kept);
}

/* False where something in it is not as it was written. */
static bool read_all(json_t *root, struct kept_subscriber **out, size_t *n)
{
    json_t *list = json_object_get(root, "subscribers");
    if (!json_is_array(list))
        return false;
    size_t count = json_array_size(list);
    struct kept_subscriber *kept = mem_zalloc((count + 1) * sizeof *kept);
    for (size_t i = 0; i < count; i++)
        if (!read_place(json_array_get(list, i), &kept[i])) {
            subscribers_file_free(kept, i);
            return false;
        }
    *out = kept;
    *n = count;
    return true;
}

static void set_aside(const char *dir, const char *why)
{
    char *path = path_of(dir, ""), *bad = path_of(dir, ".bad");
    rename(path, bad);
    log_error("subscribers_unreadable", LOG_STR("file", bad), LOG_STR("err", why),
              LOG_STR("hint", "its callbacks get nothing until they register again"));
    free(path);
    free(bad);
}

/* 1: there is none. */
static int read_text(const char *path, struct buf *text, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 1 : err_set(err, ERR_FATAL, "%s: %s", path, strerror(errno));
    ssize_t n;
    while ((n = read(fd, buf_reserve(text, 65536), 65536)) > 0 && text->len < FILE_BYTES_MAX)
        text->len += (size_t)n;
    int why = errno;
    close(fd);
    return n < 0 ? err_set(err, ERR_FATAL, "%s: %s", path, strerror(why)) : 0;
}

static int understand(const char *dir, struct str text, struct kept_subscriber **out, size_t *n,
                      struct err *err)
{
    json_error_t wrong = {.text = "not as this program writes it"};
    json_t *root = json_loadb(text.p, text.len, 0, &wrong);
    json_int_t version = json_integer_value(json_object_get(root, "version"));
    int rc = 0;
    if (version > VERSION)
        rc = err_set(err, ERR_FATAL,
                     "%s/" SUBSCRIBERS_FILE ": version %lld: this busbar reads %d: start the newer "
                     "one, or delete the file and have all callbacks register again",
                     dir, (long long)version, VERSION);
    else if (version != VERSION || !read_all(root, out, n))
        set_aside(dir, wrong.text);
    json_decref(root);
    return rc;
}

int subscribers_file_read(const char *dir, struct kept_subscriber **out, size_t *n, struct err *err)
{
    struct buf text = {0};
    char *path = path_of(dir, "");
    *out = NULL;
    *n = 0;
    int rc = read_text(path, &text, err);
    if (rc == 0)
        rc = understand(dir, buf_str(&text), out, n, err);
    buf_fini(&text);
    free(path);
    return rc < 0 ? -1 : 0;
}

/* ---- writing ---- */

void subscribers_file_begin(struct buf *text)
{
    buf_printf(text, "{\"version\":%d,\"subscribers\":[", VERSION);
}

void subscribers_file_append(struct buf *text, const char *url,
                             const struct subscriber_place *place)
{
    int64_t failing_s = place->failing_ms / 1000 / FAILING_STEP_S * FAILING_STEP_S;
    buf_append_cstr(text, text->p[text->len - 1] == '[' ? "\n" : ",\n");
    buf_append_cstr(text, "{\"url\":");
    buf_append_json(text, str_from(url));
    buf_printf(text, ",\"journal\":\"%016" PRIx64 "\",\"seq\":%" PRIu64, place->journal_id,
               place->seq);
    buf_printf(text, ",\"arrival_us\":%" PRId64 ",\"since_us\":%" PRId64, place->arrival_us,
               place->since_us);
    buf_printf(text, ",\"failing_s\":%" PRId64 "}", failing_s);
}

void subscribers_file_end(struct buf *text)
{
    buf_append_cstr(text, "\n]}\n");
}

static int write_all(int fd, struct str text)
{
    while (text.len > 0) {
        ssize_t n = write(fd, text.p, text.len);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            text.p += n;
            text.len -= (size_t)n;
        }
    }
    return 0;
}

static const char *beside(bool sync)
{
    return sync ? ".sync" : ".new";
}

int subscribers_file_prepare(const char *dir, struct str text, bool sync, struct err *err)
{
    char *path = path_of(dir, beside(sync));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc = 0;
    if (fd < 0 || write_all(fd, text) != 0 || (sync && fsync(fd) != 0))
        rc = err_set(err, ERR_RETRY, "%s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    free(path);
    return rc;
}

int subscribers_file_replace(const char *dir, bool sync, struct err *err)
{
    char *from = path_of(dir, beside(sync)), *to = path_of(dir, "");
    int rc = rename(from, to);
    if (rc != 0)
        err_set(err, ERR_RETRY, "%s: %s", to, strerror(errno));
    free(from);
    free(to);
    return rc;
}

void subscribers_file_sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}
