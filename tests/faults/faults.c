/* Faults at the k-th file event below one folder, for the tests of this package: preloaded (LD_PRELOAD) into a process,
 * and asleep until that process calls fault_arm.
 *
 * An event is a call that changes what lies on the disk or promises that it is there: opening for writing, write,
 * truncate, rename, link, unlink, mkdir, rmdir, fsync. It counts where its path, or that of its file, begins with the
 * folder. Whoever makes the call does not matter: Python, the Rust of safetensors, SQLite.
 *
 *   KILL   the process is killed (SIGKILL) just before the k-th event
 *   TEAR   likewise, but the first half of what a write should have written is on the disk
 *   ERROR  the k-th event fails with EIO, once
 *   FULL   from the k-th event on the disk is full: half of that write goes through, then everything that needs room
 *          fails with ENOSPC, and so does fsync, as on file systems that allocate late
 *   LOSE   as KILL, and the power fails: what was appended to files since their last fsync is lost
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/sendfile.h>
#include <unistd.h>

enum { NONE, KILL, TEAR, ERROR, FULL, LOSE };
enum { GO_ON, FAIL, HALF };

static char below[PATH_MAX];
static size_t below_length;
static long chosen, count;
static int mode = NONE, armed, list = -1;

/* Files that were written and not yet synced, with the length that is safe. */
#define MOST_FILES 512
static struct { ino_t inode; int file; off_t safe; } unsafe[MOST_FILES];
static int unsafe_count;

#define NEXT(name) ((__typeof__(&name))next_of(#name))
static void *next_of(const char *name) { return dlsym(RTLD_NEXT, name); }

static int inside(const char *path) {
    return armed && path && strncmp(path, below, below_length) == 0;
}

/* The path of an argument, absolute; relative ones are taken from the folder `at`. */
static const char *absolute(int at, const char *path, char *buffer) {
    if (!path || path[0] == '/') return path;
    char link[64];
    if (at == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length < 0) return path;
    snprintf(buffer + length, PATH_MAX - length, "/%s", path);
    return buffer;
}

static int path_of(int file, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length < 0) return 0;
    buffer[length] = 0;
    return 1;
}

static void note_synced(int file) {
    struct stat about;
    if (fstat(file, &about) != 0) return;
    for (int i = 0; i < unsafe_count; i++)
        if (unsafe[i].inode == about.st_ino) {
            close(unsafe[i].file);
            unsafe[i] = unsafe[--unsafe_count];
            return;
        }
}

/* SQLite overwrites pages in the middle of its files and syncs them itself; only files that grow are looked at. */
static void note_written(int file, const char *path) {
    struct stat about;
    if (mode != LOSE || strstr(path, "mlflow") || fstat(file, &about) != 0 || unsafe_count == MOST_FILES) return;
    for (int i = 0; i < unsafe_count; i++)
        if (unsafe[i].inode == about.st_ino) return;
    int own = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (own < 0) return;
    unsafe[unsafe_count].inode = about.st_ino;
    unsafe[unsafe_count].file = own;
    unsafe[unsafe_count++].safe = about.st_size;
}

