/* Signals are the program's: nothing is touched unless CL_HANDLE_SIGNALS asks for it, and then given back. */
#include "primary.h"

typedef struct {
    struct sigaction actions[65];
    sigset_t mask;
} world_t;

static void own_handler(int number) { (void)number; }

static void look(world_t *world) {
    memset(world, 0, sizeof *world);
    for (int number = 1; number < 65; number++) (void)sigaction(number, NULL, &world->actions[number]);
    SYS(pthread_sigmask(SIG_SETMASK, NULL, &world->mask));
}

static void expect_same(const world_t *before, int line) {
    world_t now;
    look(&now);
    for (int number = 1; number < 65; number++) {
        const struct sigaction *was = &before->actions[number], *is = &now.actions[number];
        if (was->sa_handler != is->sa_handler || plain_flags(was) != plain_flags(is))
            check_fail(__FILE__, line, "the disposition of signal %d has changed", number);
        if (sigismember(&before->mask, number) != sigismember(&now.mask, number))
            check_fail(__FILE__, line, "signal %d is %s", number, sigismember(&now.mask, number) ? "blocked" : "not blocked any more");
    }
}
#define EXPECT_SAME(world) expect_same(world, __LINE__)

static world_t at_start;

/* A few things that are not the default, so that a restored default shows. */
static void own_world(void) {
    struct sigaction action;
    ZERO(action);
    action.sa_handler = own_handler;
    action.sa_flags = SA_RESTART;
    SYS(sigaction(SIGUSR1, &action, NULL));
    signal(SIGHUP, SIG_IGN);
    look(&at_start);
}

/* A worker's life; it too finds the world as it was: what the primary had where it is a fork, else the default. */
static int live(void) {
    char text[16];
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    EXPECT_SAME(&at_start);
    OK(cl_send("x", 1));
    OK(cl_receive(text, sizeof text, 5000));
    int result = serve_listener(listener);
    EXPECT_SAME(&at_start);
    return result;
}

static void untouched(int spawned) {
    if (spawned && worker_side()) {
        look(&at_start);
        for (int number = 1; number < 32; number++)
            if (sigismember(&at_start.mask, number)) check_fail(__FILE__, __LINE__, "started with signal %d blocked", number);
        exit(live());
    }
    own_world();
    EXPECT_SAME(&at_start);
    CHECK_EQ(cl_is_primary(), 1);
    OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
    EXPECT_SAME(&at_start);
    primary_ready(live);
    EXPECT_SAME(&at_start);
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    EXPECT_SAME(&at_start);
    int port = await_listening(one, 1);
    await_listening(two, 1);
    OK(cl_worker_send(one, "go", 2));
    OK(cl_worker_send(two, "go", 2));
    for (int i = 0; i < 4; i++) CHECK(ask(port) > 0);
    EXPECT_SAME(&at_start);
    OK(cl_worker_kill(one, SIGKILL));
    await_exit(one, 3000);
    CHECK_EQ(ask(port), two);
    OK(cl_worker_disconnect(two));
    CHECK_EQ(await_exit(two, 3000)->exit_code, 0);
    finish();
    EXPECT_SAME(&at_start);
}

static void untouched_forked(void) { untouched(0); }
static void untouched_spawned(void) { untouched(1); }

/* -- CL_HANDLE_SIGNALS -------------------------------------------------------------------------------------------- */

static void handle_signals(int deadline) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.flags = CL_HANDLE_SIGNALS;
    settings.stop_deadline_ms = deadline;
    OK(cl_setup_primary(&settings));
}

/* A plain child that sends the signal as soon as all the workers listen. */
static int ready_pipe[2], still_missing;

static void start_sender(const int *signals, int count, int gap_ms) {
    pid_t primary = getpid();
    SYS(pipe2(ready_pipe, O_CLOEXEC));
    pid_t pid = SYS(fork());
    if (pid == 0) {
        char byte;
        close(ready_pipe[1]);
        if (read(ready_pipe[0], &byte, 1) == 1)
            for (int i = 0; i < count; i++) {
                nap(i == 0 ? 20 : gap_ms);
                kill(primary, signals[i]);
            }
        _exit(0);
    }
    close(ready_pipe[0]);
}

static void tell_when_ready(const cl_event_t *event, void *user) {
    remember_event(event, user);
    if (event->type == CL_EVENT_LISTENING && --still_missing == 0) CHECK_EQ(write(ready_pipe[1], "x", 1), 1);
}

static int serve_plainly(void) {
    sigset_t mask;
    struct sigaction action;
    /* SIGTERM and SIGINT must work here as in any program. */
    SYS(sigprocmask(SIG_SETMASK, NULL, &mask));
    CHECK(!sigismember(&mask, SIGTERM) && !sigismember(&mask, SIGINT));
    SYS(sigaction(SIGTERM, NULL, &action));
    CHECK(action.sa_handler == SIG_DFL);
    return serve_any_port();
}

static void graceful(int number, int spawned) {
    if (spawned && worker_side()) exit(serve_plainly());
    own_world();
    primary_ready(serve_plainly);
    handle_signals(5000);
    EXPECT_SAME(&at_start); /* it is for the time of cl_run */
    OK(cl_on_event(tell_when_ready, NULL));
    still_missing = 3;
    start_sender(&number, 1, 0);
    int ids[3];
    for (int i = 0; i < 3; i++) ids[i] = spawned ? spawn_worker() : fork_worker();
    CHECK_EQ(cl_run(), 0);
    EXPECT_SAME(&at_start);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(await_exit(ids[i], 1)->exit_code, 0);
        CHECK_EQ(await_exit(ids[i], 1)->signal, 0);
    }
    close(ready_pipe[1]);
    CHECK(wait_status(-1) == 0);
    finish();
    EXPECT_SAME(&at_start);
}

