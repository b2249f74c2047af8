/* Fault shim: counts the file calls of all processes of one case below one folder, and disturbs the chosen one.

   It is preloaded into every process of a case. The counter and the orders lie in a file that all of them map; its path
   is in FAULT_STATE, so programs that are started with exec count as well. A process that does not belong to a case
   (the harness, the web server) has no orders and is never disturbed.

   A call is a *point* when it would change something below the folder: a write, a sync, a rename, the making of a file
   that is not there yet. Calls that find nothing to do (unlink of a missing file) are no points. With `reading` set,
   the calls that read an existing file are the points instead. execve is logged as a mark and is never a point. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { PLUG, KILL, EIO_ONCE, FULL_ONCE, SHORT_ONCE, EIO_FROM_HERE, FULL_FROM_HERE };

/* What a call is: a disk that is full fails only those that take space; only writes can be short. */
enum kind { OTHER = 0, TAKES_SPACE = 1, IS_WRITE = 2 };

/* Layout known to engine.py. */
struct state {
    long armed, reading, at, mode; /* orders */
    long count, hits;              /* what happened */
    char folder[1024], log[1024], bell[1024];
};

static struct state *state;
static int belongs; /* whether this process is one of a case */
static char program[64];

static void name_program(void) {
    char path[1024];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    const char *slash = strrchr(path, '/');
    snprintf(program, sizeof program, "%.60s", slash ? slash + 1 : path);
    if (!strncmp(program, "python", 6)) snprintf(program, sizeof program, "python");
}

int fault_open(const char *path) {
    int descriptor = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return -1;
    state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    syscall(SYS_close, descriptor);
    if (state == MAP_FAILED) state = NULL;
    name_program();
    return state ? 0 : -1;
}

void fault_join(int joins) { belongs = joins; }

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_STATE");
    if (path && *path && fault_open(path) == 0) belongs = 1;
}

/* ------------------------------------------------------------------------------------------------ paths */

static const char *path_of_descriptor(int descriptor, char *buffer, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, buffer, size - 1);
    if (length <= 0) return NULL;
    buffer[length] = 0;
    char *deleted = strstr(buffer, " (deleted)");
    if (deleted) *deleted = 0;
    return buffer;
}

static const char *absolute(int folder, const char *path, char *buffer, size_t size) {
    if (!path || path[0] == '/') return path;
    char base[1024];
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return NULL;
    } else if (!path_of_descriptor(folder, base, sizeof base)) {
        return NULL;
    }
    snprintf(buffer, size, "%s/%s", base, path);
    return buffer;
}

static int is_watched(const char *path) {
    size_t length = strlen(state->folder);
    return path && length && !strncmp(path, state->folder, length) && (path[length] == '/' || path[length] == 0);
}

static int exists(int folder, const char *path) {
    struct stat found;
    int before = errno, there = fstatat(folder, path, &found, AT_SYMLINK_NOFOLLOW) == 0;
    errno = before;
    return there;
}

/* ------------------------------------------------------------------------------------------------ points */

