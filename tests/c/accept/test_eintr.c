/* A signal every millisecond, without SA_RESTART, in everybody: no call ever says EINTR, no time limit drifts. */
#include "primary.h"

static volatile sig_atomic_t storms;

static void count_storm(int number) {
    (void)number;
    storms++;
}

static void start_storm(void) {
    struct sigaction action;
    struct sigevent event;
    struct itimerspec often;
    timer_t timer;
    ZERO(action);
    action.sa_handler = count_storm;
    SYS(sigaction(SIGUSR1, &action, NULL));
    ZERO(event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR1;
    SYS(timer_create(CLOCK_MONOTONIC, &event, &timer));
    ZERO(often);
    often.it_value.tv_nsec = often.it_interval.tv_nsec = check_slow() > 1 ? 10000000 : 1000000;
    SYS(timer_settime(timer, 0, &often, NULL));
}

/* Everything a worker does, in the storm: it starts before the library has been asked anything. */
static int stormy_worker(void) {
    char text[64];
    start_storm();
    for (int i = 0; i < 20; i++) OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
    long long start = now_ms();
    CHECK_EQ(cl_receive(text, sizeof text, 200), -ETIMEDOUT);
    CHECK(now_ms() - start >= 195 && now_ms() - start < 800 * check_slow());
    OK(cl_send("ready", 5));
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(cl_receive(text, sizeof text, -1), 7);
        CHECK_EQ(cl_send(text, 7), 0);
    }
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) break;
        OK(connection);
        int n = snprintf(text, sizeof text, "%d\n", cl_worker_id());
        while (send(connection, text, (size_t)n, MSG_NOSIGNAL) < 0) CHECK_EQ(errno, EINTR);
        close(connection);
    }
    CHECK(storms > 50 / check_slow());
    OK(cl_close(listener));
    return 0;
}

/* connect(2) that a signal cut short goes on in the background; poll says when it is done. */
static int connect_in_storm(int port) {
    struct sockaddr_in address = address4(port);
    int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    limit_waits(fd);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        struct pollfd one;
        one.fd = fd;
        one.events = POLLOUT;
        CHECK_EQ(errno, EINTR);
        while (poll(&one, 1, 5000) < 0) CHECK_EQ(errno, EINTR);
    }
    return fd;
}

static int ask_in_storm(int port) { return answered_by(connect_in_storm(port)); }

static void storm(int policy, int spawned) {
    use_policy(policy);
    primary_ready(stormy_worker);
    start_storm();
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    for (int which = 0; which < 2; which++) {
        int id = which == 0 ? one : two;
        PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 8000);
        for (int i = 0; i < 100; i++) {
            OK(cl_worker_send(id, "message", 7));
            PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == i + 2, 3000);
        }
    }
    int port = await_listening(one, 21);
    CHECK_EQ(await_listening(two, 21), port);
    for (int i = 0; i < 300; i++) {
        int id = ask_in_storm(port);
        CHECK(id == one || id == two);
    }
    /* A signal may end a turn early, so that the program can look at what its handler did; it is no error. */
    long long start = now_ms();
    while (now_ms() - start < 150) turn(10);
    start = now_ms();
    CHECK_EQ(cl_step(200), 0);
    CHECK(now_ms() - start < 800 * check_slow());
    for (int i = 0; i < 5; i++) {
        int id = spawned ? spawn_worker() : fork_worker();
        OK(cl_worker_kill(id, SIGKILL));
        await_exit(id, 3000);
    }
    CHECK_EQ(count_events(CL_EVENT_EXIT, one), 0);
    finish();
    CHECK_EQ(await_exit(one, 1)->exit_code, 0);
    CHECK_EQ(await_exit(two, 1)->exit_code, 0);
    CHECK(storms > 50 / check_slow());
}

static void forked(void) { storm(CL_SCHED_RR, 0); }
static void forked_shared(void) { storm(CL_SCHED_NONE, 0); }
static void spawned(void) {
    if (getenv("CL_CHANNEL_FD") == NULL) {
        storm(CL_SCHED_RR, 1);
        return;
    }
    check_ignore_descriptors = 1;
    exit(stormy_worker());
}

/* Alone, a blocking accept is not ended by a signal either. */
static void alone(void) {
    start_storm();
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int port = bound_port(listener);
    pid_t client = SYS(fork()); /* timers are not inherited */
    if (client == 0) {
        char text[8];
        nap(200);
        int fd = connect_in_storm(port);
        receive_all(fd, text, sizeof text);
        _exit(0);
    }
    int connection = OK(cl_accept(listener, NULL, NULL));
    close(connection);
    OK(cl_close(listener));
    WAIT_SUCCESS(client);
    CHECK(storms > 20 / check_slow());
}

static const check_case_t cases[] = {
    {"forked", forked}, {"forked_shared", forked_shared}, {"spawned", spawned}, {"alone", alone},
};
CHECK_MAIN(cases)
