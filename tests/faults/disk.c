/* A library to preload: it counts, traces, fails and kills at calls that change files below one path.

   fault_arm(path, at, action) acts within a process, at its `at`-th such call from there on (from 1; 0: never):
   KILL before it, TEAR (half of a write is done, then killed), or a number of an error that the call fails with.
   FAULT_TRACE names a file that gets a line for each such call; FAULT_UNDER the path that it is about.
   FAULT_CONTROL names a file: while it is there, what it says holds: "ERRNO PATH CALL[,CALL...]". */
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
#include <sys/types.h>
#include <unistd.h>

enum { KILL = -1, TEAR = -2 };

static char armed_under[PATH_MAX];
static long armed_at, armed_action, count;

void fault_arm(const char *under, long at, long action) {
    snprintf(armed_under, sizeof armed_under, "%s", under);
    armed_at = at;
    armed_action = action;
    __atomic_store_n(&count, 0, __ATOMIC_SEQ_CST);
}

long fault_count(void) { return __atomic_load_n(&count, __ATOMIC_SEQ_CST); }

static void path_of_fd(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static void path_at(int fd, const char *name, char *path) {
    char folder[PATH_MAX];
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    if (fd == AT_FDCWD) {
        if (!getcwd(folder, sizeof folder)) folder[0] = 0;
    } else {
        path_of_fd(fd, folder);
    }
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX) path[0] = 0;
}

static void trace(const char *call, const char *path, const char *other) {
    const char *file = getenv("FAULT_TRACE"), *under = getenv("FAULT_UNDER");
    char line[3 * PATH_MAX];
    if (!file || !under || (!strstr(path, under) && !strstr(other, under))) return;
    int length = snprintf(line, sizeof line, "%s %s %s\n", call, path, other);
    long fd = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return;
    syscall(SYS_write, fd, line, length);
    syscall(SYS_close, fd);
}

/* What the control file wants of this call: 0 nothing, else the number of an error. */
static long controlled(const char *call, const char *path) {
    const char *file = getenv("FAULT_CONTROL");
    char text[2 * PATH_MAX], under[PATH_MAX], calls[256], *rest = calls, *one;
    long number = 0;
    if (!file) return 0;
    long fd = syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return 0;
    long length = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (length <= 0) return 0;
    text[length] = 0;
    if (sscanf(text, "%ld %4095s %255s", &number, under, calls) != 3 || !strstr(path, under)) return 0;
    while ((one = strsep(&rest, ",")))
        if (!strcmp(one, call)) return number;
    return 0;
}

/* 0: do the call; a number above 0: fail with it; TEAR: do half of it and die. */
static long judge(const char *call, const char *path, const char *other) {
    int before = errno;
    trace(call, path, other);
    long number = controlled(call, path);
    errno = before;
    if (number) return number;
    if (!armed_under[0] || (!strstr(path, armed_under) && !strstr(other, armed_under))) return 0;
    if (__atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST) != armed_at) return 0;
    if (armed_action == KILL) kill(getpid(), SIGKILL);
    return armed_action;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_IF(verdict)      \
    if ((verdict) > 0) {      \
        errno = (int)(verdict); \
        return -1;            \
    }

static long judge_fd(const char *call, int fd) {
    char path[PATH_MAX];
    path_of_fd(fd, path);
    return judge(call, path, "");
}

static long judge_at(const char *call, int fd, const char *name) {
    char path[PATH_MAX];
    path_at(fd, name, path);
    return judge(call, path, "");
}

static long judge_two(const char *call, int from_fd, const char *from, int to_fd, const char *to) {
    char path[PATH_MAX], other[PATH_MAX];
    path_at(from_fd, from, path);
    path_at(to_fd, to, other);
    return judge(call, path, other);
}

ssize_t write(int fd, const void *data, size_t size) {
    long verdict = judge_fd("write", fd);
    FAIL_IF(verdict);
    if (verdict == TEAR) {
        syscall(SYS_write, fd, data, size / 2);
        kill(getpid(), SIGKILL);
    }
    return REAL(write)(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    long verdict = judge_fd("pwrite", fd);
    FAIL_IF(verdict);
    if (verdict == TEAR) {
        syscall(SYS_pwrite64, fd, data, size / 2, at);
        kill(getpid(), SIGKILL);
    }
    return REAL(pwrite64)(fd, data, size, at);
}

static int judged_open(int fd, const char *name, int flags, mode_t mode) {
    if (flags & (O_CREAT | O_WRONLY | O_RDWR)) {
        long verdict = judge_at("open", fd, name);
        FAIL_IF(verdict);
    } else if (getenv("FAULT_TRACE")) {
        char path[PATH_MAX];
        path_at(fd, name, path);
        trace("read", path, "");
    }
    return (int)REAL(openat)(fd, name, flags, mode);
}

#define MODE_OF(flags)                            \
    mode_t mode = 0;                              \
    if ((flags) & (O_CREAT | O_TMPFILE)) {        \
        va_list arguments;                        \
        va_start(arguments, flags);               \
        mode = (mode_t)va_arg(arguments, int);    \
        va_end(arguments);                        \
    }

int open(const char *name, int flags, ...) { MODE_OF(flags) return judged_open(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE_OF(flags) return judged_open(AT_FDCWD, name, flags, mode); }
int openat64(int fd, const char *name, int flags, ...) { MODE_OF(flags) return judged_open(fd, name, flags, mode); }

#define ONE(name, parameters, verdict, arguments) \
    int name parameters {                         \
        long wanted = verdict;                    \
        FAIL_IF(wanted);                          \
        if (wanted == TEAR) kill(getpid(), SIGKILL); \
        return REAL(name) arguments;              \
    }

ONE(fsync, (int fd), judge_fd("fsync", fd), (fd))
ONE(fdatasync, (int fd), judge_fd("fdatasync", fd), (fd))
ONE(ftruncate64, (int fd, off64_t size), judge_fd("ftruncate", fd), (fd, size))
ONE(fchmod, (int fd, mode_t mode), judge_fd("fchmod", fd), (fd, mode))
ONE(mkdir, (const char *name, mode_t mode), judge_at("mkdir", AT_FDCWD, name), (name, mode))
ONE(rmdir, (const char *name), judge_at("rmdir", AT_FDCWD, name), (name))
ONE(unlink, (const char *name), judge_at("unlink", AT_FDCWD, name), (name))
ONE(unlinkat, (int fd, const char *name, int flags), judge_at("unlink", fd, name), (fd, name, flags))
ONE(rename, (const char *from, const char *to), judge_two("rename", AT_FDCWD, from, AT_FDCWD, to), (from, to))
ONE(renameat, (int from_fd, const char *from, int to_fd, const char *to),
    judge_two("rename", from_fd, from, to_fd, to), (from_fd, from, to_fd, to))