static void note(long number, int kind, const char *call, const char *path, const char *other) {
    if (!state->log[0]) return;
    /* Opened for each line: a process may close every descriptor that it has, and get the number for a file of its own. */
    int descriptor = syscall(SYS_openat, AT_FDCWD, state->log, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (descriptor < 0) return;
    char line[2600];
    int length = snprintf(line, sizeof line, "%ld\t%d\t%s\t%d\t%s\t%s\t%s\n", number, getpid(), program, kind, call,
                          path, other ? other : "");
    syscall(SYS_write, descriptor, line, length);
    syscall(SYS_close, descriptor);
}

static _Noreturn void stop_here(int signal) {
    syscall(SYS_kill, getpid(), signal);
    for (;;) pause();
}

static _Noreturn void ring(void) {
    int descriptor = syscall(SYS_openat, AT_FDCWD, state->bell, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor >= 0) syscall(SYS_write, descriptor, "x", 1);
    /* The harness ends every process of the case now, this one included. */
    stop_here(SIGSTOP);
}

/* Returns 0 (go on), -1 (write less than asked) or an errno. */
static int point(int kind, const char *call, const char *path, const char *other) {
    long number = __sync_add_and_fetch(&state->count, 1);
    note(number, kind, call, path, other);
    int from_here = state->mode == EIO_FROM_HERE || state->mode == FULL_FROM_HERE;
    if (state->at <= 0 || number < state->at) return 0;
    /* The power is off: nothing that another process does until it is ended may reach the disk. */
    if (state->mode == PLUG && number > state->at) stop_here(SIGSTOP);
    if (number > state->at && !from_here) return 0;
    int full = state->mode == FULL_ONCE || state->mode == FULL_FROM_HERE;
    if (full && !(kind & TAKES_SPACE)) return 0;
    if (state->mode == SHORT_ONCE && !(kind & IS_WRITE)) return 0;
    __sync_add_and_fetch(&state->hits, 1);
    switch (state->mode) {
    case PLUG: ring();
    case KILL: stop_here(SIGKILL);
    case SHORT_ONCE: return -1;
    default: return full ? ENOSPC : EIO;
    }
}

static int changes_path(const char *call, int folder, const char *path, const char *other, int kind) {
    if (!belongs || !state || !state->armed || state->reading) return 0;
    char buffer[2048];
    path = absolute(folder, path, buffer, sizeof buffer);
    return is_watched(path) ? point(kind, call, path, other) : 0;
}

static int changes_descriptor(const char *call, int descriptor, int kind) {
    if (!belongs || !state || !state->armed || state->reading) return 0;
    char buffer[1024];
    const char *path = path_of_descriptor(descriptor, buffer, sizeof buffer);
    return is_watched(path) ? point(kind, call, path, NULL) : 0;
}

static int reads_descriptor(const char *call, int descriptor) {
    if (!belongs || !state || !state->armed || !state->reading) return 0;
    char buffer[1024];
    const char *path = path_of_descriptor(descriptor, buffer, sizeof buffer);
    return is_watched(path) ? point(OTHER, call, path, NULL) : 0;
}

static int opens(const char *call, int folder, const char *path, int flags) {
    if (!belongs || !state || !state->armed || !path) return 0;
    char buffer[2048];
    const char *full = absolute(folder, path, buffer, sizeof buffer);
    if (!is_watched(full)) return 0;
    int there = exists(AT_FDCWD, full);
    if (state->reading) return there ? point(OTHER, call, full, NULL) : 0;
    if (there ? !(flags & O_TRUNC) : !(flags & O_CREAT)) return 0;
    return point(there ? OTHER : TAKES_SPACE, call, full, NULL);
}

/* ------------------------------------------------------------------------------------------------ wrappers */

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)
#define FAIL_IF(error) \
    int fault = (error); \
    if (fault > 0) { errno = fault; return -1; }
#define LESS(size) (fault < 0 && (size) > 1 ? (size) / 2 : (size))
#define WRITES (TAKES_SPACE | IS_WRITE)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    FAIL_IF(changes_descriptor("write", fd, WRITES));
    return real(fd, data, LESS(size));
}
#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset) { \
        REAL(ssize_t, name, int, const void *, size_t, offset_type); \
        FAIL_IF(changes_descriptor("pwrite", fd, WRITES)); \
        return real(fd, data, LESS(size), offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    FAIL_IF(changes_descriptor("writev", fd, TAKES_SPACE));
    return real(fd, parts, count);
}
#define SENDFILE(name, offset_type) \
    ssize_t name(int out, int in, offset_type *offset, size_t size) { \
        REAL(ssize_t, name, int, int, offset_type *, size_t); \
        FAIL_IF(changes_descriptor("sendfile", out, WRITES)); \
        if (!fault) { int unread = reads_descriptor("sendfile", in); if (unread > 0) { errno = unread; return -1; } } \
        return real(out, in, offset, LESS(size)); \
    }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned);
    FAIL_IF(changes_descriptor("copy_file_range", out, WRITES));
    return real(in, from, out, to, LESS(size), flags);
}

