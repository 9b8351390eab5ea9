/* The harness of the C tests: one program a behaviour, one process a case.
 *
 * Run without arguments a test starts itself again for every case, because a case changes what its process is (a
 * primary, a worker, a holder of listeners) and that cannot be undone. The process that runs the cases is a
 * subreaper: whatever a case leaves behind ends up there, is named, and fails the case. A case sees its own
 * directory in CHECK_DIR. A program that cl_spawn(NULL) starts has the same arguments and therefore lands in the same
 * case, which asks cl_is_worker() which side it is on.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cluster.h"

#define CHECK_SKIPPED 77
#define CHECK_CASE_LIMIT_MS 25000

typedef struct {
    const char *name; /* one that begins with '_' is a helper process of other cases */
    void (*body)(void);
} check_case_t;

#define CHECK_MAIN(cases) \
    int main(int argc, char **argv) { return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases)[0]); }

/* -- What a case says ------------------------------------------------------------------------------------------- */

/* A failed check ends only its own process, which may be a worker: the words on standard error, which all processes
 * of a case share, are what makes the case fail. */
static inline void check_fail(const char *file, int line, const char *format, ...) {
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    const char *sentence = cl_last_error();
    dprintf(2, "check failed: %s:%d: [pid %d] %s (errno %d, last error: %s)\n", file, line, (int)getpid(), text, errno,
            sentence != NULL ? sentence : "NULL");
    _exit(1);
}

static inline void check_equal(long long got, long long want, const char *text, const char *file, int line) {
    if (got == want) return;
    check_fail(file, line, "%s is %lld (%s), wanted %lld (%s)", text, got,
               got < 0 && got >= INT_MIN ? cl_err_name((int)got) : "", want,
               want < 0 && want >= INT_MIN ? cl_err_name((int)want) : "");
}

static inline int check_ok(long long got, const char *text, const char *file, int line) {
    if (got < 0) check_fail(file, line, "%s is %lld (%s)", text, got, cl_err_name((int)got));
    return (int)got;
}

static inline int check_system(long long got, const char *text, const char *file, int line) {
    if (got < 0) check_fail(file, line, "%s: %s", text, strerror(errno));
    return (int)got;
}

#define CHECK(condition) ((condition) ? (void)0 : check_fail(__FILE__, __LINE__, "not true: %s", #condition))
#define CHECK_EQ(got, want) check_equal((long long)(got), (long long)(want), #got, __FILE__, __LINE__)
/* The value of a call of ours that must succeed, and of a system call that must. */
#define OK(call) check_ok((long long)(call), #call, __FILE__, __LINE__)
#define SYS(call) check_system((long long)(call), #call, __FILE__, __LINE__)
#define ZERO(thing) memset(&(thing), 0, sizeof(thing))

static inline void check_skip(const char *why) {
    dprintf(2, "skipped: %s\n", why);
    _exit(CHECK_SKIPPED);
}

/* -- Time: conditions with deadlines, never a sleep ------------------------------------------------------------ */

static inline long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Under valgrind and the sanitizers everything takes longer: CHECK_SLOW says how much. */
static inline int check_slow(void) {
    const char *factor = getenv("CHECK_SLOW");
    return factor != NULL && atoi(factor) > 1 ? atoi(factor) : 1;
}

static inline void nap(int ms) { (void)poll(NULL, 0, ms); }

#define WAIT_UNTIL(condition, ms)                                                                   \
    do {                                                                                            \
        long long deadline_ = now_ms() + (long long)(ms) * check_slow();                            \
        while (!(condition)) {                                                                      \
            if (now_ms() > deadline_) check_fail(__FILE__, __LINE__, "not within %d ms: %s", (int)(ms), #condition); \
            nap(2);                                                                                 \
        }                                                                                           \
    } while (0)

static inline int readable_within(int fd, int ms) {
    struct pollfd one;
    one.fd = fd;
    one.events = POLLIN;
    one.revents = 0;
    long long deadline = now_ms() + ms;
    for (;;) {
        long long left = deadline - now_ms();
        int n = poll(&one, 1, left > 0 ? (int)left : 0);
        if (n >= 0 || errno != EINTR) return n > 0;
    }
}

/* -- Processes and descriptors ---------------------------------------------------------------------------------- */

/* valgrind has descriptors of its own in every program that it starts: files, and some beyond the limit it plays. */
static inline int belongs_to_valgrind(int fd) {
    char link[64], target[256];
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd >= limit.rlim_cur) return 1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    return strstr(target, "valgrind") != NULL;
}

