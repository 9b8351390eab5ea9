/* A process that was started as a worker never starts workers, whatever kept it from joining: a call that a filter refuses, a limit,
 * a closed descriptor, a damaged environment. Each that did would be started again, and start some. What is tried here to be started
 * is /bin/true, so that a defect does not multiply. */
#include "filter.h"
#include "primary.h"


static int answers_42(void *unused) {
    (void)unused;
    return 42;
}

/* cl_fork, cl_spawn and cl_serve start nothing; in a worker that joined, cl_serve runs its function. */
static void expect_starts_nothing(void) {
    static char program[] = "/bin/true";
    char *argv[] = {program, NULL};
    cl_spawn_options_t options;
    int worker = cl_is_worker(), primary = cl_is_primary(), code;
    ZERO(options);
    options.size = sizeof options;
    options.file = program;
    options.argv = argv;
    CHECK((worker == 1 && primary == 0) || (worker == 0 && primary == 1) || (worker < 0 && worker == primary));
    code = cl_spawn(&options);
    if (code >= 0) check_fail(__FILE__, __LINE__, "cl_spawn is %d with cl_is_worker %d", code, worker);
    CHECK(cl_last_error()[0] != '\0');
    if (worker == 0) CHECK_EQ(code, -ENOTCONN);
    if (worker == 1) CHECK_EQ(code, -EPERM);
    code = cl_fork();
    if (code >= 0) check_fail(__FILE__, __LINE__, "cl_fork is %d with cl_is_worker %d", code, worker);
    if (worker == 0) CHECK_EQ(code, -ENOTCONN);
    if (worker == 1) CHECK_EQ(code, -EPERM);
    code = cl_serve(2, answers_42, NULL);
    if (code >= 0 && !(worker == 1 && code == 42)) check_fail(__FILE__, __LINE__, "cl_serve is %d with cl_is_worker %d", code, worker);
    if (worker == 0) CHECK_EQ(code, -ENOTCONN);
}

/* Either it works or it says why not. */
static int expect_worker_or_reason(void) {
    int listener = cl_listen("127.0.0.1:0", 0);
    if (listener < 0 && cl_is_worker() == 1) CHECK(strlen(cl_last_error()) > 10);
    return listener;
}

