/* The mechanism kernel where a connection that the kernel moves to another queue wakes nobody. Linux has been so until 2026
 * (inet_csk_listen_stop did not call sk_data_ready of the queue that it moved to). Newer kernels wake, so the case takes away what
 * would be woken: the queue's entry in the epoll sets of the worker and of the primary. */
#include "kernel.h"
#include <sys/epoll.h>

enum { QUEUED = 100 };

static int commands[2], reports[2];

/* In the worker: its one listening socket, which the listener's epoll set knows under this number. */
static void be_deaf(int listener) {
    int socket = tcp_descriptor(bound_port(listener), 0);
    CHECK(socket >= 0);
    SYS(epoll_ctl(listener, EPOLL_CTL_DEL, socket, NULL));
}

/* The first tells every client who it is, until it is stopped; the second as well, and becomes deaf when it is told to. */
static int serve_and_become_deaf(void) {
    cl_listen_options_t options;
    struct pollfd both[2];
    ZERO(options);
    options.size = sizeof options;
    options.address = served_address;
    options.flags = CL_LISTEN_NONBLOCK;
    int listener = cl_listen_with(&options);
    if (listener == -ESHUTDOWN) return 0;
    OK(listener);
    for (;;) {
        char command;
        both[0].fd = listener;
        both[1].fd = cl_worker_slot() == 1 ? commands[0] : -1;
        both[0].events = both[1].events = POLLIN;
        both[0].revents = both[1].revents = 0;
        if (poll(both, 2, -1) < 0) continue;
        if (both[1].revents != 0 && read(commands[0], &command, 1) == 1) {
            be_deaf(listener);
            both[1].fd = -1;
            CHECK_EQ(write(reports[1], "d", 1), 1);
        }
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) break;
        if (connection == -EAGAIN) continue;
        answer(OK(connection));
    }
    OK(cl_close(listener));
    return 0;
}

static int count_answered(const int *clients) {
    int count = 0;
    for (int i = 0; i < 2 * QUEUED; i++) count += readable_within(clients[i], 0);
    return count;
}

/* What waits for a worker that dies goes to the only other one, who has nothing to do and is not told. */
static void killed(void) {
    int clients[2 * QUEUED];
    char report;
    begin_kernel();
    SYS(pipe2(commands, O_CLOEXEC));
    SYS(pipe2(reports, O_CLOEXEC));
    primary_ready(serve_and_become_deaf);
    crew_t crew = hire(2, 0);
    pid_t pid = pid_of(crew.ids[0]);
    SYS(kill(pid, SIGSTOP));
    /* The primary looks away: every other one waits for the worker that is stopped. */
    for (int i = 0; i < 2 * QUEUED; i++) clients[i] = connect4(crew.port);
    WAIT_UNTIL(count_answered(clients) == QUEUED, 5000);
    CHECK_EQ(write(commands[1], "d", 1), 1);
    CHECK_EQ(readable_within(reports[0], 5000), 1);
    CHECK_EQ(read(reports[0], &report, 1), 1);
    /* The first is the entrance; the others are the slots' own. */
    for (int n = 1; tcp_descriptor(crew.port, n) >= 0; n++)
        (void)epoll_ctl(OK(cl_poll_fd()), EPOLL_CTL_DEL, tcp_descriptor(crew.port, n), NULL);
    SYS(kill(pid, SIGKILL));
    for (int i = 0; i < 2 * QUEUED; i++) CHECK_EQ(answered_by(clients[i]), crew.ids[1]);
    CHECK_EQ(await_exit(crew.ids[0], 3000)->signal, SIGKILL);
    finish();
    for (int i = 0; i < 2; i++) {
        close(commands[i]);
        close(reports[i]);
    }
    check_ignore_descriptors = 1;
}

static const check_case_t cases[] = {{"killed", killed}};
CHECK_MAIN(cases)
