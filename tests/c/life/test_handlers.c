/* What the manual allows in a signal handler takes no memory there, also where it fails: a handler that has interrupted malloc(3) would
 * wait for itself. This program's malloc counts what is asked of it inside of a handler. */
#include "primary.h"
#include <pthread.h>

static __thread volatile int in_handler;
static volatile int asked; /* of malloc and its like, in a handler */

/* In C++, and under tools that have a malloc of their own, nothing is counted. */
#if !defined(__cplusplus) && !defined(__SANITIZE_ADDRESS__) && defined(__GLIBC__)
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
void *malloc(size_t size) { asked += in_handler; return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { asked += in_handler; return __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { asked += in_handler; return __libc_realloc(old, size); }
void *memalign(size_t by, size_t size) { asked += in_handler; return __libc_memalign(by, size); }
void *aligned_alloc(size_t by, size_t size) { asked += in_handler; return __libc_memalign(by, size); }
int posix_memalign(void **to, size_t by, size_t size) {
    asked += in_handler;
    *to = __libc_memalign(by, size);
    return *to == NULL ? ENOMEM : 0;
}
void free(void *old) { asked += in_handler && old != NULL; __libc_free(old); }
static const int counts = 1;
#else
static const int counts = 0;
#endif

static volatile int codes[8];

static void nothing_was_asked(const char *where) {
    if (asked != 0) check_fail(__FILE__, __LINE__, "%s: malloc or free was called %d times in a handler", where, asked);
}

static void on_worker_signal(int number) {
    int kept = errno;
    (void)number;
    in_handler = 1;
    errno = 4711;
    codes[0] = cl_set_load(7);
    codes[1] = cl_disconnect();
    codes[2] = cl_stop(0);
    codes[3] = errno;
    in_handler = 0;
    errno = kept;
}

static void on_text_signal(int number) {
    (void)number;
    in_handler = 1;
    for (int code = 10; code > -5000; code--) {
        codes[0] += cl_strerror(code)[0] == '\0';
        codes[0] += cl_err_name(code)[0] == '\0';
    }
    codes[0] += cl_version_number() == 0;
    codes[0] += cl_version()[0] == '\0';
    in_handler = 0;
}

static void on_primary_signal(int number) {
    (void)number;
    in_handler = 1;
    codes[0] = cl_stop(100);
    in_handler = 0;
}

static void handle(int number, void (*handler)(int)) {
    struct sigaction action;
    ZERO(action);
    action.sa_handler = handler;
    SYS(sigaction(number, &action, NULL));
}

/* This thread has called nothing of the library's. */
static void *raise_here(void *number) {
    SYS(raise(*(int *)number));
    return NULL;
}

static void raise_in_a_new_thread(int number) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, raise_here, &number), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* -- A worker whose primary lives, and dies ------------------------------------------------------------------------- */

/* It inherits the role's standard output, a pipe of the case, and says there what it found. */
static int with_and_without_a_primary(void) {
    handle(SIGUSR1, on_worker_signal);
    CHECK_EQ(cl_is_worker(), 1);
    for (int thread = 0; thread < 2; thread++) {
        if (thread) raise_in_a_new_thread(SIGUSR1);
        else SYS(raise(SIGUSR1));
        CHECK_EQ(codes[0], 0);
        CHECK_EQ(codes[1], 0);
        CHECK_EQ(codes[2], -EPERM);
        CHECK_EQ(codes[3], 4711);
        nothing_was_asked("with a primary");
    }
    OK(cl_send("ready", 5));
    /* The first that hears of the primary's death is a handler. The kernel closes one descriptor after another. */
    long long deadline = now_ms() + 600;
    for (int thread = 0; codes[1] != -EPIPE && now_ms() < deadline; thread ^= 1) {
        if (thread) raise_in_a_new_thread(SIGUSR1);
        else SYS(raise(SIGUSR1));
    }
    CHECK_EQ(codes[1], -EPIPE);
    CHECK_EQ(codes[2], -EPERM);
    nothing_was_asked("without a primary");
    SYS(raise(SIGUSR1));
    CHECK_EQ(codes[1], -EPIPE);
    CHECK(cl_last_error()[0] != '\0'); /* of cl_stop */
    CHECK_EQ(cl_disconnect(), -EPIPE);
    CHECK(strstr(cl_last_error(), "gone") != NULL);
    nothing_was_asked("once more without a primary");
    CHECK_EQ(write(1, "well\n", 5), 5);
    _exit(0);
}

static void role_primary(int spawned) {
    if (worker_side()) with_and_without_a_primary();
    worker_main = with_and_without_a_primary;
    OK(cl_on_event(remember_event, NULL));
    int id = spawned ? spawn_worker() : fork_worker();
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 5000);
    _exit(0);
}

static void role_forked(void) { role_primary(0); }
static void role_spawned(void) { role_primary(1); }