/* -- Refused calls ------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    long number;
    int errnos[4];
} call_t;

static const call_t calls[] = {
    {"clone3", SYS_clone3, {EPERM, ENOSYS, EAGAIN, ENOMEM}},
    {"recvmsg", SYS_recvmsg, {EPERM, ENOSYS, ENOMEM, 0}},
    {"sendmsg", SYS_sendmsg, {EPERM, ENOSYS, EINVAL, 0}},
    {"fcntl", SYS_fcntl, {EPERM, ENOSYS, EMFILE, EINVAL}},
    {"getsockopt", SYS_getsockopt, {EPERM, ENOSYS, 0, 0}},
    {"getsockname", SYS_getsockname, {EPERM, ENOSYS, 0, 0}},
    {"setsockopt", SYS_setsockopt, {EPERM, ENOSYS, 0, 0}},
    {"mmap", SYS_mmap, {EPERM, ENOMEM, 0, 0}},
    {"madvise", SYS_madvise, {EPERM, ENOSYS, EINVAL, 0}},
    {"mprotect", SYS_mprotect, {EPERM, ENOMEM, 0, 0}},
    {"rt_sigprocmask", SYS_rt_sigprocmask, {EPERM, ENOSYS, 0, 0}},
    {"rt_sigaction", SYS_rt_sigaction, {EPERM, ENOSYS, 0, 0}},
    {"epoll_create1", SYS_epoll_create1, {EPERM, ENOSYS, EMFILE, 0}},
    {"epoll_ctl", SYS_epoll_ctl, {EPERM, ENOSYS, ENOMEM, 0}},
    {"eventfd2", SYS_eventfd2, {EPERM, ENOSYS, EMFILE, 0}},
    {"sched_getaffinity", SYS_sched_getaffinity, {EPERM, ENOSYS, 0, 0}},
    {"prlimit64", SYS_prlimit64, {EPERM, ENOSYS, 0, 0}},
    {"getrandom", SYS_getrandom, {EPERM, ENOSYS, 0, 0}},
    {"shutdown", SYS_shutdown, {EPERM, ENOSYS, 0, 0}},
    {"pidfd_send_signal", SYS_pidfd_send_signal, {EPERM, ENOSYS, 0, 0}},
    {"pidfd_open", SYS_pidfd_open, {EPERM, ENOSYS, 0, 0}},
    {"socketpair", SYS_socketpair, {EPERM, ENOSYS, EMFILE, 0}},
    {"close_range", SYS_close_range, {EPERM, ENOSYS, 0, 0}},
    {"unshare", SYS_unshare, {EPERM, ENOSYS, 0, 0}},
    {"timerfd_create", SYS_timerfd_create, {EPERM, ENOSYS, 0, 0}},
    {"close", SYS_close, {EPERM, EIO, 0, 0}},
};

static void refused_one(void) {
    refuse_call(atol(getenv("JOIN_CALL")), atoi(getenv("JOIN_ERRNO")));
    check_ignore_descriptors = 1;
    (void)expect_worker_or_reason();
    expect_starts_nothing();
    _exit(0);
}

static int spawn_role(const char *role) {
    static char program[] = "joining";
    char name[64];
    char *argv[] = {program, name, NULL};
    cl_spawn_options_t options;
    snprintf(name, sizeof name, "%s", role);
    ZERO(options);
    options.size = sizeof options;
    options.argv = argv;
    return OK(cl_spawn(&options));
}

static void expect_good_end(int id, const char *what, int with) {
    const seen_t *end = await_exit(id, 8000);
    if (end->exit_code == CHECK_SKIPPED) check_skip("seccomp filters are not allowed here");
    if (end->exit_code != 0) check_fail(__FILE__, __LINE__, "%s (%d): exit code %d, signal %d", what, with, end->exit_code, end->signal);
}

static void refused_calls(void) {
    char text[32];
    primary_ready(leave_at_once);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        for (int j = 0; j < 4 && calls[i].errnos[j] != 0; j++) {
            snprintf(text, sizeof text, "%ld", calls[i].number);
            setenv("JOIN_CALL", text, 1);
            snprintf(text, sizeof text, "%d", calls[i].errnos[j]);
            setenv("JOIN_ERRNO", text, 1);
            expect_good_end(spawn_role("_refused_one"), calls[i].name, calls[i].errnos[j]);
        }
    finish();
}

/* The refused call is that of a thread: the worker goes on without it, and the kernel's lifeline does its work. */
static void threadless_worker(void) {
    refuse_call(SYS_clone3, EPERM);
    check_ignore_descriptors = 1;
    CHECK_EQ(cl_is_worker(), 1);
    exit(serve_any_port());
}

static void threadless_primary(void) {
    primary_ready(leave_at_once);
    int id = spawn_role("_threadless_worker");
    int port = await_listening(id, 1);
    CHECK_EQ(ask(port), id);
    printf("%d\n", pid_of(id));
    fflush(stdout);
    for (;;) turn(1000);
}

static void without_thread(void) {
    int output[2], pid;
    char text[32];
    SYS(pipe2(output, O_CLOEXEC));
    pid_t primary = start_role("_threadless_primary", output[1]);
    close(output[1]);
    CHECK(readable_within(output[0], 8000 * check_slow()));
    ssize_t n = read(output[0], text, sizeof text - 1);
    if (n <= 0) check_skip("seccomp filters are not allowed here, or the worker did not serve");
    text[n] = '\0';
    pid = atoi(text);
    CHECK(pid > 0);
    SYS(kill(primary, SIGKILL));
    (void)wait_status(primary);
    CHECK(gone_within(pid, 1000));
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
    close(output[0]);
}

/* The same in cl_serve, whose workers are forked and fall under the filter as their primary does. */
static int serve_port(void *port) {
    int listener = cl_listen((const char *)port, 0);
    if (listener < 0) dprintf(2, "worker: %s\n", cl_last_error());
    return listener < 0 ? 1 : serve_listener(listener);
}

static void all_served(void) {
    check_ignore_descriptors = 1;
    refuse_call(SYS_clone3, EPERM);
    CHECK_EQ(cl_serve(2, serve_port, getenv("JOIN_ADDRESS")), 0);
}