static void end_here(void) {
    if (mode == LOSE)
        for (int i = 0; i < unsafe_count; i++)
            if (syscall(SYS_ftruncate, unsafe[i].file, unsafe[i].safe) != 0) _exit(70);
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts an event, and says what is to become of it. `room`: whether it fails on a full disk. */
static int event(const char *what, const char *path, int room) {
    long now = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (list >= 0) {
        char line[PATH_MAX + 32];
        int length = snprintf(line, sizeof line, "%s %s\n", what, path + below_length);
        if (syscall(SYS_write, list, line, length) < 0) _exit(71);
    }
    int writes = strcmp(what, "write") == 0;
    if (now == chosen) {
        if (mode == KILL || mode == LOSE || (mode == TEAR && !writes)) end_here();
        if (mode == TEAR) return HALF;
        if (mode == ERROR) { errno = EIO; return FAIL; }
        if (mode == FULL && writes) return HALF;
    }
    if (mode == FULL && now >= chosen && chosen > 0 && room) { errno = ENOSPC; return FAIL; }
    return GO_ON;
}

void fault_arm(const char *folder, int how, long k, int events) {
    snprintf(below, sizeof below, "%s/", folder);
    below_length = strlen(below);
    mode = how, chosen = k, count = 0, list = events, armed = 1;
}

long fault_disarm(void) { armed = 0; return count; }

/* Calls with a file: the length that a torn write has; 0 where the whole of it is written. */
static int write_event(int file, char *path) {
    if (!armed || !path_of(file, path) || !inside(path)) return GO_ON;
    int fate = event("write", path, 1);
    if (fate == GO_ON) note_written(file, path);
    return fate;
}

#define WRITES(name, declared, passed, halved)                    \
    ssize_t name declared {                                       \
        char path[PATH_MAX];                                      \
        int fate = write_event(file, path);                       \
        if (fate == FAIL) return -1;                              \
        if (fate == GO_ON) return NEXT(name) passed;              \
        ssize_t half = length > 1 ? (ssize_t)(NEXT(name) halved) : 0; \
        if (mode == TEAR) end_here();                             \
        if (half == 0) { errno = ENOSPC; return -1; }             \
        return half;                                              \
    }
WRITES(write, (int file, const void *data, size_t length), (file, data, length), (file, data, length / 2))
WRITES(pwrite, (int file, const void *data, size_t length, off_t at), (file, data, length, at),
       (file, data, length / 2, at))
WRITES(pwrite64, (int file, const void *data, size_t length, off64_t at), (file, data, length, at),
       (file, data, length / 2, at))
WRITES(sendfile, (int file, int from, off_t *at, size_t length), (file, from, at, length), (file, from, at, length / 2))
WRITES(sendfile64, (int file, int from, off64_t *at, size_t length), (file, from, at, length),
       (file, from, at, length / 2))
WRITES(copy_file_range, (int from, off64_t *at, int file, off64_t *to, size_t length, unsigned flags),
       (from, at, file, to, length, flags), (from, at, file, to, length / 2, flags))

/* Several pieces at once: a torn one has the first piece alone (half of it, where it is the only one). */
ssize_t writev(int file, const struct iovec *pieces, int length) {
    char path[PATH_MAX];
    int fate = write_event(file, path);
    if (fate == FAIL) return -1;
    if (fate == GO_ON) return NEXT(writev)(file, pieces, length);
    size_t first = length > 1 ? pieces[0].iov_len : pieces[0].iov_len / 2;
    ssize_t half = NEXT(write)(file, pieces[0].iov_base, first);
    if (mode == TEAR) end_here();
    return half;
}

#define ON_FILE(name, what, room, declared, passed, after)                                       \
    int name declared {                                                                          \
        char path[PATH_MAX];                                                                     \
        if (armed && path_of(file, path) && inside(path) && event(what, path, room) == FAIL) return -1; \
        int result = NEXT(name) passed;                                                          \
        after;                                                                                   \
        return result;                                                                           \
    }
ON_FILE(fsync, "fsync", 1, (int file), (file), if (armed) note_synced(file))
ON_FILE(fdatasync, "fsync", 1, (int file), (file), if (armed) note_synced(file))
ON_FILE(ftruncate, "truncate", 0, (int file, off_t length), (file, length), )
ON_FILE(ftruncate64, "truncate", 0, (int file, off64_t length), (file, length), )

#define ON_PATH(name, what, room, at, declared, passed)                                        \
    int name declared {                                                                        \
        char buffer[PATH_MAX];                                                                 \
        const char *full = armed ? absolute(at, path, buffer) : path;                          \
        if (inside(full) && event(what, full, room) == FAIL) return -1;                        \
        return NEXT(name) passed;                                                              \
    }
ON_PATH(unlink, "unlink", 0, AT_FDCWD, (const char *path), (path))
ON_PATH(unlinkat, "unlink", 0, folder, (int folder, const char *path, int flags), (folder, path, flags))
ON_PATH(rmdir, "rmdir", 0, AT_FDCWD, (const char *path), (path))
ON_PATH(mkdir, "mkdir", 1, AT_FDCWD, (const char *path, mode_t how), (path, how))
ON_PATH(mkdirat, "mkdir", 1, folder, (int folder, const char *path, mode_t how), (folder, path, how))
ON_PATH(truncate, "truncate", 0, AT_FDCWD, (const char *path, off_t length), (path, length))
ON_PATH(truncate64, "truncate", 0, AT_FDCWD, (const char *path, off64_t length), (path, length))
ON_PATH(rename, "rename", 0, AT_FDCWD, (const char *old, const char *path), (old, path))
ON_PATH(renameat, "rename", 0, folder, (int from, const char *old, int folder, const char *path),
        (from, old, folder, path))
ON_PATH(renameat2, "rename", 0, folder, (int from, const char *old, int folder, const char *path, unsigned flags),
        (from, old, folder, path, flags))
ON_PATH(link, "link", 1, AT_FDCWD, (const char *old, const char *path), (old, path))
ON_PATH(linkat, "link", 1, folder, (int from, const char *old, int folder, const char *path, int flags),
        (from, old, folder, path, flags))
ON_PATH(symlink, "link", 1, AT_FDCWD, (const char *old, const char *path), (old, path))
ON_PATH(symlinkat, "link", 1, folder, (const char *old, int folder, const char *path), (old, folder, path))

/* Opening to read is no event; nor is opening to write where nothing is made or emptied, as a lock is. */
static int open_event(int at, const char *path, int flags) {
    char buffer[PATH_MAX];
    if (!armed || (flags & O_ACCMODE) == O_RDONLY || !(flags & (O_CREAT | O_TRUNC))) return GO_ON;
    const char *full = absolute(at, path, buffer);
    if (!inside(full)) return GO_ON;
    int new = faccessat(AT_FDCWD, full, F_OK, 0) != 0;
    return event(new ? "create" : "open", full, new);
}

#define OPENS(name, at, declared, ...)                                  \
    int name declared {                                                 \
        mode_t how = 0;                                                 \
        if (flags & (O_CREAT | O_TMPFILE)) {                            \
            va_list more;                                               \
            va_start(more, flags);                                      \
            how = va_arg(more, mode_t);                                 \
            va_end(more);                                               \
        }                                                               \
        if (open_event(at, path, flags) == FAIL) return -1;             \
        return NEXT(name)(__VA_ARGS__, how);                            \
    }
OPENS(open, AT_FDCWD, (const char *path, int flags, ...), path, flags)
OPENS(open64, AT_FDCWD, (const char *path, int flags, ...), path, flags)
OPENS(openat, folder, (int folder, const char *path, int flags, ...), folder, path, flags)
OPENS(openat64, folder, (int folder, const char *path, int flags, ...), folder, path, flags)

static FILE *opened(const char *name, const char *path, const char *how) {
    int writes = strchr(how, 'w') || strchr(how, 'a') || strchr(how, '+');
    if (writes && open_event(AT_FDCWD, path, O_WRONLY | O_CREAT) == FAIL) return NULL;
    return ((FILE * (*)(const char *, const char *)) next_of(name))(path, how);
}
FILE *fopen(const char *path, const char *how) { return opened("fopen", path, how); }
FILE *fopen64(const char *path, const char *how) { return opened("fopen64", path, how); }
