/* A program that is started with standard input, output and error closed, as some daemons' start scripts do it: nothing of ours sits
 * there, so that its own open(2), dup2(2) and messages meet nobody. */
#include "primary.h"

static int standard_open(void) {
    int open_ones = 0;
    for (int fd = 0; fd < 3; fd++) open_ones += fcntl(fd, F_GETFD) >= 0;
    return open_ones;
}

/* Serves as long as nothing sits on the three; tells what is there otherwise. */
static int serve_bare(void) {
    int connection, listener = cl_listen("127.0.0.1:0", 0), second = cl_listen("unix:@bare", 0);
    if (listener < 0 || second < 0) return 1;
    cl_channel_fd();
    while ((connection = cl_accept(listener, NULL, NULL)) >= 0) {
        if (connection < 3 || standard_open() != 0) send_text(connection, "-1");
        answer(connection);
    }
    cl_close(second);
    cl_close(listener);
    return standard_open() != 0 ? 2 : 0;
}

/* With a log, as every daemon opens one, over 1 and 2 in the middle of it all. */
static void serve_without_standard(int policy) {
    check_ignore_descriptors = 1;
    if (worker_side()) exit(serve_bare());
    use_policy(policy);
    OK(cl_on_event(remember_event, NULL));
    OK(cl_poll_fd());
    CHECK_EQ(standard_open(), 0);
    worker_main = serve_bare;
    int forked = fork_worker(), spawned = spawn_worker();
    int port = await_listening(forked, 1);
    await_listening(spawned, 2);
    await_listening(forked, 2);
    CHECK_EQ(standard_open(), 0);
    for (int i = 0; i < 8; i++) {
        int by = ask(port);
        CHECK(by == forked || by == spawned);
    }
    CHECK_EQ(standard_open(), 0);
    int log = SYS(open("/dev/null", O_WRONLY));
    CHECK_EQ(log, 0);
    SYS(dup2(log, 1));
    SYS(dup2(log, 2));
    if (write(2, "a message\n", 10) != 10) _exit(9);
    for (int i = 0; i < 8; i++) CHECK(ask(port) > 0);
    /* One that is made now has what its primary has there. */
    OK(cl_worker_kill(forked, SIGKILL));
    await_exit(forked, 3000);
    CHECK(ask(port) == spawned);
    OK(cl_worker_disconnect(spawned));
    CHECK_EQ(await_exit(spawned, 5000)->exit_code, 0);
    finish();
    close(0);
    close(1);
    close(2);
    CHECK_EQ(standard_open(), 0);
}

static void bare_turns(void) { serve_without_standard(CL_SCHED_RR); }
static void bare_shared(void) { serve_without_standard(CL_SCHED_NONE); }

/* A server of its own, without a cluster. */
static void bare_alone(void) {
    check_ignore_descriptors = 1;
    int listener = OK(cl_listen("127.0.0.1:0", 0)), client = connect4(bound_port(listener));
    CHECK(listener > 2);
    close(client);
    int connection = OK(cl_accept(listener, NULL, NULL));
    CHECK(connection > 2);
    close(connection);
    OK(cl_close(listener));
}

static void start_bare(const char *role) {
    pid_t pid = SYS(fork());
    if (pid == 0) {
        const char *path = check_self();
        for (int fd = 0; fd < 3; fd++) close(fd);
        execl(path, path, role, (char *)NULL);
        _exit(126);
    }
    int status = wait_status(pid);
    if (status != 0) check_fail(__FILE__, __LINE__, "%s ended with %#x", role, status);
}

static void turns(void) { start_bare("_turns"); }
static void turns_passed(void) {
    use_mechanism("passed");
    start_bare("_turns");
}
static void shared(void) { start_bare("_shared"); }
static void alone(void) { start_bare("_alone"); }

/* An empty CL_MECHANISM is none. */
static void empty_mechanism(void) {
    use_mechanism("");
    primary_ready(serve_any_port);
    int id = fork_worker();
    CHECK_EQ(ask(await_listening(id, 1)), id);
    unsetenv("CL_MECHANISM");
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, id, 0)].mechanism, expected_mechanism());
    finish();
}

static const check_case_t cases[] = {
    {"turns", turns},           {"turns_passed", turns_passed}, {"shared", shared},
    {"alone", alone},           {"empty_mechanism", empty_mechanism},
    {"_turns", bare_turns},     {"_shared", bare_shared},       {"_alone", bare_alone},
};
CHECK_MAIN(cases)