static void serves_without_threads(void) {
    char address[64];
    int port = free_port(), client = -1, answered = 0;
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    setenv("JOIN_ADDRESS", address, 1);
    pid_t primary = start_role("_served", -1);
    WAIT_UNTIL((client = try_connect4(port)) >= 0 || gone_now(primary), 8000);
    if (client >= 0) {
        char text[64];
        answered = receive_all(client, text, sizeof text) > 0;
        close(client);
        SYS(kill(primary, SIGTERM));
    }
    int status = wait_status(primary);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHECK_SKIPPED) _exit(CHECK_SKIPPED);
    CHECK(answered);
    CHECK_EQ(status, 0);
}

/* -- Limits -------------------------------------------------------------------------------------------------------- */

/* The channel is there, but no number for what comes with the hello: it is a worker, and says so. */
static void no_descriptor(void) {
    struct rlimit limit;
    check_ignore_descriptors = 1;
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = 3;
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
    CHECK_EQ(cl_is_worker(), 1);
    CHECK_EQ(cl_is_primary(), 0);
    CHECK(cl_worker_id() > 0);
    CHECK(cl_worker_slot() >= 0);
    CHECK_EQ(cl_listen("127.0.0.1:0", 0), -EMFILE);
    CHECK(strstr(cl_last_error(), "could not join") != NULL && strstr(cl_last_error(), "hello") != NULL);
    CHECK_EQ(cl_send("x", 1), -EMFILE);
    CHECK_EQ(cl_receive(NULL, 0, 0), -EMFILE);
    CHECK_EQ(cl_channel_fd(), -EMFILE);
    CHECK_EQ(cl_set_load(1), -EMFILE);
    CHECK_EQ(cl_disconnect(), -EMFILE);
    expect_starts_nothing();
    /* It stays so when there is room again. */
    limit.rlim_cur = limit.rlim_max;
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
    CHECK_EQ(cl_is_worker(), 1);
    CHECK_EQ(cl_listen("127.0.0.1:0", 0), -EMFILE);
    expect_starts_nothing();
    _exit(0);
}

static void no_memory(void) {
    struct rlimit limit;
    check_ignore_descriptors = 1;
    limit.rlim_cur = limit.rlim_max = 1 << 20;
    SYS(setrlimit(RLIMIT_AS, &limit));
    (void)expect_worker_or_reason();
    expect_starts_nothing();
    _exit(0);
}

static void limits(void) {
    primary_ready(leave_at_once);
    expect_good_end(spawn_role("_no_descriptor"), "RLIMIT_NOFILE", 3);
    if (!under_valgrind()) expect_good_end(spawn_role("_no_memory"), "RLIMIT_AS", 1 << 20);
    finish();
}

/* -- The environment and the descriptors --------------------------------------------------------------------------- */

static void expect_stray(void) {
    CHECK_EQ(cl_is_primary(), 1);
    CHECK_EQ(cl_is_worker(), 0);
    CHECK_EQ(cl_worker_id(), 0);
    expect_starts_nothing();
    CHECK(getenv("CL_WORKER_ID") == NULL && getenv("CL_WORKER_SLOT") == NULL && getenv("CL_CHANNEL_FD") == NULL);
    _exit(0);
}

static void closed_first(void) {
    check_ignore_descriptors = 1;
    syscall(SYS_close_range, 3, ~0U, 0);
    CHECK_EQ(cl_is_primary(), 1);
    CHECK_EQ(cl_fork(), -ENOTCONN);
    CHECK(strstr(cl_last_error(), "closefrom") != NULL);
    expect_stray();
}

static void something_else(void) {
    int pair[2], channel = atoi(getenv("CL_CHANNEL_FD"));
    check_ignore_descriptors = 1;
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    SYS(dup2(pair[0], channel));
    expect_stray();
}

static void changed(void) {
    const char *name = getenv("JOIN_NAME"), *value = getenv("JOIN_VALUE");
    check_ignore_descriptors = 1;
    if (strcmp(name, "all") == 0) {
        unsetenv("CL_WORKER_ID");
        unsetenv("CL_WORKER_SLOT");
        unsetenv("CL_CHANNEL_FD");
    } else if (value == NULL) {
        unsetenv(name);
    } else {
        setenv(name, value, 1);
    }
    expect_stray();
}

