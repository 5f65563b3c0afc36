/* journal_meta.c - what a journal knows of itself besides its events: the directory, the lock,
 * `meta`. */
#include "bridge/journal_meta.h"

#include "bridge/base/buf.h"
#include "bridge/base/hash.h"
#include "bridge/base/log.h"
#include "bridge/journal_format.h"
#include "bridge/journal_segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { META_MAX = 1024, DIR_MODE = 0750 };

static int make_parents(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int result = mkdir(path, DIR_MODE);
        *slash = '/';
        if (result < 0 && errno != EEXIST)
            return -1;
    }
    return mkdir(path, DIR_MODE) < 0 && errno != EEXIST ? -1 : 0;
}

int journal_meta_open_dir(const char *dir, int *dirfd, struct err *err)
{
    *dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*dirfd < 0 && errno == ENOENT) {
        char *path = mem_strdup(dir);
        int made = make_parents(path);
        free(path);
        if (made == 0)
            *dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (*dirfd < 0)
        return err_set(err, ERR_FATAL, "journal %s: %s", dir, strerror(errno));
    return 0;
}

static int in_use(const char *dir, int lockfd, struct err *err)
{
    char pid[16] = "";
    ssize_t n = journal_segment_pread(lockfd, pid, sizeof pid - 1, 0);
    if (n > 0)
        pid[strspn(pid, "0123456789")] = '\0';
    return err_set(err, ERR_FATAL, "journal %s: in use by another process (pid %s)", dir,
                   pid[0] != '\0' ? pid : "unknown");
}

int journal_meta_lock(const char *dir, int dirfd, int *lockfd, struct err *err)
{
    *lockfd = openat(dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, JOURNAL_FILE_MODE);
    if (*lockfd < 0)
        return err_set(err, ERR_FATAL, "journal %s/lock: %s", dir, strerror(errno));
    int result = 0;
    if (flock(*lockfd, LOCK_EX | LOCK_NB) < 0)
        result = errno == EWOULDBLOCK
                     ? in_use(dir, *lockfd, err)
                     : err_set(err, ERR_FATAL, "journal %s/lock: %s", dir, strerror(errno));
    if (result < 0) {
        close(*lockfd);
        *lockfd = -1;
        return -1;
    }
    char pid[16];
    int len = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    /* Only people read it: no error where it can't be written (a full disk). */
    if (ftruncate(*lockfd, 0) == 0 && len > 0)
        (void)journal_segment_pwrite(*lockfd, pid, (size_t)len, 0);
    return 0;
}

bool journal_meta_holds_lock(int dirfd, int lockfd)
{
    struct stat held, there;
    return fstat(lockfd, &held) == 0 && fstatat(dirfd, "lock", &there, 0) == 0 &&
           held.st_ino == there.st_ino && held.st_dev == there.st_dev;
}

/* The value of KEY= at the start of a line; empty where there is none. */
static struct str value_of(const char *text, const char *key)
{
    size_t len = strlen(key);
    for (const char *line = text; line != NULL && *line != '\0';) {
        const char *end = strchr(line, '\n');
        if (strncmp(line, key, len) == 0 && line[len] == '=' && end != NULL)
            return (struct str){line + len + 1, (size_t)(end - line) - len - 1};
        line = end != NULL ? end + 1 : NULL;
    }
    return (struct str){"", 0};
}

static bool crc_is_right(const char *text)
{
    const char *line = strstr(text, "\ncrc=");
    if (line == NULL)
        return false;
    return strtoul(line + 5, NULL, 16) == crc32c(0, text, (size_t)(line + 1 - text));
}

static bool parse(const char *text, struct journal_meta *meta)
{
    struct str boot = value_of(text, "boot");
    if (!crc_is_right(text) || boot.len >= sizeof meta->boot)
        return false;
    memcpy(meta->boot, boot.p, boot.len);
    meta->boot[boot.len] = '\0';
    meta->id = strtoull(value_of(text, "id").p, NULL, 16);
    meta->next_seq = strtoull(value_of(text, "next_seq").p, NULL, 10);
    meta->closed = str_is(value_of(text, "closed"), "yes");
    return meta->next_seq > 0 && meta->next_seq < UINT64_MAX / 2;
}

int journal_meta_newer(const char *dir, const char *file, uint64_t format, struct err *err)
{
    return err_set(err, ERR_FATAL,
                   "journal %s/%s: written by a newer busbar (format %" PRIu64
                   ", this one reads up to %d); run that version, or give journal.path another "
                   "folder",
                   dir, file, format, JOURNAL_FORMAT);
}

int journal_meta_read(const char *dir, int dirfd, struct journal_meta *meta, bool *found,
                      struct err *err)
{
    *found = false;
    *meta = (struct journal_meta){0};
    int fd = openat(dirfd, "meta", O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    char text[META_MAX + 1];
    ssize_t n = fd < 0 ? -1 : journal_segment_pread(fd, text, META_MAX, 0);
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return err_set(err, ERR_FATAL, "journal %s/meta: %s", dir, strerror(why));
    text[n] = '\0';
    uint64_t format = strtoull(value_of(text, "format").p, NULL, 10);
    if (format > JOURNAL_FORMAT)
        return journal_meta_newer(dir, "meta", format, err);
    *found = format > 0 && parse(text, meta);
    if (!*found)
        log_warn("journal_meta_damaged", LOG_STR("dir", dir), LOG_STR("hint", "check the disk"));
    return 0;
}

static int replace(int dirfd, const struct buf *text)
{
    int fd = openat(dirfd, "meta.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, JOURNAL_FILE_MODE);
    if (fd < 0)
        return -1;
    int result = journal_segment_pwrite(fd, text->p, text->len, 0);
    if (result == 0)
        result = fsync(fd);
    int why = errno;
    close(fd);
    errno = why;
    if (result == 0)
        result = renameat(dirfd, "meta.new", dirfd, "meta");
    return result == 0 ? fsync(dirfd) : result;
}

int journal_meta_write(const char *dir, int dirfd, const struct journal_meta *meta, struct err *err)
{
    struct buf text = {0};
    buf_printf(&text, "format=%d\nid=%016" PRIx64 "\nboot=%s\nclosed=%s\nnext_seq=%" PRIu64 "\n",
               JOURNAL_FORMAT, meta->id, meta->boot, meta->closed ? "yes" : "no", meta->next_seq);
    buf_printf(&text, "crc=%08" PRIx32 "\n", crc32c(0, text.p, text.len));
    int result = replace(dirfd, &text);
    int why = errno;
    buf_fini(&text);
    if (result < 0)
        return err_set(err, journal_segment_is_full(why) ? ERR_RETRY : ERR_FATAL,
                       "journal %s/meta: %s", dir, strerror(why));
    return 0;
}

void journal_meta_boot(char out[JOURNAL_BOOT_MAX])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, JOURNAL_BOOT_MAX - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0) {
        snprintf(out, JOURNAL_BOOT_MAX, "unknown-%016" PRIx64, hash_random());
        return;
    }
    out[n] = '\0';
    out[strcspn(out, "\n")] = '\0';
}