static inline int under_valgrind(void) { return getenv("CHECK_UNDER") != NULL && strcmp(getenv("CHECK_UNDER"), "valgrind") == 0; }

static inline int count_descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    int count = -1; /* the folder's own */
    if (folder == NULL) return -1;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        if (entry->d_name[0] != '.' && !(under_valgrind() && belongs_to_valgrind(atoi(entry->d_name)))) count++;
    closedir(folder);
    return count;
}

static inline void list_descriptors(void) {
    for (int fd = 0; fd < 4096; fd++) {
        char link[64], target[256];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof target - 1);
        if (n < 0) continue;
        target[n] = '\0';
        dprintf(2, "  [pid %d] descriptor %d: %s\n", (int)getpid(), fd, target);
    }
}

/* The flags of a disposition without SA_RESTORER, which the C library adds to whatever it sets and hides in no way. */
static inline int plain_flags(const struct sigaction *action) { return action->sa_flags & ~0x04000000; }

static inline int no_child_left(void) { return waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD; }

static inline int pidfd_of(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

static inline int gone_now(pid_t pid) {
    char name[64], text[512];
    snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (n <= 0) return 1;
    text[n] = '\0';
    const char *state = strrchr(text, ')');
    return state != NULL && (state[2] == 'Z' || state[2] == 'X');
}

/* Whether the process is gone (a zombie is) within the time. */
static inline int gone_within(pid_t pid, int ms) {
    int fd = pidfd_of(pid);
    if (fd < 0 && errno == ESRCH) return 1;
    if (fd < 0) { /* valgrind does not know the call */
        long long deadline = now_ms() + (long long)ms * check_slow();
        while (!gone_now(pid) && now_ms() < deadline) nap(2);
        return gone_now(pid);
    }
    int gone = readable_within(fd, ms * check_slow());
    close(fd);
    return gone;
}

static inline const char *check_self(void) {
    static char path[PATH_MAX];
    if (path[0] == '\0') {
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
        path[n > 0 ? n : 0] = '\0';
    }
    return path;
}

/* Starts this program again in a case of its own, with standard output into `output` where that is not negative. */
static inline pid_t start_role(const char *name, int output) {
    const char *path = check_self();
    pid_t pid = fork();
    if (pid != 0) return pid;
    if (output >= 0) dup2(output, 1);
    execl(path, path, name, (char *)NULL);
    _exit(126);
}

static inline int wait_status(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, __WALL) < 0)
        if (errno != EINTR) return -1;
    return status;
}

static inline void wait_success(pid_t pid, const char *file, int line) {
    int status = wait_status(pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHECK_SKIPPED) _exit(CHECK_SKIPPED);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) check_fail(file, line, "child ended with status %#x", status);
}
#define WAIT_SUCCESS(pid) wait_success(pid, __FILE__, __LINE__)

static inline const char *case_path(const char *name) {
    static char path[4][PATH_MAX];
    static int turn;
    char *one = path[turn++ % 4];
    const char *folder = getenv("CHECK_DIR");
    snprintf(one, PATH_MAX, "%s/%s", folder != NULL ? folder : "/tmp", name);
    return one;
}

/* -- The cases one after another --------------------------------------------------------------------------------- */

/* How many descriptors the case may have at its end; helpers raise it when they warm up what lasts. */
static int check_baseline;
static int check_ignore_descriptors;

static inline int run_here(const check_case_t *one) {
    check_baseline = count_descriptors();
    one->body();
    if (!no_child_left()) check_fail(one->name, 0, "a child is left");
    /* The primary leaves to a thread what might hold it up: an inherited file's last close, what a worker attached. */
    for (int i = 0; i < 2000 && !check_ignore_descriptors && count_descriptors() != check_baseline; i++) poll(NULL, 0, 1);
    if (!check_ignore_descriptors && count_descriptors() != check_baseline) {
        list_descriptors();
        check_fail(one->name, 0, "%d descriptors at the end, %d expected", count_descriptors(), check_baseline);
    }
    return 0;
}