static void damaged_environment(void) {
    static const char *const names[] = {"CL_WORKER_ID", "CL_WORKER_SLOT", "CL_CHANNEL_FD"};
    static const char *const values[] = {NULL, "", "x", "-1", " 1", "+1", "77777", "99999999999", "0x1", "1 2"};
    primary_ready(leave_at_once);
    for (int i = 0; i < 3; i++)
        for (size_t j = 0; j < sizeof values / sizeof values[0]; j++) {
            setenv("JOIN_NAME", names[i], 1);
            if (values[j] != NULL) setenv("JOIN_VALUE", values[j], 1);
            else unsetenv("JOIN_VALUE");
            expect_good_end(spawn_role("_changed"), names[i], (int)j);
        }
    /* Somebody has cleared it, and the channel is still there. */
    setenv("JOIN_NAME", "all", 1);
    expect_good_end(spawn_role("_changed"), "all", 0);
    finish();
}

static void lost_channel(void) {
    primary_ready(leave_at_once);
    expect_good_end(spawn_role("_closed_first"), "closed", 0);
    expect_good_end(spawn_role("_something_else"), "another socket", 0);
    finish();
}

/* Nothing in the environment: everything is as ever. */
static void plain_primary(void) {
    primary_ready(serve_any_port);
    int id = fork_worker();
    CHECK_EQ(ask(await_listening(id, 1)), id);
    finish();
}

static void daemon_after(void) {
    CHECK_EQ(cl_is_primary(), 1);
    pid_t child = fork();
    if (child == 0) {
        CHECK_EQ(cl_serve(1, answers_42, NULL), -ECHILD);
        CHECK(strstr(cl_last_error(), "daemon(3)") != NULL);
        _exit(0);
    }
    WAIT_SUCCESS(child);
}

/* -- Other programs in a worker ------------------------------------------------------------------------------------- */

static int run_role(const char *role) {
    static char program[] = "joining";
    char name[16];
    char *argv[] = {program, name, NULL};
    snprintf(name, sizeof name, "%s", role);
    setenv("JOIN_AGAIN", "1", 1);
    SYS(execv("/proc/self/exe", argv));
    return 1;
}

/* A worker that runs its program anew is still that process. */
static void again(void) {
    check_ignore_descriptors = 1;
    if (getenv("JOIN_AGAIN") != NULL) {
        cl_is_worker();
        CHECK(getenv("CL_WORKER_PROCESS") == NULL);
        expect_stray();
    }
    CHECK_EQ(cl_is_worker(), 1);
    exit(run_role("_again"));
}

static int runs_again(void) { return run_role("_again"); }

static void another_program(void) {
    primary_ready(runs_again);
    expect_good_end(spawn_role("_again"), "spawned", 0);
    expect_good_end(fork_worker(), "forked", 0);
    finish();
}

/* A program that a worker starts in a child of its own has nothing to do with that. */
static void of_its_own(void) {
    static char program[] = "/bin/true";
    char *argv[] = {program, NULL};
    cl_spawn_options_t options;
    check_ignore_descriptors = 1;
    if (getenv("JOIN_AGAIN") == NULL) {
        CHECK_EQ(cl_is_worker(), 1);
        pid_t child = SYS(fork());
        if (child == 0) _exit(run_role("_of_its_own"));
        WAIT_SUCCESS(child);
        exit(0);
    }
    ZERO(options);
    options.size = sizeof options;
    options.file = program;
    options.argv = argv;
    CHECK_EQ(cl_is_primary(), 1);
    OK(cl_spawn(&options));
    OK(cl_stop(0));
    cl_run();
    exit(0);
}

static void cluster_of_a_child(void) {
    primary_ready(leave_at_once);
    expect_good_end(spawn_role("_of_its_own"), "child", 0);
    finish();
}

static const check_case_t cases[] = {
    {"refused_calls", refused_calls},
    {"_refused_one", refused_one},
    {"without_thread", without_thread},
    {"_threadless_primary", threadless_primary},
    {"_threadless_worker", threadless_worker},
    {"serves_without_threads", serves_without_threads},
    {"_served", all_served},
    {"limits", limits},
    {"_no_descriptor", no_descriptor},
    {"_no_memory", no_memory},
    {"damaged_environment", damaged_environment},
    {"_changed", changed},
    {"lost_channel", lost_channel},
    {"_closed_first", closed_first},
    {"_something_else", something_else},
    {"another_program", another_program},
    {"_again", again},
    {"cluster_of_a_child", cluster_of_a_child},
    {"_of_its_own", of_its_own},
    {"plain_primary", plain_primary},
    {"daemon_after", daemon_after},
};
CHECK_MAIN(cases)