static void dies(const char *role) {
    int output[2];
    char line[16] = "";
    SYS(pipe2(output, O_CLOEXEC));
    pid_t pid = start_role(role, output[1]);
    close(output[1]);
    CHECK_EQ(readable_within(output[0], 10000), 1);
    CHECK_EQ(read(output[0], line, sizeof line - 1), 5);
    CHECK_EQ(strcmp(line, "well\n"), 0);
    close(output[0]);
    WAIT_SUCCESS(pid);
}

static void worker_forked(void) { dies("_forked"); }
static void worker_spawned(void) { dies("_spawned"); }

/* -- A worker that has closed its channel --------------------------------------------------------------------------- */

static int without_a_channel(void) {
    handle(SIGUSR1, on_worker_signal);
    CHECK_EQ(cl_is_worker(), 1);
    syscall(SYS_close_range, 3, ~0U, 0);
    SYS(raise(SIGUSR1));
    raise_in_a_new_thread(SIGUSR1);
    CHECK(codes[1] == -EBADF || codes[1] == -EPIPE);
    nothing_was_asked("without a channel");
    CHECK_EQ(cl_disconnect(), codes[1]);
    CHECK(strlen(cl_last_error()) > 4);
    return 0;
}

static void closed_channel(int spawned) {
    if (spawned && worker_side()) {
        without_a_channel();
        return;
    }
    primary_ready(without_a_channel);
    int id = spawned ? spawn_worker() : fork_worker();
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    finish();
}

static void closed_channel_forked(void) { closed_channel(0); }
static void closed_channel_spawned(void) { closed_channel(1); }

/* -- A worker that could not join ----------------------------------------------------------------------------------- */

/* No descriptor is free for what the hello brings. */
static void unjoined(void) {
    if (getenv("CHECK_UNJOINED") != NULL) {
        struct rlimit limit;
        check_ignore_descriptors = 1;
        handle(SIGUSR1, on_worker_signal);
        SYS(getrlimit(RLIMIT_NOFILE, &limit));
        limit.rlim_cur = 3;
        SYS(setrlimit(RLIMIT_NOFILE, &limit));
        CHECK_EQ(cl_is_worker(), 1);
        raise_in_a_new_thread(SIGUSR1);
        SYS(raise(SIGUSR1));
        CHECK(codes[0] < 0 && codes[0] != -EPERM);
        CHECK_EQ(codes[1], codes[0]);
        nothing_was_asked("unjoined");
        CHECK_EQ(cl_disconnect(), codes[0]);
        CHECK(strstr(cl_last_error(), "could not join") != NULL);
        return;
    }
    primary_ready(leave_at_once);
    SYS(setenv("CHECK_UNJOINED", "1", 1));
    CHECK_EQ(await_exit(spawn_worker(), 5000)->exit_code, 0);
    finish();
}

/* -- The primary, and who is nobody --------------------------------------------------------------------------------- */

static void stop(void) {
    handle(SIGUSR1, on_primary_signal);
    /* Before anything was called; in header-only code before the library was loaded. */
    codes[0] = -1;
    SYS(raise(SIGUSR1));
    CHECK_EQ(codes[0], 0);
    nothing_was_asked("first of all");
    CHECK_EQ(cl_is_primary(), 1);
    SYS(raise(SIGUSR1));
    CHECK_EQ(codes[0], 0);
    nothing_was_asked("without a worker");
    primary_ready(serve_any_port);
    int id = fork_worker();
    await_listening(id, 1);
    raise_in_a_new_thread(SIGUSR1);
    CHECK_EQ(codes[0], 0);
    nothing_was_asked("with a worker");
    CHECK_EQ(cl_run(), 0);
    pid_t child = SYS(fork());
    if (child == 0) {
        SYS(raise(SIGUSR1));
        CHECK_EQ(codes[0], -ECHILD);
        nothing_was_asked("in a copy");
        _exit(0);
    }
    WAIT_SUCCESS(child);
}

static void texts(void) {
    handle(SIGUSR1, on_text_signal);
    codes[0] = 0;
    SYS(raise(SIGUSR1));
    raise_in_a_new_thread(SIGUSR1);
    CHECK_EQ(codes[0], 0);
    nothing_was_asked("texts");
}

/* The counter itself. */
static void on_malloc_signal(int number) {
    (void)number;
    in_handler = 1;
    void *volatile taken = malloc(100);
    free(taken);
    in_handler = 0;
}

static void counted(void) {
    if (!counts) check_skip("malloc cannot be replaced here");
    handle(SIGUSR1, on_malloc_signal);
    SYS(raise(SIGUSR1));
    CHECK_EQ(asked, 2);
}

static const check_case_t cases[] = {
    {"worker_forked", worker_forked}, {"worker_spawned", worker_spawned},
    {"closed_channel_forked", closed_channel_forked}, {"closed_channel_spawned", closed_channel_spawned},
    {"unjoined", unjoined}, {"stop", stop}, {"texts", texts}, {"counted", counted},
    {"_forked", role_forked}, {"_spawned", role_spawned},
};
CHECK_MAIN(cases)
