/* The primary is killed: whoever is inside the library hears -EPIPE at once, everybody else is gone within a second. */
#include "primary.h"
#include <pthread.h>

/* A role prints the pids of its workers, one line "name pid" each, on standard output, which is a pipe of the case.
 * The workers share that pipe: end of file means that the last of them is gone. */
static void say(const char *name) {
    char line[64];
    int n = snprintf(line, sizeof line, "%s %d\n", name, (int)getpid());
    CHECK_EQ(write(1, line, (size_t)n), n);
}

static void expect_gone(int code, const char *name) {
    CHECK_EQ(code, -EPIPE);
    say(name);
    _exit(0);
}

static int in_accept(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    say("accept");
    expect_gone(cl_accept(listener, NULL, NULL), "accept-heard");
    return 0;
}

static int in_receive(void) {
    char text[8];
    say("receive");
    expect_gone(cl_receive(text, sizeof text, -1), "receive-heard");
    return 0;
}

/* An own loop over our descriptors is woken, and each call after that says what happened. */
static int in_poll(void) {
    struct pollfd both[2];
    char text[8];
    cl_listen_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.address = "127.0.0.1:0";
    options.flags = CL_LISTEN_NONBLOCK;
    both[0].fd = OK(cl_listen_with(&options));
    both[1].fd = OK(cl_channel_fd());
    both[0].events = both[1].events = POLLIN;
    say("poll");
    while (poll(both, 2, -1) < 0) {}
    CHECK_EQ(cl_receive(text, sizeof text, 1000), -EPIPE);
    CHECK_EQ(readable_within(both[0].fd, 500), 1);
    CHECK_EQ(cl_send("x", 1), -EPIPE);
    CHECK_EQ(cl_listen("0.0.0.0:0", 0), -EPIPE);
    expect_gone(cl_accept(both[0].fd, NULL, NULL), "poll-heard");
    return 0;
}

static void *thread_in_accept(void *argument) {
    expect_gone(cl_accept(*(int *)argument, NULL, NULL), "thread-heard");
    return NULL;
}

static int in_thread(void) {
    pthread_t thread;
    static int listener;
    listener = OK(cl_listen("0.0.0.0:0", 0));
    CHECK_EQ(pthread_create(&thread, NULL, thread_in_accept, &listener), 0);
    say("thread");
    pthread_join(thread, NULL);
    return 0;
}

static int in_own_socket(void) {
    cl_listen_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.address = "127.0.0.1:0";
    options.flags = CL_LISTEN_EXCLUSIVE;
    int listener = OK(cl_listen_with(&options));
    say("own");
    expect_gone(cl_accept(listener, NULL, NULL), "own-heard");
    return 0;
}

static int busy(void) {
    OK(cl_listen("127.0.0.1:0", 0));
    say("busy");
    for (volatile unsigned long n = 0;; n++) {}
    return 0;
}

static int busy_and_deaf(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    return busy();
}

static int elsewhere(void) {
    cl_is_worker(); /* all it ever asks */
    say("elsewhere");
    for (;;) nap(100000);
    return 0;
}

static int stops_itself(void) {
    OK(cl_listen("127.0.0.1:0", 0));
    say("stopped");
    raise(SIGSTOP);
    for (;;) nap(100000);
    return 0;
}

