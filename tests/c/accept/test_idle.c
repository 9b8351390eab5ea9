/* A cluster to which nobody comes: nothing wakes the primary. What workers do meanwhile to the sockets that they share is found all the
 * same, by what comes of it. */
#include "kernel.h"

static int listening, harm;

enum { NOTHING, SHUT_DOWN, LEAVE_THE_GROUP };

static void do_harm(int signal) {
    int no = 0;
    (void)signal;
    if (harm == SHUT_DOWN) shutdown(listening, SHUT_RD);
    if (harm == LEAVE_THE_GROUP) setsockopt(listening, SOL_SOCKET, SO_REUSEPORT, &no, sizeof no);
}

static int serve(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    if (harm != NOTHING) listening = SYS(tcp_descriptor(bound_port(listener), 0));
    signal(SIGUSR1, do_harm);
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) break;
        answer(OK(connection));
    }
    OK(cl_close(listener));
    return 0;
}

/* Turns until nothing has woken the primary for longer than from one audit to the next. */
static void await_sleep(void) {
    struct pollfd fd = {OK(cl_poll_fd()), POLLIN, 0};
    for (long long end = now_ms() + 30000LL * check_slow(); poll(&fd, 1, 1400 * check_slow()) != 0;) {
        OK(cl_step(0));
        if (now_ms() > end) check_fail(__FILE__, __LINE__, "the primary is woken though nobody comes");
    }
}

enum { WORKERS = 2 };
static int ids[WORKERS];

static int begin(int policy) {
    int port = 0;
    use_policy(policy);
    primary_ready(serve);
    for (int i = 0; i < WORKERS; i++) ids[i] = fork_worker();
    for (int i = 0; i < WORKERS; i++) port = await_listening(ids[i], 1);
    for (int i = 0; i < 20; i++) ask(port);
    await_sleep();
    return port;
}

static void sleeps(int policy) {
    int port = begin(policy);
    for (int i = 0; i < 20; i++) ask(port);
    await_sleep();
    if (policy == CL_SCHED_NONE) {
        finish();
        return;
    }
    /* It wakes for those who come to a worker that does not: the other has them. */
    SYS(kill(pid_of(ids[0]), SIGSTOP));
    for (int i = 0; i < 6; i++) CHECK_EQ(ask(port), ids[1]);
    SYS(kill(pid_of(ids[0]), SIGCONT));
    finish();
}

static void sleeps_shared(void) { sleeps(CL_SCHED_NONE); }

static void by_kernel(void) {
    use_mechanism("kernel");
    sleeps(CL_SCHED_RR);
}

static void rotation(void) {
    use_mechanism("rotation");
    sleeps(CL_SCHED_RR);
}

static void passed(void) {
    use_mechanism("passed");
    sleeps(CL_SCHED_RR);
}

/* The kernel tells of a socket that is shut down, though no connection comes. */
static void shut_down(void) {
    harm = SHUT_DOWN;
    int port = begin(CL_SCHED_NONE);
    SYS(kill(pid_of(ids[0]), SIGUSR1));
    PUMP_UNTIL(count_events(CL_EVENT_WARNING, 0) > 0, 5000);
    for (int i = 0; i < 5; i++) ask(port);
    await_sleep();
    finish();
}

/* All connections would be its own; the first of them tells. */
static void leaves_the_group(void) {
    if (!may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    use_mechanism("kernel");
    harm = LEAVE_THE_GROUP;
    int port = begin(CL_SCHED_RR);
    SYS(kill(pid_of(ids[0]), SIGUSR1));
    nap(50);
    ask(port);
    PUMP_UNTIL(count_events(CL_EVENT_EXIT, ids[0]) > 0, 5000);
    for (int i = 0; i < 5; i++) CHECK_EQ(ask(port), ids[1]);
    finish();
}

static const check_case_t cases[] = {
    {"sleeps_shared", sleeps_shared}, {"by_kernel", by_kernel}, {"rotation", rotation}, {"passed", passed}, {"shut_down", shut_down},
    {"leaves_the_group", leaves_the_group},
};
CHECK_MAIN(cases)