static inline void remove_tree(const char *path) {
    DIR *folder = opendir(path);
    for (struct dirent *entry = folder != NULL ? readdir(folder) : NULL; entry != NULL; entry = readdir(folder)) {
        char name[PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(name, sizeof name, "%.2000s/%.255s", path, entry->d_name);
        if (unlink(name) != 0) remove_tree(name);
    }
    if (folder != NULL) closedir(folder);
    rmdir(path);
}

/* Names, ends and reaps what the case left behind; workers have a moment to see that their primary is gone. */
static inline int reap_leftovers(void) {
    int left = 0;
    long long deadline = now_ms() + 1500LL * check_slow();
    while (!no_child_left()) {
        char name[64], list[1024] = "";
        if (now_ms() < deadline) {
            nap(5);
            continue;
        }
        snprintf(name, sizeof name, "/proc/self/task/%d/children", (int)getpid());
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, list, sizeof list - 1) <= 0) list[0] = '\0';
        close(fd);
        for (char *pid = strtok(list, " "); pid != NULL; pid = strtok(NULL, " ")) {
            dprintf(2, "check failed: process %s is left\n", pid);
            left++;
            kill((pid_t)atoi(pid), SIGKILL);
            waitpid((pid_t)atoi(pid), NULL, __WALL);
        }
    }
    return left;
}

static inline int run_apart(const check_case_t *one, int *skipped) {
    char folder[] = "/tmp/check-XXXXXX";
    char text[16384];
    int output = SYS(memfd_create("output", MFD_CLOEXEC));
    int error = dup(2);
    if (mkdtemp(folder) == NULL || setenv("CHECK_DIR", folder, 1) != 0) return 1;
    pid_t pid = fork();
    if (pid == 0) {
        int nothing = open("/dev/null", O_RDONLY);
        dup2(nothing, 0);
        dup2(output, 1);
        dup2(output, 2);
        syscall(SYS_close_range, 3, ~0U, 0);
        execl(check_self(), check_self(), one->name, (char *)NULL);
        _exit(126);
    }
    dup2(output, 2);
    if (!gone_within(pid, CHECK_CASE_LIMIT_MS / (check_slow() > 4 ? 2 : 1))) {
        dprintf(2, "check failed: the case did not end in time\n");
        kill(pid, SIGABRT);
        if (!gone_within(pid, 1000)) kill(pid, SIGKILL);
    }
    int status = wait_status(pid);
    reap_leftovers();
    remove_tree(folder);
    dup2(error, 2);
    close(error);
    ssize_t length = pread(output, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    close(output);
    int failed = strstr(text, "check failed") != NULL || strstr(text, "runtime error") != NULL;
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHECK_SKIPPED && !failed) {
        const char *why = strstr(text, "skipped: ");
        printf("  skip %s: %s", one->name, why != NULL ? why + 9 : "it did not say why\n");
        ++*skipped;
        return 0;
    }
    failed = failed || status != 0;
    printf("  %s %s\n", failed ? "FAIL" : "ok  ", one->name);
    if (failed) printf("%s    (status %#x)\n", text, status);
    fflush(stdout);
    return failed;
}

/* A network of its own where that is allowed, so that no port is by chance another program's; else the one there is. */
static inline void own_network(void) {
    struct ifreq loopback;
    if (unshare(CLONE_NEWNET) != 0) return;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ZERO(loopback);
    strcpy(loopback.ifr_name, "lo");
    loopback.ifr_flags = IFF_UP | IFF_RUNNING;
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &loopback) != 0) dprintf(2, "the loopback interface of the new network stays down\n");
    close(fd);
}

static inline int check_main(int argc, char **argv, const check_case_t *cases, size_t count) {
    int failed = 0, skipped = 0;
    if (argc > 1 && strcmp(argv[1], "--only") != 0) {
        for (size_t i = 0; i < count; i++)
            if (strcmp(argv[1], cases[i].name) == 0) return run_here(&cases[i]);
        return 125;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    own_network();
    check_self();
    for (size_t i = 0; i < count; i++) {
        if (cases[i].name[0] == '_' || (argc > 2 && strcmp(argv[2], cases[i].name) != 0)) continue;
        failed += run_apart(&cases[i], &skipped);
    }
    return failed > 0 ? 1 : skipped == (int)count ? CHECK_SKIPPED : 0;
}

#endif