static void sigterm_forked(void) { graceful(SIGTERM, 0); }
static void sigint_forked(void) { graceful(SIGINT, 0); }
static void sigterm_spawned(void) { graceful(SIGTERM, 1); }

static int does_not_leave(void) {
    OK(cl_listen("127.0.0.1:0", 0));
    for (;;) nap(100000);
    return 0;
}

/* The second one means it. */
static void second_signal(void) {
    static const int signals[] = {SIGINT, SIGTERM};
    own_world();
    primary_ready(does_not_leave);
    handle_signals(20000);
    OK(cl_on_event(tell_when_ready, NULL));
    still_missing = 1;
    start_sender(signals, 2, 200);
    int id = fork_worker();
    long long start = now_ms();
    CHECK_EQ(cl_run(), 0);
    CHECK(now_ms() - start < 4000 * check_slow());
    CHECK_EQ(await_exit(id, 1)->signal, SIGTERM);
    EXPECT_SAME(&at_start);
    close(ready_pipe[1]);
    CHECK(wait_status(-1) == 0);
    finish();
}

/* The program's own handler and mask come back as they were, flags and all. */
static void own_handler_comes_back(void) {
    struct sigaction action;
    static const int number = SIGTERM;
    ZERO(action);
    action.sa_handler = own_handler;
    action.sa_flags = SA_NODEFER | SA_ONSTACK;
    SYS(sigaction(SIGTERM, &action, NULL));
    signal(SIGINT, SIG_IGN);
    primary_ready(serve_any_port);
    handle_signals(5000);
    look(&at_start);
    OK(cl_on_event(tell_when_ready, NULL));
    still_missing = 1;
    start_sender(&number, 1, 0);
    fork_worker();
    CHECK_EQ(cl_run(), 0);
    EXPECT_SAME(&at_start);
    close(ready_pipe[1]);
    CHECK(wait_status(-1) == 0);
    /* Also where cl_run ends by itself. */
    worker_main = leave_at_once;
    fork_worker();
    CHECK_EQ(cl_run(), 0);
    EXPECT_SAME(&at_start);
    finish();
}

/* -- SIGPIPE ------------------------------------------------------------------------------------------------------ */

/* With the default disposition, writing to who is gone is a code and nothing else: the primary's side ... */
static void no_sigpipe(void) {
    signal(SIGPIPE, SIG_DFL);
    primary_ready(does_not_leave);
    for (int i = 0; i < 20; i++) {
        int id = fork_worker();
        await_listening(id, 1);
        int pid = pid_of(id);
        OK(cl_worker_kill(id, SIGKILL));
        CHECK_EQ(gone_within(pid, 3000), 1);
        for (int j = 0; j < 20; j++) {
            int result = cl_worker_send(id, "anyone there?", 13);
            CHECK(result == 0 || result == -EPIPE || result == -ESRCH);
        }
        int result = cl_worker_disconnect(id);
        CHECK(result == 0 || result == -EPIPE || result == -ESRCH);
        await_exit(id, 3000);
    }
    finish();
}

/* ... and the worker's. */
static int send_to_nobody(void) {
    char text[8];
    signal(SIGPIPE, SIG_DFL);
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    CHECK_EQ(write(1, "ready\n", 6), 6);
    CHECK_EQ(cl_receive(text, sizeof text, -1), -EPIPE);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(cl_send("anyone there?", 13), -EPIPE);
        CHECK(cl_set_load(1) <= 0);
        CHECK_EQ(cl_accept(listener, NULL, NULL), -EPIPE);
    }
    int result = cl_disconnect();
    CHECK(result == 0 || result == -EPIPE);
    OK(cl_close(listener));
    CHECK_EQ(write(1, "alive\n", 6), 6);
    _exit(0);
}

static void primary_to_kill(void) {
    if (worker_side()) exit(send_to_nobody());
    worker_main = send_to_nobody;
    fork_worker();
    spawn_worker();
    for (;;) turn(-1);
}

static void no_sigpipe_in_worker(void) {
    int ends[2], ready = 0, alive = 0;
    char line[64];
    SYS(pipe2(ends, O_CLOEXEC));
    pid_t primary = start_role("_primary_to_kill", ends[1]);
    close(ends[1]);
    while (ready < 2) {
        CHECK_EQ(readable_within(ends[0], 8000), 1);
        CHECK(receive_line(ends[0], line, sizeof line) > 0);
        ready += strcmp(line, "ready") == 0;
    }
    SYS(kill(primary, SIGKILL));
    wait_status(primary);
    while (receive_line(ends[0], line, sizeof line) > 0) alive += strcmp(line, "alive") == 0;
    CHECK_EQ(alive, 2);
    close(ends[0]);
}

static const check_case_t cases[] = {
    {"untouched_forked", untouched_forked}, {"untouched_spawned", untouched_spawned},
    {"sigterm_forked", sigterm_forked},     {"sigint_forked", sigint_forked},
    {"sigterm_spawned", sigterm_spawned},   {"second_signal", second_signal},
    {"own_handler_comes_back", own_handler_comes_back}, {"no_sigpipe", no_sigpipe},
    {"no_sigpipe_in_worker", no_sigpipe_in_worker},     {"_primary_to_kill", primary_to_kill},
};
CHECK_MAIN(cases)