static const struct {
    const char *name;
    int (*body)(void);
    int hears; /* has time for a word after it heard */
} kinds[] = {
    {"accept", in_accept, 1}, {"receive", in_receive, 1}, {"poll", in_poll, 1}, {"thread", in_thread, 1}, {"own", in_own_socket, 1},
    {"busy", busy, 0}, {"busy", busy_and_deaf, 0}, {"elsewhere", elsewhere, 0}, {"stopped", stops_itself, 0},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* -- The primary that will be killed ------------------------------------------------------------------------------ */

static int kind;
static int run_kind(void) { return kinds[kind].body(); }

static void primary(int spawned) {
    if (spawned && worker_side()) {
        kind = atoi(getenv("CHECK_KIND"));
        exit(run_kind());
    }
    worker_main = run_kind;
    for (kind = 0; kind < KINDS; kind++) {
        char number[16];
        snprintf(number, sizeof number, "%d", kind);
        setenv("CHECK_KIND", number, 1);
        if (spawned) spawn_worker();
        else fork_worker();
    }
    say("primary");
    for (;;) turn(-1);
}

static void primary_forks(void) { primary(0); }
static void primary_spawns(void) { primary(1); }

/* Kills the primary once everybody is in place, and watches all of them go. */
static void kill_primary(const char *role) {
    int ends[2], pids[KINDS + 1], count = 0, heard = 0, wanted = 0;
    char line[64], name[32];
    SYS(pipe2(ends, O_CLOEXEC));
    pid_t primary_pid = start_role(role, ends[1]);
    close(ends[1]);
    while (count < KINDS + 1) {
        if (!readable_within(ends[0], 10000)) check_fail(__FILE__, __LINE__, "only %d are in place", count);
        CHECK(receive_line(ends[0], line, sizeof line) > 0);
        CHECK_EQ(sscanf(line, "%31s %d", name, &pids[count++]), 2);
    }
    /* In place means: inside the call or asleep. The stopped one shows. */
    for (int i = 0; i < count; i++) CHECK_EQ(kill(pids[i], 0), 0);
    nap(100);
    long long start = now_ms();
    SYS(kill(primary_pid, SIGKILL));
    int status = wait_status(primary_pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (;;) {
        if (!readable_within(ends[0], 3000 * check_slow())) check_fail(__FILE__, __LINE__, "somebody stays");
        if (receive_line(ends[0], line, sizeof line) <= 0) break;
        CHECK(strstr(line, "-heard ") != NULL);
        heard++;
        if (now_ms() - start > 500LL * check_slow()) check_fail(__FILE__, __LINE__, "%s only after %lld ms", line, now_ms() - start);
    }
    if (now_ms() - start > 1300LL * check_slow()) check_fail(__FILE__, __LINE__, "they stayed %lld ms", now_ms() - start);
    for (int i = 0; i < KINDS; i++) wanted += kinds[i].hears;
    CHECK_EQ(heard, wanted);
    for (int i = 0; i < count; i++) CHECK_EQ(gone_within(pids[i], 100), 1);
    close(ends[0]);
}

static void forked(void) { kill_primary("_primary_forks"); }
static void spawned(void) { kill_primary("_primary_spawns"); }

/* -- Programs that know nothing of us ----------------------------------------------------------------------------- */

static void print_fork(const cl_event_t *event, void *user) {
    (void)user;
    if (event->type == CL_EVENT_FORK) {
        char line[32];
        int n = snprintf(line, sizeof line, "sleep %d\n", event->pid);
        CHECK_EQ(write(1, line, (size_t)n), n);
    }
}

static void primary_of_strangers(void) {
    cl_spawn_options_t options;
    char program[] = "/bin/sleep", long_time[] = "1000";
    char *argv[] = {program, long_time, NULL};
    OK(cl_on_event(print_fork, NULL));
    ZERO(options);
    options.size = sizeof options;
    options.file = program;
    options.argv = argv;
    for (int i = 0; i < 3; i++) OK(cl_spawn(&options));
    for (;;) turn(-1);
}

static void strangers(void) {
    int ends[2], pid;
    char line[64];
    SYS(pipe2(ends, O_CLOEXEC));
    pid_t primary_pid = start_role("_primary_of_strangers", ends[1]);
    close(ends[1]);
    int pids[3];
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(readable_within(ends[0], 5000), 1);
        CHECK(receive_line(ends[0], line, sizeof line) > 0);
        CHECK_EQ(sscanf(line, "sleep %d", &pid), 1);
        pids[i] = pid;
    }
    SYS(kill(pids[1], SIGSTOP));
    long long start = now_ms();
    SYS(kill(primary_pid, SIGKILL));
    wait_status(primary_pid);
    CHECK_EQ(readable_within(ends[0], 3000), 1);
    CHECK(receive_line(ends[0], line, sizeof line) <= 0);
    CHECK(now_ms() - start < 1300LL * check_slow());
    close(ends[0]);
}

/* -- What remains -------------------------------------------------------------------------------------------------- */

static int serve_address(void) { return serve_listener(OK(cl_listen(getenv("CHECK_ADDRESS"), 0))); }

static void print_listening(const cl_event_t *event, void *user) {
    (void)user;
    if (event->type == CL_EVENT_LISTENING) {
        char line[32];
        int n = snprintf(line, sizeof line, "listening %d\n", event->pid);
        CHECK_EQ(write(1, line, (size_t)n), n);
    }
}

static void primary_of_port(void) {
    if (worker_side()) exit(serve_address());
    worker_main = serve_address;
    OK(cl_on_event(print_listening, NULL));
    fork_worker();
    spawn_worker();
    for (;;) turn(-1);
}

/* The port can be bound within a second, again and again, and a unix path is taken over. That the pipe has no writer any more does
 * not tell: of a process that exits, a socket that it was sent and has not received yet is closed after all its descriptors (Linux
 * 6.18, in a network where nobody else is: six binds of ten failed then, for up to 19 ms). That the process has ended does. */
static void address_is_free(void) {
    int ends[2], pids[2];
    char line[64], address[128];
    for (int round = 0; round < 4; round++) {
        if (round % 2 == 0) snprintf(address, sizeof address, "127.0.0.1:%d", free_port());
        else snprintf(address, sizeof address, "unix:%.100s", case_path("place"));
        for (int again = 0; again < 2; again++) {
            setenv("CHECK_ADDRESS", address, 1);
            SYS(pipe2(ends, O_CLOEXEC));
            pid_t primary_pid = start_role("_primary_of_port", ends[1]);
            close(ends[1]);
            for (int i = 0; i < 2; i++) {
                CHECK_EQ(readable_within(ends[0], 5000), 1);
                CHECK(receive_line(ends[0], line, sizeof line) > 0);
                CHECK_EQ(sscanf(line, "listening %d", &pids[i]), 1);
            }
            SYS(kill(primary_pid, SIGKILL));
            wait_status(primary_pid);
            for (int i = 0; i < 2; i++) CHECK_EQ(gone_within(pids[i], 1300), 1);
            CHECK_EQ(readable_within(ends[0], 1300 * check_slow()), 1);
            CHECK(receive_line(ends[0], line, sizeof line) <= 0);
            close(ends[0]);
        }
        OK(cl_close(OK(cl_listen(address, 0))));
    }
}

static const check_case_t cases[] = {
    {"forked", forked},   {"spawned", spawned},       {"_primary_forks", primary_forks}, {"_primary_spawns", primary_spawns},
    {"strangers", strangers}, {"_primary_of_strangers", primary_of_strangers},
    {"address_is_free", address_is_free}, {"_primary_of_port", primary_of_port},
};
CHECK_MAIN(cases)