#define ON_DESCRIPTOR(name) \
    int name(int fd) { \
        REAL(int, name, int); \
        FAIL_IF(changes_descriptor(#name, fd, OTHER)); \
        return real(fd); \
    }
ON_DESCRIPTOR(fsync)
ON_DESCRIPTOR(fdatasync)
ON_DESCRIPTOR(syncfs)
#define FTRUNCATE(name, offset_type) \
    int name(int fd, offset_type size) { \
        REAL(int, name, int, offset_type); \
        FAIL_IF(changes_descriptor("ftruncate", fd, OTHER)); \
        return real(fd, size); \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)
#define TRUNCATE(name, offset_type) \
    int name(const char *path, offset_type size) { \
        REAL(int, name, const char *, offset_type); \
        FAIL_IF(changes_path("truncate", AT_FDCWD, path, NULL, OTHER)); \
        return real(path, size); \
    }
TRUNCATE(truncate, off_t)
TRUNCATE(truncate64, off64_t)
#define FALLOCATE(name, offset_type) \
    int name(int fd, int mode, offset_type offset, offset_type size) { \
        REAL(int, name, int, int, offset_type, offset_type); \
        FAIL_IF(changes_descriptor("fallocate", fd, TAKES_SPACE)); \
        return real(fd, mode, offset, size); \
    }
FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)
/* These return the error and leave errno alone. */
#define POSIX_FALLOCATE(name, offset_type) \
    int name(int fd, offset_type offset, offset_type size) { \
        REAL(int, name, int, offset_type, offset_type); \
        int fault = changes_descriptor("posix_fallocate", fd, TAKES_SPACE); \
        return fault > 0 ? fault : real(fd, offset, size); \
    }
POSIX_FALLOCATE(posix_fallocate, off_t)
POSIX_FALLOCATE(posix_fallocate64, off64_t)
int ioctl(int fd, unsigned long request, ...) {
    REAL(int, ioctl, int, unsigned long, void *);
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (request == FICLONE || request == FICLONERANGE) { FAIL_IF(changes_descriptor("clone", fd, TAKES_SPACE)); }
    return real(fd, request, argument);
}

#define RENAMES(call, folder, from, to) \
    char buffer[2048]; \
    const char *source = belongs && state ? absolute(folder, from, buffer, sizeof buffer) : from; \
    FAIL_IF(changes_path(call, folder, to, source, OTHER))
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    RENAMES("rename", AT_FDCWD, from, to);
    return real(from, to);
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    RENAMES("rename", from_folder, from, to);
    return real(from_folder, from, to_folder, to);
}
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    REAL(int, renameat2, int, const char *, int, const char *, unsigned);
    RENAMES("rename", from_folder, from, to);
    return real(from_folder, from, to_folder, to, flags);
}
int unlink(const char *path) {
    REAL(int, unlink, const char *);
    FAIL_IF(exists(AT_FDCWD, path) ? changes_path("unlink", AT_FDCWD, path, NULL, OTHER) : 0);
    return real(path);
}
int unlinkat(int folder, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    const char *call = flags & AT_REMOVEDIR ? "rmdir" : "unlink";
    FAIL_IF(exists(folder, path) ? changes_path(call, folder, path, NULL, OTHER) : 0);
    return real(folder, path, flags);
}
int rmdir(const char *path) {
    REAL(int, rmdir, const char *);
    FAIL_IF(exists(AT_FDCWD, path) ? changes_path("rmdir", AT_FDCWD, path, NULL, OTHER) : 0);
    return real(path);
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    FAIL_IF(exists(AT_FDCWD, path) ? 0 : changes_path("mkdir", AT_FDCWD, path, NULL, TAKES_SPACE));
    return real(path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(int, mkdirat, int, const char *, mode_t);
    FAIL_IF(exists(folder, path) ? 0 : changes_path("mkdir", folder, path, NULL, TAKES_SPACE));
    return real(folder, path, mode);
}
int symlink(const char *target, const char *path) {
    REAL(int, symlink, const char *, const char *);
    FAIL_IF(changes_path("symlink", AT_FDCWD, path, NULL, TAKES_SPACE));
    return real(target, path);
}
int symlinkat(const char *target, int folder, const char *path) {
    REAL(int, symlinkat, const char *, int, const char *);
    FAIL_IF(changes_path("symlink", folder, path, NULL, TAKES_SPACE));
    return real(target, folder, path);
}
int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    FAIL_IF(changes_path("link", AT_FDCWD, to, from, TAKES_SPACE));
    return real(from, to);
}
int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    FAIL_IF(changes_path("link", to_folder, to, from, TAKES_SPACE));
    return real(from_folder, from, to_folder, to, flags);
}
int chmod(const char *path, mode_t mode) {
    REAL(int, chmod, const char *, mode_t);
    FAIL_IF(changes_path("chmod", AT_FDCWD, path, NULL, OTHER));
    return real(path, mode);
}
int fchmod(int fd, mode_t mode) {
    REAL(int, fchmod, int, mode_t);
    FAIL_IF(changes_descriptor("chmod", fd, OTHER));
    return real(fd, mode);
}
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    REAL(int, fchmodat, int, const char *, mode_t, int);
    FAIL_IF(changes_path("chmod", folder, path, NULL, OTHER));
    return real(folder, path, mode, flags);
}
int chown(const char *path, uid_t user, gid_t group) {
    REAL(int, chown, const char *, uid_t, gid_t);
    FAIL_IF(changes_path("chown", AT_FDCWD, path, NULL, OTHER));
    return real(path, user, group);
}
int fchown(int fd, uid_t user, gid_t group) {
    REAL(int, fchown, int, uid_t, gid_t);
    FAIL_IF(changes_descriptor("chown", fd, OTHER));
    return real(fd, user, group);
}
int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    REAL(int, utimensat, int, const char *, const struct timespec *, int);
    FAIL_IF(changes_path("utimens", folder, path, NULL, OTHER));
    return real(folder, path, times, flags);
}
int futimens(int fd, const struct timespec times[2]) {
    REAL(int, futimens, int, const struct timespec *);
    FAIL_IF(changes_descriptor("utimens", fd, OTHER));
    return real(fd, times);
}

#define OPEN_MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, last); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        OPEN_MODE(flags, flags) \
        FAIL_IF(opens("open", AT_FDCWD, path, flags)); \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(int, name, int, const char *, int, ...); \
        OPEN_MODE(flags, flags) \
        FAIL_IF(opens("open", folder, path, flags)); \
        return real(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int fd, void *data, size_t size) {
    REAL(ssize_t, read, int, void *, size_t);
    FAIL_IF(reads_descriptor("read", fd));
    return real(fd, data, size);
}
#define PREAD(name, offset_type) \
    ssize_t name(int fd, void *data, size_t size, offset_type offset) { \
        REAL(ssize_t, name, int, void *, size_t, offset_type); \
        FAIL_IF(reads_descriptor("pread", fd)); \
        return real(fd, data, size, offset); \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

int execve(const char *path, char *const arguments[], char *const environment[]) {
    REAL(int, execve, const char *, char *const *, char *const *);
    if (belongs && state && state->armed) {
        char buffer[2048];
        const char *full = absolute(AT_FDCWD, path, buffer, sizeof buffer);
        if (is_watched(full)) note(state->count, OTHER, "exec", full, NULL);
    }
    return real(path, arguments, environment);
}
